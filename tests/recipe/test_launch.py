"""Recipes, sweeps and scores on a launcher whose commands outlive this process, with a queue that the test holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sertk.builtin.launchers import Local, Slurm
from sertk.cli.app import app
from sertk.core import SertkError

RECIPE = "corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nfolds: ['1', '4']\ntrain: {epochs: 1, threads: 1}\n"
SWEEP = """
title: One of two fails
recipe: ../recipe.yaml
folds: ['1']
cells: {UA: {metric: ua}}
rows:
  fine: {system: mini-cnn}
  broken: {system: mini-cnn, settings: {train: {optimizer: {name: adam, lr: 1.0e+30}}}}
"""
SEARCH = """
title: A rate is searched
recipe: ../recipe.yaml
folds: ['1']
cells: {UA: {metric: ua}}
rows:
  found:
    system: mini-cnn
    search: {trials: 1, ranges: {train.optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}}}
"""


class Queue:
    """A cluster: jobs wait until somebody waits for one, and run in this process.

    Attributes:
        waiting: Words, names of what comes before and kind of dependency of each job, by name.
        submitted: How many jobs there were.
        killed: Whether whoever waits is interrupted.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[Sequence[str], Sequence[str], str]] = {}
        self.codes: dict[str, int] = {}
        self.submitted, self.arrays, self.killed = 0, 0, False

    def array(
        self, commands: Sequence[Sequence[str]], logs: Sequence[Path], after: Sequence[str], kind: str
    ) -> list[str]:
        self.arrays += 1
        names = [f"{self.arrays}_{place}" for place in range(len(commands))]
        self.waiting |= {name: (one, list(after), kind) for name, one in zip(names, commands, strict=True)}
        self.submitted += len(names)
        return names

    def wait(self, names: Sequence[str]) -> list[int]:
        if self.killed and names:
            raise KeyboardInterrupt
        while any(name in self.waiting for name in names):
            name = next(iter(self.waiting))
            words, after, kind = self.waiting[name]
            begun = kind == "afterany" or not any(self.codes[one] for one in after)
            self.codes[name] = cli(*words[3:]).exit_code if begun else 130
            self.waiting.pop(name, None)
        return [self.codes.get(name, 130) for name in names]

    def cancel(self, names: Sequence[str]) -> None:
        for name in names:
            self.waiting.pop(name, None)

    def chain(self) -> list[tuple[str, int, str]]:
        """Stage, number of jobs before, and kind of dependency of each waiting job."""
        found = []
        for words, after, kind in self.waiting.values():
            steps = json.loads(Path(words[-1]).read_text())["steps"]
            found.append((steps[0]["stage"], len(after), kind))
        return found


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue()
    monkeypatch.setattr(Slurm, "_array", lambda self, *words: made.array(*words))
    monkeypatch.setattr(Slurm, "_queued", lambda self, *words: list(made.waiting))
    monkeypatch.setattr(Slurm, "wait", lambda self, names: made.wait(names))
    monkeypatch.setattr(Slurm, "cancel", lambda self, names: made.cancel(names))
    return made


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "mine/sweeps").mkdir(parents=True)
    (tmp_path / "mine/sweeps/two.yaml").write_text(SWEEP)
    (tmp_path / "mine/recipe.yaml").write_text(RECIPE)
    return tmp_path / "mine"


def test_stages_are_chained_and_a_killed_recipe_submits_nothing_twice(queue: Queue, recipe: Path, corpus: Path) -> None:
    words = ("recipe", recipe, "--root", corpus, "--launcher", "slurm:minutes=10")
    assert cli(*words, "--stop-stage", "1").exit_code == 0  # the folds are known
    queue.killed = True
    done = cli(*words)
    assert done.exit_code == 130
    assert "the jobs go on" in done.stderr
    ok = "afterok"
    stages = [("featurize", 0, ok), *[("train", 1, ok)] * 2, *[("score", 2, ok)] * 2, ("report", 2, ok)]
    assert queue.chain() == stages, done.stderr
    count = queue.submitted
    assert cli(*words).exit_code == 130
    assert queue.submitted == count
    assert "train: 0 done, 2 submitted, 0 to do" in cli(*words, "--status").stderr
    other = cli("recipe", recipe, "--root", corpus)
    assert other.exit_code == 1
    assert "was submitted with launcher 'slurm' and has not ended (job 2_0)" in " ".join(other.stderr.split())
    queue.killed = False
    assert cli(*words).exit_code == 0
    assert queue.submitted == count
    assert (recipe / "exp/emobox/mini-cnn/RESULTS.md").exists()
    assert "report: 1 of 1 up to date, skipped" in cli(*words).stderr
    assert queue.submitted == count


def test_what_reads_a_submitted_run_is_made_again_though_it_is_up_to_date_now(
    queue: Queue, recipe: Path, corpus: Path
) -> None:
    words = ("recipe", recipe, "--root", corpus)
    assert cli(*words).exit_code == 0
    (stamp,) = (recipe / "exp/emobox/mini-cnn/fold=1").rglob(".train*.json")
    stamp.unlink()  # the run is to be done again; its model and the scores of that are still there
    queue.killed = True
    assert cli(*words, "--launcher", "slurm").exit_code == 130
    assert queue.chain() == [("train", 0, "afterok"), ("score", 1, "afterok"), ("report", 1, "afterok")]


def test_jobs_are_cancelled_and_other_settings_do_not_take_them_for_theirs(
    queue: Queue, recipe: Path, corpus: Path
) -> None:
    words = ("recipe", recipe, "--root", corpus, "--launcher", "slurm", "--stop-stage", "3", "--tag", "x")
    assert cli(*words, "--stop-stage", "1").exit_code == 0
    queue.killed = True
    assert cli(*words).exit_code == 130
    other = cli(*words, "--set", "train.epochs=2")
    assert other.exit_code == 1
    assert "was submitted with other settings" in " ".join(other.stderr.split())
    assert "3 jobs are ended" in cli(*words, "--cancel").stderr
    assert not queue.waiting
    count = queue.submitted
    assert cli(*words).exit_code == 130
    assert queue.submitted == count + 3


def test_what_was_stopped_here_leaves_no_file_for_it(
    recipe: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[Path]()

    def stopped(self: Local, commands: Sequence[Sequence[str]]) -> list[int]:
        seen.extend(Path(one[-1]) for one in commands)
        assert all(file.exists() for file in seen)
        raise KeyboardInterrupt

    monkeypatch.setattr(Local, "_run", stopped)
    assert cli("recipe", recipe, "--root", corpus, "--stop-stage", "1").exit_code == 130
    assert len(seen) == 1
    assert not seen[0].exists()


def test_a_sweep_ends_in_its_table_whatever_became_of_the_runs(queue: Queue, recipe: Path, corpus: Path) -> None:
    words = ("sweep", recipe / "sweeps/two.yaml", "--root", corpus)
    assert cli("recipe", recipe, "--root", corpus, "--stop-stage", "2").exit_code == 0
    queue.killed = True
    assert cli(*words, "--launcher", "slurm").exit_code == 130
    anyhow = "afterany"
    assert queue.chain() == [*[("train", 0, "afterok")] * 2, *[("score", 2, anyhow)] * 2, ("table", 4, anyhow)]
    assert "2 runs: 2 submitted" in cli(*words, "--status").stdout
    queue.killed = False
    done = cli(*words, "--launcher", "slurm")
    assert done.exit_code == 3
    assert queue.submitted == 5
    table = (recipe / "exp/sweeps/two/table.md").read_text()
    assert "failed: broken, fold 1, seed 0" in table
    assert "| fine | 1 |" in table
    assert (
        cli(*words, "--launcher", "slurm").exit_code == 3
    )  # what failed is tried again, alone, and what is made of it
    assert queue.submitted == 5 + 3


def test_the_processes_of_a_search_are_submitted_once_and_cancelled(queue: Queue, recipe: Path, corpus: Path) -> None:
    (recipe / "sweeps/find.yaml").write_text(SEARCH)
    words = ("sweep", recipe / "sweeps/find.yaml", "--root", corpus)
    assert cli("recipe", recipe, "--root", corpus, "--stop-stage", "2").exit_code == 0
    queue.killed = True
    for _ in range(2):
        done = cli(*words, "--launcher", "slurm", "--nj", "2")
        assert done.exit_code == 130
        assert "the jobs go on" in done.stderr
        assert queue.chain() == [("search", 0, "afterok")] * 2
    assert queue.submitted == 2
    assert "2 jobs are ended" in cli(*words, "--cancel").stderr
    assert not queue.waiting


def test_no_search_begins_where_its_features_failed(
    queue: Queue, recipe: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*given: object) -> int:
        raise SertkError("no features today")

    sweep = recipe / "sweeps/find.yaml"
    sweep.write_text(SEARCH)
    assert cli("recipe", recipe, "--root", corpus, "--stop-stage", "1").exit_code == 0
    monkeypatch.setattr("sertk.stages.featurize.featurize", failing)
    monkeypatch.setattr("sertk.recipe.search.run", lambda *given: pytest.fail("a search began"))
    assert cli("sweep", sweep, "--root", corpus, "--launcher", "slurm").exit_code == 1
    assert queue.submitted == 1


def test_a_long_list_is_scored_in_shards_as_it_is_at_once(queue: Queue, recipe: Path, corpus: Path) -> None:
    assert cli("recipe", recipe, "--root", corpus, "--stop-stage", "3").exit_code == 0
    model, audio = recipe / "exp/emobox/mini-cnn/fold=1/seed=0/model", recipe / "audio"
    audio.mkdir()
    for place, path in enumerate(sorted(corpus.rglob("*.wav"))[:9]):
        (audio / f"{place}.wav").symlink_to(path)
    (audio / "bad.wav").write_text("no audio")
    words = ("score", model, audio, "--allow-failed", "--out")
    assert cli(*words, recipe / "plain.jsonl").exit_code == 0
    many = (*words, recipe / "many.jsonl", "--launcher", "slurm", "--nj", "3")
    queue.killed = True
    assert cli(*many).exit_code == 130
    assert queue.chain() == [*[("score", 0, "afterok")] * 3, ("merge", 3, "afterany")]
    assert cli(*many).exit_code == 130
    queue.killed = False
    assert cli(*many).exit_code == 0
    assert queue.submitted == 4
    assert (recipe / "many.jsonl").read_bytes() == (recipe / "plain.jsonl").read_bytes()
    assert (recipe / "many.failed.jsonl").read_bytes() == (recipe / "plain.failed.jsonl").read_bytes()
    assert not list(recipe.glob(".many*"))
    strict = [word for word in many if word != "--allow-failed"]
    assert cli(*strict).exit_code == 3


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--shard", "1/2"), "--shard does not go with --launcher"),
        (("--enrol", "x"), "--enrol does not go with --launcher"),
    ],
)
def test_what_is_scored_as_one_is_not_shared_out(more: tuple[str, str], says: str, tmp_path: Path) -> None:
    done = cli("score", tmp_path, tmp_path, "--out", tmp_path / "s.jsonl", "--launcher", "local", *more)
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())

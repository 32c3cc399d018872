"""Searches in a sweep: planned as steps, run by several processes, and said in the table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core import Launcher, UsageError
from sertk.core.files import read_json, write_text
from sertk.recipe import search as searching
from sertk.recipe.launch import Launch
from sertk.recipe.plan import Ask
from sertk.recipe.status import status
from sertk.recipe.sweep import SweepPlan
from sertk.recipe.sweep_runner import _rehearse
from sertk.settings.overrides import Choices

RECIPE = "corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nfolds: ['1', '4']\njobs: 2\n"
SWEEP = """
title: Searched
settings: {train: {epochs: 1, threads: 1}, protocol: emobox}
cells: {UA: {metric: ua}}
rows:
  stands: {system: mini-cnn}
  own:
    system: mini-cnn
    settings: {train: {batch: 16}}
    search: {trials: 2, ranges: &ranges {train.optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}}}
  one:
    system: mini-cnn
    search: {trials: 2, folds: ['1'], ranges: *ranges}
"""
FOUND = "train: {epochs: 1, batch: 16, optimizer: {name: adam, lr: 0.001}}\n"


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "egs/tones/sweeps").mkdir(parents=True)
    (tmp_path / "egs/tones/recipe.yaml").write_text(RECIPE)
    path = tmp_path / "egs/tones/sweeps/find.yaml"
    path.write_text(SWEEP)
    return path


def plan(file: Path, rows: Sequence[str] = (), **ask: object) -> SweepPlan:
    return SweepPlan(file, Ask(root=file.parent, work=file.parents[1] / "work", **ask), rows)  # type: ignore[arg-type]


def option(words: Sequence[str], name: str) -> str:
    return words[list(words).index(f"--{name}") + 1]


class Remembers(Launcher):
    """Runs nothing; every command of a fold that is named fails."""

    def __init__(self, failing: str = "") -> None:
        self.commands: list[Sequence[str]] = []
        self.failing = failing

    def submit(
        self,
        commands: Sequence[Sequence[str]],
        logs: Sequence[Path],
        after: Sequence[str] = (),
        *,
        anyhow: bool = False,
    ) -> list[str]:
        assert len(set(logs)) == len(commands)
        self.commands += [read_json(Path(words[-1]), "")["words"] for words in commands]
        return [str(number) for number in range(len(commands))]

    def wait(self, names: Sequence[str]) -> list[int]:
        folds = {name: option(self.commands[int(name)], "fold") for name in names}
        return [1 if folds[name] == self.failing else -9 if name != "0" else 0 for name in names]


class Goes(Remembers):
    """Commands go on and on when whoever waits is interrupted."""

    outlives = True

    def wait(self, names: Sequence[str]) -> list[int]:
        raise KeyboardInterrupt

    def alive(self, names: Sequence[str]) -> list[bool]:
        return [True] * len(names)


def launch(made: SweepPlan, launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> Launch:
    monkeypatch.setattr(Launch, "_make", lambda self, spec: launcher)
    return Launch.of(made.base)


def test_each_fold_is_searched_by_itself_or_one_search_serves_all(file: Path) -> None:
    steps = plan(file).search_steps
    assert [(option(one.words, "row"), option(one.words, "fold")) for one in steps] == [
        ("own", "1"),
        ("own", "4"),
        ("one", "1"),
    ]
    assert len({option(one.words, "out") for one in steps}) == 3
    assert [one.makes[0].name for one in steps] == ["find-own.yaml", "find-own.yaml", "find-one.yaml"]
    assert all(one.words[0] == "search" and "train.epochs=1" in one.words for one in steps)
    assert "train.batch=16" in steps[0].words
    assert not (file.parents[1] / "work").exists()


def test_a_row_is_trained_with_what_its_search_found_and_with_nothing_else_of_a_run(file: Path) -> None:
    choices = Choices(set=["train.checkpoint_steps=7"], device="cpu")
    before = plan(file, ["own"], choices=choices)
    assert before.steps("train") == []
    assert [line.runs for line in before.lines] == [(("1", "0"), ("4", "0"))]
    system = option(before.search_steps[1].words, "out") + "/find-own.yaml"
    write_text(Path(system), FOUND)
    after = before.again()
    (step,) = after.steps("train") or []
    assert option(step.words, "system") == system
    assert option(step.words, "fold") == "4"
    given = {one for one in step.words if "=" in one and "/" not in one}
    assert given == {"train.threads=1", "protocol=emobox", "train.checkpoint_steps=7", "train.device=cpu"}
    assert step.stamp.parents[2] == after.lines[0].folder
    write_text(Path(system), FOUND.replace("0.001", "0.002"))
    (other,) = before.again().steps("train") or []
    assert (other.stamp, other.settings) == (step.stamp, step.settings)  # so it is done again, and not refused
    assert other.reads != step.reads


def test_what_one_search_found_serves_every_fold(file: Path) -> None:
    before = plan(file, ["one"])
    write_text(before.search_steps[0].makes[0], FOUND)
    assert [step.run for step in before.again().steps("train") or []] == [("1", "0"), ("4", "0")]


def test_several_processes_share_a_search_where_there_are_fewer_searches_than_jobs(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, launcher = plan(file), Remembers()
    due = made.search_steps
    codes = searching.run(Ask(), 7, due, launch(made, launcher, monkeypatch))
    assert [option(one, "out") for one in launcher.commands] == [option(one.words, "out") for one in due for _ in "12"]
    assert codes == [0, 1, 1]
    assert [step.stamp.exists() for step in due] == [True, False, False]
    assert launcher.commands[0] == due[0].words
    assert searching.run(Ask(), 1, due, launch(made, Remembers("1"), monkeypatch))[0] == 1


def test_a_search_that_goes_on_elsewhere_is_found_again_and_not_deleted(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, launcher = plan(file, ["one"]), Goes()
    (step,) = made.search_steps
    for force in (False, True):
        with pytest.raises(KeyboardInterrupt):
            searching.run(Ask(force=force), 3, [step], launch(made, launcher, monkeypatch))
        (step.stamp.parent / "journal.log").parent.mkdir(exist_ok=True)
        (step.stamp.parent / "journal.log").touch()
    assert len(launcher.commands) == 3
    assert launch(made, launcher, monkeypatch).cancel(searching.submitted(step)) == 3
    assert (step.stamp.parent / "journal.log").exists()


def test_a_dry_run_prints_the_searches_and_writes_nothing(file: Path) -> None:
    work = file.parents[1] / "work"
    dry = cli("sweep", file, "--root", file.parent, "--work", work, "--dry-run")
    assert dry.exit_code == 0, dry.output
    commands = [shlex.split(line)[1] for line in dry.stdout.splitlines()]
    assert commands == ["prepare", "featurize", "search", "search", "search", *["train"] * 2, *["score"] * 2, "sweep"]
    assert "settings of searched rows are known after the search" in " ".join(dry.stderr.split())
    assert not work.exists()


def test_what_is_wrong_at_an_end_of_a_range_is_said_before_anything_is_run(file: Path) -> None:
    file.write_text(
        SWEEP.replace("train.optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}", "backbone.layesr: {choices: [1]}")
    )
    with pytest.raises(UsageError, match=r"row 'own': .*layesr"):
        _rehearse(plan(file, ["own"]))
    file.write_text(SWEEP.replace("{trials: 2, ranges", "{trials: 2, sampler: tpee, ranges"))
    with pytest.raises(UsageError, match="no sampler 'tpee' of a search"):
        _rehearse(plan(file, ["own"]))


def test_what_is_searched_is_not_for_the_command_line(file: Path) -> None:
    choices = Choices(set=["train.optimizer.lr=0.1"])
    with pytest.raises(UsageError, match=r"train\.optimizer\.lr is swept by .*, and the command line sets it"):
        plan(file, choices=choices)
    assert len(plan(file, ["stands"], choices=choices).bases) == 1


def test_the_status_counts_trials(file: Path) -> None:
    lines = status(plan(file))
    assert lines[:2] == ["own: search: 0 of 4 trials", "one: search: 0 of 2 trials"]


def test_a_sweep_searches_trains_with_what_was_found_and_says_so(file: Path, corpus: Path) -> None:
    work = file.parents[1] / "work"
    words = ["sweep", str(file), "--root", str(corpus), "--work", str(work)]
    done = cli(*words)
    assert done.exit_code == 0, done.output
    table = (work / "exp/sweeps/find/table.md").read_text()
    for row in ("stands", "own", "one"):
        assert f"| {row} | 2 |" in table
    assert (
        "- own: a search of each fold by itself, on its own dev: 2 trials, sampler tpe, pruner median, seed 0" in table
    )
    assert "- own: 4 trials were made (0 pruned, 0 failed); the best have dev ua " in table
    assert "- one: **settings saw test speakers of other folds**" in table
    assert table.count("SETTINGS SAW TEST SPEAKERS of other folds") == 1
    assert "settings searched on each fold's own dev" in table
    for row, saw in (("own", [[], []]), ("one", [[], ["01", "07"]])):
        runs = [work / f"exp/emobox/find-{row}/fold={fold}/seed=0" for fold in "14"]
        found = [read_json(run / "metrics.json", "")["protocol"]["searched"] for run in runs]
        assert [bool(one["saw"]) for one in found] == [bool(one) for one in saw]
        trained = [read_json(run / "model/bundle.json", "", newer=True)["training"] for run in runs]
        assert trained[0]["dev"]["ua"] == trained[0]["searched"]["dev"]  # to the digit
    assert status(SweepPlan(file, Ask(root=corpus, work=work)))[:3] == [
        "own: search: 4 of 4 trials",
        "one: search: 2 of 2 trials",
        "stands: 2 done",
    ]
    again = cli(*words, "--dry-run")
    assert len(again.stdout.splitlines()) == 1, again.stdout
    text = file.read_text()
    file.write_text(text.replace("trials: 2", "trials: 3"))
    more = [shlex.split(line) for line in cli(*words, "--dry-run").stdout.splitlines()]
    file.write_text(text)
    assert {line[1] for line in more} == {"search", "train", "score", "sweep"}  # what is found may be other settings
    assert all("find-o" in " ".join(line) for line in more if line[1] in ("train", "score"))
    report = cli("report", work / "exp/emobox/find-own")
    assert report.exit_code == 0, report.output
    assert "settings searched on each fold's own dev" in (work / "exp/emobox/find-own/RESULTS.md").read_text()
    system = work / "exp/sweeps/find/search/own/fold=4/find-own.yaml"
    recipe = ["recipe", file.parents[1], "--system", system, "--fold", 4, "--root", corpus, "--work", work]
    taken = cli(*recipe, "--set", "train.threads=1", "--stop-stage", "train", "--dry-run")
    assert taken.exit_code == 0, taken.output
    assert str(work / "exp/emobox/find-own/fold=4/seed=0") in taken.stdout

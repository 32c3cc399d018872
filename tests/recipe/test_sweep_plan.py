"""A sweep as steps: a pure function of its file and what the user asked."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core import UsageError
from sertk.core.files import digest, write_json
from sertk.recipe.commands import Command, commands
from sertk.recipe.freshness import Step
from sertk.recipe.plan import Ask
from sertk.recipe.status import status
from sertk.recipe.sweep import SweepPlan, sweep_files
from sertk.settings.overrides import Choices
from sertk.settings.several import seeds_of, seeds_text
from sertk.testing import tone_corpus
from sertk.testing.trees.anybody import folders
from sertk.training import run_folder

FILE = """
title: Two rows
settings: {train: {epochs: 2, threads: 1, patience: 4}}
seeds: [0, 1]
grid: {train.batch: [4, 8], train.clip: [1.0, 2.0]}
zip: {train.optimizer.lr: [1.0e-3, 1.0e-4], train.accumulate: [1, 2]}
paper: {source: Table 9}
cells:
  UA: {metric: ua}
  curve: {metric: ua, part: dev, curve: train.batch}
rows:
  others: {quoted: {UA: 61.5}, source: somebody}
  plain: {system: mini-cnn, paper: {UA: 70.1}}
  wide:
    system: mini-cnn
    settings: {backbone: {name: cnn_transformer, layers: 1}, train: {patience: 3}, losses: [{name: kl}]}
"""
SMALL = """
title: Small
recipe: RECIPE
settings: {train: {epochs: 1, threads: 1}}
cells: {UA: {metric: ua}}
rows: {plain: {system: mini-cnn}, slow: {system: mini-cnn, settings: {train: {optimizer: {lr: 1.0e-5}}}}}
"""


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "egs/tones/sweeps").mkdir(parents=True)
    file = tmp_path / "egs/tones/recipe.yaml"
    file.write_text("corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nfolds: ['1', '4']\njobs: 2\n")
    return file


def write(recipe: Path, text: str) -> Path:
    path = recipe.parent / "sweeps/two.yaml"
    path.write_text(text)
    return path


def plan(recipe: Path, text: str = FILE, rows: Sequence[str] = (), **ask: object) -> SweepPlan:
    choices = ask.pop("choices", Choices())
    asked = Ask(root=recipe.parent, work=recipe.parent / "work", choices=choices, **ask)  # type: ignore[arg-type]
    return SweepPlan(write(recipe, text), asked, rows)


def test_every_row_is_run_at_every_point_with_every_fold_and_seed(recipe: Path) -> None:
    made = plan(recipe)
    points = [(point.row, *point.swept.values()) for point, _ in made.plans]
    assert len(points) == len(set(points)) == 2 * 2 * 2 * 2  # rows, batches, clips, pairs of rate and accumulation
    assert points[:3] == [
        ("plain", 4, 1.0, 1e-3, 1),
        ("plain", 4, 1.0, 1e-4, 2),
        ("plain", 4, 2.0, 1e-3, 1),
    ]
    trained = made.steps("train") or []
    assert len({step.stamp for step in trained}) == len(trained) == 16 * 2 * 2
    assert len(made.steps("score") or []) == 2 * len(trained)  # test, and dev for the curve
    assert len(made.steps("prepare") or []) == 1
    assert len(made.steps("featurize") or []) == 1  # all rows read the same features


def test_planning_twice_gives_the_same_and_writes_nothing(recipe: Path) -> None:
    first, again = plan(recipe), plan(recipe)
    for stage in ("prepare", "featurize", "train", "score"):
        assert first.steps(stage) == again.steps(stage)
    assert first.lines == again.lines
    assert not (recipe.parent / "work").exists()


def test_a_rows_settings_lie_over_the_sweeps_and_the_command_line_over_both(recipe: Path) -> None:
    chosen = Choices(set=["train.epochs=7", "backbone.layers=2"])
    settings = {point.row: one.settings for point, one in plan(recipe, choices=chosen).plans}
    assert settings["plain"].train.epochs == settings["wide"].train.epochs == 7
    assert settings["wide"].backbone.settings["layers"] == 2
    assert [loss.name for loss in settings["wide"].losses] == ["kl"]
    assert [loss.name for loss in settings["plain"].losses] == ["ce"]
    assert settings["plain"].train.threads == 1
    assert (settings["plain"].train.patience, settings["wide"].train.patience) == (4, 3)


def test_a_setting_that_is_swept_is_not_for_the_command_line(recipe: Path) -> None:
    with pytest.raises(UsageError, match=r"train\.batch is swept"):
        plan(recipe, choices=Choices(set=["train.batch=3"]))
    with pytest.raises(UsageError, match=r"train\.optimizer is swept"):
        plan(recipe, choices=Choices(set=["train.optimizer=adam"]))
    for choices in (Choices(system="p1-ce"), Choices(set=["system=p1-ce"])):
        with pytest.raises(UsageError, match="rows of a sweep name their systems"):
            plan(recipe, choices=choices)
    with pytest.raises(UsageError, match="losses is swept"):
        plan(recipe, SMALL.replace("recipe: RECIPE", "grid: {losses: [[ce], [kl]]}"), choices=Choices(loss=["focal"]))


def test_rows_that_are_one_run_and_scored_in_two_ways_are_refused(recipe: Path) -> None:
    text = SMALL.replace("recipe: RECIPE\n", "")
    same = text.replace("{train: {optimizer: {lr: 1.0e-5}}}", "{train: {epochs: 1}}")
    assert len(plan(recipe, same).steps("score") or []) == 2  # one run in each fold, whatever its rows say
    other = text.replace("{train: {optimizer: {lr: 1.0e-5}}}", "{score: {inputs: audio}}")
    with pytest.raises(UsageError, match=r"row 'slow' of two\.yaml is the runs of a row above, scored in another way"):
        plan(recipe, other)
    with pytest.raises(UsageError, match=r"row 'plain' of two\.yaml is the runs of a row above"):
        plan(recipe, text.replace("cells:", "grid: {score.batch: [1, 2]}\ncells:"))


def test_a_cell_over_epochs_is_of_runs_that_measure_after_each(recipe: Path) -> None:
    text = SMALL.replace("recipe: RECIPE\n", "").replace("{UA: {metric: ua}}", "{loss: {epochs: loss, part: dev}}")
    own = "settings: {train: {curves: true, "
    with pytest.raises(UsageError, match=r"two\.yaml:4: cell 'loss' is over epochs, and row 'slow' has train\.curves"):
        plan(recipe, text.replace("{system: mini-cnn}", f"{{system: mini-cnn, {own}}}}}}}")).check_curves()
    plan(recipe, text, choices=Choices(set=["train.curves=true"])).check_curves()
    plan(recipe, text.replace("settings: {train: {", own, 1)).check_curves()
    words = ("sweep", write(recipe, text), "--root", recipe.parent, "--work", recipe.parent / "work")
    refused = cli(*words, "--dry-run")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert cli(*words, "--status").exit_code == 0  # what was trained is still there to be seen


def test_rows_folds_and_seeds_can_be_chosen(recipe: Path) -> None:
    made = plan(recipe, rows=["wide"], folds=("2,3",), seeds=("5-7",))
    assert {point.row for point, _ in made.plans} == {"wide"}
    assert made.plans[0][1].places == [(fold, seed) for fold in "23" for seed in "567"]
    assert [line.row for line in made.lines] == ["others"] + ["wide"] * 8
    assert any("folds 2, 3 of the 6 of emobox" in note for note in made.notes)
    assert any("--row wide" in note for note in made.notes)
    with pytest.raises(UsageError, match="no row 'wied' that is trained; did you mean 'wide'"):
        plan(recipe, rows=["wied"])
    with pytest.raises(UsageError, match="no row 'others' that is trained"):
        plan(recipe, rows=["others"])


def test_seeds_by_position_are_the_sweeps(recipe: Path) -> None:
    text = FILE.replace("seeds: [0, 1]", "seeds: [7, 5, 3]")
    assert {seed for _, seed in plan(recipe, text, seeds=("#2",)).plans[0][1].places} == {"5"}
    with pytest.raises(UsageError, match=r"no seed '#4'.*#1 to #3"):
        plan(recipe, text, seeds=("#4",))


def test_rows_that_need_the_corpus_prepared_in_two_ways_are_refused(recipe: Path) -> None:
    made = plan(recipe, SMALL.replace("recipe: RECIPE", "grid: {audio.min_seconds: [0.1, 1.0]}"))
    with pytest.raises(UsageError, match=r"row 'plain' of two\.yaml needs prepare with other settings"):
        made.steps("prepare")


def test_another_recipe_is_named_in_full_by_its_folder_from_here(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(recipe, SMALL.replace("recipe: RECIPE\n", ""))
    monkeypatch.chdir(recipe.parent)
    made = SweepPlan(path, Ask(root=recipe.parent, work=recipe.parent / "work"), (), ".")
    words = made.command()
    assert words[words.index("--recipe") + 1] == str(recipe)
    assert "asked for with `--recipe tones`" in made.notes


def test_a_row_whose_settings_are_wrong_is_named(recipe: Path) -> None:
    with pytest.raises(UsageError, match=r"row 'plain' of two\.yaml: .*no system named 'mini-ccn'"):
        plan(recipe, FILE.replace("plain: {system: mini-cnn", "plain: {system: mini-ccn"))


@pytest.mark.parametrize(
    ("paper", "choices", "elsewhere"),
    [
        ("{source: Table 9}", Choices(), ""),
        ("{corpus: iemocap}", Choices(), "another corpus"),
        ("{protocol: speech}", Choices(), "another protocol"),
        ("{backbone: {name: wavlm, source: microsoft/wavlm-large}}", Choices(), "another encoder"),
        ("{}", Choices(backbone="wav2vec2:source=here/wav2vec2-base"), ""),
        ("{}", Choices(backbone="wav2vec2:source=facebook/wav2vec2-large"), "another encoder"),
        ("{}", Choices(set=["protocol=speech"]), "another protocol"),
        ("{corpus: tess}", Choices(backbone="cnn_transformer"), "another corpus, another encoder"),
    ],
)
def test_what_is_not_the_papers_is_said(recipe: Path, paper: str, choices: Choices, elsewhere: str) -> None:
    text = SMALL.replace("recipe: RECIPE\n", f"paper: {paper}\n").replace("mini-cnn", "p3-baseline")
    assert {line.elsewhere for line in plan(recipe, text, choices=choices).lines} == {elsewhere}


def test_over_another_recipe_it_is_another_corpus(recipe: Path) -> None:
    path = write(recipe, SMALL.replace("recipe: RECIPE\n", ""))
    made = SweepPlan(path, Ask(root=recipe.parent, work=recipe.parent / "work"), (), "tess")
    assert {line.elsewhere for line in made.lines} == {"another corpus"}
    assert made.corpus == "tess"


def test_a_file_outside_of_a_recipe_has_the_recipe_that_is_asked_for(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere/mine.yaml"
    path.parent.mkdir()
    path.write_text(SMALL.replace("recipe: RECIPE\n", ""), encoding="utf-8")
    ask = Ask(root=recipe.parent, work=recipe.parent / "work")
    with pytest.raises(UsageError, match=r"mine\.yaml: its recipe, .*recipe\.yaml, is missing\..* --recipe RECIPE"):
        SweepPlan(path, ask)
    assert {line.elsewhere for line in SweepPlan(path, ask, (), str(recipe)).lines} == {""}


def only(recipe: Path, tree: Path, corpus: str, who: str) -> SweepPlan:
    """A sweep with a cell of some utterances alone, over a corpus that is prepared."""
    recipe.write_text(f"corpus: {corpus}\nprotocol: disjoint5\nsystem: mini-cnn\nfolds: ['1']\n")
    text = SMALL.replace("recipe: RECIPE\n", "").replace("rows:", f"  of them: {{only: {who}}}\nrows:")
    ask = Ask(root=tree, work=recipe.parent / "work")
    made = SweepPlan(write(recipe, text.replace("cells: {UA: {metric: ua}}", "cells:\n  UA: {metric: ua}")), ask)
    done = cli("recipe", recipe.parent, "--root", tree, "--work", recipe.parent / "work", "--stop-stage", 1)
    assert done.exit_code == 0, done.output
    return made


def test_a_cell_of_a_speaker_whom_the_corpus_has_not_is_refused_before_training(recipe: Path, tmp_path: Path) -> None:
    tree = folders(tmp_path / "tree", seconds=0.12)
    made = only(recipe, tree, "{name: folder, speaker: '([a-z]+)_'}", "{speaker: [ann, bne]}")
    wrong = r"two\.yaml:6: cell 'of them' is of speaker bne, and no utterance of folder is; did you mean 'ben'"
    with pytest.raises(UsageError, match=wrong):
        made.check_only()
    words = ("sweep", made.path, "--root", tree, "--work", recipe.parent / "work")
    assert cli(*words, "--dry-run").exit_code == 2
    assert cli(*words, "--status").exit_code == 0
    made = only(recipe, tree, "{name: folder, speaker: '([a-z]+)_'}", "{speaker: [ann, ben]}")
    made.check_only()


def test_of_a_corpus_of_which_a_part_is_missing_a_cell_may_be_of_speakers_there(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = "{name: union, parts: {ravdess: ravdess, savee: savee}, prefix: false}"
    tone_corpus(tmp_path / "tree/ravdess", speakers=6, per_class=1)
    made = only(recipe, tmp_path / "tree", parts, "{speaker: ['01', DC, JE]}")
    made.check_only()
    said = "cell 'of them' is of speaker DC, JE, and no utterance of union is, of which a part is missing"
    assert said in capsys.readouterr().err


def step(fold: str, seed: str, tmp_path: Path, head: Sequence[str] = ("train", "data")) -> Step:
    out = tmp_path / f"fold={fold}/seed={seed}"
    alone = [*head, "--fold", fold, "--seed", seed, "--out", str(out)]
    return Step("train", alone, out / ".train.json", {}, [], [out / "model"], run=(fold, seed), together=head)


def test_runs_that_differ_in_fold_and_seed_share_commands_that_name_rectangles(tmp_path: Path) -> None:
    runs = [("a", "0"), ("a", "1"), ("b", "0"), ("b", "1"), ("c", "0")]
    made = commands([step(*run, tmp_path) for run in runs], 1, force=False)
    assert [one.words for one in made] == [
        ["train", "data", "--fold", "a,b", "--seed", "0-1"],
        ["train", "data", "--fold", "c", "--seed", "0", "--out", str(tmp_path / "fold=c/seed=0")],
    ]
    done = [one.run for command in made for one in command.steps]
    assert sorted(done) == sorted(runs)  # type: ignore[type-var]


def test_runs_are_shared_out_among_the_jobs_along_the_longer_side(tmp_path: Path) -> None:
    wide = [step(fold, seed, tmp_path) for fold in "abcde" for seed in "01"]
    assert [one.words[3:] for one in commands(wide, 2, force=False)] == [
        ["a,b,c", "--seed", "0-1"],
        ["d,e", "--seed", "0-1"],
    ]
    tall = [step("a", seed, tmp_path) for seed in "01234"]
    assert [one.words[-1] for one in commands(tall, 2, force=False)] == ["0-2", "3-4"]
    two = [step("a", seed, tmp_path, head) for head in (("train", "x"), ("train", "y")) for seed in "01"]
    assert len(commands(two, 2, force=False)) == 2  # as many commands as jobs are enough
    assert len(commands(two, 4, force=False)) == 4


def test_a_run_that_is_scored_alone_is_scored_as_one_of_its_system(recipe: Path) -> None:
    step, *_ = plan(recipe, SMALL.replace("recipe: RECIPE\n", "")).steps("score") or []
    # what keeps its failed.json; a bundle that is scored has no such file
    assert step.words[:2] == ["score", str(step.stamp.parents[2])]
    assert step.words[-4:] == ["--fold", "1", "--seed", "0"]


def test_a_fold_whose_name_has_a_comma_is_named_alone(tmp_path: Path) -> None:
    made = commands([step("a,b", "0", tmp_path), step("c", "0", tmp_path), step("d", "0", tmp_path)], 1, force=False)
    assert sorted(one.words[one.words.index("--fold") + 1] for one in made) == ["a,b", "c,d"]


def test_a_forced_run_is_not_put_with_one_that_goes_on(tmp_path: Path) -> None:
    steps = [step(fold, "0", tmp_path) for fold in "abc"]
    write_json(steps[1].stamp, {"settings": digest([{}]), "makes": []})  # of these settings, and something else changed
    made = commands(steps, 1, force=False)
    assert sorted((",".join(str(one.run) for one in x.steps), "--force" in x.words) for x in made) == [
        ("('a', '0'),('c', '0')", False),
        ("('b', '0')", True),
    ]
    assert all("--force" in one.words for one in commands(steps, 1, force=True))


def test_a_command_that_ends_with_3_says_of_each_of_its_runs_whether_it_was_done(tmp_path: Path) -> None:
    done, failed, lacking = steps = [step(fold, "0", tmp_path) for fold in "abc"]
    for one in (done, failed):
        one.makes[0].mkdir(parents=True)
    write_json(failed.stamp.with_name("failed.json"), {"stage": "train", "error": "a loss is nan"})
    assert Command([], steps).codes(3) == [0, 1, 1]
    assert Command([], steps).codes(0) == [0, 0, 0]
    assert Command([], steps).codes(-9) == [-9, -9, -9]
    assert Command([], [lacking]).codes(3) == [3]


@pytest.mark.parametrize("text", ["0", "0-4", "0,2,7-9", "3-4,1"])
def test_seeds_in_one_word_are_read_back(text: str) -> None:
    assert seeds_text(list(map(str, seeds_of(text)))) == text


def test_status_counts_the_runs_of_each_row(recipe: Path) -> None:
    made = plan(recipe, SMALL.replace("recipe: RECIPE\n", ""))
    first, second, *_ = [step.stamp.parent for step in made.steps("train") or []]
    write_json(first / "failed.json", {"stage": "train", "error": "a loss is nan"})
    held = run_folder.lock(second)
    try:
        assert status(made) == [
            "plain: 1 running, 1 failed",
            "slow: 2 to do",
            "4 runs: 1 running, 1 failed, 2 to do; time left: not known until a run is done",
        ]
        write_json(second / "cost.json", {"seconds": 600.0})
        assert status(made)[-1].endswith("time left: about 20 min")  # four runs of ten minutes, two at once
    finally:
        held.close()
    assert status(made)[0] == "plain: 1 failed, 1 to do"


METRIC = '''
"""A metric of a recipe's own."""

from collections.abc import Mapping

from sertk.core import Metric
from sertk.hookspecs import hookimpl


class Half(Metric):
    """Half."""

    better, range = "higher", (0, 1)

    def __call__(self, scores):
        """0.5."""
        return 0.5


@hookimpl
def sertk_metrics() -> Mapping[str, type[Metric]]:
    """By name."""
    return {"half": Half}
'''


def test_a_metric_of_the_recipes_plugin_file_makes_a_column(recipe: Path) -> None:
    (recipe.parent / "mine.py").write_text(METRIC)
    recipe.write_text(f"{recipe.read_text()}plugins: [mine.py]\n")
    path = write(recipe, SMALL.replace("recipe: RECIPE\n", "").replace("ua", "half"))
    made = cli("sweep", path, "--work", recipe.parent / "work", "--trust", "--table")
    assert made.exit_code == 0, made.output
    assert "UA: half of test" in (recipe.parent / "work/exp/sweeps/two/table.md").read_text()


def test_a_metric_that_does_not_exist_is_said_before_anything_is_run(recipe: Path) -> None:
    path = write(recipe, SMALL.replace("recipe: RECIPE\n", "").replace("metric: ua", "metric: uaa"))
    dry = cli("sweep", path, "--root", recipe.parent, "--work", recipe.parent / "work", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (2, "")
    assert "cell 'UA': no metric named 'uaa'; did you mean 'ua'" in dry.stderr


def test_settings_that_a_row_gives_a_metric_are_checked_before_anything_is_run(recipe: Path) -> None:
    text = SMALL.replace("recipe: RECIPE\n", "").replace("ua", "label_loss")
    path = write(recipe, text.replace("{system:", "{metrics: ['label_loss:of=l2'], system:", 1))
    dry = cli("sweep", path, "--root", recipe.parent, "--work", recipe.parent / "work", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (2, "")
    said = " ".join(dry.stderr.split())
    assert "row 'plain': metric 'label_loss': of must be ce | l1 | smooth_l1 | bce, got 'l2'" in said


def test_before_the_corpus_has_decided_on_the_folds_nobody_says_that_nothing_is_left(tmp_path: Path) -> None:
    words = ("sweep", "fesc/p3-table2", "--work", tmp_path)
    assert cli(*words, "--status").stdout.endswith("time left: not known until the corpus is prepared\n")
    assert "**partial**: nothing is run" in cli(*words, "--table").stdout


def test_a_sweep_is_found_by_path_and_by_name(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(recipe, FILE)
    monkeypatch.setattr("sertk.recipe.sweep.egs", lambda: recipe.parents[1])
    (recipe.parents[1] / "more/sweeps").mkdir(parents=True)
    other = recipe.parents[1] / "more/sweeps/two.yaml"
    other.write_text(FILE)
    assert sweep_files(str(path)) == sweep_files("tones/two") == [path]
    assert sorted(sweep_files("two")) == [other, path]
    with pytest.raises(UsageError, match=r"no sweep 'tones/tow'.*did you mean 'tones/two'"):
        sweep_files("tones/tow")
    both = cli("sweep", "two")
    assert both.exit_code == 2
    assert "2 recipes have a sweep 'two'" in both.stderr


def test_values_of_the_paper_by_fold_may_name_folds_by_number(recipe: Path) -> None:
    text = SMALL.replace("recipe: RECIPE\n", "").replace("metric: ua", "metric: ua, how: fold")
    text = text.replace("plain: {system: mini-cnn}", "plain: {system: mini-cnn, paper: {UA: {1: 70.1, mean: 69.2}}}")
    made = cli("sweep", write(recipe, text), "--work", recipe.parent / "work", "--table")
    assert made.exit_code == 0, made.output
    assert "| UA 1 | UA 1 paper |" in made.stdout
    assert "| plain | 0 of 2 | – | 70.1 |" in made.stdout


def test_a_copied_recipe_has_its_sweeps_and_not_their_tables(recipe: Path, tmp_path: Path) -> None:
    table = write(recipe, FILE).parents[1] / "exp/sweeps/two/table.md"
    table.parent.mkdir(parents=True)
    table.write_text("| row |")
    assert cli("recipe", recipe.parent, "--copy", tmp_path / "mine").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "mine").rglob("*") if path.is_file()) == ["recipe.yaml", "two.yaml"]
    assert table.exists()


def test_the_printed_commands_are_those_of_the_steps_and_end_in_the_table(recipe: Path) -> None:
    path = write(recipe, SMALL.replace("recipe: RECIPE\n", ""))
    dry = cli("sweep", path, "--root", recipe.parent, "--work", recipe.parent / "work", "--dry-run", "--seed", "0-2")
    assert dry.exit_code == 0, dry.stderr
    lines = [shlex.split(line) for line in dry.stdout.splitlines()]
    assert [words[1] for words in lines] == ["prepare", "featurize", *["train"] * 2, *["score"] * 2, "sweep"]
    assert all(words[-4:] == ["--fold", "1,4", "--seed", "0-2"] for words in lines if words[1] in ("train", "score"))
    assert lines[-1][-1] == "--table"

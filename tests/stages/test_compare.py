"""`sertk compare`: systems beside each other, against numbers worked by hand, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.core.files import read_json, write_json, write_jsonl
from sertk.results.lines import read_scores

# id, label and duration of the utterances, by fold
FOLDS = {
    "1": [("u1", "a", 3.0), ("u2", "a", 10.0), ("u3", "b", 12.0), ("u4", "b", 4.0)],
    "2": [("u5", "a", 11.0), ("u6", "b", 9.0)],
}
# decisions on them in this order; u4 is wrong, and u2 too in POOR
FLAT = {"posterior": [0.5, 0.5], "logits": [0.0, 0.0], "speaker": None}
GOOD, POOR, RIGHT = "aabaab", "abbaab", "aabbab"


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def scored(system: Path, decisions: str, seed: str = "0", **about: object) -> Path:
    """A system's score files of a seed, as `sertk score` writes them."""
    left = iter(decisions)
    about = {"corpus": "c", "name": "p", "hash": "h", "part": "test", "stamp": "speaker-independent", **about}
    trained = {"corpus": "c", "protocol": "p", "hash": about["hash"], "system": "s", "settings": system.name}
    for fold, utterances in FOLDS.items():
        run = system / f"fold={fold}" / f"seed={seed}"
        lines = [
            {"schema": 1, "id": i, "label": label, "seconds": seconds, "decision": next(left), **FLAT}
            for i, label, seconds in utterances
        ]
        write_jsonl(run / "scores.jsonl", lines)
        content = {"protocol": {**about, "fold": fold}, "utterances": len(lines), "classes": ["a", "b"]}
        content |= {"confusion": read_scores(run / "scores.jsonl", "ab").confusion.tolist()}
        content |= {"trained": {**trained, "fold": fold, "seed": int(seed)}}
        write_json(run / "metrics.json", content)
    return system


def change(run: Path, number: int, **more: object) -> None:
    """Changes a score line; what is None is taken away."""
    lines = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
    lines[number] = {name: value for name, value in (lines[number] | more).items() if more.get(name, 0) is not None}
    write_jsonl(run / "scores.jsonl", lines)


def rows(done: Result) -> dict[str, list[str]]:
    """The cells of the table by system, its head under "system"."""
    assert done.exit_code == 0, done.output
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in table)}


def refusal(*words: object, code: int = 1) -> str:
    done = cli(*words)
    assert done.exit_code == code, done.output
    assert not done.stdout
    return " ".join(done.stderr.split())


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return scored(tmp_path / "exp/p/good", GOOD)


@pytest.fixture
def poor(tmp_path: Path) -> Path:
    return scored(tmp_path / "exp/p/poor", POOR)


# --- the table -------------------------------------------------------------------------------------------------------


def test_systems_stand_beside_each_other_with_the_folds_pooled(good: Path, poor: Path) -> None:
    table = rows(cli(poor, good))
    assert list(table) == ["system", "poor", "good"]  # in the order given
    first = ["WA", "UA", "UA up to 10 s (n)", "UA beyond (n)", "agreement with good"]
    assert table["system"] == [*first, "precision", "recall", "F1"]
    # good: recalls 3/3 and 2/3 (mean of folds: (3/4 + 1)/2 = 87.50); short u1 u2 u4 u6: 2/2 and 1/2; beyond u3 u5
    # it decides 4 times a, 3 rightly, and 2 times b, both rightly: precision (3/4 + 1)/2, F1 (6/7 + 4/5)/2
    assert table["good"] == ["83.33", "83.33", "75.00 (4)", "100.00 (2)", "/", "87.50", "83.33", "82.86"]
    # poor: recalls 2/3 and 2/3; short 1/2 and 1/2. Agreement: of good's a u1 u2 u4 u5 it has 3/4, of its b u3 u6 2/2:
    # 87.50 (mean of folds: ((2/3 + 1)/2 + 1)/2 = 91.67)
    assert table["poor"][:5] == ["66.67", "66.67", "50.00 (4)", "100.00 (2)", "87.50"]


def test_inputs_that_failed_are_a_warning_and_a_line_below_the_table(good: Path, poor: Path) -> None:
    path = poor / "fold=2/seed=0/metrics.json"
    write_json(path, {**read_json(path, ""), "failed": 48, "inputs": 50})
    done = cli(good, poor)
    rows(done)
    assert "warning: poor: **48 of 54 failed**" in " ".join(done.stderr.split())  # 4 of fold 1
    assert "\n- poor: **48 of 54 failed** and no figure counts them; the first are of fold 2, seed 0" in done.stdout
    assert "good: **" not in done.stdout


def test_another_truth_may_be_named(good: Path, poor: Path) -> None:
    done = cli(good, poor, "--truth", "poor")
    table = rows(done)
    assert table["system"][4] == "agreement with poor"
    assert table["poor"][4] == "/"
    assert table["good"][4] == "83.33"  # of poor's a u1 u4 u5 it has 3/3, of its b u2 u3 u6 2/3
    assert "poor (as asked)" in done.stdout


def test_utterances_are_paired_by_fold_and_id_whatever_their_order(good: Path, poor: Path) -> None:
    before = rows(cli(good, poor))
    for path in poor.rglob("scores.jsonl"):
        path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert rows(cli(good, poor)) == before


def test_seeds_are_paired_by_name(good: Path, poor: Path) -> None:
    scored(good, RIGHT, "1")
    scored(poor, POOR, "1")
    table = rows(cli(good, poor))
    # good: UA 5/6 and 1, short 3/4 and 1, the mean and the deviation of the population
    assert table["good"][:5] == ["91.67 ± 8.33", "91.67 ± 8.33", "87.50 ± 12.50 (4)", "100.00 ± 0.00 (2)", "/"]
    # poor agrees with seed 0 of good by 87.50 and with seed 1, which is the labels, by its UA of 66.67
    assert table["poor"][1] == "66.67 ± 0.00"
    assert table["poor"][4] == "77.08 ± 10.42"


@pytest.mark.parametrize(
    ("limit", "short", "beyond"),
    [
        ("10", "75.00 (4)", "100.00 (2)"),  # u2 is of 10.0 s: recalls 2/2 and 1/2; then u3 and u5
        ("9.999999", "75.00 (3)", "100.00 (3)"),  # without u2 1/1 and 1/2
        ("2.5", "– (0)", "83.33 (6)"),
        ("12", "83.33 (6)", "– (0)"),
    ],
)
def test_the_limit_is_in_the_first_group_and_an_empty_group_has_no_figure(
    good: Path, limit: str, short: str, beyond: str
) -> None:
    assert rows(cli(good, "--seconds", limit))["good"][2:4] == [short, beyond]


def test_it_says_what_it_was_made_with_and_writes_it(good: Path, poor: Path, tmp_path: Path) -> None:
    done = cli(good.parent, "--out", tmp_path / "new" / "table.md")
    assert list(rows(done)) == ["system", "good", "poor"]
    assert "decisions of good (the highest UA) as the truth" in done.stdout
    assert "- protocol: c / p, speaker-independent, part test, hash `h`" in done.stdout
    assert "- folds: 1, 2; seeds: 0" in done.stdout
    assert (tmp_path / "new" / "table.md").read_text() == done.stdout


def test_systems_of_different_stamps_are_told_apart(good: Path, tmp_path: Path) -> None:
    other = scored(tmp_path / "exp/p/other", POOR, stamp="SPEAKER-DEPENDENT")
    text = cli(good, other).stdout
    assert "- protocol of good: c / p, speaker-independent, part test, hash `h`" in text
    assert "- protocol of other: c / p, SPEAKER-DEPENDENT, part test, hash `h`" in text


def test_systems_of_one_name_are_named_by_more_of_their_paths(tmp_path: Path) -> None:
    ours, theirs = (scored(tmp_path / who / "exp/p/same", GOOD) for who in ("ours", "theirs"))
    table = rows(cli(ours, theirs))
    assert list(table) == ["system", "ours/exp/p/same", "theirs/exp/p/same"]
    assert table["system"][4] == "agreement with ours/exp/p/same"  # the first of the best


def test_labels_that_are_no_class_are_left_out_as_in_the_metrics(good: Path, poor: Path) -> None:
    for system in (good, poor):
        path = system / "fold=2" / "seed=0" / "scores.jsonl"
        line = {"schema": 1, "id": "u7", "label": "other", "seconds": 1.0, "decision": "a", **FLAT}
        path.write_text(path.read_text() + json.dumps(line) + "\n")
    assert rows(cli(good, poor))["poor"][:5] == ["66.67", "66.67", "50.00 (4)", "100.00 (2)", "87.50"]


def test_single_runs_in_folders_of_ones_own_choice_are_systems_by_the_names_of_the_folders(
    good: Path, poor: Path, tmp_path: Path
) -> None:
    ours, theirs = (shutil.copytree(one / "fold=1/seed=0", tmp_path / one.name) for one in (good, poor))
    table = rows(cli(ours, theirs))
    assert list(table) == ["system", "good", "poor"]
    assert table["good"][:2] == ["75.00", "75.00"]  # u1 u2 u3 right, u4 wrong


def test_folds_in_folders_of_ones_own_choice_are_one_system(good: Path, poor: Path, tmp_path: Path) -> None:
    for system in (good, poor):
        for fold in FOLDS:
            shutil.copytree(system / f"fold={fold}/seed=0", tmp_path / "mine" / system.name / f"run {fold}")
    assert rows(cli(tmp_path / "mine")) == rows(cli(good, poor))


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"hash": "k"}, "different folds (c / p, hash h and c / p, hash k)"),
        ({"name": "q"}, "different folds (c / p, hash h and c / q, hash h)"),
        ({"part": "dev"}, "different part (test and dev)"),
    ],
)
def test_systems_of_other_utterances_are_refused(good: Path, tmp_path: Path, about: dict[str, str], says: str) -> None:
    other = scored(tmp_path / "exp/q/good", POOR, **about)
    said = refusal(good, other, "--out", tmp_path / "table.md")
    assert says in said
    assert "score both on the same folds" in said
    assert not (tmp_path / "table.md").exists()


def test_other_classes_are_refused(good: Path, poor: Path) -> None:
    path = poor / "fold=1/seed=0/metrics.json"
    write_json(path, {**read_json(path, ""), "classes": ["a", "c"]})
    assert "different classes (a, b and a, c)" in refusal(good, poor)


def test_a_run_that_a_system_lacks_is_named(good: Path, poor: Path) -> None:
    scored(good, RIGHT, "1")
    said = refusal(good, poor)
    assert f"{poor} lacks 2 of the runs that are compared, the first fold 1, seed 1" in said
    shutil.rmtree(good / "fold=2/seed=1")
    assert f"{good} lacks 1 of the runs" in refusal(good)
    assert rows(cli(good / "fold=2", poor / "fold=2"))["poor"][1] == "100.00"  # those that all have


@pytest.mark.parametrize("more", [{"id": "u9"}, {"seconds": 3.5}])
def test_other_utterances_in_a_fold_are_refused(good: Path, poor: Path, more: dict[str, object]) -> None:
    change(poor / "fold=2/seed=0", 0, **more)
    said = refusal(good, poor)
    assert f"{good} and {poor} (seed 0) have not scored the same utterances" in said
    assert "the first 'u5' of fold 2" in said
    assert "score both again" in said


def test_an_utterance_that_comes_twice_is_named(good: Path, poor: Path) -> None:
    path = poor / "fold=1/seed=0/scores.jsonl"
    path.write_text(path.read_text() + path.read_text())
    said = refusal(good, poor)
    assert f"{path}:5: id 'u1' comes twice" in said
    assert "sertk score" in said


def test_scores_that_are_missing_are_told_with_the_command(good: Path, poor: Path) -> None:
    path = poor / "fold=1/seed=0/scores.jsonl"
    path.unlink()
    assert f"{path} is missing. Run `sertk score RUN/model DATA --out RUN/scores.jsonl`" in refusal(good, poor)


def test_scores_of_before_durations_are_told_to_be_made_again(good: Path, poor: Path) -> None:
    change(poor / "fold=1/seed=0", 2, seconds=None)
    said = refusal(good, poor)
    assert "scores.jsonl: the score line of 'u3' lacks seconds; an older sertk wrote none" in said
    assert "--stage score --force" in said


def test_scores_that_are_not_those_of_the_metrics_are_refused(good: Path, poor: Path) -> None:
    change(poor / "fold=1/seed=0", 0, decision="b")
    assert "has other decisions than the metrics beside it count" in refusal(good, poor)
    change(poor / "fold=1/seed=0", 0, decision="c")
    assert "scores.jsonl:1: decision 'c' is not one of a, b" in refusal(good, poor)


def test_a_folder_without_runs_and_an_unknown_truth_are_refused(good: Path, poor: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert f"no metrics.json of a scored run in or below {tmp_path}/empty" in refusal(good, tmp_path / "empty")
    assert f"no such folder: {tmp_path}/gone. Give the folder of a run" in refusal(good, tmp_path / "gone")
    said = refusal(good, poor, "--truth", "god", code=2)
    assert "--truth 'god' is not one of the systems that are compared; did you mean 'good'?" in said


# --- intervals and the baseline --------------------------------------------------------------------------------------


def spoken(system: Path, decisions: str) -> Path:
    """A system of six speakers, who say a and b once each in fold 1."""
    scored(system, decisions[:6])
    shutil.rmtree(system / "fold=2")
    run = system / "fold=1/seed=0"
    lines = [
        {"schema": 1, "id": f"u{row}", "label": "ab"[row % 2], "seconds": 1.0, "decision": one, **FLAT}
        | {"speaker": f"s{row // 2}"}
        for row, one in enumerate(decisions)
    ]
    write_jsonl(run / "scores.jsonl", lines)
    content = {"utterances": 12, "confusion": read_scores(run / "scores.jsonl", "ab").confusion.tolist()}
    write_json(run / "metrics.json", {**read_json(run / "metrics.json", ""), **content})
    return system


def test_systems_are_tested_against_the_first_or_the_named_baseline(tmp_path: Path) -> None:
    low, high = spoken(tmp_path / "low", "aa" * 6), spoken(tmp_path / "high", "ab" * 6)
    done = cli(low, high, "--out", tmp_path / "table.md")
    assert "| 95 % by 6 speakers | WA | UA | precision | recall | F1 |" in done.stdout
    # all speakers have UA 50 and 100: every draw differs by 50, and of 64 swaps two do
    row = "| high | +50.0 UA, 95 % 50.0 to 50.0 by 6 speakers: apart | 0.0312 | 0.0312 |"
    assert row in done.stdout
    assert row in (tmp_path / "table.md").read_text()
    turned = cli(low, high, "--baseline", "high").stdout
    assert "| low | -50.0 UA, 95 % -50.0 to -50.0 by 6 speakers: apart |" in turned
    assert "McNemar" not in turned
    asked = cli(low, high, "--mcnemar").stdout
    assert "by 6 speakers: apart | 0.0312 | 0.0312 | 0.0312 |" in asked  # six clips that one alone has right
    clips = cli(low, high, "--by", "utterances").stdout
    assert "by 12 utterances |" in clips
    assert "apart" not in clips


def test_score_lines_without_a_speaker_are_refused_with_the_command(good: Path, poor: Path) -> None:
    change(poor / "fold=1/seed=0", 1, speaker=None)
    said = refusal(good, poor)
    assert "fold=1/seed=0/scores.jsonl:2: it lacks speaker. Run `sertk score RUN/model DATA --out RUN/scores" in said


def test_an_unknown_baseline_is_refused_and_unknown_speakers_leave_the_table(good: Path, poor: Path) -> None:
    said = refusal(good, poor, "--baseline", "por", code=2)
    assert "--baseline 'por' is not one of the systems that are compared; did you mean 'poor'?" in said
    text = cli(good, poor).stdout
    assert f"No intervals, as {good.name}, the baseline, has none: 'u1' (fold 1, seed 0) has no speaker." in text


def test_a_system_that_knows_the_speakers_is_compared_with_a_sentence(good: Path, tmp_path: Path) -> None:
    own = {"how": "disjoint", "n": [3, 9], "shrink": 10.0, "without": 0}
    heard = scored(tmp_path / "heard", POOR, speakers=own)
    done = cli(good, heard)
    assert done.exit_code == 0, done.output
    stamp = "speaker-independent, speaker-normalised (disjoint, n = 3 to 9 utterances a speaker, shrunk with k = 10)"
    assert f"- protocol of heard: c / p, {stamp}, part test, hash `h`" in done.stdout
    assert f"- protocol of {good.name}: c / p, speaker-independent, part test, hash `h`" in done.stdout
    assert "- **two settings stand side by side**: heard heard recordings" in done.stdout
    alone = cli(heard, scored(tmp_path / "other", RIGHT, speakers=own))
    assert "two settings" not in alone.stdout
    assert f"- protocol: c / p, {stamp}" in alone.stdout

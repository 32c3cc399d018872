"""`sertk report`: its tables, where it writes, what it publishes, and what it refuses to put side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.core import SertkError, UsageError
from sertk.core.files import read_json, write_json, write_jsonl
from sertk.results.drawing import FORMATS
from sertk.stages.report import report

FOLDS = {"1": [[4, 0], [2, 0]], "2": [[1, 1], [0, 2]]}
GUEST = '''
import math

from sertk.core import Metric
from sertk.hookspecs import hookimpl


class Doubt(Metric):
    """The mean of 1 - the greatest probability."""

    better = "lower"
    range = (0.0, math.inf)

    def __call__(self, scores):
        return float((1 - scores.prediction.posterior.amax(1)).mean())


class Moody(Metric):
    """Fails on six utterances."""

    def __call__(self, scores):
        if len(scores.ids) == 6:
            raise ValueError("six")
        return 0.25


class Never(Metric):
    """Fails."""

    def __call__(self, scores):
        return None


@hookimpl
def sertk_metrics():
    return {"doubt": Doubt, "moody": Moody, "never": Never}
'''


@pytest.fixture(autouse=True)
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time of a drawing is its PDF, of which these tests see nothing."""
    monkeypatch.delitem(FORMATS, "pdf")


def scored(
    folder: Path, counts: list[list[int]], fold: str = "1", seed: int = 0, settings: str = "x", **about: object
) -> Path:
    """A run of two classes as `sertk score` leaves it, in fold=F/seed=S below a folder."""
    return scored_in(folder / f"fold={fold}/seed={seed}", counts, fold, seed, settings, **about)


def scored_in(
    run: Path, counts: list[list[int]], fold: str = "1", seed: int = 0, settings: str = "x", **about: object
) -> Path:
    """The same in a folder of one's own choice; the probability of each decision is 0.6."""
    pairs = [
        (a, b) for a, row in zip("ab", counts, strict=True) for b, n in zip("ab", row, strict=True) for _ in [0] * n
    ]
    lines = [
        {"id": f"{fold}.{row}", "label": a, "speaker": None, "decision": b, "logits": [0.0, 0.0]}
        | {"posterior": [0.6, 0.4] if b == "a" else [0.4, 0.6]}
        for row, (a, b) in enumerate(pairs)
    ]
    write_jsonl(run / "scores.jsonl", lines)
    protocol = {"corpus": "c", "name": "p", "fold": fold, "hash": "h", "part": "test", "stamp": "speaker-independent"}
    trained = {"corpus": "c", "protocol": "p", "fold": fold, "hash": "h", "system": "s", "settings": settings}
    content = {"protocol": protocol | about, "trained": trained | {"seed": seed}, "utterances": len(lines)}
    write_json(run / "metrics.json", {**content, "classes": ["a", "b"], "confusion": counts})
    return run


def both(folder: Path) -> Path:
    """A system of two folds."""
    for fold, counts in FOLDS.items():
        scored(folder, counts, fold)
    return folder


# --- the tables ------------------------------------------------------------------------------------------------------


def test_the_tables_are_the_runs_their_summary_and_the_counts(tmp_path: Path) -> None:
    (path,) = report([both(tmp_path / "p/s")], command="sertk recipe x")
    assert path == tmp_path / "p/s/RESULTS.md"
    lines = path.read_text().splitlines()
    # fold 1: WA 4/6, recalls 1 and 0, precisions 4/6 and 0, F1 8/10 and 0; fold 2: WA 3/4, recalls 1/2 and 1,
    # precisions 1 and 2/3, F1 2/3 and 4/5; pooled: WA 7/10, recalls 5/6 and 2/4, precisions 5/7 and 2/3, F1 10/13, 4/7
    assert lines[:8] == [
        "# p / s",
        "",
        "| fold | seed | n | WA | UA | precision | recall | F1 |",
        "|---|---|---|---|---|---|---|---|",
        "| 1 | 0 | 6 | 66.67 | 50.00 | 33.33 | 50.00 | 40.00 |",
        "| 2 | 0 | 4 | 75.00 | 75.00 | 83.33 | 75.00 | 73.33 |",
        "| mean of 2 folds | 1 seed | | 70.83 | 62.50 | 58.33 | 62.50 | 56.67 |",
        "| pooled | 1 seed | | 70.00 | 66.67 | 69.05 | 66.67 | 67.03 |",
    ]
    assert lines[-4:] == ["| | a | b |", "|---|---|---|", "| a | 5 | 1 |", "| b | 2 | 2 |"]
    assert "- command: `sertk recipe x`" in lines
    assert (path.parent / "figures/confusion.png").read_bytes().startswith(b"\x89PNG")


def test_intervals_and_groups_stand_below_the_table_if_the_speakers_are_known(tmp_path: Path) -> None:
    both(tmp_path / "p/s")
    (path,) = report([tmp_path])
    assert (
        "\n\nNo intervals: '1.0' (fold 1, seed 0) has no speaker. Name the speakers in the manifest" in path.read_text()
    )
    for lines in tmp_path.rglob("scores.jsonl"):
        made = [json.loads(line) for line in lines.read_text().splitlines()]
        who = [f"{one['id'][0]}.{row % 3}" for row, one in enumerate(made)]
        write_jsonl(lines, [{**one, "speaker": name} for one, name in zip(made, who, strict=True)])
    (path,) = report([tmp_path])
    text = path.read_text()
    assert "\n- UA: pooled 66.7, 95 % " in text  # as in the table
    assert "by 6 speakers; mean of 2 folds 62.5, 95 % " in text
    assert "\n| recall of a | 6 | 83.3 | " in text


def test_score_lines_without_a_speaker_are_refused_with_the_command(tmp_path: Path) -> None:
    lines = scored(tmp_path / "p/s", FOLDS["1"]) / "scores.jsonl"
    lines.write_text(lines.read_text().replace('"speaker": null, ', ""))
    with pytest.raises(SertkError, match=r"scores\.jsonl:1: it lacks speaker\. Run `sertk score RUN/model DATA --out"):
        report([tmp_path])
    assert not (tmp_path / "p/s/RESULTS.md").exists()


def test_parameters_scoring_time_and_real_time_factor_are_told_where_they_are_known(tmp_path: Path) -> None:
    runs = [scored(tmp_path / "p/s", counts, fold) for fold, counts in FOLDS.items()]  # 6 and 4 utterances
    (path,) = report([tmp_path])
    assert "- scoring" not in path.read_text()
    assert "- parameters" not in path.read_text()
    for run, took, size in zip(runs, (2.5, 1.5), (3_000_000, 4_000_000), strict=True):
        write_json(run / "cost.json", {"seconds": 9.0, "parameters": size, "trained": 1234})
        lines = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
        write_jsonl(run / "scores.jsonl", [{**one, "seconds": 40.0} for one in lines])
        content = json.loads((run / "metrics.json").read_text())
        write_json(run / "metrics.json", {**content, "took": {"seconds": took, "from": "store", "batch": 7}})
    (path,) = report([tmp_path])
    assert "\n- parameters: 3.50 M, of which 1,234 are trained\n" in path.read_text()
    assert "- training" not in path.read_text()  # an older sertk did not say where
    first, second = (read_json(run / "cost.json", "") for run in runs)
    held = {"resumed": False, "device": "cpu, 1 thread", "memory": 1.5e9}
    write_json(runs[0] / "cost.json", {**first, **held})
    write_json(runs[1] / "cost.json", {**second, **held, "seconds": 12.0, "memory": 2.345e9})
    text = report([tmp_path])[0].read_text()
    assert "\n- training: 10.5 s a run on cpu, 1 thread, at most 2.35 GB of memory\n" in text
    write_json(runs[1] / "cost.json", {**second, **held, "resumed": True, "device": "A GPU", "gpu_memory": 5e8})
    text = report([tmp_path])[0].read_text()
    assert (
        "\n- training: 9.0 s a run on cpu, 1 thread and A GPU, at most 1.50 GB of memory and 0.50 GB of the GPU's; 1"
        in text
    )
    assert "GPU's; 1 of 2 runs went on after a stop, and their time is not known\n" in text
    # 4 s for 10 utterances of 40 s
    said = (
        "\n- scoring: 4.0 s for 400 s of audio, real-time factor 0.01, from stored features: not the time that a file"
    )
    assert f"{said} of yours takes; 7 utterances at once\n" in path.read_text()
    for run in runs:  # 0.03 s for the same 400 s
        write_json(run / "metrics.json", {**json.loads((run / "metrics.json").read_text()), "took": {"seconds": 0.015}})
    assert "real-time factor 0.000075" in report([tmp_path])[0].read_text()
    for run in runs:
        took = {"seconds": 2.5, "from": "store", "batch": 7}
        write_json(run / "metrics.json", {**json.loads((run / "metrics.json").read_text()), "took": took})
    content = json.loads((runs[0] / "metrics.json").read_text())
    write_json(runs[0] / "metrics.json", {**content, "failed": 1, "inputs": 7})  # its seconds are not known
    other = json.loads((runs[1] / "metrics.json").read_text())
    write_json(runs[1] / "metrics.json", {word: value for word, value in other.items() if word != "took"})
    (path,) = report([tmp_path])
    assert "\n- scoring: 2.5 s, 1 of 2 runs, from stored features" in path.read_text()


def test_a_class_that_no_run_decided_for_is_named_below_the_table(tmp_path: Path) -> None:
    scored(tmp_path / "p/s", [[4, 0], [2, 0]], "1")
    (path,) = report([tmp_path])
    assert "\n\nNever decided: b.\n\n" in path.read_text()
    scored(tmp_path / "p/s", [[1, 1], [1, 0]], "2")  # decided once, though wrongly
    (path,) = report([tmp_path])
    assert "Never decided" not in path.read_text()


def test_a_class_without_utterances_is_not_missed(tmp_path: Path) -> None:
    (path,) = report([scored(tmp_path / "p/s", [[4, 0], [0, 0]])])
    assert "Never decided" not in path.read_text()


def test_seeds_with_lacking_folds_are_told_as_incomplete(tmp_path: Path) -> None:
    for fold, seed in (("1", 0), ("2", 0), ("1", 1)):
        scored(tmp_path / "p/s", [[1, 0], [0, 1]], fold, seed)
    (path,) = report([tmp_path])
    assert "**incomplete**: runs that are missing: 1, the first fold 2, seed 1" in path.read_text()
    assert "| mean of 2 folds | 2 seeds | | 100.00 ± 0.00 |" in path.read_text()


def test_inputs_that_failed_are_told_below_the_table(tmp_path: Path) -> None:
    for fold, counts in FOLDS.items():  # of 6 and of 4
        run = scored(tmp_path / "p/s", counts, fold)
        content = json.loads((run / "metrics.json").read_text())
        if fold == "2":
            write_json(run / "metrics.json", {**content, "failed": 8, "inputs": 12})
    (path,) = report([tmp_path])
    assert "|\n\n**8 of 18 failed** and no figure counts them; the first are of fold 2, seed 0" in path.read_text()


def test_metrics_of_a_plugin_file_are_further_columns_and_those_that_fail_are_named(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text(GUEST)
    done = CliRunner().invoke(app, ["report", str(both(tmp_path / "p/s")), "--plugin", str(tmp_path / "guest.py")])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    assert "a metric is skipped: metric 'never' of guest.py sha256" in said
    assert "gave a NoneType; expected a finite float" in said
    assert said.count("a metric is skipped: metric 'moody' of guest.py sha256") == 1
    lines = (tmp_path / "p/s/RESULTS.md").read_text().splitlines()
    assert lines[2:8] == [
        "| fold | seed | n | WA | UA | precision | recall | F1 | doubt | moody |",
        "|---|---|---|---|---|---|---|---|---|---|",
        "| 1 | 0 | 6 | 66.67 | 50.00 | 33.33 | 50.00 | 40.00 | 0.4000 | – |",
        "| 2 | 0 | 4 | 75.00 | 75.00 | 83.33 | 75.00 | 73.33 | 0.4000 | 25.00 |",
        "| mean of 2 folds | 1 seed | | 70.83 | 62.50 | 58.33 | 62.50 | 56.67 | 0.4000 | – |",
        "| pooled | 1 seed | | 70.00 | 66.67 | 69.05 | 66.67 | 67.03 | 0.4000 | 25.00 |",
    ]
    assert "doubt: 0 to infinity, lower is better. moody: percent, 0 to 100, higher is better." in lines[9]


# --- where it writes -------------------------------------------------------------------------------------------------


def test_runs_in_folders_of_ones_own_choice_are_reported_in_the_folder_that_holds_them(tmp_path: Path) -> None:
    runs = [scored_in(tmp_path / f"work/mine/run {fold}", counts, fold) for fold, counts in FOLDS.items()]
    (path,) = report(runs)
    assert path == tmp_path / "work/mine/RESULTS.md"
    lines = path.read_text().splitlines()
    assert lines[0] == "# p / mine"
    assert lines[6] == "| mean of 2 folds | 1 seed | | 70.83 | 62.50 | 58.33 | 62.50 | 56.67 |"
    assert sorted(one.name for one in (tmp_path / "work").iterdir()) == ["mine"]
    made = sorted(one.name for one in (tmp_path / "work/mine").iterdir())
    assert made == ["RESULTS.md", "figures", "report.html", "run 1", "run 2"]


def test_runs_that_are_far_apart_are_reported_where_the_user_says(tmp_path: Path) -> None:
    runs = [scored_in(tmp_path / f"disk{fold}/deep/run", counts, fold) for fold, counts in FOLDS.items()]
    with pytest.raises(UsageError, match=rf"nothing but {tmp_path} in common\. Give the folder for RESULTS.md: --out"):
        report(runs)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["disk1", "disk2"]
    assert report(runs, out=tmp_path / "here") == [tmp_path / "here/RESULTS.md"]
    assert (tmp_path / "here/figures/confusion.png").is_file()
    assert report([tmp_path]) == [tmp_path / "RESULTS.md"]  # named by the user


def test_runs_that_a_recipe_names_are_reported_in_its_system_folder(tmp_path: Path) -> None:
    runs = [scored(tmp_path / "exp/p/s", counts, fold) for fold, counts in FOLDS.items()]
    assert report(runs) == [tmp_path / "exp/p/s/RESULTS.md"]


def test_results_of_something_else_are_never_written_over(tmp_path: Path) -> None:
    runs = [scored_in(tmp_path / f"run{fold}", counts, fold) for fold, counts in FOLDS.items()]
    (tmp_path / "RESULTS.md").write_text("# c: results\n\n## p / s\n")
    with pytest.raises(UsageError, match=r"RESULTS\.md is of something else than p / .*--out"):
        report(runs)
    assert (tmp_path / "RESULTS.md").read_text() == "# c: results\n\n## p / s\n"
    ours, theirs = (scored_in(tmp_path / f"two/{name}", FOLDS["1"], settings=name) for name in ("a", "b"))
    with pytest.raises(UsageError, match=r"--out .* is for the results of one system, and here are several"):
        report([ours, theirs], out=tmp_path / "out")


def test_scores_on_another_corpus_have_a_section_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    own = scored_in(tmp_path / "a/s", FOLDS["1"])
    report([own], publish=path)
    other = scored_in(tmp_path / "b/s", FOLDS["2"])
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["protocol"] |= {"corpus": "d", "hash": "y"}  # the protocol has the same name there
    (other / "metrics.json").write_text(json.dumps(metrics))
    report([other], publish=path)
    titles = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert titles == ["# c: results", "## p / s", "## p / s (trained on c / p)"]


def test_two_systems_of_a_run_each_are_reported_each_in_its_own_folder(tmp_path: Path) -> None:
    ours, theirs = (scored_in(tmp_path / name, FOLDS["1"], settings=name) for name in ("ours", "theirs"))
    assert report([ours, theirs]) == [ours / "RESULTS.md", theirs / "RESULTS.md"]
    assert not list(tmp_path.glob("*.md"))


def test_the_systems_below_a_folder_are_reported_each_in_its_own(tmp_path: Path) -> None:
    for name in ("s", "s+tag"):
        scored(tmp_path / "exp/p" / name, FOLDS["1"], settings=name)
    assert report([tmp_path / "exp"]) == [tmp_path / f"exp/p/{name}/RESULTS.md" for name in ("s", "s+tag")]


# --- what it publishes -----------------------------------------------------------------------------------------------


def test_a_section_is_published_where_it_is_asked_for_and_replaces_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "recipe/RESULTS.md"
    path.parent.mkdir()
    system, other = both(tmp_path / "p/s"), scored(tmp_path / "p/s+tag", FOLDS["2"], settings="y").parents[1]
    assert report([system], publish=path) == [system / "RESULTS.md", path]
    report([other], publish=path)
    first = path.read_text()
    assert [line for line in first.splitlines() if line.startswith("#")] == ["# c: results", "## p / s", "## p / s+tag"]
    report([other], command="another", publish=path)
    again = path.read_text()
    assert again == first.replace("- command: `sertk report s+tag`", "- command: `another`")
    assert again.count("- command: `another`") == 1


def test_published_text_as_it_stood_before_is_read_and_replaced(tmp_path: Path) -> None:
    from sertk.settings.packaged import egs

    old = (egs() / "emodb/RESULTS.md").read_text()
    (tmp_path / "RESULTS.md").write_text(old)
    run = _of_emodb(tmp_path / "whisper-probe", "95a7bc88a1af1f2b")
    report([run], publish=tmp_path / "RESULTS.md")
    new = (tmp_path / "RESULTS.md").read_text()
    before, titles = ([line for line in text.splitlines() if line.startswith("## ")] for text in (old, new))
    assert sorted(titles) == sorted(before)
    assert "## loso4 / whisper-probe+refit" in before
    assert new.count("| mean of 1 fold |") == 1
    for section in re.split(r"^(?=## )", old, flags=re.MULTILINE)[1:]:
        assert (section.strip() in new) == (not section.startswith("## loso4 / whisper-probe\n"))
    _of_emodb(run, "0" * 16)
    with pytest.raises(SertkError, match=f"different folds of emodb / loso4 .hash 95a7bc88a1af1f2b and {'0' * 16}"):
        report([run], publish=tmp_path / "RESULTS.md")


def _of_emodb(folder: Path, fold_hash: str) -> Path:
    run = scored_in(folder, FOLDS["1"], corpus="emodb", name="loso4", hash=fold_hash)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["trained"] |= {"corpus": "emodb", "protocol": "loso4"}
    (run / "metrics.json").write_text(json.dumps(metrics))
    return run


def test_what_cannot_be_published_is_refused(tmp_path: Path) -> None:
    run = scored_in(tmp_path / "a", FOLDS["1"])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("corpus: c\n")
    with pytest.raises(UsageError, match=r"recipe.yaml is no RESULTS\.md\. Give the one of the recipe"):
        report([run], publish=recipe)
    assert recipe.read_text() == "corpus: c\n"
    assert not (run / "RESULTS.md").exists()
    metrics = (run / "metrics.json").read_text().replace('"corpus": "c",\n  "name": "p",', "", 1)
    (run / "metrics.json").write_text(metrics)
    with pytest.raises(SertkError, match="its scores are of no protocol"):
        report([run], publish=tmp_path / "RESULTS.md")


def test_systems_are_a_table_for_a_paper_and_runs_are_rows_for_programs(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text(GUEST)
    systems = [both(tmp_path / "p/s_1"), scored(tmp_path / "p/t", FOLDS["1"], settings="y").parents[1]]
    words = ["--latex", str(tmp_path / "t.tex"), "--csv", str(tmp_path / "t.csv")]
    plugin = ["--plugin", str(tmp_path / "guest.py")]
    done = CliRunner().invoke(app, ["report", *map(str, systems), *words, *plugin])
    assert done.exit_code == 0, done.output
    tex = (tmp_path / "t.tex").read_text().splitlines()
    protocol = "c / p, speaker-independent, part test, hash `h`"
    assert tex[:2] == [f"% {name}: {protocol}" for name in ("p / s_1", "p / t")]
    tex = tex[2:]
    assert tex[0] == r"\begin{tabular}{lrrrrrrrr}"
    assert tex[2] == r"system & WA & UA & precision & recall & F1 & doubt & moody & UA, 95 \% \\"
    # 7 of 10 right, recalls 5/6 and 2/4, see above; no speaker is known
    assert tex[4] == r"p / s\_1 & 70.00 & 66.67 & 69.05 & 66.67 & 67.03 & 0.4000 & 25.00 & – \\".replace("–", "--")
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        "system,fold,seed,n,WA,UA,precision,recall,F1,doubt,moody,protocol",
        f'p / s_1,1,0,6,66.66666667,50.0,33.33333333,50.0,40.0,0.4,,"{protocol}"',
        f'p / s_1,2,0,4,75.0,75.0,83.33333333,75.0,73.33333333,0.4,25.0,"{protocol}"',
        f'p / t,1,0,6,66.66666667,50.0,33.33333333,50.0,40.0,0.4,,"{protocol}"',
    ]


def test_a_table_for_a_paper_names_the_corpora_and_marks_what_is_no_plain_test(tmp_path: Path) -> None:
    saw = {"folds": ["3"], "nested": False, "saw": ["s1"]}
    abouts = [
        {},
        {"corpus": "d"},
        {"corpus": "e", "stamp": "SPEAKER-DEPENDENT", "searched": saw},
        {"corpus": "f", "part": "dev"},
    ]
    for number, about in enumerate(abouts):
        scored(tmp_path / f"{number}/p/s", FOLDS["1"], settings=str(number), failed=0, **about)
    path = tmp_path / "2/p/s/fold=1/seed=0/metrics.json"
    write_json(path, {**json.loads(path.read_text()), "failed": 2, "inputs": 8})
    tex, csv = tmp_path / "t.tex", tmp_path / "t.csv"
    report([tmp_path / str(number) for number in range(len(abouts))], tex=tex, csv=csv)
    names = [
        "c / p / s",
        "d / p / s (trained on c / p)",
        "e / p / s (trained on c / p) (SPEAKER-DEPENDENT, SETTINGS SAW TEST SPEAKERS)",
        "f / p / s (trained on c / p) (part dev)",
    ]
    text = tex.read_text()
    assert [line.split(" & ")[0] for line in text.splitlines() if line[1:5] == " / p"] == names
    protocol = "e / p, SPEAKER-DEPENDENT, settings searched on dev of fold 3, SETTINGS SAW TEST SPEAKERS of other folds"
    assert f"\n% {names[2]}: {protocol}, part test, hash `h`\n" in text
    assert f"\n% {names[2]}: **2 of 8 failed** and no figure counts them" in text
    rows = csv.read_text().splitlines()
    assert [row.partition(",1 on 1,")[0].strip('"') for row in rows[2:]] == names[1:]
    assert f'"{protocol}, part test, hash `h`"' in rows[3]


@pytest.mark.parametrize(("option", "suffix"), [("tex", ".tex"), ("csv", ".csv")])
def test_a_table_is_not_written_over_something_else(tmp_path: Path, option: str, suffix: str) -> None:
    run = scored_in(tmp_path / "a", FOLDS["1"])
    with pytest.raises(UsageError, match=rf"metrics\.json does not end in {suffix}\. Give FILE{suffix}"):
        report([run], **{option: run / "metrics.json"})
    assert not (run / "RESULTS.md").exists()


# --- what it refuses -------------------------------------------------------------------------------------------------


def test_runs_on_different_folds_are_not_reported_together(tmp_path: Path) -> None:
    for fold, hash_ in (("1", "x"), ("2", "y")):
        scored(tmp_path / "p/s", [[1, 0], [0, 1]], fold, hash=hash_)
    with pytest.raises(SertkError, match=r"mixes runs of different hash \(x, y\)"):
        report([tmp_path])


def test_a_report_refuses_two_states_of_the_folds_under_one_name(tmp_path: Path) -> None:
    for system, sha in (("a", "1" * 16), ("b", "2" * 16)):
        scored(tmp_path / "exp/p" / system, [[1, 0], [0, 1]], settings=system, hash=sha)
    with pytest.raises(SertkError, match=f"different folds of c / p .hash {'1' * 16} and {'2' * 16}"):
        report([tmp_path / "exp"])
    assert report([tmp_path / "exp" / "p" / "a"])


def test_a_system_that_knows_the_speakers_is_stamped_in_all_that_is_written(tmp_path: Path) -> None:
    own = {"how": "transductive", "n": [3, 9], "shrink": 10.0, "without": 1}
    run = scored(tmp_path / "p/s", FOLDS["1"], speakers=own)
    report([run], tex=tmp_path / "t.tex", csv=tmp_path / "t.csv", publish=tmp_path / "RESULTS.md")
    said = (
        "speaker-independent, speaker-normalised (transductive, n = 3 to 9 utterances a speaker, shrunk with k = 10, "
        "1 utterances without a known speaker)"
    )
    for path in (tmp_path / "p/s/RESULTS.md", tmp_path / "p/s/report.html", tmp_path / "RESULTS.md"):
        assert said in path.read_text()
    for path in (tmp_path / "t.tex", tmp_path / "t.csv"):
        assert "p / s (speaker-normalised)" in path.read_text()

"""Tables of sweeps: the figures of made-up runs against numbers worked by hand, and what is said of what is missing."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from sertk.core import SertkError, UsageError
from sertk.core.files import part_of, read_json, write_json, write_jsonl
from sertk.results.lines import read_scores
from sertk.results.sweeps import Line
from sertk.results.tables import markdown
from sertk.settings.schema import Component
from sertk.settings.sweep import Cell, Paper, Row, Sweep
from sertk.stages.tabulate import Part, tabulate

# id, label, speaker and duration of the utterances, by fold; class c has none, and is decided for
FOLDS = {
    "1": [
        ("u1", "a", "s10", 3.0),
        ("u2", "a", "s10", 10.0),
        ("u3", "b", "s9", 12.0),
        ("u4", "b", "s9", 4.0),
        ("u7", "b", "s9", 10.5),
    ],
    "2": [("u5", "a", "s2", 11.0), ("u6", "b", "s9", 9.0)],
}
# decisions of three seeds on them in this order, fold by fold
#   UA seed 0: fold 1 (2/2 + 2/3) / 2, fold 2 1; mean 11/12; pooled (3/3 + 3/4) / 2
#   UA seed 1: fold 1 (1/2 + 3/3) / 2, fold 2 1/2; mean 5/8; pooled (1/3 + 4/4) / 2
#   UA seed 2: fold 1 (2/2 + 2/3) / 2, fold 2 1/2; mean 2/3; pooled (3/3 + 2/4) / 2
BEST = {"0": ("aabbc", "ab"), "1": ("abbbb", "bb"), "2": ("aaabb", "aa")}
POOR = {"0": ("aaabb", "bb")}
FLAT = {"posterior": [0.2, 0.4, 0.4], "logits": [0.0, 0.5, 0.5]}
EVERY = tuple((fold, seed) for seed in BEST for fold in FOLDS)
UA, WA = Component("ua"), Component("wa")


def run_of(system: Path, fold: str, seed: str) -> Path:
    return system / f"fold={part_of(fold)}" / f"seed={seed}"


def scored(run: Path, fold: str, seed: str, decisions: str, part: str = "test", **about: object) -> None:
    """The score files of a run, as `sertk score` writes them."""
    lines = [
        {"schema": 1, "id": i, "label": label, "speaker": speaker, "seconds": seconds, "decision": own, **FLAT}
        for (i, label, speaker, seconds), own in zip(FOLDS[fold], decisions, strict=True)
    ]
    path = run / ("scores.jsonl" if part == "test" else f"{part}.jsonl")
    write_jsonl(path, lines)
    protocol = {"corpus": "c", "name": "p", "hash": "h", "part": part, "stamp": "speaker-independent", "fold": fold}
    trained = {"corpus": "c", "protocol": "p", "hash": "h", "system": "s", "settings": "x"}
    content = {
        "classes": ["a", "b", "c"],
        "utterances": len(lines),
        "confusion": read_scores(path, "abc").confusion.tolist(),
    }
    content |= {"protocol": {**protocol, **about}, "trained": {**trained, "fold": fold, "seed": int(seed)}}
    content |= {"took": {"seconds": 2.0 * len(lines) + int(seed), "from": "store", "batch": 5}}
    write_json(run / ("metrics.json" if part == "test" else f"{part}.metrics.json"), content)


def system_of(folder: Path, seeds: Mapping[str, tuple[str, ...]] = BEST, dev: float = 0.5) -> Path:
    """A system with its trained and scored runs; dev scores grow by the fold and the seed."""
    for seed, folds in seeds.items():
        for fold, decisions in zip(FOLDS, folds, strict=False):
            run = run_of(folder, fold, seed)
            score = dev + 0.1 * (fold == "2") + 0.01 * int(seed)
            write_json(run / "model/bundle.json", {"training": {"epoch": 3, "dev": {"ua": score}}})
            write_json(run / "cost.json", {"seconds": 10.0 + int(seed), "parameters": 1_234_567, "trained": 9876})
            scored(run, fold, seed, decisions)
    return folder


def line(
    folder: Path | None,
    row: str | None = None,
    runs: Sequence[tuple[str, str]] = EVERY,
    *,
    swept: Mapping[str, object] | None = None,
    no: str = "",
) -> Line:
    return Line(row or (folder.name if folder else ""), swept or {}, folder, tuple(runs), no)


def sweep(cells: Mapping[str, Cell], rows: Mapping[str, Row], **more: object) -> Sweep:
    return Sweep(title="T", cells=cells, rows=rows, **more)


class Made:
    """The files of a table, read again."""

    def __init__(self, out: Path, *parts: Part) -> None:
        self.files = [path.relative_to(out).as_posix() for path in tabulate(parts, out)]
        self.text = (out / "table.md").read_text()
        grid = [[cell.strip() for cell in one.split("|")[1:-1]] for one in self.text.splitlines() if one[:1] == "|"]
        self.head = grid[0]
        self.rows = {row[0]: dict(zip(grid[0], row, strict=True)) for row in grid[2:]}
        with (out / "table.csv").open() as file:
            self.numbers = {one["row"]: one for one in csv.DictReader(file)}
        self.out = out


def made(out: Path, one: Sweep, *lines: Line, notes: Sequence[str] = ()) -> Made:
    return Made(out, Part("C", one, lines, notes))


@pytest.fixture
def best(tmp_path: Path) -> Path:
    return system_of(tmp_path / "exp/p/best")


# --- figures ---------------------------------------------------------------------------------------------------------


def test_figures_are_of_the_mean_of_folds_or_pooled_with_the_deviation_over_seeds(best: Path, tmp_path: Path) -> None:
    cells = {"UAR": Cell(), "pooled": Cell(how="pooled"), "accuracy": Cell(metric=WA)}
    row = Row(paper={"UAR": 70.5, "pooled": 80})
    found = made(tmp_path / "out", sweep(cells, {"best": row}), line(best))
    own = found.rows["best"]
    assert own["n"] == "6"
    # 11/12, 5/8, 2/3: mean 0.736111, deviation of the population 0.128800
    assert (own["UAR"], own["UAR max"]) == ("73.61 ± 12.88", "91.67")
    assert (own["UAR paper"], own["UAR difference"]) == ("70.5", "+3.11")
    # 7/8, 2/3, 3/4: mean 0.763889, deviation 0.085617
    assert (own["pooled"], own["pooled paper"], own["pooled difference"]) == ("76.39 ± 8.56", "80", "-3.61")
    # (4/5 + 2/2) / 2, (4/5 + 1/2) / 2, (4/5 + 1/2) / 2; nothing was printed of it
    assert own["accuracy"] == "73.33 ± 11.79"
    assert "accuracy paper" not in found.head
    numbers = {name: float(value) for name, value in found.numbers["best"].items() if name.startswith("UAR")}
    expected = {"mean": 73.611111, "sd": 12.880003, "max": 91.666667, "n": 6, "paper": 70.5, "difference": 3.111111}
    assert numbers == {f"UAR {name}": pytest.approx(value, abs=1e-4) for name, value in expected.items()}


def test_a_single_seed_has_neither_deviation_nor_maximum(tmp_path: Path) -> None:
    found = made(
        tmp_path / "out",
        sweep({"UAR": Cell()}, {"poor": Row()}),
        line(system_of(tmp_path / "poor", POOR), runs=EVERY[:2]),
    )
    # fold 1 (2/2 + 2/3) / 2, fold 2 (0 + 1) / 2
    assert found.head == ["row", "n", "UAR", "dev UA"]
    assert found.rows["poor"] == {"row": "poor", "n": "2", "UAR": "66.67", "dev UA": "55.00"}
    assert (found.numbers["poor"]["UAR sd"], found.numbers["poor"]["UAR mean"]) == ("", "66.66666667")


def test_the_dev_score_that_selects_stands_beside_the_metric_that_it_is_of(best: Path, tmp_path: Path) -> None:
    cells = {"accuracy": Cell(metric=WA), "UAR": Cell(), "short": Cell(upto=10)}
    found = made(tmp_path / "out", sweep(cells, {"best": Row()}), line(best))
    assert found.head == ["row", "n", "accuracy", "accuracy max", "UAR", "UAR max", "dev UA", "short", "short max"]
    # 0.55, 0.56, 0.57: the mean of the folds of each seed
    assert found.rows["best"]["dev UA"] == "56.00 ± 0.82"
    other = made(tmp_path / "other", sweep({"accuracy": Cell(metric=WA)}, {"best": Row()}), line(best))
    assert other.head == [
        "row",
        "n",
        "accuracy",
        "accuracy max",
        "dev UA",
    ]  # selected by another metric: once, at the end


def test_a_cell_of_dev_takes_the_place_of_the_dev_column(best: Path, tmp_path: Path) -> None:
    for fold, seed in EVERY:
        scored(run_of(best, fold, seed), fold, seed, "aaaaa"[: len(FOLDS[fold])], "dev")
    cells = {"UAR": Cell(), "on dev": Cell(part="dev")}
    found = made(tmp_path / "out", sweep(cells, {"best": Row()}), line(best))
    assert found.head == ["row", "n", "UAR", "UAR max", "on dev", "on dev max"]
    assert found.rows["best"]["on dev"] == "50.00 ± 0.00"
    assert "part test" in found.text
    assert "part dev" in found.text


def test_a_figure_by_speaker_is_of_the_pooled_folds_and_its_mean_is_of_the_speakers(best: Path, tmp_path: Path) -> None:
    paper = {"s9": 70.0, "s10": 80.0, "s11": 1.0, "mean": 76.0}
    rows = {"best": Row(paper={"UA": paper}), "human": Row(quoted={"UA": {"s2": 66.5, "s9": 71.2}}, source="Haq 2009")}
    found = made(tmp_path / "out", sweep({"UA": Cell(how="speaker")}, rows), line(best), line(None, "human", ()))
    names = [head for head in found.head if re.fullmatch(r"UA (s\d+|mean)", head)]
    assert names == ["UA s2", "UA s9", "UA s10", "UA s11", "UA mean"]
    own, human = found.rows["best"], found.rows["human"]
    # s9 has utterances in both folds: 3/4, 4/4, 2/4; the mean of its folds would be 5/6 in seed 0
    assert (own["UA s2"], own["UA s9"], own["UA s10"]) == ("66.67 ± 47.14", "75.00 ± 20.41", "83.33 ± 23.57")
    assert (own["UA s11"], own["UA s11 paper"], own["UA s11 difference"]) == ("–", "1.0", "–")
    # of the speakers, seed by seed: 2.75/3, 1.5/3, 2.5/3
    assert (own["UA mean"], own["UA mean max"], own["UA mean difference"]) == ("75.00 ± 18.00", "91.67", "-1.00")
    assert own["UA s9 difference"] == "+5.00"
    assert (human["n"], human["UA s2"], human["UA s9"], human["UA s10"], human["UA mean"]) == (
        "quoted",
        "66.5",
        "71.2",
        "",
        "",
    )
    assert "- human is quoted: Haq 2009" in found.text
    assert (found.numbers["human"]["source"], found.numbers["human"]["UA s9 mean"]) == ("Haq 2009", "71.2")


def test_chance_decides_for_the_most_frequent_class_of_what_is_scored(best: Path, tmp_path: Path) -> None:
    # fold 1 is a a b b b: accuracy 3/5, recalls 0 and 1; fold 2 is a b, of which the first is taken: 1/2, and 1 and 0
    cells = {"WA": Cell(WA), "UA": Cell(UA), "pooled": Cell(WA, how="pooled")}
    rows = {"chance": Row(chance=True), "best": Row()}
    found = made(tmp_path / "out", sweep(cells, rows), line(None, "chance", ()), line(best))
    own = found.rows["chance"]
    # pooled, b is the most frequent: 4 of 7
    assert (own["n"], own["WA"], own["UA"], own["pooled"]) == ("", "55.00", "50.00", "57.14")
    assert own["dev UA"] == ""
    assert "- chance: the most frequent class of what is scored, for every utterance" in found.text
    assert "partial" not in found.text


def test_chance_has_one_class_for_all_that_a_figure_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the folds have 2 a and 1 b, and 1 a and 2 b: a class for each fold would have 4 of 6 of the pooled folds right
    clips = {"1": [("u1", "a", "x"), ("u2", "a", "y"), ("u3", "b", "y")]}
    clips["2"] = [("u4", "a", "x"), ("u5", "b", "z"), ("u6", "b", "x")]
    monkeypatch.setitem(FOLDS, "1", [(*one, 1.0) for one in clips["1"]])
    monkeypatch.setitem(FOLDS, "2", [(*one, 1.0) for one in clips["2"]])
    best = system_of(tmp_path / "best", {"0": ("aab", "abb")})
    cells = {"UA": Cell(how="pooled"), "WA": Cell(WA, how="pooled"), "of": Cell(WA, how="speaker"), "mean": Cell(WA)}
    rows = {"chance": Row(chance=True), "best": Row()}
    found = made(tmp_path / "out", sweep(cells, rows), line(None, "chance", ()), line(best, runs=EVERY[:2]))
    own = found.rows["chance"]
    assert (own["UA"], own["WA"], own["mean"]) == ("50.00", "50.00", "66.67")
    # x has 2 a and 1 b, y one of each, z one b
    assert (own["of x"], own["of y"], own["of z"]) == ("66.67", "50.00", "100.00")


def test_chance_has_no_figure_where_nothing_is_scored(tmp_path: Path) -> None:
    rows = {"chance": Row(chance=True), "best": Row()}
    found = made(tmp_path / "out", sweep({"UA": Cell()}, rows), line(None, "chance", ()), line(tmp_path / "no", "best"))
    assert found.rows["chance"]["UA"] == ""


def test_a_cell_may_be_of_some_speakers_alone(best: Path, tmp_path: Path) -> None:
    # s9 has u3 u4 u7 of fold 1 and u6 of fold 2, all b
    cells = {
        "s9": Cell(WA, how="pooled", only={"speaker": ("s9",)}),
        "others": Cell(WA, only={"speaker": ("s2", "s10")}),
        "odd": Cell(WA, how="pooled", only={"speaker": ("s9", "s99")}),
        "nobody": Cell(WA, only={"speaker": ("s99",)}),
    }
    found = made(tmp_path / "out", sweep(cells, {"best": Row()}), line(best))
    # pooled 3/4, 4/4, 2/4 as above; the others are u1 u2 (2/2, 1/2, 2/2) and u5 (1, 0, 1): 1, 1/4, 1
    assert (found.rows["best"]["s9"], found.rows["best"]["others"]) == ("75.00 ± 20.41", "75.00 ± 35.36")
    assert found.rows["best"]["odd"] == found.rows["best"]["s9"]
    said = re.findall("- .*, (?:utterances of|no utterance).*", found.text)
    assert [one.split(", ", 2)[-1] for one in said] == [
        "utterances of speaker s9",
        "utterances of speaker s2, s10",
        "utterances of speaker s9, none is of speaker s99",
        "no utterance, none is of speaker s99",
    ]


@pytest.mark.filterwarnings("error")
def test_a_plot_without_a_point_is_not_drawn(best: Path, tmp_path: Path) -> None:
    cells = {"UA": Cell(), "loss": Cell(part="dev", epochs="loss")}
    found = made(tmp_path / "out", sweep(cells, {"best": Row()}), line(best))
    assert found.files == ["table.md", "table.csv", "table.tex"]
    assert "loss: 6 runs did not measure train and dev after each epoch" in found.text
    assert "figures" not in found.text


def test_curves_over_epochs_are_of_the_logs(best: Path, tmp_path: Path) -> None:
    for fold, seed in EVERY:
        epochs = [(0.5 + 0.1 * int(seed), 0.4), (0.7 - 0.1 * int(seed), 0.3)]
        log = [
            {
                "epoch": n + 1,
                "dev": wa,
                "curves": {"train": {"loss": loss, "wa": 1.0}, "dev": {"loss": loss + 1, "wa": wa}},
            }
            for n, (wa, loss) in enumerate(epochs)
        ]
        write_jsonl(run_of(best, fold, seed) / "log.jsonl", log)
    cells = {"UA": Cell(), "accuracy": Cell(part="dev", epochs="wa"), "loss": Cell(part="train", epochs="loss")}
    found = made(tmp_path / "out", sweep(cells, {"best": Row()}), line(best))
    assert "accuracy" not in found.head
    # seeds 0, 1, 2 have 50, 60, 70 after the first epoch and 70, 60, 50 after the second; equal means, so the first
    assert "- best: best on dev: epoch 1, 60.00 ± 8.16; last: 2, 60.00 ± 8.16" in found.text
    assert "- best: best on dev: epoch 1, 0.4000; last: 2, 0.3000" in found.text
    rows = list(csv.DictReader((found.out / "figures/loss.csv").open()))
    assert [(one["epoch"], one["mean"]) for one in rows] == [("1", "0.4"), ("2", "0.3")]
    assert (found.out / "figures/accuracy.png").stat().st_size > 0


def test_a_figure_by_fold_has_a_column_a_fold(best: Path, tmp_path: Path) -> None:
    found = made(tmp_path / "out", sweep({"UA": Cell(how="fold")}, {"best": Row()}), line(best))
    own = found.rows["best"]
    # 5/6, 3/4, 5/6 and 1, 1/2, 1/2
    assert (own["UA 1"], own["UA 2"], own["UA mean"]) == ("80.56 ± 3.93", "66.67 ± 23.57", "73.61 ± 12.88")


def test_an_utterance_without_speaker_is_named_where_a_figure_is_by_speaker(best: Path, tmp_path: Path) -> None:
    path = run_of(best, "1", "0") / "scores.jsonl"
    path.write_text(path.read_text().replace('"s10"', "null", 1))
    with pytest.raises(SertkError, match=r"no speaker \('u1'\), and a cell is by speaker"):
        made(tmp_path / "out", sweep({"UA": Cell(how="speaker")}, {"best": Row()}), line(best))


def test_an_utterance_of_just_the_limit_is_a_short_one(best: Path, tmp_path: Path) -> None:
    cells = {
        "short": Cell(how="pooled", upto=10),  # u1, u2 (10 s), u4, u6: UA 1, 3/4, 3/4
        "long": Cell(metric=WA, how="pooled", beyond=10),  # u3, u5, u7: two of three in each seed
        "between": Cell(metric=WA, how="pooled", beyond=9, upto=10.5),  # u2, u7: 1/2, 1/2, 2/2
        "first": Cell(upto=3.5),  # u1 alone, in fold 1
    }
    found = made(tmp_path / "out", sweep(cells, {"best": Row()}), line(best))
    own = found.rows["best"]
    assert (own["short"], own["long"], own["between"]) == ("83.33 ± 11.79", "66.67 ± 0.00", "66.67 ± 23.57")
    assert own["first"] == "100.00 ± 0.00"
    assert "- first: best has no utterance that counts in folds 2; they are left out" in found.text
    assert "- short: UA of test, folds pooled, utterances up to 10 s\n" in found.text


def test_durations_that_are_not_known_are_refused(best: Path, tmp_path: Path) -> None:
    path = run_of(best, "2", "1") / "scores.jsonl"
    path.write_text(path.read_text().replace('"seconds": 9.0, ', ""))
    for limit in ({"upto": 10.0}, {"beyond": 10.0}):
        with pytest.raises(SertkError, match=r"fold=2/seed=1/scores\.jsonl: the score line of 'u6' lacks seconds"):
            made(tmp_path / "out", sweep({"UA": Cell(**limit)}, {"best": Row()}), line(best))


def test_agreement_is_with_the_decisions_of_a_row_in_the_same_run(best: Path, tmp_path: Path) -> None:
    cells = {"agreement": Cell(agreement="best")}
    rows = {"poor": Row(paper={"agreement": 40.0}), "best": Row(paper={"agreement": 1.0})}
    lines = [line(system_of(tmp_path / "poor", POOR), runs=EVERY[:2]), line(best, no="another encoder")]
    found = made(tmp_path / "out", sweep(cells, rows), *lines)
    # the labels of seed 0 are a a b b c, a b: recalls 2/3, 2/3 and 0; the mean of the folds would be 50
    assert found.rows["poor"]["agreement"] == "44.44"
    assert found.rows["poor"]["agreement difference"] == "+4.44"
    assert found.rows["best"]["agreement"] == "/"
    assert "the decisions of best are the labels (/ is that row)" in found.text
    alone = made(tmp_path / "alone", sweep(cells, rows), lines[0])
    assert alone.rows["poor"]["agreement"] == "–"
    assert "agreement: best is not among the rows, so poor has no figure" in alone.text


def test_agreement_with_a_row_that_lacks_a_run_is_of_the_runs_that_both_have(best: Path, tmp_path: Path) -> None:
    shutil.rmtree(run_of(best, "2", "0"))
    cells, rows = {"agreement": Cell(agreement="best")}, {"poor": Row(), "best": Row()}
    poor = line(system_of(tmp_path / "poor", POOR), runs=EVERY[:2])
    found = made(tmp_path / "out", sweep(cells, rows), poor, line(best))
    assert found.rows["poor"]["agreement"] == "50.00 †"  # fold 1 alone: a 2/2, b 1/2, c 0/1
    assert found.numbers["poor"]["agreement n"] == "1"


def test_agreement_with_a_row_that_scored_other_utterances_is_refused(best: Path, tmp_path: Path) -> None:
    poor = system_of(tmp_path / "poor", POOR)
    path = run_of(poor, "1", "0") / "scores.jsonl"
    path.write_text(path.read_text().replace('"u3"', '"u33"'))
    with pytest.raises(SertkError, match=r"poor/fold=1/seed=0 cannot be compared with .*best/fold=1/seed=0.*'u33'"):
        made(
            tmp_path / "out",
            sweep({"agreement": Cell(agreement="best")}, {"poor": Row(), "best": Row()}),
            line(poor, runs=EVERY[:2]),
            line(best),
        )


def test_costs_are_counts_and_means(best: Path, tmp_path: Path) -> None:
    cells = {word: Cell(cost=word) for word in ("parameters", "trained", "training", "memory", "scoring")}
    for seed in range(3):
        path = run_of(best, "1", str(seed)) / "cost.json"
        write_json(path, {**read_json(path, ""), "resumed": seed == 2, "device": "cpu", "memory": 1.5e9 + seed * 0.3e9})
    found = made(tmp_path / "out", sweep(cells, {"best": Row(paper={"scoring": 30, "trained": 311e6})}), line(best))
    own = found.rows["best"]
    assert own["trained paper"] == "311.00 M"
    assert (own["parameters"], own["trained"]) == ("1.23 M", "9,876")
    # of seed 2 one fold was resumed, and its time is not known; the other took 12 s
    assert (own["training"], own["memory"]) == ("11.0 †", "1.80 †")
    assert "- training: 1 runs do not say it: they went on after a stop, or an older sertk made them\n" in found.text
    assert "- memory: 3 runs do not say it" in found.text  # those of fold 2
    # folds of 10 and 4 seconds, and the seed's number for each: 7, 8, 9
    assert (own["scoring"], own["scoring paper"]) == ("8.0", "30.0")
    assert "scoring difference" not in found.head
    assert found.numbers["best"]["parameters mean"] == "1234567.0"
    assert "- scoring: it was taken from the store, batch 5\n" in found.text
    (run_of(best, "1", "0") / "cost.json").unlink()
    older = made(tmp_path / "older", sweep(cells, {"best": Row()}), line(best))
    assert older.rows["best"]["training"].endswith(" †")
    assert "- parameters: 1 runs do not say it: they went on after a stop, or an older sertk made them\n" in older.text


# --- beside the paper ------------------------------------------------------------------------------------------------


def test_there_is_no_difference_where_corpus_protocol_or_encoder_are_not_the_papers(best: Path, tmp_path: Path) -> None:
    rows = {"best": Row(paper={"UAR": 70}), "other": Row()}
    lines = [line(best, no="another corpus, another encoder"), line(best, "other")]
    found = made(tmp_path / "out", sweep({"UAR": Cell()}, rows), *lines)
    assert found.rows["best"]["UAR paper"] == "70"
    assert found.rows["best"]["UAR difference"] == "another corpus, another encoder"
    assert (found.rows["other"]["UAR paper"], found.rows["other"]["UAR difference"]) == ("", "")
    assert (found.numbers["best"]["UAR difference"], found.numbers["best"]["elsewhere"]) == (
        "",
        "another corpus, another encoder",
    )


def test_what_is_said_of_the_sweep_its_rows_and_the_paper_stands_below(best: Path, tmp_path: Path) -> None:
    paper = Paper(
        source="Table 1", corpus="ravdess", protocol="p3", backbone=Component("wav2vec2", {"source": "f/base"})
    )
    one = sweep({"UAR": Cell()}, {"best": Row(about="of\n two lines")}, about="What it is.", paper=paper)
    found = made(tmp_path / "out", one, line(best), notes=["folds 1 of emobox's 6"])
    assert found.text.startswith("# T\n\nWhat it is.\n\n| row | n |")
    for said in ("paper: Table 1 (ravdess, p3, wav2vec2:source=f/base)", "best: of two lines", "folds 1 of emobox's 6"):
        assert f"\n- {said}\n" in found.text
    assert "\n- protocol: c / p, speaker-independent, part test, hash `h`\n" in found.text
    assert "higher is better" in found.text


# --- partial, failed, refused ----------------------------------------------------------------------------------------


def test_a_partial_line_is_marked_and_the_table_says_how_partial(best: Path, tmp_path: Path) -> None:
    (run_of(best, "2", "1") / "metrics.json").unlink()
    shutil.rmtree(run_of(best, "1", "2"))
    found = made(
        tmp_path / "out", sweep({"UAR": Cell()}, {"best": Row(), "none": Row()}), line(best), line(tmp_path / "none")
    )
    # 11/12, 3/4, 1/2
    assert (found.rows["best"]["n"], found.rows["best"]["UAR"]) == ("4 of 6", "72.22 ± 17.12 †")
    assert (found.rows["none"]["n"], found.rows["none"]["UAR"], found.rows["none"]["dev UA"]) == ("0 of 6", "–", "–")
    assert (
        "- **partial**: 4 of 12 runs are done; missing: best, fold 2, seed 1 (no scores of test); "
        "best, fold 1, seed 2 (not trained); none, fold 1, seed 0 (not trained); 5 more\n"
    ) in found.text
    assert "† is of fewer runs than were asked for." in found.text
    assert (found.numbers["best"]["runs"], found.numbers["best"]["asked"], found.numbers["best"]["UAR n"]) == (
        "4",
        "6",
        "4",
    )


def test_what_is_whole_beside_what_is_partial_is_not_marked(best: Path, tmp_path: Path) -> None:
    rows = {"best": Row(), "poor": Row()}
    lines = [line(best), line(system_of(tmp_path / "poor", {"0": ("aaabb",)}), runs=EVERY[:2])]
    found = made(tmp_path / "out", sweep({"UAR": Cell(how="fold")}, rows), *lines)
    assert not [text for text in found.rows["best"].values() if "†" in text]
    poor = found.rows["poor"]
    assert (poor["UAR 1"], poor["UAR 2"], poor["UAR mean"]) == ("83.33", "–", "83.33 †")
    whole = made(tmp_path / "whole", sweep({"UAR": Cell()}, rows), lines[0])
    assert "partial" not in whole.text
    assert "†" not in whole.text


def test_a_run_that_failed_is_named_with_its_error_and_nothing_of_it_counts(best: Path, tmp_path: Path) -> None:
    error = "The loss is no number (nan). Lower the learning rate."
    write_json(run_of(best, "2", "0") / "failed.json", {"stage": "train", "error": error})
    found = made(tmp_path / "out", sweep({"UAR": Cell()}, {"best": Row()}), line(best))
    # (5/6, 5/8, 2/3): the figure of fold 2, which scores of an earlier run would raise to 11/12, is not in seed 0's
    assert (found.rows["best"]["n"], found.rows["best"]["UAR"]) == ("5 of 6", "70.83 ± 9.00 †")
    assert "- **partial**: 5 of 6 runs are done\n" in found.text
    assert "- failed: best, fold 2, seed 0: The loss is no number (nan).\n" in found.text


def test_runs_of_other_folds_are_refused(best: Path, tmp_path: Path) -> None:
    other = system_of(tmp_path / "other", POOR)
    scored(run_of(other, "1", "0"), "1", "0", "aaabb", hash="g")
    one = sweep({"UAR": Cell()}, {"best": Row(), "other": Row()})
    with pytest.raises(SertkError, match="mixes runs of different hash"):
        made(tmp_path / "out", one, line(best), line(other, runs=EVERY[:2]))
    with pytest.raises(SertkError, match=r"best and other are of different folds of c / p \(hash h and g\)"):
        made(tmp_path / "out", one, line(best), line(other, runs=EVERY[:1]))


def test_a_run_that_is_of_another_fold_than_its_folder_says_is_refused(best: Path, tmp_path: Path) -> None:
    scored(run_of(best, "1", "0"), "2", "0", "ab")
    with pytest.raises(SertkError, match="is of fold 2, seed 0, and its folder says fold 1, seed 0"):
        made(tmp_path / "out", sweep({"UAR": Cell()}, {"best": Row()}), line(best))


def test_a_fold_whose_name_has_a_slash_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FOLDS, "a/b", FOLDS["2"])
    scored(tmp_path / "s/fold=a%2Fb/seed=0", "a/b", "0", "ab")
    found = made(tmp_path / "out", sweep({"UAR": Cell()}, {"s": Row()}), line(tmp_path / "s", runs=[("a/b", "0")]))
    assert found.rows["s"]["UAR"] == "100.00"


def test_a_row_gives_the_metric_of_a_column_its_own_settings(best: Path, tmp_path: Path) -> None:
    cells = {"loss": Cell(metric=Component("label_loss")), "accuracy": Cell(metric=WA)}
    rows = {"ce": Row(), "l1": Row(metrics=(Component("label_loss", {"of": "l1"}),), paper={"loss": 0.4})}
    found = made(tmp_path / "out", sweep(cells, rows), line(best, "ce"), line(best, "l1"))
    # every posterior is softmax(0, 0.5, 0.5) = (0.232696, 0.383652, 0.383652)
    # ce: a 1.458022, b 0.958022; (2 a + 3 b) / 5 and (a + b) / 2: the mean of 1.158022 and 1.208022
    assert found.rows["ce"]["loss"] == "1.1830 ± 0.0000"
    # l1: a (0.767304 + 2 x 0.383652) / 3 = 0.511536, b (0.616348 + 0.232696 + 0.383652) / 3 = 0.410899
    assert (found.rows["l1"]["loss"], found.rows["l1"]["loss difference"]) == ("0.4562 ± 0.0000", "+0.0562")
    assert found.rows["l1"]["accuracy"] == found.rows["ce"]["accuracy"] == "73.33 ± 11.79"
    assert "- loss: label_loss of test, mean of the folds, of l1 label_loss:of=l1\n" in found.text
    assert "- accuracy: WA of test, mean of the folds\n" in found.text


def test_a_metric_that_does_not_exist_is_named(best: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no metric named 'uaa'"):
        made(tmp_path / "out", sweep({"UAR": Cell(metric=Component("uaa"))}, {"best": Row()}), line(best))


# --- several corpora -------------------------------------------------------------------------------------------------


def test_sweeps_over_several_corpora_are_one_table_by_row(best: Path, tmp_path: Path) -> None:
    poor = system_of(tmp_path / "poor", POOR)
    first = sweep({"UAR": Cell()}, {"base": Row(paper={"UAR": 60}), "+seg": Row(paper={"UAR": 70})})
    rows = {"base": Row(paper={"UAR": 65.5}), "P-TAPT": Row(quoted={"UAR": 74.3}, source="Chen"), "+seg": Row()}
    second = Sweep(title="U", cells={"UAR": Cell()}, rows=rows)
    found = Made(
        tmp_path / "out",
        Part("R", first, [line(best, "base", no="another encoder"), line(best, "+seg")], ["one epoch"]),
        Part("I", second, [line(poor, "base", EVERY[:2]), line(None, "P-TAPT", ()), line(tmp_path / "x", "+seg")], []),
    )
    assert found.text.startswith("# T; U\n")
    assert list(found.rows) == ["base", "P-TAPT", "+seg"]  # where the corpus that has it has it
    base, quoted = found.rows["base"], found.rows["P-TAPT"]
    assert (base["R n"], base["R UAR"], base["R UAR difference"]) == ("6", "73.61 ± 12.88", "another encoder")
    assert (base["I n"], base["I UAR"], base["I UAR difference"]) == ("2", "66.67", "+1.17")
    assert (quoted["R n"], quoted["R UAR"], quoted["I n"], quoted["I UAR"]) == ("", "", "quoted", "74.3")
    assert (found.rows["+seg"]["R UAR difference"], found.rows["+seg"]["I n"]) == ("+3.61", "0 of 6")
    assert "\n- R: one epoch\n" in found.text
    assert "\n- I: P-TAPT is quoted: Chen\n" in found.text
    assert (found.numbers["base"]["R UAR mean"], found.numbers["base"]["I UAR n"]) == ("73.61111111", "2")


# --- swept settings --------------------------------------------------------------------------------------------------


def swept(
    tmp_path: Path, curve: str, *points: Mapping[str, object], devs: Sequence[float] = (), **more: object
) -> Made:
    """A sweep of one row over some points, with a curve beside its column."""
    lines = []
    for number, point in enumerate(points):
        dev = devs[number] if number < len(devs) else 0.5
        seeds = {seed: BEST[seed] for seed in list(BEST)[: 3 - number]}  # one seed fewer at each point
        system = system_of(tmp_path / f"s+{number}", seeds, dev)
        lines.append(line(system, "s", [(fold, seed) for seed in seeds for fold in FOLDS], swept=point))
    cells = {"UAR": Cell(), "by alpha": Cell(curve=curve)}
    return made(tmp_path / "out", sweep(cells, {"s": Row(paper={"by alpha": 72.5})}, **more), *lines)


def points_of(found: Made) -> list[dict[str, str]]:
    with (found.out / "figures/by alpha.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_curve_is_a_plot_of_its_points_with_the_best_on_dev(tmp_path: Path) -> None:
    found = swept(
        tmp_path,
        "alpha",
        {"alpha": 0.2},
        {"alpha": 0},
        {"alpha": 0.1},
        devs=(0.5, 0.7, 0.6),
        grid={"alpha": (0.2, 0, 0.1)},
    )
    assert list(found.rows) == ["s, alpha 0.2", "s, alpha 0", "s, alpha 0.1"]
    assert "by alpha" not in found.head
    assert found.rows["s, alpha 0"]["UAR"] == "77.08 ± 14.58"
    assert [own["UAR max"] for own in found.rows.values()] == ["91.67", "91.67", ""]  # one seed has no maximum
    assert found.files == ["table.md", "table.csv", "table.tex", "figures/by alpha.csv", "figures/by alpha.png"]
    assert (found.out / "figures/by alpha.png").read_bytes().startswith(b"\x89PNG")
    first, second, third = points_of(found)
    assert list(first) == ["row", "alpha", "mean", "sd", "n", "best", "seed 0", "seed 1", "seed 2"]
    assert list(first.values()) == [
        "s",
        "0.2",
        "73.61111111",
        "12.88002569",
        "6",
        "0",
        "91.66666667",
        "62.5",
        "66.66666667",
    ]
    assert list(second.values()) == ["s", "0", "77.08333333", "14.58333333", "4", "1", "91.66666667", "62.5", ""]
    assert (third["best"], third["sd"]) == ("0", "")
    assert (
        "![by alpha](figures/by%20alpha.png)\n\n- s: best on dev: alpha 0, 77.08 ± 14.58 (paper 72.5)\n" in found.text
    )
    with (found.out / "table.csv").open() as file:
        assert [one["alpha"] for one in csv.DictReader(file)] == ["0.2", "0", "0.1"]


def test_chance_stands_below_a_plot(tmp_path: Path) -> None:
    system = system_of(tmp_path / "s")
    runs = [(fold, seed) for seed in BEST for fold in FOLDS]
    lines = [line(None, "chance", ()), line(system, "s", runs, swept={"alpha": 0.1})]
    rows = {"chance": Row(chance=True), "s": Row()}
    found = made(tmp_path / "out", sweep({"UAR": Cell(), "by alpha": Cell(curve="alpha")}, rows), *lines)
    assert found.rows["chance"]["UAR"] == "50.00"
    assert found.text.count("- chance: 50.00\n") == 1


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are not drawn: their numbers are what is looked at."""
    monkeypatch.setattr("sertk.stages.tabulate.draw_curves", lambda path, plot: None)


@pytest.mark.usefixtures("drawing")
def test_settings_that_go_together_are_one_curve_and_others_are_one_each(tmp_path: Path) -> None:
    zipped = {"segments.length": (80, 140), "train.batch": (12, 8)}
    both = [{"segments.length": 80, "train.batch": 12}, {"segments.length": 140, "train.batch": 8}]
    found = swept(tmp_path / "zip", "segments.length", *both, zip=zipped)
    assert [one["row"] for one in points_of(found)] == ["s", "s"]
    crossed = [
        {"alpha": 0, "segments.length": 80},
        {"alpha": 0.1, "segments.length": 80},
        {"alpha": 0, "segments.length": 140},
    ]
    grid = {"alpha": (0, 0.1), "segments.length": (80, 140)}
    found = swept(tmp_path / "grid", "alpha", *crossed, grid=grid)
    assert [one["row"] for one in points_of(found)] == ["s, segments.length 80"] * 2 + ["s, segments.length 140"]
    assert "\n- s, segments.length 140: best on dev: alpha 0, 91.67" in found.text


@pytest.mark.usefixtures("drawing")
def test_a_curve_of_dev_is_judged_by_itself(best: Path, tmp_path: Path) -> None:
    right, wrong = system_of(tmp_path / "right", POOR, 0.1), system_of(tmp_path / "wrong", POOR, 0.9)
    for system, decisions in ((right, ("aabbb", "ab")), (wrong, ("bbaaa", "ba"))):
        for fold, own in zip(FOLDS, decisions, strict=True):
            scored(run_of(system, fold, "0"), fold, "0", own, "dev")
    cells = {"by alpha": Cell(part="dev", curve="alpha")}
    lines = [line(one, "s", EVERY[:2], swept={"alpha": at}) for one, at in ((wrong, 0.1), (right, None))]
    found = made(tmp_path / "out", sweep(cells, {"s": Row()}, grid={"alpha": (0.1, None)}), *lines)
    assert "- s: best on dev: alpha None, 100.00" in found.text
    assert [one["mean"] for one in points_of(found)] == ["0.0", "100.0"]


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize(("dev", "said"), [({"ua": 0.5}, "best on dev: alpha 0.1, 0.00"), (None, "no dev score says")])
def test_a_refitted_curve_of_dev_is_judged_by_the_selection(
    tmp_path: Path, dev: Mapping[str, float] | None, said: str
) -> None:
    learned, other = (system_of(tmp_path / name, POOR) for name in ("learned", "other"))
    for system, score, decisions in ((learned, 0.4, ("aabbb", "ab")), (other, 0.6, ("bbaaa", "ba"))):
        for fold, own in zip(FOLDS, decisions, strict=True):
            run = run_of(system, fold, "0")
            scored(run, fold, "0", own, "dev")
            selected = dev and {"ua": score}
            write_json(run / "model/bundle.json", {"training": {"epoch": 3, "dev": selected, "refit": True}})
    cells = {"by alpha": Cell(part="dev", curve="alpha")}
    lines = [line(one, "s", EVERY[:2], swept={"alpha": at}) for one, at in ((other, 0.1), (learned, None))]
    found = made(tmp_path / "out", sweep(cells, {"s": Row()}, grid={"alpha": (0.1, None)}), *lines)
    # dev was learned, so 100 of the second says nothing: when dev chose, it had 40 and the first 60
    assert f"- s: {said}" in found.text


# --- LaTeX -----------------------------------------------------------------------------------------------------------


def latex_of(best: Path, tmp_path: Path) -> str:
    rows = {"[x] a_b & 50% of #1 {$} ~^\\": Row(paper={"UAR_1": 80}), "*": Row()}
    lines = [line(best, next(iter(rows))), line(best, "*", [*EVERY, ("2", "7")])]
    return (made(tmp_path / "out", sweep({"UAR_1": Cell()}, rows), *lines).out / "table.tex").read_text()


def test_the_table_in_latex_has_no_letter_with_a_meaning_of_its_own(best: Path, tmp_path: Path) -> None:
    text = latex_of(best, tmp_path)
    assert r"row & n & UAR\_1 & UAR\_1 max & UAR\_1 paper & UAR\_1 difference & dev UA \\" in text
    assert (
        r"{}[x] a\_b \& 50\% of \#1 \{\$\} \textasciitilde{}\textasciicircum{}\textbackslash{} & 6 & "
        r"73.61 $\pm$ 12.88 & 91.67 & 80 & $-$6.39 & 56.00 $\pm$ 0.82 \\"
    ) in text
    assert r"{}* & 6 of 7 & 73.61 $\pm$ 12.88 $\dagger$ &" in text
    assert r"\begin{tabular}{lrrrrrr}" in text
    assert "% †: of fewer runs than were asked for" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a TeX")
def test_the_table_in_latex_compiles(best: Path, tmp_path: Path) -> None:
    body = (
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{latex_of(best, tmp_path)}\end{{document}}"
    )
    (tmp_path / "t.tex").write_text(body)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_markdown_keeps_bars_inside_a_cell() -> None:
    assert markdown(["row", "n"], [["a|b", "6"]]) == ["| row | n |", "|---|---|", "| a\\|b | 6 |"]


# --- the baseline ----------------------------------------------------------------------------------------------------


def test_rows_are_tested_against_the_baseline_in_a_table_of_their_own(best: Path, tmp_path: Path) -> None:
    poor, half = system_of(tmp_path / "exp/p/poor", dict.fromkeys(BEST, POOR["0"])), system_of(tmp_path / "h", POOR)
    one = sweep({"UAR": Cell()}, {"best": Row(), "poor": Row(), "h": Row()}, baseline="poor")
    lines = [line(best), line(poor), line(half)]
    tabulate([Part("C", one, lines, [])], tmp_path / "out")
    text = (tmp_path / "out/table.md").read_text()
    # UA of all folds: 7/8, 2/3, 3/4 against (2/3 + 3/4) / 2 by each seed: +0.0556
    assert (
        "\n\n| UA minus that of poor | difference |\n|---|---|\n| best | +5.6 UA, no interval: 3 speakers are too"
        in text
    )
    assert "- not tested against poor, as runs are missing: h\n" in text
    tabulate([Part("C", sweep({"UAR": Cell()}, one.rows), lines, [])], tmp_path / "plain")
    plain = (tmp_path / "plain/table.md").read_text()
    assert "minus that of" not in plain
    assert text.startswith(plain[: plain.index("\n\n- ")])  # the table itself is the same


def test_a_table_says_why_no_row_is_tested(best: Path, tmp_path: Path) -> None:
    half = system_of(tmp_path / "h", POOR)
    rows = {"best": Row(), "h": Row(), "none": Row(chance=True)}
    chance = line(None, "none", ())
    absent = made(tmp_path / "1", sweep({"UAR": Cell()}, rows, baseline="h"), line(best), chance)
    assert "- no row is tested: h, the baseline, is not among the rows of this table\n" in absent.text
    partial = made(tmp_path / "2", sweep({"UAR": Cell()}, rows, baseline="h"), line(best), line(half))
    assert "- no row is tested: runs of h, the baseline, are missing\n" in partial.text
    others = made(tmp_path / "3", sweep({"UAR": Cell()}, rows, baseline="best"), line(best), line(half))
    assert "- not tested against best, as runs are missing: h\n" in others.text
    alone = made(tmp_path / "4", sweep({"UAR": Cell()}, rows, baseline="best"), line(best), chance)
    assert "tested" not in alone.text


def test_the_tests_of_two_corpora_say_which_they_are_of(best: Path, tmp_path: Path) -> None:
    one, poor = sweep({"UAR": Cell()}, {"best": Row(), "poor": Row()}, baseline="poor"), tmp_path / "exp/p/poor"
    lines = [line(best), line(system_of(poor, dict.fromkeys(BEST, POOR["0"])))]
    tabulate([Part(corpus, one, lines, []) for corpus in ("C", "D")], tmp_path / "out")
    text = (tmp_path / "out/table.md").read_text()
    for corpus in "CD":
        assert f"\n\n{corpus}:\n\n| UA minus that of poor | difference |\n" in text


def test_rows_that_know_the_speakers_are_stated_apart_and_the_caption_says_so(best: Path, tmp_path: Path) -> None:
    heard = system_of(tmp_path / "exp/p/heard")
    for seed, folds in BEST.items():
        for fold, decisions in zip(FOLDS, folds, strict=False):
            own = {"how": "transductive", "n": [2, 3], "shrink": 10.0, "without": 0}
            scored(run_of(heard, fold, seed), fold, seed, decisions, speakers=own)
    swept = [
        line(best, "probe", swept={"normalize": "dimension"}),
        line(heard, "probe", swept={"normalize": "speaker"}),
    ]
    found = made(tmp_path / "out", sweep({"UA": Cell()}, {"probe": Row()}, grid={"normalize": ("x", "y")}), *swept)
    stamp = "speaker-normalised (transductive, n = 2 to 3 utterances a speaker, shrunk with k = 10)"
    assert f"- protocol of probe, normalize speaker: c / p, speaker-independent, {stamp}, part test" in found.text
    assert "- protocol of probe, normalize dimension: c / p, speaker-independent, part test" in found.text
    assert "- **two settings stand side by side**: probe, normalize speaker heard recordings" in found.text
    tex = (found.out / "table.tex").read_text()
    assert "\nprobe, normalize speaker (speaker-normalised) & 6 &" in tex
    assert "\nprobe, normalize dimension & 6 &" in tex
    assert f"\n% protocol of probe, normalize speaker: c / p, speaker-independent, {stamp}, part test" in tex
    assert "\n% **two settings stand side by side**: probe, normalize speaker heard recordings" in tex
    with (found.out / "table.csv").open() as file:
        protocols = [one["protocol"] for one in csv.DictReader(file)]
    assert protocols == [f"c / p, speaker-independent, {own}part test, hash `h`" for own in ("", f"{stamp}, ")]


def test_the_rows_for_a_paper_say_of_which_corpus_a_stamp_is(best: Path, tmp_path: Path) -> None:
    other = system_of(tmp_path / "other/p/best")
    for seed, folds in BEST.items():
        for fold, decisions in zip(FOLDS, folds, strict=False):
            about = {"searched": {"folds": ["2"], "nested": False, "saw": ["s9"]}, "stamp": "SPEAKER-DEPENDENT"}
            scored(run_of(other, fold, seed), fold, seed, decisions, **about)
            scored(run_of(best, fold, seed), fold, seed, decisions, "dev", stamp="seen in training")
            scored(run_of(other, fold, seed), fold, seed, decisions, "dev", stamp="seen in training")
    one = sweep({"UA": Cell(), "on dev": Cell(part="dev")}, {"best": Row()})
    tabulate([Part(name, one, [line(own)], []) for name, own in (("C", best), ("D", other))], tmp_path / "out")
    tex, text = ((tmp_path / "out" / name).read_text() for name in ("table.tex", "table.csv"))
    assert "\nbest (D SPEAKER-DEPENDENT, D SETTINGS SAW TEST SPEAKERS) & 6 &" in tex
    assert "\n% D: protocol: c / p, SPEAKER-DEPENDENT, settings searched on dev of fold 2, SETTINGS SAW TEST" in tex
    (own,) = csv.DictReader(text.splitlines())
    learned = "c / p, seen in training, part dev, hash `h`"
    assert own["C protocol"].split("; ") == ["c / p, speaker-independent, part test, hash `h`", learned]
    assert own["D protocol"].startswith("c / p, SPEAKER-DEPENDENT, settings searched")
    assert own["D protocol"].endswith(f"; {learned}")

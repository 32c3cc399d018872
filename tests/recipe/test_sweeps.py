"""The named sweeps of the papers: what they compare with is what was printed, and each is planned on its own corpus."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.corpus import protocols
from sertk.settings import merge, sweep
from sertk.settings.packaged import egs
from sertk.settings.schema import Settings
from sertk.settings.several import folds_of, seeds_of
from sertk.settings.sweep import Row, Sweep, Values
from sertk.testing import official

SWEEPS = {
    "emodb": [
        *("modalities", "p4-four", "p4-grid", "p4-table1", "p4-table2"),
        *("p5-end2end", "p5-fig2", "p5-fig3", "p5-gender", "p5-table3", "probe-search"),
    ],
    "fesc": ["p3-alpha", "p3-duration", "p3-figure2", "p3-table1", "p3-table2"],
    "iemocap": [
        *("p2-figure2", "p2-table1", "p2-table3"),
        *("p3-alpha", "p3-duration", "p3-figure2", "p3-table1", "p3-table2"),
        *("p4-grid", "p4-table3", "p4-table4", "p4-table5", "p4-table6", "p4-table7"),
        *("p5-end2end", "p5-fig2", "p5-fig3", "p5-fig4", "p5-table2", "p5-table3"),
    ],
    "msp_improv": ["p2-table1"],
    "ravdess_savee_tess": ["p1-last", "p1-speakers", "p1-table1", "p1-table2"],
    "ravdess": [
        *("p2-table1", "p2-tiny", "p2-warm"),
        *("p3-figure2", "p3-figure3", "p3-table1", "p3-table2", "p3-tiny", "p3-warm"),
        *("modalities", "p1-precision", "p5-fig2", "p5-gender", "p5-table3"),
        *("fine-tuned", "fine-tuned-speaker", "warm-search"),
    ],
    "savee": ["p2-table2", "p4-table1", "p4-table2"],
}
NAMES = [f"{corpus}/{name}" for corpus, names in SWEEPS.items() for name in names]
P3 = ("iemocap", "ravdess", "fesc")
ELSEWHERE = [
    "emodb/modalities",
    "ravdess/modalities",
    "emodb/p4-four",
    "emodb/p4-grid",
    "emodb/p5-end2end",
    "emodb/p5-fig3",
    "emodb/probe-search",
    "ravdess_savee_tess/p1-speakers",
    "ravdess/p1-precision",
    "ravdess/p2-tiny",
    "ravdess/p2-warm",
    "ravdess/p3-tiny",
    "ravdess/p3-warm",
]
ELSEWHERE += [f"ravdess/{name}" for name in ("fine-tuned", "fine-tuned-speaker", "warm-search")]
ELSEWHERE += [f"{corpus}/{name}" for corpus in ("emodb", "ravdess") for name in ("p5-fig2", "p5-gender", "p5-table3")]
"""Of another corpus, protocol or encoder than the paper's."""

# --- as printed -----------------------------------------------------------------------------------------------------

# loss and accuracy of train, dev and test
P1_TABLE1 = """
L1        | 0.120 | 0.142 | 0.124 | 28.12 | 43.31 | 44.14
Smooth L1 | 0.003 | 0.023 | 0.021 | 100   | 72.61 | 73.85
BCE       | 0.002 | 0.215 | 0.198 | 100   | 76.01 | 77.62
CE        | 0.003 | 1.283 | 1.153 | 100   | 73.46 | 74.90
"""
# precision, recall and F1, of 1
P1_TABLE2 = """
L1        | .6357 | .3954 | .4233
Smooth L1 | .6102 | .6109 | .6069
BCE       | .6275 | .6255 | .6238
CE        | .6198 | .6130 | .6077
"""
# UAR (UA) of IEMOCAP, RAVDESS, FESC
P3_TABLE1 = """
P-TAPT        |             (74.3) | /           | /
layer average | 67.2               | 84.3        | /
baseline      | 66.5 (65.6)        | 68.5 (67.8) | 57.1 (60.5)
+seg          | 67.6 (66.7)        | 73.2 (72.1) | 60.1 (62.1)
+tri(W)       | 73.6 (72.6)        | 80.4 (78.4) | 61.0 (62.1)
+seg+tri(S)   | 74.6 (73.9)        | 79.0 (76.9) | 63.6 (64.9)
+seg+tri(W)   | 73.9 (72.9)        | 80.5 (78.4) | 64.3 (65.0)
"""
P3_TABLE2 = """
baseline      | 75.1 | 78.3 | 71.5
+seg          | 74.5 | 78.2 | 72.8
+tri(W)       | 82.8 | 86.8 | 80.2
+seg+tri(S)   | /    | 89.7 | 79.7
+seg+tri(W)   | 83.0 | /    | /
"""
# WA/UA
P2_TABLE1 = {
    "iemocap": "71.64/72.72, 72.86/72.85, 73.37/74.18, 73.80/74.25, 74.94/76.10, 75.37/76.04, "
    "74.50/75.00, 75.20/76.40, 78.47/79.14",
    "msp_improv": "46.20/-, 47.30/46.10, 47.90/45.80, 50.70/49.90, 51.51/41.56, 55.80/55.30, 58.55/58.34",
    "ravdess": "74.38/73.44, 72.29/70.38, 75.36/75.28, 81.86/82.75, 79.20/-, 84.80/-, 87.99/87.96, 93.40/92.28",
}
# UA of DC, JE, JK, KL and the mean
P2_TABLE2 = """
Chen [37] | 81.6, 83.3, 69.9, 49.7, 71.1
ours      | 82.3, 87.0, 66.9, 53.0, 72.3
human     | 73.7, 67.7, 71.2, 53.2, 66.5
"""
P2_TABLE3 = """
1  | HuBERT | LAM  | base     | KL+C        | 75.37 | 76.04
2  | HuBERT | none | FLAM     | KL+C        | 75.83 | 76.45
3  | HuBERT | EAM  | base     | KL+C        | 76.18 | 76.69
4  | HuBERT | LAM  | FLAM     | KL+C        | 76.22 | 76.84
5  | HuBERT | EAM  | FLAM     | KL+C        | 76.31 | 76.90
6  | WavLM  | LAM  | base     | KL+C        | 76.98 | 77.14
7  | WavLM  | none | FLAM     | KL+C        | 77.12 | 77.58
8  | WavLM  | EAM  | base     | KL+C        | 77.26 | 77.71
9  | WavLM  | EAM  | MaxPool  | KL+C        | 77.32 | 77.74
10 | WavLM  | EAM  | MeanPool | KL+C        | 77.47 | 77.95
11 | WavLM  | LAM  | FLAM     | KL+C        | 77.58 | 78.02
12 | WavLM  | EAM  | FLAM     | KL+C        | 77.63 | 78.10
13 | WavLM  | EAM  | FLAM     | KL+C+Focal  | 77.96 | 78.56
14 | WavLM  | EAM  | FLAM     | KL+C+SupCon | 78.23 | 78.83
15 | WavLM  | EAM  | FLAM     | KL+C+Focal+SupCon | 78.47 | 79.14
"""
# WA/UA of softmax, focal, ArcFace and APFL; then gamma of focal, m of ArcFace, gamma and m of APFL; seconds
P4_TABLES = {
    "emodb/p4-table1": ("74.37/69.74, 74.81/69.78, 80.66/77.88, 81.09/78.73", (0.1, 0.5, 0.1, 0.5), 4),
    "savee/p4-table1": ("49.24/43.53, 49.38/43.81, 52.85/48.21, 53.33/49.13", (0.1, 0.5, 5.0, 0.5), 5),
    "emodb/p4-table2": ("78.32/76.11, 79.25/77.02, 84.85/82.93, 86.42/84.77", (0.1, 0.5, 5.0, 0.5), 4),
    "savee/p4-table2": ("61.81/57.34, 62.08/57.66, 66.39/63.17, 67.15/63.65", (0.1, 0.5, 0.5, 0.5), 5),
    "iemocap/p4-table3": ("71.56/60.61, 71.89/61.94, 72.48/63.67, 72.83/64.78", (0.5, 0.3, 0.5, 0.3), 6),
}
# WA/UA of ResNet50, then DenseNet169: image, with BERT, with VGGish, with both; no gender task, MTL-A, -B, -C
P4_TABLE4 = ("70.82/60.25, 71.60/61.25, 71.58/60.48, 71.84/61.87", "71.56/60.61, 71.83/62.59, 71.72/61.41, 71.85/62.91")
P4_TABLE5 = ("71.84/61.87, 72.32/62.55, 72.58/62.93, 71.94/62.36", "71.85/62.91, 72.41/63.02, 72.54/63.98, 73.07/63.08")
# cross-entropy and APFL of ResNet50, ResNet50 with BERT and VGGish, DenseNet169, DenseNet169 with both; the first is
# printed as 71.84/61.87, which is the third (spec, item 11)
P4_TABLE6 = "70.82/60.25, 73.56/62.60, 71.84/61.87, 73.84/63.75, 71.56/60.61, 72.83/64.78, 71.85/62.91, 73.29/65.64"
P4_TABLE7 = (
    "68.80/59.40, 67.30/62.00, 71.20/61.90, 72.73/59.71, 71.45/64.22, 72.43/64.80, 69.70/63.10, 72.34/58.31, "
    "73.84/63.75, 73.29/65.64"
)
# WA/UWA by loader, position and loss
P5_TABLE3 = {
    "loader_1, pos_1, loss_1": "62.19/63.21",
    "loader_1, pos_2, loss_1": "60.78/61.17",
    "loader_2, pos_1, loss_1": "53.16/56.73",
    "loader_1, pos_1, loss_2": "61.95/63.26",
    "baseline": "61.05/60.66",
}
# WA and lambda
P5_TABLE2 = {
    "gender": (61.67, 0.04),
    "valence": (62.00, 0.08),
    "activation": (61.54, 0.04),
    "dominance": (62.20, 0.04),
}


def read(name: str) -> Sweep:
    corpus, own = name.split("/")
    return sweep.load(egs() / corpus / "sweeps" / f"{own}.yaml")


def lines(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def trained(found: Sweep) -> dict[str, Row]:
    """The rows of which something is run."""
    return {name: row for name, row in found.rows.items() if row.trained}


def printed(found: Sweep, *cells: str) -> dict[str, Values]:
    """The values of the paper and of what it quotes, of some cells."""
    own = ("chance", "eGeMAPS and a linear SVM")  # which the papers do not have
    rows = {name: {**row.paper, **row.quoted} for name, row in found.rows.items() if name not in own}
    return {name: {cell: row[cell] for cell in cells if cell in row} for name, row in rows.items()}


def pair(text: str, first: str, second: str) -> Values:
    """ "66.5 (65.6)" or "71.64/72.72" as two cells; one of them may be missing."""
    one, other = re.fullmatch(r"([\d.]*)\s*[(/]?([\d.]*)[)-]?", text.replace("-", "")).groups()  # type: ignore[union-attr]
    return {name: float(value) for name, value in ((first, one), (second, other)) if value}


def test_every_sweep_that_is_there_is_named_here() -> None:
    assert {path.parts[-3] + "/" + path.stem for path in egs().glob("*/sweeps/*.yaml")} == {*NAMES}


def test_p1_tables_have_the_printed_values() -> None:
    one, two, speakers = (read(f"ravdess_savee_tess/{name}") for name in ("p1-table1", "p1-table2", "p1-speakers"))
    parts = ("train", "dev", "test")
    cells = [f"{part} {what}" for what in ("loss", "accuracy") for part in parts]
    wanted = {row: dict(zip(cells, map(float, values), strict=True)) for row, *values in lines(P1_TABLE1)}
    assert printed(one, *cells) == wanted
    assert [one.cells[cell].part for cell in cells] == [*parts, *parts]
    shares = ("precision", "recall", "F1")
    wanted = {row: dict(zip(shares, map(float, values), strict=True)) for row, *values in lines(P1_TABLE2)}
    found = {row: {name: own[name] / 100 for name in own} for row, own in printed(two, *shares).items()}  # type: ignore[operator]
    assert found == {row: pytest.approx(own) for row, own in wanted.items()}
    accuracies = {"accuracy": "test accuracy", "dev accuracy": "dev accuracy"}
    for row, own in printed(speakers, *accuracies).items():
        assert own == {cell: one.rows[row].paper[printed] for cell, printed in accuracies.items()}


def test_p1_table1_has_the_loss_that_each_row_was_trained_with() -> None:
    found = read("ravdess_savee_tess/p1-table1")
    for name, row in trained(found).items():
        (loss,) = settings("ravdess_savee_tess", found, name).losses
        assert row.metric(found.cells["test loss"]).settings.get("of", "ce") == loss.name
        assert not loss.settings


@pytest.mark.parametrize("corpus", P3)
def test_p3_table1_has_the_printed_values(corpus: str) -> None:
    wanted = {line[0]: pair(line[1 + P3.index(corpus)], "UAR", "accuracy") for line in lines(P3_TABLE1)}
    assert printed(read(f"{corpus}/p3-table1"), "UAR", "accuracy") == {row: own for row, own in wanted.items() if own}


@pytest.mark.parametrize("corpus", P3)
def test_p3_table2_has_the_printed_values_and_agrees_with_the_best_model(corpus: str) -> None:
    found = read(f"{corpus}/p3-table2")
    wanted = {line[0]: line[1 + P3.index(corpus)] for line in lines(P3_TABLE2)}
    best = next(row for row, value in wanted.items() if value == "/")
    assert found.cells["agreement"].agreement == best
    values = {row: {"agreement": float(value)} for row, value in wanted.items() if value != "/"}
    assert printed(found, "agreement") == {**values, best: {}}


def test_p3_has_the_printed_durations_times_and_sizes() -> None:
    assert printed(read("iemocap/p3-duration"), "short", "long") == {
        "baseline": {"short": 65.9, "long": 70.6},
        "+seg": {"short": 67.2, "long": 69.7},
    }
    assert printed(read("fesc/p3-duration"), "short", "long") == {
        "baseline": {"short": 57, "long": 69},
        "+seg": {"short": 59.3, "long": 72.7},
    }
    costs = printed(read("iemocap/p3-table1"), "scoring", "trained")
    assert {row: own for row, own in costs.items() if own} == {
        "baseline": {"scoring": 30, "trained": 90.2e6},
        "+seg+tri(S)": {"scoring": 41},
    }
    assert printed(read("fesc/p3-table1"), "trained")["baseline"] == {"trained": 311e6}


@pytest.mark.parametrize("corpus", ["iemocap", "fesc"])
def test_p3_learned_alphas_stand_beside_the_sum_of_the_table(corpus: str) -> None:
    found, table = read(f"{corpus}/p3-alpha"), printed(read(f"{corpus}/p3-table1"), "UAR", "accuracy")
    for row in ("+tri(W)", "+seg+tri(S)", "+seg+tri(W)"):
        assert found.rows[row].paper == table[row]
        learned = settings(corpus, found, f"{row}, learned")
        assert (settings(corpus, found, row).alpha, learned.alpha) == (None, "learned")
        assert learned.system == found.rows[row].system


@pytest.mark.parametrize("corpus", P2_TABLE1)
def test_p2_table1_has_the_printed_values(corpus: str) -> None:
    wanted = [pair(text, "WA", "UA") for text in P2_TABLE1[corpus].split(", ")]
    found = printed(read(f"{corpus}/p2-table1"), "WA", "UA")
    assert list(found.values()) == wanted
    assert list(found)[-1] == "ours"


def test_p2_table2_has_the_printed_values_by_speaker() -> None:
    wanted = {
        row: {"UA": dict(zip(("DC", "JE", "JK", "KL", "mean"), map(float, values.split(", ")), strict=True))}
        for row, values in lines(P2_TABLE2)
    }
    assert printed(read("savee/p2-table2"), "UA") == wanted


def settings(corpus: str, found: Sweep, row: str) -> Settings:
    """The settings of a row over the recipe of its corpus."""
    own = found.rows[row]
    return merge.load(
        own.system, egs() / corpus / "recipe.yaml", {**sweep.words(found.settings), **sweep.words(own.settings)}
    )


def test_p2_table3_has_the_printed_values() -> None:
    found = read("iemocap/p2-table3")  # that the settings are those of the row: test_iemocap.py
    for (row, one), (number, encoder, *_, wa, ua) in zip(found.rows.items(), lines(P2_TABLE3), strict=True):
        assert row.startswith(f"{number} {encoder}, ")
        assert one.paper == {"WA": float(wa), "UA": float(ua)}


def test_rows_on_a_small_encoder_have_the_values_and_the_parts_of_the_papers_rows() -> None:
    small, whole = read("ravdess/p2-tiny"), read("iemocap/p2-table3")
    theirs = {row.partition(" ")[0]: row for row in whole.rows}
    rows = [row for row in small.rows if row != "frozen"]
    assert [row.partition(" ")[0] for row in rows] == ["6", "8", "12", "15"]
    for row in rows:
        other = theirs[row.partition(" ")[0]]
        assert small.rows[row].paper == whole.rows[other].paper
        ours, wanted = settings("ravdess", small, row), settings("iemocap", whole, other)
        assert (ours.losses, ours.augment, ours.pooling) == (wanted.losses, wanted.augment, wanted.pooling)
    assert small.folds == read("ravdess/p3-tiny").folds == ("1", "3")
    small, whole = read("ravdess/p3-tiny"), read("ravdess/p3-table1")
    for row in small.rows.keys() - {"frozen"}:
        assert small.rows[row].paper == {"UA": whole.rows[row].paper["UAR"], "WA": whole.rows[row].paper["accuracy"]}
        ours, wanted = (settings("ravdess", one, row) for one in (small, whole))
        assert (ours.losses, ours.alpha, ours.segments) == (wanted.losses, wanted.alpha, wanted.segments)


def test_what_is_fine_tuned_is_a_setting_of_the_search_on_dev() -> None:
    tested, tried = read("ravdess/fine-tuned"), read("ravdess/warm-search")
    ours, theirs = settings("ravdess", tested, "base, fine-tuned"), settings("ravdess", tried, "speed")
    assert ours == theirs
    assert {cell.part for cell in tried.cells.values()} == {"dev"}


def test_rows_on_a_warm_start_have_the_values_and_the_parts_of_the_papers_rows() -> None:
    begun, whole = read("ravdess/p2-warm"), read("iemocap/p2-table3")
    theirs = {row.partition(" ")[0]: row for row in whole.rows}
    rows = [row for row in begun.rows if row != "frozen"]
    assert [row.partition(" ")[0] for row in rows] == ["6", "8", "12", "13", "14", "15"]
    for row in rows:
        other = theirs[row.partition(" ")[0]]
        assert begun.rows[row].paper == whole.rows[other].paper
        ours, wanted = settings("ravdess", begun, row), settings("iemocap", whole, other)
        assert (ours.losses, ours.augment, ours.pooling.name) == (wanted.losses, wanted.augment, wanted.pooling.name)
        assert ours.train.warm_start.name == "probe"
    assert not begun.folds  # all of them
    assert not read("ravdess/p3-warm").folds
    begun, whole = read("ravdess/p3-warm"), read("ravdess/p3-table1")
    base = settings("ravdess", begun, "baseline")
    assert [row for row in begun.rows if row != "frozen"] == [row for row in whole.rows if row != "layer average"]
    for row in begun.rows.keys() - {"frozen"}:
        assert begun.rows[row].paper == {"UA": whole.rows[row].paper["UAR"], "WA": whole.rows[row].paper["accuracy"]}
        ours, wanted = (settings("ravdess", one, row) for one in (begun, whole))
        assert (ours.alpha, ours.segments) == (wanted.alpha, wanted.segments)
        assert [(one.name, one.settings.get("at")) for one in ours.losses] == [
            (one.name, one.settings.get("at")) for one in wanted.losses
        ]
        assert (ours.backbone, ours.pooling, ours.train) == (base.backbone, base.pooling, base.train)


def test_p2_figure2_before_is_the_same_model_with_kl_alone() -> None:
    found = read("iemocap/p2-figure2")
    before, after = (settings("iemocap", found, row) for row in ("before", "after"))
    assert [one.name for one in before.losses] == ["kl"]
    assert (before.backbone, before.pooling, before.augment) == (after.backbone, after.pooling, after.augment)


def test_p3_figures_sweep_what_the_paper_swept_on_dev() -> None:
    sizes: Mapping[str, tuple[str, ...]] = {"iemocap": ("Ses01",), "ravdess": (), "fesc": ("#1",)}
    for corpus, folds in sizes.items():
        found = read(f"{corpus}/p3-figure2")
        assert found.grid == {"segments.length": tuple(range(40, 201, 20))}
        assert found.folds == folds
        assert [(cell.part, cell.curve) for cell in found.cells.values()] == [("dev", "segments.length")]
        point = merge.load("p3-seg", egs() / corpus / "recipe.yaml", dict(found.points[0].swept))
        assert str(point.segments) == "40:20:keep"  # the stride follows
    alphas = read("ravdess/p3-figure3")
    assert alphas.grid["alpha"] == tuple(n / 10 for n in range(11))
    assert 0 < settings("ravdess", alphas, "+tri(W)").train.subset < 1
    assert [(cell.part, cell.curve) for cell in alphas.cells.values()] == [("dev", "alpha")]


@pytest.mark.parametrize("name", P4_TABLES)
def test_p4_tables_have_the_printed_values_and_settings(name: str) -> None:
    found, (values, (focus, arc, gamma, margin), seconds) = read(name), P4_TABLES[name]
    assert list(printed(found, "WA", "UA").values()) == [pair(text, "WA", "UA") for text in values.split(", ")]
    rows = [settings(name.partition("/")[0], found, row) for row in trained(found)]
    assert [(one.losses[0].name, dict(one.losses[0].settings)) for one in rows] == [
        ("ce", {}),
        ("focal", {"gamma": focus}),
        ("arcface", {"margin": arc}),
        ("apfl", {"gamma": gamma, "margin": margin}),
    ]
    assert {(one.crop.length, one.crop.train, one.backbone.name) for one in rows if one.crop} == {
        (seconds, "center", "densenet169")
    }
    assert len(found.seeds) == 5


@pytest.mark.parametrize(
    ("table", "values"), [(4, ", ".join(P4_TABLE4)), (5, ", ".join(P4_TABLE5)), (6, P4_TABLE6), (7, P4_TABLE7)]
)
def test_p4_tables_of_fusion_have_the_printed_values(table: int, values: str) -> None:
    found = read(f"iemocap/p4-table{table}")
    assert list(printed(found, "WA", "UA").values()) == [pair(text, "WA", "UA") for text in values.split(", ")]
    assert len(found.seeds) == 5


def branches(one: Settings) -> Mapping[str, Mapping[str, object]]:
    """What a system of P4 is made of, by branch."""
    if one.backbone.name != "fusion":
        return {"image": {"name": one.backbone.name}}
    return one.backbone.settings["branches"]  # type: ignore[return-value]


def test_p4_tables_of_fusion_have_the_settings_of_their_rows() -> None:
    nets = ["resnet50"] * 4 + ["densenet169"] * 4
    four, five, six = (read(f"iemocap/p4-table{table}") for table in (4, 5, 6))
    rows = [settings("iemocap", four, row) for row in trained(four)]
    parts = [("image",), ("image", "text"), ("image", "audio"), ("image", "text", "audio")]
    assert [tuple(branches(one)) for one in rows] == parts * 2
    assert [branches(one)["image"]["name"] for one in rows] == nets
    assert {one["freeze"] for row in rows for name, one in branches(row).items() if name != "image"} == {"all"}
    rows = [settings("iemocap", five, row) for row in trained(five)]
    assert [branches(one)["image"]["name"] for one in rows] == nets
    tasks = [[(t.settings.get("reads"), t.weight) for t in one.losses if t.name == "aux"] for one in rows]
    reads: list[object] = [["image"], ["image", "audio"], None]
    weights = [0.25, 0.25, 0.25, 1.0, 0.5, 1.0]
    assert tasks == [[], *([(who, w)] for who, w in zip(reads, weights, strict=False)), []] + [
        [(who, w)] for who, w in zip(reads, weights[3:], strict=True)
    ]
    rows = [settings("iemocap", six, row) for row in trained(six)]
    assert [one.losses[0].name for one in rows] == ["ce", "apfl"] * 4
    assert [branches(one)["image"]["name"] for one in rows] == nets
    angular = [dict(one.losses[0].settings) for one in rows[1::2]]
    assert angular == [{"gamma": gamma, "margin": 0.3} for gamma in (2.0, 2.0, 0.5, 0.1)]


def test_p4_has_one_name_for_each_cell_of_its_tables() -> None:
    names = ["image", "image-text", "image-audio", "mtap", "mtap-mtl-a", "mtap-mtl-b", "mtap-mtl-c"]
    for name in names:
        plain, angular = (merge.load(f"p4-{name}{end}") for end in ("", "-apfl"))
        assert replace(angular, losses=plain.losses, system=plain.system) == plain
        assert (plain.losses[0].name, angular.losses[0].name) == ("ce", "apfl")
        assert plain.losses[1:] == angular.losses[1:]
    for table, same in (("image", "softmax"), ("image-apfl", "apfl")):
        assert replace(merge.load(f"p4-{table}"), system=f"p4-{same}") == merge.load(f"p4-{same}")


@pytest.mark.parametrize("corpus", ["iemocap", "emodb"])
def test_p4_grid_never_looks_at_the_test(corpus: str) -> None:
    found = read(f"{corpus}/p4-grid")
    assert found.parts == ["dev"]
    losses = {row: settings(corpus, found, row).losses[0] for row in trained(found)}
    gammas, margins = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0), (0.2, 0.3, 0.4, 0.5)
    assert {row: (one.name, one.settings) for row, one in losses.items()} == {
        **{f"focal, gamma {gamma}": ("focal", {"gamma": gamma}) for gamma in gammas},
        **{f"ArcFace, m {margin}": ("arcface", {"margin": margin}) for margin in margins},
        **{
            f"APFL, gamma {gamma}, m {margin}": ("apfl", {"gamma": gamma, "margin": margin})
            for gamma in gammas
            for margin in margins
        },
    }


@pytest.mark.parametrize("corpus", ["iemocap", "emodb", "ravdess"])
def test_p5_table3_has_the_printed_values_loaders_positions_and_losses(corpus: str) -> None:
    found = read(f"{corpus}/p5-table3")
    own = {row: one.paper for row, one in trained(found).items()}
    assert own == {row: pair(text, "WA", "UWA") for row, text in P5_TABLE3.items()}
    for row in own.keys() - {"baseline"}:
        s = settings(corpus, found, row)
        loader, position, loss = row.split(", ")
        (term,) = (one for one in s.losses if one.name == "contrastive")
        assert term.settings.get("pairs", "random") == {"loader_1": "random", "loader_2": "balanced"}[loader]
        assert term.settings.get("on", "embedding") == {"pos_1": "embedding", "pos_2": "posterior"}[position]
        assert term.settings.get("distance", "cosine") == {"loss_1": "cosine", "loss_2": "l2"}[loss]
        assert s.alpha == 0.7
    if corpus == "iemocap":
        assert {row: one.quoted for row, one in found.rows.items() if one.quoted} == {
            "best result in [6]": {"WA": 61.94}
        }


def test_p5_table2_has_the_printed_values_and_weights() -> None:
    found = read("iemocap/p5-table2")
    for task, (wa, weight) in P5_TABLE2.items():
        own = found.rows[task]
        assert (own.paper, own.settings["alpha"]) == ({"WA": wa}, weight)
        assert own.settings["losses"] == [{"name": "ce"}, {"name": "aux", "task": task}]
    assert found.rows["none"].paper == {"WA": 61.05}


def test_p5_figures_sweep_what_the_paper_swept() -> None:
    assert read("iemocap/p5-fig2").grid == {"crop.length": tuple(range(1, 16))}
    for name in ("p5-fig3", "p5-fig4"):
        assert read(f"iemocap/{name}").grid == {"alpha": (0.6, 0.7, 0.8, 0.9, 1)}
    for corpus in ("iemocap", "emodb", "ravdess"):
        found = read(f"{corpus}/p5-fig2")
        rows = {row: settings(corpus, found, row) for row in trained(found)}
        assert {row: (one.inputs["frames"].name, one.decision.name) for row, one in rows.items()} == {
            f"{feature}, {words}": (name, decision)
            for feature, name in (("13 MFCC", "mfcc"), ("26 log-Mel", "mel"))
            for words, decision in (("average", "mean"), ("crop", "random"))
        }
        for one in rows.values():
            (frames,) = one.inputs.values()
            mel = frames.settings.get("mel", frames.settings)
            assert isinstance(mel, Mapping)
            assert (mel["n_mels"], mel["window"], mel["n_fft"], mel["f_max"]) == (26, "hamming", 512, 6500.0)
    assert [len(read(f"iemocap/p5-{one}").seeds) for one in ("fig2", "fig3", "fig4", "table2", "table3")] == [20] * 5


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_is_compared_with_its_paper_on_the_papers_own_settings(name: str) -> None:
    corpus, found = name.partition("/")[0], read(name)
    assert all(one.source for one in found.rows.values() if one.quoted)
    for row in trained(found):
        s = settings(corpus, found, row)
        assert s.corpus is not None
        assert s.corpus.settings.get("title", s.corpus.name) == corpus
        assert s.protocol
        theirs = found.paper.backbone or s.backbone
        ours = (corpus, s.protocol.removesuffix(".yaml"), s.backbone.name, s.backbone.settings.get("source"))
        paper = (found.paper.corpus, found.paper.protocol, theirs.name, theirs.settings.get("source"))
        assert (ours != paper) == (name in ELSEWHERE)


# --- on their corpora -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[Path, list[list[str]]]]]:
    """What `sertk sweep NAME --dry-run` prints on a tree in the official layout, prepared; and the work folder.

    The weights of ImageNet are where torchvision keeps them, by their name, and those of VGGish in the folder vggish: a
    plan does not read them.
    """
    kept = tmp_path_factory.mktemp("torch")
    (kept / "hub/checkpoints").mkdir(parents=True)
    for name in ("densenet169-b2777c0a.pth", "resnet50-0676ba61.pth"):
        torch.save({}, kept / "hub/checkpoints" / name)
    (kept / "vggish").mkdir()
    torch.save({}, kept / "vggish" / "vggish.pt")
    short = ["--set", "audio.min_seconds=0.001"]

    def ran(*words: object) -> list[list[str]]:
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.stderr
        return [shlex.split(line) for line in done.stdout.splitlines()]

    @cache
    def place(corpus: str, protocol: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(corpus)
        root = official(corpus, folder / "the corpus")
        own = ["--set", f"protocol={protocol}", *short]
        ran("recipe", egs() / corpus, "--root", root, "--work", folder, *own, "--stop-stage", "prepare")
        return root, folder

    def plan(name: str) -> tuple[Path, list[list[str]]]:
        corpus, found = name.partition("/")[0], read(name)
        root, folder = place(corpus, str(settings(corpus, found, next(reversed(found.rows))).protocol))
        return folder, ran("sweep", name, "--root", root, "--work", folder, *short, "--dry-run")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(kept))
        patch.chdir(kept)
        yield plan


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_is_planned_on_the_tree_of_its_corpus(
    name: str, planned: Callable[[str], tuple[Path, list[list[str]]]]
) -> None:
    corpus, found = name.partition("/")[0], read(name)
    work, commands = planned(name)
    stages = [words[1] for words in commands]
    search = ["search"] * bool(found.searched)
    assert list(dict.fromkeys(stages)) == ["featurize", *search, "train", "score", "sweep"]  # it is prepared
    assert stages.count("sweep") == 1
    protocol = settings(corpus, found, next(reversed(found.rows))).protocol.removesuffix(".yaml")  # type: ignore[union-attr]
    (path,) = work.glob(f"data/*/protocols/{protocol}.json")
    known = list(protocols.load(path).folds)
    trained = []
    for words in commands:
        if words[1] == "train":
            value = {word: words[words.index(word) + 1] for word in ("--protocol", "--fold", "--seed", "--out")}
            assert value["--protocol"].removesuffix(".yaml") == protocol
            folder = value["--out"].partition("/fold=")[0]
            runs = [(fold, seed) for fold in folds_of(value["--fold"], known) for seed in seeds_of(value["--seed"])]
            trained += [(folder, *run) for run in runs]
    folds = len(found.folds) or len(known)  # which are named: the tests of those sweeps
    points = [point for point in found.points if point.row not in found.searched]  # what these train is not known yet
    assert len(trained) == len({*trained}) == len(points) * folds * len(found.seeds or (0,))
    assert stages.count("search") == sum(len(known) if one.nested else 1 for one in found.searched.values())

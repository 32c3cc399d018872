"""The named sweeps of the papers: what they compare with is what was printed, and each is planned on its own corpus."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.corpus import protocols
from sertk.settings import merge, sweep
from sertk.settings.packaged import egs
from sertk.settings.schema import Settings
from sertk.settings.several import folds_of, seeds_of
from sertk.settings.sweep import Sweep, Values
from sertk.testing import official

SWEEPS = {
    "fesc": ["p3-alpha", "p3-duration", "p3-figure2", "p3-table1", "p3-table2"],
    "iemocap": [
        *("p2-figure2", "p2-table1", "p2-table3"),
        *("p3-alpha", "p3-duration", "p3-figure2", "p3-table1", "p3-table2"),
    ],
    "msp_improv": ["p2-table1"],
    "ravdess_savee_tess": ["p1-speakers", "p1-table1", "p1-table2"],
    "ravdess": ["p2-table1", "p3-figure2", "p3-figure3", "p3-table1", "p3-table2"],
    "savee": ["p2-table2"],
}
NAMES = [f"{corpus}/{name}" for corpus, names in SWEEPS.items() for name in names]
P3 = ("iemocap", "ravdess", "fesc")

OTHER_PROTOCOL = {"ravdess_savee_tess/p1-speakers": "speakers"}
"""Sweeps that are not on their paper's protocol, and the protocol that they are on."""

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


def read(name: str) -> Sweep:
    corpus, own = name.split("/")
    return sweep.load(egs() / corpus / "sweeps" / f"{own}.yaml")


def lines(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def printed(found: Sweep, *cells: str) -> dict[str, Values]:
    """The values of the paper and of what it quotes, of some cells."""
    rows = {name: {**row.paper, **row.quoted} for name, row in found.rows.items()}
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
    for name, row in found.rows.items():
        (trained,) = settings("ravdess_savee_tess", found, name).losses
        assert row.metric(found.cells["test loss"]).settings.get("of", "ce") == trained.name
        assert not trained.settings


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


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_is_compared_with_its_paper_on_the_papers_own_settings(name: str) -> None:
    corpus, found = name.partition("/")[0], read(name)
    for row, one in found.rows.items():
        if one.quoted:
            assert one.source
            continue
        s = settings(corpus, found, row)
        assert s.corpus is not None
        assert found.paper.corpus == s.corpus.settings.get("title", s.corpus.name) == corpus
        assert s.protocol
        assert OTHER_PROTOCOL.get(name, found.paper.protocol) == s.protocol.removesuffix(".yaml")
        theirs = found.paper.backbone or s.backbone
        assert (theirs.name, theirs.settings.get("source")) == (s.backbone.name, s.backbone.settings.get("source"))


# --- on their corpora -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[list[str]]]]:
    """What `sertk sweep NAME --dry-run` prints on a tree in the official layout, prepared; and the work folder."""
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

    return plan


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_is_planned_on_the_tree_of_its_corpus(
    name: str, planned: Callable[[str], tuple[Path, list[list[str]]]]
) -> None:
    found = read(name)
    work, commands = planned(name)
    stages = [words[1] for words in commands]
    assert list(dict.fromkeys(stages)) == ["featurize", "train", "score", "sweep"]  # it is prepared
    assert stages.count("sweep") == 1
    protocol = OTHER_PROTOCOL.get(name, found.paper.protocol)
    (path,) = work.glob(f"data/*/protocols/{protocol}.json")
    known = list(protocols.load(path).folds)
    trained = []
    for words in commands:
        if words[1] == "train":
            value = {word: words[words.index(word) + 1] for word in ("--protocol", "--fold", "--seed", "--out")}
            assert value["--protocol"] == protocol
            folder = value["--out"].partition("/fold=")[0]
            runs = [(fold, seed) for fold in folds_of(value["--fold"], known) for seed in seeds_of(value["--seed"])]
            trained += [(folder, *run) for run in runs]
    folds = 1 if name.endswith("figure2") and name.startswith(("iemocap/p3", "fesc")) else len(known)
    assert len(trained) == len({*trained}) == len(found.points) * folds * len(found.seeds or (0,))

"""FESC: a recipe over a list of one's own, on a made-up tree of its form."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.corpus.prepared import Data
from sertk.settings.packaged import egs
from sertk.testing.trees import fesc

RECIPE = egs() / "fesc"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fesc.write(tmp_path_factory.mktemp("fesc") / "corpus", seconds=0.11)


@pytest.fixture(scope="module")
def data(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    """The tree as the recipe's first stage prepares it."""
    work = tmp_path_factory.mktemp("work")
    words = ["recipe", str(RECIPE), "--root", str(root), "--work", str(work), "--stop-stage", "prepare"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return Data(work / "data/fesc")


def test_the_recipe_prepares_nine_speakers_and_five_classes(data: Data) -> None:
    assert data.corpus == "fesc"
    folds = data.protocol("loso")
    assert folds.classes == ("affection", "anger", "joy", "neutral", "sadness")
    assert len(folds.labels) == 9 * 5 * 2
    genders = {one.speaker: one.gender for one in data.utterances.values()}
    assert sorted(genders.values()) == ["female"] * 4 + ["male"] * 5


def test_one_speaker_tests_the_next_validates_and_seven_train(data: Data) -> None:
    folds = data.protocol("loso")
    assert folds.stamp == "speaker-independent"
    assert list(folds.folds) == [str(n) for n in range(1, 10)]
    for n, parts in enumerate(folds.folds.values(), 1):
        train, dev, test = ({data.utterances[i].speaker for i in ids} for ids in parts)
        assert (test, dev) == ({str(n)}, {str(n % 9 + 1)})
        assert len(train | dev | test) == 9
        assert len(train) == 7


def test_the_recipe_prints_its_commands(root: Path, tmp_path: Path) -> None:
    words = [
        "recipe",
        str(RECIPE),
        "--root",
        str(root),
        "--work",
        str(tmp_path),
        "--dry-run",
        "--stop-stage",
        "prepare",
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "table:title=fesc,list=fesc.csv" in done.output
    assert "loso.yaml" in done.output
    assert not (tmp_path / "data").exists()


def test_a_label_in_other_words_is_dropped_with_the_reason(root: Path, tmp_path: Path) -> None:
    text = (root / "fesc.csv").read_text(encoding="utf-8")
    (root / "other.csv").write_text(text.replace(",joy,", ",ilo,"), encoding="utf-8")
    spec, protocol = "table:list=other.csv,title=fesc", str(RECIPE / "loso.yaml")
    words = ["prepare", spec, "--root", str(root), "--out", str(tmp_path / "out"), "--protocol", protocol]
    assert CliRunner().invoke(app, words).exit_code == 0
    content = (tmp_path / "out/protocols/loso.json").read_text(encoding="utf-8")
    assert content.count("label 'ilo' is not in the label map") == 18

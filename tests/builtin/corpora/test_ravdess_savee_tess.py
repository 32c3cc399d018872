"""RAVDESS, SAVEE and TESS as one corpus: P1's counts and split, the speaker-disjoint folds, and what is missing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sertk.core import Corpus, Rejected, SertkError, Utterance
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import make
from sertk.corpus.readers import reader
from sertk.plugins import Plugins
from sertk.stages.prepare import prepare
from sertk.testing.trees import ravdess_savee_tess

NAME = "ravdess_savee_tess"
PLUGINS = Plugins()
SIX = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")


def union() -> Corpus:
    return reader(PLUGINS, NAME)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three corpora below one folder."""
    return ravdess_savee_tess.write(tmp_path_factory.mktemp("three corpora"))


@pytest.fixture(scope="module")
def found(root: Path) -> dict[str, Utterance]:
    """Their utterances by id."""
    found = list(union().read(root))
    assert all(isinstance(one, Utterance) for one in found)
    return {one.id: one for one in found if isinstance(one, Utterance)}


def test_the_union_is_4720_clips_in_eight_classes(found: dict[str, Utterance]) -> None:
    counts = Counter(one.label for one in found.values())
    assert counts == {"neutral": 616, "calm": 192, **dict.fromkeys(SIX, 652)} == union().published
    assert sum(counts.values()) == 4720
    assert Counter(one.aux["corpus"] for one in found.values()) == {"ravdess": 1440, "savee": 480, "tess": 2800}
    assert len({one.speaker for one in found.values()}) == 30
    assert found["DC_a01"].path == "savee/AudioData/DC/a01.wav"


def test_the_random_split_has_the_sizes_of_p1(found: dict[str, Utterance]) -> None:
    folds, dropped, absent = make(NAME, "random", union().protocols["random"], found.values())
    assert dropped == absent == []
    (fold,) = folds.folds.values()
    assert [len(part) for part in fold] == [3771, 471, 478]
    assert Counter(folds.labels[i] for i in fold.test) == {"neutral": 62, "calm": 20, **dict.fromkeys(SIX, 66)}


def test_the_folds_of_speakers_have_every_class_and_corpus_in_train_and_test(found: dict[str, Utterance]) -> None:
    folds, dropped, absent = make(NAME, "speakers", union().protocols["speakers"], found.values())
    assert dropped == absent == []
    assert sorted(i for fold in folds.folds.values() for i in fold.test) == sorted(found)
    devs = {"1": {"21", "22", "23", "24", "KL"}, "2": {"09", "10", "11", "12", "JE"}}
    for name, fold in folds.folds.items():
        train, dev, test = ({found[i].speaker for i in part} for part in fold)
        assert dev == devs[name]
        assert (len(train), len(test)) == (10, 15)
        assert not train & dev
        assert not (train | dev) & test
        assert all({folds.labels[i] for i in part} == set(folds.classes) for part in fold)
        for part in (fold.train, fold.test):
            assert {found[i].aux["corpus"] for i in part} == {"ravdess", "savee", "tess"}


def test_prepare_stamps_the_random_split_and_finds_the_twins(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(NAME, root, tmp_path, [], 0, 2) == 0
    assert Data(tmp_path).protocol("random").stamp == "SPEAKER-DEPENDENT"
    assert Data(tmp_path).protocol("speakers").stamp == "speaker-independent"
    said = capsys.readouterr().err
    assert f"{NAME}: 4720 utterances here of 4720 published" in said
    assert "is missing" not in said
    assert len(json.loads((tmp_path / "corpus.json").read_text())["duplicates"]) == 1


def test_a_missing_part_is_named_and_counted(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = tmp_path / "two of three"
    part.mkdir()
    (part / "RAVDESS").symlink_to(root / "ravdess")  # in any case
    (part / "Tess").symlink_to(root / "tess")
    (part / "more").mkdir()
    assert prepare(NAME, part, tmp_path / "out", [], 0, 2) == 0
    said = capsys.readouterr().err
    assert f"savee is missing: {part} has no such folder; built of ravdess and tess" in said
    assert "4240 utterances here of 4720 published" in said
    assert "  neutral: 496 of 616, 120 missing" in said
    assert "  calm" not in said
    assert "speaker DC (tested in fold 1, not in this corpus folder)" in said
    (fold,) = Data(tmp_path / "out").protocol("random").folds.values()
    assert [len(part) for part in fold] == [3387, 423, 430]


def test_songs_are_passed_over_and_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "ravdess").mkdir()
    for name in ("03-01-03-01-02-01-07.wav", "03-02-03-01-02-01-07.wav", "03-01-33-01-02-01-07.wav"):
        (tmp_path / "ravdess" / name).touch()
    corpus = union()
    good, bad = corpus.read(tmp_path)
    assert isinstance(good, Utterance)
    assert good.id == "03-01-03-01-02-01-07"
    assert isinstance(bad, Rejected)
    assert "ravdess: RAVDESS: 1 files are not speech and are passed over" in corpus.notes()


def test_a_folder_with_none_of_them_or_with_one_twice_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SertkError, match="a folder for each part: ravdess, savee, tess"):
            list(union().read(folder))
    (tmp_path / "tess").mkdir()
    (tmp_path / "TESS").mkdir()
    with pytest.raises(SertkError, match="has two folders of tess: TESS and tess"):
        list(union().read(tmp_path))

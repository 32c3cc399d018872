"""SAVEE: both layouts, its counts, its folds, and what is told of other files."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from sertk.builtin.corpora.common import fold_table
from sertk.builtin.corpora.savee import Savee
from sertk.core import PAIRS, Rejected, SertkError, Utterance
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds, make
from sertk.stages.prepare import prepare
from sertk.testing.trees import savee


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus in folders of speakers."""
    return savee.write(tmp_path_factory.mktemp("savee in folders"))


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus in one folder."""
    return savee.write(tmp_path_factory.mktemp("savee"), flat=True)


def read(folder: Path) -> dict[str, Utterance]:
    found = list(Savee().read(folder))
    assert all(isinstance(one, Utterance) for one in found)
    return {one.id: one for one in found if isinstance(one, Utterance)}


def folds_of(name: str, root: Path) -> Folds:
    folds, dropped, absent = make("savee", name, Savee.protocols[name], read(root).values())
    assert dropped == absent == []
    return folds


def test_a_clip_is_the_same_in_both_layouts(root: Path, flat: Path) -> None:
    one, other = read(root), read(flat)
    assert one.keys() == other.keys()
    assert one["JK_sa05"] == Utterance(
        id="JK_sa05",
        path="AudioData/JK/sa05.wav",
        speaker="JK",
        gender="male",
        label="sadness",
        aux={"sentence": "sa05"},
    )
    assert other["JK_sa05"].path == "JK_sa05.wav"
    assert all(other[i].label == u.label and other[i].speaker == u.speaker for i, u in one.items())


def test_480_clips_are_120_neutral_and_60_of_each_other_emotion(root: Path) -> None:
    found = read(root).values()
    others = ["anger", "disgust", "fear", "happiness", "sadness", "surprise"]
    assert Counter(one.label for one in found) == {"neutral": 120, **dict.fromkeys(others, 60)} == Savee.published
    assert Counter(one.speaker for one in found) == dict.fromkeys(["DC", "JE", "JK", "KL"], 120)


def test_every_fold_of_speakers_tests_the_speaker_of_its_name(root: Path) -> None:
    folds = folds_of("speakers", root)
    assert list(folds.folds) == ["DC", "JE", "JK", "KL"]
    for name, fold in folds.folds.items():
        train, dev, test = ({i[:2] for i in part} for part in fold)
        assert test == {name}
        assert (len(train), len(dev), len(train | dev | test)) == (2, 1, 4)
        assert [len(part) for part in fold] == [240, 120, 120]


def test_random5_tests_each_clip_once_with_every_class_in_equal_shares(root: Path) -> None:
    folds = folds_of("random5", root)
    assert sorted(i for fold in folds.folds.values() for i in fold.test) == sorted(folds.labels)
    for fold in folds.folds.values():
        assert Counter(folds.labels[i] for i in fold.test) == {k: n // 5 for k, n in Savee.published.items()}
        assert len(fold.dev) == 40  # a tenth of 96 neutral and of 48 each, rounded


def test_emobox_has_its_published_folds(root: Path) -> None:
    folds = folds_of("emobox", root)
    with fold_table("emobox_savee").open(newline="") as file:
        rows = {row["utterance"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert {i: name for name, fold in folds.folds.items() for i in fold.test} == {
        i: row["test_folds"] for i, row in rows.items()
    }
    words = {(row["emotion"], folds.labels[i]) for i, row in rows.items()}
    assert len(words) == 7


def test_prepare_stamps_the_random_folds_alone_and_says_that_sentences_are_unknown(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("savee", root, tmp_path, [], 0, 2) == 0
    stamps = {name: Data(tmp_path).protocol(name).stamp for name in Savee.protocols}
    assert stamps == {
        "speakers": "speaker-independent",
        "random5": "SPEAKER-DEPENDENT",
        "emobox": "speaker-independent",
    }
    assert all(Data(tmp_path).protocol(name).shares["text"] == list(PAIRS) for name in stamps)  # by their codes
    said = capsys.readouterr().err
    assert "savee: 480 utterances here of 480 published" in said
    assert "SAVEE has no transcripts" in said


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("DC/a16.wav", "unknown sentence '16' in 'a16.wav'"),
        ("DC/a1.wav", "unknown sentence '1' in 'a1.wav'; known: 01, 02"),
        ("DC/n31.wav", "unknown sentence '31'"),
        ("DC/s01.wav", "unknown emotion 's' in 's01.wav'; known: a, d, f, h, n, sa, su"),
        ("XX/a01.wav", "unknown speaker 'XX' in 'a01.wav'; known: DC, JE, JK, KL"),
        ("XX_a01.wav", "unknown speaker 'XX'"),
        ("DC/notes.wav", "unknown emotion 'notes'"),
        ("DC/DC_.wav", "unknown emotion ''"),
    ],
)
def test_other_files_are_rejected_with_the_reason(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    (tmp_path / "._DC_a01.wav").touch()
    (rejected,) = Savee().read(tmp_path)
    assert isinstance(rejected, Rejected)
    assert says in rejected.reason


def test_the_same_clip_in_both_layouts_is_an_error_that_names_both(tmp_path: Path) -> None:
    for name in ("DC_a01.wav", "AudioData/DC/a01.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(SertkError, match=r"'DC_a01' comes twice: AudioData/DC/a01\.wav and DC_a01\.wav\. Keep one"):
        prepare("savee", tmp_path, tmp_path / "out", [], 0, 1)

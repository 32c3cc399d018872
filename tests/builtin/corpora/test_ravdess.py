"""RAVDESS: speech and song as published, what a folder is compared with, and the folds of P2, P3 and EmoBox."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sertk.builtin.corpora.ravdess import Ravdess
from sertk.core import Rejected, Utterance
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds, make
from sertk.stages.prepare import prepare
from sertk.testing.trees import ravdess

TWINS = ["03-01-03-01-02-01-07", "03-01-03-01-02-02-07"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech and song, as the two archives unpack."""
    return ravdess.write(tmp_path_factory.mktemp("all of it"))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The speech alone."""
    return ravdess.write(tmp_path_factory.mktemp("speech"), modalities=["speech"])


@pytest.fixture(scope="module")
def everything(whole: Path) -> list[Utterance]:
    """The utterances of speech and song."""
    return read(Ravdess(), whole)


def read(corpus: Ravdess, root: Path) -> list[Utterance]:
    found = list(corpus.read(root))
    assert all(isinstance(one, Utterance) for one in found)
    return [one for one in found if isinstance(one, Utterance)]


def folds_of(name: str, utterances: list[Utterance]) -> Folds:
    return make("ravdess", name, Ravdess.protocols[name], utterances).folds


def labels(utterances: list[Utterance]) -> Counter[str | None]:
    return Counter(one.label for one in utterances)


def test_all_of_it_is_1440_clips_of_speech_and_1012_of_song(everything: list[Utterance]) -> None:
    assert Counter(one.aux["modality"] for one in everything) == {"speech": 1440, "song": 1012}
    songs = [one for one in everything if one.aux["modality"] == "song"]
    assert labels(songs) == dict.fromkeys(["calm", "happiness", "sadness", "anger", "fear"], 184) | {"neutral": 92}
    assert "18" not in {one.speaker for one in songs}
    assert len({one.speaker for one in songs}) == 23


def test_the_two_statements_are_said_equally_often(everything: list[Utterance]) -> None:
    said = Counter((one.id.split("-")[4], one.text) for one in everything)
    assert said == {
        ("01", "Kids are talking by the door."): 1226,
        ("02", "Dogs are sitting by the door."): 1226,
    }


def test_a_song_says_everything_in_its_name(everything: list[Utterance]) -> None:
    (one,) = [one for one in everything if one.id == "03-02-05-02-01-02-08"]
    assert one == Utterance(
        id="03-02-05-02-01-02-08",
        path="Audio_Song_Actors_01-24/Actor_08/03-02-05-02-01-02-08.wav",
        speaker="08",
        gender="female",
        text="Kids are talking by the door.",
        label="anger",
        aux={"modality": "song", "intensity": "strong", "repetition": 2},
    )


def test_what_is_published_is_that_of_the_modalities_in_the_folder(whole: Path, speech: Path) -> None:
    corpus = Ravdess()
    assert labels(read(corpus, speech)) == corpus.published
    assert sum(corpus.published.values()) == 1440
    assert labels(read(corpus, whole)) == corpus.published
    assert sum(corpus.published.values()) == 2452
    assert corpus.notes() == []
    assert sum(Ravdess.published.values()) == 1440  # one reader's folder is not another's


@pytest.mark.parametrize(("modality", "kept", "passed"), [("speech", 1440, 1012), ("song", 1012, 1440)])
def test_files_of_the_other_modality_are_passed_over_and_told(
    whole: Path, modality: str, kept: int, passed: int
) -> None:
    corpus = Ravdess(modality)  # type: ignore[arg-type]
    assert sum(corpus.published.values()) == kept
    assert labels(read(corpus, whole)) == corpus.published
    assert corpus.notes() == [f"RAVDESS: {passed} files are not {modality} and are passed over"]


def test_both_asked_for_and_one_there_is_told_as_missing(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("ravdess:modality=both", speech, tmp_path, ["speech"], 0, 2) == 0
    said = capsys.readouterr().err
    assert "ravdess: 1440 utterances here of 2452 published" in said
    assert "  calm: 192 of 376, 184 missing" in said
    assert "  disgust" not in said


# --- folds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "classes", "clips"), [("speech", 8, 1440), ("song", 6, 1012), ("both", 8, 2452)])
def test_six_folds_test_four_actors_each_in_order(
    everything: list[Utterance], name: str, classes: int, clips: int
) -> None:
    folds = folds_of(name, everything)
    speaker = {one.id: one.speaker for one in everything}
    assert len(folds.classes) == classes
    assert sorted(i for fold in folds.folds.values() for i in fold.test) == sorted(folds.labels)
    assert len(folds.labels) == clips
    for n, fold in enumerate(folds.folds.values()):
        train, dev, test = ({speaker[i] for i in part} for part in fold)
        block = {f"{actor:02d}" for actor in range(4 * n + 1, 4 * n + 5)}
        assert test == (block - {"18"} if name == "song" else block)
        assert sorted(int(actor) % 2 for actor in dev) == [0, 0, 1, 1]
        assert not train & dev
        assert not (train | dev) & test
        assert {folds.labels[i] for i in fold.test} == set(folds.classes)


def test_p3_tests_208_clips_of_two_actors_in_seven_classes(everything: list[Utterance]) -> None:
    folds = folds_of("p3", everything)
    (fold,) = folds.folds.values()
    speaker = {one.id: one.speaker for one in everything}
    train, dev, test = (sorted({speaker[i] for i in part}) for part in fold)
    assert (train[0], train[-1], len(train), dev, test) == ("01", "20", 20, ["21", "22"], ["23", "24"])
    assert Counter(folds.labels[i] for i in fold.test) == {
        **dict.fromkeys(["happiness", "sadness", "anger", "fear"], 32),
        **{"neutral": 48, "disgust": 16, "surprise": 16},
    }
    assert Counter(folds.labels.values()) == Ravdess.protocols["p3"].published
    assert sum(map(len, fold)) == 2452


@pytest.mark.parametrize("name", list(Ravdess.protocols))
def test_a_protocol_keeps_what_its_source_counts(everything: list[Utterance], name: str) -> None:
    assert Counter(folds_of(name, everything).labels.values()) == Ravdess.protocols[name].published


def test_emobox_drops_the_songs_and_says_why(everything: list[Utterance]) -> None:
    _, dropped, absent = make("ravdess", "emobox", Ravdess.protocols["emobox"], everything)
    assert absent == []
    assert len(dropped) == 1012
    assert {one["reason"] for one in dropped} == {"modality is 'song', not one of ['speech']"}


def test_the_published_twins_are_found_and_no_fold_shares_them(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("ravdess", speech, tmp_path, [], 0, 2) == 0
    said = capsys.readouterr().err
    assert f"the same recording under several names: {' = '.join(TWINS)}" in said
    assert "protocol song is left out" in said
    assert json.loads((tmp_path / "corpus.json").read_text())["duplicates"] == [TWINS]
    for name in ("emobox", "speech", "both", "p3"):
        assert Data(tmp_path).protocol(name).stamp == "speaker-independent"
        audit = json.loads((tmp_path / f"protocols/{name}.json").read_text())["audit"]
        assert not any(fold["shared"]["audio"] or fold["shared"]["speaker"] for fold in audit.values())


def test_files_that_mac_leaves_are_no_audio_and_unknown_codes_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "Actor 01"
    folder.mkdir()
    for name in ("._03-01-01-01-01-01-01.wav", "03-01-01-01-01-01-01.wav", "03-03-01-01-01-01-01.wav"):
        (folder / name).touch()
    good, bad = Ravdess().read(tmp_path)
    assert isinstance(good, Utterance)
    assert good.path == "Actor 01/03-01-01-01-01-01-01.wav"
    assert isinstance(bad, Rejected)
    assert bad.reason == "unknown modality '03' in '03-03-01-01-01-01-01.wav'; known: 01, 02"

"""TESS: any spelling, the misnamed file, AIFF called .wav, its counts and folds."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from sertk.builtin.corpora.common import fold_table
from sertk.builtin.corpora.tess import Tess
from sertk.core import Rejected, Utterance
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import make
from sertk.stages.prepare import prepare
from sertk.testing.trees import tess


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as published."""
    return tess.write(tmp_path_factory.mktemp("tess as published"))


@pytest.fixture(scope="module")
def found(root: Path) -> dict[str, Utterance]:
    """Its utterances by id."""
    found = list(Tess().read(root))
    assert all(isinstance(one, Utterance) for one in found)
    return {one.id: one for one in found if isinstance(one, Utterance)}


def test_2800_clips_are_400_of_each_emotion_and_1400_of_each_woman(found: dict[str, Utterance]) -> None:
    emotions = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    assert Counter(one.label for one in found.values()) == dict.fromkeys(emotions, 400) == Tess.published
    assert Counter((one.speaker, one.gender, one.aux["age"]) for one in found.values()) == {
        ("OAF", "female", 64): 1400,
        ("YAF", "female", 26): 1400,
    }
    assert Counter(Counter(one.text for one in found.values()).values()) == {14: 200}


def test_folders_of_any_spelling_are_read(found: dict[str, Utterance]) -> None:
    assert found["OAF_back_ps"].path == "OAF_Pleasant_surprise/OAF_back_ps.wav"
    assert found["YAF_back_ps"] == Utterance(
        id="YAF_back_ps",
        path="YAF_pleasant_surprised/YAF_back_ps.wav",
        speaker="YAF",
        gender="female",
        text="Say the word back.",
        label="surprise",
        aux={"age": 26},
    )


@pytest.mark.parametrize("name", ["oaf_Back_FEAR.WAV", "OAF_back_fear.wav"])
def test_names_in_any_case_have_one_id(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (one,) = Tess().read(tmp_path)
    assert isinstance(one, Utterance)
    assert (one.id, one.speaker, one.label, one.text) == ("OAF_back_fear", "OAF", "fear", "Say the word back.")


def test_the_misnamed_file_has_the_id_that_was_meant_and_is_told(root: Path) -> None:
    corpus = Tess()
    (one,) = [one for one in corpus.read(root) if isinstance(one, Utterance) and one.id == "OAF_bite_neutral"]
    assert one.path == "OAF_neutral/OA_bite_neutral.wav"
    assert one.speaker == "OAF"
    assert corpus.notes() == ["OA_bite_neutral.wav is misnamed as published, and read as OAF_bite_neutral"]


def test_aiff_called_wav_is_read_by_what_it_is(root: Path, tmp_path: Path) -> None:
    paths = [root / "OAF_angry/OAF_back_angry.wav", root / "YAF_angry/YAF_back_angry.wav"]
    assert all(path.read_bytes()[:4] == b"FORM" for path in paths)
    assert prepare("tess", root, tmp_path, [], 0, 2) == 0  # none fails
    assert Data(tmp_path).facts["OAF_back_angry"].seconds == pytest.approx(0.005)
    assert json.loads((tmp_path / "corpus.json").read_text())["duplicates"] == []
    assert Data(tmp_path).protocol("speakers").stamp == "speaker-independent"
    assert Data(tmp_path).protocol("emobox").stamp == "SPEAKER-DEPENDENT"


def test_every_fold_of_speakers_tests_the_woman_of_its_name(found: dict[str, Utterance]) -> None:
    folds, dropped, absent = make("tess", "speakers", Tess.protocols["speakers"], found.values())
    assert dropped == absent == []
    for name, fold in folds.folds.items():
        assert {found[i].speaker for i in fold.test} == {name}
        assert {found[i].speaker for i in (*fold.train, *fold.dev)} == {"OAF", "YAF"} - {name}
        assert [Counter(folds.labels[i] for i in part)["surprise"] for part in fold] == [180, 20, 200]
        assert [len(part) for part in fold] == [1260, 140, 1400]


def test_emobox_tests_its_published_700_and_only_trains_on_the_rest(found: dict[str, Utterance]) -> None:
    folds, dropped, absent = make("tess", "emobox", Tess.protocols["emobox"], found.values())
    assert dropped == absent == []
    with fold_table("emobox_tess").open(newline="") as file:
        rows = {row["utterance"]: row for row in csv.DictReader(file, delimiter="\t")}
    (fold,) = folds.folds.values()
    assert set(fold.test) == {i for i, row in rows.items() if row["test_folds"] == "1"}
    assert {*fold.train, *fold.dev} == {i for i, row in rows.items() if not row["test_folds"]}
    assert [len(part) for part in fold] == [1890, 210, 700]
    assert len({(row["emotion"], folds.labels[i]) for i, row in rows.items()}) == 7


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("OAF_back.wav", "'OAF_back.wav' is not the name of a TESS file (OAF_back_angry)"),
        ("OAF_12_angry.wav", "is not the name of a TESS file"),
        ("OA_back_angry.wav", "unknown speaker 'OA' in 'OA_back_angry.wav'; known: OAF, YAF"),
        ("OAF_back_calm.wav", "unknown emotion 'calm' in 'OAF_back_calm.wav'; known: angry, disgust"),
    ],
)
def test_other_files_are_rejected_with_the_reason(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "._OAF_back_angry.wav").touch()
    (rejected,) = Tess().read(tmp_path)
    assert isinstance(rejected, Rejected)
    assert says in rejected.reason

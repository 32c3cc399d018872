"""Real corpora, behind the marker `slow`: SERTK_RAVDESS=FOLDER SERTK_EMODB=FOLDER tools/test.sh -m slow.

SERTK_TESS is TESS's folder, SERTK_UNION one with the folders of RAVDESS and TESS, and SAVEE's or not.
"""

import json
import os
from pathlib import Path

import pytest

from sertk.corpus.prepared import Data
from sertk.stages.prepare import prepare

pytestmark = pytest.mark.slow


def prepared(corpus: str, variable: str, out: Path) -> Data:
    root = os.environ.get(variable)
    if root is None:
        pytest.fail(f"set {variable} to the folder of {corpus}")
    assert prepare(corpus, Path(root), out, [], 0.1, 2) == 0
    return Data(out)


@pytest.fixture(scope="module")
def ravdess(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """RAVDESS speech, prepared."""
    return prepared("ravdess", "SERTK_RAVDESS", tmp_path_factory.mktemp("data") / "ravdess")


@pytest.fixture(scope="module")
def emodb(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """EmoDB, or a part of it that holds the four emotions of loso4 whole, prepared."""
    return prepared("emodb", "SERTK_EMODB", tmp_path_factory.mktemp("data") / "emodb")


@pytest.fixture(scope="module")
def tess(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """TESS, prepared."""
    return prepared("tess", "SERTK_TESS", tmp_path_factory.mktemp("data") / "tess")


@pytest.fixture(scope="module")
def union(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """RAVDESS and TESS, with SAVEE or without, prepared."""
    return prepared("ravdess_savee_tess", "SERTK_UNION", tmp_path_factory.mktemp("data") / "union")


def test_ravdess_is_complete_and_its_published_duplicate_is_found(ravdess: Data) -> None:
    counts = json.loads((ravdess.folder / "corpus.json").read_text())["counts"]
    assert all(count["here"] == count["published"] for count in counts.values())
    by_sound: dict[str, list[str]] = {}
    for name, facts in ravdess.facts.items():
        by_sound.setdefault(facts.sha256, []).append(name)
    assert [names for names in by_sound.values() if len(names) > 1] == [
        ["03-01-03-01-02-01-07", "03-01-03-01-02-02-07"]
    ]


def test_no_emobox_fold_shares_a_speaker_or_a_sound(ravdess: Data) -> None:
    folds = ravdess.protocol("emobox")
    assert folds.stamp == "speaker-independent"
    audit = json.loads((ravdess.folder / "protocols/emobox.json").read_text())["audit"]
    assert len(audit) == 6
    assert all(not fold["shared"]["speaker"] and not fold["shared"]["audio"] for fold in audit.values())
    assert sorted(i for fold in folds.folds.values() for i in fold.test) == sorted(ravdess.utterances)


def test_emodb_has_the_four_emotions_of_loso4_whole_and_what_listeners_said_of_each(emodb: Data) -> None:
    counts = json.loads((emodb.folder / "corpus.json").read_text())["counts"]
    assert {label: count["here"] for label, count in counts.items() if label not in ("boredom", "disgust", "fear")} == {
        "anger": 127,
        "happiness": 71,
        "neutral": 79,
        "sadness": 62,
    }
    assert all(count["here"] <= count["published"] for count in counts.values())
    rated = [one.aux for one in emodb.utterances.values() if "recognised" in one.aux]
    assert len(rated) in (0, len(emodb.utterances))  # none without erkennung.txt
    assert all(80 <= aux["recognised"] <= 100 and 0 <= aux["naturalness"] <= 100 for aux in rated)


def test_no_fold_of_emodb_shares_a_speaker_or_a_sound(emodb: Data) -> None:
    for name in ("loso", "loso4"):
        folds = emodb.protocol(name)
        assert folds.stamp == "speaker-independent"
        audit = json.loads((emodb.folder / f"protocols/{name}.json").read_text())["audit"]
        assert len(audit) == 10
        assert all(not fold["shared"]["speaker"] and not fold["shared"]["audio"] for fold in audit.values())
    for fold in folds.folds.values():  # of loso4
        assert sum(map(len, fold)) == 339
        assert all({folds.labels[i] for i in part} == set(folds.classes) for part in fold)


def test_tess_is_complete_and_no_recording_is_twice_in_it(tess: Data) -> None:
    about = json.loads((tess.folder / "corpus.json").read_text())
    assert all(count == {"here": 400, "published": 400} for count in about["counts"].values())
    assert about["duplicates"] == []
    assert "OAF_bite_neutral" in tess.utterances
    assert tess.protocol("speakers").stamp == "speaker-independent"
    assert [len(part) for part in tess.protocol("emobox").folds["1"]] == [1890, 210, 700]


def test_a_part_of_emodb_says_what_is_missing(emodb: Data) -> None:
    counts = json.loads((emodb.folder / "corpus.json").read_text())["counts"]
    short = {label for label, count in counts.items() if count["here"] < count["published"]}
    assert short <= {"boredom", "disgust", "fear"}
    assert len(emodb.utterances) == (342 if short else 535)


def test_the_union_is_what_its_notes_say(union: Data) -> None:
    about = json.loads((union.folder / "corpus.json").read_text())
    without = [note for note in about["notes"] if note.startswith("savee is missing")]
    assert len(union.utterances) == (4240 if without else 4720)
    assert sum(map(len, union.protocol("random").folds["1"])) == len(union.utterances)
    assert union.protocol("random").stamp == "SPEAKER-DEPENDENT"
    assert union.protocol("speakers").stamp == "speaker-independent"

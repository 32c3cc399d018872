"""Real corpora, behind the marker `slow`: SERTK_RAVDESS=FOLDER SERTK_EMODB=FOLDER tools/test.sh -m slow."""

import json
import os
from pathlib import Path

import pytest

from sertk.data import Data
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

"""Real corpora, behind the marker `slow`: SERTK_RAVDESS=FOLDER tools/test.sh -m slow."""

import json
import os
from pathlib import Path

import pytest

from sertk.data import Data
from sertk.stages.prepare import prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ravdess(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """RAVDESS speech, prepared."""
    root = os.environ.get("SERTK_RAVDESS")
    if root is None:
        pytest.fail("set SERTK_RAVDESS to the folder of RAVDESS speech")
    out = tmp_path_factory.mktemp("data") / "ravdess"
    assert prepare("ravdess", Path(root), out, [], 0.1, 2) == 0
    return Data(out)


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

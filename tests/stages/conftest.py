"""What tests of stages share: corpora that the released bundles were trained on, or on others."""

from __future__ import annotations

from pathlib import Path

import pytest

from sertk.stages.prepare import prepare
from sertk.testing import tone_corpus

FOUR = """
labels: {neutral: neutral, happiness: happiness, sadness: sadness, anger: anger}
test: {rule: disjoint, k: 3}
dev: 2
overlaps: {text: [train+dev, train+test, dev+test]}
about: 4 emotions of a corpus of tones, 3 folds of 4 actors; dev is 2 training actors
"""
"""The protocol of the released bundles, see tests/modeling/bundles/README.md."""


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of the released bundles, prepared."""
    folder = tmp_path_factory.mktemp("tones")
    emotions = ["anger", "happiness", "neutral", "sadness"]
    tone_corpus(folder / "tones", speakers=12, per_class=2, emotions=emotions, seconds=0.6)
    (folder / "four.yaml").write_text(FOUR)
    prepare("ravdess", folder / "tones", folder / "data", [str(folder / "four.yaml")], 0.1, 1)
    return folder / "data"

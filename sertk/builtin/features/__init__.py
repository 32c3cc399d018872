"""Features: a wave or a transcript made into frames."""

from __future__ import annotations

from collections.abc import Mapping

from sertk.core import Feature
from sertk.hookspecs import hookimpl


@hookimpl
def sertk_features() -> Mapping[str, type[Feature]]:
    """The features by name."""
    from sertk.builtin.features.frozen import Frozen
    from sertk.builtin.features.spectral import MFCC, Mel, Spectrogram
    from sertk.builtin.features.text import SentencePiece, Text
    from sertk.builtin.features.wave import Wave

    return {
        "frozen": Frozen,
        "mel": Mel,
        "mfcc": MFCC,
        "sentencepiece": SentencePiece,
        "spectrogram": Spectrogram,
        "text": Text,
        "wave": Wave,
    }

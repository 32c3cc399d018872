"""The union of P1: three corpora below one folder."""

from __future__ import annotations

from pathlib import Path

from sertk.testing.trees import ravdess, savee, tess


def write(folder: Path, *, seconds: float = 0.005) -> Path:
    """Writes RAVDESS's speech, SAVEE and TESS below `ravdess`, `savee` and `tess`; gives `folder`."""
    ravdess.write(folder / "ravdess", seconds=seconds, modalities=["speech"])
    savee.write(folder / "savee", seconds=seconds)
    tess.write(folder / "tess", seconds=seconds)
    return folder

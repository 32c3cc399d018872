"""SAVEE as published: names and folders of the audio files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sertk.core import key
from sertk.testing.trees.audio import clip


def names() -> Iterator[tuple[str, str]]:
    """Speaker and sentence of the 480 clips: 30 neutral ones and 15 of each other emotion a speaker."""
    for speaker in ("DC", "JE", "JK", "KL"):
        for emotion in ("a", "d", "f", "h", "n", "sa", "su"):
            for number in range(1, 31 if emotion == "n" else 16):
                yield speaker, f"{emotion}{number:02d}"


def write(folder: Path, *, seconds: float = 0.005, flat: bool = False) -> Path:
    """Writes `AudioData/DC/a01.wav` and so on, or flat `DC_a01.wav`; gives `folder`."""
    for speaker, sentence in names():
        name = f"{speaker}_{sentence}.wav" if flat else f"AudioData/{speaker}/{sentence}.wav"
        clip(folder / name, key(f"{speaker}_{sentence}"), seconds)
    return folder

"""RAVDESS as published: names and folders of the audio-only files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import product
from pathlib import Path
from typing import Final

from sertk.core import key
from sertk.testing.trees.audio import clip

TWINS: Final = ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")  # one recording under two names, as published


def names(modality: str) -> Iterator[str]:
    """The names of the speech (1,440) or of the song (1,012): neutral in one intensity, actor 18 does not sing."""
    emotions, channel = (8, "01") if modality == "speech" else (6, "02")
    for actor, emotion, *take in product(range(1, 25), range(1, emotions + 1), (1, 2), (1, 2), (1, 2)):
        if (emotion, take[0]) != (1, 2) and (modality, actor) != ("song", 18):
            yield "-".join(["03", channel, *(f"{code:02d}" for code in (emotion, *take, actor))])


def write(folder: Path, *, seconds: float = 0.005, modalities: Collection[str] = ("speech", "song")) -> Path:
    """Writes the folders `Audio_Speech_Actors_01-24` and `Audio_Song_Actors_01-24`, or one of them; gives `folder`."""
    for modality in modalities:
        for name in names(modality):
            path = folder / f"Audio_{modality.capitalize()}_Actors_01-24" / f"Actor_{name[-2:]}" / f"{name}.wav"
            clip(path, key(TWINS[0] if name in TWINS else name), seconds)
    return folder

"""Small corpora made on the spot, with official file names, to test on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from sertk.core import UsageError, nearest

EMOTIONS: Final = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
# RAVDESS actors, first one of each test fold of the emobox protocol: folds 1 4 2 3 5 6 1 4 2 3 5 6 ...
ACTORS: Final = (1, 3, 4, 8, 2, 6, 20, 5, 10, 9, 15, 13, 11, 7, 12, 19, 16, 17, 21, 24, 14, 23, 18, 22)
TONES: Final = (250, 450, 750, 1150, 1700, 2500, 3600, 5200)  # Hz, of the emotions

Wave = npt.NDArray[np.float64]


class Clip(NamedTuple):
    """A file to be: its RAVDESS codes, and the place of its emotion among `EMOTIONS`."""

    actor: int
    emotion: int
    intensity: int
    statement: int
    repetition: int

    @property
    def name(self) -> str:
        """The official name, without the suffix."""
        parts = (3, 1, self.emotion + 1, self.intensity, self.statement, self.repetition, self.actor)
        return "-".join(f"{part:02d}" for part in parts)


def tree(
    folder: Path,
    corpus: str = "ravdess",
    *,
    actors: Sequence[int] = ACTORS[:8],
    emotions: Sequence[str] = EMOTIONS,
    per_class: int = 1,
    seconds: float = 0.3,
    rate: int = 16_000,
    channels: int = 1,
    suffix: str = ".wav",
    seed: int = 0,
) -> Path:
    """Writes files of noise under the names of a corpus; no two files are alike.

    Args:
        folder: Where to; made where it is absent.
        corpus: Whose layout; ravdess.
        actors: Who speaks.
        emotions: Which of `EMOTIONS`.
        per_class: Files of each actor and emotion, up to 8 (neutral 4, as RAVDESS has it in one intensity).
        seconds: Length of a file, about: each differs by up to a fifth.
        rate: Hz.
        channels: 1 or more.
        suffix: .wav or .flac.
        seed: Of the noise.

    Returns:
        The folder.

    Raises:
        UsageError: On an unknown corpus, actor or emotion.
    """
    if corpus != "ravdess":
        raise UsageError(f"no tree of the corpus {corpus!r} can be made{nearest(corpus, ['ravdess'])}")

    def noise(clip: Clip) -> Wave:
        draw = np.random.default_rng([seed, *clip])
        size = max(1, round(rate * seconds * draw.uniform(0.8, 1.2)))
        return 0.1 * draw.standard_normal((size, channels))

    return _write(folder, _clips(actors, emotions, per_class), noise, rate, suffix)


def tone_corpus(
    folder: Path,
    speakers: int = 6,
    per_class: int = 4,
    *,
    emotions: Sequence[str] = EMOTIONS,
    seconds: float = 0.3,
    rate: int = 16_000,
    suffix: str = ".wav",
) -> Path:
    """Writes a RAVDESS tree on which a small model is right in seconds: every emotion is a tone of its own.

    Args:
        folder: Where to; made where it is absent.
        speakers: How many actors, up to 24; from 6 on every fold of the emobox protocol has a test.
        per_class: Files of each actor and emotion, up to 8 (neutral 4).
        emotions: Which of `EMOTIONS`.
        seconds: Length of a file, about.
        rate: Hz; above 10,400, or the highest tone is lost.
        suffix: .wav or .flac.

    Returns:
        The folder.

    Raises:
        UsageError: On an unknown emotion, or more speakers or files than RAVDESS has.
    """

    def tone(clip: Clip) -> Wave:
        draw = np.random.default_rng(list(clip))
        size = max(1, round(rate * seconds * draw.uniform(0.8, 1.2)))
        hertz = TONES[clip.emotion] * draw.uniform(0.97, 1.03)
        steps = np.arange(size)[:, None] / rate
        return 0.3 * np.sin(2 * np.pi * hertz * steps) + 0.003 * draw.standard_normal((size, 1))

    if not 0 < speakers <= len(ACTORS):
        raise UsageError(f"a tone corpus of {speakers} speakers cannot be made; RAVDESS has 1 to {len(ACTORS)}.")
    return _write(folder, _clips(ACTORS[:speakers], emotions, per_class), tone, rate, suffix)


def _clips(actors: Sequence[int], emotions: Sequence[str], per_class: int) -> list[Clip]:
    odd = [str(actor) for actor in actors if actor not in ACTORS] + [one for one in emotions if one not in EMOTIONS]
    if odd:
        raise UsageError(f"RAVDESS has no {', '.join(odd)}; it has the actors 1 to 24 and {', '.join(EMOTIONS)}.")
    if not 0 < per_class <= 8:
        raise UsageError(f"{per_class} files of an actor and emotion cannot be made; RAVDESS has 1 to 8.")
    takes = list(product((1, 2), (1, 2), (1, 2)))[:per_class]
    return [
        Clip(actor, EMOTIONS.index(emotion), *take)
        for actor in actors
        for emotion in emotions
        for take in takes
        if emotion != "neutral" or take[0] == 1
    ]


def _write(folder: Path, clips: Sequence[Clip], sound: Callable[[Clip], Wave], rate: int, suffix: str) -> Path:
    for clip in clips:
        path = folder / f"Actor_{clip.actor:02d}" / f"{clip.name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound(clip), rate, subtype="PCM_16")
    return folder

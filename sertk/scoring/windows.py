"""Recordings of any length as windows: how long they are, where they lie, and which of them are silent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sertk.core import UsageError
from sertk.core.errors import out_of_range
from sertk.core.files import Record
from sertk.corpus.audio import Samples
from sertk.modeling import bundle
from sertk.modeling.bundle import Bundle
from sertk.modeling.frontend import most_seconds

WHOLE = 60.0
"""Seconds up to which a recording is scored whole, where nothing in the model allows less."""
OLDER = 10.0
"""Seconds of a window where a bundle says nothing of a length, as one of an older sertk."""
NUMBER = r"(\d+\.?\d*)"
AT_ONCE = 30.0
"""Seconds of audio that go through the model at once, or one window: what bounds the memory."""


class Windows(NamedTuple):
    """Windows over time.

    Attributes:
        length: Seconds of a window.
        hop: Seconds between the starts of two.
    """

    length: float
    hop: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads "4s:2s".

        Raises:
            UsageError: Where it is not of that form.
        """
        found = re.fullmatch(rf"{NUMBER}s:{NUMBER}s", text)
        sizes = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
        if not all(0.01 <= one <= WHOLE for one in sizes):
            raise UsageError(
                f"--windows {text!r} is not LENGTH:HOP in seconds, for example 4s:2s; each is from 0.01s to {WHOLE:g}s."
            )
        return cls(*sizes)


class Cutting(NamedTuple):
    """How recordings are cut into windows.

    Attributes:
        windows: Of all recordings; None takes the model's own, for recordings that it does not take whole.
        silence: Windows whose power is below are left out, dB relative to full scale; None leaves none out.
        keep: Whether score lines have their windows.
    """

    windows: Windows | None = None
    silence: float | None = None
    keep: bool = False

    @classmethod
    def of(cls, windows: str | None, silence: float | None, *, keep: bool = False) -> Self:
        """What the options say.

        Raises:
            UsageError: On windows that are not of their form, or a power above full scale.
        """
        wrong = out_of_range("--skip-silence", silence, at_most=0.0, unit="dB relative to full scale")
        if wrong:
            raise UsageError(f"{wrong}. For example --skip-silence -50.")
        return cls(Windows.parse(windows) if windows else None, silence, keep)

    @property
    def about(self) -> Record:
        """What a shard says of it; whether windows are kept is no part of it, for scores are the same."""
        return {"windows": self.windows, "skip_silence": self.silence}


def limit(made: Bundle) -> float:
    """Seconds of a recording that a model takes at most."""
    return most_seconds(made.frontend.features, made.model.backbone, made.settings.crop)


def own_windows(made: Bundle) -> Windows:
    """The windows of a model: its crop, its segments, its limit, or the longest utterance that it was trained on."""
    settings, most = made.settings, limit(made)
    if settings.crop is not None:
        found = Windows(settings.crop.length, settings.crop.hop or settings.crop.length)
    elif settings.segments is not None:
        seconds = made.model.backbone.frame_seconds
        span = settings.segments.span(seconds)
        found = Windows(span.length * seconds, span.hop * seconds)
    elif most < math.inf:
        found = Windows(most, most)
    else:
        length = min(bundle.longest(made.about) or OLDER, WHOLE)
        found = Windows(length, length)
    return Windows(min(found.length, most), found.hop)


class Piece(NamedTuple):
    """Windows of a recording.

    Attributes:
        start: (N,) sample at which each begins.
        size: Samples of each.
        samples: (N, S), all of them or all but the last one, see `cut`.
    """

    start: npt.NDArray[np.int64]
    size: int
    samples: Samples

    def take(self, rows: npt.NDArray[np.bool_] | slice) -> Piece:
        """Some of them."""
        return Piece(self.start[rows], self.size, self.samples[rows])


def cut(blocks: Iterable[Samples], length: int, hop: int, rows: int) -> Iterator[Piece]:
    """Cuts a recording into windows, each as soon as it is there.

    The last one is moved back, so that it is as long as the others and ends with the recording. One that is not longer
    than a window is one window. A window is given without its last sample: a feature with a frame at both ends (as
    `mel`, 1 + S // hop) would have one frame more than a crop or a segment of that length.

    Args:
        blocks: (S,) samples each.
        length: Samples of a window.
        hop: Samples between the starts of two.
        rows: Windows at once.
    """
    kept, at, start = np.zeros(0, np.float32), 0, 0  # `at`: where `kept` begins; `start`: of the next window
    for block in blocks:
        kept = np.concatenate([kept, block])
        end = at + len(kept)
        while start + (rows - 1) * hop + length <= end:
            starts = start + hop * np.arange(rows)
            yield _piece(kept, at, starts, length)
            start += rows * hop
        drop = max(0, min(start, end - length) - at)
        kept, at = kept[drop:], at + drop
    end = at + len(kept)
    starts = np.arange(start, end - length + 1, hop)
    start += hop * len(starts)
    if start < end and (not start or start - hop + length < end):
        starts = np.append(starts, max(0, end - length))
    if len(starts):
        yield _piece(kept, at, starts, length)


def _piece(kept: Samples, at: int, starts: npt.NDArray[np.int64], length: int) -> Piece:
    size = min(length, len(kept))
    windows = np.lib.stride_tricks.sliding_window_view(kept, size)
    return Piece(starts, size, windows[starts - at, : max(1, length - 1)])


def are_loud(samples: Samples, silence: float | None) -> npt.NDArray[np.bool_]:
    """(N, S) windows -> (N,), whether the power of each is at least so many dB relative to full scale."""
    if silence is None:
        return np.ones(len(samples), bool)
    power = np.square(samples, dtype=np.float64).mean(1)
    loud: npt.NDArray[np.bool_] = power >= 10 ** (silence / 10)
    return loud

"""Contracts of features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from sertk.core import Feature, Padded
from sertk.testing.cases import Check, Subject, alone, real, require, require_close, require_finite, stretch

RATE: Final = 16_000  # Hz
SECONDS: Final = (0.5, 1.0, 0.1, 0.73337)


def waves(seconds: tuple[float, ...] = SECONDS) -> Padded:
    """(B, S) waves of noise, a tenth of a second of digital silence in the longer ones."""
    rows = [0.1 * torch.randn(round(RATE * s)) for s in seconds]
    for row in rows:
        row[RATE // 10 : RATE // 5] = 0.0
    return Padded.stack(rows)


def _feature(subject: Subject) -> Feature | None:
    """The feature; None for one that reads text, which these contracts do not cover."""
    made: Feature = subject.make(RATE)
    return made if made.reads == "wave" else None


@torch.no_grad()
def _frames(subject: Subject, feature: Feature, rows: Padded) -> Padded:
    """(B, T, D) of a feature, of the shape that it promises."""
    found = feature(rows)
    size = (len(rows.length), int(found.length.max()), feature.width)
    require(
        tuple(found.data.shape) == size,
        f"{subject.what} gives {tuple(found.data.shape)}; with its width and lengths it is {size}.",
    )
    require(found.data.dtype == torch.float32, f"{subject.what} gives {found.data.dtype}; it is torch.float32.")
    require_finite(found.data, f"{subject.what}: its frames")
    return found


def _same_rows(subject: Subject, found: Padded, rows: Padded, feature: Feature, because: str) -> None:
    """Wants every row to be what it is alone."""
    for row in range(len(rows.length)):
        wanted = _frames(subject, feature, alone(rows, row))
        sizes = int(found.length[row]), int(wanted.length[0])
        require(sizes[0] == sizes[1], f"{subject.what}: {because} its {sizes[1]} frames to {sizes[0]}.")
        require_close(real(found, row), real(wanted, 0), f"{subject.what}: {because} its frames")


def companions(subject: Subject) -> None:
    """A batch gives what its rows give one by one."""
    feature = _feature(subject)
    if feature is not None:
        rows = waves()
        _same_rows(subject, _frames(subject, feature, rows), rows, feature, "companions change")


def padding(subject: Subject) -> None:
    """What lies behind the end of a wave does not matter."""
    feature = _feature(subject)
    if feature is not None:
        rows = waves()
        padded = stretch(rows, RATE // 3)
        # longer padding may well mean more frames of padding: only what is real is looked at
        found = feature(padded)
        _same_rows(subject, Padded(found.data.detach(), found.length), rows, feature, "padding changes")


def length(subject: Subject) -> None:
    """There are as many frames as `frame_seconds` says, two more or fewer, and at least one."""
    feature = _feature(subject)
    if feature is None:
        return
    rows = waves()
    found = _frames(subject, feature, rows)
    least = int(found.length.min())
    require(least > 0, f"{subject.what} gives a wave of {min(SECONDS)} s {least} frames; at least one.")
    wanted: Tensor = rows.length / RATE / feature.frame_seconds
    gap = float((found.length - wanted).abs().max())
    require(gap <= 2, f"{subject.what}: with frame_seconds {feature.frame_seconds} it is off by {gap:.1f} frames; 2.")


def repeats(subject: Subject) -> None:
    """The same waves give the same frames twice, and are not written to."""
    feature = _feature(subject)
    if feature is None:
        return
    rows = waves()
    kept = rows.data.clone()
    first = _frames(subject, feature, rows)
    require_close(rows.data, kept, f"{subject.what} changes the waves it is given", 0.0)
    second = _frames(subject, feature, rows)
    require_close(second.data, first.data, f"{subject.what}: the second call differs", 0.0)


FEATURE: Final[Mapping[str, Check]] = {
    "companions do not matter": companions,
    "padding does not matter": padding,
    "its length is right": length,
    "gives the same twice": repeats,
}

"""The wave itself, for backbones that read it."""

from __future__ import annotations

from typing import ClassVar

from sertk.core import Feature, Padded


class Wave(Feature):
    """The samples as they are read, one a frame; there is nothing to cache.

    Args:
        rate: Sampling rate, Hz; given by the run.
    """

    cached: ClassVar[bool] = False

    def __init__(self, rate: int) -> None:
        self.width, self.frame_seconds = 1, 1 / rate

    def __call__(self, inputs: Padded) -> Padded:
        """(B, S) waves -> (B, S, 1)."""
        return Padded(inputs.fill(0.0).data[..., None], inputs.length)

"""Another loudness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sertk.builtin.augmentations.ranges import ordered
from sertk.core import Augmentation, Batch, Padded, Rng


class Gain(Augmentation):
    """Each row louder or softer by a random gain.

    Args:
        gain: Lowest and highest gain, dB, from -100 to 100, uniform between.
    """

    def __init__(self, gain: Sequence[float] = (-10.0, 10.0)) -> None:
        self._gain = ordered("gain", "gain", gain)

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        """B rows with "wave" (B, S) -> B rows."""
        wave = batch.inputs["wave"]
        decibel = self._gain[0] + rng.uniform() * (self._gain[1] - self._gain[0])
        louder = Padded(wave.data * 10 ** (decibel / 20), wave.length)
        return replace(batch, inputs={**batch.inputs, "wave": louder})

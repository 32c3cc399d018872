"""Noise that is made: copies of training rows with white Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sertk.builtin.augmentations.ranges import ordered
from sertk.core import Augmentation, Batch, Padded, Rng, check_range


class Noise(Augmentation):
    """Copies of every training row with white Gaussian noise added: with 3 copies, P1's tripling (section 4.1).

    Copy 0 is the original. The noise of a copy is the same in every epoch.

    Args:
        copies: Rows that each becomes, itself included; at least 1.
        snr: Lowest and highest SNR, dB, from -100 to 100, uniform between; of the whole utterance.
    """

    def __init__(self, copies: int = 3, snr: Sequence[float] = (15.0, 30.0)) -> None:
        check_range("augmentation 'noise'", "copies", copies, at_least=1)
        self.copies, self._snr = copies, ordered("noise", "snr", snr)

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        """B rows with "wave" (B, S) -> B rows."""
        wave, draws = batch.inputs["wave"].fill(0.0), rng.fixed
        decibel = self._snr[0] + draws.uniform()[:, 0] * (self._snr[1] - self._snr[0])
        power = wave.data.pow(2).sum(1) / wave.length
        level = (power / 10 ** (decibel / 10)).sqrt() * (batch.copy > 0)
        noisy = Padded(wave.data + level[:, None] * draws.normal(wave.data.shape[1]), wave.length).fill(0.0)
        return replace(batch, inputs={**batch.inputs, "wave": noisy})

"""Noise: copies of training rows with white Gaussian noise, and recorded noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from sertk.builtin.augmentations.folder import Folder
from sertk.builtin.augmentations.mixup import overlay
from sertk.builtin.augmentations.ranges import chance_of, ordered
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
        rows = (batch.copy > 0).nonzero()[:, 0]  # the originals stay as they are, and drawing is what costs
        wave, draws = batch.inputs["wave"].fill(0.0), rng.fixed.take(rows)
        clean, length = wave.data[rows], wave.length[rows]
        decibel = self._snr[0] + draws.uniform()[:, 0] * (self._snr[1] - self._snr[0])
        level = (clean.pow(2).sum(1) / length / 10 ** (decibel / 10)).sqrt()
        noisy = Padded(clean + level[:, None] * draws.normal(clean.shape[1]), length).fill(0.0)
        mixed = replace(wave, data=wave.data.index_copy(0, rows, noisy.data))
        return replace(batch, inputs={**batch.inputs, "wave": mixed})


class NoiseFolder(Augmentation):
    """Noise of a folder of recordings, added at a random SNR.

    A row gets a random recording from a random sample on, as much as it is long; a shorter one is repeated. A row
    without energy stays as it is, and so does one whose piece of a recording has none. The recordings are resampled,
    kept in memory, and taken in the order of their paths, so a run can be repeated with the same folder; what is in it
    is no part of a run's fingerprint.

    Args:
        folder: With audio files, in folders of its own too.
        snr: Lowest and highest SNR, dB, from -100 to 100, uniform between; of the whole utterance.
        probability: Of adding noise to a row.
        rate: Of the run's audio (`audio.rate`), Hz; another one is refused.
        minutes: Of all recordings at most, for they stay in memory: 3.84 MB a minute at 16 kHz.
    """

    def __init__(
        self,
        folder: str,
        snr: Sequence[float] = (0.0, 20.0),
        probability: float = 0.5,
        rate: int = 16_000,
        minutes: float = 60.0,
    ) -> None:
        self._snr, self._probability = ordered("noise_folder", "snr", snr), chance_of("noise_folder", probability)
        self.sample_rate = rate
        self._noises = Folder("augmentation 'noise_folder'", folder, rate, minutes)

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        """B rows with "wave" (B, S) -> B rows."""
        wave, noises = batch.inputs["wave"].fill(0.0), self._noises
        noises.load(wave.data.device)
        chance, snr = rng.uniform(2).unbind(1)
        which = rng.integers(torch.full_like(wave.length, noises.count))
        size = noises.size[which]
        # a long one ends with the row at the latest, so that its end and its beginning do not meet inside
        start = rng.integers(torch.where(size > wave.length, size - wave.length + 1, size))
        noise = Padded(noises.take(which, start, wave.data.shape[1]), wave.length)
        decibel, zero = self._snr[0] + snr * (self._snr[1] - self._snr[0]), torch.zeros_like(which)
        mixed, _ = overlay(wave, noise, zero, zero, wave.length, decibel, chance < self._probability)
        return replace(batch, inputs={**batch.inputs, "wave": mixed})

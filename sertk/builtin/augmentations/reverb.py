"""Reverberation."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sertk.builtin.augmentations.folder import Folder
from sertk.builtin.augmentations.ranges import chance_of
from sertk.core import Augmentation, Batch, Padded, Rng


class Reverb(Augmentation):
    """A row as it sounds in a room: its convolution with a random impulse response of a folder.

    Its length stays, its energy too, and the direct sound, the largest sample of the response, stays where it was. The
    responses are resampled, kept in memory, and taken in the order of their paths, so a run can be repeated with the
    same folder; what is in it is no part of a run's fingerprint.

    Args:
        folder: With audio files, one impulse response each, in folders of its own too.
        probability: Of changing a row.
        rate: Of the run's audio (`audio.rate`), Hz; another one is refused.
        minutes: Of all responses at most, for they stay in memory: 3.84 MB a minute at 16 kHz.
    """

    def __init__(self, folder: str, probability: float = 0.5, rate: int = 16_000, minutes: float = 60.0) -> None:
        self._probability = chance_of("reverb", probability)
        self.sample_rate = rate
        self._rooms = Folder("augmentation 'reverb'", folder, rate, minutes)

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        """B rows with "wave" (B, S) -> B rows."""
        wave, rooms = batch.inputs["wave"].fill(0.0), self._rooms
        rooms.load(wave.data.device)
        wanted = rng.uniform() < self._probability
        which = rng.integers(torch.full_like(wave.length, rooms.count))
        whole = Padded(rooms.take(which, torch.zeros_like(which), int(rooms.size.max())), rooms.size[which])
        wet = Padded(convolved(wave.data, whole.fill(0.0).data), wave.length).fill(0.0).data
        energy, now = (x.pow(2).sum(1, keepdim=True) for x in (wave.data, wet))
        made = torch.where(wanted & (now > 0), wet * (energy / now).sqrt(), wave.data)
        return replace(batch, inputs={**batch.inputs, "wave": Padded(made, wave.length)})


def convolved(wave: Tensor, response: Tensor) -> Tensor:
    """(B, S), (B, K) -> (B, S), the convolution from the largest sample of each response on."""
    steps = wave.shape[1]
    n = 1 << (steps + response.shape[1] - 2).bit_length()  # a power of two holds it all, and is quick
    both: Tensor = torch.fft.irfft(torch.fft.rfft(wave, n) * torch.fft.rfft(response, n), n)
    return both.gather(1, response.abs().argmax(1, keepdim=True) + torch.arange(steps, device=wave.device))

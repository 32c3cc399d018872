"""Masks over frames and bands."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sertk.core import Augmentation, Batch, Padded, Rng, UsageError, check_range


class SpecAugment(Augmentation):
    """SpecAugment (Park et al. 2019): runs of frames and of bands take the row's mean; no time warping.

    A mask of frames is as wide as a uniform draw from 0 to min(time_width, time_share x length), one of bands as a
    draw from 0 to freq_width, and its start is uniform over the places where it lies inside the row (section 2). The
    paper masks with zero after a normalisation to zero mean; what is not normalised takes the row's own mean over its
    frames and bands. The defaults are the paper's policy LD (table 1) without its warping.

    Args:
        on: The input, frames of any feature but the wave.
        time_masks: Masks of frames in each row, at least 0.
        time_width: Frames that each hides at most.
        time_share: Of a row's frames, that each hides at most; 0 to 1.
        freq_masks: Masks of bands in each row, at least 0.
        freq_width: Bands that each hides at most.
    """

    touches = ("mel",)

    def __init__(
        self,
        on: str = "mel",
        time_masks: int = 2,
        time_width: int = 100,
        time_share: float = 1.0,
        freq_masks: int = 2,
        freq_width: int = 27,
    ) -> None:
        who = "augmentation 'specaugment'"
        if on == "wave":
            raise UsageError(f"{who}: on is 'wave'; it is an input of frames and bands, such as 'mel'")
        counts = {"time_masks": time_masks, "time_width": time_width, "freq_masks": freq_masks}
        for name, value in (counts | {"freq_width": freq_width}).items():
            check_range(who, name, value, at_least=0)
        check_range(who, "time_share", time_share, at_least=0, at_most=1)
        self.touches, self._on = (on,), on
        self._time, self._share, self._freq = (time_masks, time_width), time_share, (freq_masks, freq_width)

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        """B rows with the input (B, T, D) -> B rows."""
        x = batch.inputs[self._on]
        frames, bands = x.data.shape[1:]
        width = (x.length * self._share).long().clamp(max=self._time[1])
        times = runs(rng, self._time[0], width, x.length, frames)
        every = torch.full_like(x.length, bands)
        freqs = runs(rng, self._freq[0], every.clamp(max=self._freq[1]), every, bands)
        hidden = (times[:, :, None] | freqs[:, None]) & x.mask[:, :, None]
        mean = x.fill(0.0).data.sum((1, 2)) / (x.length * bands)
        data = torch.where(hidden, mean[:, None, None], x.data)
        return replace(batch, inputs={**batch.inputs, self._on: Padded(data, x.length)})


def runs(rng: Rng, count: int, most: Tensor, size: Tensor, steps: int) -> Tensor:
    """Random runs of places in each row.

    Args:
        rng: B streams.
        count: Runs of a row; they may overlap.
        most: (B,) int64, the longest run.
        size: (B,) int64 places of the row, at least `most`.
        steps: Places of the longest row.

    Returns:
        (B, steps) bool, true inside of a run.
    """
    width = (rng.uniform(count) * (most[:, None] + 1)).long()
    start = (rng.uniform(count) * (size[:, None] - width + 1)).long()
    places = torch.arange(steps, device=size.device)
    return ((places >= start[..., None]) & (places < (start + width)[..., None])).any(1)

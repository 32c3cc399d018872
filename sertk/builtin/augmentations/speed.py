"""Speed perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import torch

from sertk.core import Augmentation, Batch, Padded, Rng, UsageError


class Speed(Augmentation):
    """Speed perturbation (Ko et al. 2015): the wave is played at one of several speeds, drawn for each row.

    Tempo and pitch change together, by windowed-sinc resampling; a row of S samples at speed f has ceil(S / f). The
    paper trains on a copy at each of 0.9, 1.0 and 1.1; here an epoch sees a row once, at one of them.

    Args:
        factors: Speeds, at least one, from 0.5 to 2; taken to the nearest thousandth. Equally probable.
    """

    def __init__(self, factors: Sequence[float] = (0.9, 1.0, 1.1)) -> None:
        if not factors or not all(0.5 <= one <= 2 for one in factors):
            said = f"factors is {list(factors)}; it is a list of at least one speed, each from 0.5 to 2"
            raise UsageError(f"augmentation 'speed': {said}")
        self._ratios = [Fraction(round(1000 * one), 1000).as_integer_ratio() for one in factors]
        self.stretch = max(under / over for over, under in self._ratios)

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        """B rows with "wave" (B, S) -> B rows, longer or shorter."""
        from torchaudio.functional import resample  # late: two seconds that other runs need not pay

        wave = batch.inputs["wave"].fill(0.0)
        drawn = rng.integers(torch.full_like(wave.length, len(self._ratios)))
        over, under = torch.tensor(self._ratios, device=drawn.device)[drawn].unbind(1)
        length = -(-wave.length * under // over)
        made = wave.data.new_zeros(len(drawn), int(length.max()))
        for place, (above, below) in enumerate(self._ratios):
            rows = (drawn == place).nonzero()[:, 0]
            if len(rows):
                changed = resample(wave.data[rows], above, below)[:, : made.shape[1]]
                made[rows, : changed.shape[1]] = changed
        return replace(batch, inputs={**batch.inputs, "wave": Padded(made, length).fill(0.0)})

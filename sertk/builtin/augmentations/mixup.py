"""Mixup: a part of another training row is laid over a row, or half of each is added, and the labels are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from sertk.builtin.augmentations.ranges import chance_of, ordered
from sertk.core import Augmentation, Batch, Padded, Rng, Target, UsageError


class EAM(Augmentation):
    """Energy-adaptive mixup: part of a partner is laid over part of the row at a random SNR (P2 section 2.2).

    x_i[s_i : s_i + l] + scale x_j[s_j : s_j + l], scale = sqrt(P'_i / (10^(SNR/10) P'_j)) (eqs. 1 to 3), and the label
    takes the partner's with lambda = P''_j / (P'_i + P''_j) l / l_i (eq. 4). l is uniform with 2 l < l_i and l <= l_j,
    starts are uniform; a segment without energy is not mixed. The partner is any row of the training set.

    Args:
        snr: Lowest and highest SNR, dB, from -100 to 100, uniform between.
        probability: Of mixing a row.
        energy: False leaves energy out, for an ablation: scale = 1 and lambda = l / l_i.
    """

    partners = 1

    def __init__(self, snr: Sequence[float] = (-5.0, 10.0), probability: float = 0.5, *, energy: bool = True) -> None:
        self._snr, self._probability, self._energy = ordered("eam", "snr", snr), chance_of("eam", probability), energy

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        """B rows with "wave" (B, S), and B partners -> B rows."""
        target, partners_target, other = _labelled(batch, partners, "eam")
        own = batch.inputs["wave"]
        chance, snr = rng.uniform(2).unbind(1)
        decibel = self._snr[0] + snr * (self._snr[1] - self._snr[0])
        longest = torch.minimum((own.length - 1) // 2, other.length)
        size = 1 + rng.integers(longest.clamp(min=1))
        start = rng.integers((own.length - size + 1).clamp(min=1))
        shift = rng.integers((other.length - size + 1).clamp(min=1)) - start
        wanted = (chance < self._probability) & (longest >= 1)
        wave, share = overlay(own, other, start, shift, size, decibel if self._energy else None, wanted)
        return replace(batch, inputs={**batch.inputs, "wave": wave}, target=target.blend(partners_target, share))


def overlay(
    own: Padded, other: Padded, start: Tensor, shift: Tensor, size: Tensor, decibel: Tensor | None, wanted: Tensor
) -> tuple[Padded, Tensor]:
    """Lays other[start + shift : + size] over own[start : + size] at an SNR (P2 eqs. 1 to 4).

    Args:
        own: (B, S) waves.
        other: (B, S') waves.
        start: (B,) first sample in `own`.
        shift: (B,) first sample in `other` minus `start`.
        size: (B,) samples.
        decibel: (B,) SNR, dB; None adds the segment as it is, with the share size / length.
        wanted: (B,) bool, which rows to mix.

    Returns:
        The mixed waves, and (B,) the partner's share lambda of the label, 0 where nothing was mixed.
    """
    steps = torch.arange(own.data.shape[1], device=own.data.device)
    inside = (steps >= start[:, None]) & (steps < (start + size)[:, None])
    piece = other.data.gather(1, (steps + shift[:, None]).clamp(0, other.data.shape[1] - 1)) * inside
    energy, noise = (own.data * inside).pow(2).sum(1), piece.pow(2).sum(1)
    wanted = wanted & (energy > 0) & (noise > 0)
    if decibel is None:
        return Padded(own.data + wanted[:, None] * piece, own.length), size / own.length * wanted
    ratio = energy / (10 ** (decibel / 10) * noise)
    wanted = wanted & ratio.isfinite()  # what is too faint to be raised to the SNR counts as silent
    scale = ratio.sqrt().where(wanted, torch.zeros_like(ratio))
    scaled = scale.pow(2) * noise
    share = scaled / (energy + scaled).where(wanted, torch.ones_like(noise)) * size / own.length
    return Padded(own.data + scale[:, None] * piece, own.length), share * wanted


class LAM(Augmentation):
    """Label-adaptive mixup: half of a partner is added to half of the row, labels by length (baseline of P2).

    x = 0.5 x_i + 0.5 x_j, the shorter padded with zeros, so the row becomes as long as the longer, and
    y = (l_i y_i + l_j y_j) / (l_i + l_j). P2 says only "mixing segments uniformly" and "length-based label weighting";
    this is how the code of Kang et al. 2023 reads. The partner is any row of the training set.

    Args:
        probability: Of mixing a row.
    """

    partners = 1

    def __init__(self, probability: float = 0.5) -> None:
        self._probability = chance_of("lam", probability)

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        """B rows with "wave" (B, S), and B partners -> B rows."""
        target, partners_target, other = _labelled(batch, partners, "lam")
        own, wanted = batch.inputs["wave"].fill(0.0), rng.uniform()[:, 0] < self._probability
        more = max(own.data.shape[1], other.data.shape[1])
        first, second = (functional.pad(x.data, (0, more - x.data.shape[1])) for x in (own, other))
        length = torch.where(wanted, torch.maximum(own.length, other.length), own.length)
        wave = Padded(torch.where(wanted[:, None], (first + second) / 2, first), length)
        share = wanted * other.length / (own.length + other.length)
        return replace(batch, inputs={**batch.inputs, "wave": wave}, target=target.blend(partners_target, share))


def _labelled(batch: Batch, partners: Batch | None, name: str) -> tuple[Target, Target, Padded]:
    """The labels of the rows and of their partners, and the partners' waves.

    Raises:
        UsageError: Where there are none.
    """
    if partners is None or partners.target is None or batch.target is None:
        raise UsageError(f"augmentation {name!r} mixes labelled training rows with partners; it has none here.")
    return batch.target, partners.target, partners.inputs["wave"].fill(0.0)

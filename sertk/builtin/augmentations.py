"""Augmentations: random changes of training rows, on whole batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from sertk.core import Augmentation, Batch, Padded, Rng, Target, UsageError, check_range
from sertk.hookspecs import hookimpl


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
        self._snr, self._probability, self._energy = _ordered(snr, "eam"), _chance(probability, "eam"), energy

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
        self._probability = _chance(probability, "lam")

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


class Noise(Augmentation):
    """Copies of every training row with white Gaussian noise added: with 3 copies, P1's tripling (section 4.1).

    Copy 0 is the original. The noise of a copy is the same in every epoch.

    Args:
        copies: Rows that each becomes, itself included; at least 1.
        snr: Lowest and highest SNR, dB, from -100 to 100, uniform between; of the whole utterance.
    """

    def __init__(self, copies: int = 3, snr: Sequence[float] = (15.0, 30.0)) -> None:
        check_range("augmentation 'noise'", "copies", copies, at_least=1)
        self.copies, self._snr = copies, _ordered(snr, "noise")

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        """B rows with "wave" (B, S) -> B rows."""
        wave, draws = batch.inputs["wave"].fill(0.0), rng.fixed
        decibel = self._snr[0] + draws.uniform()[:, 0] * (self._snr[1] - self._snr[0])
        power = wave.data.pow(2).sum(1) / wave.length
        level = (power / 10 ** (decibel / 10)).sqrt() * (batch.copy > 0)
        noisy = Padded(wave.data + level[:, None] * draws.normal(wave.data.shape[1]), wave.length).fill(0.0)
        return replace(batch, inputs={**batch.inputs, "wave": noisy})


def _labelled(batch: Batch, partners: Batch | None, name: str) -> tuple[Target, Target, Padded]:
    """The labels of the rows and of their partners, and the partners' waves.

    Raises:
        UsageError: Where there are none.
    """
    if partners is None or partners.target is None or batch.target is None:
        raise UsageError(f"augmentation {name!r} mixes labelled training rows with partners; it has none here.")
    return batch.target, partners.target, partners.inputs["wave"].fill(0.0)


def _chance(probability: float, name: str) -> float:
    check_range(f"augmentation {name!r}", "probability", probability, at_least=0, at_most=1)
    return probability


def _ordered(snr: Sequence[float], name: str) -> tuple[float, float]:
    # beyond 100 dB one of the two is below the last bit of 16; far beyond, powers of ten overflow
    if len(snr) != 2 or not -100 <= snr[0] <= snr[1] <= 100:
        raise UsageError(f"augmentation {name!r}: snr is {list(snr)}; it is [lowest, highest], from -100 to 100 dB")
    return float(snr[0]), float(snr[1])


@hookimpl
def sertk_augmentations() -> Mapping[str, type[Augmentation]]:
    """The augmentations by name."""
    return {"eam": EAM, "lam": LAM, "noise": Noise}

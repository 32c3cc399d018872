"""Reductions that several plugins share: losses over windows, statistics over frames, a hash of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from sertk.core.batch import Target
from sertk.core.view import WHOLE, Span, Views

Reduction = Literal["mean", "sum"]


def over_rows(values: Mapping[Span, Tensor], views: Views, target: Target, reduction: Reduction) -> Tensor:
    """Sums the window losses of each row, then takes the mean or the sum over rows (P3 eq. 3).

    An utterance too short to be cut is one window, itself: beside the whole it counts once.

    Args:
        values: (N,) losses of the windows, by span.
        views: The views they come from.
        target: Labels of the B rows; rows of weight 0 are companions and do not count.
        reduction: Over rows, each by its weight.
    """
    total = torch.zeros_like(target.weight)
    for span, value in values.items():
        view = views[span]
        counts = torch.ones_like(value)
        if span != WHOLE and WHOLE in values:  # a window that is the utterance itself counts as the whole
            counts = (view.frames.length < views[WHOLE].frames.length[view.owner]).to(value.dtype)
        total = total.index_add(0, view.owner, value * counts)
    summed = (total * target.weight).sum()
    return summed / target.weight.sum().clamp(min=1e-6) if reduction == "mean" else summed


def mean_std(frames: Tensor, mask: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (of the population) over real frames, (N, D) each.

    Args:
        frames: (N, L, D).
        mask: (N, L), true on real frames.
        weight: (N, L, D) shares that sum to 1 over real frames and are 0 elsewhere; equal ones where None.
    """
    if weight is None:
        weight = (mask / mask.sum(1, keepdim=True)).to(frames.dtype)[..., None]
    real = frames.masked_fill(~mask[..., None], 0.0)
    mean = (real * weight).sum(1)
    # of what is left of the mean, and never of exactly nothing, where the root has no slope
    variance = ((real - mean[:, None]).square() * weight).sum(1)
    return mean, variance.clamp(min=1e-10).sqrt()


def hash_of(weights: Mapping[str, Tensor]) -> str:
    """16 hex digits of named tensors: names, types, shapes, bytes; empty on the meta device, which has no bytes."""
    if any(value.is_meta for value in weights.values()):
        return ""
    whole = hashlib.sha256()
    for name, value in sorted(weights.items()):
        whole.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        whole.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()[:16]

"""From the losses of windows to one number."""

from __future__ import annotations

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
        reduction: Over rows.
    """
    total = torch.zeros_like(target.weight)
    for span, value in values.items():
        view = views[span]
        counts = torch.ones_like(value)
        if span != WHOLE and WHOLE in values:  # a window that is the utterance itself counts as the whole
            counts = (view.frames.length < views[WHOLE].frames.length[view.owner]).to(value.dtype)
        total = total.index_add(0, view.owner, value * counts)
    summed = (total * target.weight).sum()
    return summed / target.weight.sum().clamp(min=1) if reduction == "mean" else summed

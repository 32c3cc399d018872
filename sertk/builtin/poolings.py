"""Poolings: frames made into one embedding."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sertk.core import Pooled, Pooling
from sertk.hookspecs import hookimpl


class _Projected(Pooling):
    """A pooling whose embedding may be projected linearly."""

    def __init__(self, width: int, project: int | None = None) -> None:
        super().__init__()
        self.out = project or width
        self.projection = nn.Linear(width, project) if project else nn.Identity()


class Mean(_Projected):
    """The mean of the real frames.

    Args:
        width: D; given by the run.
        project: Width that the mean is projected to; null leaves it.
    """

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, L, D), (N, L) -> (N, E)."""
        total = torch.einsum("nld,nl->nd", frames, mask.to(frames.dtype))
        return Pooled(self.projection(total / mask.sum(1, keepdim=True)), frames)


class Max(_Projected):
    """The maximum of the real frames, by dimension.

    Args:
        width: D; given by the run.
        project: Width that the maximum is projected to; null leaves it.
    """

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, L, D), (N, L) -> (N, E)."""
        return Pooled(self.projection(frames.masked_fill(~mask[..., None], -torch.inf).amax(1)), frames)


@hookimpl
def sertk_poolings() -> Mapping[str, type[Pooling]]:
    """The poolings by name."""
    return {"mean": Mean, "max": Max}

"""A pooling: the power mean over the real frames (GeM, Radenovic et al. 2018)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sertk.core import FrameSpec, Pooled, Pooling
from sertk.hookspecs import hookimpl


class Example(Pooling):
    """The p-th root of the mean of the p-th powers of what is above 0; p is learned.

    Args:
        frames: Given by the run: width and, where it is fixed, number of the frames.
        project: Width that the mean is projected to; null leaves it.
        power: p at the beginning.
    """

    def __init__(self, frames: FrameSpec, project: int | None = None, power: float = 3.0) -> None:
        super().__init__()
        self.out = project or frames.width
        self.power = nn.Parameter(torch.tensor(power))
        self.projection = nn.Linear(frames.width, project) if project else nn.Identity()

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, L, D) and (N, L) true on real frames -> (N, E)."""
        powers = frames.clamp(min=1e-6) ** self.power * mask[..., None]
        mean = powers.sum(1) / mask.sum(1, keepdim=True)
        return Pooled(self.projection(mean ** (1 / self.power)), frames)


@hookimpl
def sertk_poolings() -> Mapping[str, type[Pooling]]:
    """The name that `--pooling` takes."""
    return {"example": Example}

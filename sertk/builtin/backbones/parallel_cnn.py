"""The parallel CNN of Lian et al. 2018 (P5 section 2.1, Table 1) on cepstra or bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sertk.builtin.backbones.common import choose
from sertk.core import Backbone, InputSpec, Padded, UsageError, check_range

PART = "backbone 'parallel_cnn'"


class ParallelCNN(Backbone):
    """Convolutions of several widths over time, side by side, each with batch norm, max pool and ReLU (P5 Table 1).

    The ReLU stands behind the pool, which gives the same and costs less. Of a fixed crop the pool's windows lie inside,
    as in the paper: 900 frames become 291 steps of 2 x 100 filters. Without crops they are centred on every
    `stride`-th frame and see real frames alone, so the result does not depend on the batch.

    Args:
        inputs: What the run offers; given by the run.
        reads: The input that it reads; the only one when null.
        kernels: Frames that the filters of each branch see, a branch each.
        filters: Filters of a branch.
        pool: Frames of the max pool.
        stride: Frames between two of its windows.
        dropout: Probability behind the ReLU, at least 0 and below 1.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        reads: str | None = None,
        kernels: Sequence[int] = (13, 7),
        filters: int = 100,
        pool: int = 30,
        stride: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.inputs = (choose("parallel_cnn", inputs, reads),)
        source = inputs[self.inputs[0]]
        if not kernels:
            raise UsageError(f"{PART}: kernels is []; it is a list of at least one branch's frames, such as [13, 7]")
        for place, kernel in enumerate(kernels):
            check_range(PART, f"kernels[{place}]", kernel, at_least=1)
        for name, value in (("filters", filters), ("pool", pool), ("stride", stride)):
            check_range(PART, name, value, at_least=1)
        check_range(PART, "dropout", dropout, at_least=0, below=1)
        self.width, self.frame_seconds = len(kernels) * filters, stride * source.frame_seconds
        self._pool, self._stride = pool, stride
        self.fixed = source.frames
        if self.fixed is not None:
            if self.fixed < pool:
                raise UsageError(f"{PART}: pool is {pool}; it is at most the {self.fixed} frames of a crop")
            self.frames = (self.fixed - pool) // stride + 1
        # two dimensions with channels last: 1.6 times as fast on a CPU, most of it in the pool
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(source.width, filters, (1, kernel), padding="same"), nn.BatchNorm2d(filters))
            for kernel in kernels
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{name: (B, T, D)} -> (B, T', branches x filters)."""
        x = inputs[self.inputs[0]]
        data = x.data if self.fixed is not None else x.fill(0.0).data
        frames = data[:, None].permute(0, 3, 1, 2)  # (B, D, 1, T)
        pooled, length = self._pooled(torch.cat([branch(frames) for branch in self.convolutions], 1), x)
        return Padded(self.dropout(pooled.relu())[:, :, 0].transpose(1, 2), length)

    def _pooled(self, maps: Tensor, x: Padded) -> tuple[Tensor, Tensor]:
        """(B, C, 1, T) -> (B, C, 1, T') and the lengths; a fixed crop's padding is signal."""
        size, stride = (1, self._pool), (1, self._stride)
        if self.fixed is not None:
            pooled = nn.functional.max_pool2d(maps, size, stride)
            return pooled, torch.full_like(x.length, pooled.shape[3])
        side = self._pool // 2
        maps = maps.masked_fill(~x.mask[:, None, None], -torch.inf)
        pooled = nn.functional.max_pool2d(maps, size, stride, (0, side))
        return pooled, (x.length + 2 * side - self._pool) // self._stride + 1

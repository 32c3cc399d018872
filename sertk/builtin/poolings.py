"""Poolings: frames made into one embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from sertk.core import FrameSpec, Pooled, Pooling, UsageError, check_range, mean_std
from sertk.hookspecs import hookimpl


class _Projected(Pooling):
    """A pooling whose embedding, `parts` times as wide as a frame, may be projected linearly."""

    _who: ClassVar[str]  # what an error calls it
    parts: ClassVar[int] = 1

    def __init__(self, frames: FrameSpec, project: int | None = None) -> None:
        super().__init__()
        check_range(self._who, "project", project, at_least=1, null=True)
        width = self.parts * frames.width
        self.out = project or width
        self.projection = nn.Linear(width, project) if project else nn.Identity()


class Mean(_Projected):
    """The mean of the real frames.

    Args:
        frames: Given by the run.
        project: Width that the mean is projected to; null leaves it.
    """

    _who = "pooling 'mean'"

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, L, D), (N, L) -> (N, E)."""
        total = torch.einsum("nld,nl->nd", frames, mask.to(frames.dtype))
        return Pooled(self.projection(total / mask.sum(1, keepdim=True)), frames)


class Max(_Projected):
    """The maximum of the real frames, by dimension.

    Args:
        frames: Given by the run.
        project: Width that the maximum is projected to; null leaves it.
    """

    _who = "pooling 'max'"

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, L, D), (N, L) -> (N, E)."""
        return Pooled(self.projection(frames.masked_fill(~mask[..., None], -torch.inf).amax(1)), frames)


class MeanStd(_Projected):
    """Mean and standard deviation of the real frames, side by side.

    Args:
        frames: Given by the run.
        project: Width that both together are projected to; null leaves them, 2 D.
    """

    _who, parts = "pooling 'mean_std'", 2

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, L, D), (N, L) -> (N, E)."""
        return Pooled(self.projection(torch.cat(mean_std(frames, mask), 1)), frames)


class AttentiveStatistics(_Projected):
    """Mean and standard deviation weighted by attention (Okabe et al. 2018, eq. 3 to 6), a weight a dimension.

    Args:
        frames: Given by the run.
        project: Width that both together are projected to; null leaves them, 2 D.
        bottleneck: Width of the attention's hidden layer, at least 1.
    """

    _who, parts = "pooling 'attentive_statistics'", 2

    def __init__(self, frames: FrameSpec, project: int | None = None, bottleneck: int = 128) -> None:
        super().__init__(frames, project)
        check_range(self._who, "bottleneck", bottleneck, at_least=1)
        self.attention = nn.Sequential(
            nn.Linear(frames.width, bottleneck), nn.Tanh(), nn.Linear(bottleneck, frames.width)
        )

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, L, D), (N, L) -> (N, E)."""
        real = mask[..., None]
        score = self.attention(frames.masked_fill(~real, 0.0)).masked_fill(~real, -torch.inf)
        return Pooled(self.projection(torch.cat(mean_std(frames, mask, score.softmax(1)), 1)), frames)


class First(_Projected):
    """The first frame alone, which has heard the others where the backbone attends.

    P2's Table 3 has rows with no pooling ticked; the code of their baseline (Kang et al. 2023) takes the first frame.

    Args:
        frames: Given by the run.
        project: Width that the frame is projected to; null leaves it.
    """

    _who = "pooling 'first'"

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, L, D), (N, L) -> (N, E)."""
        return Pooled(self.projection(frames[:, 0]), frames)


class Flatten(_Projected):
    """All frames side by side, E = T x D: every place in time has weights of its own (P5 section 2.1).

    Args:
        frames: Given by the run; T must be known.
        project: Width that all together are projected to; null leaves them.
    """

    _who = "pooling 'flatten'"

    def __init__(self, frames: FrameSpec, project: int | None = None) -> None:
        super().__init__(FrameSpec((frames.frames or 1) * frames.width), project)
        if frames.frames is None:
            raise UsageError(
                f"{self._who} takes frames of one number, and utterances or segments differ: set crop: "
                "{length: SECONDS}, and no segments."
            )

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, T, D) and (N, T), all true -> (N, E)."""
        return Pooled(self.projection(frames.flatten(1)), frames)


class FLAM(_Projected):
    """Frame-level attention: F' = F + MSA(F), then sum_t softmax_t(f'_t w) f'_t over real frames (P2 2.3, eq. 5).

    It refines the frames to F'. There is neither layer norm nor dropout: none is printed.

    Args:
        frames: Given by the run.
        project: Width that the sum is projected to; null leaves it.
        heads: Of the self-attention; they divide D.
    """

    _who = "pooling 'flam'"

    def __init__(self, frames: FrameSpec, project: int | None = None, heads: int = 16) -> None:
        super().__init__(frames, project)
        width = frames.width
        if heads < 1 or width % heads:
            fitting = ", ".join(str(n) for n in range(1, min(width, 32) + 1) if width % n == 0)
            raise UsageError(f"{self._who}: heads is {heads}; it is a divisor of the frames' width {width}: {fitting}")
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.score = nn.Linear(width, 1, bias=False)  # w

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, L, D), (N, L) -> (N, E) and F' (N, L, D), zero in the padding."""
        real = mask[..., None]
        frames = frames.masked_fill(~real, 0.0)
        heard, _ = self.attention(frames, frames, frames, key_padding_mask=~mask, need_weights=False)
        refined = (frames + heard).masked_fill(~real, 0.0)
        weight = self.score(refined).masked_fill(~real, -torch.inf).softmax(1)
        return Pooled(self.projection((weight * refined).sum(1)), refined)


@hookimpl
def sertk_poolings() -> Mapping[str, type[Pooling]]:
    """The poolings by name."""
    return {
        "attentive_statistics": AttentiveStatistics,
        "first": First,
        "flam": FLAM,
        "flatten": Flatten,
        "max": Max,
        "mean": Mean,
        "mean_std": MeanStd,
    }

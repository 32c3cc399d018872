"""Supervised contrast of all frames of a batch, without a matrix of all pairs of frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sertk.core import WHOLE, Dims, Loss, Padded, Target, Task, Views, check_range

SAFE = 80.0  # exp(-80) is a normal float32


class FrameSupCon(Loss):
    """Supervised contrast of frames (P2 eq. 10) after context broadcasting (eq. 9).

    L = 1/|I| sum_{i in I} -1/|P(i)| sum_{j in P(i)} log(exp(h_i h_j / tau) / sum_{k != i} exp(h_i h_k / tau)).

    I is the real frames of the batch as the pooling refined them, projected linearly, each then the mean of itself and
    of its utterance's mean. P(i) is the other frames whose utterance has the same (dominant) class, its own utterance
    included; without any, i contributes 0. Companions are left out.

    Args:
        task: Given by the run.
        dims: Given by the run.
        width: Of the projection, at least 1.
        tau: Temperature, above 0. P2 gives no value; 0.07 is from Khosla et al. 2020.
        normalize: Whether frames are scaled to length 1 first: not printed in P2, and done in Khosla et al.
    """

    def __init__(self, task: Task, dims: Dims, width: int = 64, tau: float = 0.07, *, normalize: bool = True) -> None:
        super().__init__()
        check_range("loss 'frame_supcon'", "width", width, at_least=1)
        check_range("loss 'frame_supcon'", "tau", tau, above=0)
        self.projection = nn.Linear(dims.frame, width)
        self._tau, self._normalize = tau, normalize

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows -> a scalar."""
        frames = views[WHOLE].frames.fill(0.0)
        points = broadcast(Padded(self.projection(frames.data), frames.length))
        if self._normalize:
            points = functional.normalize(points, dim=2)
        chosen = frames.mask & (target.weight > 0)[:, None]
        return supcon(points[chosen], target.hard[:, None].expand_as(chosen)[chosen], self._tau)


def broadcast(frames: Padded) -> Tensor:
    """The mean of each frame and of the mean of its utterance's real frames (P2 eq. 9), (B, T, D)."""
    total = torch.einsum("btd,bt->bd", frames.data, frames.mask.to(frames.data.dtype))
    return (frames.data + (total / frames.length[:, None])[:, None]) / 2


def supcon(points: Tensor, classes: Tensor, tau: float) -> Tensor:
    """The supervised contrastive loss of N points (P2 eq. 10), in memory that grows with N and not with its square.

    The pairs of a class add up to |sum h|^2 - sum |h|^2, so only the denominators need all pairs.

    Args:
        points: (N, D).
        classes: (N,) int64.
        tau: Temperature.
    """
    if len(points) < 2:
        return points.sum() * 0.0
    member = functional.one_hot(classes).to(points.dtype)  # (N, C)
    count = member.sum(0)
    pairs = (member.T @ points).pow(2).sum(1) - member.T @ points.pow(2).sum(1)  # (C,)
    near = (pairs / (count - 1).clamp(min=1) * (count > 1)).sum() / tau
    anchors = (count > 1)[classes]  # (N,) those with a positive
    denominators: Tensor = _LogSumExp.apply(points / tau**0.5)  # type: ignore[no-untyped-call]
    return ((denominators * anchors).sum() - near) / len(points)


class _LogSumExp(torch.autograd.Function):
    """(N, D) x -> (N,) log sum_{k != i} exp(x_i x_k), in square blocks of which the mirror image is not computed."""

    @staticmethod
    def forward(ctx: Any, points: Tensor) -> Tensor:  # noqa: ANN401
        bound = _bound(points)
        sums = points.new_full((len(points),), -torch.inf)
        for a, b, scores in _blocks(points):
            rows, columns = _log_sums(scores, bound, mirrored=a != b)
            sums[a] = torch.logaddexp(sums[a], rows)
            if columns is not None:
                sums[b] = torch.logaddexp(sums[b], columns)
        ctx.save_for_backward(points, sums)
        ctx.bound = bound
        return sums

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:  # noqa: ANN401
        points, sums = ctx.saved_tensors
        gradient = torch.zeros_like(points)
        for a, b, scores in _blocks(points):
            shares = _shares(scores, sums[a], sums[b], slopes[0][a], slopes[0][b], ctx.bound)
            gradient[a].addmm_(shares, points[b])
            if a != b:
                gradient[b].addmm_(shares.T, points[a])
        return gradient


def _blocks(points: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows a, columns b, and the scores x_a x_b of every pair of blocks, -inf for a point with itself."""
    size = 512 if points.device.type == "cpu" else 4096  # what fits the cache, what fills a GPU
    parts = [slice(start, start + size) for start in range(0, len(points), size)]
    for a, b in itertools.combinations_with_replacement(parts, 2):
        scores = points[a] @ points[b].T
        yield a, b, scores.fill_diagonal_(-torch.inf) if a == b else scores


def _bound(points: Tensor) -> float | None:
    """The largest score there may be, where no score is so far below it that its exponential vanishes."""
    largest = points.pow(2).sum(1).max().item()
    return largest if 2 * largest < SAFE else None


def _log_sums(scores: Tensor, bound: float | None, *, mirrored: bool) -> tuple[Tensor, Tensor | None]:
    """The log-sum-exp of the rows and, of a mirrored block, of the columns; scores are overwritten."""
    if bound is None:
        return scores.logsumexp(1), scores.logsumexp(0) if mirrored else None
    powers = scores.sub_(bound).exp_()  # one exponential does for both
    return powers.sum(1).log() + bound, powers.sum(0).log() + bound if mirrored else None


def _shares(scores: Tensor, a: Tensor, b: Tensor, slope_a: Tensor, slope_b: Tensor, bound: float | None) -> Tensor:
    """slope_a softmax over rows + slope_b softmax over columns, where a and b are the log-sum-exps; overwrites."""
    if bound is None:
        by_column = (scores - b).exp_() * slope_b
        return scores.sub_(a[:, None]).exp_().mul_(slope_a[:, None]).add_(by_column)
    factors = (slope_a * (bound - a).exp())[:, None] + slope_b * (bound - b).exp()
    return scores.sub_(bound).exp_().mul_(factors)

"""Triplet loss on whole utterances or on their segments (P3 section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from sertk.core import At, Dims, Loss, Target, Task, View, Views, check_range


class Triplet(Loss):
    """max(0, d(a, p) - d(a, n) + margin), d the L2 norm, not squared (P3 eq. 2).

    On segments the k-th of the anchor meets the k-th of the others, up to the smallest count, and the mean over k is
    the triplet's loss. The batch's loss is the mean over its triplets.

    Args:
        task: Given by the run.
        dims: Given by the run.
        margin: In units of the embedding, at least 0.
        at: segments (S) or whole (W); auto is segments where the run has them.
        negatives: Whose length is nearest to the positive's: "set", drawn from the whole training set with a random
            positive, both joining the batch as companions (P3); "batch", from the batch's own rows, for every
            positive in it, at no extra forward pass.
    """

    def __init__(
        self,
        task: Task,
        dims: Dims,
        margin: float = 1.0,
        at: Literal["auto", "whole", "segments"] = "auto",
        negatives: Literal["set", "batch"] = "set",
    ) -> None:
        super().__init__()
        check_range("loss 'triplet'", "margin", margin, at_least=0)
        which: At = at
        self.spans = dims.spans(which, auto="segments")
        self.sampler = "triplets" if negatives == "set" else "shuffle"
        self._margin, self._from_batch = margin, negatives == "batch"

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows and, with negatives of the set, groups["triplet"] (G, 3) -> a scalar."""
        view = views[self.spans[0]]
        rows, count = _by_position(view, len(target.weight))
        triplets = _mine(view, self.spans[0].hop, rows, target) if self._from_batch else groups["triplet"]
        if not len(triplets):
            return view.embedding.sum() * 0.0
        anchor, positive, negative = (rows[triplets[:, i]] for i in range(3))  # (G, K, E) each
        gap = _distance(anchor, positive) - _distance(anchor, negative)
        shared = count[triplets].amin(1)  # (G,)
        real = torch.arange(rows.shape[1], device=shared.device) < shared[:, None]
        return ((gap + self._margin).clamp(min=0) * real).sum(1).div(shared).mean()


def _by_position(view: View, rows: int) -> tuple[Tensor, Tensor]:
    """(B, K, E) the k-th window of each row, zero beyond its count, and the counts (B,)."""
    count = torch.bincount(view.owner, minlength=rows)
    table = view.embedding.new_zeros(rows, int(count.max()), view.embedding.shape[1])
    return table.index_put((view.owner, view.position), view.embedding), count


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # the square root has no gradient at zero, where an anchor meets itself or a padded window another
    return (a - b).pow(2).sum(-1).clamp(min=1e-12).sqrt()


def _mine(view: View, hop: int, rows: Tensor, target: Target) -> Tensor:
    """(G, 3) every anchor and positive of a class, with the row of another class nearest to the positive in length.

    Ties are decided by the embeddings, so the order of rows does not matter.
    """
    # where a row's last window ends, windows overlapping as they do (with tail: align or drop to within a hop)
    ends = (view.position * hop + view.frames.length).to(target.weight.dtype)
    length = torch.zeros_like(target.weight).scatter_reduce(0, view.owner, ends, "amax")
    same = target.hard[:, None] == target.hard
    real = target.weight > 0
    gap = (length[:, None] - length).abs().masked_fill(same | ~real, torch.inf)
    # equal gaps: decide by a projection of the embeddings, a property of the rows and not of their place (a plain sum
    # is zero behind a layer norm)
    flat = rows.detach().flatten(1).double()
    order = (flat @ torch.arange(1, flat.shape[1] + 1, dtype=flat.dtype, device=flat.device).sin()).argsort()
    nearest = order[gap[:, order].argmin(1)]
    possible = same & real & real[:, None] & (gap.amin(1) < torch.inf)
    anchor, positive = possible.fill_diagonal_(False).nonzero(as_tuple=True)
    return torch.stack([anchor, positive, nearest[positive]], 1)

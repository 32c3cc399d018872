"""Contrastive loss on pairs (P5 section 2.2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor
from torch.nn import functional

from sertk.core import WHOLE, Dims, Loss, Target, Task, Views, check_range


class Contrastive(Loss):
    """Pulls pairs of one class together and pushes others apart, mean over pairs (P5 eqs. 3 to 7).

    Type 1, "cosine": 1 - cos(a, b) for a positive pair, max(0, cos(a, b) - m) for a negative one (eq. 5).
    Type 2, "l2": |a - b| for a positive pair, max(0, m - |a - b|) for a negative one (eq. 7; not squared).

    Args:
        task: Given by the run.
        dims: Given by the run.
        distance: Type 1 or type 2.
        margin: m; null is 0 for cosine and 1 for l2 (the paper gives none). It is at least -1 and below 1 for cosine,
            above 0 for l2: otherwise no negative pair is pushed, or all are pushed alike.
        on: What is compared: the "embedding" in front of the head (pos_1), or behind it (pos_2) the "posterior" or
            the "logits".
        pairs: "random" puts every row in one pair (loader_1); "balanced" takes equally many rows of every class and
            as many positive as negative pairs (loader_2).
    """

    def __init__(
        self,
        task: Task,
        dims: Dims,
        distance: Literal["cosine", "l2"] = "cosine",
        margin: float | None = None,
        on: Literal["embedding", "posterior", "logits"] = "embedding",
        pairs: Literal["random", "balanced"] = "random",
    ) -> None:
        super().__init__()
        if distance == "cosine":
            check_range("loss 'contrastive'", "margin", margin, at_least=-1, below=1, null=True)
        else:
            check_range("loss 'contrastive'", "margin", margin, above=0, null=True)
        self.sampler = {"random": "pairs", "balanced": "balanced_pairs"}[pairs]
        self._cosine, self._on = distance == "cosine", on
        self._margin = (0.0 if self._cosine else 1.0) if margin is None else margin

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows and groups["pair"] (G, 2) -> a scalar."""
        points: Tensor = getattr(views[WHOLE], self._on)
        pairs = groups["pair"]
        if not len(pairs):
            return points.sum() * 0.0
        a, b = points[pairs[:, 0]], points[pairs[:, 1]]
        positive = target.hard[pairs[:, 0]] == target.hard[pairs[:, 1]]
        if self._cosine:
            cosine = functional.cosine_similarity(a, b)
            pull, push = 1 - cosine, cosine - self._margin
        else:
            pull = (a - b).pow(2).sum(1).clamp(min=1e-12).sqrt()
            push = self._margin - pull
        return pull.where(positive, push.clamp(min=0)).mean()

"""Softmax with an additive angular margin on a cosine head: ArcFace, and its focal form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from sertk.core import At, Dims, HeadSpec, Loss, Reduction, Target, Task, Views, check_range, over_rows


class APFL(Loss):
    """The additive angular penalty focal loss, -(1 - p)^gamma log p (P4 eqs. 1 and 2).

    p is the softmax in which the target's s cos(theta) became s cos(theta + m). Where theta + m would pass pi the
    target's cosine is lowered by m sin(m) instead, as in the reference code of Deng et al. 2019 without "easy margin".
    With a soft label the loss is the label's mean of the losses of its classes. Without margin it is the focal loss on
    a cosine head. The defaults of gamma and m are the values for IEMOCAP (Table 3).

    Args:
        task: Given by the run.
        dims: Given by the run.
        gamma: Focusing parameter, at least 0; 0 is ArcFace.
        margin: m, radians, from 0 to 1.57, a right angle.
        scale: s of the cosine head, above 0.
        at: Which windows; auto is both where the run has segments, else the whole.
        reduction: Over the rows of a batch.
    """

    trains = frozenset({"emotion"})
    _who: ClassVar[str] = "loss 'apfl'"  # what an error calls it

    def __init__(
        self,
        task: Task,
        dims: Dims,
        gamma: float = 0.5,
        margin: float = 0.3,
        scale: float = 10.0,
        at: At = "auto",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_range(self._who, "gamma", gamma, at_least=0)
        # up to a right angle the loss grows with theta everywhere; far beyond it falls where theta + m passes pi
        check_range(self._who, "margin", margin, at_least=0, at_most=1.57, unit="radians")
        check_range(self._who, "scale", scale, above=0)
        self.spans = dims.spans(at)
        self._classes, self._reduction = len(task.classes), reduction
        self._gamma, self._margin, self._scale = gamma, margin, scale

    def heads(self) -> Mapping[str, HeadSpec]:
        """A cosine emotion head."""
        return {"emotion": HeadSpec("cosine", self._classes, settings={"scale": self._scale})}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows -> a scalar."""
        values = {s: (target.soft[views[s].owner] * self._by_class(views[s].logits)).sum(1) for s in self.spans}
        return over_rows(values, views, target, self._reduction)

    def _by_class(self, logits: Tensor) -> Tensor:
        """(N, C) the loss if the target were each class."""
        cosine = (logits / self._scale).clamp(-1 + 1e-6, 1 - 1e-6)  # the angle has no gradient at 0 and pi
        turned = cosine * math.cos(self._margin) - (1 - cosine.pow(2)).sqrt() * math.sin(self._margin)
        past = cosine <= math.cos(math.pi - self._margin)
        own = self._scale * torch.where(past, cosine - self._margin * math.sin(self._margin), turned)
        itself = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
        others = logits[:, None].expand(-1, logits.shape[1], -1).masked_fill(itself, -torch.inf).logsumexp(2)
        total = torch.logaddexp(own, others)
        # (1 - p)^gamma by its logarithm: no cancellation where p is next to 1
        return (self._gamma * (others - total)).exp() * (total - own)


class ArcFace(APFL):
    """-log of the softmax in which the target's s cos(theta) became s cos(theta + m): `apfl` with gamma = 0.

    Deng et al. 2019; P4 compares with it in section 3.1.

    Args:
        task: Given by the run.
        dims: Given by the run.
        margin: m, radians, from 0 to 1.57, a right angle.
        scale: s of the cosine head, above 0.
        at: Which windows; auto is both where the run has segments, else the whole.
        reduction: Over the rows of a batch.
    """

    _who = "loss 'arcface'"

    def __init__(
        self,
        task: Task,
        dims: Dims,
        margin: float = 0.5,
        scale: float = 10.0,
        at: At = "auto",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(task, dims, 0.0, margin, scale, at, reduction)

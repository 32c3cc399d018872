"""Focal loss."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sertk.core import At, Dims, HeadSpec, Loss, Reduction, Target, Task, Views, check_range, over_rows


class Focal(Loss):
    """-sum_c y_c (1 - p_c)^gamma log p_c, p = softmax(logits), with soft labels y (P2 eq. 7; P4 compares with it).

    Args:
        task: Given by the run.
        dims: Given by the run.
        gamma: Focusing parameter, at least 0, where it is cross-entropy. P2 gives no value; 2 is from Lin et al. 2017.
        at: Which windows; auto is both where the run has segments, else the whole.
        reduction: Over the rows of a batch.
    """

    trains = frozenset({"emotion"})

    def __init__(
        self, task: Task, dims: Dims, gamma: float = 2.0, at: At = "auto", reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        check_range("loss 'focal'", "gamma", gamma, at_least=0)
        self.spans = dims.spans(at)
        self._classes, self._gamma, self._reduction = len(task.classes), gamma, reduction

    def heads(self) -> Mapping[str, HeadSpec]:
        """A linear emotion head."""
        return {"emotion": HeadSpec("linear", self._classes)}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows -> a scalar."""
        values = {s: (target.soft[views[s].owner] * self._by_class(views[s].logits)).sum(1) for s in self.spans}
        return over_rows(values, views, target, self._reduction)

    def _by_class(self, logits: Tensor) -> Tensor:
        """(N, C) the loss if the label were each class."""
        log = logits.log_softmax(1)
        # 1 - p without cancellation; a root of it (gamma under 1) has no slope at 0
        return -(-log.expm1()).clamp(min=1e-12).pow(self._gamma) * log

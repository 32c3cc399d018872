"""Cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sertk.builtin.losses.label import cross_entropy
from sertk.core import At, Dims, HeadSpec, Loss, Reduction, Target, Task, Views, check_range, over_rows


class CrossEntropy(Loss):
    """Cross-entropy with soft labels, on the whole, on segments, or on both (P3 eq. 3; P5 eq. 8).

    L = sum over windows of -sum_c y_c log softmax(logits)_c.

    Args:
        task: Given by the run.
        dims: Given by the run.
        at: Which windows; auto is both where the run has segments, else the whole.
        reduction: Over the rows of a batch.
        smoothing: Share of the label spread over all classes, at least 0 and below 1.
    """

    trains = frozenset({"emotion"})

    def __init__(
        self,
        task: Task,
        dims: Dims,
        at: At = "auto",
        reduction: Reduction = "mean",
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        check_range("loss 'ce'", "smoothing", smoothing, at_least=0, below=1)
        self.spans = dims.spans(at)
        self._classes, self._reduction, self._smoothing = len(task.classes), reduction, smoothing

    def heads(self) -> Mapping[str, HeadSpec]:
        """A linear emotion head."""
        return {"emotion": HeadSpec("linear", self._classes)}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows -> a scalar."""
        soft = (1 - self._smoothing) * target.soft + self._smoothing / self._classes
        values = {s: cross_entropy(views[s].logits, soft[views[s].owner]) for s in self.spans}
        return over_rows(values, views, target, self._reduction)

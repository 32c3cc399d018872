"""PolyLoss for sertk: a guest distribution, and all that a new loss takes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sertk.core import Dims, HeadSpec, Loss, Target, Task, Views, over_rows
from sertk.hookspecs import hookimpl


class Poly(Loss):
    """Poly-1: -log p + epsilon (1 - p), p the probability of the label (Leng et al. 2022, arXiv 2204.12511).

    Args:
        task: Given by the run.
        dims: Given by the run.
        epsilon: Weight of the second term; 0 is cross-entropy.
    """

    trains = frozenset({"emotion"})

    def __init__(self, task: Task, dims: Dims, epsilon: float = 1.0) -> None:
        super().__init__()
        self.classes, self.epsilon = len(task.classes), epsilon
        self.spans = dims.spans("auto")  # the whole; segments beside it where the run has them

    def heads(self) -> Mapping[str, HeadSpec]:
        """A linear emotion head."""
        return {"emotion": HeadSpec("linear", self.classes)}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows -> the mean over rows; a soft label has the mean of its classes' losses."""
        values = {}
        for span in self.spans:
            log_p = views[span].logits.log_softmax(1)  # (N, C)
            by_class = -log_p + self.epsilon * (1 - log_p.exp())
            values[span] = (target.soft[views[span].owner] * by_class).sum(1)
        return over_rows(values, views, target, "mean")


@hookimpl
def sertk_losses() -> Mapping[str, type[Loss]]:
    """The name that `--loss` takes."""
    return {"poly": Poly}

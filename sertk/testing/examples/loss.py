"""A loss: cross-entropy with a share of the label spread over all classes."""

from collections.abc import Mapping

from torch import Tensor

from sertk.core import Dims, HeadSpec, Loss, Target, Task, Views, over_rows
from sertk.hookspecs import hookimpl


class Example(Loss):
    """Label smoothing (Szegedy et al. 2016).

    Args:
        task: Given by the run: the classes.
        dims: Given by the run: sizes of the model.
        share: Of the label that goes to all classes.
    """

    trains = frozenset({"emotion"})

    def __init__(self, task: Task, dims: Dims, share: float = 0.1) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"share must be at least 0 and below 1, got {share}")
        self.classes, self.share = len(task.classes), share
        self.spans = dims.spans("auto")  # the whole; segments beside it where the run has them

    def heads(self) -> Mapping[str, HeadSpec]:
        """A linear emotion head."""
        return {"emotion": HeadSpec("linear", self.classes)}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows -> the mean over rows."""
        soft = (1 - self.share) * target.soft + self.share / self.classes  # (B, C)
        values = {
            span: -(soft[views[span].owner] * views[span].logits.log_softmax(1)).sum(1)  # (N,)
            for span in self.spans
        }
        return over_rows(values, views, target, "mean")


@hookimpl
def sertk_losses() -> Mapping[str, type[Loss]]:
    """The name that `--loss` takes."""
    return {"example": Example}

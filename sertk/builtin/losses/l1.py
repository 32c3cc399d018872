"""L1 and Smooth L1 between the probabilities and the label (P1 section 4.1)."""

from __future__ import annotations

from functools import partial

from sertk.builtin.losses.label import LabelLoss, l1, smooth_l1
from sertk.core import At, Dims, Output, Reduction, Task, check_range


class L1(LabelLoss):
    """The mean over the C classes of |p_c - y_c|, with soft labels y (P1 section 4.1).

    P1 does not say what it is taken of; its values exclude a sum over classes.

    Args:
        task: Given by the run.
        dims: Given by the run.
        output: What p is of the head's values: their softmax, the sigmoid of each, or linear, the values themselves.
        at: Which windows; auto is both where the run has segments, else the whole.
        reduction: Over the rows of a batch.
    """

    def __init__(
        self, task: Task, dims: Dims, output: Output = "softmax", at: At = "auto", reduction: Reduction = "mean"
    ) -> None:
        super().__init__(task, dims, partial(l1, output=output), output, at, reduction)


class SmoothL1(LabelLoss):
    """The mean over the C classes of d^2 / (2 beta) where d = |p_c - y_c| < beta, else d - beta / 2 (P1 section 4.1).

    Args:
        task: Given by the run.
        dims: Given by the run.
        output: What p is of the head's values: their softmax, the sigmoid of each, or linear, the values themselves.
        beta: Below it the loss is quadratic; above 0.
        at: Which windows; auto is both where the run has segments, else the whole.
        reduction: Over the rows of a batch.
    """

    def __init__(
        self,
        task: Task,
        dims: Dims,
        output: Output = "softmax",
        beta: float = 1.0,
        at: At = "auto",
        reduction: Reduction = "mean",
    ) -> None:
        check_range("loss 'smooth_l1'", "beta", beta, above=0)
        super().__init__(task, dims, partial(smooth_l1, output=output, beta=beta), output, at, reduction)

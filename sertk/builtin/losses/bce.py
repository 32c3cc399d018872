"""Binary cross-entropy of each class (P1 section 4.1)."""

from __future__ import annotations

from functools import partial
from typing import Literal

from sertk.builtin.losses.label import LabelLoss, bce
from sertk.core import At, Dims, Reduction, Task


class BinaryCrossEntropy(LabelLoss):
    """The mean over the C classes of -y_c log p_c - (1 - y_c) log(1 - p_c), with soft labels y (P1 section 4.1).

    Args:
        task: Given by the run.
        dims: Given by the run.
        output: What p is of the head's values: the sigmoid of each, or their softmax.
        at: Which windows; auto is both where the run has segments, else the whole.
        reduction: Over the rows of a batch.
    """

    def __init__(
        self,
        task: Task,
        dims: Dims,
        output: Literal["sigmoid", "softmax"] = "sigmoid",
        at: At = "auto",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(task, dims, partial(bce, output=output), output, at, reduction)

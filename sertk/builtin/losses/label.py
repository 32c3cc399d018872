"""Losses between the values of the emotion head and the label: of training, and of the metric `label_loss`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from sertk.core import At, Dims, HeadSpec, Loss, Output, Reduction, Target, Task, Views, over_rows


class LabelLoss(Loss):
    """A loss of each row's values and label: the base of `l1`, `smooth_l1` and `bce`.

    Args:
        task: Given by the run.
        dims: Given by the run.
        each: (N, C) values and (N, C) labels -> (N,) losses.
        output: How the values become probabilities; the head carries it.
        at: Which windows.
        reduction: Over the rows of a batch.
    """

    trains = frozenset({"emotion"})

    def __init__(
        self,
        task: Task,
        dims: Dims,
        each: Callable[[Tensor, Tensor], Tensor],
        output: Output,
        at: At,
        reduction: Reduction,
    ) -> None:
        super().__init__()
        self.spans = dims.spans(at)
        self._each, self._reduction = each, reduction
        self._head = HeadSpec("linear", len(task.classes), output=output)

    def heads(self) -> Mapping[str, HeadSpec]:
        """A linear emotion head with the output map of the loss."""
        return {"emotion": self._head}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows -> a scalar."""
        values = {s: self._each(views[s].logits, target.soft[views[s].owner]) for s in self.spans}
        return over_rows(values, views, target, self._reduction)


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """-sum_c y_c log softmax(logits)_c, (N, C) twice -> (N,) nats."""
    return -(label * logits.log_softmax(1)).sum(1)


def l1(logits: Tensor, label: Tensor, output: Output = "softmax") -> Tensor:
    """The mean over classes of |p_c - y_c|, (N, C) twice -> (N,)."""
    return (mapped(logits, output) - label).abs().mean(1)


def smooth_l1(logits: Tensor, label: Tensor, output: Output = "softmax", beta: float = 1.0) -> Tensor:
    """The mean over classes of d^2 / (2 beta) where d = |p_c - y_c| is below beta, else d - beta / 2; -> (N,)."""
    return functional.smooth_l1_loss(mapped(logits, output), label, reduction="none", beta=beta).mean(1)


def bce(logits: Tensor, label: Tensor, output: Output = "sigmoid") -> Tensor:
    """The mean over classes of -y_c log p_c - (1 - y_c) log(1 - p_c), (N, C) twice -> (N,) nats.

    With output softmax, 1 - p_c is the sum of the other probabilities: exact where p_c is next to 1 too.
    """
    if output == "sigmoid":
        return functional.binary_cross_entropy_with_logits(logits, label, reduction="none").mean(1)
    log = logits.log_softmax(1)
    itself = torch.eye(log.shape[1], dtype=torch.bool, device=log.device)
    others = log[:, None].expand(-1, log.shape[1], -1).masked_fill(itself, -torch.inf).logsumexp(2)
    return -(label * log + (1 - label) * others).mean(1)


def mapped(logits: Tensor, output: Output) -> Tensor:
    """(N, C) each value by the output map: sigmoids are not divided by their sum, linear values stay as they are."""
    if output == "linear":
        return logits
    return logits.sigmoid() if output == "sigmoid" else logits.softmax(1)

"""Kullback-Leibler divergence from the label."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sertk.core import At, Dims, HeadSpec, Loss, Reduction, Target, Task, Views, over_rows


class KullbackLeibler(Loss):
    """sum_c y_c log(y_c / softmax(logits)_c), 0 log 0 = 0 (P2 eq. 6): cross-entropy less the label's entropy.

    Args:
        task: Given by the run.
        dims: Given by the run.
        at: Which windows; auto is both where the run has segments, else the whole.
        reduction: Over the rows of a batch.
    """

    trains = frozenset({"emotion"})

    def __init__(self, task: Task, dims: Dims, at: At = "auto", reduction: Reduction = "mean") -> None:
        super().__init__()
        self.spans = dims.spans(at)
        self._classes, self._reduction = len(task.classes), reduction

    def heads(self) -> Mapping[str, HeadSpec]:
        """A linear emotion head."""
        return {"emotion": HeadSpec("linear", self._classes)}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows -> a scalar."""
        values = {s: _divergence(target.soft[views[s].owner], views[s].logits.log_softmax(1)) for s in self.spans}
        return over_rows(values, views, target, self._reduction)


def _divergence(label: Tensor, log_posterior: Tensor) -> Tensor:
    return (torch.xlogy(label, label) - label * log_posterior).sum(1)

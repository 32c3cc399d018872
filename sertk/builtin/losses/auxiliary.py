"""Auxiliary tasks beside the emotion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from sertk.core import At, Dims, HeadSpec, Loss, Target, Task, UsageError, Views, nearest, over_rows


class Auxiliary(Loss):
    """Cross-entropy of an auxiliary task on a head of its own, over the rows that have a label of it (P5 eq. 9).

    With `alpha` the objective is (1 - alpha) L_emotion + alpha L_task.

    Args:
        labels: Given by the run.
        dims: Given by the run.
        task: One that the protocol has: gender (female, male), or valence, activation and dominance as three bins,
            [1, 2], (2, 4) and [4, 5] (P5 section 4.2), where the corpus says them. Its head is called aux_TASK.
        reads: The branches of a fusion that the head sees; null for all.
        at: Which windows; auto is both where the run has segments, else the whole.
    """

    def __init__(
        self, labels: Task, dims: Dims, task: str = "gender", reads: Sequence[str] | None = None, at: At = "auto"
    ) -> None:
        super().__init__()
        try:
            self._size = labels.aux[task].size
        except KeyError:
            none = ", and has none; an older sertk may have prepared it"
            there = nearest(task, labels.aux) if labels.aux else none
            raise UsageError(
                f"loss 'aux': the protocol has no task {task!r}{there}. State a task of your own in its `aux`, and run "
                "`sertk prepare`."
            ) from None
        self.spans, self.aux = dims.spans(at), frozenset({task})
        self._task, self._head, self._reads = task, f"aux_{task}", None if reads is None else tuple(reads)

    def heads(self) -> Mapping[str, HeadSpec]:
        """A linear head."""
        return {self._head: HeadSpec("linear", self._size, self._reads)}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows -> a scalar, 0 where no row has a label of the task."""
        given = target.aux[self._task]
        known = ~given.isnan()
        number = given.nan_to_num().long()
        values = {
            span: functional.cross_entropy(views[span].heads[self._head], number[views[span].owner], reduction="none")
            for span in self.spans
        }
        return over_rows(values, views, replace(target, weight=target.weight * known), "mean")

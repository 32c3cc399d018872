"""Metrics of what was decided. WA is accuracy; UA = UAR = mean class recall (spec 0.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from sertk.builtin.losses.label import bce, cross_entropy, l1, smooth_l1
from sertk.core import CountMetric, Metric, Output, Scores, UsageError
from sertk.hookspecs import hookimpl


def _macro_mean(part: Tensor, whole: Tensor, counts: Tensor) -> Tensor:
    """Macro mean over the counted classes of part / whole, 0 where the whole is 0; all (..., C)."""
    shares = part.double() / whole.clamp(min=1)
    if shares.dim() == 1:  # a sum over the counted alone: of zeros between them the last digit would be another
        return shares[counts].mean()
    return shares.masked_fill(~counts, 0.0).sum(-1) / counts.sum(-1)


def _right(counts: Tensor) -> Tensor:
    """(..., C) right decisions by class."""
    return counts.diagonal(dim1=-2, dim2=-1)


class WeightedAccuracy(CountMetric):
    """Weighted accuracy: the share of right decisions."""

    def counted(self, counts: Tensor) -> Tensor:
        """The right decisions among all."""
        return _right(counts).sum(-1).double() / counts.sum((-2, -1))


class UnweightedAccuracy(CountMetric):
    """Unweighted accuracy: the mean recall of the classes that occur in the reference."""

    def counted(self, counts: Tensor) -> Tensor:
        """The mean recall of the classes that have an utterance."""
        support = counts.sum(-1)
        return _macro_mean(_right(counts), support, support > 0)


class Precision(CountMetric):
    """Macro precision over the classes that occur, 0 for one never decided."""

    def counted(self, counts: Tensor) -> Tensor:
        """The mean over the classes of right decisions among the decisions."""
        decided = counts.sum(-2)
        return _macro_mean(_right(counts), decided, (counts.sum(-1) + decided) > 0)


class Recall(CountMetric):
    """Macro recall over the classes that occur, in the reference or in the decisions."""

    def counted(self, counts: Tensor) -> Tensor:
        """The mean over the classes of right decisions among the utterances."""
        support = counts.sum(-1)
        return _macro_mean(_right(counts), support, (support + counts.sum(-2)) > 0)


class F1(CountMetric):
    """Macro F1 over the classes that occur."""

    def counted(self, counts: Tensor) -> Tensor:
        """The mean over the classes of twice the right decisions among utterances and decisions."""
        both = counts.sum(-2) + counts.sum(-1)
        return _macro_mean(2 * _right(counts), both, both > 0)


class LabelLoss(Metric):
    """The mean over the utterances of a loss between the values of the emotion head and the label (P1 Table 1).

    Of an utterance in several windows or crops the values are their mean.

    Args:
        of: ce (nats), or a mean over the classes: l1, smooth_l1 (beta 1), bce (nats).
        output: What the values are made into; null is what the loss has where nothing is said. Of ce it is softmax.
    """

    better = "lower"
    range = (0.0, math.inf)
    shown = False

    def __init__(self, of: Literal["ce", "l1", "smooth_l1", "bce"] = "ce", output: Output | None = None) -> None:
        allowed = {"ce": ("softmax",), "bce": ("sigmoid", "softmax")}.get(of, ("softmax", "sigmoid", "linear"))
        if output is not None and output not in allowed:
            raise UsageError(f"metric 'label_loss': output is {output}; of {of} it is {', '.join(allowed)}, or null")
        each: Mapping[str, Callable[..., Tensor]] = {"ce": cross_entropy, "l1": l1, "smooth_l1": smooth_l1, "bce": bce}
        self._each, self._output = each[of], {} if output is None or of == "ce" else {"output": output}

    def __call__(self, scores: Scores) -> float:
        """The mean of the losses."""
        values = scores.prediction.logits
        return float(self._each(values, scores.target.soft.to(values.dtype), **self._output).mean())


@hookimpl
def sertk_metrics() -> Mapping[str, type[Metric]]:
    """The metrics by name."""
    return {
        "wa": WeightedAccuracy,
        "ua": UnweightedAccuracy,
        "precision": Precision,
        "recall": Recall,
        "f1": F1,
        "label_loss": LabelLoss,
    }

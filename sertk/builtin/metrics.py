"""Metrics of what was decided. WA is accuracy; UA = UAR = mean class recall (spec 0.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from sertk.builtin.losses.label import bce, cross_entropy, l1, smooth_l1
from sertk.core import Metric, Output, Scores, UsageError
from sertk.hookspecs import hookimpl


def _macro_mean(part: Tensor, whole: Tensor, counts: Tensor) -> float:
    """Macro mean over the counted classes of part / whole, 0 where the whole is 0."""
    return float((part.double() / whole.clamp(min=1))[counts].mean())


class WeightedAccuracy(Metric):
    """Weighted accuracy: the share of right decisions."""

    def __call__(self, scores: Scores) -> float:
        """The right decisions among all."""
        return float(scores.confusion.diagonal().sum().double() / scores.confusion.sum())


class UnweightedAccuracy(Metric):
    """Unweighted accuracy: the mean recall of the classes that occur in the reference."""

    def __call__(self, scores: Scores) -> float:
        """The mean recall of the classes that have an utterance."""
        support = scores.confusion.sum(1)
        return _macro_mean(scores.confusion.diagonal(), support, support > 0)


class Precision(Metric):
    """Macro precision over the classes that occur, 0 for one never decided."""

    def __call__(self, scores: Scores) -> float:
        """The mean over the classes of right decisions among the decisions."""
        decided = scores.confusion.sum(0)
        return _macro_mean(scores.confusion.diagonal(), decided, (scores.confusion.sum(1) + decided) > 0)


class Recall(Metric):
    """Macro recall over the classes that occur, in the reference or in the decisions."""

    def __call__(self, scores: Scores) -> float:
        """The mean over the classes of right decisions among the utterances."""
        support = scores.confusion.sum(1)
        return _macro_mean(scores.confusion.diagonal(), support, (support + scores.confusion.sum(0)) > 0)


class F1(Metric):
    """Macro F1 over the classes that occur."""

    def __call__(self, scores: Scores) -> float:
        """The mean over the classes of twice the right decisions among utterances and decisions."""
        both = scores.confusion.sum(0) + scores.confusion.sum(1)
        return _macro_mean(2 * scores.confusion.diagonal(), both, both > 0)


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

"""Metrics of what was decided. WA is accuracy; UA = UAR = mean class recall (spec 0.1)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sertk.core import Metric, Scores
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


@hookimpl
def sertk_metrics() -> Mapping[str, type[Metric]]:
    """The metrics by name."""
    return {"wa": WeightedAccuracy, "ua": UnweightedAccuracy, "precision": Precision, "recall": Recall, "f1": F1}

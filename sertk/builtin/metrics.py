"""Metrics of confusion counts. WA is accuracy; UA = UAR = mean class recall (spec 0.1)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sertk.core import Metric
from sertk.hookspecs import hookimpl


def _macro_mean(part: Tensor, whole: Tensor, counts: Tensor) -> float:
    """Macro mean over the counted classes of part / whole, 0 where the whole is 0."""
    return float((part.double() / whole.clamp(min=1))[counts].mean())


def wa(confusion: Tensor) -> float:
    """Weighted accuracy: the share of right decisions."""
    return float(confusion.diagonal().sum().double() / confusion.sum())


def ua(confusion: Tensor) -> float:
    """Unweighted accuracy: the mean recall of the classes that occur in the reference."""
    support = confusion.sum(1)
    return _macro_mean(confusion.diagonal(), support, support > 0)


def precision(confusion: Tensor) -> float:
    """Macro precision over the classes that occur, 0 for one never decided."""
    decided = confusion.sum(0)
    return _macro_mean(confusion.diagonal(), decided, (confusion.sum(1) + decided) > 0)


def recall(confusion: Tensor) -> float:
    """Macro recall over the classes that occur, in the reference or in the decisions."""
    return _macro_mean(confusion.diagonal(), confusion.sum(1), (confusion.sum(1) + confusion.sum(0)) > 0)


def f1(confusion: Tensor) -> float:
    """Macro F1 over the classes that occur."""
    both = confusion.sum(0) + confusion.sum(1)
    return _macro_mean(2 * confusion.diagonal(), both, both > 0)


@hookimpl
def sertk_metrics() -> Mapping[str, Metric]:
    """The metrics by name."""
    return {"wa": wa, "ua": ua, "precision": precision, "recall": recall, "f1": f1}

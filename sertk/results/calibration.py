"""Are probabilities what they say? Calibration error, Brier score, and accuracy where a model may abstain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sertk.core import Scores, UsageError

BINS = 15


class Reliability(NamedTuple):
    """Decisions by confidence: the B bins that are not empty.

    Attributes:
        low: (B,) lower end of each bin; the upper one belongs to it.
        size: (B,) int64 decisions.
        confidence: (B,) their mean confidence.
        accuracy: (B,) the share that is right.
    """

    low: Tensor
    size: Tensor
    confidence: Tensor
    accuracy: Tensor

    @property
    def error(self) -> float:
        """The expected calibration error: the mean over decisions of how far their bin is off."""
        return float(((self.confidence - self.accuracy).abs() * self.size).sum() / self.size.sum())


class Coverage(NamedTuple):
    """What is right where the model decides only if it is sure enough, from the surest on.

    Attributes:
        threshold: (T,) each confidence that occurs, the highest first: of this and more it decides.
        coverage: (T,) the share of utterances that are decided.
        accuracy: (T,) the share of these that is right.
    """

    threshold: Tensor
    coverage: Tensor
    accuracy: Tensor


def confidence(scores: Scores) -> tuple[Tensor, Tensor]:
    """(N,) the probability of each decision, and (N,) whether it is right."""
    own = scores.prediction.column("posterior").gather(1, scores.decision[:, None])[:, 0]
    return own.double(), scores.decision == scores.target.hard


def reliability(scores: Scores, bins: int = BINS) -> Reliability:
    """The reliability curve over bins of equal width: (0, 1/B], ..., (1 - 1/B, 1].

    Source: Guo et al. 2017, On calibration of modern neural networks, ICML, section 2.

    Args:
        scores: N utterances, at least one.
        bins: B; the calibration error depends on it, so it is stated with it.

    Raises:
        UsageError: If there is no bin.
    """
    if bins < 1:
        raise UsageError(f"bins is {bins}; it is at least 1.")
    sure, right = confidence(scores)
    place = ((sure * bins).ceil().long() - 1).clamp(0, bins - 1)
    size = torch.bincount(place, minlength=bins)
    sums = (torch.bincount(place, weights=one, minlength=bins) for one in (sure, right.double()))
    kept = size > 0
    mean, share = (one[kept] / size[kept] for one in sums)
    return Reliability(torch.arange(bins).double()[kept] / bins, size[kept], mean, share)


def brier(scores: Scores) -> float:
    """The mean over utterances of the squared distance of posterior and label over all classes, 0 to 2.

    Source: Brier 1950, Monthly Weather Review 78, 1-3.
    """
    posterior = scores.prediction.column("posterior").double()
    label = torch.nn.functional.one_hot(scores.target.hard, posterior.shape[1])
    return float((posterior - label).square().sum(1).mean())


def coverage(scores: Scores) -> Coverage:
    """Accuracy against coverage; decisions of the same confidence are taken or left together.

    Source: El-Yaniv and Wiener 2010, Journal of Machine Learning Research 11, 1605-1641.
    """
    sure, right = confidence(scores)
    order = sure.argsort(descending=True)
    known, size = torch.unique_consecutive(sure[order], return_counts=True)
    taken = size.cumsum(0)
    found = right[order].double().cumsum(0)[taken - 1]
    return Coverage(known, taken.double() / len(sure), found / taken)


def decided_at(scores: Scores, percents: Sequence[int]) -> tuple[Coverage, Tensor]:
    """What is decided where a model decides at least so many percent of the utterances, the surest.

    Args:
        scores: N utterances, at least one.
        percents: P shares, 1 to 100, the lowest first.

    Returns:
        The thresholds of these shares, the shares as they are and the accuracies, (P,) each, see `coverage`; and the
        (P, C, C) confusion counts of what is decided.
    """
    every, (sure, _), classes = coverage(scores), confidence(scores), len(scores.classes)
    taken = (every.coverage * len(sure)).round().long()
    wanted = torch.tensor([-(-percent * len(sure) // 100) for percent in percents])
    found = Coverage(*(column[torch.searchsorted(taken, wanted)] for column in every))
    first = torch.searchsorted(-found.threshold, -sure)  # the lowest share at which an utterance is decided
    cells = scores.target.hard * classes + scores.decision
    counts = torch.bincount(first * classes**2 + cells, minlength=(len(percents) + 1) * classes**2)
    return found, counts.view(-1, classes, classes)[:-1].cumsum(0)

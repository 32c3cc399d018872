"""A system by group: by class, gender, speaker, session, intensity and duration, and the spread over speakers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sertk.core import Scores
from sertk.core.rows import coded
from sertk.results.intervals import Estimate, Statistic, by_speaker, estimates
from sertk.results.systems import System
from sertk.results.units import By, Units, Where, units_of

Column = Literal["gender", "speaker", "session", "intensity", "duration"]
ALONE = "it is one speaker"
PARTS = 4
"""Groups of duration, of as many utterances each as can be."""


class Group(NamedTuple):
    """Some of the utterances.

    Attributes:
        name: As it is shown.
        size: Utterances.
        estimate: Its figure, folds pooled.
    """

    name: str
    size: int
    estimate: Estimate


class Spread(NamedTuple):
    """How far speakers are apart in UA.

    Attributes:
        seen: The standard deviation of the speakers' UA.
        own: The same without what chance adds, as a speaker has few clips of a class.
    """

    seen: float
    own: float


def by_class(system: System, by: By = "speakers") -> list[Group]:
    """The recall of each class that occurs.

    Args:
        system: The system.
        by: What is drawn.
    """
    units, classes = units_of([system], by).pooled, system.runs[0].scores.classes
    count = (units.size @ units.counts[:, 0].sum((1, 3))) / units.counts.shape[2]  # each seed has the same labels
    known = [number for number, size in enumerate(count.tolist()) if size]
    found = estimates(units, {classes[number]: _recall(number) for number in known})
    return [Group(classes[number], int(count[number]), found[classes[number]]) for number in known]


def _recall(number: int) -> Statistic:
    return lambda counts: counts[..., number, number] / counts[..., number, :].sum(-1)  # 0 / 0 is NaN


def by_group(system: System, column: Column, statistic: Statistic) -> list[Group]:
    """A metric of each group, by speakers; a speaker alone has no interval.

    Args:
        system: The system.
        column: What makes the groups; of durations they are quarters.
        statistic: The metric, such as UA.

    Raises:
        SertkError: See `units_of`.
    """
    if column == "speaker":
        units = units_of([system]).pooled
        sizes = units.counts[:, 0, 0].sum((1, 2)).astype(int).tolist()
        alone = [
            Estimate(one, math.nan, math.nan, "speakers", 1, why=ALONE) for one in by_speaker(units, statistic).values()
        ]
        return [Group(name, size, one) for name, size, one in zip(units.names, sizes, alone, strict=True)]
    scores = next(iter(system.seeds.values()))
    chosen = _durations(scores) if column == "duration" else _values(scores, column)
    return [
        Group(name, int(where(scores).sum()), estimates(units_of([system], where=where).pooled, {"": statistic})[""])
        for name, where in chosen
    ]


def _values(scores: Scores, column: str) -> Iterator[tuple[str, Where]]:
    """The groups of a column, by name; "unknown" is the last."""
    codes, names = coded(getattr(scores, column))
    spoken = {names[number] for number in torch.unique(codes).tolist()}
    for value in sorted(spoken, key=lambda name: (name is None, name or "")):
        yield value or "unknown", _equals(column, value)


def _equals(column: str, value: str | None) -> Where:
    def where(scores: Scores) -> Tensor:
        codes, names = coded(getattr(scores, column))
        return codes == names.index(value) if value in names else torch.zeros(len(codes), dtype=torch.bool)

    return where


def _durations(scores: Scores) -> Iterator[tuple[str, Where]]:
    """Groups of as many utterances each as can be; those of unknown duration are the last."""
    seconds = scores.seconds.numpy()
    known = seconds[~np.isnan(seconds)]
    inner = (
        np.unique(np.quantile(known, np.arange(1, PARTS) / PARTS, method="inverted_cdf")).tolist() if len(known) else []
    )
    edges = [-math.inf, *(edge for edge in inner if edge < known.max()), math.inf]
    for low, high in pairwise(edges) if len(known) else ():
        ends = [f"beyond {low:.2f}"] * (low > 0) + [f"up to {high:.2f}"] * (high < math.inf)
        yield f"{' '.join(ends)} s" if ends else "all", _between(low, high)
    if len(known) < len(seconds):
        yield "unknown", lambda scores: scores.seconds.isnan()


def _between(low: float, high: float) -> Where:
    return lambda scores: (scores.seconds > low) & (scores.seconds <= high)


def spread(units: Units) -> Spread | None:
    """The spread of UA over speakers; the mean variance over seeds.

    From the variance of the speakers' UA the mean binomial variance is taken away: of a class with n clips and recall r
    it is r (1 - r) / (n - 1), and of the mean of a speaker's C classes the sum of these over C².

    Args:
        units: Speakers of a system, folds pooled.

    Returns:
        None of one speaker, or where a speaker has a single clip of a class.
    """
    counts = units.counts[:, 0]  # (S, K, C, C)
    clips, right = counts.sum(-1), counts.diagonal(axis1=-2, axis2=-1)
    if len(counts) < 2 or (clips == 1).any():
        return None
    spoken = (clips > 0).sum(-1)  # (S, K)
    recall = right / np.maximum(clips, 1)
    noise = (recall * (1 - recall) / np.maximum(clips - 1, 1)).sum(-1) / spoken**2
    seen = (recall.sum(-1) / spoken).var(0, ddof=1)  # (K,)
    return Spread(math.sqrt(seen.mean()), math.sqrt(max(0.0, float((seen - noise.mean(0)).mean()))))

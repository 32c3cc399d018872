"""Statistics of scored runs over folds and seeds."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sertk.results.measures import Measure, Measures
from sertk.results.runs import Run
from sertk.results.systems import System


def total_confusion(runs: Sequence[Run]) -> Tensor:
    """(C, C) int64 confusion counts of all runs together."""
    classes = runs[0].metrics["classes"]
    return sum((run.counts for run in runs), torch.zeros(len(classes), len(classes), dtype=torch.int64))


class Summary(NamedTuple):
    """A metric over runs; None where it failed.

    Attributes:
        runs: The value of each run.
        folds: For each seed, the mean of the folds' values.
        pooled: For each seed, the value of the utterances of all folds together.
    """

    runs: list[float | None]
    folds: list[float | None]
    pooled: list[float | None]


def summarize(system: System, measure: Measure, measures: Measures) -> Summary:
    """A metric of each run, and seed by seed: the mean of the folds, and pooled over the folds.

    Args:
        system: Whose runs.
        measure: The metric.
        measures: Says so if it fails.
    """
    values = [measures.figure(measure, run.scores) for run in system.runs]
    by_seed: dict[str, list[float | None]] = {}
    for run, value in zip(system.runs, values, strict=True):
        by_seed.setdefault(run.seed, []).append(value)
    folds = [mean(own) for own in by_seed.values()]
    return Summary(values, folds, [measures.figure(measure, scores) for scores in system.seeds.values()])


def mean(values: Collection[float | None]) -> float | None:
    """The mean of figures; None if one is missing, or the list is empty."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None

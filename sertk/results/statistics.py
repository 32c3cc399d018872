"""Confusion counts, the metrics computed from them, and their statistics over folds and seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sertk.plugins import Plugins
from sertk.results.runs import Run


def confusion(pairs: Iterable[tuple[str, str]], classes: Sequence[str]) -> Tensor:
    """(C, C) int64 counts of (label, decision) pairs: rows are the labels, columns the decisions."""
    place = {name: number for number, name in enumerate(classes)}
    cells = torch.tensor(
        [place[label] * len(classes) + place[decision] for label, decision in pairs], dtype=torch.int64
    )
    return torch.bincount(cells, minlength=len(classes) ** 2).view(len(classes), len(classes))


def total_confusion(runs: Sequence[Run]) -> Tensor:
    """(C, C) int64 confusion counts of all runs together."""
    classes = runs[0].metrics["classes"]
    return sum((run.counts for run in runs), torch.zeros(len(classes), len(classes), dtype=torch.int64))


def all_metrics(counts: Tensor, plugins: Plugins) -> dict[str, float]:
    """Every registered metric of (C, C) confusion counts, by name."""
    return {name: plugins.factory("metric", name)(counts) for name in plugins.names("metric")}


class Summary(NamedTuple):
    """A metric over folds and seeds.

    Attributes:
        folds: For each seed, the mean of the folds' values.
        pooled: For each seed, the value computed from the counts of all folds together.
    """

    folds: list[float]
    pooled: list[float]


def summarize(runs: Sequence[Run], metric: str, plugins: Plugins) -> Summary:
    """A metric of runs, seed by seed: the mean of the folds, and pooled over the folds.

    Args:
        runs: Of one system.
        metric: By name.
        plugins: Where the metric is registered.
    """
    by_seed: dict[str, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, []).append(run)
    folds = [statistics.fmean(run.metrics["metrics"][metric] for run in own) for own in by_seed.values()]
    pooled = [plugins.factory("metric", metric)(sum(run.counts for run in own)) for own in by_seed.values()]
    return Summary(folds, pooled)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over seeds in percent; the deviation is the population's, as in the papers."""
    deviation = f" ± {100 * statistics.pstdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{deviation}"

"""The figures of a cell of a sweep's table: a value a seed, from the runs of a line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from sertk.core import Prediction, Scores, SertkError
from sertk.results.measures import Measure, Measures
from sertk.results.runs import Run
from sertk.results.statistics import mean
from sertk.results.sweeps import Outcome, Place
from sertk.results.systems import System, labelled_by
from sertk.settings.sweep import Cell

MEAN = "mean"
"""The column after the columns of the folds or speakers."""


class Figures(NamedTuple):
    """The figures of a cell of a line.

    Attributes:
        values: By the name of a fold or speaker ("" for the whole), then by seed; None where the metric failed.
        places: The runs that they are of.
        empty: Folds without an utterance that counts; the others make the mean.
    """

    values: Mapping[str, Mapping[str, float | None]]
    places: Sequence[Place]
    empty: Sequence[str] = ()


def by_name(cell: Cell) -> bool:
    """Whether a cell has a column for each fold or speaker."""
    return cell.how in ("fold", "speaker")


def pools(cell: Cell) -> bool:
    """Whether the utterances of all folds are put together: for an agreement they are."""
    return cell.how == "pooled" or (cell.how == "folds" and cell.agreement is not None)


def chance_figures(cell: Cell, other: Outcome | None, measure: Measure, measures: Measures) -> Figures:
    """The figures of one who decides every time for the most frequent class, on what the first seed of a line scored.

    It is the most frequent class of what a figure is of: a fold, a speaker, or all folds together.

    Args:
        cell: Which utterances count, and how they are put together.
        other: A line with runs, or None.
        measure: The cell's metric.
        measures: Says so if it fails.
    """
    runs = other.parts[cell.part].runs if other else []
    first = [run for run in runs if run.seed == runs[0].seed]
    scores = {run.fold: _counted(cell, run, None) for run in first}
    groups = _groups(cell, {fold: one for fold, one in scores.items() if one.ids})
    named = _named(cell, ((name, _guessed(one)) for name, one in groups), measure, measures)
    return Figures({name: {"": value} for name, value in named.items()}, [])


def _guessed(scores: Scores) -> Scores:
    """The scores of one who knows how frequent each class is, and nothing else."""
    share = torch.bincount(scores.target.hard, minlength=len(scores.classes)).double() / max(1, len(scores.ids))
    same = share.expand(len(scores.ids), -1)
    prediction = Prediction(same, same.clamp(min=1e-12).log())
    return replace(scores, prediction=prediction, decision=same.argmax(1))


def metric_figures(cell: Cell, own: Outcome, truth: Outcome | None, measure: Measure, measures: Measures) -> Figures:
    """The figures of a metric.

    Args:
        cell: Which utterances count, and how they are put together.
        own: The line.
        truth: The line whose decisions are the labels, for a cell of agreement; runs that it lacks are left out.
        measure: The cell's metric.
        measures: Says so if it fails.

    Raises:
        SertkError: If an utterance has no speaker or no duration, and the cell needs it.
    """
    theirs = None if truth is None else {(run.fold, run.seed): run for run in truth.parts[cell.part].runs}
    runs = [run for run in own.parts[cell.part].runs if theirs is None or (run.fold, run.seed) in theirs]
    found, empty = dict[str, dict[str, float | None]](), dict[str, None]()
    for seed, mine in System(own.line.label, Path(), runs).by_seed.items():
        scores = {run.fold: _counted(cell, run, theirs) for run in mine}
        folds = {fold: one for fold, one in scores.items() if one.ids}
        empty |= dict.fromkeys(scores.keys() - folds.keys())
        for name, value in _named(cell, _groups(cell, folds), measure, measures).items():
            found.setdefault(name, {})[seed] = value
    return Figures(found, [(run.fold, run.seed) for run in runs], sorted(empty))


def _named(
    cell: Cell, groups: Iterable[tuple[str, Scores]], measure: Measure, measures: Measures
) -> dict[str, float | None]:
    """The figures of a seed by the name of a fold or speaker, with their mean, or "" for the whole."""
    values = {name: measures.figure(measure, one) for name, one in groups}
    if not values:
        return {}
    return {**values, MEAN: mean(values.values())} if by_name(cell) else {"": mean(values.values())}


def _counted(cell: Cell, run: Run, truth: Mapping[Place, Run] | None) -> Scores:
    """The utterances of a run that count, with their labels."""
    scores = run.scores if truth is None else labelled_by(run, truth[run.fold, run.seed])
    chosen = torch.ones(len(scores.ids), dtype=torch.bool)
    for name, values in cell.only.items():
        chosen &= torch.tensor([one in values for one in getattr(scores, name)], dtype=torch.bool)
    if cell.upto is not None or cell.beyond is not None:
        least, greatest = cell.beyond or 0.0, math.inf if cell.upto is None else cell.upto
        chosen &= (run.seconds > least) & (run.seconds <= greatest)
    return scores if bool(chosen.all()) else scores.take(chosen)


def _groups(cell: Cell, folds: Mapping[str, Scores]) -> Iterator[tuple[str, Scores]]:
    """What a cell has a figure of: folds, speakers, or all utterances together."""
    if not folds:
        return
    if cell.how == "speaker":
        yield from _speakers(Scores.join(list(folds.values())))
    elif pools(cell):
        yield "", Scores.join(list(folds.values()))
    else:
        yield from folds.items()


def _speakers(scores: Scores) -> Iterator[tuple[str, Scores]]:
    """The utterances of each speaker.

    Raises:
        SertkError: If an utterance has none.
    """
    if None in scores.speaker:
        raise SertkError(
            f"an utterance has no speaker ({scores.ids[scores.speaker.index(None)]!r}), and a cell is by speaker. "
            "Leave the cell out, or name the speakers in the manifest and prepare again."
        )
    names = {str(name): number for number, name in enumerate(dict.fromkeys(scores.speaker))}
    own = torch.tensor([names[str(name)] for name in scores.speaker])
    for name, number in names.items():
        yield name, scores.take(own == number)


def dev_figures(own: Outcome, metric: str) -> Figures:
    """The dev scores by which epochs were selected, of the runs that were selected by this metric: means of folds."""
    scores = {place: (about.get("dev") or {}).get(metric) for place, about in own.training.items()}
    return _over_folds({place: score for place, score in scores.items() if score is not None})


def cost_figures(cell: Cell, own: Outcome) -> Figures:
    """What the runs of a line cost: means of the folds."""
    if cell.cost == "scoring":
        took = {(run.fold, run.seed): run.metrics.get("took") for run in own.parts[cell.part].runs}
        return _over_folds({place: one["seconds"] for place, one in took.items() if one})
    word = "seconds" if cell.cost == "training" else str(cell.cost)
    known = {place: one for place, one in own.costs.items() if not (word == "seconds" and one.get("resumed"))}
    return _over_folds({place: one[word] for place, one in known.items() if word in one})


def epoch_figures(cell: Cell, own: Outcome) -> dict[int, tuple[Figures, float | None]]:
    """The figures of a curve over epochs, with the mean dev score that selects, by epoch."""
    found: dict[int, tuple[Figures, float | None]] = {}
    for epoch in sorted({line["epoch"] for log in own.curves.values() for line in log}):
        lines = {place: line for place, log in own.curves.items() for line in log if line["epoch"] == epoch}
        values = {place: line["curves"][cell.part][str(cell.epochs)] for place, line in lines.items()}
        found[epoch] = _over_folds(values), mean([line["dev"] for line in lines.values()])
    return found


def _over_folds(values: Mapping[Place, float]) -> Figures:
    seeds: dict[str, list[float]] = {}
    for (_, seed), value in values.items():
        seeds.setdefault(seed, []).append(value)
    whole = {seed: mean(own) for seed, own in seeds.items()}
    return Figures({"": whole} if whole else {}, list(values))

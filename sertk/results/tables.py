"""Markdown tables of scored runs and systems."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sertk.plugins import Plugins
from sertk.results.runs import Run
from sertk.results.statistics import spread, summarize, total_confusion
from sertk.results.systems import Line, System

SHOWN = {"wa": "WA", "ua": "UA", "precision": "precision", "recall": "recall", "f1": "F1"}


def runs_table(runs: Sequence[Run], plugins: Plugins) -> list[str]:
    """A row for each run, then the mean of the folds and the pooled folds; in percent.

    Args:
        runs: Of one system.
        plugins: Where the metrics are registered.

    Returns:
        The lines of the table.
    """
    lines = _head("fold", "seed", "n", *SHOWN.values())
    for run in runs:
        values = [f"{100 * run.metrics['metrics'][name]:.2f}" for name in SHOWN]
        lines.append(_row(run.fold, run.seed, run.metrics["utterances"], *values))
    both = [summarize(runs, name, plugins) for name in SHOWN]
    folds, seeds = len({run.fold for run in runs}), _plural(len({run.seed for run in runs}), "seed")
    lines.append(_row(f"mean of {_plural(folds, 'fold')}", seeds, "", *(spread(one.folds) for one in both)))
    lines.append(_row("pooled", seeds, "", *(spread(one.pooled) for one in both)))
    return lines


def confusion_table(runs: Sequence[Run]) -> list[str]:
    """The confusion counts of all runs together: rows are the labels, columns the decisions."""
    classes = runs[0].metrics["classes"]
    counts = total_confusion(runs).tolist()
    return [*_head("", *classes), *(_row(name, *row) for name, row in zip(classes, counts, strict=True))]


def systems_table(systems: Sequence[System], truth: System, limit: float) -> list[str]:
    """A row for each system: WA, UA, UA by duration, and the agreement with one of them.

    Args:
        systems: Scored on the same utterances.
        truth: The system whose decisions the others are compared with.
        limit: Up to here an utterance is short, s.

    Returns:
        The lines of the table.
    """
    head = ("system", "WA", "UA", f"UA up to {limit:g} s (n)", "UA beyond (n)", f"agreement with {truth.name}")
    return [*_head(*head), *(_system_row(system, truth, limit) for system in systems)]


def _system_row(system: System, truth: System, limit: float) -> str:
    return _row(
        system.name,
        spread(system.values("wa")),
        spread(system.values("ua")),
        _ua_where(system, lambda line: line.seconds <= limit),
        _ua_where(system, lambda line: line.seconds > limit),
        "/" if system is truth else spread(system.agreement(truth)),
    )


def _ua_where(system: System, where: Callable[[Line], bool]) -> str:
    """UA of some utterances, and their number."""
    size = sum(map(where, next(iter(system.seeds.values())).values()))  # each seed has the same utterances
    return f"{spread(system.values('ua', where)) if size else '–'} ({size})"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|" + "---|" * len(cells)]


def _row(*cells: object) -> str:
    return "".join("| " if cell == "" else f"| {cell} " for cell in cells) + "|"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"

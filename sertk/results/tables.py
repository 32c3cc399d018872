"""Tables of scored runs and systems in Markdown, and any table in Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from torch import Tensor

from sertk.core import Scores
from sertk.results.measures import Measures
from sertk.results.runs import Run
from sertk.results.statistics import summarize, total_confusion
from sertk.results.systems import System

LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: rf"\text{name}{{}}" for sign, name in {"\\": "backslash", "~": "asciitilde", "^": "asciicircum"}.items()},
    **{sign: f"${sign}$" for sign in "+<>|"},
    **{"±": r"$\pm$", "–": "--", "†": r"$\dagger$", "×": r"$\times$", "−": "$-$"},
}
"""Characters that have a meaning in LaTeX, or that its fonts may lack."""


def runs_table(system: System, measures: Measures) -> list[str]:
    """A row for each run, then the mean of the folds and the pooled folds; a column for each metric.

    Args:
        system: Whose runs.
        measures: The metrics.

    Returns:
        The lines of the table.
    """
    runs, summaries = system.runs, {one.name: summarize(system, one, measures) for one in measures.all}
    every = [(one, summaries[one.name]) for one in measures.shown]
    lines = _head("fold", "seed", "n", *(one.title for one, _ in every))
    for number, run in enumerate(runs):
        values = [one.text(summary.runs[number]) for one, summary in every]
        lines.append(_row(run.fold, run.seed, run.metrics["utterances"], *values))
    folds, seeds = len({run.fold for run in runs}), _plural(len({run.seed for run in runs}), "seed")
    means = [one.text(*summary.folds) for one, summary in every]
    lines.append(_row(f"mean of {_plural(folds, 'fold')}", seeds, "", *means))
    lines.append(_row("pooled", seeds, "", *(one.text(*summary.pooled) for one, summary in every)))
    return lines


def confusion_table(runs: Sequence[Run]) -> list[str]:
    """The confusion counts of all runs together: rows are the labels, columns the decisions."""
    classes = runs[0].metrics["classes"]
    counts = total_confusion(runs).tolist()
    return [*_head("", *classes), *(_row(name, *row) for name, row in zip(classes, counts, strict=True))]


def never_decided(runs: Sequence[Run]) -> list[str]:
    """A sentence on the classes that no run ever decided for, though there are utterances of them."""
    counts = total_confusion(runs)
    missing = (counts.sum(1) > 0) & (counts.sum(0) == 0)
    names = [name for name, absent in zip(runs[0].metrics["classes"], missing.tolist(), strict=True) if absent]
    return [f"Never decided: {', '.join(names)}."] if names else []


def systems_table(systems: Sequence[System], truth: System, limit: float, measures: Measures) -> list[str]:
    """A row for each system: WA, UA, UA by duration, the agreement with one of them, and the other metrics.

    Args:
        systems: Scored on the same utterances.
        truth: The system whose decisions the others are compared with.
        limit: Up to here an utterance is short, s.
        measures: The metrics.

    Returns:
        The lines of the table.
    """
    ua = measures["ua"]
    head = ("system", "WA", "UA", f"UA up to {limit:g} s (n)", "UA beyond (n)", f"agreement with {truth.name}")
    values = [{one.name: one.text(*system.values(one, measures)) for one in measures.all} for system in systems]
    others = [one for one in measures.shown if one.name not in ("wa", "ua")]
    lines = _head(*head, *(one.title for one in others))
    for system, own in zip(systems, values, strict=True):
        short = _ua_where(system, measures, lambda scores: scores.seconds <= limit)
        beyond = _ua_where(system, measures, lambda scores: scores.seconds > limit)
        agreement = "/" if system is truth else ua.text(*system.agreement(truth, ua, measures))
        cells = [own["wa"], own["ua"], short, beyond, agreement, *(own[one.name] for one in others)]
        lines.append(_row(system.name, *cells))
    return lines


def _ua_where(system: System, measures: Measures, where: Callable[[Scores], Tensor]) -> str:
    """UA of some utterances, and their number."""
    size = int(where(next(iter(system.seeds.values()))).sum())  # each seed has the same utterances
    return f"{measures['ua'].text(*system.values(measures['ua'], measures, where))} ({size})"


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table of any texts in Markdown."""
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in (head, *body)]
    return [*_head(*escaped[0]), *(_row(*row) for row in escaped[1:])]


def latex(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table of any texts in LaTeX; it needs the package booktabs."""
    rows = [" & ".join(map(escape, row)) + r" \\" for row in (head, *body)]
    columns = "l" + "r" * (len(head) - 1)
    top, bottom = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"], [r"\bottomrule", r"\end{tabular}"]
    return [*top, rows[0], r"\midrule", *rows[1:], *bottom]


def escape(text: str) -> str:
    """A text for LaTeX: special characters are escaped, signs are set as mathematics."""
    plain = "".join(LATEX.get(sign, sign) for sign in text)
    plain = re.sub(r"^-(?=\d)", "$-$", plain)
    return f"{{}}{plain}" if plain[:1] in ("[", "*") else plain  # after a line's end they would be its options


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|" + "---|" * len(cells)]


def _row(*cells: object) -> str:
    return "".join("| " if cell == "" else f"| {cell} " for cell in cells) + "|"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"

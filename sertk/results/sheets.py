"""A sweep over one corpus as columns and plots: every cell of every line, beside what the paper printed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from sertk.plugins import Plugins
from sertk.results.cells import (
    MEAN,
    Figures,
    by_name,
    chance_figures,
    cost_figures,
    dev_figures,
    epoch_figures,
    metric_figures,
    pools,
)
from sertk.results.columns import Column, Cost, Height, Kind, Value
from sertk.results.curves import Plot, Point
from sertk.results.measures import Measure, Measures
from sertk.results.statistics import mean
from sertk.results.sweeps import Line, Outcome, outcomes
from sertk.results.systems import System
from sertk.results.uncertainty import against
from sertk.settings.schema import Component
from sertk.settings.sweep import Cell, Sweep, swept_text

NOTHING = Figures({}, [])
UNITS: Mapping[str, Literal["s", "GB"]] = {"training": "s", "memory": "GB", "scoring": "s"}


class Sheet:
    """A sweep over one corpus.

    Args:
        corpus: Its title, put before every heading; "" if there is only one corpus.
        sweep: The sweep.
        lines: Its lines.
        plugins: Where the metrics are registered.
        measures: Says so if one fails.

    Raises:
        SertkError: On runs that do not go together.

    Attributes:
        outcomes: What there is of each line.
        notes: What the figures leave out, and how they were made; it is complete once they are.
    """

    def __init__(self, corpus: str, sweep: Sweep, lines: Sequence[Line], plugins: Plugins, measures: Measures) -> None:
        self.corpus, self.sweep = corpus, sweep
        self._plugins, self._measures = plugins, measures
        self.outcomes = outcomes(lines, sweep.parts)
        self._lines = {(one.line.row, swept_text(one.line.swept)): one for one in self.outcomes}
        self.notes: list[str] = []

    def title(self, *words: str) -> str:
        """A heading: the corpus, if there are several, and the subject."""
        return " ".join(filter(None, [self.corpus, *words]))

    def scored(self, label: str) -> list[System]:
        """The scored parts of the line of a row."""
        return [own for one in self.outcomes if one.line.label == label for own in one.parts.values() if own.runs]

    def columns(self) -> list[Column]:
        """The columns of each cell that is no curve; the dev score stands beside the metric that it is of.

        Raises:
            UsageError: On a metric that does not exist.
        """
        shown = {one.metric.name for one in self.sweep.cells.values() if one == Cell(metric=one.metric, part="dev")}
        left, found = [name for name in self._selected() if name not in shown], list[Column]()
        for title, cell in self.sweep.cells.items():
            if cell.curve is not None or cell.epochs is not None:
                continue
            found += self._cell(title, cell)
            if (cell.part, cell.cost, cell.agreement) == ("test", None, None) and cell.metric.name in left:
                left.remove(cell.metric.name)
                found.append(self._dev(cell.metric.name))
        return found + [self._dev(name) for name in left]

    def differences(self) -> list[str]:
        """The table that tests the rows against the baseline; nothing without one, or before it is scored (a note)."""
        base = self.sweep.baseline
        if base is None:
            return []
        tests = {one.line.row: one for one in self.outcomes if one.line.folder}
        whole = {
            row: one.parts["test"] for row, one in tests.items() if one.line.runs and one.count == str(len(one.done))
        }
        if base not in whole:
            why = f"runs of {base}, the baseline, are missing"
            why = why if base in tests else f"{base}, the baseline, is not among the rows of this table"
            self.notes.append(f"no row is tested: {why}")
            return []
        lacking = [row for row in tests if row not in whole]
        self.notes += [f"not tested against {base}, as runs are missing: {', '.join(lacking)}"] if lacking else []
        others = [system for row, system in whole.items() if row != base]
        where = ["", f"{self.corpus}:"] if self.corpus else []
        return [*where, "", *against(whole[base], others, Measure(self._plugins, "ua"))] if others else []

    def plots(self) -> list[Plot]:
        """The plots: of each cell that is a curve.

        Raises:
            UsageError: On a metric that does not exist.
        """
        cells = self.sweep.cells.items()
        over = [self._plot(title, cell) for title, cell in cells if cell.curve is not None]
        return over + [self._epochs(title, cell) for title, cell in cells if cell.epochs is not None]

    def _selected(self) -> list[str]:
        """The metrics by which epochs were selected."""
        devs = (about.get("dev") or {} for one in self.outcomes for about in one.training.values())
        return list(dict.fromkeys(name for dev in devs for name, score in dev.items() if score is not None))

    def _dev(self, name: str) -> Column:
        """The dev scores that epochs were selected by."""
        unit, figures = Measure(self._plugins, name), {one.line.label: dev_figures(one, name) for one in self.outcomes}
        values = {one.line.label: _value(one, figures[one.line.label], "") for one in self.outcomes if one.line.folder}
        return Column(self.title("dev", unit.title), "dev", unit, values)

    def _cell(self, title: str, cell: Cell) -> list[Column]:
        """The columns of a cell: one, or one a fold or speaker and their mean."""
        unit: Measure | Cost = Measure(self._plugins, cell.metric)
        if cell.cost:
            unit = Cost(cell.cost, UNITS.get(cell.cost, ""))
            figures = {one.line.label: cost_figures(cell, one) for one in self.outcomes}
            silent = sum(len({*one.done} - {*figures[one.line.label].places}) for one in self.outcomes)
            self.notes += (
                [f"{title}: {silent} runs do not say it: they went on after a stop, or an older sertk made them"]
                if silent
                else []
            )
        else:
            figures = {one.line.label: self._figures(title, cell, one) for one in self.outcomes}
        if cell.cost == "scoring":
            self._note_scoring(title, cell)
        names = [""]
        if by_name(cell):
            shown = [*(own.values for own in figures.values()), *(self._printed(title, one) for one in self.outcomes)]
            names = [*sorted({name for one in shown for name in one} - {MEAN}, key=_natural), MEAN]
        return [self._column(title, cell, unit, figures, name) for name in names]

    def _column(
        self, title: str, cell: Cell, unit: Measure | Cost, figures: Mapping[str, Figures], name: str
    ) -> Column:
        fold = name if cell.how == "fold" and name != MEAN else None
        values = {
            one.line.label: replace(
                _value(one, figures[one.line.label], name, fold),
                printed=self._printed(title, one).get(name),
                same=cell.agreement == one.line.row,
            )
            for one in self.outcomes
        }
        kind: Kind = "cost" if cell.cost else "name" if name not in ("", MEAN) else "whole"
        return Column(self.title(title, name), kind, unit, values)

    def _printed(self, title: str, own: Outcome) -> Mapping[str, float]:
        """The paper's printed values of a cell, by the name of a fold or speaker ("" for the whole)."""
        row = self.sweep.rows[own.line.row]
        found = (row.quoted or row.paper).get(title, {})
        return {str(name): value for name, value in found.items()} if isinstance(found, Mapping) else {"": found}

    def _figures(self, title: str, cell: Cell, own: Outcome) -> Figures:
        truth = self._lines.get((str(cell.agreement), swept_text(own.line.swept)))
        if cell.agreement is not None and (truth is own or truth is None):
            if truth is None and own.line.folder:
                self.notes.append(f"{title}: {cell.agreement} is not among the rows, so {own.line.label} has no figure")
            return NOTHING
        measure = Measure(self._plugins, self.sweep.rows[own.line.row].metric(cell))
        if self.sweep.rows[own.line.row].chance and cell.agreement is not None:
            return NOTHING
        if self.sweep.rows[own.line.row].chance:
            scored = next((one for one in self.outcomes if one.parts[cell.part].runs), None)
            return chance_figures(cell, scored, measure, self._measures)
        found = metric_figures(cell, own, truth, measure, self._measures)
        if found.empty and not pools(cell) and cell.how != "speaker":
            which = f"folds {', '.join(found.empty)}"
            self.notes.append(f"{title}: {own.line.label} has no utterance that counts in {which}; they are left out")
        return found

    def _note_scoring(self, title: str, cell: Cell) -> None:
        """Says how the seconds of scoring were taken."""
        runs = {one.line.label: one.parts[cell.part].runs for one in self.outcomes}
        took = {label: [run.metrics["took"] for run in own if "took" in run.metrics] for label, own in runs.items()}
        ways: dict[str, list[str]] = {}
        for label, own in took.items():
            for way in sorted({"from the {from}, batch {batch}".format_map(one) for one in own}):
                ways.setdefault(way, []).append(label)
        for way, labels in ways.items():
            self.notes.append(f"{title}: it was taken {way}{'' if len(ways) == 1 else ': ' + '; '.join(labels)}")

    def _plot(self, title: str, cell: Cell) -> Plot:
        """The plot of a cell: a line a row, and one for each value of settings that do not move with the curve's."""
        column, setting = self._cell(title, cell)[-1], str(cell.curve)
        moves = self.sweep.zip if setting in self.sweep.zip else (setting,)
        dev = self._judge(cell, column)
        lines: dict[str, list[Point]] = {}
        for own in (one.line for one in self.outcomes if one.line.folder):
            others = {name: value for name, value in own.swept.items() if name not in moves}
            score = mean(dev.values[own.label].figures) if dev else None
            lines.setdefault(own._replace(swept=others).label, []).append(
                Point(own.swept[setting], column.values[own.label], score)
            )
        axis = f"{column.unit.title}{'' if cell.cost else f' of {cell.part}'}{column.unit.suffix}"
        return Plot(column, setting, axis, lines, dev.unit.better if dev else "higher")

    def _epochs(self, title: str, cell: Cell) -> Plot:
        """The plot of a cell over the epochs of training: a line for each line of the table."""
        unit = Measure(self._plugins, Component("wa")) if cell.epochs == "wa" else Height()
        lines = {
            one.line.label: [
                Point(epoch, _value(one, figures, ""), dev)
                for epoch, (figures, dev) in epoch_figures(cell, one).items()
            ]
            for one in self.outcomes
        }
        without = sum(len(one.training) - len(one.curves) for one in self.outcomes)
        if without:
            self.notes.append(
                f"{title}: {without} runs did not measure train and dev after each epoch. To have it, train them again "
                "with train.curves: true and --force"
            )
        names = self._selected()
        better = Measure(self._plugins, names[0]).better if len(names) == 1 else "higher"
        column = Column(self.title(title), "whole", unit, {})
        axis = f"{unit.title} of {cell.part}{unit.suffix}"
        return Plot(column, "epoch", axis, {label: own for label, own in lines.items() if own}, better)

    def _judge(self, cell: Cell, column: Column) -> Column | None:
        """The dev scores that say which point is best; None where the runs have none, or of several metrics."""
        refitted = any(about.get("refit") for one in self.outcomes for about in one.training.values())
        if cell.part == "dev" and cell.cost is None and not refitted:  # a refit has learned dev
            return column
        names = self._selected()
        return self._dev(names[0]) if len(names) == 1 else None


def _value(own: Outcome, figures: Figures, name: str, fold: str | None = None) -> Value:
    """A figure of a line; of a fold, only its runs count."""
    asked, places = ([one for one in runs if fold in (None, one[0])] for runs in (own.line.runs, figures.places))
    seeds = figures.values.get(name, {})
    quoted = own.line.folder is None and not seeds
    return Value(seeds, len(places), len(asked), quoted=quoted, elsewhere=own.line.elsewhere)


def _natural(name: str) -> list[str | int]:
    """A key that sorts the numbers in names by their size."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"(\d+)", name))]

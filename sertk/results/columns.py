"""Columns of a sweep's table: values with their unit, as text for readers and as numbers for programs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sertk.results.measures import Measure
from sertk.results.statistics import mean

PARTIAL = "†"
"""Marks a value of fewer runs than were asked for."""
MISSING = "–"


class Cost:
    """The unit of what a run costs; it is shown without a deviation.

    Args:
        title: As it is shown.
        unit: s; GB, of which a figure in bytes is shown; "" for a count.
    """

    scale, better = (1, 1), "lower"

    def __init__(self, title: str, unit: Literal["", "s", "GB"] = "") -> None:
        self.title, self._unit = title, unit

    @property
    def suffix(self) -> str:
        """Its unit, as it is written after the title of an axis."""
        return f" ({self._unit})" if self._unit else ""

    def text(self, *values: float | None) -> str:
        """The mean of several seeds."""
        value = mean(values)
        if value is None:
            return MISSING
        if self._unit:
            return f"{value:,.1f}" if self._unit == "s" else f"{value / 1e9:,.2f}"
        return f"{value / 1e6:,.2f} M" if value >= 1e6 else f"{value:,.0f}"


class Height(Cost):
    """The unit of the objective on a curve."""

    scale = (1, 4)

    def __init__(self) -> None:
        super().__init__("objective")

    def text(self, *values: float | None) -> str:
        """The mean of several seeds."""
        value = mean(values)
        return MISSING if value is None else f"{value:.4f}"


@dataclass(frozen=True)
class Value:
    """What stands in a column for a row.

    Attributes:
        seeds: The figure of each seed; None where the metric failed.
        runs: That the figures are of.
        asked: Runs that were asked for.
        printed: What the paper printed, or the figure itself of a quoted row.
        quoted: Whether the row is quoted.
        elsewhere: What is not the paper's.
        same: Whether the row is the one that the others are compared with.
    """

    seeds: Mapping[str, float | None] = field(default_factory=dict)
    runs: int = 0
    asked: int = 0
    printed: float | None = None
    quoted: bool = False
    elsewhere: str = ""
    same: bool = False

    @property
    def figures(self) -> list[float | None]:
        """The figures of all seeds."""
        return list(self.seeds.values())

    @property
    def partial(self) -> bool:
        """Whether there is a figure, and it is of fewer runs than were asked for."""
        return bool(self.seeds) and self.runs < self.asked


Kind = Literal["whole", "name", "dev", "cost"]
"""What a column is of: a figure has a maximum and is compared with the paper; so is one of a fold or speaker ("name");
of a dev score and a cost there is neither."""


@dataclass(frozen=True)
class Column:
    """A column, with the columns of its maximum and of the paper's value.

    Attributes:
        title: Its heading.
        kind: See `Kind`.
        unit: Of its figures.
        values: By the label of the row.
    """

    title: str
    kind: Kind
    unit: Measure | Cost
    values: Mapping[str, Value]

    @property
    def best(self) -> str:
        """What the best of the seeds is called."""
        return "max" if self.unit.better == "higher" else "min"

    def texts(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Heading and texts by row: the figures, then what else there is of them."""
        yield self.title, {label: self.text(value) for label, value in self.values.items()}
        if self.kind == "whole" and any(len(value.seeds) > 1 for value in self.values.values()):
            yield f"{self.title} {self.best}", {label: self._extreme(value) for label, value in self.values.items()}
        printed = {label: one for label, one in self.values.items() if one.printed is not None and not one.quoted}
        if printed:
            yield f"{self.title} paper", {label: self._printed_text(one) for label, one in printed.items()}
        if printed and self.kind in ("whole", "name"):
            yield f"{self.title} difference", {label: self._difference_text(one) for label, one in printed.items()}

    def text(self, value: Value) -> str:
        """The mean over seeds ± the deviation, or the text that is shown instead."""
        if value.quoted:
            return self._printed_text(value)
        if value.same:
            return "/"
        return f"{self.unit.text(*value.figures)}{f' {PARTIAL}' * value.partial}"

    def _printed_text(self, value: Value) -> str:
        if value.printed is None:
            return ""
        return self.unit.text(value.printed) if self.kind == "cost" else str(value.printed)

    def _extreme(self, value: Value) -> str:
        found = self.extreme(value)
        return "" if found is None or len(value.seeds) < 2 else self.unit.text(found)

    def _difference_text(self, value: Value) -> str:
        found = self.difference(value)
        return value.elsewhere or (MISSING if found is None else f"{found:+.{self.unit.scale[1]}f}")

    def extreme(self, value: Value) -> float | None:
        """The best of the seeds."""
        known = [one for one in value.figures if one is not None]
        return (max if self.unit.better == "higher" else min)(known, default=None)

    def difference(self, value: Value) -> float | None:
        """Ours minus the paper's, as both are shown; None where they cannot be compared."""
        ours = self.shown(mean(value.figures))
        comparable = self.kind in ("whole", "name") and not (value.elsewhere or value.quoted or value.same)
        return ours - value.printed if comparable and ours is not None and value.printed is not None else None

    def shown(self, value: float | None) -> float | None:
        """A figure in the unit that it is shown in."""
        return None if value is None else value * self.unit.scale[0]

    def deviation(self, value: Value) -> float | None:
        """The population's deviation over seeds, in the unit that it is shown in."""
        known = [one for one in value.figures if one is not None]
        return self.shown(statistics.pstdev(known)) if 1 < len(known) == len(value.seeds) else None

    def numbers(self, label: str) -> dict[str, float | None]:
        """Headings and numbers of a row, each in a column of its own, for programs."""
        value = self.values.get(label, Value())
        found = {
            "mean": value.printed if value.quoted else self.shown(mean(value.figures)),
            "sd": self.deviation(value),
            self.best: self.shown(self.extreme(value)),
            "n": value.runs or None,
            "paper": None if value.quoted else value.printed,
            "difference": self.difference(value),
        }
        without = {"dev": (self.best, "paper", "difference"), "cost": ("sd", self.best, "difference")}
        kept = [word for word in found if word not in without.get(self.kind, ())]
        return {f"{self.title} {word}": found[word] for word in kept}

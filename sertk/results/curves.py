"""Curves of a sweep: a figure over a swept setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sertk.results.columns import Column, Value
from sertk.results.statistics import mean


class Point(NamedTuple):
    """A point of a curve.

    Attributes:
        x: Value of the setting.
        value: The figure.
        dev: The dev score; None where it is not known.
    """

    x: object
    value: Value
    dev: float | None


@dataclass(frozen=True)
class Plot:
    """The curves of a cell.

    Attributes:
        column: Its figures, by the label of the line.
        setting: The x axis.
        axis: The title of the y axis.
        lines: The points of each curve, by its label.
        better: Which dev scores are better.
    """

    column: Column
    setting: str
    axis: str
    lines: Mapping[str, Sequence[Point]]
    better: str

    def best(self, points: Sequence[Point]) -> Point | None:
        """The point of the best dev score, the first of equal ones; None where no dev score is known."""
        known = [point for point in points if point.dev is not None]
        choose = max if self.better == "higher" else min
        return choose(known, key=lambda point: point.dev or 0.0, default=None)

    def texts(self) -> Iterator[str]:
        """A sentence a curve: its best point, as dev says it."""
        for label, points in self.lines.items():
            best = self.best(points)
            found = "no dev score says which is best"
            if best is not None:
                found = f"best on dev: {self.setting} {best.x}, {self.column.text(best.value)}"
            if self.setting == "epoch":
                found += f"; last: {points[-1].x}, {self.column.text(points[-1].value)}"
            printed = points[0].value.printed
            yield f"{label}: {found}{'' if printed is None else f' (paper {printed})'}"
        for label, value in self.column.values.items():
            if value.quoted and value.printed is not None:
                yield f"{label}: {value.printed} (quoted)"
            elif value.seeds and not value.asked:  # chance, which has no runs
                yield f"{label}: {self.column.text(value)}"

    def records(self) -> list[dict[str, object]]:
        """The points as rows of a CSV file."""
        seeds = dict.fromkeys(seed for points in self.lines.values() for one in points for seed in one.value.seeds)
        found: list[dict[str, object]] = []
        for label, points in self.lines.items():
            best = self.best(points)
            for point in points:
                value, column = point.value, self.column
                found.append(
                    {
                        "row": label,
                        self.setting: point.x,
                        "mean": column.shown(mean(value.figures)),
                        "sd": column.deviation(value),
                        "n": value.runs,
                        "best": int(point is best),
                        **{f"seed {seed}": column.shown(value.seeds.get(seed)) for seed in seeds},
                    }
                )
        return found

    @property
    def categories(self) -> list[str]:
        """The values of the setting that are drawn at 0, 1, ...; none where all of them are numbers."""
        every = [point.x for points in self.lines.values() for point in points]
        if all(isinstance(x, int | float) and not isinstance(x, bool) for x in every):
            return []
        return list(dict.fromkeys(map(str, every)))

    @property
    def empty(self) -> bool:
        """Whether no point has a figure."""
        return not any(map(self.drawn, self.lines.values()))

    def drawn(self, points: Sequence[Point]) -> list[tuple[float, float, float]]:
        """(place on the x axis, mean, deviation) of the points of a curve that have a figure, sorted."""
        names = self.categories
        places = [names.index(str(one.x)) if names else float(str(one.x)) for one in points]
        heights = [(self.column.shown(mean(one.value.figures)), self.column.deviation(one.value)) for one in points]
        known = zip(places, heights, strict=True)
        return sorted((x, height, spread or 0.0) for x, (height, spread) in known if height is not None)

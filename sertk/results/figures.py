"""Drawings of scored runs."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sertk.core.files import writing
from sertk.results.calibration import BINS, Reliability
from sertk.results.curves import Plot
from sertk.results.drawing import INK, draw
from sertk.results.groups import Group
from sertk.results.intervals import Estimate
from sertk.results.logs import Points
from sertk.results.measures import Measure
from sertk.results.planes import Plane
from sertk.results.robustness import Cell, Row
from sertk.results.runs import Run
from sertk.results.statistics import total_confusion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 5.2
"""Of a figure of a page, inches: two stand beside each other on a screen, and one can be read on a telephone."""
COLORS = ("#3b82c4", "#d9772b", "#3c9d6b", "#a567c9", "#cf4c57", "#8f8a1e", "#8a8f98")
"""Of curves, groups and systems: told apart on light and on dark ground."""
GRID = 0.25
NAMED = 40
"""So many speakers have their names beside their dots."""
MARKS = "os^Dv<>Pp*X"
"""Of classes: a colour alone is not told apart by everybody."""
CROWD = 300
"""More points of a part are drawn as an image: a page has some thousands in all."""
LEGEND = 56
"""Letters in a row of a legend below a figure of `WIDTH`."""
RASTER = 1000
"""More dots are drawn as an image."""
FARTHEST = 3
"""So many speakers are named whom two systems differ on."""


def percent_of_labels(counts: Tensor) -> Tensor:
    """(C, C) counts, rows the labels -> percent of each label; 0 for a label without an utterance."""
    return 100 * counts / counts.sum(1, keepdim=True).clamp(min=1)


def draw_confusion(stem: Path, runs: Sequence[Run]) -> None:
    """Draws the confusion matrix of all runs together, in percent of each label.

    Args:
        stem: The path of the files without their suffix.
        runs: Of one system.

    Raises:
        SertkError: If a file cannot be written.
    """
    classes, percent = runs[0].metrics["classes"], percent_of_labels(total_confusion(runs)).numpy()

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(True)
        axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
        axes.set_yticks(range(len(classes)), classes)
        axes.set(xlabel="decision", ylabel="label", title="percent of each label")
        for row, column in torch.cartesian_prod(torch.arange(len(classes)), torch.arange(len(classes))).tolist():
            value = percent[row, column]
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 50 else INK)

    draw(stem, (1.5 + 0.7 * len(classes), 1.2 + 0.7 * len(classes)), paint)


def draw_groups(stem: Path, groups: Sequence[Group], axis: str) -> str:
    """Draws the percent of each group as a dot in its interval; a hollow dot has no interval.

    Args:
        stem: The path of the files without their suffix.
        groups: From above to below.
        axis: The title of the x axis.

    Returns:
        The SVG.

    Raises:
        SertkError: If a file cannot be written.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        _dots(axes, range(len(groups)), [one.estimate for one in groups], COLORS[0])
        axes.set_yticks(range(len(groups)), [f"{one.name} ({one.size:,})" for one in groups])
        axes.set(xlabel=axis, ylim=(len(groups) - 0.4, -0.6), xlim=(-2, 102))
        axes.grid(axis="x", alpha=GRID)

    return draw(stem, (WIDTH, 1.0 + 0.32 * len(groups)), paint)


def _dots(axes: Axes, rows: Sequence[float], found: Sequence[Estimate], color: str, label: str = "") -> None:
    """Draws the percent of each as a dot in its interval; a hollow dot has none."""
    every = [
        (row, 100 * one.value, 100 * one.low, 100 * one.high, one.why) for row, one in zip(rows, found, strict=True)
    ]
    for row, _, low, high, why in every:
        axes.plot([low, high], [row, row], color=color, linewidth=2.2, solid_capstyle="round") if not why else None
    for hollow in (False, True):
        dots = [(value, row) for row, value, *_, why in every if bool(why) is hollow]
        values, places = zip(*dots, strict=True) if dots else ((), ())
        named = label if dots and (not hollow or all(why for *_, why in every)) else ""
        axes.plot(values, places, "o", color=color, markersize=7, fillstyle="none" if hollow else "full", label=named)


def draw_differences(stem: Path, found: Mapping[str, Estimate], axis: str) -> str:
    """Draws the difference of each system to the baseline, in points, as a dot in its interval, and a line at 0.

    Args:
        stem: The path of the files without their suffix.
        found: By system, from above to below.
        axis: The title of the x axis.

    Returns:
        The SVG.

    Raises:
        SertkError: If a file cannot be written.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(0, color="0.5", linestyle="--", linewidth=1.2)
        _dots(axes, range(len(found)), list(found.values()), COLORS[0])
        axes.set_yticks(range(len(found)), list(map(_broken, found)))
        axes.set(xlabel=axis, ylim=(len(found) - 0.4, -0.6))
        axes.margins(x=0.1)
        axes.grid(axis="x", alpha=GRID)

    return draw(stem, (WIDTH, 1.0 + 0.4 * len(found)), paint)


def draw_beside(stem: Path, systems: Mapping[str, Sequence[Group]], axis: str) -> str:
    """Draws the percent of each group for some systems beside each other, each as a dot in its interval.

    Args:
        stem: The path of the files without their suffix.
        systems: The same groups of each system.
        axis: The title of the x axis.

    Returns:
        The SVG.

    Raises:
        SertkError: If a file cannot be written.
    """
    groups, step = next(iter(systems.values())), 0.7 / len(systems)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for number, (name, own) in enumerate(systems.items()):
            rows = [row + step * (number - (len(systems) - 1) / 2) for row in range(len(own))]
            _dots(axes, rows, [one.estimate for one in own], COLORS[number], _broken(name))
        axes.set_yticks(range(len(groups)), [f"{one.name} ({one.size:,})" for one in groups])
        axes.set(xlabel=axis, ylim=(len(groups) - 0.4, -0.6), xlim=(-2, 102))
        axes.grid(axis="x", alpha=GRID)
        figure.legend(loc="outside upper left", ncols=2)

    return draw(stem, (WIDTH, 1.2 + 0.3 * len(systems) + 0.22 * len(groups) * len(systems)), paint)


def draw_pair(stem: Path, first: Mapping[str, float], second: Mapping[str, float], axes_of: tuple[str, str]) -> str:
    """Draws each speaker's percent by two systems; on the diagonal they are alike. The farthest from it are named.

    Args:
        stem: The path of the files without their suffix.
        first: By speaker, 0 to 1; on the x axis.
        second: Of the same speakers; on the y axis.
        axes_of: The titles of the axes.

    Returns:
        The SVG.

    Raises:
        SertkError: If a file cannot be written.
    """
    x, y = ([100 * own[name] for name in first] for own in (first, second))
    far = sorted((-abs(after - before), name, before, after) for name, before, after in zip(first, x, y, strict=True))
    ends = (max(min(*x, *y) - 4, -4), min(max(*x, *y) + 4, 104))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(ends, ends, linestyle="--", color="0.5", linewidth=1.2)
        axes.plot(x, y, "o", color=COLORS[0], markersize=6, alpha=0.6, rasterized=len(x) > RASTER)
        for distance, name, before, after in far[:FARTHEST]:
            side = "right" if before > sum(ends) / 2 else "left"
            shift = (-6 if side == "right" else 6, 0)
            axes.annotate(
                name, (before, after), shift, textcoords="offset points", ha=side, va="center"
            ) if distance else None
        axes.set(xlim=ends, ylim=ends, aspect="equal", xlabel=_broken(axes_of[0], 45), ylabel=_broken(axes_of[1], 45))
        axes.grid(alpha=GRID)

    return draw(stem, (WIDTH, WIDTH), paint)


def _broken(name: str, width: int = 28) -> str:
    """A long name in lines."""
    return "\n".join(textwrap.wrap(name, width, break_on_hyphens=False))


def draw_epochs(stem: Path, curves: Mapping[str, Sequence[Points]], axis: str) -> str:
    """Draws a value by epoch: each run as a thin line, and the mean of the runs that have the epoch.

    Args:
        stem: The path of the files without their suffix.
        curves: The runs' points by the label of the curve.
        axis: The title of the y axis.

    Returns:
        The SVG.

    Raises:
        SertkError: If a file cannot be written.
    """

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        for label, runs in curves.items():
            color = COLORS[label == "dev"]  # the same in every figure
            for points in runs:
                axes.plot(*zip(*points, strict=True), color=color, alpha=0.35, linewidth=0.9) if points else None
            by_epoch: dict[int, list[float]] = {}
            for epoch, value in (point for points in runs for point in points):
                by_epoch.setdefault(epoch, []).append(value)
            means = [(epoch, statistics.fmean(by_epoch[epoch])) for epoch in sorted(by_epoch)]
            axes.plot(*zip(*means, strict=True), color=color, linewidth=2.4, marker="o"[: len(means) == 1], label=label)
        axes.set(xlabel="epoch", ylabel=axis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        axes.grid(alpha=GRID)

    return draw(stem, (WIDTH, 3.5), paint)


def draw_speakers(stem: Path, figures: Mapping[str, float], gender: Mapping[str, str | None], axis: str) -> str:
    """Draws the percent of each speaker as a dot, sorted, with the mean of each gender, or of all.

    Args:
        stem: The path of the files without their suffix.
        figures: By speaker, 0 to 1.
        gender: By speaker.
        axis: The title of the x axis.

    Returns:
        The SVG.

    Raises:
        SertkError: If a file cannot be written.
    """
    ordered = sorted(figures, key=lambda name: -figures[name])
    groups = sorted({gender.get(name) or "unknown" for name in ordered})
    named = len(ordered) <= NAMED

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for group, color, marker in zip(groups, COLORS, "osD", strict=False):
            own = [row for row, name in enumerate(ordered) if (gender.get(name) or "unknown") == group]
            values = [100 * figures[ordered[row]] for row in own]
            title = f"{group} ({len(own)})" if len(groups) > 1 else f"speakers ({len(own)})"
            many = len(ordered) > RASTER  # as shapes they would make the page heavy
            axes.plot(values, own, marker, color=color, markersize=6 if named else 3, label=title, rasterized=many)
            mean = statistics.fmean(values)
            axes.axvline(mean, color=color, linestyle="--", linewidth=1.3, label=f"mean {mean:.1f}")
        axes.set_yticks(range(len(ordered)), ordered) if named else axes.set_yticks([])
        axes.set(xlabel=axis, ylabel="speakers, sorted", ylim=(len(ordered) - 0.4, -0.6))
        axes.grid(axis="x", alpha=GRID)
        figure.legend(loc="outside upper left", ncols=2)

    return draw(stem, (WIDTH, 1.6 + (0.2 * len(ordered) if named else 4)), paint)


def draw_reliability(stem: Path, found: Reliability) -> str:
    """Draws the share of right decisions by confidence, and below it how many decisions there are.

    Args:
        stem: The path of the files without their suffix.
        found: The bins.

    Returns:
        The SVG.

    Raises:
        SertkError: If a file cannot be written.
    """
    low, size, sure, right = (one.tolist() for one in found)

    def paint(figure: Figure) -> None:
        curve, bars = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        curve.plot([0, 1], [0, 1], linestyle="--", color="0.5", linewidth=1.2, label="as sure as right")
        curve.plot(sure, right, "o-", color=COLORS[0], markersize=5, label="decisions")
        curve.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
        curve.legend(loc="upper left")
        bars.bar(low, size, width=1 / BINS, align="edge", color=COLORS[0], alpha=0.6, edgecolor="none")
        bars.set(xlabel="confidence (probability of the decision)", ylabel="decisions")
        curve.grid(alpha=GRID)

    return draw(stem, (WIDTH, 4.2), paint)


def draw_coverage(stem: Path, coverage: Tensor, accuracies: Mapping[str, Tensor]) -> str:
    """Draws accuracies against the share of utterances that is decided.

    Args:
        stem: The path of the files without their suffix.
        coverage: (P,) shares, 0 to 1.
        accuracies: (P,) shares by the label of the curve.

    Returns:
        The SVG.

    Raises:
        SertkError: If a file cannot be written.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for (label, values), color in zip(accuracies.items(), COLORS, strict=False):
            axes.plot((100 * coverage).tolist(), (100 * values).tolist(), ".-", markersize=4, color=color, label=label)
        axes.set(xlabel="coverage (percent of the utterances that are decided)", ylabel="percent", xlim=(0, 102))
        axes.legend()
        axes.grid(alpha=GRID)

    return draw(stem, (WIDTH, 3.5), paint)


def draw_plane(stem: Path, plane: Plane, classes: Sequence[str]) -> str:
    """Draws a point for each utterance, coloured by its label: the parts beside each other, on the same axes.

    Args:
        stem: The path of the files without their suffix.
        plane: The points.
        classes: C names.

    Returns:
        The SVG.

    Raises:
        SertkError: If a file cannot be written.
    """
    there = sorted({number for part in plane.parts for number in part.label.tolist()})

    def paint(figure: Figure) -> None:
        import matplotlib as mpl

        colors = mpl.color_sequences["tab10" if len(classes) <= 10 else "tab20"]
        every = figure.subplots(1, len(plane.parts), sharex=True, sharey=True, squeeze=False)[0]
        for axes, part, points in zip(every, plane.parts, plane.points, strict=True):
            for number in there:
                x, y = points[part.label == number].T.numpy()
                mark, color = MARKS[number % len(MARKS)], colors[number % len(colors)]
                many = len(points) > CROWD
                axes.plot(x, y, mark, color=color, markersize=3.5, alpha=0.75, markeredgewidth=0, rasterized=many)
            axes.set_title(part.title, fontsize="medium")
            axes.set(**dict(zip(("xlabel", "ylabel"), plane.axes, strict=False)))
            axes.spines[["top", "right"]].set_visible(True)
            axes.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
        for axes in every[1:]:
            axes.set_ylabel("")
        names = [classes[number] for number in there]
        handles = every[0].get_lines()
        columns = max(1, min(len(names), LEGEND // (max(map(len, names)) + 4)))
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=columns,
            markerscale=1.6,
            columnspacing=1,
            handletextpad=0.2,
        )

    return draw(stem, (WIDTH, 3.4), paint)


def draw_curves(path: Path, plot: Plot) -> None:
    """Draws the curves of a sweep: the mean over seeds, in a band of the deviation.

    Args:
        path: Of the PNG file.
        plot: The curves.

    Raises:
        SertkError: If the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for label, points in plot.lines.items():
        x, means, spreads = (torch.tensor(plot.drawn(points), dtype=torch.float64).view(-1, 3).T).numpy()
        (line,) = axes.plot(x, means, marker="o", label=label)
        axes.fill_between(x, means - spreads, means + spreads, color=line.get_color(), alpha=0.2, linewidth=0)
    if plot.categories:
        axes.set_xticks(range(len(plot.categories)), plot.categories, rotation=30, ha="right")
    axes.set(xlabel=plot.setting, ylabel=plot.axis, title=plot.column.title)
    axes.legend(title="mean ± deviation over seeds")
    axes.grid(alpha=0.3)
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=150)
    plt.close(figure)


@dataclass(frozen=True)
class Timeline:
    """What is drawn of a recording.

    Attributes:
        title: Of the drawing.
        classes: C names.
        step: Seconds of a stretch of the waveform.
        low: Its lowest sample, by stretch.
        high: Its highest.
        borders: Seconds; one more than there are intervals.
        posterior: C values by interval; None where nothing was scored.
    """

    title: str
    classes: Sequence[str]
    step: float
    low: Sequence[float]
    high: Sequence[float]
    borders: Sequence[float]
    posterior: Sequence[Sequence[float] | None]


def draw_timeline(path: Path, found: Timeline) -> None:
    """Draws the waveform of a recording, and below it the posterior of each stretch of time, stacked.

    Args:
        path: FILE.png or FILE.svg.
        found: The recording.

    Raises:
        SertkError: If the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [one if one is not None else [math.nan] * len(found.classes) for one in found.posterior]
    heights = torch.tensor([*rows, rows[-1]], dtype=torch.float64).T  # a step reaches to the next border
    tops = torch.cat([torch.zeros(1, heights.shape[1], dtype=torch.float64), heights.cumsum(0)]).numpy()
    colors = mpl.colormaps["tab10" if len(found.classes) <= 10 else "tab20"]
    figure, (wave, areas) = plt.subplots(2, 1, figsize=(12, 5), sharex=True, layout="constrained", height_ratios=[1, 2])
    times = [found.step * number for number in range(len(found.low))]
    wave.fill_between(times, found.low, found.high, color="0.35", linewidth=0, step="post")
    peak = max(map(abs, (*found.low, *found.high, 1e-3)))
    wave.set(ylabel="amplitude", title=found.title, ylim=(-peak, peak))
    for number, name in enumerate(found.classes):
        color = colors(number % colors.N)
        areas.fill_between(
            found.borders, tops[number], tops[number + 1], step="post", label=name, color=color, linewidth=0
        )
    areas.set(xlabel="time, s", ylabel="posterior", ylim=(0, 1), xlim=(found.borders[0], found.borders[-1]))
    figure.legend(*areas.get_legend_handles_labels(), loc="outside right center")
    with writing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)
    plt.close(figure)


def draw_conditions(stem: Path, rows: Sequence[Row], ua: Measure) -> None:
    """Draws the UA of each condition with its interval; a line is at that of the first, the clean one.

    Args:
        stem: The path of the files without their suffix.
        rows: The conditions.
        ua: The metric.

    Raises:
        SertkError: If a file cannot be written.
    """
    factor, _ = ua.scale
    ends = torch.tensor([[one.ua.value, one.ua.low, one.ua.high] for one in rows], dtype=torch.float64) * factor
    value, low, high = ends.T.numpy()
    drawn = any(not one.ua.why for one in rows)

    def paint(figure: Figure) -> None:
        axes, places = figure.subplots(), range(len(rows))
        axes.axvline(value[0], color="0.7", linestyle="--", linewidth=1)
        axes.hlines(places, low, high, color=COLORS[0], linewidth=2)  # one that is NaN is not drawn
        axes.plot(value, places, "o", color=COLORS[0])
        axes.set_yticks(places, [one.name for one in rows])
        axes.invert_yaxis()
        axes.set(xlabel=f"{ua.title}{ua.suffix}" + f", 95 % by {rows[0].ua.by}" * drawn, xlim=(0, factor))
        axes.grid(axis="x", alpha=GRID)

    draw(stem, (6, 1 + 0.35 * len(rows)), paint)


def draw_enrolment(stem: Path, rows: Sequence[Row], ua: Measure) -> None:
    """Draws the UA over the number of utterances that the speakers are known by, a line for each way to draw them.

    Args:
        stem: The path of the files without their suffix.
        rows: "none", then "KIND NUMBER" or "KIND all".
        ua: The metric.

    Raises:
        SertkError: If a file cannot be written.
    """
    factor, _ = ua.scale
    none, *others = rows
    parts = [one.name.split() for one in others]
    steps = ["0", *dict.fromkeys(number for _, number in parts)]
    steps = [*(one for one in steps if one != "all"), *["all"] * ("all" in steps)]
    kinds: dict[str, list[tuple[int, Row]]] = {kind: [(0, none)] for kind, _ in parts}
    for (kind, number), row in zip(parts, others, strict=True):
        kinds[kind].append((steps.index(number), row))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for number, (kind, own) in enumerate(kinds.items()):
            places = [place + 0.08 * (number - 1) for place, _ in own]  # or intervals would lie on each other
            value, low, high = ([factor * getattr(row.ua, end) for _, row in own] for end in ("value", "low", "high"))
            axes.plot(places, value, "o-", color=COLORS[number], label=kind)
            axes.vlines(places, low, high, color=COLORS[number], linewidth=1)
        axes.set_xticks(range(len(steps)), steps)
        drawn = f", 95 % by {none.ua.by}" * any(not row.ua.why for row in rows)
        axes.set(xlabel="utterances of a speaker, drawn from the other half", ylabel=f"{ua.title}{ua.suffix}{drawn}")
        axes.legend(loc="upper left")
        axes.grid(alpha=GRID)

    draw(stem, (6, 4), paint)


def draw_matrix(stem: Path, cells: Sequence[Cell], ua: Measure) -> None:
    """Draws the UA of systems on corpora as a heat map.

    Args:
        stem: The path of the files without their suffix.
        cells: One for each system and corpus.
        ua: The metric.

    Raises:
        SertkError: If a file cannot be written.
    """
    factor, _ = ua.scale
    systems, corpora = (list(dict.fromkeys(getattr(one, word) for one in cells)) for word in ("system", "corpus"))
    values = torch.full((len(systems), len(corpora)), math.nan, dtype=torch.float64)
    for one in cells:
        values[systems.index(one.system), corpora.index(one.corpus)] = factor * one.ua.value

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.imshow(values.numpy(), cmap="Blues", vmin=0, vmax=factor, aspect="auto")
        axes.set_xticks(range(len(corpora)), corpora)
        axes.set_yticks(range(len(systems)), [name.replace(" (", "\n(") for name in systems])
        axes.set(xlabel=f"scored on; {ua.title}{ua.suffix}", ylabel="system")
        for one in cells:
            row, column = systems.index(one.system), corpora.index(one.corpus)
            value = factor * one.ua.value
            ends = "" if one.ua.why else f"\n{factor * one.ua.low:.1f} to {factor * one.ua.high:.1f}"
            text = f"{value:.1f}{one.mark}{ends}\n{len(one.classes)} classes"
            axes.text(column, row, text, ha="center", va="center", color="white" if value > factor / 2 else "black")

    draw(stem, (3 + 1.6 * len(corpora), 1.2 + 0.9 * len(systems)), paint)

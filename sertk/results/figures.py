"""Drawings of scored runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sertk.core.files import writing
from sertk.results.curves import Plot
from sertk.results.measures import Measure
from sertk.results.robustness import Cell, Row
from sertk.results.runs import Run
from sertk.results.statistics import total_confusion


def percent_of_labels(counts: Tensor) -> Tensor:
    """(C, C) counts, rows the labels -> percent of each label; 0 for a label without an utterance."""
    return 100 * counts / counts.sum(1, keepdim=True).clamp(min=1)


def draw_confusion(path: Path, runs: Sequence[Run]) -> None:
    """Draws the confusion matrix of all runs together, in percent of each label.

    Args:
        path: Of the PNG file.
        runs: Of one system.

    Raises:
        SertkError: If the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    classes, percent = runs[0].metrics["classes"], percent_of_labels(total_confusion(runs)).numpy()
    figure, axes = plt.subplots(figsize=(1.5 + 0.7 * len(classes), 1.2 + 0.7 * len(classes)), layout="constrained")
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="decision", ylabel="label", title="percent of each label")
    for row, column in torch.cartesian_prod(torch.arange(len(classes)), torch.arange(len(classes))).tolist():
        value = percent[row, column]
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 50 else "black")
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=150)
    plt.close(figure)


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


def draw_conditions(path: Path, rows: Sequence[Row], ua: Measure) -> None:
    """Draws the UA of each condition with its interval; a line is at that of the first, the clean one.

    Args:
        path: FILE.png or FILE.svg.
        rows: The conditions.
        ua: The metric.

    Raises:
        SertkError: If the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    factor, _ = ua.scale
    ends = torch.tensor([[one.ua.value, one.ua.low, one.ua.high] for one in rows], dtype=torch.float64) * factor
    value, low, high = ends.T.numpy()
    figure, axes = plt.subplots(figsize=(6, 1 + 0.35 * len(rows)), layout="constrained")
    places = range(len(rows))
    axes.axvline(value[0], color="0.7", linestyle="--", linewidth=1)
    axes.hlines(places, low, high, color="C0", linewidth=2)  # one that is NaN is not drawn
    axes.plot(value, places, "o", color="C0")
    axes.set_yticks(places, [one.name for one in rows])
    axes.invert_yaxis()
    drawn = any(not one.ua.why for one in rows)
    axes.set(xlabel=f"{ua.title}{ua.suffix}" + f", 95 % by {rows[0].ua.by}" * drawn, xlim=(0, factor))
    axes.grid(axis="x", alpha=0.3)
    with writing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)
    plt.close(figure)


def draw_matrix(path: Path, cells: Sequence[Cell], ua: Measure) -> None:
    """Draws the UA of systems on corpora as a heat map.

    Args:
        path: FILE.png or FILE.svg.
        cells: One for each system and corpus.
        ua: The metric.

    Raises:
        SertkError: If the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    factor, _ = ua.scale
    systems, corpora = (list(dict.fromkeys(getattr(one, word) for one in cells)) for word in ("system", "corpus"))
    values = torch.full((len(systems), len(corpora)), math.nan, dtype=torch.float64)
    for one in cells:
        values[systems.index(one.system), corpora.index(one.corpus)] = factor * one.ua.value
    figure, axes = plt.subplots(figsize=(3 + 1.6 * len(corpora), 1.2 + 0.9 * len(systems)), layout="constrained")
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
    with writing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)
    plt.close(figure)

"""Drawings of scored runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sertk.core.files import writing
from sertk.results.curves import Plot
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

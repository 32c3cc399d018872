"""Drawings of scored runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sertk.core.files import writing
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

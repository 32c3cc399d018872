"""Confusion counts and the figures made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sertk.plugins import Plugins


def confusion(pairs: Iterable[tuple[str, str]], classes: Sequence[str]) -> Tensor:
    """(C, C) int64 counts of (label, decision) pairs: rows the labels, columns the decisions."""
    place = {name: number for number, name in enumerate(classes)}
    cells = torch.tensor(
        [place[label] * len(classes) + place[decision] for label, decision in pairs], dtype=torch.int64
    )
    return torch.bincount(cells, minlength=len(classes) ** 2).view(len(classes), len(classes))


def figures(counts: Tensor, plugins: Plugins) -> dict[str, float]:
    """Every registered metric of confusion counts, by name."""
    return {name: plugins.factory("metric", name)(counts) for name in plugins.names("metric")}

"""Decisions where windows tie, and where another row has a higher peak."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sertk.builtin.decisions import max_probability
from sertk.core import Padded, Rng, View


def windows(posteriors: Sequence[Sequence[float]], owner: Sequence[int]) -> View:
    place = torch.tensor(owner)
    size = len(place)
    heads = {"emotion": torch.tensor(posteriors).log()}
    frames = Padded(torch.zeros(size, 1, 2), torch.ones(size, dtype=torch.int64))
    return View(frames, torch.zeros(size, 3), heads, place, torch.bincount(place)[place])


def test_the_first_of_equal_peaks_decides_in_every_row() -> None:
    rows = [[0.5, 0.5], [0.25, 0.75], [0.75, 0.25], [0.75, 0.25], [0.25, 0.75]]
    made = max_probability(windows(rows, [0, 0, 0, 1, 1]), 2, Rng(torch.arange(2)))
    torch.testing.assert_close(made, torch.tensor([[0.25, 0.75], [0.75, 0.25]]))


def test_a_row_is_decided_by_its_own_windows() -> None:
    rows = [[0.4, 0.6], [0.45, 0.55], [0.9, 0.1]]
    made = max_probability(windows(rows, [0, 0, 1]), 2, Rng(torch.arange(2)))
    torch.testing.assert_close(made, torch.tensor([[0.4, 0.6], [0.9, 0.1]]))

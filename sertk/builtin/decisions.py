"""Decisions: the windows or crops of an utterance -> its posterior."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sertk.core import Decision, Rng, View
from sertk.hookspecs import hookimpl


def mean(view: View, rows: int, rng: Rng) -> Tensor:
    """The mean of the windows' posteriors (P5's "average"); of a whole utterance, its posterior."""
    posterior = view.posterior
    total = posterior.new_zeros(rows, posterior.shape[1]).index_add(0, view.owner, posterior)
    return total / torch.bincount(view.owner, minlength=rows)[:, None]


def max_probability(view: View, rows: int, rng: Rng) -> Tensor:
    """The posterior of the window that holds the highest probability, ties to the first (P3 section 3.1)."""
    peak = view.posterior.amax(1)
    highest = peak.new_zeros(rows).scatter_reduce(0, view.owner, peak, "amax")
    places = torch.arange(len(peak), device=peak.device).masked_fill(peak < highest[view.owner], len(peak))
    first = places.new_full((rows,), len(peak)).scatter_reduce(0, view.owner, places, "amin")
    return view.posterior[first]


def random(view: View, rows: int, rng: Rng) -> Tensor:
    """The posterior of one window drawn at random (P5's "crop")."""
    count = torch.bincount(view.owner, minlength=rows)
    return view.posterior[count.cumsum(0) - count + rng.integers(count)]


@hookimpl
def sertk_decisions() -> Mapping[str, Decision]:
    """The decisions by name."""
    return {"max_probability": max_probability, "mean": mean, "random": random}

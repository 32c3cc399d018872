"""Confidence intervals by the bootstrap: of a metric of confusion counts, or of the difference of two systems."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import ndtr, stdtrit
from torch import Tensor

from sertk.results.units import Array, By, Units

Statistic = Callable[[Tensor], Tensor]
"""(..., C, C) counts -> (...,) figures; NaN where there is none."""

LEVEL = 0.95
DRAWS = 2000
FEWEST = 6
"""Speakers: of fewer no interval and no p is given."""
FEWEST_A_FOLD = 3
"""Units of a fold, where they are drawn within folds; but each fold may be one speaker."""
CROSSED = 3
"""Seeds: from so many on they are drawn again too."""
SEED = 0
_ROOM = 2**22  # float64 values that a step may make: 32 MiB


@dataclass(frozen=True)
class Estimate:
    """A figure of a system, or the second system's minus the first's, with its interval.

    Attributes:
        value: The mean over the seeds.
        low: The lower end of the interval; NaN where none is given.
        high: The upper end.
        by: What was drawn.
        size: Speakers or utterances.
        absent: Draws in which a class had no utterance; it was left out of the mean there.
        why: Why there is no interval; "" where there is one.
        seeds: Of which the value is the mean; from `CROSSED` on they were drawn too.
    """

    value: float
    low: float
    high: float
    by: By
    size: int
    absent: int = 0
    why: str = ""
    seeds: int = 1


def estimates(units: Units, statistics: Mapping[str, Statistic], draws: int = DRAWS) -> dict[str, Estimate]:
    """Figures with 95 % intervals. Where the units have folds, a figure is the mean of the folds.

    The interval is the percentile interval, expanded by t: the plain one is too narrow for few units (Hesterberg 2015,
    The American Statistician 69, 371-386, section 5.3). Units are drawn with replacement within their fold; where each
    fold is one speaker, whole folds are drawn. From `CROSSED` seeds on, seeds are drawn too, each with every unit.

    Args:
        units: Of one system, or of two: then it is the difference, second minus first, with the same units drawn for
            both. `units.pooled` for folds put together.
        statistics: By name.
        draws: How often.
    """
    found, why = {name: value(units, one) for name, one in statistics.items()}, _why(units)
    size, seeds = int(units.sizes.sum()), units.counts.shape[2]
    if why:
        none = Estimate(math.nan, math.nan, math.nan, units.by, size, why=why, seeds=seeds)
        return {name: replace(none, value=one) for name, one in found.items()}
    drawn, absent = (_whole_folds if units.sizes.max() == 1 else _within)(units, statistics, draws)
    tail = _tail(units.sizes)
    over = _seeds(seeds, draws)
    made = {}
    for name, values in drawn.items():
        low, high = np.nanquantile(_contrast((values * over[:, None]).sum(-1)), [tail, 1 - tail])
        made[name] = Estimate(found[name], float(low), float(high), units.by, size, int(absent.sum()), seeds=seeds)
    return made


def value(units: Units, statistic: Statistic) -> float:
    """The figure itself: the mean over seeds of the mean of the folds; of two systems the difference."""
    whole = units.counts * units.size[:, None, None, None, None]
    folds = np.stack([whole[units.fold == fold].sum(0) for fold in range(len(units.sizes))])
    return float(_contrast(_figures(statistic, folds).mean((0, 2))[None])[0])


def by_speaker(units: Units, statistic: Statistic) -> dict[str, float]:
    """The figure of each speaker, the mean over seeds; of two systems the difference."""
    pooled = units.pooled
    found = _contrast(_figures(statistic, pooled.counts).mean(2))
    return dict(zip(pooled.names, found.tolist(), strict=True))


def _why(units: Units) -> str:
    """Why there is no interval."""
    sizes = units.sizes
    if sizes.sum() < FEWEST:
        some = f"1 {units.by[:-1]} is" if sizes.sum() == 1 else f"{sizes.sum()} {units.by} are"
        return f"{some} too few, at least {FEWEST} are needed"
    if sizes.max() > 1 and sizes.min() < FEWEST_A_FOLD:
        return f"a fold has {sizes.min()} of the {units.by}, too few to draw within it: {FEWEST_A_FOLD} are needed"
    if len(set(units.names)) < len(units.names):
        return "a speaker is in several folds, so the folds cannot be drawn apart"
    return ""


def _tail(sizes: Array) -> float:
    """The share of draws beyond each end: what makes the percentile interval of a mean as wide as that of t.

    Args:
        sizes: (F,) units in each fold. As many folds of one unit count as one fold.
    """
    sizes = np.array([len(sizes)]) if sizes.max() == 1 else sizes
    least, freedom = int(sizes.min()), int(sizes.sum()) - len(sizes)
    t = stdtrit(freedom, (1 - LEVEL) / 2)
    return float(ndtr(math.sqrt(least / (least - 1)) * t))


def _seeds(seeds: int, draws: int) -> Array:
    """(draws, K) shares of the seeds."""
    if seeds < CROSSED:
        return np.full((draws, seeds), 1 / seeds)
    return _weights(np.random.default_rng([SEED, 1]), np.ones(seeds, np.int64), draws) / seeds


def _contrast(values: Array) -> Array:
    """(draws, A) figures of the systems -> (draws,): of one its own, of two second minus first."""
    return values[:, 0] if values.shape[1] == 1 else values[:, 1] - values[:, 0]


def _figures(statistic: Statistic, counts: Array) -> Array:
    """(..., C, C) -> (...,)."""
    found: Array = statistic(torch.from_numpy(counts)).numpy()
    return found


def _within(units: Units, statistics: Mapping[str, Statistic], draws: int) -> tuple[dict[str, Array], Array]:
    """(draws, A, K) means of the folds by statistic, units drawn within folds; (draws,) whether a class was absent."""
    shape, folds = units.counts.shape[1:], len(units.sizes)
    found = {name: np.zeros((draws, *shape[:2])) for name in statistics}
    absent = np.zeros(draws, dtype=bool)
    for fold in range(folds):
        own = units.fold == fold
        counts = units.counts[own].reshape(own.sum(), -1)
        spoken = units.counts[own].sum((0, -1)) > 0  # (A, K, C)
        rng = np.random.default_rng([SEED, 0, fold])
        step = max(1, _ROOM // max(counts.shape))
        for start in range(0, draws, step):
            place = slice(start, min(start + step, draws))
            drawn = (_weights(rng, units.size[own], place.stop - start) @ counts).reshape(-1, *shape)
            absent[place] |= (spoken & (drawn.sum(-1) == 0)).any((1, 2, 3))
            for name, statistic in statistics.items():
                found[name][place] += _figures(statistic, drawn) / folds
    return found, absent


def _weights(rng: np.random.Generator, size: Array, draws: int) -> Array:
    """(draws, U) how often each row is drawn, float64; `size` (U,) units stand behind a row."""
    total = int(size.sum())
    if total > len(size):
        return rng.multinomial(total, size / total, size=draws).astype(np.float64)
    drawn = rng.integers(0, total, (draws, total))  # the same, several times as fast
    drawn += np.arange(draws)[:, None] * total
    return np.bincount(drawn.ravel(), minlength=draws * total).reshape(draws, total).astype(np.float64)


def _whole_folds(units: Units, statistics: Mapping[str, Statistic], draws: int) -> tuple[dict[str, Array], Array]:
    """The same where each fold is one speaker: the folds' own figures are drawn."""
    folds = len(units.sizes)
    share = _weights(np.random.default_rng([SEED, 0]), units.size, draws) / folds
    each = {name: _figures(statistic, units.counts) for name, statistic in statistics.items()}
    return {name: np.tensordot(share, one, 1) for name, one in each.items()}, np.zeros(draws, dtype=bool)

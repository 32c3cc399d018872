"""Two systems on the same utterances: the test of their difference, and the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sertk.results.intervals import FEWEST, LEVEL, SEED, Estimate, Statistic
from sertk.results.units import Array, Units

EXACT = 16
"""Up to so many speakers every swap is tried."""
SWAPS = 10_000
_ROOM = 2**22  # float64 values that a step may make: 32 MiB
_TIE = 1e-12  # by which differences of the same size may differ in float64


def swap_test(units: Units, statistic: Statistic, swaps: int = SWAPS) -> float | None:
    """The two-sided p of a difference, by swapping whole speakers between the two systems.

    If the systems were alike, all decisions on a speaker, of every seed, could as well be the other system's. p is the
    share of swaps whose difference is at least as large. All swaps are tried up to `EXACT` speakers. Where they are
    drawn, what was found counts as one of them: (1 + b) / (1 + m) (Phipson and Smyth 2010, Statistical Applications in
    Genetics and Molecular Biology 9, 39).

    Args:
        units: Speakers of two systems, folds pooled.
        statistic: What the difference is of; the mean over seeds.
        swaps: How many are drawn where there are more than `EXACT` speakers.

    Returns:
        p; None of fewer than `FEWEST` speakers, where it could not be under 0.05.
    """
    first, second = (units.counts[:, number].reshape(len(units.names), -1) for number in (0, 1))
    shape, both, change = units.counts.shape[2:], first.sum(0), second - first
    speakers, total = len(change), second.sum(0)
    if speakers < FEWEST:
        return None

    def differences(swapped: Array) -> Array:
        """(R,) of (R, S) which speakers are swapped."""
        moved = swapped @ change
        one, other = (statistic(_counts(values, shape)) for values in (both + moved, total - moved))
        found: Array = (other - one).mean(1).numpy()
        return found

    seen = abs(differences(np.zeros((1, speakers)))[0]) - _TIE
    exact = speakers <= EXACT
    count = 2 ** (speakers - 1) if exact else swaps  # all swapped but some is some swapped, with the other sign
    rng, step, beyond = np.random.default_rng([SEED, 2]), max(1, _ROOM // max(change.shape)), 0
    for start in range(0, count, step):
        rows = min(step, count - start)
        if exact:
            swapped = (np.arange(start, start + rows)[:, None] >> np.arange(speakers)) & 1
        else:
            swapped = rng.integers(0, 2, (rows, speakers), dtype=np.int8)
        beyond += int((np.abs(differences(swapped.astype(np.float64))) >= seen).sum())
    return beyond / count if exact else (1 + beyond) / (1 + count)


def _counts(values: Array, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(values.reshape(-1, *shape))


def mcnemar(units: Units) -> list[float]:
    """McNemar's exact test for each seed: is one system right in more utterances where one of the two is right?

    It takes the utterances of a speaker for independent of each other, which they are not.

    Args:
        units: Utterances of two systems.
    """
    from scipy.stats import binomtest  # it takes half a second, and few ask for it

    right = units.counts.diagonal(axis1=-2, axis2=-1).sum(-1) > 0  # (U, 2, K)
    alone = ((right[:, one] & ~right[:, 1 - one]) * units.size[:, None] for one in (0, 1))
    only = np.stack([one.sum(0) for one in alone], 1).astype(int).tolist()
    return [float(binomtest(first, first + second).pvalue) if first + second else 1.0 for first, second in only]


def holm(values: Sequence[float]) -> list[float]:
    """Adjusts the p of a family of tests: the chance of a false finding among them stays at most the level.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.

    Args:
        values: p of each test.
    """
    order = np.argsort(values, kind="stable")
    left = np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.array(values)[order] * left))
    return [float(one) for one in adjusted]


def apart(estimate: Estimate, p: float | None) -> bool | None:
    """Whether two systems are told apart: the interval is on one side of 0 and the adjusted p is at most 0.05.

    None where either is not given.
    """
    if p is None or math.isnan(estimate.low):
        return None
    return (estimate.low > 0 or estimate.high < 0) and p <= 1 - LEVEL + _TIE

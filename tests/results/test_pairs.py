"""Tests of two systems: against scipy, by hand, and how often they find a difference where there is none."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from sertk.plugins import Plugins
from sertk.results import pairs
from sertk.results.intervals import Estimate
from sertk.results.measures import Measure
from sertk.results.pairs import apart, holm, mcnemar, swap_test
from sertk.results.systems import System
from sertk.results.units import Units, units_of

Make = Callable[..., System]
PLUGINS = Plugins()
WA, UA = (Measure(PLUGINS, name).counted for name in ("wa", "ua"))
ONE, OTHER = [9, 4, 7, 12, 5, 8, 10, 3, 11, 6], [10, 8, 9, 11, 6, 9, 10, 8, 10, 9]  # right clips of 12


def both(system: Make, voiced: Make, one: list[int], other: list[int]) -> Units:
    return units_of([system({("1", "0"): voiced(right, 12)}) for right in (one, other)]).pooled


# --- swapping speakers -----------------------------------------------------------------------------------------------


def test_p_is_that_of_scipys_exact_test_of_pairs(system: Make, voiced: Make) -> None:
    def change(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(x - y, axis=axis)

    theirs = stats.permutation_test((OTHER, ONE), change, permutation_type="samples", n_resamples=np.inf)
    assert swap_test(both(system, voiced, ONE, OTHER), WA) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_drawn_swaps_give_nearly_the_exact_p(system: Make, voiced: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    units = both(system, voiced, ONE, OTHER)
    exact = swap_test(units, UA)
    monkeypatch.setattr(pairs, "EXACT", 9)
    assert exact is not None
    assert swap_test(units, UA, 40_000) == pytest.approx(exact, abs=4 * math.sqrt(exact / 40_000))
    assert swap_test(units, UA) == swap_test(units, UA)


def test_six_speakers_that_all_gain_have_p_of_2_in_64_and_five_have_none(system: Make, voiced: Make) -> None:
    assert swap_test(both(system, voiced, [5] * 6, [6] * 6), WA) == pytest.approx(2 / 64)
    assert swap_test(both(system, voiced, [6] * 6, [5] * 6), WA) == pytest.approx(2 / 64)
    assert swap_test(both(system, voiced, [5] * 5, [6] * 5), WA) is None


def test_one_of_several_speakers_tells_nothing(system: Make, voiced: Make) -> None:
    assert swap_test(both(system, voiced, [5] * 7, [12, *[5] * 6]), WA) == 1.0  # his sign alone can change
    assert swap_test(both(system, voiced, [5] * 7, [5] * 7), WA) == 1.0


def test_sixteen_speakers_are_exact_and_of_seventeen_what_was_found_counts_as_a_draw(
    system: Make, voiced: Make
) -> None:
    assert swap_test(both(system, voiced, [5] * 16, [6] * 16), WA) == pytest.approx(2 / 2**16)
    assert swap_test(both(system, voiced, [5] * 17, [6] * 17), WA, 99) == pytest.approx(1 / 100)


def test_a_speaker_is_swapped_in_all_seeds_at_once(system: Make, voiced: Make) -> None:
    # the gains are +3 and -3 in turn in one seed, -2 and +4 in the other: together +1 for each of six speakers
    one = system({("1", seed): voiced([5] * 6, 12) for seed in "01"})
    other = system({("1", "0"): voiced([8, 2] * 3, 12), ("1", "1"): voiced([3, 9] * 3, 12)})
    assert swap_test(units_of([one, other]), WA) == pytest.approx(2 / 64)


# --- utterances, families, verdicts ----------------------------------------------------------------------------------


def test_mcnemar_is_the_binomial_of_clips_where_one_alone_is_right(system: Make) -> None:
    # 8 clips one alone has right, 2 the other alone: 2 (1 + 10 + 45) / 1024
    clips = [(str(row), "ann", "a", "a" if row < 8 else "b") for row in range(30)]
    other = [(str(row), "ann", "a", "a" if row in (8, 9) else "b") for row in range(30)]
    units = units_of([system({("1", "0"): clips}), system({("1", "0"): other})], "utterances")
    assert mcnemar(units) == pytest.approx([0.109375])
    assert mcnemar(units_of([system({("1", "0"): clips})] * 2, "utterances")) == [1.0]


def test_holms_adjustment_is_by_rank_and_never_falls() -> None:
    # sorted 0.01 x 3, 0.03 x 2, 0.04 x 1, of which the last may not be under the one before
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == [0.02]


@pytest.mark.parametrize(
    ("low", "high", "p", "told"),
    [
        (0.01, 0.05, 0.01, True),
        (-0.05, -0.01, 0.05, True),
        (0.01, 0.05, 0.06, False),  # of a family that is too large
        (-0.01, 0.05, 0.04, False),
        (0.01, 0.05, None, None),
        (math.nan, math.nan, 0.01, None),
    ],
)
def test_systems_are_apart_where_interval_and_test_say_so(
    low: float, high: float, p: float | None, told: bool | None
) -> None:
    assert apart(Estimate(0.02, low, high, "speakers", 8), p) is told


# --- errors ----------------------------------------------------------------------------------------------------------


def alike(rng: np.random.Generator, speakers: int, clips: int = 8, classes: int = 4) -> Units:
    """Two systems that are as good as each other, each better for some speakers."""
    voice = rng.normal(0, 1, (speakers, 1, 1)) + rng.normal(0, 0.7, (speakers, 2, 1))  # speaker, and speaker x system
    recall = 1 / (1 + np.exp(-(np.linspace(0, 1.5, classes) + voice)))
    right = rng.binomial(clips, recall)
    counts = np.zeros((speakers, 2, 1, classes, classes))
    for number in range(classes):
        counts[:, :, 0, number, number] = right[..., number]
        counts[:, :, 0, number, number - 1] = clips - right[..., number]
    ones = np.ones(speakers, int)
    return Units("speakers", counts, np.zeros_like(ones), ones, list(map(str, range(speakers))))


def clipwise(units: Units) -> float:
    """McNemar's test of the same clips, whose order is by chance: what is said of it in the docs."""
    right = units.counts.diagonal(axis1=-2, axis2=-1)[:, :, 0].astype(int)  # (S, 2, C)
    rng = np.random.default_rng(int(right.sum()))
    clips = int(units.counts[0, 0, 0, 0].sum())
    drawn = rng.random((*right.shape, clips)).argsort(-1) < right[..., None]
    first, second = (int((drawn[:, one] & ~drawn[:, 1 - one]).sum()) for one in (0, 1))
    return float(stats.binomtest(first, first + second).pvalue)


def errors(speakers: int, repeats: int) -> tuple[float, float]:
    """The share of pairs of equal systems that are found different, by swapping speakers and by McNemar's test."""
    rng, found, clips = np.random.default_rng([speakers, 7]), 0, 0
    for _ in range(repeats):
        units = alike(rng, speakers)
        p = swap_test(units, UA, 1000)
        assert p is not None
        found += p <= 0.05
        clips += clipwise(units) <= 0.05
    return found / repeats, clips / repeats


def test_of_equal_systems_about_5_in_100_are_found_different_by_speakers_and_many_more_by_clips() -> None:
    speakers, clips = errors(12, 300)
    assert speakers == pytest.approx(0.05, abs=0.038)  # three standard errors
    assert clips > 0.12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("speakers", "least"),
    [(6, 0.01), (8, 0.03), (12, 0.03), (24, 0.03), (50, 0.03)],  # of 6 p is 2/64, 4/64, ...: at most 3.1 in 100
)
def test_of_equal_systems_3_to_7_in_100_are_found_different(speakers: int, least: float) -> None:
    found, clips = errors(speakers, 3000)
    print(f"errors of {speakers} speakers: {100 * found:.1f} %, McNemar {100 * clips:.1f} %")  # noqa: T201 - the point
    assert least <= found <= 0.07
    assert clips > 0.1

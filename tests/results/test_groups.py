"""A system by class, gender, speaker, session and duration; and the spread over speakers without its noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from sertk.core import Scores
from sertk.plugins import Plugins
from sertk.results.groups import by_class, by_group, spread
from sertk.results.measures import Measure
from sertk.results.systems import System
from sertk.results.units import Units, units_of

Make = Callable[..., System]
UA = Measure(Plugins(), "ua").counted
RIGHT = [12, 9, 6, 3, 12, 9, 6, 3]


def eight(scores: Callable[..., Scores], voiced: Make, system: Make, seeds: int = 2) -> System:
    """Eight speakers of 12 clips, a and b and c in turn; even ones are women; clips of 1, 2, ... 12 s, one unknown."""
    clips = voiced(RIGHT, 12)
    women = [int(name[0]) % 2 == 0 for name, *_ in clips]
    made = scores(
        clips,
        "abcd",
        gender=["female" if one else "male" for one in women],
        session=["x" if int(name[0]) < 6 else None for name, *_ in clips],
        seconds=torch.tensor([float(name.split(".")[1]) + 1 for name, *_ in clips[:-1]] + [math.nan]).double(),
    )
    return system({("1", str(seed)): made for seed in range(seeds)})


def test_the_recall_of_each_class_that_occurs(scores: Make, voiced: Make, system: Make) -> None:
    found = by_class(eight(scores, voiced, system))
    assert [(one.name, one.size) for one in found] == [("a", 32), ("b", 32), ("c", 32)]  # d has no clip
    assert [one.estimate.value for one in found] == pytest.approx([60 / 96] * 3)  # each has 4, 3, 2, 1 of 4 clips right
    assert 0.3 < found[0].estimate.low < 0.6 < found[0].estimate.high < 0.9


def test_recall_is_of_the_labels_and_not_of_the_decisions(system: Make) -> None:
    clips = [("1", "ann", "a", "a"), ("2", "ann", "a", "b"), ("3", "bob", "a", "b"), ("4", "bob", "b", "b")]
    assert [one.estimate.value for one in by_class(system({("1", "0"): clips}))] == pytest.approx([1 / 3, 1])


def test_groups_have_their_own_speakers_and_their_own_figure(scores: Make, voiced: Make, system: Make) -> None:
    women, men = by_group(eight(scores, voiced, system), "gender", UA)
    assert (women.name, women.size, women.estimate.size) == ("female", 48, 4)
    assert women.estimate.value == pytest.approx((12 + 6) / 24)
    assert men.estimate.value == pytest.approx((9 + 3) / 24)
    assert women.estimate.why.startswith("4 speakers are too few")
    known, unknown = by_group(eight(scores, voiced, system), "session", UA)
    assert (known.name, known.size, known.estimate.why) == ("x", 72, "")
    assert (unknown.name, unknown.size) == ("unknown", 24)


def test_intensity_is_a_group_where_it_is_known(scores: Make, voiced: Make, system: Make) -> None:
    clips = voiced(RIGHT, 12)
    strong = ["strong" if float(name.split(".")[1]) < 6 else "normal" for name, *_ in clips]
    normal, found = by_group(system({("1", "0"): scores(clips, "abc", intensity=strong)}), "intensity", UA)
    assert (normal.name, normal.size, found.name, found.size) == ("normal", 48, "strong", 48)
    # of the first six clips 6, 6, 6 and 3 are right, twice; of the others 6, 3, 0 and 0
    assert (found.estimate.value, normal.estimate.value) == pytest.approx((42 / 48, 18 / 48))
    (alone,) = by_group(system({("1", "0"): clips}), "intensity", UA)
    assert alone.name == "unknown"


def test_durations_are_quarters_and_the_unknown_ones(scores: Make, voiced: Make, system: Make) -> None:
    found = by_group(eight(scores, voiced, system), "duration", UA)
    # 95 durations, eight of each of 1 to 11 s and seven of 12: the quartiles are 3, 6 and 9
    names = ["up to 3.00 s", "beyond 3.00 up to 6.00 s", "beyond 6.00 up to 9.00 s", "beyond 9.00 s", "unknown"]
    assert [one.name for one in found] == names
    assert [one.size for one in found] == [24, 24, 24, 23, 1]
    assert found[0].estimate.value == 1.0  # the first three clips of all are right
    assert found[1].estimate.value == pytest.approx(6 / 8)


def test_one_duration_is_one_group(scores: Make, voiced: Make, system: Make) -> None:
    clips = voiced(RIGHT, 12)
    made = scores(clips, "abc", seconds=torch.full((len(clips),), 2.0).double())
    (found,) = by_group(system({("1", "0"): made}), "duration", UA)
    assert (found.name, found.size) == ("all", 96)
    assert by_group(system({("1", "0"): clips}), "duration", UA)[0].name == "unknown"


def test_each_speaker_has_a_figure_and_no_interval(scores: Make, voiced: Make, system: Make) -> None:
    found = by_group(eight(scores, voiced, system), "speaker", UA)
    assert [one.name for one in found] == [f"s{number}" for number in range(8)]
    assert [one.estimate.value for one in found] == pytest.approx([right / 12 for right in RIGHT])
    assert {(one.size, one.estimate.why) for one in found} == {(12, "it is one speaker")}


def test_the_spread_of_two_speakers_by_hand(voiced: Make, system: Make) -> None:
    # two classes of 3 clips: UA 3/6 (recalls 2/3 and 1/3) and 6/6. Variance (1/4)² x 2; noise of the first
    # (2/9 / 2 + 2/9 / 2) / 2² = 1/18, of the second 0, the mean 1/36
    found = spread(units_of([system({("1", "0"): voiced([3, 6], 6, "ab")}, "ab")]).pooled)
    assert found is not None
    assert found.seen == pytest.approx(math.sqrt(1 / 8))
    assert found.own == pytest.approx(math.sqrt(1 / 8 - 1 / 36))


def test_a_single_clip_of_a_class_or_one_speaker_have_no_spread(voiced: Make, system: Make) -> None:
    assert spread(units_of([system({("1", "0"): voiced([2, 2, 3], 3)})]).pooled) is None
    assert spread(units_of([system({("1", "0"): voiced([4], 6)})]).pooled) is None


def test_speakers_that_are_alike_have_no_spread_but_that_of_chance() -> None:
    rng = np.random.default_rng(1)
    right = rng.binomial(8, 0.7, (400, 3))
    counts = np.zeros((400, 1, 1, 3, 3))
    counts[:, 0, 0, [0, 1, 2], [0, 1, 2]] = right
    counts[:, 0, 0, [0, 1, 2], [1, 2, 0]] = 8 - right
    ones = np.ones(400, int)
    found = spread(Units("speakers", counts, np.zeros_like(ones), ones, list(map(str, range(400)))))
    assert found is not None
    assert found.seen == pytest.approx(math.sqrt(0.7 * 0.3 / 24), abs=0.01)  # 0.094
    assert found.own < 0.03

"""What is drawn for intervals: counts by speaker and by kind of utterance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sertk.core import SertkError
from sertk.results.systems import System
from sertk.results.units import units_of

Make = Callable[..., System]
FIRST = [("1", "ann", "a", "a"), ("2", "ann", "a", "b"), ("3", "bob", "c", "c"), ("4", "bob", "b", "a")]
SECOND = [("5", "ann", "b", "b"), ("6", "cleo", "a", "a")]


def test_a_speaker_has_the_counts_of_a_fold_and_pooled_those_of_all(system: Make) -> None:
    units = units_of([system({("1", "0"): FIRST, ("2", "0"): SECOND})])
    assert list(units.names) == ["ann", "bob", "ann", "cleo"]
    assert units.counts.shape == (4, 1, 1, 3, 3)  # speakers of folds, systems, seeds, labels, decisions
    assert units.fold.tolist() == [0, 0, 1, 1]
    assert units.sizes.tolist() == [2, 2]
    assert units.counts[0, 0, 0].tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]  # ann in fold 1
    assert units.counts[1, 0, 0].tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1]]
    pooled = units.pooled
    assert list(pooled.names) == ["ann", "bob", "cleo"]
    assert pooled.sizes.tolist() == [3]
    assert pooled.counts[0, 0, 0].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_systems_and_seeds_have_axes_of_their_own(system: Make) -> None:
    wrong = [(name, who, label, "c") for name, who, label, _ in FIRST]
    one, other = system({("1", "0"): FIRST, ("1", "1"): FIRST}), system({("1", "0"): wrong, ("1", "1"): FIRST})
    right = units_of([one, other]).counts.diagonal(axis1=-2, axis2=-1).sum(-1)  # (S, A, K)
    assert right.tolist() == [[[1, 1], [0, 1]], [[1, 1], [1, 1]]]


def test_utterances_of_one_label_and_the_same_decisions_share_a_row(system: Make) -> None:
    clips = [("1", None, "a", "a"), ("2", None, "a", "b"), ("3", None, "a", "a"), ("4", None, "b", "b")]
    other = [("4", None, "b", "b"), ("3", None, "a", "c"), ("2", None, "a", "a"), ("1", None, "a", "a")]
    alone = units_of([system({("1", "0"): clips})], "utterances")
    assert sorted(alone.size.tolist()) == [1, 1, 2]
    both = units_of([system({("1", "0"): clips, ("1", "1"): other})], "utterances")  # by id, not by place
    assert both.size.tolist() == [1, 1, 1, 1]
    whole = (both.counts * both.size[:, None, None, None, None]).sum(0)[0]
    assert whole[0].tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert whole[1].tolist() == [[2, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_a_speaker_without_a_chosen_utterance_is_left_out(system: Make) -> None:
    units = units_of([system({("1", "0"): FIRST})], where=lambda scores: scores.target.hard == 0)
    assert list(units.names) == ["ann"]
    assert units.counts.sum() == 2


def test_what_cannot_be_drawn_is_refused(system: Make) -> None:
    unknown = [*FIRST[:3], ("4", None, "b", "a")]
    with pytest.raises(SertkError, match=r"'4' \(fold 1, seed 0\) has no speaker. Name the speakers"):
        units_of([system({("1", "0"): unknown})])
    with pytest.raises(SertkError, match="lacks 1 run, the first fold 2, seed 1"):
        units_of([system({("1", "0"): FIRST, ("2", "0"): SECOND, ("1", "1"): FIRST})])
    moved = [("1", "bob", "a", "a"), *FIRST[1:]]
    with pytest.raises(SertkError, match="fold 1: its speakers have not the same utterances"):
        units_of([system({("1", "0"): FIRST}), system({("1", "0"): moved})])
    renamed = [("9", "ann", "a", "a"), *FIRST[1:]]
    with pytest.raises(SertkError, match="fold 1 has not the same utterances in every seed and system"):
        units_of([system({("1", "0"): FIRST}), system({("1", "0"): renamed})], "utterances")


def test_a_unit_of_utterances_pools_folds_without_being_merged(system: Make) -> None:
    units = units_of([system({("1", "0"): FIRST, ("2", "0"): SECOND})], "utterances")
    assert units.sizes.tolist() == [4, 2]
    assert units.pooled.sizes.tolist() == [6]
    assert np.array_equal(units.pooled.counts, units.counts)
    assert torch.equal(torch.from_numpy(units.counts.sum((1, 2, 3, 4))), torch.ones(len(units.size)).double())

"""Samplers: which rows share a batch, and which of them are pairs, triplets and companions."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sertk.builtin.samplers import Balanced, BalancedPairs, Pairs, Shuffle, Triplets
from sertk.core import BatchSampler, Plan, UsageError

few = settings(max_examples=30, deadline=None)
rows = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 8)), min_size=1, max_size=40)  # label, length
batches = st.integers(1, 9)
seeds = st.integers(0, 99)
ALL = (Shuffle, Pairs, Balanced, BalancedPairs, Triplets)


def made(kind: type[BatchSampler], data: list[tuple[int, int]], batch: int) -> BatchSampler:
    labels, lengths = zip(*data, strict=True)
    return kind(torch.tensor(labels), torch.tensor(lengths, dtype=torch.float32), batch)


def plain(plan: Plan) -> tuple[object, ...]:
    return plan.rows.tolist(), plan.weight.tolist(), {name: group.tolist() for name, group in plan.groups.items()}


def own(plan: Plan) -> list[int]:
    """The rows that count."""
    kept: list[int] = plan.rows[plan.weight > 0].tolist()
    return kept


# a sampler of every kind has something to plan with these: 3 classes of 20, lengths 1 .. 10
MANY = [(i % 3, 1 + i % 10) for i in range(60)]


@pytest.mark.parametrize("kind", ALL)
def test_an_epoch_is_a_function_of_its_number_and_the_seed(kind: type[BatchSampler]) -> None:
    first, again = made(kind, MANY, 8), made(kind, MANY, 8)
    first.epoch(1, 0)  # what was planned before does not matter
    same = [plain(plan) for plan in first.epoch(3, 7)]
    assert same == [plain(plan) for plan in again.epoch(3, 7)]
    assert same != [plain(plan) for plan in again.epoch(4, 7)]
    assert same != [plain(plan) for plan in again.epoch(3, 8)]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("ranks", [2, 3])
def test_shards_share_the_batches_out_in_equally_many_steps(kind: type[BatchSampler], ranks: int) -> None:
    whole = [plain(plan) for plan in made(kind, MANY, 8).epoch(1, 0)]
    shards = []
    for rank in range(ranks):
        sampler = made(kind, MANY, 8)
        sampler.shard(rank, ranks)
        shards.append([plain(plan) for plan in sampler.epoch(1, 0)])
    steps = -(-len(whole) // ranks)
    assert [len(shard) for shard in shards] == [steps] * ranks
    in_turn = [shard[step] for step in range(steps) for shard in shards]
    assert in_turn == whole + whole[: steps * ranks - len(whole)]  # the first ones fill the last step


# --- shuffle -------------------------------------------------------------------------------------------------------


@few
@given(rows, batches, seeds)
def test_shuffle_gives_each_row_once_in_even_batches(data: list[tuple[int, int]], batch: int, seed: int) -> None:
    plans = made(Shuffle, data, batch).epoch(0, seed)
    assert sorted(row for plan in plans for row in own(plan)) == list(range(len(data)))
    sizes = [len(plan.rows) for plan in plans]
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    assert all((plan.weight == 1).all() and not plan.groups for plan in plans)


def test_rows_that_do_not_fill_the_batches_are_shared_out_evenly() -> None:
    sizes = [len(plan.rows) for plan in made(Shuffle, [(0, 1)] * 17, 8).epoch(0, 0)]
    assert sorted(sizes) == [5, 6, 6]  # and not 8, 8 and 1


def test_shuffle_without_jitter_sorts_by_length() -> None:
    sampler = Shuffle(torch.zeros(40), torch.arange(40.0) % 20, 8, jitter=0.0)
    ranges = sorted(
        (sampler.lengths[plan.rows].min(), sampler.lengths[plan.rows].max()) for plan in sampler.epoch(0, 0)
    )
    assert all(shorter[1] <= longer[0] for shorter, longer in pairwise(ranges))


def test_shuffle_gives_batches_of_similar_length_in_random_order() -> None:
    sampler = Shuffle(torch.zeros(400), torch.arange(400.0), 8)
    plans = sampler.epoch(0, 0)
    spread = torch.stack([sampler.lengths[plan.rows].std() for plan in plans]).mean()
    assert spread < 45  # of random batches: 400 / sqrt(12) = 115
    middle = torch.stack([sampler.lengths[plan.rows].mean() for plan in plans])
    position = torch.arange(len(plans), dtype=torch.float32)
    assert torch.corrcoef(torch.stack([middle, position]))[0, 1].abs() < 0.4


def test_more_jitter_mixes_more() -> None:
    def spread(jitter: float) -> float:
        sampler = Shuffle(torch.zeros(400), torch.arange(400.0), 8, jitter)
        return torch.stack([sampler.lengths[plan.rows].std() for plan in sampler.epoch(0, 0)]).mean().item()

    assert spread(0.0) < spread(0.1) < spread(1.0)


def test_a_few_long_rows_do_not_make_the_others_random() -> None:
    lengths = torch.cat([1 + torch.arange(400) / 100, torch.tensor([60.0, 90.0])])  # 1 to 5 s, and two monologues
    plans = Shuffle(torch.zeros(402), lengths, 4).epoch(0, 0)
    widest = torch.stack([lengths[plan.rows].max() for plan in plans])
    padded = 1 - lengths[:400].sum() / sum(4 * width for width in widest if width < 60)
    assert padded < 0.2 * 0.6  # of four draws of a random term in [0, 0.2] the largest is 0.06 above the mean


# --- pairs ---------------------------------------------------------------------------------------------------------


@few
@given(rows, batches, seeds)
def test_pairs_put_each_row_into_one_pair_and_leave_one_over_where_odd(
    data: list[tuple[int, int]], batch: int, seed: int
) -> None:
    plans = made(Pairs, data, batch).epoch(0, seed)
    assert sorted(row for plan in plans for row in own(plan)) == list(range(len(data)))
    paired = [row for plan in plans for row in plan.rows[plan.groups["pair"].flatten()].tolist()]
    assert len(set(paired)) == len(paired) == len(data) // 2 * 2
    assert all(len(plan.rows) <= max(2, batch) for plan in plans)
    assert all((plan.weight == 1).all() for plan in plans)


def test_pairs_are_drawn_without_regard_to_class() -> None:
    sampler = made(Pairs, [(i % 2, 1) for i in range(400)], 400)
    (plan,) = sampler.epoch(0, 0)
    same = sampler.labels[plan.rows[plan.groups["pair"]]].diff().eq(0).float().mean().item()
    assert same == pytest.approx(0.5, abs=0.12)  # of 200 pairs; deviation 0.035


def test_no_batch_of_pairs_is_a_single_row() -> None:
    sizes = [len(plan.rows) for plan in made(Pairs, [(0, 1)] * 33, 32).epoch(0, 0)]
    assert min(sizes) > 1  # batch statistics of one row are no statistics


@few
@given(st.lists(st.integers(4, 17), min_size=2, max_size=5), batches, seeds)
def test_balanced_pairs_have_equal_classes_and_as_many_positives_as_negatives(
    sizes: list[int], batch: int, seed: int
) -> None:
    sampler = made(BalancedPairs, [(label, 1) for label, size in enumerate(sizes) for _ in range(size)], batch)
    plans = sampler.epoch(0, seed)
    pairs = [pair for plan in plans for pair in plan.rows[plan.groups["pair"]].tolist()]
    used = [row for pair in pairs for row in pair]
    assert sorted(used) == sorted(row for plan in plans for row in own(plan))  # nobody is left without a partner
    assert len(set(used)) == len(used)
    taken = min(sizes) // 4 * 4  # as far as the smallest class goes
    assert torch.bincount(sampler.labels[used]).tolist() == [taken] * len(sizes)
    assert sum(int(sampler.labels[a] == sampler.labels[b]) for a, b in pairs) == len(pairs) / 2
    assert all(len(plan.rows) <= max(2, batch) for plan in plans)


def test_balanced_pairs_come_mixed_and_change_their_members() -> None:
    sampler = made(BalancedPairs, [(int(i >= 40), 1) for i in range(400)], 20)
    plans = sampler.epoch(0, 0)
    kinds = [sampler.labels[plan.rows[plan.groups["pair"]]].diff().eq(0).float().mean().item() for plan in plans]
    assert sum(0 < share < 1 for share in kinds) > len(kinds) / 2  # not first the positives, then the negatives
    assert {row for plan in plans for row in own(plan)} != {row for plan in sampler.epoch(1, 0) for row in own(plan)}


def test_a_class_meets_every_other_one_in_negative_pairs() -> None:
    sampler = made(BalancedPairs, [(i % 4, 1) for i in range(80)], 20)
    pairs = [plan.rows[plan.groups["pair"]] for epoch in range(20) for plan in sampler.epoch(epoch, 0)]
    met = {frozenset(pair) for pair in sampler.labels[torch.cat(pairs)].tolist()}
    assert len(met) == 4 + 6  # with itself, and with each other one


def test_balanced_pairs_of_a_class_too_small_for_them_are_refused() -> None:
    with pytest.raises(UsageError, match="smallest has 3"):
        made(BalancedPairs, [(0, 1)] * 50 + [(1, 1)] * 3, 8).epoch(0, 0)


# --- balanced ------------------------------------------------------------------------------------------------------


@few
@given(st.lists(st.integers(0, 17), min_size=1, max_size=5).filter(any), batches, seeds)
def test_balanced_has_every_class_equally_often_and_favours_no_row(sizes: list[int], batch: int, seed: int) -> None:
    sampler = made(Balanced, [(label, 1) for label, size in enumerate(sizes) for _ in range(size)], batch)
    present = [size for size in sizes if size]
    each = max(1, round(sum(present) / len(present)))
    for epoch in range(3):
        plans = sampler.epoch(epoch, seed)
        rows = torch.cat([plan.rows for plan in plans])
        assert sampler.labels[rows].bincount(minlength=len(sizes)).tolist() == [each * bool(size) for size in sizes]
        count = rows.bincount(minlength=sum(sizes)).split(sizes)
        for own, size in zip(count, sizes, strict=True):
            assert set(own.tolist()) <= {each // max(1, size), -(-each // max(1, size))}
        lengths = [len(plan.rows) for plan in plans]
        assert max(lengths) <= batch
        assert max(lengths) - min(lengths) <= 1
        assert all((plan.weight == 1).all() and not plan.groups for plan in plans)


def test_an_epoch_of_12_2_and_4_rows_has_6_of_each() -> None:
    # 18 rows, 3 classes: 6 of each; 6 of the 12, each of the 2 three times, of the 4 two come twice
    sampler = made(Balanced, [(0, 1)] * 12 + [(1, 1)] * 2 + [(2, 1)] * 4, 5)
    plans = sampler.epoch(0, 0)
    assert sorted(len(plan.rows) for plan in plans) == [4, 4, 5, 5]
    large, small, middle = torch.cat([plan.rows for plan in plans]).bincount(minlength=18).split([12, 2, 4])
    assert sorted(large.tolist()) == [0] * 6 + [1] * 6
    assert small.tolist() == [3, 3]
    assert sorted(middle.tolist()) == [1, 1, 2, 2]


def test_the_rows_that_stay_out_are_others_in_each_epoch() -> None:
    sampler = made(Balanced, [(0, 1)] * 30 + [(1, 1)] * 6, 8)
    came = Counter(row for epoch in range(200) for plan in sampler.epoch(epoch, 0) for row in plan.rows.tolist())
    assert min(came[row] for row in range(30)) > 80  # 18 of 30 in each epoch: 120 each; deviation 7
    assert max(came[row] for row in range(30)) < 160
    assert {came[row] for row in range(30, 36)} == {600}


def test_balanced_batches_mix_the_classes() -> None:
    sampler = made(Balanced, [(0, 1)] * 90 + [(1, 1)] * 10, 20)
    shares = [sampler.labels[plan.rows].float().mean().item() for plan in sampler.epoch(0, 0)]
    assert all(0.1 < share < 0.9 for share in shares)


# --- triplets ------------------------------------------------------------------------------------------------------


@few
@given(rows, batches, seeds)
def test_triplets_take_each_row_once_as_an_anchor_and_companions_of_weight_zero(
    data: list[tuple[int, int]], batch: int, seed: int
) -> None:
    sampler = made(Triplets, data, batch)
    plans = sampler.epoch(0, seed)
    assert sorted(row for plan in plans for row in own(plan)) == list(range(len(data)))
    labels, lengths = sampler.labels.tolist(), sampler.lengths.tolist()
    anchored = []
    for plan in plans:
        groups = plan.groups["triplet"]
        assert sorted(groups[:, 1:].flatten().tolist()) == (plan.weight == 0).nonzero()[:, 0].tolist()
        for anchor, positive, negative in plan.rows[groups].tolist():
            anchored.append(anchor)
            assert positive != anchor
            assert labels[positive] == labels[anchor]
            others = [row for row, label in enumerate(labels) if label != labels[anchor]]
            nearest = min(others, key=lambda row: (abs(lengths[row] - lengths[positive]), row))
            assert negative == nearest  # ties to the lowest index
    several = Counter(labels)
    possible = [row for row, label in enumerate(labels) if several[label] > 1 and len(several) > 1]
    assert sorted(anchored) == possible  # every row that has a positive and a negative


def test_the_negative_is_as_long_as_the_positive_and_not_as_the_anchor() -> None:
    (plan,) = made(Triplets, [(0, 1), (0, 10), (1, 2), (1, 9)], 4).epoch(0, 0)
    triplets = {tuple(triplet) for triplet in plan.rows[plan.groups["triplet"]].tolist()}
    assert triplets == {(0, 1, 3), (1, 0, 2), (2, 3, 1), (3, 2, 0)}


def test_triplet_anchors_stay_with_their_own_companions() -> None:
    # only row 0 has no positive: the triplets that follow must not slip by one place
    (plan,) = made(Triplets, [(2, 1), (0, 1), (0, 2), (1, 1), (1, 2)], 5).epoch(0, 0)
    labels = torch.tensor([2, 0, 0, 1, 1])
    anchor, positive, negative = labels[plan.rows[plan.groups["triplet"]]].T
    assert torch.equal(anchor, positive)
    assert (anchor != negative).all()
    assert len(plan.rows) == 5 + 2 * 4


def test_positives_are_any_other_row_of_the_class() -> None:
    sampler = made(Triplets, [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1)], 5)
    drawn = Counter()
    for epoch in range(150):
        (plan,) = sampler.epoch(epoch, 0)
        drawn.update(pos for anchor, pos, _ in plan.rows[plan.groups["triplet"]].tolist() if anchor == 0)
    assert set(drawn) == {1, 2, 3}
    assert min(drawn.values()) > 25  # 50 each; deviation 5.8

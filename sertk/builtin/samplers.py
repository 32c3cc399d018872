"""Samplers: which rows share a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Generator, Tensor

from sertk.core import BatchSampler, Plan, UsageError, check_range
from sertk.hookspecs import hookimpl


class Shuffle(BatchSampler):
    """Random batches of similar length: rows sorted by length and a random term, cut evenly, batches shuffled.

    Args:
        labels: Given by the run.
        lengths: Given by the run.
        batch: Given by the run.
        jitter: Size of the random term, at least 0, as a share of a row's own length; more mixes more and pads more. A
            share of the longest one's length would let a single long utterance mix all others at random.
    """

    _who: ClassVar[str] = "sampler 'shuffle'"

    def __init__(self, labels: Tensor, lengths: Tensor, batch: int, jitter: float = 0.2) -> None:
        super().__init__(labels, lengths, batch)
        check_range(self._who, "jitter", jitter, at_least=0)
        self._jitter = jitter

    def chunks(self, generator: Generator) -> list[Tensor]:
        """Rows of each batch, each row once."""
        rows = torch.randperm(len(self.lengths), generator=generator)
        key = self.lengths[rows] * (1 + self._jitter * torch.rand(len(rows), generator=generator))
        count = -(-len(rows) // self.batch)
        # even parts: a last batch of one row would break batch statistics
        parts = torch.tensor_split(rows[key.argsort()], count)
        return [parts[i] for i in torch.randperm(count, generator=generator).tolist()]

    def plans(self, generator: Generator) -> list[Plan]:
        """Each row once an epoch."""
        return [Plan(rows, {}, torch.ones(len(rows))) for rows in self.chunks(generator)]


class Triplets(Shuffle):
    """Anchors as `shuffle` gives them, each with two companions of weight 0 (P3 section 3.2).

    The positive is a random other row of the anchor's class; the negative is the row of another class whose length is
    nearest to the positive's, ties to the lowest index, from the whole training set. Where rows are copied, a copy of
    the anchor counts as another row.

    Args:
        labels: Given by the run.
        lengths: Given by the run.
        batch: Given by the run; counts anchors.
        jitter: See shuffle.
    """

    _who = "sampler 'triplets'"

    def plans(self, generator: Generator) -> list[Plan]:
        """Each row once an epoch as an anchor."""
        return [self._with_companions(rows, generator) for rows in self.chunks(generator)]

    def _with_companions(self, anchors: Tensor, generator: Generator) -> Plan:
        same = self.labels[anchors, None] == self.labels  # (B, R)
        others = same.clone()
        others[torch.arange(len(anchors)), anchors] = False
        usable = (others.any(1) & ~same.all(1)).nonzero()[:, 0]
        positive = torch.multinomial(others[usable].double(), 1, generator=generator)[:, 0]
        gap = (self.lengths[positive, None] - self.lengths).abs().masked_fill(same[usable], torch.inf)
        rows = torch.cat([anchors, positive, gap.argmin(1)])
        size, count = len(anchors), len(usable)
        places = torch.stack([usable, size + torch.arange(count), size + count + torch.arange(count)], 1)
        weight = torch.cat([torch.ones(size), torch.zeros(2 * count)])
        return Plan(rows, {"triplet": places}, weight)


class Pairs(BatchSampler):
    """Random pairs, every row in one of them (P5 loader_1); an odd row is left without a partner, never out.

    Args:
        labels: Given by the run.
        lengths: Given by the run.
        batch: Given by the run; counts rows.
    """

    def plans(self, generator: Generator) -> list[Plan]:
        """Each row once an epoch."""
        rows = torch.randperm(len(self.labels), generator=generator)
        pairs, size = (len(rows) + 1) // 2, max(1, self.batch // 2)
        parts = torch.tensor_split(torch.arange(pairs), -(-pairs // size))
        return [_paired(rows[2 * part[0] : 2 * part[-1] + 2]) for part in parts]


class BalancedPairs(BatchSampler):
    """Equally many rows of every class, as many positive as negative pairs; not every row comes (P5 loader_2).

    In an epoch the negative pairs of a class are with one other class, or two of an odd number of classes, drawn anew
    for each epoch.

    Args:
        labels: Given by the run.
        lengths: Given by the run.
        batch: Given by the run; counts rows.
    """

    balances = True

    def plans(self, generator: Generator) -> list[Plan]:
        """Half of the rows drawn of a class in positive pairs, half in negative; the smallest class says how many."""
        rows, count = _by_class(self.labels, generator)
        quarter = int(count.min()) // 4
        if not quarter:
            raise UsageError(
                f"balanced pairs need 4 rows of every class; the smallest has {int(count.min())}. Take pairs: random."
            )
        begin = (count.cumsum(0) - count)[torch.randperm(len(count), generator=generator)]
        drawn = rows[begin[:, None] + torch.arange(4 * quarter)]
        positive, rest = drawn[:, : 2 * quarter].reshape(-1, 2), drawn[:, 2 * quarter :].flatten()
        # half the list apart lie rows of different classes, for each class fills at most half of it
        negative = torch.stack(rest.chunk(2), 1) if len(count) > 1 else positive[:0]
        pairs = torch.cat([positive, negative])
        pairs = pairs[torch.randperm(len(pairs), generator=generator)]
        return [_paired(part.flatten()) for part in torch.split(pairs, max(1, self.batch // 2)) if len(part)]


class Balanced(BatchSampler):
    """Equally many rows of every class, and about as many in an epoch as the training set has, in random order.

    The rows of a small class come again: all of them once, before one comes a second time, and so on. Of a large class
    some stay out, other ones in each epoch. A row that comes twice in an epoch is augmented alike.

    Args:
        labels: Given by the run.
        lengths: Given by the run.
        batch: Given by the run.
    """

    repeats, balances = True, True

    def plans(self, generator: Generator) -> list[Plan]:
        """Each class round(R / C) times, C the classes that have rows."""
        rows, count = _by_class(self.labels, generator)
        each = max(1, round(len(rows) / len(count)))
        places = (count.cumsum(0) - count)[:, None] + torch.arange(each) % count[:, None]
        drawn = rows[places.flatten()[torch.randperm(places.numel(), generator=generator)]]
        parts = torch.tensor_split(drawn, -(-len(drawn) // self.batch))
        return [Plan(part, {}, torch.ones(len(part))) for part in parts]


def _by_class(labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """(R,) rows class after class, in random order within a class; and the number of rows of each class that occurs."""
    rows, count = torch.randperm(len(labels), generator=generator), labels.bincount()
    return rows[labels[rows].argsort(stable=True)], count[count > 0]


def _paired(rows: Tensor) -> Plan:
    """A plan in which rows 0 and 1, 2 and 3, ... are pairs."""
    places = torch.arange(len(rows) // 2 * 2).view(-1, 2)
    return Plan(rows, {"pair": places}, torch.ones(len(rows)))


@hookimpl
def sertk_samplers() -> Mapping[str, type[BatchSampler]]:
    """The samplers by name."""
    return {
        "balanced": Balanced,
        "balanced_pairs": BalancedPairs,
        "pairs": Pairs,
        "shuffle": Shuffle,
        "triplets": Triplets,
    }

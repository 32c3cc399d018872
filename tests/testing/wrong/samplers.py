"""Samplers that are wrong in one way each, and some that are right; `says` is what the contracts must say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from sertk.core import BatchSampler, Plan, UsageError
from sertk.hookspecs import hookimpl


class Shuffled(BatchSampler):
    """All rows in a random order: a right one."""

    says = ""

    def plans(self, generator: Generator) -> list[Plan]:
        return [self.plan(rows) for rows in torch.split(self.order(generator), self.batch)]

    def order(self, generator: Generator) -> Tensor:
        return torch.randperm(len(self.labels), generator=generator)

    def plan(self, rows: Tensor) -> Plan:
        return Plan(rows, {}, torch.ones(len(rows)))


class InOrder(Shuffled):
    """The rows as they are: a right one, without chance."""

    says = ""

    def order(self, generator: Generator) -> Tensor:
        return torch.arange(len(self.labels))


class Balanced(Shuffled):
    """As many rows of every class, which refuses a set that has too few of one: a right one."""

    says = ""

    def order(self, generator: Generator) -> Tensor:
        found = super().order(generator)
        least = int(torch.bincount(self.labels).min())
        if least < 2:
            raise UsageError("sampler 'Balanced' needs 2 rows of every class. Take shuffle.")
        return torch.cat([found[self.labels[found] == one][:least] for one in self.labels.unique()])


# ---------------------------------------------------------------- rows


class Replaces(Shuffled):
    """Draws with replacement."""

    says = "rows come again in one epoch"

    def order(self, generator: Generator) -> Tensor:
        return torch.randint(0, len(self.labels), (len(self.labels),), generator=generator)


class Twice(Shuffled):
    """Every row twice, and it says so: a right one."""

    says = ""
    repeats = True

    def order(self, generator: Generator) -> Tensor:
        return super().order(generator).repeat(2)


class Favours(Shuffled):
    """Rows come again, and the first one oftener than others."""

    says = "and another 3"
    repeats = True

    def order(self, generator: Generator) -> Tensor:
        return torch.cat([super().order(generator), torch.tensor([0, 0])])


class DropsRow(Shuffled):
    """Row 0 never comes."""

    says = "1 of"

    def order(self, generator: Generator) -> Tensor:
        found = super().order(generator)
        return found[(found > 0) | (len(found) == 1)]


class FourClasses(Shuffled):
    """Draws class by class, of four classes."""

    says = "rows never come"

    def order(self, generator: Generator) -> Tensor:
        found = super().order(generator)
        return found[self.labels[found] < 4]


class DropsTail(Shuffled):
    """Drops the rows that do not fill a batch, always the same ones."""

    says = "rows never come"

    def order(self, generator: Generator) -> Tensor:
        size = max(1, len(self.labels) // self.batch * self.batch)
        return super().order(generator).sort().values[:size]


class BeyondEnd(Shuffled):
    """Counts rows from one."""

    says = "a batch has rows"

    def order(self, generator: Generator) -> Tensor:
        return super().order(generator) + 1


class TooLarge(Shuffled):
    """A batch has a row more than asked for."""

    says = "`batch` is 8"

    def plans(self, generator: Generator) -> list[Plan]:
        return [self.plan(rows) for rows in torch.split(self.order(generator), self.batch + 1)]


class HardBatch(Shuffled):
    """A batch has four rows, whatever is asked."""

    says = "`batch`"

    def plans(self, generator: Generator) -> list[Plan]:
        return [self.plan(rows) for rows in torch.split(self.order(generator), 4)]


class NoBatches(Shuffled):
    """Has no batch where the rows do not fill one."""

    says = "gives no batch"

    def plans(self, generator: Generator) -> list[Plan]:
        return [plan for plan in super().plans(generator) if len(self.labels) >= self.batch]


class FailsOnFew(Shuffled):
    """Fails on a training set of one class."""

    says = "raised IndexError"

    def order(self, generator: Generator) -> Tensor:
        self.labels.unique()[1]
        return super().order(generator)


# ---------------------------------------------------------------- chance


class OwnGenerator(Shuffled):
    """Draws from torch's own generator."""

    says = "torch's own random numbers"

    def order(self, generator: Generator) -> Tensor:
        return torch.randperm(len(self.labels))


class Reseeds(Shuffled):
    """Resets torch's own generator."""

    says = "torch's own random numbers"

    def order(self, generator: Generator) -> Tensor:
        torch.manual_seed(generator.initial_seed() % 1000)
        return torch.randperm(len(self.labels))


class IgnoresEpoch(Shuffled):
    """Every epoch has the order of the first."""

    says = "epochs"

    def epoch(self, epoch: int, seed: int) -> Sequence[Plan]:
        return super().epoch(0, seed)


class Remembers(Shuffled):
    """An epoch depends on those that were asked for before."""

    says = "differs at the second call"

    def __init__(self, labels: Tensor, lengths: Tensor, batch: int) -> None:
        super().__init__(labels, lengths, batch)
        self.calls: list[int] = []

    def order(self, generator: Generator) -> Tensor:
        self.calls.append(1)
        return super().order(generator).roll(len(self.calls))


class SortsLabels(Shuffled):
    """Sorts the labels that it is given."""

    says = "changes the labels"

    def order(self, generator: Generator) -> Tensor:
        self.labels.copy_(self.labels.sort().values)
        return super().order(generator)


# ---------------------------------------------------------------- ranks


class SharesAll(Shuffled):
    """Every rank gets the whole epoch."""

    says = "ranks"

    def shard(self, rank: int, ranks: int) -> None:
        pass


class UnevenShares(Shuffled):
    """Some ranks get a batch more."""

    says = "all get equally many"

    def epoch(self, epoch: int, seed: int) -> Sequence[Plan]:
        rank, ranks = self._shard
        self._shard = (0, 1)
        found = super().epoch(epoch, seed)
        self._shard = (rank, ranks)
        return found[rank::ranks]


class LosesShare(Shuffled):
    """The last batches reach no rank."""

    says = "ranks"

    def epoch(self, epoch: int, seed: int) -> Sequence[Plan]:
        rank, ranks = self._shard
        self._shard = (0, 1)
        found = super().epoch(epoch, seed)
        self._shard = (rank, ranks)
        return found[rank::ranks][: len(found) // ranks]


class FirstRank(Shuffled):
    """Every rank gets what the first one gets."""

    says = "ranks"

    def shard(self, rank: int, ranks: int) -> None:
        super().shard(0, ranks)


# ---------------------------------------------------------------- plans


class OddWeights(Shuffled):
    """Rows count half."""

    says = "0 or 1"

    def plan(self, rows: Tensor) -> Plan:
        return Plan(rows, {}, torch.full((len(rows),), 0.5))


class CompanionsAlone(Shuffled):
    """Adds a batch of companions alone."""

    says = "no row of weight 1"

    def plans(self, generator: Generator) -> list[Plan]:
        return [*super().plans(generator), Plan(torch.tensor([0]), {}, torch.zeros(1))]


class FloatRows(Shuffled):
    """Rows are no whole numbers."""

    says = "torch.int64"

    def plan(self, rows: Tensor) -> Plan:
        return Plan(rows.float(), {}, torch.ones(len(rows)))


class PairOfOne(Shuffled):
    """Pairs a row with itself."""

    says = "pairs are of one row and itself"

    def plan(self, rows: Tensor) -> Plan:
        return Plan(rows, {"pair": torch.zeros(1, 2, dtype=torch.int64)}, torch.ones(len(rows)))


class PairsOfSet(Shuffled):
    """Pairs are rows of the training set and not of the batch."""

    says = "rows of the batch"

    def plan(self, rows: Tensor) -> Plan:
        return Plan(rows, {"pair": rows[: len(rows) // 2 * 2].view(-1, 2)}, torch.ones(len(rows)))


class AnyTriplets(Shuffled):
    """Triplets of any classes."""

    says = "triplets are not"

    def plan(self, rows: Tensor) -> Plan:
        places = torch.arange(len(rows) // 3 * 3).view(-1, 3)
        return Plan(rows, {"triplet": places}, torch.ones(len(rows)))


@hookimpl
def sertk_samplers() -> Mapping[str, type[BatchSampler]]:
    return {name: one for name, one in globals().items() if hasattr(one, "says")}

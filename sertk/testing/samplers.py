"""Contracts of samplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from sertk.core import BatchSampler, Plan, SertkError
from sertk.testing.cases import Check, Subject, own_chance, require, require_same

COUNTS: Final = (25, 12, 16, 8, 9)  # rows by class
BATCH: Final = 8
EPOCHS: Final = 60  # in which every row is to come; one that comes in every eighth is missed once in 3,000 trials
TINY: Final = ((0,), (0, 0, 0), (0, 1), (0, 0, 1), (0, 0, 0, 0, 1, 1, 1))


def _sampler(subject: Subject, labels: Sequence[int] | None = None, batch: int = BATCH) -> BatchSampler:
    """A sampler over a small training set, always the same one."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    known = classes[torch.randperm(len(classes), generator=generator)] if labels is None else torch.tensor(labels)
    lengths = 0.5 + 4 * torch.rand(len(known), generator=generator)
    made: BatchSampler = subject.make(known, lengths, batch)
    return made


def _same(a: Plan, b: Plan) -> bool:
    groups = a.groups.keys() == b.groups.keys() and all(
        torch.equal(a.groups[name], b.groups[name]) for name in a.groups
    )
    return groups and torch.equal(a.rows, b.rows) and torch.equal(a.weight, b.weight)


def _all_same(a: Sequence[Plan], b: Sequence[Plan]) -> bool:
    return len(a) == len(b) and all(map(_same, a, b))


def pure(subject: Subject) -> None:
    """An epoch is a pure function of its number and the seed, and where the seed matters its number does too."""
    sampler = _sampler(subject)
    labels, lengths = sampler.labels.clone(), sampler.lengths.clone()
    with own_chance(subject):
        wanted = {(epoch, seed): sampler.epoch(epoch, seed) for epoch in (1, 2) for seed in (0, 1)}
    require_same(sampler.labels, labels, f"{subject.what} changes the labels it is given")
    require_same(sampler.lengths, lengths, f"{subject.what} changes the lengths it is given")
    random = not _all_same(wanted[1, 0], wanted[1, 1])
    fine = not random or not _all_same(wanted[1, 0], wanted[2, 0])
    require(fine, f"{subject.what}: all epochs of a seed are alike, and those of two seeds differ; epochs differ too.")
    torch.manual_seed(1234)
    for (epoch, seed), plans in reversed(wanted.items()):
        for other in (sampler, _sampler(subject)):
            fine = _all_same(other.epoch(epoch, seed), plans)
            require(fine, f"{subject.what}: epoch {epoch} of seed {seed} differs at the second call; it must not.")


def once(subject: Subject) -> None:
    """No row comes with weight 1 again in an epoch that does not say so; none is left out for ever, or favoured."""
    sampler = _sampler(subject)
    came: set[int] = set()
    for epoch in range(EPOCHS):
        rows = torch.cat([plan.rows[plan.weight > 0] for plan in sampler.epoch(epoch, 0)]).tolist()
        twice = len(rows) - len(set(rows))
        if sampler.repeats:
            _fair(subject, torch.tensor(rows), sampler.labels)
        require(
            sampler.repeats or not twice,
            f"{subject.what}: {twice} rows come again in one epoch with a weight; there must be none.",
        )
        came.update(rows)
    missing = sum(COUNTS) - len(came)
    require(not missing, f"{subject.what}: {missing} of {sum(COUNTS)} rows never come in {EPOCHS} epochs; each does.")


def _fair(subject: Subject, rows: Tensor, labels: Tensor) -> None:
    """Of a class, no row comes more than once oftener than another."""
    count = rows.bincount(minlength=len(labels))
    for one in range(len(COUNTS)):
        own = count[labels == one]
        least, most = int(own.min()), int(own.max())
        said = f"{subject.what}: of a class, one row comes {least} times in an epoch and another {most}"
        require(most - least <= 1, f"{said}; allowed is a difference of one.")


def plans(subject: Subject) -> None:
    """Batches are not larger than `batch`, and their rows, weights and groups are well-formed."""
    sampler = _sampler(subject)
    for epoch in (1, 2):
        for plan in sampler.epoch(epoch, 0):
            _check(subject, plan, sampler.labels)
            size = int((plan.weight > 0).sum())
            require(size <= BATCH, f"{subject.what}: a batch has {size} rows of weight 1; `batch` is {BATCH}.")
    more, fewer = (len(_sampler(subject, batch=batch).epoch(1, 0)) for batch in (BATCH, 2 * BATCH))
    require(fewer < more, f"{subject.what}: twice the `batch` makes {fewer} batches of {more}; it makes fewer.")


def _check(subject: Subject, plan: Plan, labels: Tensor) -> None:
    size = len(plan.rows)
    kind = str(plan.rows.dtype)
    require(kind == "torch.int64", f"{subject.what}: rows of a batch are {kind}; they must be torch.int64.")
    fine = size > 0 and int(plan.rows.min()) >= 0 and int(plan.rows.max()) < len(labels)
    require(
        fine,
        f"{subject.what}: a batch has rows {plan.rows.tolist()}; they must be 0 to {len(labels) - 1}, at least one.",
    )
    weights = set(plan.weight.tolist())
    require(
        len(plan.weight) == size and weights <= {0.0, 1.0},
        f"{subject.what}: {size} rows have {len(plan.weight)} weights {sorted(weights)}; one each, 0 or 1.",
    )
    require(1.0 in weights, f"{subject.what}: a batch has no row of weight 1; at least one.")
    for name, groups in plan.groups.items():
        fine = groups.dim() == 2 and groups.dtype == torch.int64 and bool(((groups >= 0) & (groups < size)).all())
        require(
            fine,
            f"{subject.what}: groups {name!r} are {groups.tolist()}; they must be rows of the batch, 0 to {size - 1}.",
        )
    _named_groups(subject, plan, labels[plan.rows])


def _named_groups(subject: Subject, plan: Plan, labels: Tensor) -> None:
    """Pairs are of two rows; triplets are anchor, positive, negative."""
    pairs = plan.groups.get("pair", torch.zeros(0, 2, dtype=torch.int64))
    require(pairs.shape[1] == 2, f"{subject.what}: pairs have {pairs.shape[1]} rows; they have 2.")
    alike = int((plan.rows[pairs[:, 0]] == plan.rows[pairs[:, 1]]).sum())
    require(not alike, f"{subject.what}: {alike} pairs are of one row and itself; there must be none.")
    triplets = plan.groups.get("triplet", torch.zeros(0, 3, dtype=torch.int64))
    require(triplets.shape[1] == 3, f"{subject.what}: triplets have {triplets.shape[1]} rows; they have 3.")
    anchor, positive, negative = (labels[triplets[:, i]] for i in range(3))
    wrong = int(((anchor != positive) | (anchor == negative)).sum())
    require(
        not wrong, f"{subject.what}: {wrong} triplets are not (anchor, same class, other class); there must be none."
    )


def shards(subject: Subject) -> None:
    """The shares of the ranks are equally long and together are the epoch."""
    whole = _sampler(subject).epoch(1, 7)
    for ranks in (1, 2, 3):
        shares = []
        for rank in range(ranks):
            sampler = _sampler(subject)
            sampler.shard(rank, ranks)
            shares.append(sampler.epoch(1, 7))
        sizes = sorted({len(share) for share in shares})
        require(len(sizes) == 1, f"{subject.what}: {ranks} ranks get {sizes} batches; all get equally many.")
        most = -(-len(whole) // ranks)
        fine = sizes[0] <= most
        require(fine, f"{subject.what}: each of {ranks} ranks gets {sizes[0]} of {len(whole)} batches; {most} at most.")
        together = [plan for share in shares for plan in share]
        lost = sum(not any(_same(plan, other) for other in together) for plan in whole)
        require(
            not lost, f"{subject.what}: {lost} of {len(whole)} batches reach none of {ranks} ranks; each reaches one."
        )
        strange = sum(not any(_same(plan, other) for other in whole) for plan in together)
        require(not strange, f"{subject.what}: {strange} batches of {ranks} ranks are not of the epoch.")


def tiny(subject: Subject) -> None:
    """A training set of a few rows gives at least one batch, or is refused with a sentence."""
    for labels in TINY:
        try:
            made = _sampler(subject, labels)
            found = made.epoch(1, 0)
        except SertkError:
            continue
        require(
            len(found) > 0,
            f"{subject.what}: a training set of classes {list(labels)} gives no batch, so a run would "
            "train on nothing; give one, or raise UsageError.",
        )
        for plan in found:
            _check(subject, plan, made.labels)


SAMPLER: Final[Mapping[str, Check]] = {
    "an epoch is a pure function": pure,
    "rows come once, or equally often": once,
    "batches are well-formed": plans,
    "the shares of the ranks are the epoch": shards,
    "a few rows are batched or refused": tiny,
}

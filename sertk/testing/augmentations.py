"""Contracts of augmentations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import torch

from sertk.core import Augmentation, Batch, Padded, Rng, Target
from sertk.testing.cases import Check, Subject, real, require, require_close, require_finite, require_same, stretch

ROWS: Final = 8
CLASSES: Final = 4
WIDTH: Final = 40  # of an input that is no wave
SAMPLES: Final = (1600, 4000, 2400, 3200, 1700, 4000, 2001, 1601)
FRAMES: Final = (10, 40, 24, 32, 11, 40, 21, 1)
EPOCHS: Final = (1, 2, 3)  # other draws, other branches of the code


class Drawn(NamedTuple):
    """A training batch and the partners of its rows."""

    batch: Batch
    partners: Batch | None


def _padded(name: str) -> Padded:
    """Random rows of an input; one of digital silence."""
    rows = [torch.randn(size) for size in SAMPLES] if name == "wave" else [torch.randn(t, WIDTH) for t in FRAMES]
    rows[3].zero_()
    return Padded.stack(rows)


def _batch(augmentation: Augmentation, prefix: str) -> Batch:
    """Rows with the inputs that it changes, and one that it must leave alone."""
    inputs = {name: _padded(name) for name in (*augmentation.touches, "untouched")}
    labels = torch.nn.functional.one_hot(torch.arange(ROWS) % CLASSES, CLASSES).float()
    ids = tuple(f"{prefix}{row}" for row in range(ROWS))
    rows = torch.arange(ROWS)
    return Batch(ids, inputs, Target(labels, torch.ones(ROWS)), rows % augmentation.copies, rows)


def _draw(augmentation: Augmentation) -> Drawn:
    batch = _batch(augmentation, "row")
    if not augmentation.partners:
        return Drawn(batch, None)
    # a row's partners follow each other; some rows are their own partner, as chance has it in training
    others = torch.randint(0, ROWS, (ROWS * augmentation.partners,))
    return Drawn(batch, _batch(augmentation, "other").take(others))


def _apply(augmentation: Augmentation, drawn: Drawn, epoch: int) -> Batch:
    batch = drawn.batch
    rng = Rng.for_rows(0, batch.ids, batch.copy.tolist(), epoch, "contract")
    return augmentation(batch, rng, drawn.partners)


def _cut(rows: Padded) -> Padded:
    """Without the padding that no row needs."""
    return Padded(rows.data[:, : int(rows.length.max())], rows.length)


def _single(augmentation: Augmentation, drawn: Drawn, row: int) -> Drawn:
    """A row and its partners, alone."""
    chosen = torch.arange(row * augmentation.partners, (row + 1) * augmentation.partners)
    batch, partners = drawn.batch.take(torch.tensor([row])), drawn.partners
    if partners is not None:
        partners = partners.take(chosen)
        partners = replace(partners, inputs={name: _cut(rows) for name, rows in partners.inputs.items()})
    return Drawn(replace(batch, inputs={name: _cut(rows) for name, rows in batch.inputs.items()}), partners)


def _label(batch: Batch) -> Target:
    if batch.target is None:
        raise AssertionError("an augmentation dropped the labels of its batch; it keeps them.")
    return batch.target


def _same_row(subject: Subject, found: Batch, row: int, wanted: Batch, other: int, because: str) -> None:
    for name, rows in wanted.inputs.items():
        sizes = int(found.inputs[name].length[row]), int(rows.length[other])
        require(
            sizes[0] == sizes[1], f"{subject.what}: {because} the length of {name!r} from {sizes[1]} to {sizes[0]}."
        )
        require_close(real(found.inputs[name], row), real(rows, other), f"{subject.what}: {because} {name!r}")
    require_close(_label(found).soft[row], _label(wanted).soft[other], f"{subject.what}: {because} the label")


def deterministic(subject: Subject) -> None:
    """Equal keys give equal rows, whatever the state of torch's own generator."""
    augmentation: Augmentation = subject.make()
    drawn = _draw(augmentation)
    for epoch in EPOCHS:
        first = _apply(augmentation, drawn, epoch)
        torch.manual_seed(1234)
        second = _apply(subject.make(), drawn, epoch)
        for name, rows in first.inputs.items():
            require_same(second.inputs[name].data, rows.data, f"{subject.what}: equal keys change {name!r}")
        require_same(_label(second).soft, _label(first).soft, f"{subject.what}: equal keys change labels")


def companions(subject: Subject) -> None:
    """A row becomes the same alone and in a batch."""
    augmentation: Augmentation = subject.make()
    drawn = _draw(augmentation)
    for epoch in EPOCHS:
        together = _apply(augmentation, drawn, epoch)
        for row in range(ROWS):
            one = _apply(augmentation, _single(augmentation, drawn, row), epoch)
            _same_row(subject, together, row, one, 0, "companions change")


def padding(subject: Subject) -> None:
    """Neither how much padding there is nor what lies in it matters."""
    augmentation: Augmentation = subject.make()
    drawn = _draw(augmentation)
    longer = Drawn(_stretched(drawn.batch), drawn.partners and _stretched(drawn.partners))
    for epoch in EPOCHS:
        found, wanted = _apply(augmentation, longer, epoch), _apply(augmentation, drawn, epoch)
        for row in range(ROWS):
            _same_row(subject, found, row, wanted, row, "padding changes")


def _stretched(batch: Batch) -> Batch:
    return replace(batch, inputs={name: stretch(rows, 301) for name, rows in batch.inputs.items()})


def shapes(subject: Subject) -> None:
    """Rows, widths, labels' classes and weights stay; padding stays zero; other inputs stay as they are.

    A row's length may change, as a change of speed does.
    """
    augmentation: Augmentation = subject.make()
    drawn = _draw(augmentation)
    before = drawn.batch
    for epoch in EPOCHS:
        found = _apply(augmentation, drawn, epoch)
        fine = found.ids == before.ids and bool(
            (found.copy == before.copy).all() and (found.owner == before.owner).all()
        )
        require(fine, f"{subject.what} changes ids, copy or owner; they stay.")
        names = sorted(found.inputs), sorted(before.inputs)
        require(names[0] == names[1], f"{subject.what} changes the inputs {names[1]} to {names[0]}; they stay.")
        for name, rows in before.inputs.items():
            _stays(subject, found.inputs[name], rows, name, touched=name in augmentation.touches)


def _stays(subject: Subject, found: Padded, before: Padded, name: str, *, touched: bool) -> None:
    if not touched:
        require_same(found.data, before.data, f"{subject.what} changes {name!r}, which is not in `touches`,")
        return
    shapes = (len(found.data), *found.data.shape[2:]), (len(before.data), *before.data.shape[2:])
    require(shapes[0] == shapes[1], f"{subject.what}: {name!r} is {shapes[0]} beside time; it was {shapes[1]}.")
    require_finite(found.data, f"{subject.what}: {name!r}")
    span = int(found.length.min()), int(found.length.max()), found.data.shape[1]
    require(
        span[0] >= 1 and span[1] <= span[2],
        f"{subject.what}: lengths of {name!r} are {span[0]} to {span[1]}; they are 1 to {span[2]}, its time.",
    )
    require_close(found.fill(0.0).data, found.data, f"{subject.what}: padding of {name!r} that was zero changes", 0.0)


def labels(subject: Subject) -> None:
    """Labels are distributions, weights stay, and what it is given is not written to."""
    augmentation: Augmentation = subject.make()
    drawn = _draw(augmentation)
    kept = {name: rows.data.clone() for name, rows in drawn.batch.inputs.items()}
    own, weight = _label(drawn.batch).soft.clone(), _label(drawn.batch).weight.clone()
    for epoch in EPOCHS:
        found = _label(_apply(augmentation, drawn, epoch))
        require_close(found.soft.sum(1), torch.ones(ROWS), f"{subject.what}: labels sum to something else than 1")
        least = float(found.soft.min())
        require(least >= 0, f"{subject.what}: a label has the share {least:.3g}; shares are at least 0.")
        require_same(found.weight, weight, f"{subject.what} changes the weights of rows")
    for name, data in kept.items():
        require_same(drawn.batch.inputs[name].data, data, f"{subject.what} changes the {name!r} it is given")
    require_same(_label(drawn.batch).soft, own, f"{subject.what} changes the labels it is given")


AUGMENTATION: Final[Mapping[str, Check]] = {
    "equal keys give equal rows": deterministic,
    "companions do not matter": companions,
    "padding does not matter": padding,
    "shapes and padding stay": shapes,
    "labels stay distributions": labels,
}

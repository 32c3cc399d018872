"""Contracts of augmentations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import torch
from torch import Tensor

from sertk.core import Augmentation, Batch, Padded, Rng, Target
from sertk.testing.cases import (
    BrokenError,
    Check,
    Subject,
    own_chance,
    real,
    require,
    require_close,
    require_finite,
    require_other,
    require_same,
    stretch,
)

ROWS: Final = 8
CLASSES: Final = 5
WIDTH: Final = 40  # of an input that is no wave
SAMPLES: Final = (1600, 4000, 2400, 3200, 1700, 4000, 2001, 1601)
FRAMES: Final = (10, 40, 24, 32, 11, 40, 21, 1)
INPUTS: Final = ("wave", "mel", "untouched")  # beside those that it touches
GROUPS: Final = {"pair": torch.tensor([[0, 5], [2, 1]])}
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
    """Rows with the inputs that it changes, and some that it must leave alone."""
    inputs = {name: _padded(name) for name in dict.fromkeys((*INPUTS, *augmentation.touches))}
    rows = torch.arange(ROWS)
    labels = torch.nn.functional.one_hot(rows % CLASSES, CLASSES).float()
    aux = {"valence": torch.where(rows % 3 == 2, torch.nan, torch.rand(ROWS))}
    ids = tuple(f"{prefix}{row}" for row in range(ROWS))
    return Batch(ids, inputs, Target(labels, torch.ones(ROWS), aux), rows % augmentation.copies, rows, GROUPS)


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


def _label(subject: Subject, batch: Batch) -> Target:
    if batch.target is None:
        raise BrokenError(f"{subject.what} drops the labels of its batch; it keeps them.")
    return batch.target


def _same_row(subject: Subject, found: Batch, row: int, wanted: Batch, other: int, because: str) -> None:
    for name, rows in wanted.inputs.items():
        sizes = int(found.inputs[name].length[row]), int(rows.length[other])
        require(
            sizes[0] == sizes[1], f"{subject.what}: {because} the length of {name!r} from {sizes[1]} to {sizes[0]}."
        )
        require_close(real(found.inputs[name], row), real(rows, other), f"{subject.what}: {because} {name!r}")
    own, label = _label(subject, found).soft[row], _label(subject, wanted).soft[other]
    require_close(own, label, f"{subject.what}: {because} the label")


def deterministic(subject: Subject) -> None:
    """Equal keys give equal rows, whatever the state of torch's own generator and whatever came before."""
    augmentation: Augmentation = subject.make()
    drawn = _draw(augmentation)
    for epoch in EPOCHS:
        first = _apply(augmentation, drawn, epoch)
        torch.manual_seed(1234)
        other: Augmentation = subject.make()
        with own_chance(subject):
            second = _apply(other, drawn, epoch)
        for name, rows in first.inputs.items():
            require_same(second.inputs[name].data, rows.data, f"{subject.what}: equal keys change {name!r}")
        found, wanted = _label(subject, second).soft, _label(subject, first).soft
        require_same(found, wanted, f"{subject.what}: equal keys change labels")


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
    """Rows, groups and widths stay; padding stays zero; other inputs stay as they are.

    A row's length may change, as a change of speed does.
    """
    augmentation: Augmentation = subject.make()
    drawn = _draw(augmentation)
    before = drawn.batch
    for epoch in EPOCHS:
        found = _apply(augmentation, drawn, epoch)
        fine = found.ids == before.ids and found.copy.equal(before.copy) and found.owner.equal(before.owner)
        require(fine, f"{subject.what} changes ids, copy or owner; they stay.")
        fine = found.groups.keys() == GROUPS.keys() and found.groups["pair"].equal(GROUPS["pair"])
        require(fine, f"{subject.what} changes the groups {[*GROUPS]}; they stay.")
        names = sorted(found.inputs), sorted(before.inputs)
        require(names[0] == names[1], f"{subject.what} changes the inputs {names[1]} to {names[0]}; they stay.")
        for name, rows in before.inputs.items():
            _stays(subject, found.inputs[name], rows, name, touched=name in augmentation.touches)


def _stays(subject: Subject, found: Padded, before: Padded, name: str, *, touched: bool) -> None:
    if not touched:
        require_same(found.data, before.data, f"{subject.what} changes {name!r}, which is not in `touches`,")
        require_same(found.length, before.length, f"{subject.what} changes {name!r}, which is not in `touches`,")
        return
    shapes = (len(found.data), *found.data.shape[2:]), (len(before.data), *before.data.shape[2:])
    require(shapes[0] == shapes[1], f"{subject.what}: {name!r} is {shapes[0]} beside time; it was {shapes[1]}.")
    kinds = found.data.dtype, found.length.dtype
    fine = kinds == (torch.float32, torch.int64)
    require(fine, f"{subject.what}: {name!r} and its lengths are {kinds}; torch.float32 and torch.int64.")
    require_finite(found.data, f"{subject.what}: {name!r}")
    span = int(found.length.min()), int(found.length.max()), found.data.shape[1]
    require(
        span[0] >= 1 and span[1] <= span[2],
        f"{subject.what}: lengths of {name!r} are {span[0]} to {span[1]}; they must be 1 to {span[2]}, its time.",
    )
    require_close(found.fill(0.0).data, found.data, f"{subject.what}: padding of {name!r} that was zero changes", 0.0)


def labels(subject: Subject) -> None:
    """Labels are distributions over the row's own classes and its partners'; weights and auxiliary labels stay."""
    augmentation: Augmentation = subject.make()
    drawn = _draw(augmentation)
    before = _label(subject, drawn.batch)
    own, weight = before.soft.clone(), before.weight.clone()
    allowed = own > 0
    if drawn.partners is not None:
        others = _label(subject, drawn.partners).soft.view(ROWS, augmentation.partners, CLASSES)
        allowed = allowed | (others > 0).any(1)
    for epoch in EPOCHS:
        found = _label(subject, _apply(augmentation, drawn, epoch))
        require_close(found.soft.sum(1), torch.ones(ROWS), f"{subject.what}: labels sum to something else than 1")
        fine = found.soft.shape == own.shape
        require(fine, f"{subject.what}: labels: the shape is {tuple(found.soft.shape)}; it stays {tuple(own.shape)}.")
        least, share = float(found.soft.min()), float(found.soft.masked_fill(allowed, 0.0).max())
        require(least >= 0, f"{subject.what}: a label has the share {least:.3g}; shares are at least 0.")
        said = f"{subject.what} gives {share:.3g} of a label to classes that neither the row nor a partner has"
        require(share <= 1e-6, f"{said}; allowed is nothing.")
        require_same(found.weight, weight, f"{subject.what} changes the weights of rows")
        fine = found.aux.keys() == before.aux.keys() and all(
            found.aux[name].allclose(value, 0, 0, equal_nan=True) for name, value in before.aux.items()
        )
        require(fine, f"{subject.what} changes the auxiliary labels {[*before.aux]}; they stay the row's own.")


def given(subject: Subject) -> None:
    """What it is given is not written to: inputs, labels, partners."""
    augmentation: Augmentation = subject.make()
    drawn = _draw(augmentation)
    held: dict[str, Tensor] = {}
    for whose, batch in (("", drawn.batch), ("partners' ", drawn.partners)):
        if batch is not None:
            held |= {f"{whose}{name}": rows.data for name, rows in batch.inputs.items()}
            held |= {f"{whose}labels": _label(subject, batch).soft, f"{whose}weights": _label(subject, batch).weight}
    kept = {name: value.clone() for name, value in held.items()}
    for epoch in EPOCHS:
        _apply(augmentation, drawn, epoch)
    for name, value in held.items():
        require_same(value, kept[name], f"{subject.what} changes the {name} it is given")


def copies(subject: Subject) -> None:
    """Copies of a row differ, where there are several."""
    augmentation: Augmentation = subject.make()
    drawn = _draw(augmentation)

    def copy(number: int) -> Tensor:
        made = _apply(augmentation, Drawn(replace(drawn.batch, copy=torch.full((ROWS,), number)), drawn.partners), 1)
        return torch.cat([made.inputs[name].data.flatten() for name in augmentation.touches])

    for number in range(1, augmentation.copies):
        sentence = f"{subject.what}: {augmentation.copies} copies, and number {number} is as the original; they differ."
        require_other(copy(number), copy(0), sentence)


def says(subject: Subject) -> None:
    """What it says of itself is well-formed."""
    made: Augmentation = subject.make()
    touches: object = made.touches
    fine = isinstance(touches, tuple | list) and all(isinstance(name, str) for name in touches)
    require(fine, f"{subject.what}: touches is {touches!r}; it must be a tuple of names of inputs.")
    waves = "wave" in made.touches, "wave" in type(made).touches
    said = f"{subject.what}: touches is {touches!r}, that of its class {type(made).touches!r}"
    require(waves[0] == waves[1], f"{said}; the wave is in both or in neither.")
    require(made.copies >= 1, f"{subject.what}: copies is {made.copies}; at least 1, the row itself.")
    require(made.partners >= 0, f"{subject.what}: partners is {made.partners}; at least 0.")


AUGMENTATION: Final[Mapping[str, Check]] = {
    "equal keys give equal rows": deterministic,
    "companions do not matter": companions,
    "padding does not matter": padding,
    "shapes and padding stay": shapes,
    "labels stay distributions": labels,
    "what it is given stays": given,
    "copies differ": copies,
    "it says what it is": says,
}

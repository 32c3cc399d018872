"""Augmentations that are wrong in one way each, and right ones; `says` is what the contracts must say of it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sertk.core import Augmentation, Batch, Padded, Rng, Target
from sertk.hookspecs import hookimpl


class Louder(Augmentation):
    """Each wave by a random factor: a right one."""

    says = ""

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        wave = batch.inputs["wave"]
        return self.put(batch, Padded(wave.data * self.gain(batch, rng), wave.length))

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        """(B, 1)."""
        return 0.5 + rng.uniform()

    def put(self, batch: Batch, wave: Padded) -> Batch:
        """The batch with another wave, and something wrong."""
        return replace(batch, inputs={**batch.inputs, "wave": wave})


def labels(batch: Batch) -> Target:
    assert batch.target is not None
    return batch.target


class Mixed(Augmentation):
    """Half of a partner: a right one."""

    says = ""

    partners = 1

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        assert partners is not None
        wave, other = batch.inputs["wave"].fill(0.0), partners.inputs["wave"].fill(0.0).data
        size = wave.data.shape[1]
        more = torch.nn.functional.pad(other, (0, max(0, size - other.shape[1])))[:, :size]
        mixed = Padded((wave.data + more) / 2, wave.length).fill(0.0)
        inputs = {**batch.inputs, "wave": mixed}
        return replace(batch, inputs=inputs, target=self.label(labels(batch), labels(partners)))

    def label(self, own: Target, other: Target) -> Target:
        return own.blend(other, torch.full_like(own.weight, 0.5))


class Steady(Louder):
    """Each wave by the same factor: a right one, without chance."""

    says = ""

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        return torch.full((len(batch.ids), 1), 0.7)


class Twice(Louder):
    """Every second sample of the second copy, which is half as long: a right one."""

    says = ""
    copies = 2

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        wave, second = batch.inputs["wave"], batch.copy == 1
        length = torch.where(second, (wave.length + 1) // 2, wave.length)
        places = torch.arange(wave.data.shape[1])
        fast = wave.data[:, (2 * places).clamp(max=len(places) - 1)]
        return self.put(batch, Padded(torch.where(second[:, None], fast, wave.data), length).fill(0.0))


class Bands(Augmentation):
    """Leaves a random band of an input out: a right one, behind the features."""

    says = ""
    touches = ("mel",)

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        mel = batch.inputs["mel"]
        kept = torch.arange(mel.data.shape[2]) != rng.integers(torch.full((len(batch.ids),), 40))[:, None]
        return replace(batch, inputs={**batch.inputs, "mel": Padded(mel.data * kept[:, None], mel.length)})


# ---------------------------------------------------------------- labels


class OtherClasses(Louder):
    """Gives every row the class beside its own."""

    says = "classes that neither"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        target = replace(labels(batch), soft=labels(batch).soft.roll(1, 1))
        return replace(super().put(batch, wave), target=target)


class Smooths(Louder):
    """Gives every class a share."""

    says = "classes that neither"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        target = replace(labels(batch), soft=0.9 * labels(batch).soft + 0.1 / labels(batch).soft.shape[1])
        return replace(super().put(batch, wave), target=target)


class MixesOtherLabel(Mixed):
    """Mixes in the label of the row below it, which is no partner."""

    says = "classes that neither"

    def label(self, own: Target, other: Target) -> Target:
        return own.blend(own.take(torch.arange(len(own.weight)).roll(1)), torch.full_like(own.weight, 0.5))


class MoreClasses(Louder):
    """Adds a class."""

    says = "labels: the shape is (8, 6)"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        target = replace(labels(batch), soft=torch.nn.functional.pad(labels(batch).soft, (0, 1)))
        return replace(super().put(batch, wave), target=target)


class NoDistribution(Louder):
    """Labels sum to two."""

    says = "sum to something else than 1"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return replace(super().put(batch, wave), target=replace(labels(batch), soft=2 * labels(batch).soft))


class Negative(Mixed):
    """A label has a negative share."""

    says = "shares are at least 0"

    def label(self, own: Target, other: Target) -> Target:
        return own.blend(other, torch.full_like(own.weight, -0.5))


class DropsLabels(Louder):
    """Leaves the labels out."""

    says = "drops the labels"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return replace(super().put(batch, wave), target=None)


class Weighs(Louder):
    """Makes companions of its rows."""

    says = "weights of rows"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        target = replace(labels(batch), weight=torch.zeros(len(batch.ids)))
        return replace(super().put(batch, wave), target=target)


class DropsAux(Mixed):
    """Leaves the auxiliary labels out."""

    says = "auxiliary labels"

    def label(self, own: Target, other: Target) -> Target:
        return replace(super().label(own, other), aux={})


class MixesAux(Mixed):
    """Takes the auxiliary labels of the partner."""

    says = "auxiliary labels"

    def label(self, own: Target, other: Target) -> Target:
        return replace(super().label(own, other), aux=other.aux)


# ---------------------------------------------------------------- rows and inputs


class DropsRow(Louder):
    """Leaves a row out."""

    says = "changes ids, copy or owner"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return super().put(batch, wave).take(torch.arange(len(batch.ids) - 1))


class DropsFromAll(Louder):
    """Leaves a row out of the inputs alone."""

    says = "it was (8,"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return super().put(batch, Padded(wave.data[1:], wave.length[1:]))


class Reorders(Louder):
    """Gives the rows in another order."""

    says = "changes ids, copy or owner"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return super().put(batch, wave).take(torch.arange(len(batch.ids)).flip(0))


class SwapsWaves(Louder):
    """Gives the waves in another order, and the labels not."""

    says = "companions change"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return super().put(batch, wave.take(torch.arange(len(batch.ids)).flip(0)))


class Expands(Louder):
    """Makes the copies itself."""

    says = "changes ids, copy or owner"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        rows = torch.arange(len(batch.ids)).repeat(2)
        return super().put(batch, wave).take(rows)


class Renumbers(Louder):
    """Says that every row is the original."""

    says = "changes ids, copy or owner"
    copies = 2

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        return 1.0 + batch.copy[:, None]

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return replace(super().put(batch, wave), copy=torch.zeros_like(batch.copy))


class Groups(Louder):
    """Forgets which rows belong together."""

    says = "groups"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return replace(super().put(batch, wave), groups={})


class OutsideTouches(Louder):
    """Changes an input that it does not name."""

    says = "'mel', which is not in `touches`"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        mel = batch.inputs.get("mel")
        others = {} if mel is None else {"mel": Padded(mel.data * 2, mel.length)}
        made = super().put(batch, wave)
        return replace(made, inputs={**made.inputs, **others})


class CutsOthers(Louder):
    """Makes an input shorter that it does not name."""

    says = "'mel', which is not in `touches`"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        mel = batch.inputs.get("mel")
        others = {} if mel is None else {"mel": Padded(mel.data, (mel.length - 1).clamp(min=1))}
        made = super().put(batch, wave)
        return replace(made, inputs={**made.inputs, **others})


class DropsInput(Louder):
    """Leaves an input out."""

    says = "changes the inputs"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return replace(batch, inputs={"wave": wave})


class AddsInput(Louder):
    """Adds an input."""

    says = "changes the inputs"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return super().put(replace(batch, inputs={**batch.inputs, "gain": wave}), wave)


# ---------------------------------------------------------------- values


class LongerThanData(Louder):
    """Says that a wave is longer than it is."""

    says = "lengths of 'wave'"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return super().put(batch, Padded(wave.data, 2 * wave.length))


class Nothing(Louder):
    """Leaves nothing of a short wave."""

    says = "lengths of 'wave'"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        length = wave.length - 1601
        return super().put(batch, Padded(wave.data, length).fill(0.0))


class FillsPadding(Louder):
    """Adds noise to the padding too."""

    says = "padding of 'wave'"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return super().put(batch, Padded(wave.data + 0.1, wave.length))


class ShorterLength(Louder):
    """Resamples half of a wave and keeps the other behind its end."""

    says = "padding of 'wave'"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return super().put(batch, Padded(wave.data, (wave.length + 1) // 2))


class Doubles(Louder):
    """Gives float64."""

    says = "torch.float64"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        return super().put(batch, Padded(wave.data.double(), wave.length))


class ToSilence(Louder):
    """Brings a wave to a level, which silence has none of."""

    says = "not finite"

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        wave = batch.inputs["wave"].fill(0.0)
        return (wave.data.square().sum(1, keepdim=True) / wave.length[:, None]).rsqrt()


class ReadsPadding(Louder):
    """Brings a wave to a level, padding counted."""

    says = "padding changes 'wave'"

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        return 1 / (1 + batch.inputs["wave"].data.square().mean(1, keepdim=True))


class OverBatch(Louder):
    """Brings a batch to a level."""

    says = "companions change"

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        wave = batch.inputs["wave"].fill(0.0).data
        return (1 / (1 + wave.square().mean())).expand(len(wave), 1)


class Writes(Louder):
    """Scales the wave that it is given."""

    says = "changes the wave it is given"

    def put(self, batch: Batch, wave: Padded) -> Batch:
        batch.inputs["wave"].data.mul_(0.5)
        return super().put(batch, wave)


class WritesLabels(Mixed):
    """Halves the labels that it is given."""

    says = "changes the labels it is given"

    def label(self, own: Target, other: Target) -> Target:
        own.soft.mul_(0.5).add_(0.5 * other.soft)
        return own


class WritesPartners(Mixed):
    """Zeroes the waves of partners, which other rows may have too."""

    says = "changes the partners' wave it is given"

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        made = super().__call__(batch, rng, partners)
        assert partners is not None
        partners.inputs["wave"].data.zero_()
        return made


# ---------------------------------------------------------------- chance


class OwnGenerator(Louder):
    """Draws from torch's own generator."""

    says = "torch's own random numbers"

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        return 0.5 + torch.rand(len(batch.ids), 1)


class PythonsRandom(Louder):
    """Draws from Python's generator."""

    says = "equal keys change"

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        return torch.tensor([[random.random()] for _ in batch.ids])


class IgnoresRng(Louder):
    """Draws from a generator that it seeds at every call: the same in every epoch, whatever the row."""

    says = "companions change 'wave'"

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        return 0.5 + torch.rand(len(batch.ids), 1, generator=torch.Generator().manual_seed(0))


class Reseeds(Louder):
    """Draws the same each time, and with it resets the random numbers of all others."""

    says = "torch's own random numbers"

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        torch.manual_seed(0)
        return 0.5 + torch.rand(1, 1).expand(len(batch.ids), 1)


class Remembers(Louder):
    """Gets louder from call to call."""

    says = "equal keys change"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        self.calls.append(1)
        return torch.full((len(batch.ids), 1), 1.0 + len(self.calls))


class AlikeCopies(Louder):
    """Expands the training set to three copies that are alike."""

    says = "3 copies"
    copies = 3

    def gain(self, batch: Batch, rng: Rng) -> Tensor:
        return torch.full((len(batch.ids), 1), 0.7)


class NoCopies(Louder):
    """Expands the training set to nothing."""

    says = "copies is 0"
    copies = 0


class NoPartners(Louder):
    """Wants fewer than no partners."""

    says = "partners is -1"
    partners = -1


class TouchesText(Louder):
    """What it touches is a text and no tuple."""

    says = "touches"
    touches = "wave"  # type: ignore[assignment]


class WaveOfMel(Louder):
    """It changes the wave; its class says that it changes frames."""

    says = "in both or in neither"
    touches = ("mel",)

    def __init__(self) -> None:
        self.touches = ("wave",)


@hookimpl
def sertk_augmentations() -> Mapping[str, type[Augmentation]]:
    return {name: one for name, one in globals().items() if hasattr(one, "says")}

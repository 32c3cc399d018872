"""The front end: which augmentation sees what, and with which random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from sertk.builtin.decisions import mean, random
from sertk.builtin.features.spectral import MFCC
from sertk.core import Augmentation, Batch, Crop, Feature, Padded, Rng, Target
from sertk.modeling.decide import of_logits
from sertk.modeling.frontend import Frontend


class Draws(Augmentation):
    """Remembers what it was given, and three random numbers of each row."""

    def __init__(self, *touches: str, partners: int = 0) -> None:
        self.touches, self.partners = touches, partners
        self.numbers, self.inputs, self.partner_inputs = torch.zeros(0), [""], [""]
        self.ids: Sequence[str] = ()

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        self.numbers, self.inputs = rng.uniform(3), list(batch.inputs)
        self.ids, self.partner_inputs = (partners.ids, list(partners.inputs)) if partners else ((), [])
        return batch


class Frames(Feature):
    """Each sample is a frame of 0.1 s, two wide."""

    cached: ClassVar[bool] = False
    width, frame_seconds = 2, 0.1

    def __call__(self, inputs: Padded) -> Padded:
        return Padded(inputs.data[..., None].repeat(1, 1, 2), inputs.length)


def batch(*ids: str, copies: Sequence[int] = ()) -> Batch:
    """Waves of 6 samples."""
    rows = torch.arange(len(ids))
    wave = Padded(torch.ones(len(ids), 6), torch.full((len(ids),), 6))
    target = Target(torch.ones(len(ids), 1), torch.ones(len(ids)))
    copy = torch.tensor(copies) if copies else torch.zeros_like(rows)
    return Batch(ids, {"wave": wave}, target, copy, rows, {"pair": torch.tensor([[0, 1]])})


def drawn(epoch: int = 1, seed: int = 0, copies: Sequence[int] = (0, 0), places: int = 1) -> list[Tensor]:
    """The numbers of each of several augmentations, two rows each."""
    augment = [Draws("wave") for _ in range(places)]
    Frontend({}, None, augment, seed)(batch("a", "b", copies=copies), epoch, train=True)
    return [one.numbers for one in augment]


def test_an_augmentation_draws_new_numbers_in_every_epoch_and_the_same_ones_again() -> None:
    assert torch.equal(drawn(epoch=1)[0], drawn(epoch=1)[0])
    assert not (drawn(epoch=1)[0] == drawn(epoch=2)[0]).any()


def test_an_augmentation_draws_other_numbers_for_every_seed_row_and_copy() -> None:
    one = drawn()[0]
    assert not (one == drawn(seed=1)[0]).any()
    assert not (one[0] == one[1]).any()
    copied = drawn(copies=(1, 0))[0]
    assert not (one[0] == copied[0]).any()
    assert torch.equal(one[1], copied[1])


def test_every_augmentation_has_random_numbers_of_its_own() -> None:
    first, second = drawn(places=2)
    assert not (first == second).any()
    assert torch.equal(first, drawn()[0])  # one more behind it changes nothing


def test_waves_are_changed_before_the_features_and_frames_after_them() -> None:
    waves, frames = Draws("wave"), Draws("mel")
    Frontend({"mel": Frames()}, None, [frames, waves])(batch("a", "b"), train=True)
    assert (waves.inputs, frames.inputs) == (["wave"], ["mel"])


def test_only_training_rows_are_changed() -> None:
    waves, frames = Draws("wave"), Draws("mel")
    Frontend({"mel": Frames()}, None, [frames, waves])(batch("a", "b"))
    assert (waves.inputs, frames.inputs) == ([""], [""])


def test_partners_of_what_changes_frames_are_frames_and_those_of_the_same_rows() -> None:
    frames, waves = Draws("mel", partners=2), Draws("wave", partners=1)
    partners = batch("p", "q", "r", "s", "t", "u")  # three of a, three of b
    Frontend({"mel": Frames()}, None, [frames, waves])(batch("a", "b"), partners=partners, train=True)
    assert (waves.partner_inputs, frames.partner_inputs) == (["wave"], ["mel"])
    assert (waves.ids, frames.ids) == (("p", "s"), ("p", "q", "s", "t"))


def test_one_crop_of_each_row_keeps_the_groups() -> None:
    made = Frontend({"mel": Frames()}, Crop(0.2, train="first"))(batch("a", "b"), train=True)
    assert len(made.ids) == 2
    assert made.groups["pair"].tolist() == [[0, 1]]


def test_pieces_are_grouped_with_those_of_the_same_place_up_to_the_fewest() -> None:
    # lengths 6, 2, 7 in pieces of 2, the last frame alone being none: rows 0 1 2 | 3 | 4 5 6
    wave = Padded(torch.ones(3, 7), torch.tensor([6, 2, 7]))
    rows = torch.arange(3)
    groups = {"pair": torch.tensor([[2, 0], [0, 1]]), "triplet": torch.tensor([[0, 2, 1]])}
    target = Target(torch.ones(3, 1), torch.ones(3))
    whole = Batch(("a", "b", "c"), {"wave": wave}, target, torch.zeros_like(rows), rows, groups)
    made = Frontend({"mel": Frames()}, Crop(0.2, train="all"))(whole, train=True)
    assert made.owner.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert made.groups["pair"].tolist() == [[4, 0], [5, 1], [6, 2], [0, 3]]
    assert made.groups["triplet"].tolist() == [[0, 4, 3]]


def test_no_group_stays_none_where_rows_are_cut() -> None:
    lone = batch("a", "b")
    lone.groups["pair"].resize_(0, 2)
    made = Frontend({"mel": Frames()}, Crop(0.2, train="all"))(lone, train=True)
    assert made.groups["pair"].shape == (0, 2)


@pytest.mark.parametrize("hop", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_average_and_crop_are_of_the_pieces_that_a_plain_loop_finds(size: int, hop: int) -> None:
    # every frame of the 40 rows has another value, so a piece is known by its mean
    lengths = torch.arange(2, 42)
    wave = Padded(torch.rand(40, 41, generator=torch.Generator().manual_seed(size * 10 + hop)), lengths)
    rows = torch.arange(40)
    ids = [str(row) for row in rows.tolist()]
    whole = Batch(ids, {"wave": wave}, None, torch.zeros_like(rows), rows, {})
    crop = Crop(size / 10, hop / 10, score="all", pad="mean")
    made = Frontend({"mel": Frames()}, crop)(whole)
    first = made.inputs["mel"].fill(0.0).data[..., 0].sum(1) / made.inputs["mel"].length  # (N,)
    view = of_logits(torch.stack([first, 1 - first], 1).log(), made.owner, "softmax")
    average = mean(view, 40, Rng.for_rows(0, ids, [0] * 40, 0, "decision"))[:, 0]
    drawn = torch.stack(
        [random(view, 40, Rng.for_rows(seed, ids, [0] * 40, 0, "decision"))[:, 0] for seed in range(60)]
    )
    for row, length in enumerate(lengths.tolist()):
        # one after the other, until one reaches the end; a last frame alone is none, for it is centred behind the end
        starts = [at for at in range(0, length - 1, hop) if at == 0 or at - hop + size < length - 1]
        pieces = torch.stack([wave.data[row, at : min(at + size, length)].mean() for at in starts])
        torch.testing.assert_close(average[row], pieces.mean())
        away = (drawn[:, row, None] - pieces).abs()
        assert away.amin(1).max() < 1e-5
        assert len(away.argmin(1).unique()) > 1 or len(pieces) == 1


@pytest.mark.parametrize(
    ("samples", "pieces"),
    [
        (15_999, [100]),
        (16_000, [100]),  # 101 frames, the last of them centred behind the last sample
        (16_159, [100]),
        (16_160, [100, 2]),
        (31_999, [100, 100]),
        (32_000, [100, 100]),
        (160, [2]),
        (1, [1]),
    ],
)
def test_a_wave_of_exactly_so_many_pieces_has_no_piece_more(samples: int, pieces: list[int]) -> None:
    wave, row = Padded(torch.ones(1, samples), torch.tensor([samples])), torch.zeros(1, dtype=torch.long)
    frontend = Frontend({"mfcc": MFCC(16_000)}, Crop(1.0, score="all", pad="mean"))
    made = frontend(Batch(("a",), {"wave": wave}, None, row, row, {}))
    assert made.inputs["mfcc"].length.tolist() == pieces

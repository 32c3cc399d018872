"""SpecAugment: where masks lie, how wide they are, and what stands in them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sertk.builtin.augmentations.masks import SpecAugment, runs
from sertk.core import Batch, Padded, Rng

few = settings(max_examples=30, deadline=None)


class Drawn(Rng):
    """Gives the numbers of a list, whatever is asked."""

    def __init__(self, *numbers: Sequence[float]) -> None:
        self._left = list(numbers)

    def uniform(self, n: int = 1) -> Tensor:
        numbers = torch.tensor([self._left.pop(0)])
        assert numbers.shape == (1, n)
        return numbers


def batch_of(rows: Sequence[Tensor], name: str = "mel") -> Batch:
    size = len(rows)
    ids = tuple(f"u{row}" for row in range(size))
    zero = torch.zeros(size, dtype=torch.int64)
    return Batch(ids, {name: Padded.stack(rows), "wave": Padded.stack([torch.ones(9)] * size)}, None, zero, zero)


def rng(batch: Batch, epoch: int = 0) -> Rng:
    return Rng.for_rows(0, batch.ids, batch.copy.tolist(), epoch, "test")


def test_a_run_is_as_wide_as_the_first_draw_says_and_begins_where_the_second_does() -> None:
    # widths floor(0.5 x (3 + 1)) = 2 and floor(0.99 x 4) = 3; 7 places: starts floor(0.9 x (7 - 2 + 1)) = 5 and
    # floor(0.3 x (7 - 3 + 1)) = 1
    found = runs(Drawn([0.5, 0.99], [0.9, 0.3]), 2, torch.tensor([3]), torch.tensor([7]), 8)
    assert found[0].tolist() == [False, True, True, True, False, True, True, False]


def test_masked_values_are_the_mean_of_the_real_frames_and_the_rest_stays() -> None:
    # 3 real frames of 2 bands, mean (1 + 2 + 3 + 4 + 5 + 9) / 6 = 4; one mask of frames, floor(0.6 x 2) = 1 wide, at
    # floor(0.5 x 3) = 1; one of bands, floor(0.5 x 2) = 1 wide, at floor(0.9 x 2) = 1; frame 3 is padding
    x = torch.tensor([[[1.0, 2], [3, 4], [5, 9], [70, 70]]])
    batch = batch_of([x[0]])
    batch = Batch(batch.ids, {"mel": Padded(x, torch.tensor([3]))}, None, batch.copy, batch.owner)
    made = SpecAugment(time_masks=1, time_width=1, freq_masks=1, freq_width=1)
    found = made(batch, Drawn([0.6], [0.5], [0.5], [0.9]), None).inputs["mel"]
    assert found.data.tolist() == [[[1, 4], [4, 4], [5, 4], [70, 70]]]
    assert found.length.tolist() == [3]


sizes = st.lists(st.integers(1, 30), min_size=1, max_size=5)


@few
@given(sizes, st.integers(0, 3), st.integers(0, 40), st.floats(0, 1), st.integers(0, 99))
def test_masks_of_frames_hide_whole_frames_and_no_more_than_allowed(
    lengths: list[int], masks: int, width: int, share: float, epoch: int
) -> None:
    rows = [1 + torch.arange(size * 4.0).view(size, 4) for size in lengths]
    batch = batch_of(rows)
    made = SpecAugment(time_masks=masks, time_width=width, time_share=share, freq_masks=0)
    found = made(batch, rng(batch, epoch), None).inputs["mel"]
    for row, size in enumerate(lengths):
        hidden = (found.data[row, :size] == rows[row].mean()).sum(1)
        assert set(hidden.tolist()) <= {0, 1, 4}  # one: where a value is the mean by itself
        assert int((hidden == 4).sum()) <= masks * min(width, share * size + 1e-4)
        assert torch.equal(found.data[row, size:], torch.zeros(len(found.data[row]) - size, 4))


def test_every_width_and_place_comes() -> None:
    batch = batch_of([torch.arange(30.0).view(6, 5)] * 400)
    made = SpecAugment(time_masks=0, freq_masks=1, freq_width=2)
    found = (made(batch, rng(batch), None).inputs["mel"].data == 14.5).all(1)  # (B, 5), the mean of 0 to 29
    seen = {tuple(row.nonzero()[:, 0].tolist()) for row in found}
    assert seen == {(), (0,), (1,), (2,), (3,), (4,), (0, 1), (1, 2), (2, 3), (3, 4)}
    width = found.sum(1).bincount()
    assert width.tolist() == pytest.approx([133] * 3, abs=40)  # deviation 9.4


def test_a_band_wider_than_the_input_hides_at_most_all_of_it() -> None:
    batch = batch_of([torch.rand(6, 3)] * 50)
    found = SpecAugment(time_masks=0, freq_width=1000)(batch, rng(batch), None).inputs["mel"].data
    assert found.shape == (50, 6, 3)
    assert (found == found[:, :1, :1]).all(2).all(1).any()  # some row is hidden whole


def test_no_masks_change_nothing_and_the_wave_is_never_touched() -> None:
    batch = batch_of([torch.rand(6, 3), torch.rand(4, 3)])
    found = SpecAugment(time_masks=0, freq_masks=0)(batch, rng(batch), None)
    assert torch.equal(found.inputs["mel"].data, batch.inputs["mel"].data)
    assert SpecAugment()(batch, rng(batch), None).inputs["wave"] is batch.inputs["wave"]


def test_the_input_that_is_named_is_the_one_that_is_masked() -> None:
    batch = batch_of([torch.rand(40, 30)], "spectrogram")
    made = SpecAugment(on="spectrogram")
    assert made.touches == ("spectrogram",)
    assert not torch.equal(made(batch, rng(batch), None).inputs["spectrogram"].data, batch.inputs["spectrogram"].data)


def test_masks_are_new_in_every_epoch() -> None:
    batch = batch_of([torch.rand(40, 30)])
    first, second = (SpecAugment()(batch, rng(batch, epoch), None).inputs["mel"].data for epoch in (1, 2))
    assert not torch.equal(first, second)

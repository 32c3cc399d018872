"""Speed perturbation: how long a row becomes, how high, and which speed it gets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sertk.builtin.augmentations.speed import Speed
from sertk.core import Batch, Padded, Rng
from sertk.modeling.frontend import Frontend

few = settings(max_examples=30, deadline=None)


def batch_of(waves: Sequence[Tensor]) -> Batch:
    size = len(waves)
    zero = torch.zeros(size, dtype=torch.int64)
    return Batch(tuple(f"u{row}" for row in range(size)), {"wave": Padded.stack(waves)}, None, zero, zero)


def changed(batch: Batch, *factors: float, epoch: int = 0) -> Padded:
    rng = Rng.for_rows(0, batch.ids, batch.copy.tolist(), epoch, "test")
    return Speed(factors)(batch, rng, None).inputs["wave"]


def tone(hertz: float, samples: int) -> Tensor:
    return torch.sin(2 * math.pi * hertz / 16000 * torch.arange(samples))


@pytest.mark.parametrize(
    ("factor", "length"),
    [(0.9, 1113), (1.0, 1001), (1.1, 910), (2.0, 501), (1.005, 997)],  # ceil(1001 / f)
)
def test_a_row_becomes_as_long_as_its_speed_says(factor: float, length: int) -> None:
    found = changed(batch_of([tone(440, 1001)]), factor)
    assert found.length.tolist() == [length]
    assert found.data.shape == (1, length)


@pytest.mark.parametrize(("factors", "stretch"), [((0.9, 1.0, 1.1), 1 / 0.9), ((1.25, 2.0), 0.8)])
def test_the_longest_that_a_row_may_become_is_known(factors: Sequence[float], stretch: float) -> None:
    assert Speed(factors).stretch == pytest.approx(stretch)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_tone_is_higher_at_a_higher_speed(factor: float) -> None:
    found = changed(batch_of([tone(400, 16000)]), factor).data[0]
    inner = slice(200, -200)  # at the ends the filter sees silence
    torch.testing.assert_close(found[inner], tone(400 * factor, len(found))[inner], atol=0.01, rtol=0)


def test_speed_one_leaves_a_row_as_it_is() -> None:
    batch = batch_of([torch.randn(100), torch.randn(60)])
    assert torch.equal(changed(batch, 1.0).data, batch.inputs["wave"].data)


def test_every_speed_is_as_probable_and_drawn_anew_in_each_epoch() -> None:
    batch = batch_of([torch.ones(99)] * 300)
    lengths = [changed(batch, 0.9, 1.0, 1.1, epoch=epoch).length for epoch in (1, 2)]
    for found in lengths:
        count = found.bincount()
        assert {90, 99, 110} == set(count.nonzero()[:, 0].tolist())  # 99 / 1.1, 99, 99 / 0.9
        assert count[[90, 99, 110]].tolist() == pytest.approx([100] * 3, abs=35)  # deviation 8
    assert not torch.equal(*lengths)


@few
@given(st.lists(st.integers(1, 400), min_size=1, max_size=5), st.integers(0, 50))
def test_a_row_is_the_same_alone_and_its_padding_is_zero(sizes: list[int], epoch: int) -> None:
    batch = batch_of([torch.randn(size) for size in sizes])
    speeds = (0.5, 0.9, 1.0, 1.1, 2.0)
    together = changed(batch, *speeds, epoch=epoch)
    assert together.data.shape[1] == int(together.length.max())
    for row, size in enumerate(sizes):
        length = int(together.length[row])
        assert length in {math.ceil(size / speed) for speed in speeds}
        one = Batch(
            (f"u{row}",),
            {"wave": Padded.stack([batch.inputs["wave"].data[row, :size]])},
            None,
            *[torch.zeros(1, dtype=torch.int64)] * 2,
        )
        torch.testing.assert_close(changed(one, *speeds, epoch=epoch).data[0], together.data[row, :length])
        assert not together.data[row, length:].any()


def test_the_front_end_takes_other_lengths() -> None:
    batch = batch_of([torch.randn(400), torch.randn(300)])
    made = Frontend({}, None, [Speed([2.0]), Speed([0.5])])
    assert made._augmented(batch, 0, None, waves=True).inputs["wave"].length.tolist() == [400, 300]

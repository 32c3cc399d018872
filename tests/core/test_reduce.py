"""Statistics over frames, and the hash of weights."""

from __future__ import annotations

import pytest
import torch

from sertk.core import mean_std
from sertk.core.reduce import hash_of

FRAMES = torch.tensor([[[1.0, 5.0], [3.0, 5.0], [99.0, -99.0]], [[2.0, 0.0], [4.0, 4.0], [9.0, 2.0]]])
MASK = torch.tensor([[True, True, False], [True, True, True]])


def test_mean_and_deviation_are_of_the_real_frames() -> None:
    mean, deviation = mean_std(FRAMES, MASK)
    torch.testing.assert_close(mean, torch.tensor([[2.0, 5.0], [5.0, 2.0]]))
    # (1 + 1) / 2 = 1, and no deviation; (9 + 1 + 16) / 3 = 8.666667 and (4 + 4 + 0) / 3 = 2.666667
    torch.testing.assert_close(deviation, torch.tensor([[1.0, 1e-5], [2.943920, 1.632993]]))


def test_frames_may_be_weighted_by_dimension() -> None:
    weight = torch.tensor([[[0.25, 0.5], [0.75, 0.5], [0.0, 0.0]]])
    mean, deviation = mean_std(FRAMES[:1], MASK[:1], weight)
    torch.testing.assert_close(mean, torch.tensor([[2.5, 5.0]]))
    # 0.25 x 2.25 + 0.75 x 0.25 = 0.75
    torch.testing.assert_close(deviation, torch.tensor([[0.866025, 1e-5]]))


def test_what_does_not_vary_has_a_finite_gradient() -> None:
    frames = torch.ones(1, 3, 2, requires_grad=True)
    mean_std(frames, MASK[:1])[1].sum().backward()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()


def test_a_hash_is_of_names_types_shapes_and_values_in_any_order() -> None:
    one = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3]])}
    assert hash_of(one) == hash_of(dict(reversed(one.items())))
    assert len(hash_of(one)) == 16
    others = [
        {"a": one["a"], "c": one["b"]},
        {"a": one["a"], "b": one["b"].flatten()},
        {"a": one["a"].view(torch.int32), "b": one["b"]},
        {"a": torch.tensor([1.0, 2.5]), "b": one["b"]},
    ]
    assert len({hash_of(one), *map(hash_of, others)}) == 5
    assert hash_of({"a": torch.ones(2, device="meta")}) == ""


@pytest.mark.parametrize("rows", [1, 2])
def test_a_slice_is_hashed_as_what_it_holds(rows: int) -> None:
    whole = torch.arange(6.0).view(2, 3).T
    assert hash_of({"a": whole[:rows]}) == hash_of({"a": whole[:rows].contiguous()})

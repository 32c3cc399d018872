"""Rows on their way to the model: padding, labels, chosen rows."""

from __future__ import annotations

import torch

from sertk.core import Batch, Padded, Target


def padded() -> Padded:
    """Three rows of 2, 1 and 3 frames of two values."""
    return Padded.stack([torch.full((size, 2), float(size)) for size in (2, 1, 3)])


def target() -> Target:
    soft = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.1, 0.2, 0.7]])
    return Target(soft, torch.tensor([1.0, 0.0, 0.5]), {"age": torch.tensor([7.0, torch.nan, 9.0])})


def batch() -> Batch:
    groups = {"pair": torch.tensor([[0, 2]])}
    return Batch(("a", "b", "c"), {"mel": padded()}, target(), torch.tensor([0, 2, 1]), torch.tensor([4, 5, 6]), groups)


def test_the_mask_is_true_on_real_frames() -> None:
    assert padded().mask.tolist() == [[True, True, False], [True, False, False], [True, True, True]]


def test_padding_is_filled_with_a_value_or_a_frame() -> None:
    assert padded().fill(9.0).data[..., 0].tolist() == [[2, 2, 9], [1, 9, 9], [3, 3, 3]]
    filled = padded().fill(torch.tensor([8.0, 9.0]))
    assert filled.data[1].tolist() == [[1, 1], [8, 9], [8, 9]]
    assert filled.length.tolist() == [2, 1, 3]


def test_a_blended_label_is_the_share_of_the_other_and_the_rest_of_its_own() -> None:
    other = Target(torch.eye(3), torch.zeros(3))
    made = target().blend(other, torch.tensor([0.2, 0.0, 1.0]))
    torch.testing.assert_close(made.soft, torch.tensor([[0.6, 0.4, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    assert made.weight.tolist() == [1, 0, 0.5]
    assert made.aux["age"][2] == 9


def test_the_dominant_class_is_the_first_of_equal_shares_and_one_class_alone_is_pure() -> None:
    assert target().hard.tolist() == [0, 1, 2]
    assert target().pure.tolist() == [False, True, False]


def test_chosen_rows_keep_what_is_theirs_and_no_groups() -> None:
    made = batch().take(torch.tensor([2, 1]))
    assert made.ids == ("c", "b")
    assert made.inputs["mel"].length.tolist() == [3, 1]
    assert made.inputs["mel"].data[:, 0, 0].tolist() == [3, 1]
    assert made.target is not None
    assert made.target.hard.tolist() == [2, 1]
    assert made.target.weight.tolist() == [0.5, 0]
    assert made.target.aux["age"][0] == 9
    assert made.target.aux["age"][1].isnan()
    assert made.copy.tolist() == [1, 2]
    assert made.owner.tolist() == [6, 5]
    assert not made.groups


def test_moved_to_a_device_a_batch_is_whole() -> None:
    made = batch().to("meta")
    assert made.ids == ("a", "b", "c")
    assert made.target is not None
    tensors = (made.copy, made.owner, made.target.soft, made.target.weight, made.inputs["mel"].data)
    assert all(
        one.is_meta for one in (*tensors, made.inputs["mel"].length, made.target.aux["age"], made.groups["pair"])
    )

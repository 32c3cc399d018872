"""What a view keeps when it is made float32, and the mean over its windows."""

from __future__ import annotations

import pytest
import torch

from sertk.core import Padded, View
from sertk.core.view import Output


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "linear"])
def test_a_view_in_float32_is_the_same_view(output: Output) -> None:
    heads = {"emotion": torch.tensor([[0.5, -1.0, 2.0]] * 3).bfloat16(), "gender": torch.ones(3, 1).bfloat16()}
    frames = Padded(torch.ones(3, 4, 2).bfloat16(), torch.tensor([4, 2, 1]))
    view = View(frames, torch.ones(3, 5).bfloat16(), heads, torch.tensor([0, 0, 1]), torch.tensor([2, 2, 1]), output)
    made = view.float()
    values = (made.frames.data, made.embedding, *made.heads.values(), made.posterior)
    assert {one.dtype for one in values} == {torch.float32}
    assert made.output == output
    torch.testing.assert_close(made.posterior, view.posterior.float(), atol=0.01, rtol=0)
    assert (made.owner.tolist(), made.count.tolist()) == ([0, 0, 1], [2, 2, 1])
    assert made.frames.length.tolist() == [4, 2, 1]


def test_the_mean_of_windows_is_of_each_row_alone() -> None:
    owner = torch.tensor([0, 1, 1, 1])
    values = torch.tensor([[1.0, 10.0, 0.0], [2.0, 20.0, 0.0], [4.0, 0.0, 0.0], [6.0, 1.0, 3.0]])
    view = View(Padded(values[:, None], owner), values, {}, owner, torch.tensor([1, 3, 3, 3]))
    assert view.mean(values, 2).tolist() == [[1, 10, 0], [4, 7, 1]]

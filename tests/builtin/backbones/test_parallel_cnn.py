"""The parallel CNN of P5, against numbers worked by hand and the sizes that the paper prints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sertk.builtin.backbones.parallel_cnn import ParallelCNN
from sertk.builtin.poolings import Flatten
from sertk.core import FrameSpec, InputSpec, Padded, UsageError

VALUES = torch.tensor([1.0, -5.0, 3.0, 0.0, -2.0, -9.0, -4.0])
LONG = torch.full((1,), 7)


def net(frames: int | None, kernels: tuple[int, ...] = (1,), **settings: Any) -> ParallelCNN:  # noqa: ANN401
    """One filter a branch, which adds up the frames that it sees; batch norm leaves it as it is."""
    sizes = {"filters": 1, "pool": 3, "stride": 2, **settings}
    made = ParallelCNN({"x": InputSpec(1, 0.01, frames)}, None, kernels, **sizes).eval()
    for convolution, norm in made.convolutions:  # type: ignore[misc]
        torch.nn.init.ones_(convolution.weight)
        torch.nn.init.zeros_(convolution.bias)
        norm.running_var.fill_(1 - norm.eps)
    return made


def frames_of(made: ParallelCNN, data: Tensor = VALUES, length: Tensor = LONG) -> Padded:
    return made({"x": Padded(data.view(1, -1, 1), length)})


@pytest.mark.parametrize(("frames", "steps", "values"), [(900, 291, 58_200), (898, 290, 58_000)])
def test_flattened_crops_have_the_sizes_of_the_paper(frames: int, steps: int, values: int) -> None:
    with torch.device("meta"):
        backbone = ParallelCNN({"mfcc": InputSpec(13, 0.01, frames)})
        pooling = Flatten(FrameSpec(backbone.width, backbone.frames))
        given = Padded(torch.zeros(2, frames, 13), torch.tensor([frames, 7]))
        found = backbone({"mfcc": given})
        pooled = pooling(found.data, found.mask)
    assert (backbone.fixed, backbone.frames, backbone.width, pooling.out) == (frames, steps, 200, values)
    assert (*found.data.shape, *pooled.embedding.shape) == (2, steps, 200, 2, values)


def test_the_windows_of_a_crop_lie_inside_and_what_is_negative_is_cut() -> None:
    # max(1, -5, 3), max(3, 0, -2), max(-2, -9, -4) -> 0
    assert frames_of(net(7)).data.flatten().tolist() == [3, 3, 0]


def test_the_padding_of_a_crop_is_signal() -> None:
    found = frames_of(net(7), length=torch.tensor([2]))
    assert (found.length.item(), found.data.flatten().tolist()) == (3, [3, 3, 0])


def test_without_crops_windows_are_centred_and_see_real_frames_alone() -> None:
    # around frames 0, 2, 4 and 6: max(1, -5), max(-5, 3, 0), max(0, -2, -9), max(-9, -4) -> 0
    assert frames_of(net(None)).data.flatten().tolist() == [1, 3, 0, 0]
    # of frames 0 to 4 alone: max(1, -5), max(-5, 3, 0), max(0, -2)
    found = frames_of(net(None), length=torch.tensor([5]))
    assert (found.length.item(), found.data.flatten().tolist()[:3]) == (3, [1, 3, 0])
    assert frames_of(net(None), VALUES[:1], torch.tensor([1])).data.flatten().tolist() == [1]


def test_without_crops_padding_is_no_maximum() -> None:
    made = net(None)
    torch.nn.init.ones_(made.convolutions[0][0].bias)  # type: ignore[index, arg-type] # of padding the filter gives 1
    # as above and 1 more: 1 + 1, 3 + 1, 0 + 1 and max(-9, -4) + 1 = -3 -> 0
    assert frames_of(made, torch.cat([VALUES, torch.tensor([7.0, 7.0])])).data.flatten().tolist()[:4] == [2, 4, 1, 0]


def test_branches_stand_side_by_side_each_as_long_as_the_input() -> None:
    # sums of three frames: 1 - 5 = -4, 1 - 5 + 3 = -1, -2, 1, -11, -15, -13, of which max(-4, -1, -2) -> 0,
    # max(-2, 1, -11) = 1, max(-11, -15, -13) -> 0; of one frame as above
    found = frames_of(net(7, (3, 1)))
    assert found.data[0].tolist() == [[0, 3], [1, 3], [0, 0]]


def test_a_crop_shorter_than_the_pool_is_refused() -> None:
    with pytest.raises(UsageError, match="pool is 30; it is at most the 20 frames of a crop"):
        ParallelCNN({"x": InputSpec(13, 0.01, 20)})
    with pytest.raises(UsageError, match=r"kernels is \[\]; it is a list of at least one branch's frames"):
        ParallelCNN({"x": InputSpec(13, 0.01, 90)}, None, ())

"""Poolings that weigh frames, against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sertk.builtin.poolings import FLAM, AttentiveStatistics, First, Flatten, MeanStd
from sertk.core import FrameSpec, UsageError

LN3 = math.log(3)

# two windows of 2 and 3 real frames; what lies behind would tilt everything
FRAMES = torch.tensor([[[1.0, 5.0], [3.0, 5.0], [99.0, -99.0]], [[2.0, 0.0], [4.0, 4.0], [9.0, 2.0]]])
MASK = torch.tensor([[True, True, False], [True, True, True]])


def test_mean_and_deviation_stand_side_by_side() -> None:
    pooling = MeanStd(FrameSpec(2))
    made = pooling(FRAMES, MASK)
    # (1, 3) and (5, 5); (2, 4, 9): mean 5, variance 26 / 3; (0, 4, 2): mean 2, variance 8 / 3
    wanted = torch.tensor([[2.0, 5.0, 1.0, 1e-5], [5.0, 2.0, 2.943920, 1.632993]])
    torch.testing.assert_close(made.embedding, wanted)
    assert made.frames is FRAMES
    assert (pooling.out, MeanStd(FrameSpec(2), project=3).out) == (4, 3)


def attentive(weight: Tensor) -> AttentiveStatistics:
    """Attention whose score of a frame is the weight times tanh of it."""
    pooling = AttentiveStatistics(FrameSpec(2), bottleneck=2)
    first, _, second = pooling.attention
    for layer, matrix in ((first, torch.eye(2)), (second, weight)):
        layer.weight.data, layer.bias.data = matrix, torch.zeros(2)
    return pooling


def test_attention_weighs_frames_dimension_by_dimension() -> None:
    big = 50.0  # tanh is 1 there
    frames = torch.tensor([[[0.0, 4.0], [big, 8.0], [big, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    # scores of dimension 0: ln 3 tanh(x_0), 0 and ln 3: shares 1/4 and 3/4; of dimension 1: 0: shares 1/2
    made = attentive(torch.tensor([[LN3, 0.0], [0.0, 0.0]]))(frames, mask)
    deviation = big * math.sqrt(0.75 * 0.25)
    torch.testing.assert_close(made.embedding, torch.tensor([[0.75 * big, 6.0, deviation, 2.0]]))


def test_attention_without_a_preference_is_mean_and_deviation() -> None:
    embedding = attentive(torch.zeros(2, 2))(FRAMES, MASK).embedding
    torch.testing.assert_close(embedding, MeanStd(FrameSpec(2))(FRAMES, MASK).embedding)


def test_a_pooling_projects_what_it_pooled() -> None:
    for kind, width in ((MeanStd, 4), (AttentiveStatistics, 4), (First, 2)):
        made = kind(FrameSpec(2), project=3)
        plain = kind(FrameSpec(2))
        plain.load_state_dict(made.state_dict(), strict=False)
        assert tuple(made.projection.weight.shape) == (3, width)
        torch.testing.assert_close(made(FRAMES, MASK).embedding, made.projection(plain(FRAMES, MASK).embedding))


def test_flam_does_not_hear_padding() -> None:
    torch.manual_seed(0)
    pooling = FLAM(FrameSpec(2), heads=2)
    alone = pooling(FRAMES[:1, :2], MASK[:1, :2])
    made = pooling(FRAMES[:1], MASK[:1])
    torch.testing.assert_close(made.embedding, alone.embedding)
    torch.testing.assert_close(made.frames[:, :2], alone.frames)


def test_flatten_puts_frames_side_by_side_in_their_order() -> None:
    pooling = Flatten(FrameSpec(2, 3))
    made = pooling(FRAMES, torch.ones(2, 3, dtype=torch.bool))
    assert made.embedding.tolist() == [[1, 5, 3, 5, 99, -99], [2, 0, 4, 4, 9, 2]]
    assert (pooling.out, made.frames is FRAMES) == (6, True)
    narrow = Flatten(FrameSpec(2, 3), project=4)
    assert (narrow.out, narrow.projection.weight.shape) == (4, (4, 6))


def test_flatten_needs_the_number_of_frames() -> None:
    with pytest.raises(UsageError, match=r"set crop: \{length: SECONDS\}, and no segments"):
        Flatten(FrameSpec(2))

"""P2: losses, poolings, mixups, weights by pilot, against numbers worked by hand and equations as they are printed."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sertk.builtin.augmentations.mixup import EAM, LAM, overlay
from sertk.builtin.losses.ce import CrossEntropy
from sertk.builtin.losses.center import Center
from sertk.builtin.losses.focal import Focal
from sertk.builtin.losses.frame_supcon import FrameSupCon, broadcast, supcon
from sertk.builtin.losses.kl import KullbackLeibler
from sertk.builtin.poolings import FLAM, First
from sertk.core import (
    WHOLE,
    Batch,
    Dims,
    FrameSpec,
    Loss,
    Padded,
    Plan,
    Rng,
    Span,
    Target,
    Task,
    UsageError,
    Utterance,
    View,
)
from sertk.training.optim import exponential

TASK = Task(("anger", "sadness"), torch.tensor([6, 2]))
DIMS = Dims(frame=2, embedding=2)
PIECES = Span(4, 2)
LN3 = math.log(3)  # softmax (ln 3, 0) = (3/4, 1/4)

Rows = Sequence[Sequence[float]]


def near(value: Tensor, expected: float) -> None:
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, abs=1e-5)


def targets(soft: Rows, weight: Sequence[float] | None = None) -> Target:
    return Target(torch.tensor(soft), torch.ones(len(soft)) if weight is None else torch.tensor(weight))


def view(logits: Rows, embedding: Rows | None = None) -> View:
    rows, length = torch.arange(len(logits)), torch.ones(len(logits), dtype=torch.long)
    points = torch.tensor(embedding if embedding is not None else [[0.0, 0.0]] * len(logits))
    return View(Padded(points[:, None], length), points, {"emotion": torch.tensor(logits)}, rows, length)


def one(loss: Loss, logits: Rows, soft: Rows, weight: Sequence[float] | None = None) -> Tensor:
    value: Tensor = loss({WHOLE: view(logits)}, targets(soft, weight), {})
    return value


# --- KL and focal --------------------------------------------------------------------------------------------------

RANDOM = torch.randn(9, 2, generator=torch.Generator().manual_seed(1)).tolist()
HARD = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]] * 3


def test_kl_of_a_soft_label_by_hand() -> None:
    # 1/2 ln (1/2 / 3/4) + 1/2 ln (1/2 / 1/4) = (ln 2/3 + ln 2) / 2 = ln (4/3) / 2
    near(one(KullbackLeibler(TASK, DIMS), [[LN3, 0]], [[0.5, 0.5]]), 0.143841)


def test_kl_of_the_right_posterior_is_zero() -> None:
    near(one(KullbackLeibler(TASK, DIMS), [[LN3, 0]], [[0.75, 0.25]]), 0.0)


def test_kl_of_one_class_is_cross_entropy_in_value_and_gradient() -> None:
    found = []
    for kind in (KullbackLeibler, CrossEntropy):
        logits = torch.tensor(RANDOM, requires_grad=True)
        seen = View(*(getattr(view(RANDOM), name) for name in ("frames", "embedding")), {"emotion": logits},
                    torch.arange(9), torch.ones(9, dtype=torch.long))  # fmt: skip
        value = kind(TASK, DIMS)({WHOLE: seen}, targets(HARD), {})
        value.backward()
        found.append((value.detach(), logits.grad))
    torch.testing.assert_close(*found)


def test_focal_of_a_soft_label_by_hand() -> None:
    # 1/4 (1/4)^2 ln 4/3 + 3/4 (3/4)^2 ln 4 = 0.004495 + 0.584843
    near(one(Focal(TASK, DIMS), [[LN3, 0]], [[0.25, 0.75]]), 0.589338)
    # gamma 1/2: 1/4 (1/4)^(1/2) ln 4/3 + 3/4 (3/4)^(1/2) ln 4 = 0.035960 + 0.900427
    near(one(Focal(TASK, DIMS, gamma=0.5), [[LN3, 0]], [[0.25, 0.75]]), 0.936387)


def test_focal_with_gamma_0_is_cross_entropy() -> None:
    soft = [[0.3, 0.7], [1.0, 0.0], [0.5, 0.5]] * 3
    near(one(Focal(TASK, DIMS, gamma=0.0), RANDOM, soft), one(CrossEntropy(TASK, DIMS), RANDOM, soft).item())


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(UsageError, match="gamma is -1"):
        Focal(TASK, DIMS, gamma=-1.0)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gradients_are_finite_where_the_posterior_is_sure(gamma: float) -> None:
    logits = torch.tensor([[500.0, 0.0], [0.0, 500.0]], requires_grad=True)
    rows = torch.arange(2)
    seen = View(view(RANDOM[:2]).frames, torch.zeros(2, 2), {"emotion": logits}, rows, rows + 1)
    value = Focal(TASK, DIMS, gamma=gamma)({WHOLE: seen}, targets([[1.0, 0.0], [1.0, 0.0]]), {})
    near(value, 250.0)  # (0 + 500) / 2
    value.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", [KullbackLeibler, Focal])
def test_sum_mean_and_companions(kind: type[Focal]) -> None:
    logits, soft = [[LN3, 0], [0, 9], [LN3, 0]], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    each = [one(kind(TASK, DIMS), [logits[i]], [soft[i]]).item() for i in (0, 2)]
    near(one(kind(TASK, DIMS, reduction="sum"), logits, soft, [1.0, 0.0, 1.0]), sum(each))
    near(one(kind(TASK, DIMS), logits, soft, [1.0, 0.0, 1.0]), sum(each) / 2)


@pytest.mark.parametrize("kind", [KullbackLeibler, Focal])
def test_segments_and_whole_are_both_looked_at(kind: type[Focal]) -> None:
    dims = Dims(frame=2, embedding=2, segments=PIECES)
    assert kind(TASK, dims).spans == (PIECES, WHOLE)
    assert kind(TASK, dims, at="segments").spans == (PIECES,)


@pytest.mark.parametrize(("kind", "hard"), [(KullbackLeibler, math.log(4)), (Focal, 9 / 16 * math.log(4))])
def test_segments_and_whole_are_added_and_an_uncut_row_counts_once(kind: type[Focal], hard: float) -> None:
    # row 0 has two segments and its whole, row 1 is its only segment; each posterior (3/4, 1/4), each label the second:
    # KL -ln 1/4, focal (3/4)^2 of it; three of row 0 and one of row 1, mean over two rows
    def seen(frames: list[int], owner: list[int], position: list[int]) -> View:
        rows = view([[LN3, 0]] * len(frames))
        cut = Padded(torch.zeros(len(frames), max(frames), 2), torch.tensor(frames))
        return View(cut, rows.embedding, rows.heads, torch.tensor(owner), torch.tensor(position))

    views = {WHOLE: seen([6, 3], [0, 1], [0, 0]), PIECES: seen([4, 4, 3], [0, 0, 1], [0, 1, 0])}
    loss = kind(TASK, Dims(frame=2, embedding=2, segments=PIECES))
    near(loss(views, targets([[0.0, 1.0]] * 2), {}), (3 + 1) * hard / 2)


# --- centre --------------------------------------------------------------------------------------------------------


def centred(points: Rows, soft: Rows, weight: Sequence[float] | None = None) -> Tensor:
    loss = Center(TASK, DIMS)
    loss.centers.data = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    value: Tensor = loss({WHOLE: view([[0.0, 0.0]] * len(points), points)}, targets(soft, weight), {})
    return value


def test_centre_loss_is_the_mean_squared_distance_without_a_half() -> None:
    # |(3, 4) - (1, 0)|^2 = 20 and |(1, 1) - (0, 2)|^2 = 2
    near(centred([[3.0, 4.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]), 11.0)


def test_centres_may_have_a_projection_that_the_classifier_does_not_read() -> None:
    loss = Center(TASK, DIMS, width=1)
    assert isinstance(loss.projection, nn.Linear)
    loss.projection.weight.data, loss.projection.bias.data = torch.tensor([[2.0, -1.0]]), torch.tensor([0.5])
    loss.centers.data = torch.tensor([[0.0], [1.0]])
    seen = view([[0.0, 0.0]], [[3.0, 4.0]])
    # 2 x 3 - 4 + 0.5 = 2.5, and (2.5 - 1)^2 = 2.25
    near(loss({WHOLE: seen}, targets([[0.0, 1.0]]), {}), 2.25)
    with pytest.raises(UsageError, match="width is 0"):
        Center(TASK, DIMS, width=0)


def test_a_mixed_row_belongs_to_its_dominant_class_and_a_companion_to_none() -> None:
    near(centred([[3.0, 4.0], [1.0, 1.0]], [[0.7, 0.3], [0.4, 0.6]]), 11.0)
    near(centred([[3.0, 4.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0]), 20.0)


def test_a_batch_of_companions_alone_is_at_no_distance_from_its_centres() -> None:
    near(centred([[3.0, 4.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), 0.0)


def test_embeddings_are_pulled_to_their_centres() -> None:
    loss = Center(TASK, DIMS)
    loss.centers.data = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    points = torch.tensor([[3.0, 4.0], [1.0, 1.0]], requires_grad=True)
    rows = torch.arange(2)
    seen = View(Padded(torch.zeros(2, 1, 2), rows), points, {}, rows, rows + 1)
    loss({WHOLE: seen}, targets([[1.0, 0.0], [0.0, 1.0]]), {}).backward()
    # 2 (z - c) / B: 2 ((3, 4) - (1, 0)) / 2 and 2 ((1, 1) - (0, 2)) / 2
    torch.testing.assert_close(points.grad, torch.tensor([[2.0, 4.0], [1.0, -1.0]]))


def test_a_centre_moves_at_its_own_rate_and_only_where_its_class_is_in_the_batch() -> None:
    loss = Center(TASK, DIMS, rate=0.01)
    assert {rate: [id(p) for p in own] for rate, own in loss.own_rate().items()} == {0.01: [id(loss.centers)]}
    assert list(Center(TASK, DIMS).own_rate()) == [5e-3]
    loss({WHOLE: view([[0.0, 0.0]], [[3.0, 4.0]])}, targets([[1.0, 0.0]]), {}).backward()
    assert loss.centers.grad is not None
    torch.testing.assert_close(loss.centers.grad[0], 2 * (loss.centers[0].detach() - torch.tensor([3.0, 4.0])))
    assert not loss.centers.grad[1].any()
    with pytest.raises(UsageError, match="rate is 0"):
        Center(TASK, DIMS, rate=0.0)


# --- supervised contrast of frames ---------------------------------------------------------------------------------


def plain(points: Tensor, classes: Tensor, tau: float) -> Tensor:
    """P2 eq. 10 as it is printed."""
    itself = torch.eye(len(points), dtype=torch.bool)
    log = (points @ points.T / tau).masked_fill(itself, -torch.inf).log_softmax(1)
    positive = (classes[:, None] == classes) & ~itself
    inner = log.masked_fill(~positive, 0.0).sum(1) / positive.sum(1).clamp(min=1)
    return -inner.mean()


def test_supcon_by_hand() -> None:
    # h = (1, 0), (1, 0), (0, 1), the first two of a class, tau 1: scores 1 (0-1) and 0 (0-2, 1-2)
    # rows 0 and 1: -(1 - ln(e + 1)) = 0.313262; row 2 has no positive: 0. Mean over three frames
    points = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    near(supcon(points, torch.tensor([0, 0, 1]), 1.0), 0.208841)
    # all of a class, tau 1/2: scores 2, 0, 0. Rows 0 and 1: -((2 + 0) / 2 - ln(e^2 + 1)) = 1.126928
    # row 2: -(0 - ln 2) = 0.693147
    near(supcon(points, torch.tensor([3, 3, 3]), 0.5), (2 * 1.126928 + 0.693147) / 3)


# sizes around a block of 512; scores of a wide range make every row find its own largest
@pytest.mark.parametrize("size", [2, 7, 512, 513, 1100])
@pytest.mark.parametrize(("tau", "scale"), [(0.07, 1.0), (0.005, 1.0), (0.07, 60.0)])
def test_supcon_is_the_plain_formulation_in_value_and_gradient(size: int, tau: float, scale: float) -> None:
    generator = torch.Generator().manual_seed(size)
    start = torch.randn(size, 8, generator=generator, dtype=torch.float64)
    start = scale * functional.normalize(start, dim=1) * torch.rand(size, 1, generator=generator, dtype=torch.float64)
    classes = torch.randint(0, 3, (size,), generator=generator)
    classes[0] = 4  # alone in its class; 3 is absent
    found = []
    for formulation in (supcon, plain):
        points = start.clone().requires_grad_()
        value = formulation(points, classes, tau)
        (3 * value).backward()
        assert points.grad is not None
        found.append((value.detach(), points.grad))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_supcon_gradient_is_that_of_differences() -> None:
    points = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    for tau in (0.5, 0.02):
        assert torch.autograd.gradcheck(lambda x, t=tau: supcon(x, torch.tensor([0, 0, 1, 1, 1, 2]), t), points)


@pytest.mark.parametrize("classes", [[0], [0, 1, 2]])
def test_supcon_without_a_positive_is_zero_with_a_gradient_path(classes: list[int]) -> None:
    points = torch.ones(len(classes), 2, requires_grad=True)
    value = supcon(points, torch.tensor(classes), 0.07)
    near(value, 0.0)
    value.backward()
    assert points.grad is not None
    assert not points.grad.any()


def test_context_broadcasting_is_half_the_frame_and_half_its_utterances_mean() -> None:
    # means of real frames (2, 0) and (5, 5); 99 is padding
    frames = torch.tensor([[[1.0, 1.0], [3.0, -1.0]], [[5.0, 5.0], [99.0, 99.0]]])
    wanted = torch.tensor([[1.5, 0.5], [2.5, -0.5], [5.0, 5.0]])
    padded = Padded(frames, torch.tensor([2, 1]))
    torch.testing.assert_close(broadcast(padded)[padded.mask], wanted)


def contrasted(frames: Padded, target: Target, **settings: Any) -> Tensor:  # noqa: ANN401
    """The loss with a projection that leaves frames as they are."""
    loss = FrameSupCon(TASK, DIMS, width=2, **settings)
    loss.projection.weight.data, loss.projection.bias.data = torch.eye(2), torch.zeros(2)
    rows = torch.arange(len(frames.length))
    value: Tensor = loss({WHOLE: View(frames, torch.zeros(len(rows), 2), {}, rows, rows)}, target, {})
    return value


# rows of 2, 1 and 2 frames of classes 0, 1 and 0, the middle one mixed; after eq. 9
FRAMES = Padded(
    torch.tensor([[[1.0, 1.0], [3.0, -1.0]], [[5.0, 5.0], [99.0, 9.0]], [[0.0, 2.0], [4.0, 2.0]]]),
    torch.tensor([2, 1, 2]),
)
TARGET = [[1.0, 0.0], [0.4, 0.6], [1.0, 0.0]]
SEEN = torch.tensor([[1.5, 0.5], [2.5, -0.5], [5.0, 5.0], [1.0, 2.0], [3.0, 2.0]])
CLASSES = torch.tensor([0, 0, 1, 0, 0])


@pytest.mark.parametrize("normalize", [True, False])
def test_frames_of_all_utterances_are_contrasted_padding_excluded(normalize: bool) -> None:
    points = functional.normalize(SEEN, dim=1) if normalize else SEEN
    near(contrasted(FRAMES, targets(TARGET), normalize=normalize, tau=0.5), plain(points, CLASSES, 0.5).item())


def test_companions_are_no_anchors_no_positives_and_no_contrasts() -> None:
    points, kept = functional.normalize(SEEN, dim=1), torch.tensor([0, 1, 2])
    expected = plain(points[kept], CLASSES[kept], 0.07).item()
    near(contrasted(FRAMES, targets(TARGET, [1.0, 1.0, 0.0])), expected)


def test_one_frame_alone_is_zero() -> None:
    near(contrasted(Padded(torch.ones(1, 1, 2), torch.tensor([1])), targets([[1.0, 0.0]])), 0.0)


def test_companions_alone_are_zero_with_a_gradient_path() -> None:
    frames = Padded(FRAMES.data.clone().requires_grad_(), FRAMES.length)
    value = contrasted(frames, targets(TARGET, [0.0, 0.0, 0.0]))
    near(value, 0.0)
    value.backward()
    assert frames.data.grad is not None
    assert not frames.data.grad.any()


def test_settings_of_the_contrast_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="tau is 0"):
        FrameSupCon(TASK, DIMS, tau=0.0)
    with pytest.raises(UsageError, match="width is 0"):
        FrameSupCon(TASK, DIMS, width=0)


# --- poolings ------------------------------------------------------------------------------------------------------


def test_flam_adds_the_attention_and_weighs_frames_by_w() -> None:
    pooling = FLAM(FrameSpec(2), heads=2)
    attention = pooling.attention
    attention.in_proj_weight.data.zero_()
    attention.in_proj_weight.data[4:] = torch.eye(2)  # queries and keys 0: all frames are heard alike
    attention.out_proj.weight.data = torch.eye(2)
    pooling.score.weight.data = torch.tensor([[LN3, 0.0]])
    frames, mask = torch.tensor([[[0.0, 1.0], [1.0, 3.0], [50.0, 50.0]]]), torch.tensor([[True, True, False]])
    embedding, refined = pooling(frames, mask)
    # MSA gives the mean (0.5, 2) to each: F' = (0.5, 3), (1.5, 5). F' w = ln 3 (0.5, 1.5): shares 1/4 and 3/4
    torch.testing.assert_close(refined, torch.tensor([[[0.5, 3.0], [1.5, 5.0], [0.0, 0.0]]]))
    torch.testing.assert_close(embedding, torch.tensor([[1.25, 4.5]]))


def test_flam_scores_the_frames_that_it_refined() -> None:
    pooling = FLAM(FrameSpec(1), heads=1)
    pooling.attention.in_proj_weight.data = torch.tensor([[LN3], [1.0], [4.0]])  # query, key, value
    pooling.attention.out_proj.weight.data = torch.ones(1, 1)
    pooling.score.weight.data = torch.tensor([[LN3 / 2]])
    frames, mask = torch.tensor([[[0.0], [1.0], [70.0]]]), torch.tensor([[True, True, False]])
    embedding, refined = pooling(frames, mask)
    # the first frame hears both alike, 4 (0 + 1) / 2; the second hears them as 1 : 3, 4 (0 + 3) / 4.
    # F' = (0 + 2, 1 + 3), F' w = ln 3 (1, 2): shares 1/4 and 3/4; scores of F itself would give 0.366 and 0.634
    torch.testing.assert_close(refined, torch.tensor([[[2.0], [4.0], [0.0]]]))
    torch.testing.assert_close(embedding, torch.tensor([[3.5]]))


def test_flam_has_16_heads_that_must_divide_the_width() -> None:
    assert FLAM(FrameSpec(1024), project=64).attention.num_heads == 16
    with pytest.raises(UsageError, match="heads is 16; it is a divisor of the frames' width 10: 1, 2, 5, 10"):
        FLAM(FrameSpec(10))


def test_the_first_frame_is_an_aggregation() -> None:
    frames = torch.arange(12.0).view(2, 3, 2)
    embedding, refined = First(FrameSpec(2))(frames, torch.ones(2, 3, dtype=torch.bool))
    assert torch.equal(embedding, frames[:, 0])
    assert refined is frames


# --- LAM, EAM without energy ---------------------------------------------------------------------------------------


def waves(rows: Sequence[Sequence[float]], label: int) -> Batch:
    """Rows of one class of two."""
    size = len(rows)
    soft = functional.one_hot(torch.full((size,), label), 2).float()
    padded = Padded.stack([torch.tensor(row) for row in rows]).fill(9.0)  # nobody may hear what lies in the padding
    ids = tuple(f"u{row}" for row in range(size))
    return Batch(ids, {"wave": padded}, Target(soft, torch.ones(size)), torch.zeros(size).long(), torch.arange(size))


def mixed(kind: type[LAM], own: Batch, other: Batch | None, probability: float) -> tuple[Padded, Tensor]:
    rng = Rng.for_rows(0, own.ids, own.copy.tolist(), 0, "test")
    made = kind(probability=probability)(own, rng, other)
    assert made.target is not None
    return made.inputs["wave"], made.target.soft


def test_lam_adds_halves_and_weighs_labels_by_length() -> None:
    own, other = waves([[2.0, 4.0], [2.0, 4.0, 6.0]], 0), waves([[1.0, 1.0, 1.0, 3.0], [7.0]], 1)
    wave, soft = mixed(LAM, own, other, 1.0)
    assert wave.length.tolist() == [4, 3]
    wanted = [[1.5, 2.5, 0.5, 1.5], [4.5, 2.0, 3.0, 0.0]]
    torch.testing.assert_close(wave.data, torch.tensor(wanted))
    torch.testing.assert_close(soft, torch.tensor([[2 / 6, 4 / 6], [3 / 4, 1 / 4]]))


def test_lam_leaves_a_row_that_chance_does_not_choose() -> None:
    own, other = waves([[2.0, 4.0]], 0), waves([[1.0, 1.0, 1.0]], 1)
    wave, soft = mixed(LAM, own, other, 0.0)
    assert wave.length.tolist() == [2]
    assert wave.data.tolist() == [[2.0, 4.0, 0.0]]
    assert soft.tolist() == [[1.0, 0.0]]
    size = 2000
    _, soft = mixed(LAM, waves([[1.0]] * size, 0), waves([[1.0]] * size, 1), 0.5)
    assert (soft[:, 1] > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_lam_needs_partners_and_a_probability() -> None:
    with pytest.raises(UsageError, match="'lam' mixes labelled training rows"):
        mixed(LAM, waves([[1.0]], 0), None, 1.0)
    with pytest.raises(UsageError, match="'lam': probability is 2"):
        LAM(probability=2.0)


def test_a_segment_without_energy_is_added_as_it_is_and_weighs_its_length() -> None:
    own, other = (Padded.stack([torch.tensor(x)]) for x in ([1.0, 1, 2, 2, 1, 1, 1, 1, 1, 1], [7.0, 3, 1, 7]))
    place = [torch.tensor([value]) for value in (2, -1, 2)]  # s_i, s_j - s_i, l_mix
    wave, share = overlay(own, other, *place, None, torch.tensor([True]))
    assert wave.data[0].tolist() == [1, 1, 5, 3, 1, 1, 1, 1, 1, 1]
    assert share.tolist() == pytest.approx([0.2])
    silent = Padded(torch.zeros(1, 4), torch.tensor([4]))  # adds nothing, so its label is not heard
    wave, share = overlay(own, silent, *place, None, torch.tensor([True]))
    assert torch.equal(wave.data, own.data)
    assert share.tolist() == [0.0]


def test_eam_leaves_energy_out_where_it_is_told_to() -> None:
    own, other = waves([[1.0] * 9] * 50, 0), waves([[100.0] * 9] * 50, 1)
    made = EAM(probability=1.0, energy=False)(own, Rng.for_rows(0, own.ids, own.copy.tolist(), 0, "test"), other)
    added = made.inputs["wave"].data - 1
    assert made.target is not None
    assert set(added.unique().tolist()) == {0.0, 100.0}
    torch.testing.assert_close(made.target.soft[:, 1], (added > 0).sum(1) / 9)


def test_a_partner_is_any_row_of_the_set_and_does_not_depend_on_the_batch() -> None:
    from sertk.training.loading import Rows

    def reader(chosen: Sequence[Utterance]) -> dict[str, Padded]:
        return {"wave": Padded.stack([torch.ones(4) for _ in chosen])}

    people = [Utterance(f"u{i}", f"u{i}.wav", "s", None) for i in range(20)]
    rows = Rows(people, torch.zeros(20, dtype=torch.long), 2, reader, seed=3, partners=1)  # type: ignore[arg-type]

    def drawn(places: list[int], epoch: int) -> tuple[str, ...]:
        item = rows[epoch, Plan(torch.tensor(places), {}, torch.ones(len(places)))]
        assert item.partners is not None
        return item.partners.ids

    assert drawn([7, 1, 3], 1)[0] == drawn([7], 1)[0] == drawn([2, 7], 1)[1]
    counts = Counter(name for epoch in range(200) for name in drawn([*range(20)], epoch))
    assert len(counts) == 20
    assert all(140 <= count <= 260 for count in counts.values())  # 200 expected, deviation 14


@pytest.mark.parametrize(("step", "power"), [(0, 0), (9, 0), (10, 1), (199, 19), (200, 20), (299, 20), (1000, 20)])
def test_the_rate_falls_by_an_eighth_an_epoch_to_the_twentieth(step: int, power: int) -> None:
    assert exponential(per_epoch=10, total=300)(step) == pytest.approx(0.875**power)


# --- weights by pilot ----------------------------------------------------------------------------------------------

LOSSES = [{"name": "kl"}, {"name": "focal", "weight": 0.5}, {"name": "center"}, {"name": "frame_supcon", "width": 8}]
POOLING = {"name": "flam", "project": 16, "heads": 4}


def train(data: Path, out: Path, system: str = "mini-cnn", **more: object) -> None:
    """A run of P2's parts on the embedded corpus."""
    from sertk.corpus.prepared import Data
    from sertk.settings import merge
    from sertk.stages.train import train as stage

    torch.set_num_threads(1)
    settings = {"protocol": "emobox", "fold": "1", "train.epochs": 2, "train.threads": 1, "train.workers": 0, **more}
    own = {"pilot": 3, "losses": LOSSES, "pooling": POOLING} if system == "mini-cnn" else {}
    document = merge.load(system, None, {**own, **settings})
    stage(document, Data(data), out)


def read(path: Path) -> Any:  # noqa: ANN401
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pilot") / "run"
    train(data, out)
    return out


def test_a_pilot_weighs_each_term_by_its_largest_value_and_says_so(run: Path) -> None:
    pilot = read(run / "pilot.json")
    assert pilot["batches"] == 3
    assert list(pilot["largest"]) == ["kl", "focal", "center", "frame_supcon"]
    own = {"focal": 0.5}
    for name, largest in pilot["largest"].items():
        assert pilot["weights"][name] == pytest.approx(own.get(name, 1.0) / largest)
    assert read(run / "model/bundle.json")["training"]["losses"] == pilot["weights"]
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for line in lines:
        total = sum(pilot["weights"][name] * value for name, value in line["terms"].items())
        assert line["train_loss"] == pytest.approx(total, rel=1e-5)
    assert all(value <= 1.5 * pilot["largest"][name] for name, value in lines[0]["terms"].items())


def test_the_system_of_row_15_trains_a_tiny_wavlm(data: Path, tmp_path: Path) -> None:
    from transformers import WavLMConfig, WavLMModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sizes |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "feat_extract_norm": "layer"}
    WavLMModel(WavLMConfig(**sizes, conv_dim=[8] * 7, do_stable_layer_norm=True)).save_pretrained(tmp_path / "tiny")
    backbone = {"name": "wavlm", "source": str(tmp_path / "tiny"), "normalize": True}
    train(data, tmp_path / "run", "p2-wavlm-eam-flam-all", backbone=backbone, pilot=2)
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    rates = [{"main": 1e-4 * factor, "rate=0.005": 5e-3 * factor} for factor in (1, 0.875)]
    assert [line["rates"] for line in log] == [pytest.approx(one) for one in rates]
    about = read(tmp_path / "run/model/bundle.json")["training"]["losses"]
    assert sorted(about) == sorted(log[0]["terms"]) == ["center", "focal", "frame_supcon", "kl"]


def test_nothing_of_a_pilot_remains_but_the_weights(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sertk.training import pilot

    plain = pilot._largest_terms
    seen: list[bool] = []

    def watched(self: Any, items: Any) -> Mapping[str, float]:  # noqa: ANN401
        state = {name: value.clone() for name, value in self.modules.state_dict().items()}
        generator = torch.random.get_rng_state()
        largest = plain(self, items)
        after = self.modules.state_dict()
        norms = [m for m in self.modules.modules() if isinstance(m, nn.BatchNorm2d)]
        seen.append(bool(norms) and all(torch.equal(value, after[name]) for name, value in state.items()))
        seen.append(torch.equal(generator, torch.random.get_rng_state()))
        seen.append(all(p.grad is None for p in self.modules.parameters()))
        return largest

    monkeypatch.setattr(pilot, "_largest_terms", watched)
    train(data, tmp_path / "run")
    assert seen == [True] * 3
    assert (tmp_path / "run/pilot.json").read_text() == (run / "pilot.json").read_text()
    assert (tmp_path / "run/log.jsonl").read_text() == (run / "log.jsonl").read_text()


def killed(data: Path, out: Path) -> None:
    """Trains, and dies right after the second checkpoint inside an epoch."""
    from sertk.training.state import Training

    save, saves = Training.save, []

    def dying(self: Training, *state: Any) -> None:  # noqa: ANN401
        save(self, *state)
        saves.append(1)
        if len(saves) == 2:
            os._exit(9)

    Training.save = dying  # type: ignore[method-assign]
    train(data, out, **{"train.checkpoint_steps": 1, "train.checkpoint_seconds": 0})


def test_a_resumed_run_has_the_weights_of_its_pilot_and_ends_with_the_same_bits(
    run: Path, data: Path, tmp_path: Path
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=killed, args=(data, tmp_path / "run"))
    process.start()
    process.join()
    assert process.exitcode == 9
    (tmp_path / "run/pilot.json").unlink()  # a second pilot would write it again
    train(data, tmp_path / "run", **{"train.checkpoint_steps": 1, "train.checkpoint_seconds": 0})
    assert not (tmp_path / "run/pilot.json").exists()
    weights = [read(path / "model/bundle.json")["training"]["losses"] for path in (run, tmp_path / "run")]
    assert weights[0] == weights[1]
    tensors = [(path / "model/model.safetensors").read_bytes() for path in (run, tmp_path / "run")]
    assert tensors[0] == tensors[1]


def test_a_refit_keeps_the_weights_of_the_selection(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "run", **{"train.refit": True, "train.epochs": 1})
    weights = read(tmp_path / "run/pilot.json")["weights"]
    assert read(tmp_path / "run/model/bundle.json")["training"]["losses"] == weights
    (line,) = [json.loads(text) for text in (tmp_path / "run/log-refit.jsonl").read_text().splitlines()]
    total = sum(weights[name] * value for name, value in line["terms"].items())
    assert line["train_loss"] == pytest.approx(total, rel=1e-5)


def test_a_term_that_is_zero_in_the_pilot_is_refused_by_name() -> None:
    from sertk.core import SertkError
    from sertk.training.loss import Mixture

    for value in (0.0, math.nan, math.inf):
        mixture = Mixture({"ce": CrossEntropy(TASK, DIMS), "center": Center(TASK, DIMS)}, {"ce": 1.0, "center": 1.0})
        with pytest.raises(SertkError, match=f"'center' was at most {value} in the pilot"):
            mixture.normalize({"ce": 1.0, "center": value})
        assert mixture.weights == {"ce": 1.0, "center": 1.0}


@pytest.mark.parametrize(
    ("pilot", "says"),
    [
        *((number, rf"pilot is {number}; it is at least 1, or null") for number in (0, -1)),
        *((odd, rf"pilot is {odd!r}\. It must be a whole number or null") for odd in (2.5, "many", True)),
    ],
)
def test_a_pilot_that_is_no_number_of_batches_is_refused(data: Path, tmp_path: Path, pilot: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        train(data, tmp_path / "run", pilot=pilot)

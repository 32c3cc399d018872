"""Losses and their mixture, against numbers worked by hand from the papers' equations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sertk.builtin.heads import Cosine
from sertk.builtin.losses.arcface import APFL, ArcFace
from sertk.builtin.losses.ce import CrossEntropy
from sertk.builtin.losses.contrastive import Contrastive
from sertk.builtin.losses.focal import Focal
from sertk.builtin.losses.triplet import Triplet
from sertk.core import WHOLE, At, Dims, Padded, Span, Target, Task, Terms, UsageError, View, Views
from sertk.plugins import Plugins
from sertk.settings.check import settings_of
from sertk.training.loss import make_mixture

TASK = Task(("anger", "sadness"), torch.tensor([6, 2]))
PIECES = Span(4, 2)
DIMS = Dims(frame=2, embedding=2, segments=PIECES)
UNCUT = Dims(frame=2, embedding=2)
LN3 = math.log(3)  # softmax (ln 3, 0) = (3/4, 1/4): losses -ln 3/4 = 0.287682 and -ln 1/4 = 1.386294

Rows = Sequence[Sequence[float]]
Spec = str | dict[str, Any]


def view(
    logits: Rows | Tensor | None = None,
    embedding: Rows | Tensor | None = None,
    owner: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
) -> View:
    """A view of windows; what is not given does not matter to the loss."""
    size = next(len(rows) for rows in (logits, embedding) if rows is not None)
    place = torch.tensor(range(size) if owner is None else owner)
    length = torch.tensor([1] * size if lengths is None else lengths)
    heads = {} if logits is None else {"emotion": torch.as_tensor(logits, dtype=torch.float32)}
    points = torch.zeros(size, 2) if embedding is None else torch.as_tensor(embedding, dtype=torch.float32)
    frames = Padded(torch.zeros(size, int(length.max()), 2), length)
    return View(frames, points, heads, place, torch.bincount(place)[place])


def labels(*classes: int, weight: Sequence[float] | None = None) -> Target:
    """One class a row."""
    hard = torch.tensor(classes)
    given = torch.ones(len(hard)) if weight is None else torch.tensor(weight, dtype=torch.float32)
    return Target(functional.one_hot(hard, 2).float(), given)


def near(value: Tensor, expected: float) -> None:
    """Whether a scalar loss is the number worked by hand."""
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, abs=1e-4)


# --- cross-entropy -------------------------------------------------------------------------------------------------


def test_cross_entropy_of_hard_labels_is_torchs() -> None:
    logits, target = torch.randn(7, 2, generator=torch.Generator().manual_seed(1)), labels(0, 1, 1, 0, 1, 0, 0)
    loss = CrossEntropy(TASK, UNCUT)({WHOLE: view(logits)}, target, {})
    torch.testing.assert_close(loss, functional.cross_entropy(logits, target.hard))


def test_cross_entropy_of_a_soft_label_is_the_labels_mean_of_the_log_losses() -> None:
    target = Target(torch.tensor([[0.25, 0.75]]), torch.ones(1))
    # 0.25 x 0.287682 + 0.75 x 1.386294
    near(CrossEntropy(TASK, UNCUT)({WHOLE: view([[LN3, 0]])}, target, {}), 1.111641)


def test_label_smoothing_is_torchs() -> None:
    logits, target = torch.tensor([[2.0, -1.0], [0.5, 0.3]]), labels(0, 1)
    loss = CrossEntropy(TASK, UNCUT, smoothing=0.1)({WHOLE: view(logits)}, target, {})
    torch.testing.assert_close(loss, functional.cross_entropy(logits, target.hard, label_smoothing=0.1))


def test_reduction_sums_or_averages_over_rows() -> None:
    views, target = {WHOLE: view([[LN3, 0], [LN3, 0]])}, labels(0, 1)
    near(CrossEntropy(TASK, UNCUT, reduction="sum")(views, target, {}), 0.287682 + 1.386294)
    near(CrossEntropy(TASK, UNCUT, reduction="mean")(views, target, {}), (0.287682 + 1.386294) / 2)


def test_rows_are_averaged_by_their_weights() -> None:
    # (2/3 x 0.287682 + 2 x 1.386294) / (2/3 + 2)
    views, target = {WHOLE: view([[LN3, 0], [LN3, 0]])}, replace(labels(0, 1), weight=torch.tensor([2 / 3, 2.0]))
    near(CrossEntropy(TASK, UNCUT)(views, target, {}), 1.111641)
    near(CrossEntropy(TASK, UNCUT, reduction="sum")(views, target, {}), 2.964376)


@pytest.mark.parametrize(("soft", "weight"), [([[1.0, 0.0], [0.0, 1.0]], (2 / 3, 2.0)), ([[0.5, 0.5]], (4 / 3,))])
def test_balanced_classes_weigh_by_the_inverse_of_their_size(soft: Rows, weight: tuple[float, ...]) -> None:
    # 6 and 2 of 8 training rows: weights 8 / (2 x 6) = 2/3 and 8 / (2 x 2) = 2, of a mixed row their mean
    mixture = make_mixture(Plugins(), settings_of({"losses": ["ce"], "class_weights": "balanced"}), TASK, UNCUT)
    target = Target(torch.tensor(soft), torch.ones(len(soft)))
    logits = torch.tensor([[LN3, 0.0], [LN3, 0.0]][: len(soft)])
    each = -(target.soft * logits.log_softmax(1)).sum(1)
    wanted = (each * torch.tensor(weight)).sum() / sum(weight)
    near(mixture({WHOLE: view(logits)}, target, {}).total, wanted.item())
    near(mixture.plain({WHOLE: view(logits)}, target)[0, 0], each.sum().item())  # a curve, whose rows count alike
    summed = settings_of({"losses": [{"name": "ce", "reduction": "sum"}], "class_weights": "balanced"})
    found = make_mixture(Plugins(), summed, TASK, UNCUT)({WHOLE: view(logits)}, target, {}).total
    near(found, (each * torch.tensor(weight)).sum().item())


def test_companions_stay_without_weight_where_classes_have_weights() -> None:
    mixture = make_mixture(Plugins(), settings_of({"losses": ["ce"], "class_weights": "balanced"}), TASK, UNCUT)
    views = {WHOLE: view([[LN3, 0], [5, 0]])}
    near(mixture(views, labels(0, 1, weight=[1, 0]), {}).total, 0.287682)


def test_a_class_without_training_rows_has_a_finite_weight() -> None:
    task = Task(("anger", "sadness"), torch.tensor([8, 0]))
    mixture = make_mixture(Plugins(), settings_of({"losses": ["ce"], "class_weights": "balanced"}), task, UNCUT)
    near(mixture({WHOLE: view([[LN3, 0]])}, labels(0), {}).total, 0.287682)


def test_a_window_that_lost_its_tail_is_not_the_utterance() -> None:
    # 5 frames cut 4:2:drop are one window of 4 frames: it counts beside the whole, 0.287682 + 1.386294
    views = {PIECES: view([[LN3, 0]], lengths=[4]), WHOLE: view([[0, LN3]], lengths=[5])}
    near(CrossEntropy(TASK, DIMS)(views, labels(0), {}), 1.673976)


def segmented() -> Views:
    """Row 0 is cut into two segments, row 1 is not cut: its one segment is itself."""
    segments = view([[LN3, 0], [0, 0], [0, LN3]], owner=[0, 0, 1], lengths=[4, 3, 2])
    return {PIECES: segments, WHOLE: view([[0, LN3], [0, LN3]], lengths=[5, 2])}


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        # row 0: 0.287682 + ln 2 = 0.693147 on segments, 1.386294 on the whole; row 1: 0.287682, however it is seen
        ("both", 0.287682 + 0.693147 + 1.386294 + 0.287682),
        ("auto", 0.287682 + 0.693147 + 1.386294 + 0.287682),
        ("segments", 0.287682 + 0.693147 + 0.287682),
        ("whole", 1.386294 + 0.287682),
    ],
)
def test_segments_and_whole_add_up_and_an_unsplit_utterance_counts_once(at: At, expected: float) -> None:
    loss = CrossEntropy(TASK, DIMS, at=at, reduction="sum")  # P3 eq. 3
    near(loss({span: segmented()[span] for span in loss.spans}, labels(0, 1), {}), expected)


def test_the_mean_is_over_rows_and_not_over_windows() -> None:
    near(CrossEntropy(TASK, DIMS)(segmented(), labels(0, 1), {}), 2.654805 / 2)


def test_companions_of_weight_zero_are_skipped_by_sum_and_mean() -> None:
    views, target = {WHOLE: view([[LN3, 0], [0, 9], [LN3, 0]])}, labels(0, 0, 1, weight=[1, 0, 1])
    near(CrossEntropy(TASK, UNCUT, reduction="sum")(views, target, {}), 0.287682 + 1.386294)
    near(CrossEntropy(TASK, UNCUT, reduction="mean")(views, target, {}), (0.287682 + 1.386294) / 2)


def test_a_batch_of_companions_alone_is_zero_with_a_gradient_path() -> None:
    logits = torch.ones(2, 2, requires_grad=True)
    loss = CrossEntropy(TASK, UNCUT)({WHOLE: view(logits)}, labels(0, 1, weight=[0, 0]), {})
    near(loss, 0.0)
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


# --- triplet -------------------------------------------------------------------------------------------------------


def test_triplet_on_wholes_is_the_mean_over_triplets_of_unsquared_distances() -> None:
    views = {WHOLE: view(embedding=[[0, 0], [3, 4], [6, 8]])}
    groups = {"triplet": torch.tensor([[0, 1, 2], [0, 2, 1]])}
    # distances from row 0: 5 and 10. max(0, 5 - 10 + 1) = 0 and max(0, 10 - 5 + 1) = 6
    near(Triplet(TASK, UNCUT)(views, labels(0, 0, 1), groups), 3.0)
    # margin 7: max(0, 5 - 10 + 7) = 2 and 10 - 5 + 7 = 12
    near(Triplet(TASK, UNCUT, margin=7.0)(views, labels(0, 0, 1), groups), 7.0)


def test_triplet_on_segments_compares_the_kth_with_the_kth_up_to_the_smallest_count() -> None:
    # three windows of the anchor, two of the positive, two of the negative
    # k = 0: 5 - 2 + 1 = 4; k = 1: max(0, 1 - 3 + 1) = 0; the anchor's third has no partner: mean 2
    points = [[0, 0], [0, 0], [9, 9], [3, 4], [0, 1], [0, 2], [0, 3]]
    views = {PIECES: view(embedding=points, owner=[0, 0, 0, 1, 1, 2, 2])}
    loss = Triplet(TASK, DIMS)
    assert loss.spans == (PIECES,)
    near(loss(views, labels(0, 0, 1), {"triplet": torch.tensor([[0, 1, 2]])}), 2.0)


def test_triplet_looks_at_wholes_where_it_is_told_to() -> None:
    assert Triplet(TASK, DIMS, at="whole").spans == (WHOLE,)
    assert Triplet(TASK, UNCUT).spans == (WHOLE,)


MINED = [[0, 0], [3, 4], [0, 1], [0, 2]]  # classes 0 0 1 1
FRAMES = [10, 20, 19, 11]
# anchor, positive -> the negative nearest to the POSITIVE in frames:
# 0, 1 (20) -> row 2 (19): 5 - 1 + 1 = 5            1, 0 (10) -> row 3 (11): 5 - sqrt(9 + 4) + 1 = 2.394449
# 2, 3 (11) -> row 0 (10): 1 - 1 + 1 = 1            3, 2 (19) -> row 1 (20): max(0, 1 - sqrt(13) + 1) = 0
MEAN = (5 + 2.394449 + 1 + 0) / 4


def test_triplet_mines_the_negative_nearest_in_length_to_the_positive() -> None:
    loss = Triplet(TASK, UNCUT, negatives="batch")
    near(loss({WHOLE: view(embedding=MINED, lengths=FRAMES)}, labels(0, 0, 1, 1), {}), MEAN)


def test_mining_does_not_depend_on_the_order_of_rows() -> None:
    order = [2, 0, 3, 1]
    shuffled = view(embedding=[MINED[i] for i in order], lengths=[FRAMES[i] for i in order])
    near(Triplet(TASK, UNCUT, negatives="batch")({WHOLE: shuffled}, labels(1, 0, 1, 0), {}), MEAN)


def test_negatives_of_one_length_and_one_sum_do_not_depend_on_the_order_either() -> None:
    points, loss = [[0, 0], [1, 1], [2, 0], [0, 2.5], [2.5, 0]], Triplet(TASK, UNCUT, negatives="batch")
    found = []
    for order in ([0, 1, 2, 3, 4], [0, 1, 2, 4, 3]):
        views = {WHOLE: view(embedding=[points[i] for i in order], lengths=[5] * 5)}
        found.append(loss(views, labels(0, 0, 0, 1, 1), {}).item())
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize("label", [0, 1])
def test_mining_passes_over_companions(label: int) -> None:
    # as long as row 1 and far away: it would be a positive of its class and the nearest negative of the other
    views = {WHOLE: view(embedding=[*MINED, [50, 0]], lengths=[*FRAMES, 20])}
    target = labels(0, 0, 1, 1, label, weight=[1, 1, 1, 1, 0])
    near(Triplet(TASK, UNCUT, negatives="batch")(views, target, {}), MEAN)


def test_mining_on_segments_measures_utterances_and_not_the_sum_of_their_segments() -> None:
    # windows of 8, hop 4. Row 1 has 9 frames (8 + 5 in windows), row 2 has 8 (8), row 3 has 11 (8 + 7): the negative of
    # (0, 1) is row 2, one frame shorter, at distance 1, not row 3, two frames longer, at distance 8
    span = Span(8, 4)
    owner, _, size = span.cut(torch.tensor([20, 9, 8, 11]))
    points = torch.tensor([[0.0, 0], [3, 4], [0, 1], [0, 8]])[owner]
    views = {span: view(embedding=points, owner=owner.tolist(), lengths=size.tolist())}
    # (0, 1) -> row 2: 5 - 1 + 1 = 5. (1, 0), 20 frames -> row 3: 5 - 5 + 1 = 1, since |(3, 4) - (0, 8)| = 5
    # (2, 3), 11 frames -> row 1: 7 - sqrt(9 + 9) + 1 = 3.757359. (3, 2), 8 frames -> row 1: 7 - 5 + 1 = 3
    loss = Triplet(TASK, Dims(frame=2, embedding=2, segments=span), negatives="batch")
    near(loss(views, labels(0, 0, 1, 1), {}), (5 + 1 + 3.757359 + 3) / 4)


@pytest.mark.parametrize("classes", [(0, 0, 0), (0, 1), (1,)])
def test_a_batch_without_a_triplet_gives_zero_with_a_gradient_path(classes: tuple[int, ...]) -> None:
    points = torch.ones(len(classes), 2, requires_grad=True)
    loss = Triplet(TASK, UNCUT, negatives="batch")({WHOLE: view(embedding=points)}, labels(*classes), {})
    near(loss, 0.0)
    loss.backward()
    assert points.grad is not None


def test_an_empty_list_of_triplets_gives_zero_with_a_gradient_path() -> None:
    points = torch.ones(2, 2, requires_grad=True)
    groups = {"triplet": torch.zeros(0, 3, dtype=torch.int64)}
    loss = Triplet(TASK, UNCUT)({WHOLE: view(embedding=points)}, labels(0, 1), groups)
    near(loss, 0.0)
    loss.backward()
    assert points.grad is not None


def test_triplet_gradients_are_finite_where_all_points_coincide() -> None:
    points = torch.ones(3, 2, requires_grad=True)
    groups = {"triplet": torch.tensor([[0, 1, 2]])}
    loss = Triplet(TASK, UNCUT)({WHOLE: view(embedding=points)}, labels(0, 0, 1), groups)
    near(loss, 1.0)  # the margin
    loss.backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def test_triplet_gradient_pulls_the_positive_and_pushes_the_negative() -> None:
    points = torch.tensor([[0.0, 0], [2, 0], [0, 1]], requires_grad=True)
    loss = Triplet(TASK, UNCUT)(
        {WHOLE: view(embedding=points)}, labels(0, 0, 1), {"triplet": torch.tensor([[0, 1, 2]])}
    )
    loss.backward()
    # d|a - p| = (-1, 0) for a, (1, 0) for p; -d|a - n| = (0, 1) for a, (0, -1) for n
    torch.testing.assert_close(points.grad, torch.tensor([[-1.0, 1], [1, 0], [0, -1]]))


# --- contrastive ---------------------------------------------------------------------------------------------------

PAIR = {"pair": torch.tensor([[0, 1]])}


def contrast(same: bool, points: Rows, **settings: Any) -> Tensor:  # noqa: ANN401
    """The loss of one pair."""
    loss = Contrastive(TASK, UNCUT, **settings)
    value: Tensor = loss({WHOLE: view(embedding=points)}, labels(0, 0 if same else 1), PAIR)
    return value


def test_type_1_pulls_by_one_minus_the_cosine_and_pushes_by_the_cosine_over_the_margin() -> None:
    points = [[2, 0], [3, 4]]  # cosine 3/5, whatever the lengths
    near(contrast(True, points), 0.4)
    near(contrast(False, points), 0.6)
    near(contrast(False, points, margin=0.5), 0.1)
    near(contrast(False, points, margin=0.7), 0.0)


def test_type_2_pulls_by_the_distance_and_pushes_below_the_margin_unsquared() -> None:
    points = [[0, 0], [0.36, 0.48]]  # distance 0.6
    near(contrast(True, points, distance="l2"), 0.6)
    near(contrast(False, points, distance="l2"), 0.4)
    near(contrast(False, points, distance="l2", margin=3.0), 2.4)
    near(contrast(False, points, distance="l2", margin=0.5), 0.0)


def test_contrast_is_taken_at_the_embedding_the_logits_or_the_posterior() -> None:
    both = {WHOLE: view([[LN3, 0], [0, 0]], embedding=[[0, 0], [3, 4]])}
    # (3/4, 1/4) to (1/2, 1/2): sqrt(1/16 + 1/16) = 0.353553; logits: ln 3; embedding: 5
    for on, expected in (("posterior", 0.353553), ("logits", 1.098612), ("embedding", 5.0)):
        near(Contrastive(TASK, UNCUT, distance="l2", on=on)(both, labels(0, 0), PAIR), expected)


def test_contrast_is_the_mean_over_pairs_and_leaves_an_unpaired_row_out() -> None:
    # positive pair with cosine 3/5: 0.4; negative pair with cosine 1: 1. Row 4 is in no pair
    points = [[2, 0], [3, 4], [1, 1], [2, 2], [-7, 5]]
    groups = {"pair": torch.tensor([[0, 1], [2, 3]])}
    near(Contrastive(TASK, UNCUT)({WHOLE: view(embedding=points)}, labels(1, 1, 0, 1, 0), groups), 0.7)


def test_no_pair_gives_zero_with_a_gradient_path() -> None:
    points = torch.ones(1, 2, requires_grad=True)
    groups = {"pair": torch.zeros(0, 2, dtype=torch.int64)}
    loss = Contrastive(TASK, UNCUT)({WHOLE: view(embedding=points)}, labels(0), groups)
    near(loss, 0.0)
    loss.backward()
    assert points.grad is not None


@pytest.mark.parametrize("distance", ["cosine", "l2"])
@pytest.mark.parametrize("classes", [(0, 0), (0, 1)])
def test_contrast_gradients_are_finite_where_the_points_coincide(
    distance: Literal["cosine", "l2"], classes: tuple[int, int]
) -> None:
    points = torch.ones(2, 2, requires_grad=True)
    loss = Contrastive(TASK, UNCUT, distance=distance)({WHOLE: view(embedding=points)}, labels(*classes), PAIR)
    loss.backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


# --- ArcFace -------------------------------------------------------------------------------------------------------

ARC = view([[6, 2]])  # s = 10: cosines 0.6 and 0.2, sines 0.8 and sqrt(0.96) = 0.979796
# class 0: cos(theta + 0.5) = 0.6 x 0.877583 - 0.8 x 0.479426 = 0.143009; ln(1 + exp(2 - 1.430091)) = 1.018163
# class 1: 0.2 x 0.877583 - 0.979796 x 0.479426 = -0.294223;              ln(1 + exp(6 + 2.942227)) = 8.942357


@pytest.mark.parametrize(("label", "expected"), [(0, 1.018163), (1, 8.942357)])
def test_arcface_turns_the_labels_angle_by_the_margin(label: int, expected: float) -> None:
    near(ArcFace(TASK, UNCUT, margin=0.5, scale=10.0)({WHOLE: ARC}, labels(label), {}), expected)


def test_arcface_of_a_soft_label_is_the_labels_mean_of_its_classes_losses() -> None:
    target = Target(torch.tensor([[0.25, 0.75]]), torch.ones(1))
    near(ArcFace(TASK, UNCUT)({WHOLE: ARC}, target, {}), 0.25 * 1.018163 + 0.75 * 8.942357)


def test_arcface_without_margin_is_cross_entropy_on_the_scaled_cosines() -> None:
    logits = 10 * torch.tensor([[0.9, -0.4], [-0.8, 0.1], [0.3, 0.3]])
    target = labels(0, 0, 1)
    loss = ArcFace(TASK, UNCUT, margin=0.0)({WHOLE: view(logits)}, target, {})
    torch.testing.assert_close(loss, functional.cross_entropy(logits, target.hard))


def test_arcface_past_pi_lowers_the_cosine_by_the_margin_times_its_sine() -> None:
    # theta = acos(-0.9) = 2.69, + 0.8 is past pi: -0.9 - 0.8 x sin 0.8 = -1.473885; ln(1 + exp(14.73885)) = 14.73885
    near(ArcFace(TASK, UNCUT, margin=0.8)({WHOLE: view([[-9, 0]])}, labels(0), {}), 14.73885)


def test_arcface_grows_with_the_angle_up_to_pi() -> None:
    angles = torch.linspace(0.01, math.pi - 0.01, 200)
    logits = torch.stack([10 * angles.cos(), torch.zeros(200)], 1)
    loss = ArcFace(TASK, UNCUT, margin=0.5)
    values = torch.stack([loss({WHOLE: view(row[None])}, labels(0), {}) for row in logits])
    assert (values.diff() > 0).all()


def test_arcface_gradients_are_finite_on_and_opposite_the_class_direction() -> None:
    logits = torch.tensor([[10.0, 0], [-10, 0]], requires_grad=True)
    ArcFace(TASK, UNCUT)({WHOLE: view(logits)}, labels(0, 0), {}).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_arcface_on_segments_sums_them_like_cross_entropy_and_skips_companions() -> None:
    # row 0: two segments (class 0: 1.018163 each) and the whole (1.018163); row 1, a companion, does not count
    segments = view([[6, 2], [6, 2], [2, 6]], owner=[0, 0, 1], lengths=[4, 3, 2])
    views = {PIECES: segments, WHOLE: view([[6, 2], [2, 6]], lengths=[5, 2])}
    near(ArcFace(TASK, DIMS)(views, labels(0, 0, weight=[1, 0]), {}), 3 * 1.018163)


def test_arcface_asks_for_a_cosine_head_of_its_scale() -> None:
    spec = ArcFace(TASK, UNCUT, scale=20.0).heads()["emotion"]
    assert (spec.kind, spec.out) == ("cosine", 2)
    head = Cosine(2, spec.out, **spec.settings)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[5.0, 0], [0, -2]]))
    # (3, 4) against the directions (1, 0) and (0, -1): cosines 3/5 and -4/5
    torch.testing.assert_close(head(torch.tensor([[3.0, 4.0]])), torch.tensor([[12.0, -16.0]]))


# --- APFL ----------------------------------------------------------------------------------------------------------

# of ARC: p = exp(-1.018163) = 0.361258 of class 0 and exp(-8.942357) = 0.000130735 of class 1


@pytest.mark.parametrize(
    ("label", "gamma", "expected"),
    [
        (0, 2.0, 0.415410),  # (1 - 0.361258)^2 = 0.407992, x 1.018163
        (0, 0.5, 0.813730),  # 0.638742^0.5 = 0.799214, x 1.018163
        (1, 2.0, 8.940019),  # 0.999869^2 = 0.999739, x 8.942357
    ],
)
def test_apfl_weighs_arcface_by_what_the_posterior_lacks(label: int, gamma: float, expected: float) -> None:
    near(APFL(TASK, UNCUT, gamma, margin=0.5)({WHOLE: ARC}, labels(label), {}), expected)


COSINES = 10 * torch.tensor([[0.9, -0.4], [-0.97, 0.1], [0.3, 0.3], [-0.6, 0.8]])
MIXED = Target(torch.tensor([[1.0, 0], [1, 0], [0.3, 0.7], [0, 1]]), torch.ones(4))


def test_apfl_without_focus_is_arcface() -> None:
    for margin in (0.0, 0.3, 0.5):  # the second row's angle is past pi with each but 0
        found = APFL(TASK, UNCUT, 0.0, margin)({WHOLE: view(COSINES)}, MIXED, {})
        assert torch.equal(found, ArcFace(TASK, UNCUT, margin)({WHOLE: view(COSINES)}, MIXED, {}))


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 5.0])
def test_apfl_without_margin_is_the_focal_loss_on_a_cosine_head(gamma: float) -> None:
    found = APFL(TASK, UNCUT, gamma, margin=0.0)({WHOLE: view(COSINES)}, MIXED, {})
    torch.testing.assert_close(found, Focal(TASK, UNCUT, gamma)({WHOLE: view(COSINES)}, MIXED, {}))
    assert APFL(TASK, UNCUT).heads()["emotion"].kind == "cosine"
    assert Focal(TASK, UNCUT).heads()["emotion"].kind == "linear"


def test_apfl_past_pi_lowers_the_cosine_by_the_margin_times_its_sine() -> None:
    # as of ArcFace: s cos = -14.73885, p = exp(-14.73885) = 3.97e-7, (1 - p)^2 = 1
    near(APFL(TASK, UNCUT, 2.0, 0.8)({WHOLE: view([[-9, 0]])}, labels(0), {}), 14.73884)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 5.0])
def test_apfl_gradients_are_finite_on_and_opposite_the_class_direction(gamma: float) -> None:
    logits = torch.tensor([[10.0, -10], [-10, 10], [10, 10]], requires_grad=True)
    APFL(TASK, UNCUT, gamma)({WHOLE: view(logits)}, labels(0, 0, 0), {}).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


# --- mixtures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins()


def weighed(plugins: Plugins, losses: list[Spec], alpha: float | None = None) -> Terms:
    """The terms of ce = 0.287682 and triplet = 6 on a fixed batch of one anchor and two companions."""
    mixture = make_mixture(plugins, settings_of({"losses": losses, "alpha": alpha}), TASK, UNCUT)
    assert mixture.sampler == "triplets"
    views = {WHOLE: view([[LN3, 0], [5, 5], [5, 5]], embedding=[[0, 0], [6, 8], [3, 4]])}
    terms: Terms = mixture(views, labels(0, 0, 1, weight=[1, 0, 0]), {"triplet": torch.tensor([[0, 1, 2]])})
    return terms


def test_a_mixture_is_the_weighted_sum_and_reports_its_terms_unweighted(plugins: Plugins) -> None:
    terms = weighed(plugins, [{"name": "ce", "weight": 0.5}, {"name": "triplet", "weight": 2.0}])
    near(terms.total, 0.5 * 0.287682 + 2 * 6)
    near(terms.terms["ce"], 0.287682)
    near(terms.terms["triplet"], 6.0)


def test_the_terms_that_are_reported_hold_no_graph(plugins: Plugins) -> None:
    mixture = make_mixture(plugins, settings_of({"losses": ["ce"]}), TASK, UNCUT)
    terms: Terms = mixture({WHOLE: view(torch.zeros(1, 2, requires_grad=True))}, labels(0), {})
    assert terms.total.requires_grad
    assert not terms.terms["ce"].requires_grad


def test_a_parameter_with_a_rate_of_its_own_is_not_among_the_others(plugins: Plugins) -> None:
    losses: list[Spec] = ["ce", {"name": "center", "rate": 0.01, "width": 3}]
    mixture = make_mixture(plugins, settings_of({"losses": losses}), TASK, UNCUT)
    own, others = mixture.rates()
    sizes = {rate: [tuple(one.shape) for one in parameters] for rate, parameters in own.items()}
    assert sizes == {0.01: [(2, 3)]}  # the centres
    assert [tuple(one.shape) for one in others] == [(3, 2), (3,)]  # the projection in front of them


def test_losses_weigh_one_each_by_default(plugins: Plugins) -> None:
    near(weighed(plugins, ["ce", "triplet"]).total, 0.287682 + 6)  # P3 eq. 1


def test_alpha_weighs_the_emotion_loss_by_its_complement(plugins: Plugins) -> None:
    near(weighed(plugins, ["triplet", "ce"], alpha=0.2).total, 0.8 * 0.287682 + 0.2 * 6)  # P3 eq. 4


def test_a_learned_alpha_begins_as_a_half_and_moves_to_the_smaller_term(plugins: Plugins) -> None:
    mixture = make_mixture(plugins, settings_of({"losses": ["triplet", "ce"], "alpha": "learned"}), TASK, UNCUT)
    assert mixture.weights == {"triplet": 0.5, "ce": 0.5}
    views = {WHOLE: view([[LN3, 0], [5, 5], [5, 5]], embedding=[[0, 0], [6, 8], [3, 4]])}
    batch = labels(0, 0, 1, weight=[1, 0, 0]), {"triplet": torch.tensor([[0, 1, 2]])}
    near(mixture(views, *batch).total, 0.5 * 0.287682 + 0.5 * 6)
    (w,) = mixture.rates()[1]  # the main optimizer has it
    with torch.no_grad():
        w.fill_(-LN3)  # alpha = 1 / (1 + 3)
    terms: Terms = mixture(views, *batch)
    near(terms.total, 0.75 * 0.287682 + 0.25 * 6)
    near(terms.terms["triplet"], 6.0)
    terms.total.backward()
    near(w.grad, 0.25 * 0.75 * (6 - 0.287682))  # up with the loss that alpha weighs: so w falls
    assert mixture.weights == {"triplet": pytest.approx(0.25), "ce": pytest.approx(0.75)}


def test_a_pilot_and_a_learned_alpha_go_together_as_with_a_fixed_one(plugins: Plugins) -> None:
    for alpha in (0.5, "learned"):
        mixture = make_mixture(plugins, settings_of({"losses": ["ce", "triplet"], "alpha": alpha}), TASK, UNCUT)
        mixture.normalize({"ce": 2.0, "triplet": 8.0})
        assert mixture.weights == {"ce": 0.25, "triplet": 0.0625}


def test_a_checkpoint_holds_a_learned_alpha_and_nothing_more_where_there_is_none(plugins: Plugins) -> None:
    fixed, learned = (
        make_mixture(plugins, settings_of({"losses": ["ce", "triplet"], "alpha": alpha}), TASK, UNCUT)
        for alpha in (0.5, "learned")
    )
    assert [*fixed.state_dict()] == ["weight"]
    assert learned.state_dict().keys() - fixed.state_dict().keys() == {"logit"}


@pytest.mark.parametrize(
    ("losses", "alpha", "says"),
    [
        (["ce", "triplet", "contrastive"], None, "cannot share a batch"),
        (["ce", {"name": "contrastive", "pairs": "balanced"}, "triplet"], None, "balanced_pairs"),
        (["ce", "arcface"], None, "wants the head 'emotion'"),
        (["ce", {"name": "ce", "weight": 0.3}], None, "named twice"),
        (["triplet"], None, "trains the emotion head"),
        (["ce"], 0.2, "alpha needs a second loss"),
        (
            ["ce", {"name": "triplet", "weight": 2}],
            0.2,
            "and 'triplet' has its own",
        ),
        (["ce"], "learned", "alpha needs a second loss"),
        (["ce", {"name": "triplet", "weight": 2}], "learned", "and 'triplet' has its own"),
    ],
)
def test_losses_that_cannot_go_together_are_an_error(
    plugins: Plugins, losses: list[Spec], alpha: float | str | None, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        make_mixture(plugins, settings_of({"losses": losses, "alpha": alpha}), TASK, UNCUT)


@pytest.mark.parametrize(
    ("spec", "sampler"),
    [
        ("triplet", "triplets"),
        ({"name": "triplet", "negatives": "batch"}, "shuffle"),
        ("contrastive", "pairs"),
        ({"name": "contrastive", "pairs": "balanced"}, "balanced_pairs"),
    ],
)
def test_a_mixture_asks_for_the_batches_of_its_one_particular_loss(plugins: Plugins, spec: Spec, sampler: str) -> None:
    assert make_mixture(plugins, settings_of({"losses": ["ce", spec]}), TASK, UNCUT).sampler == sampler


def test_a_mixture_looks_at_each_span_once(plugins: Plugins) -> None:
    mixture = make_mixture(plugins, settings_of({"losses": ["ce", {"name": "triplet", "at": "whole"}]}), TASK, DIMS)
    assert sorted(mixture.spans) == sorted([PIECES, WHOLE])


@pytest.mark.parametrize("at", ["segments", "both"])
def test_segments_are_an_error_where_the_run_has_none(at: At) -> None:
    with pytest.raises(UsageError, match="--segments"):
        CrossEntropy(TASK, UNCUT, at=at)

"""Windows over frames and crops of inputs: where they lie, what they hold, and how one decision is made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sertk.builtin import decisions
from sertk.core import (
    WHOLE,
    Batch,
    Crop,
    Feature,
    InputSpec,
    Output,
    Padded,
    Rng,
    Span,
    Tail,
    Target,
    UsageError,
    View,
)
from sertk.modeling.decide import Decider
from sertk.modeling.frontend import Frontend
from sertk.modeling.model import Normalize, cut

few = settings(max_examples=40, deadline=None)


# --- spans ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("140:70", Span(140, 70, "keep")),
        ("140:70:keep", Span(140, 70, "keep")),
        ("140:70:drop", Span(140, 70, "drop")),
        ("2.8s:1.4s", Span(140, 70, "keep")),  # one frame is 20 ms
        ("2.8s:1.4s:align", Span(140, 70, "align")),
        ("140:1.4s", Span(140, 70, "keep")),
        ("0.047s:0.033s", Span(2, 2, "keep")),  # 2.35 and 1.65 frames, to the nearest
    ],
)
def test_segments_are_read_in_frames_or_seconds(text: str, expected: Span) -> None:
    assert Span.parse(text, 0.02) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "140", "0:70", "140:0", "-140:70", "140:-70", "a:b", "1.5:1", "140:70:wrap", "140:70:", "1:1:keep:1"),
        *("s:s", "0.009s:1s", "nans:1s", "infs:1s"),
    ],
)
def test_what_is_no_segment_size_is_refused_with_the_frame_it_is_measured_in(text: str) -> None:
    with pytest.raises(UsageError, match=r"LENGTH:HOP.*0\.02 s"):
        Span.parse(text, 0.02)


@pytest.mark.parametrize(
    ("frames", "tail", "expected"),
    [
        *((3, tail, [(0, 3)]) for tail in ("keep", "drop", "align")),  # shorter than a window: itself
        *((4, tail, [(0, 4)]) for tail in ("keep", "drop", "align")),  # as long as a window: itself
        *((6, tail, [(0, 4), (2, 4)]) for tail in ("keep", "drop", "align")),  # nothing is left over
        (7, "keep", [(0, 4), (2, 4), (4, 3)]),
        (7, "drop", [(0, 4), (2, 4)]),
        (7, "align", [(0, 4), (2, 4), (3, 4)]),
        (5, "keep", [(0, 4), (2, 3)]),
        (5, "drop", [(0, 4)]),
        (5, "align", [(0, 4), (1, 4)]),
    ],
)
def test_windows_of_four_every_two_frames(frames: int, tail: Tail, expected: list[tuple[int, int]]) -> None:
    owner, start, size = Span(4, 2, tail).cut(torch.tensor([frames]))
    assert list(zip(start.tolist(), size.tolist(), strict=True)) == expected
    assert owner.tolist() == [0] * len(expected)


def test_windows_of_a_ragged_batch_are_sorted_by_owner_then_position() -> None:
    owner, start, size = Span(4, 2).cut(torch.tensor([7, 3, 6]))
    assert owner.tolist() == [0, 0, 0, 1, 2, 2]
    assert start.tolist() == [0, 2, 4, 0, 0, 2]
    assert size.tolist() == [4, 4, 3, 3, 4, 4]


def test_the_whole_is_one_window_a_row() -> None:
    owner, start, size = WHOLE.cut(torch.tensor([7, 3]))
    assert (owner.tolist(), start.tolist(), size.tolist()) == ([0, 1], [0, 0], [7, 3])


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def spans(*tails: Tail) -> st.SearchStrategy[Span]:
    """Spans without gaps between their windows."""
    sizes = st.integers(1, 12).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size)))
    return st.builds(lambda both, tail: Span(*both, tail), sizes, st.sampled_from(tails))


@few
@given(lengths, spans("keep", "align"))
def test_windows_cover_every_frame_and_no_other(frames: list[int], span: Span) -> None:
    seen: list[set[int]] = [set() for _ in frames]
    for owner, start, size in zip(*(x.tolist() for x in span.cut(torch.tensor(frames))), strict=True):
        seen[owner] |= set(range(start, start + size))
    assert seen == [set(range(n)) for n in frames]


@few
@given(lengths, spans("drop", "align"))
def test_dropped_and_aligned_windows_are_all_full(frames: list[int], span: Span) -> None:
    owner, start, size = span.cut(torch.tensor(frames))
    full = torch.tensor(frames)[owner].clamp(max=span.length)
    assert size.tolist() == full.tolist()
    assert (start + size <= torch.tensor(frames)[owner]).all()


@few
@given(lengths, spans("keep", "drop"))
def test_windows_start_on_multiples_of_the_hop(frames: list[int], span: Span) -> None:
    owner, start, _ = span.cut(torch.tensor(frames))
    for row in range(len(frames)):
        assert start[owner == row].tolist() == [span.hop * k for k in range(int((owner == row).sum()))]


def test_no_window_is_empty_where_the_hop_is_longer_than_the_window() -> None:
    _, start, size = Span(2, 5).cut(torch.tensor([4, 6, 8]))
    assert (start.tolist(), size.tolist()) == ([0, 0, 5, 0, 5], [2, 2, 1, 2, 2])


def test_aligned_windows_reach_the_end_where_the_hop_is_longer_than_the_window() -> None:
    owner, start, size = Span(4, 10, "align").cut(torch.tensor([9, 3, 25]))
    assert owner.tolist() == [0, 0, 1, 2, 2, 2, 2]
    assert start.tolist() == [0, 5, 0, 0, 10, 20, 21]
    assert size.tolist() == [4, 4, 3, 4, 4, 4, 4]


def test_windows_hold_their_frames_and_zeros_beyond_them() -> None:
    data = torch.tensor([[1.0, 2, 3, 4, 5], [6, 7, 8, 99, 99]])[..., None]  # the padding holds rubbish
    windows, owner, count = cut(Padded(data, torch.tensor([5, 3])), Span(4, 2))
    assert windows.data[..., 0].tolist() == [[1, 2, 3, 4], [3, 4, 5, 0], [6, 7, 8, 0]]
    assert windows.length.tolist() == [4, 3, 3]
    assert (owner.tolist(), count.tolist()) == ([0, 0, 1], [2, 2, 1])


def test_aligned_windows_end_with_their_row_and_not_with_the_batch() -> None:
    data = torch.arange(1.0, 15).view(2, 7, 1)
    windows, _, _ = cut(Padded(data, torch.tensor([7, 5])), Span(4, 2, "align"))
    assert windows.data[..., 0].tolist() == [[1, 2, 3, 4], [3, 4, 5, 6], [4, 5, 6, 7], [8, 9, 10, 11], [9, 10, 11, 12]]


def test_a_batch_shorter_than_the_window_is_its_own_window() -> None:
    windows, _, count = cut(Padded(torch.tensor([[[1.0], [2]]]), torch.tensor([2])), Span(140, 70))
    assert (windows.data[..., 0].tolist(), windows.length.tolist(), count.tolist()) == ([[1, 2]], [2], [1])


def test_the_whole_is_the_frames_themselves() -> None:
    frames = Padded(torch.rand(2, 5, 3), torch.tensor([5, 3]))
    windows, owner, count = cut(frames, WHOLE)
    assert windows is frames
    assert (owner.tolist(), count.tolist()) == ([0, 1], [1, 1])


# --- decisions -----------------------------------------------------------------------------------------------------


def view(posterior: Iterable[Iterable[float]], owner: list[int], output: Output = "softmax") -> View:
    """Windows with given posteriors."""
    logits = torch.tensor([list(row) for row in posterior]).log()
    place = torch.tensor(owner)
    size = len(place)
    frames = Padded(torch.zeros(size, 1, 1), torch.ones(size, dtype=torch.int64))
    return View(frames, torch.zeros(size, 1), {"emotion": logits}, place, torch.bincount(place)[place], output)


def rng(rows: int, epoch: int = 0) -> Rng:
    return Rng.for_rows(0, [str(row) for row in range(rows)], [0] * rows, epoch, "test")


def test_position_counts_the_windows_of_a_row() -> None:
    assert view([[1.0]] * 6, [0, 0, 0, 2, 2, 5]).position.tolist() == [0, 1, 2, 0, 1, 0]


def test_a_sigmoid_posterior_is_the_sigmoids_over_their_sum() -> None:
    # exp(logit) 1 and 3: sigmoids 1/2 and 3/4, sum 5/4
    torch.testing.assert_close(view([[1, 3]], [0], "sigmoid").posterior, torch.tensor([[0.4, 0.6]]))


def test_posteriors_of_extreme_values_are_distributions_or_not_finite() -> None:
    # e^-40 and 3 e^-40 as sigmoids: 1/4 and 3/4, though neither sums to anything that float32 tells from 0
    far = view([[1, 3]], [0], "sigmoid")
    logits = far.logits - 40
    made = replace(far, heads={"emotion": logits}).posterior
    torch.testing.assert_close(made, torch.tensor([[0.25, 0.75]]))
    values = torch.tensor([[torch.nan, 0.0, 1.0], [torch.inf, 0.0, 1.0], [3e38, 3e38, 3e38], [0.2, 0.3, 0.5]])
    frames, one = Padded(torch.zeros(4, 1, 1), torch.ones(4).long()), torch.ones(4).long()
    found = View(frames, torch.zeros(4, 1), {"emotion": values}, torch.arange(4), one, "linear").posterior
    assert not found[:2].isfinite().all(1).any()
    torch.testing.assert_close(found[3], values[3])


def test_a_linear_posterior_is_the_distribution_nearest_to_the_values() -> None:
    values = torch.tensor([[0.5, 0.3, 0.2], [2.0, 0.0, 0.1], [0.6, 0.6, -1.0], [-3.0, -3.5, -9.0], [0.9, 0.5, 0.0]])
    rows = len(values)
    frames, one = Padded(torch.zeros(rows, 1, 1), torch.ones(rows).long()), torch.ones(rows).long()
    windows = View(frames, torch.zeros(rows, 1), {"emotion": values}, torch.arange(rows), one, "linear")
    # a distribution is its own; else what is above 0 loses equally much: 1.0 of 2.0, 0.1 of 0.6, -3.75 and 0.2 of each
    expected = [[0.5, 0.3, 0.2], [1, 0, 0], [0.5, 0.5, 0], [0.75, 0.25, 0], [0.7, 0.3, 0]]
    torch.testing.assert_close(windows.posterior, torch.tensor(expected))


def test_mean_averages_the_posteriors_of_each_row() -> None:
    windows = view([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]], [0, 0, 1])
    torch.testing.assert_close(decisions.mean(windows, 2, rng(2)), torch.tensor([[0.6, 0.4], [0.1, 0.9]]))


def test_max_probability_takes_the_window_that_holds_the_highest() -> None:
    windows = view([[0.6, 0.4], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9], [0.95, 0.05]], [0, 0, 0, 1, 1])
    expected = torch.tensor([[0.2, 0.8], [0.95, 0.05]])
    torch.testing.assert_close(decisions.max_probability(windows, 2, rng(2)), expected)


def test_max_probability_takes_the_first_of_equals() -> None:
    windows = view([[0.5, 0.5], [0.25, 0.75], [0.75, 0.25], [0.25, 0.75]], [0, 0, 0, 0])
    torch.testing.assert_close(decisions.max_probability(windows, 1, rng(1)), torch.tensor([[0.25, 0.75]]))


def test_random_takes_any_window_of_its_row_and_the_same_one_again() -> None:
    rows = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.3, 0.7]]
    windows = view(rows, [0, 0, 0, 1, 1])
    drawn = torch.stack([decisions.random(windows, 2, rng(2, epoch))[:, 0] for epoch in range(60)])
    again = torch.stack([decisions.random(windows, 2, rng(2, epoch))[:, 0] for epoch in range(60)])
    assert torch.equal(drawn, again)
    assert sorted({round(value, 3) for value in drawn[:, 0].tolist()}) == [0.7, 0.8, 0.9]
    assert sorted({round(value, 3) for value in drawn[:, 1].tolist()}) == [0.3, 0.4]


def test_a_decision_merges_the_windows_of_all_crops_of_an_utterance() -> None:
    # crops 0 and 1 belong to utterance 0, crop 2 to utterance 1; crop 0 has two windows
    windows = view([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]], [0, 0, 1, 2])
    batch = Batch(("a", "a", "b"), {}, None, torch.zeros(3), torch.tensor([0, 0, 1]))
    posterior, logits = Decider(WHOLE, decisions.mean)({WHOLE: windows}, batch, 2, rng(2))
    torch.testing.assert_close(posterior, torch.tensor([[0.6, 0.4], [0.2, 0.8]]))
    expected = torch.tensor([[(0.9 * 0.6 * 0.3), (0.1 * 0.4 * 0.7)], [0.2**3, 0.8**3]]).log() / 3
    torch.testing.assert_close(logits, expected)


# --- crops ---------------------------------------------------------------------------------------------------------


class Steps(Feature):
    """A feature that is only asked for its width, its step and its silence."""

    width, silence = 1, -9.0

    def __init__(self, frame_seconds: float) -> None:
        self.frame_seconds = frame_seconds

    def __call__(self, inputs: Padded) -> Padded:
        raise AssertionError("the inputs are features already")


def counting(*sizes: int) -> Padded:
    """Row b holds 100 b, 100 b + 1, ...; its padding is rubbish."""
    data = torch.arange(max(sizes)) + 100.0 * torch.arange(len(sizes))[:, None]
    return Padded(data[..., None], torch.tensor(sizes)).fill(55.0)


def batch_of(*sizes: int, **more: Padded) -> Batch:
    rows = torch.arange(len(sizes))
    target = Target(torch.eye(len(sizes)), torch.ones(len(sizes)))
    inputs = {"x": counting(*sizes), **more}
    groups = {"pair": torch.tensor([[0, 1]])}
    return Batch(tuple(f"u{row}" for row in rows.tolist()), inputs, target, torch.zeros_like(rows), rows, groups)


Which = Literal["first", "all", "center", "random"]


def crops(batch: Batch, which: Which, pad: Literal["silence", "mean"] = "silence", epoch: int = 0) -> Batch:
    """The training crops of 0.4 s, 4 frames."""
    frontend = Frontend({"x": Steps(0.1)}, Crop(0.4, train=which, pad=pad), seed=3)
    return frontend(batch, epoch, train=True)


def content(batch: Batch) -> list[list[float]]:
    rows: list[list[float]] = batch.inputs["x"].data[..., 0].tolist()
    return rows


def test_the_first_crop_keeps_the_beginning_and_pads_with_silence() -> None:
    made = crops(batch_of(7, 2), "first")
    assert content(made) == [[0, 1, 2, 3], [100, 101, -9, -9]]
    assert made.inputs["x"].length.tolist() == [4, 4]  # silence is signal
    assert made.owner.tolist() == [0, 1]
    assert made.groups["pair"].tolist() == [[0, 1]]


def test_mean_padding_is_zero_after_normalisation() -> None:
    made = crops(batch_of(7, 2), "first", "mean").inputs["x"]
    assert made.length.tolist() == [4, 2]
    normalize = Normalize(1)
    normalize.fit([counting(7, 2)], scalar=False)  # frames 0 .. 6, 100, 101: mean 222 / 9
    assert normalize(made).data[1, 2:, 0].tolist() == [0, 0]
    assert normalize.mean.item() == pytest.approx(222 / 9)


def test_the_center_crop_leaves_equally_much_on_both_sides() -> None:
    assert content(crops(batch_of(8, 7, 3), "center")) == [[2, 3, 4, 5], [101, 102, 103, 104], [200, 201, 202, -9]]


def test_random_crops_lie_anywhere_inside_and_the_same_in_the_same_epoch() -> None:
    batch = batch_of(7, 2)
    seen = [content(crops(batch, "random", epoch=epoch)) for epoch in range(40)]
    assert {tuple(rows[0]) for rows in seen} == {tuple(range(s, s + 4)) for s in range(4)}
    assert all(rows[1] == [100, 101, -9, -9] for rows in seen)
    assert seen == [content(crops(batch, "random", epoch=epoch)) for epoch in range(40)]


def test_a_random_crop_does_not_depend_on_the_batch() -> None:
    batch = batch_of(9, 30)
    alone = batch.take(torch.tensor([1]))
    for epoch in range(5):
        assert content(crops(alone, "random", epoch=epoch))[0] == content(crops(batch, "random", epoch=epoch))[1]


def test_all_crops_cover_the_input_and_know_their_utterance() -> None:
    made = crops(batch_of(7, 4, 2), "all")
    assert content(made) == [[0, 1, 2, 3], [4, 5, 6, -9], [100, 101, 102, 103], [200, 201, -9, -9]]
    assert made.owner.tolist() == [0, 0, 1, 2]
    assert made.ids == ("u0", "u0", "u1", "u2")
    assert made.target is not None
    assert made.target.hard.tolist() == [0, 0, 1, 2]


def test_all_crops_may_overlap() -> None:
    frontend = Frontend({"x": Steps(0.1)}, Crop(0.4, hop=0.3, train="all"))
    assert content(frontend(batch_of(9, 2), train=True))[:3] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, -9]]
    assert content(frontend(batch_of(8, 2), train=True))[:2] == [[0, 1, 2, 3], [3, 4, 5, 6]]  # frame 7 alone is none


def test_training_and_scoring_choose_their_own_crops() -> None:
    frontend = Frontend({"x": Steps(0.1)}, Crop(0.4, train="center", score="all"))
    assert len(content(frontend(batch_of(8, 3), train=True))) == 2
    assert content(frontend(batch_of(8, 3))) == [[0, 1, 2, 3], [4, 5, 6, 7], [100, 101, 102, -9]]


def test_a_second_input_is_cut_at_the_same_seconds() -> None:
    batch = batch_of(8, 7, y=counting(16, 14))  # y has two frames for each of x
    frontend = Frontend({"x": Steps(0.1), "y": Steps(0.05)}, Crop(0.4, train="center"))
    made = frontend(batch, train=True)
    assert content(made) == [[2, 3, 4, 5], [101, 102, 103, 104]]
    assert made.inputs["y"].data[..., 0].tolist() == [list(range(4, 12)), list(range(102, 110))]


def test_the_backbone_is_told_the_fixed_length_of_its_crops() -> None:
    features = {"x": Steps(0.1), "y": Steps(0.05)}
    assert {name: spec.frames for name, spec in Frontend(features, Crop(0.4)).inputs().items()} == {"x": 4, "y": 8}
    assert Frontend(features, None).inputs()["x"] == InputSpec(1, 0.1)


def test_without_a_crop_the_inputs_stay_whole() -> None:
    batch = batch_of(7, 2)
    assert Frontend({"x": Steps(0.1)}, None)(batch, train=True).inputs["x"] is batch.inputs["x"]


def test_waves_become_features_before_they_are_cut() -> None:
    class Doubled(Steps):
        def __call__(self, inputs: Padded) -> Padded:
            return Padded(2 * inputs.data[..., None], inputs.length)

    waves: Tensor = torch.tensor([[1.0, 2, 3, 4, 5]])
    batch = Batch(("a",), {"wave": Padded(waves, torch.tensor([5]))}, None, torch.zeros(1), torch.zeros(1))
    assert content(Frontend({"x": Doubled(0.1)}, Crop(0.4))(batch)) == [[2, 4, 6, 8]]

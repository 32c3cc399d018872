"""Statistics of speakers, against numbers worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from sertk.core import Batch, Padded, Rng, UsageError
from sertk.modeling import build
from sertk.modeling.model import Normalize
from sertk.modeling.speakers import Speakers, Totals, moments, shrunk
from sertk.plugins import Plugins
from sertk.settings.check import settings_of

SPEAKERS = ("ann", "ben", "ann", None, "ann", "ben", "ann")  # four, two, and one of whom nobody is known


def padded(*rows: Sequence[Sequence[float]]) -> Padded:
    """Rows of frames; what is no frame is 77."""
    return Padded.stack([torch.tensor(row) for row in rows]).fill(77.0)


def streams(rows: Sequence[int], epoch: int = 1) -> Rng:
    return Rng.for_rows(3, [str(row) for row in rows], [0] * len(rows), epoch, "speakers")


def drawing(*draws: Any) -> Speakers:  # noqa: ANN401 - a number or "all"
    """Speakers whose utterance u has the mean 1 in dimension u, and 0 elsewhere: sums tell which were drawn."""
    marks = torch.eye(len(SPEAKERS), dtype=torch.float64)
    found = torch.cat([marks, marks, torch.ones(len(SPEAKERS), 1)], 1)
    return Speakers(SPEAKERS, {"x": found}, 10.0, draws)


def drawn(speakers: Speakers, rows: Sequence[int], epoch: int = 1) -> list[set[int]]:
    """The utterances that each row's statistics were made of, from its mean m = 1 / (10 + n) in their dimensions."""
    means = speakers(torch.tensor(rows), streams(rows, epoch))["x"][:, 0]
    sets = [set(mean.nonzero()[:, 0].tolist()) for mean in means]
    for mean, own in zip(means, sets, strict=True):
        torch.testing.assert_close(mean[sorted(own)], torch.full((len(own),), 1 / (10 + len(own))))
    return sets


def test_an_utterance_has_one_mean_and_mean_square_over_its_real_frames() -> None:
    found = moments(padded([[1.0, 2.0], [3.0, 2.0]], [[4.0, -1.0]]))
    assert found.tolist() == [[2, 2, 5, 4, 1], [4, -1, 16, 1, 1]]
    absent = Padded(torch.full((1, 2, 2), 77.0), torch.tensor([0]))
    assert moments(absent).tolist() == [[0] * 5]


def test_a_speaker_is_shrunk_towards_mean_0_and_deviation_1_by_the_number_of_its_utterances() -> None:
    # 3 and 5, and two more of mean 0 and mean square 1: mean 8 / 4, mean square (9 + 25 + 2) / 4, variance 9 - 4
    sums = moments(padded([[3.0]], [[5.0]])).sum(0, keepdim=True)
    assert shrunk(sums, 2.0).flatten().tolist() == [2, pytest.approx(5**0.5)]
    # one utterance of 3: 3 / 3 and (9 + 2) / 3 - 1
    assert shrunk(moments(padded([[3.0]])), 2.0).flatten().tolist() == [1, pytest.approx((8 / 3) ** 0.5)]
    assert shrunk(torch.zeros(1, 3), 2.0).flatten().tolist() == [0, 1]


def test_a_long_utterance_weighs_as_much_as_a_short_one() -> None:
    totals = Totals(["ann"], 1e-9)
    totals.add(["ann", "ann"], {"x": moments(padded([[0.0]] * 9, [[6.0]]))})
    assert totals.of(totals.numbers(["ann"]))["x"].flatten().tolist() == [pytest.approx(3), pytest.approx(3)]


def test_without_an_utterance_the_statistics_of_training_stay_to_the_bit() -> None:
    torch.manual_seed(0)
    x = Padded(torch.randn(5, 4, 3) * 7 - 100, torch.tensor([4, 1, 3, 4, 2]))
    normalize = Normalize(3)
    normalize.fit([x], scalar=False)
    totals = Totals(["ann"], 10.0)
    totals.add(["ann"], {"x": moments(normalize(x.take(torch.tensor([0]))))})
    own = totals.of(totals.numbers(["ann", None, "new", None, "ann"]))["x"]
    plain, made = normalize(x), normalize(x, own)
    assert torch.equal(made.data[1:4], plain.data[1:4])
    assert not torch.equal(made.data[0], plain.data[0])
    assert made.data[~made.mask].unique().tolist() == [0]


def test_two_speakers_that_differ_by_offset_and_scale_are_mapped_onto_each_other() -> None:
    torch.manual_seed(1)
    ann = torch.randn(6, 1, 4)
    x = Padded(torch.cat([ann, ann * 3 + 20]), torch.ones(12, dtype=torch.int64))
    normalize = Normalize(4)
    normalize.fit([x], scalar=False)
    names = ["ann"] * 6 + ["ben"] * 6
    for weight, same in ((1e-6, True), (1000.0, False)):
        totals = Totals(["ann", "ben"], weight)
        totals.add(names, {"x": moments(normalize(x))})
        first, second = normalize(x, totals.of(totals.numbers(names))["x"]).data.split(6)
        assert torch.allclose(first, second, atol=1e-4) == same


def test_all_utterances_of_a_speaker_are_taken_where_nothing_is_drawn() -> None:
    for speakers in (drawing(), drawing("all"), drawing(9)):
        assert drawn(speakers, range(7)) == [
            *({0, 2, 4, 6}, {1, 5}, {0, 2, 4, 6}, set(), {0, 2, 4, 6}, {1, 5}, {0, 2, 4, 6})
        ]


def test_a_row_draws_one_of_the_numbers_and_so_many_different_utterances_of_its_speaker() -> None:
    every = [drawn(drawing(1, 3), range(7), epoch) for epoch in range(60)]
    assert {len(own[0]) for own in every} == {1, 3}
    assert set().union(*(own[0] for own in every)) == {0, 2, 4, 6}  # itself among them
    assert all(own[1] <= {1, 5} and own[3] == set() for own in every)
    assert {len(own[1]) for own in every} == {1, 2}  # it has two
    assert len({frozenset(own[0]) for own in every if len(own[0]) == 1}) == 4
    assert [drawn(drawing(0), range(7)), drawn(drawing(0, 0), [3])] == [[set()] * 7, [set()]]


def test_what_is_drawn_follows_from_the_row_and_the_epoch_alone() -> None:
    torch.manual_seed(2)
    found = {"x": moments(Padded(torch.randn(7, 5, 3), torch.tensor([5, 1, 2, 3, 4, 5, 1])))}
    speakers = Speakers(SPEAKERS, found, 10.0, (1, 2, 3, "all"))
    whole = speakers(torch.arange(7), streams(range(7)))["x"]
    for rows in ([4], [6, 0, 1], [5, 5, 3, 2]):
        assert torch.equal(speakers(torch.tensor(rows), streams(rows))["x"], whole[rows])
    assert not torch.equal(speakers(torch.arange(7), streams(range(7), epoch=2))["x"], whole)


def test_speakers_of_whom_none_is_known_have_the_statistics_of_training() -> None:
    speakers = Speakers([None, None], {"x": torch.rand(2, 7).double()}, 10.0, (1, "all"))
    assert speakers(torch.tensor([1, 0, 1]), streams([1, 0, 1]))["x"].tolist() == [[[0.0] * 3, [1.0] * 3]] * 3


def test_an_input_that_an_utterance_lacks_counts_in_no_sum() -> None:
    text = Padded(torch.full((2, 1, 2), 6.0), torch.tensor([1, 0]))
    totals = Totals(["ann"], 1.0)
    totals.add(["ann", "ann"], {"wave": moments(padded([[2.0]], [[4.0]])), "text": moments(text)})
    made = totals.of(totals.numbers(["ann"]))
    assert made["wave"][0, 0].tolist() == [2]  # 6 / (1 + 2)
    assert made["text"][0, 0].tolist() == [3, 3]  # 6 / (1 + 1)
    assert totals.counts(["ann", "ben"]).tolist() == [2, 0]


def test_a_batch_takes_its_speakers_along() -> None:
    own = torch.arange(12.0).reshape(3, 2, 2)
    batch = Batch(("a", "b", "c"), {}, None, torch.zeros(3), torch.arange(3), speakers={"x": own})
    assert torch.equal(batch.take(torch.tensor([2, 2, 0])).speakers["x"], own[[2, 2, 0]])
    assert torch.equal(batch.to("cpu").speakers["x"], own)


LAM = {"augment": [{"name": "lam"}], "on_augment": "recompute"}


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        (
            {"inputs": {"wave": "wave"}, "backbone": {"name": "frames"}},
            "the input 'wave' goes into the backbone as it is. Freeze the encoder",
        ),
        ({"inputs": {"mel": "mel"}, "backbone": "frames", **LAM}, "which mixes two utterances: a mix has no speaker"),
    ],
)
def test_statistics_of_speakers_are_refused_where_they_mean_nothing(tree: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build.make_body(Plugins(), settings_of({**tree, "normalize": "speaker"}), train=True)


def sums(rows: Tensor) -> Tensor:
    return moments(Padded(rows, torch.full((len(rows),), rows.shape[1])))


def test_the_deviation_stays_above_the_share_of_training() -> None:
    # a hundred equal utterances far away: s^2 is k / (k + n) at least
    found = shrunk(sums(torch.full((100, 1, 2), 50.0)).sum(0, keepdim=True), 10.0)
    assert (found[0, 1] ** 2 > 10 / 110).all()

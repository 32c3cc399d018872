"""Calibration against scikit-learn and by hand, and accuracy where a model abstains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from sertk.core import Prediction, Scores, UsageError
from sertk.results.calibration import brier, coverage, decided_at, reliability

Make = Callable[..., Scores]
CLIPS = [
    ("1", None, "a", "a"),
    ("2", None, "a", "a"),
    ("3", None, "b", "a"),
    ("4", None, "c", "c"),
    ("5", None, "b", "c"),
]
POSTERIOR = [[0.6, 0.3, 0.1], [0.7, 0.2, 0.1], [0.65, 0.25, 0.1], [0.1, 0.0, 0.9], [0.0, 0.1, 0.9]]


def five(scores: Make) -> Scores:
    posterior = torch.tensor(POSTERIOR, dtype=torch.float64)
    return replace(scores(CLIPS, "abc"), prediction=Prediction(posterior, posterior.log()))


def drawn(scores: Make, size: int = 500) -> Scores:
    generator = torch.Generator().manual_seed(0)
    posterior = (2 * torch.randn(size, 3, generator=generator, dtype=torch.float64)).softmax(1)
    label = torch.multinomial(posterior.sqrt(), 1, generator=generator)[:, 0].tolist()
    decision = posterior.argmax(1).tolist()
    clips = [(str(row), None, "abc"[label[row]], "abc"[decision[row]]) for row in range(size)]
    return replace(scores(clips, "abc"), prediction=Prediction(posterior, posterior.log()))


def test_a_bin_has_its_upper_end_and_the_error_is_weighted_by_size(scores: Make) -> None:
    found = reliability(five(scores), bins=5)
    # (0.4, 0.6]: one, right; (0.6, 0.8]: 0.7 right and 0.65 wrong; (0.8, 1]: two of 0.9, one right
    assert found.low.tolist() == pytest.approx([0.4, 0.6, 0.8])
    assert found.size.tolist() == [1, 2, 2]
    assert found.confidence.tolist() == pytest.approx([0.6, 0.675, 0.9])
    assert found.accuracy.tolist() == [1, 0.5, 0.5]
    assert found.error == pytest.approx((0.4 + 2 * 0.175 + 2 * 0.4) / 5)


def test_a_certain_decision_is_in_the_last_bin_and_no_bin_is_refused(scores: Make) -> None:
    one = replace(five(scores), prediction=Prediction(torch.eye(3).double()[[0, 0, 0, 2, 2]], torch.zeros(5, 3)))
    found = reliability(one)
    assert found.low.tolist() == pytest.approx([14 / 15])
    assert found.error == pytest.approx(1 - 3 / 5)
    with pytest.raises(UsageError, match="bins is 0; it is at least 1"):
        reliability(one, 0)


def test_the_curve_is_scikit_learns(scores: Make) -> None:
    made = drawn(scores)
    sure, right = made.prediction.posterior.amax(1), made.decision == made.target.hard
    share, mean = calibration_curve(right.numpy(), sure.numpy(), n_bins=15)
    found = reliability(made)
    assert found.accuracy.tolist() == pytest.approx(share.tolist())
    assert found.confidence.tolist() == pytest.approx(mean.tolist())
    assert int(found.size.sum()) == 500


def test_brier_is_scikit_learns_and_by_hand(scores: Make) -> None:
    made = drawn(scores)
    expected = brier_score_loss(made.target.hard.numpy(), made.prediction.posterior.numpy(), scale_by_half=False)
    assert brier(made) == pytest.approx(expected)
    # 0.4² + 0.3² + 0.1² = 0.26, 0.14, 0.65² + 0.75² + 0.1² = 0.995, 0.02, 0.81 + 0.81
    assert brier(five(scores)) == pytest.approx((0.26 + 0.14 + 0.995 + 0.02 + 1.62) / 5)


def test_decisions_are_taken_from_the_surest_on_and_equals_together(scores: Make) -> None:
    found = coverage(five(scores))
    assert found.threshold.tolist() == pytest.approx([0.9, 0.7, 0.65, 0.6])
    assert found.coverage.tolist() == pytest.approx([2 / 5, 3 / 5, 4 / 5, 1])
    assert found.accuracy.tolist() == pytest.approx([1 / 2, 2 / 3, 2 / 4, 3 / 5])


def test_the_surest_are_counted_at_each_coverage_and_equals_together(scores: Make) -> None:
    found, counts = decided_at(five(scores), (20, 50, 70, 80, 100))
    # of five: 1, 3 (2.5), 4 (3.5), 4 and all; the two of 0.9 stay together
    assert found.threshold.tolist() == pytest.approx([0.9, 0.7, 0.65, 0.65, 0.6])
    assert found.coverage.tolist() == [2 / 5, 3 / 5, 4 / 5, 4 / 5, 1]
    assert found.accuracy.tolist() == pytest.approx([1 / 2, 2 / 3, 2 / 4, 2 / 4, 3 / 5])
    surest = [[0, 0, 0], [0, 0, 1], [0, 0, 1]]
    more = [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    most = [[1, 0, 0], [1, 0, 1], [0, 0, 1]]
    assert counts.tolist() == [surest, more, most, most, [[2, 0, 0], [1, 0, 1], [0, 0, 1]]]


def test_every_hundredth_of_drawn_posteriors_counts_what_is_as_sure(scores: Make) -> None:
    made = drawn(scores, 487)
    found, counts = decided_at(made, range(1, 101))
    sure = made.prediction.posterior.amax(1)
    for percent, least, share, own in zip(range(1, 101), found.threshold, found.coverage, counts, strict=True):
        kept = made.take(sure >= least)
        assert percent / 100 <= share < percent / 100 + 1 / 487
        assert torch.equal(own, kept.confusion)


def test_the_confidence_is_of_the_decision_that_was_made(scores: Make) -> None:
    flat = replace(
        five(scores),
        prediction=Prediction(torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64).expand(5, 3), torch.zeros(5, 3)),
    )
    assert coverage(flat).threshold.tolist() == pytest.approx(
        [0.5, 0.2]
    )  # decisions as the score lines say them: c twice, a thrice
    assert reliability(flat, 2).confidence.tolist() == pytest.approx([(2 * 0.5 + 3 * 0.2) / 5])

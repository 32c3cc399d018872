"""A system beside its annotators: counts and figures by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from sertk.core import Prediction, Scores
from sertk.plugins import Plugins
from sertk.results.annotators import agreement, annotator_lines, fit
from sertk.results.intervals import estimates
from sertk.results.measures import Measures
from sertk.results.systems import System
from sertk.results.units import units_of

Make = Callable[..., Scores]


def voted(
    scores: Make, votes: Sequence[Sequence[float]], decisions: str, rows: Sequence[Sequence[float]] = ()
) -> Scores:
    """Utterances of speaker s, all labelled a, with votes, decisions and posteriors."""
    made = scores([(f"u{number}", "s", "a", one) for number, one in enumerate(decisions)], "abc")
    posterior = torch.tensor(rows).double() if rows else made.prediction.posterior
    return replace(made, prediction=Prediction(posterior, posterior), votes=torch.tensor(votes).float())


def test_each_vote_is_compared_with_what_most_of_the_others_are_for(scores: Make) -> None:
    found = agreement(voted(scores, [[3, 0, 0], [2, 1, 0], [2, 1, 0], [1, 1, 0], [0.5, 2.5, 1]], "bbaab"))
    assert found is not None
    # two votes are too few, and halves are no votes of persons
    assert found.size == 3
    # 3 votes for a against a; 2 : 1 is, of the votes for a, a and b in equal parts, and of the vote for b a: twice
    assert found.people.tolist() == [[[3 + 1 + 1, 2, 0], [1 + 1, 0, 0], [0, 0, 0]]]
    # decided are b, b and a: a is the target 3, 2 and 2 times, b 0, 1 and 1 times
    assert found.system.tolist() == [[[2, 3 + 2, 0], [1, 1, 0], [0, 0, 0]]]


def test_three_classes_that_tie_are_shared(scores: Make) -> None:
    found = agreement(voted(scores, [[1, 1, 1]], "c"))
    assert found is not None
    assert found.people.tolist() == [[[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]]
    assert found.system.tolist() == [[[0, 0, 1], [0, 0, 1], [0, 0, 1]]]


def test_the_posterior_is_measured_against_the_shares_of_the_votes(scores: Make) -> None:
    rows = [[0.5, 0.25, 0.25], [0.25, 0.75, 0.0], [0.2, 0.2, 0.6]]
    found = fit(voted(scores, [[2, 2, 0], [0, 3, 0], [0, 0, 0]], "abc", rows))
    assert found is not None
    assert found.size == 2  # the third has no votes
    assert found.cross == pytest.approx((-0.5 * math.log(0.5) - 0.5 * math.log(0.25) - math.log(0.75)) / 2)
    assert found.entropy == pytest.approx(math.log(2) / 2)
    # a: shares 1/2 and 0, probabilities 1/2 and 1/4; b: shares 1/2 and 1, probabilities 1/4 and 3/4; c has no votes
    assert found.correlation == pytest.approx(1.0)
    turned = fit(voted(scores, [[2, 2, 0], [0, 3, 0]], "ab", [[0.5, 0.25, 0.25], [0.75, 0.25, 0.0]]))
    assert turned is not None
    assert turned.correlation == pytest.approx(-1.0)  # of a; the probabilities of b are the same
    certain = fit(voted(scores, [[0, 3, 0]], "a", [[1.0, 0.0, 0.0]]))
    assert certain is not None
    assert certain.cross == pytest.approx(-math.log(5e-7))
    assert math.isnan(certain.correlation)


def spoken(scores: Make, decisions: str, speakers: Sequence[str | None] = ()) -> Scores:
    """Two utterances each of six speakers, of labels a and b, with three votes for the label."""
    rows = [(f"u{number}", "s", "ab"[number % 2], one) for number, one in enumerate(decisions)]
    names = tuple(speakers or (f"s{number // 2}" for number in range(len(rows))))
    votes = torch.tensor([[3.0, 0, 0], [0, 3, 0]]).repeat(len(rows) // 2, 1)
    return replace(scores(rows, "abc"), speaker=names, votes=votes)


def test_intervals_are_by_speakers_and_of_the_difference_in_pairs(scores: Make, system: Callable[..., System]) -> None:
    own = spoken(scores, "abaabbbaaabb")
    measures = Measures(Plugins())
    measures.figures(own)
    lines = annotator_lines(system({("1", "0"): own}, name="probe"), measures)
    # all votes are for the label: so the decisions are scored as against the labels, with the same interval
    figure = estimates(units_of([system({("1", "0"): own})]), {"ua": measures["ua"].counted})["ua"]
    low, high, ua = (f"{100 * one:.1f}" for one in (figure.low, figure.high, figure.value))
    assert 0 < figure.low < figure.high < 1
    assert lines[2].endswith("| 100.0 (100.0 to 100.0) |")
    assert lines[3].endswith(f"| {ua} ({low} to {high}) |")
    # each draw of the difference is that of the decisions minus 100
    less = [f"{100 * one - 100:+.1f}".replace("+0.0", "0.0") for one in (figure.value, figure.low, figure.high)]
    assert lines[4].endswith(f"| {less[0]} ({less[1]} to {less[2]}) |")
    assert lines[6].endswith("ties are shared. In brackets 95 % intervals by 6 speakers.")


@pytest.mark.parametrize("lost", [0, 3])
def test_without_a_speaker_there_is_no_interval(scores: Make, system: Callable[..., System], lost: int) -> None:
    names = [None if number == lost else f"s{number // 2}" for number in range(12)]
    own = spoken(scores, "abaabbbaabab", names)
    measures = Measures(Plugins())
    measures.figures(own)
    lines = annotator_lines(system({("1", "0"): own}), measures)
    assert lines[6].endswith("No intervals: an utterance has no speaker, or the seeds have not the same utterances.")
    assert lines[2].endswith("| 100.0 |")
    # seeds of the same speakers and other utterances: one lacks the votes of the last
    whole = spoken(scores, "abaabbbaabab")
    assert whole.votes is not None
    other = replace(whole, votes=whole.votes * (torch.arange(12) < 11)[:, None])
    lines = annotator_lines(system({("1", "0"): whole, ("1", "1"): other}), measures)
    assert "the seeds have not the same utterances" in lines[6]


def test_the_lines_of_a_report_stand_side_by_side(scores: Make, system: Callable[..., System]) -> None:
    rows = [[0.5, 0.25, 0.25], [0.25, 0.75, 0.0]]
    runs = [voted(scores, [[3, 0, 0], [2, 1, 0]], decisions, rows) for decisions in ("aa", "bb")]
    made = system({("1", str(seed)): one for seed, one in enumerate(runs)}, name="probe")
    measures = Measures(Plugins())
    measures.figures(runs[0])
    assert annotator_lines(made, measures) == [
        "| against the other votes, n = 2 | WA | UA |",
        "|---|---|---|",
        # targets are a 5 and b 1 times; of the votes 4 and 0 are right. One seed has 5 and 0 right, the other 0 and 1
        "| a vote | 66.7 | 40.0 |",
        "| the decision of probe | 50.0 | 50.0 |",
        "| the decision minus a vote | -16.7 | +10.0 |",
        "",
        "Each vote of utterances with at least 3 votes for the classes is left out once; ties are shared. "
        "No intervals: 1 speaker is too few, at least 6 are needed.",
        "",
        # (log 2 + 2/3 log 4 + 1/3 log 4/3) / 2, and (log 3 - 2/3 log 2) / 2
        "The posterior against the votes of 2 utterances: cross-entropy 0.857 nats (the least possible is 0.318, the "
        "entropy of the votes); mean correlation of probability and share of votes 1.000.",
    ]
    bare = system({("1", "0"): scores([("u", "s", "a", "a")], "abc")})
    assert annotator_lines(bare, measures) == []

"""What to listen to: which utterances are chosen, what is said of them, and where their files are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sertk.core import Prediction, Scores
from sertk.results.listen import best, chosen, link, posterior_text
from sertk.results.systems import System

Make = Callable[..., Scores]


def test_wrong_ones_begin_with_the_surest_and_right_ones_with_the_least_sure(
    scores: Make, system: Callable[..., System]
) -> None:
    made = scores([("w1", "s", "a", "b"), ("r1", "s", "b", "b"), ("w2", None, "b", "a"), ("r2", "s", "a", "a")], "ab")
    sure = torch.tensor([[0.4, 0.6], [0.3, 0.7], [0.9, 0.1], [0.55, 0.45]]).double()
    made = replace(made, prediction=Prediction(sure, sure))
    (run,) = system({("1", "0"): made}, "ab").runs
    wrong, right = (list(chosen(run, made, right=one)) for one in (False, True))
    assert [one.id for one in wrong] == ["w2", "w1"]
    assert [one.id for one in right] == ["r2", "r1"]
    assert (wrong[0].label, wrong[0].decision, wrong[0].speaker, wrong[0].run) == ("b", "a", None, "fold 1, seed 0")
    assert wrong[0].posterior == "a 0.90, b 0.10"


def test_an_utterance_of_several_runs_comes_once_where_it_stands_out_most(
    scores: Make, system: Callable[..., System]
) -> None:
    made = scores([("x", "s", "a", "b")], "ab")
    found = []
    for seed, sure in (("0", 0.7), ("1", 0.9)):
        own = replace(made, prediction=Prediction(*[torch.tensor([[1 - sure, sure]]).double()] * 2))
        found += list(chosen(system({("1", seed): own}, "ab").runs[0], own, right=False))
    assert [(one.id, one.run) for one in best(found, right=False)] == [("x", "fold 1, seed 1")]
    assert [(one.id, one.run) for one in best(found, right=True)] == [("x", "fold 1, seed 0")]


def test_small_probabilities_are_told_together() -> None:
    said = posterior_text(torch.tensor([0.004, 0.2, 0.001, 0.795]), ["a", "b", "c", "d"])
    assert said == "d 0.80, b 0.20, 2 others below 0.01"
    assert posterior_text(torch.tensor([0.004, 0.996]), ["a", "b"]) == "b 1.00, 1 other below 0.01"


def test_a_link_is_relative_quoted_and_names_the_seconds_of_a_cut(tmp_path: Path) -> None:
    place, file = tmp_path / "exp/p/s", tmp_path / "a b#/ä?.wav"
    assert link(place, file, 0.0, None) == "../../../a%20b%23/%C3%A4%3F.wav"
    assert link(place, file, 0.0, 1.5).endswith("wav#t=0.000,1.500")
    assert link(place, file, 2.0, None).endswith("wav#t=2.000")

"""What to listen to: which utterances are chosen, what is said of them, and where their files are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sertk.core import Prediction, Scores
from sertk.results.listen import best, chosen, differing, link, posterior_text, surest
from sertk.results.runs import Run
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


def test_what_one_of_two_systems_has_right_and_the_other_wrong_begins_where_both_are_sure(
    scores: Make, system: Callable[..., System]
) -> None:
    def made(seed: str, sure: dict[str, tuple[str, float]]) -> tuple[Run, Scores]:
        """By id what is decided and how surely; ids are their labels with a number, in this order."""
        found = scores([(name, "s", name[0], one) for name, (one, _) in sure.items()], "ab")
        rows = [[value if cls == one else 1 - value for cls in "ab"] for one, value in sure.values()]
        own = replace(found, prediction=Prediction(*[torch.tensor(rows, dtype=torch.float64)] * 2))
        return system({("1", seed): own}, "ab").runs[0], own

    one = made("0", {"a1": ("a", 0.9), "a2": ("a", 0.7), "a3": ("a", 0.8), "b1": ("a", 0.6), "b2": ("b", 0.9)})
    two = made("0", {"b2": ("a", 0.8), "b1": ("b", 0.7), "a3": ("a", 0.9), "a2": ("b", 0.95), "a1": ("b", 0.6)})
    right = list(differing(*one, *two, ("x", "y"), right=True))
    # both sure: a1 by 0.6, a2 by 0.7, b2 by 0.8; both have a3 right, and b1 is right by y alone
    assert [one.id for one in right] == ["b2", "a2", "a1"]
    assert (right[1].system, right[1].decision, right[1].confidence) == ("x", "a", 0.7)
    assert right[1].rival is not None
    assert (right[1].rival.system, right[1].rival.decision, right[1].rival.confidence) == ("y", "b", 0.95)
    assert [one.id for one in differing(*one, *two, ("x", "y"), right=False)] == ["b1"]
    seed = [made("1", {"a1": (decision, 0.75)}) for decision in "ab"]
    every = surest([*right, *differing(*seed[0], *seed[1], ("x", "y"), right=True)])
    assert [(one.id, one.run) for one in every] == [
        ("b2", "fold 1, seed 0"),
        ("a1", "fold 1, seed 1"),
        ("a2", "fold 1, seed 0"),
    ]

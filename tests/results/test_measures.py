"""Metrics as they are run and shown: percent or plain, in order, and named when they fail."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sertk import hookspecs
from sertk.core import Metric, Prediction, Scores, SertkError, Target, UsageError
from sertk.plugins import Plugins, manager
from sertk.results.measures import Measure, Measures


def scores(posterior: torch.Tensor | None = None) -> Scores:
    """Three utterances of two classes, two decided rightly."""
    share = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]).double() if posterior is None else posterior
    none = (None,) * 3
    target, prediction = Target.of(torch.tensor([0, 1, 0]), 2), Prediction(share, share.log())
    return Scores(("u", "v", "w"), ("a", "b"), target, prediction, share.argmax(1), none, none, none, torch.ones(3))


def metric(give: Callable[[Scores], Any], **attributes: object) -> type[Metric]:
    return type("Made", (Metric,), {"__call__": lambda self, scores: give(scores), **attributes})


class Power(Metric):
    """With a setting."""

    better = "lower"
    range = (-1.0, math.inf)

    def __init__(self, power: int = 2) -> None:
        self.power = power

    def __call__(self, scores: Scores) -> float:
        return float(scores.prediction.posterior[:, 0].pow(self.power).sum())


def broken(scores: Scores) -> float:
    raise ZeroDivisionError("no utterance of class b")


def leave(scores: Scores) -> float:
    raise SystemExit(7)


FAILING: dict[str, tuple[Any, str]] = {
    "broken": (metric(broken), r"metric 'broken' of sertk 0.* fails \(ZeroDivisionError: no utterance of class b\)"),
    "leaving": (metric(leave), r"metric 'leaving' of sertk .* fails \(SystemExit: 7\)"),
    "whole": (metric(lambda _: 1), "metric 'whole' of sertk .* gave 1; expected a finite float"),
    "tensor": (metric(lambda _: torch.ones(2)), "gave a Tensor; expected a finite float"),
    "nan": (metric(lambda _: math.nan), "gave nan; expected a finite float"),
    "above": (metric(lambda _: 1.7), r"gave 1.7; its range is \(0.0, 1.0\)"),
    "below": (metric(lambda _: -1.001, range=(-1.0, 1.0)), r"gave -1.001; its range is \(-1.0, 1.0\)"),
    "endless": (metric(lambda _: -math.inf, range=(-math.inf, 0)), "gave -inf; expected a finite float"),
}
UNMADE: dict[str, tuple[Any, str]] = {
    "old": (lambda counts: 0.5, "metric 'old' of sertk .* is <function .*Make it a class that inherits from"),
    "sideways": (metric(lambda _: 0.5, better="left"), "metric 'sideways' of sertk .* has better = 'left'"),
    "backwards": (metric(lambda _: 0.5, range=(1, 0)), r"range = \(1, 0\)"),
    "pointless": (metric(lambda _: 0.5, range=3), "metric 'pointless' of sertk .* cannot be made"),
    "needy": (metric(lambda _: 0.5, __init__=lambda self, power: None), r"metric 'needy' needs power: .* \(of sertk 0"),
}


def guests() -> Plugins:
    source = manager()
    found = {name: made for name, (made, _) in (FAILING | UNMADE).items()} | {"power": Power}
    source.register(SimpleNamespace(sertk_metrics=hookspecs.hookimpl(lambda: found)), "lab")
    return Plugins(source)


GUESTS = guests()


def test_shares_are_in_percent_and_other_figures_plain() -> None:
    ua, power = Measure(GUESTS, "ua"), Measure(GUESTS, "power")
    assert ua(scores()) == 0.75
    assert (ua.text(0.75), ua.text(0.5, 0.75), ua.text(0.5, None), ua.text()) == ("75.00", "62.50 ± 12.50", "–", "–")
    assert (ua.title, ua.about) == ("UA", "percent, 0 to 100, higher is better")
    assert (power.text(1.01), power.text(1.5, 2.5)) == ("1.0100", "2.0000 ± 0.5000")
    assert (power.title, power.about) == ("power", "-1 to infinity, lower is better")


def test_a_correlation_is_no_share() -> None:
    source = manager()
    made = {"mcc": metric(lambda _: 0.5, range=(-1.0, 1.0))}
    source.register(SimpleNamespace(sertk_metrics=hookspecs.hookimpl(lambda: made)), "lab")
    mcc = Measure(Plugins(source), "mcc")
    assert (mcc.text(0.5), mcc.about) == ("0.5000", "-1 to 1, higher is better")


def test_settings_reach_a_metric() -> None:
    assert Measure(GUESTS, "power")(scores()) == pytest.approx(0.81 + 0.04 + 0.16)
    assert Measure(GUESTS, "power:power=1")(scores()) == pytest.approx(0.9 + 0.2 + 0.4)
    with pytest.raises(UsageError, match=r"metric 'power': power must be a whole number, got 'much' \(of sertk"):
        Measure(GUESTS, "power:power=much")


@pytest.mark.parametrize("name", FAILING)
def test_a_metric_that_fails_is_named(name: str) -> None:
    with pytest.raises(SertkError, match=FAILING[name][1]):
        Measure(GUESTS, name)(scores())


@pytest.mark.parametrize("name", UNMADE)
def test_what_cannot_be_a_metric_is_named(name: str) -> None:
    with pytest.raises(SertkError, match=UNMADE[name][1]):
        Measure(GUESTS, name)


KNOWN = ("wa", "ua", "precision", "recall", "f1", "power")


def test_all_metrics_come_ours_first_and_those_that_fail_are_named_once_and_skipped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    measures = Measures(GUESTS)
    for _ in range(2):
        figures = measures.figures(scores())
        assert not figures.keys() & (FAILING | UNMADE)
        known = {name: figures[name] for name in figures if name in KNOWN}  # those that are added later left out
        assert tuple(known) == KNOWN
    said = " ".join(capsys.readouterr().err.split())
    for name in FAILING | UNMADE:
        assert said.count(f"a metric is skipped: metric {name!r}") == 1
    assert [one.name for one in measures.shown] == list(figures)
    assert measures.words(known) == (
        "WA 66.67, UA 75.00, precision 75.00, recall 75.00, F1 66.67 (percent, 0 to 100, higher is better), "
        "power 1.0100 (-1 to infinity, lower is better)"
    )
    assert measures.legend.endswith("Percent, 0 to 100, higher is better. power: -1 to infinity, lower is better.")


def test_it_is_said_where_a_class_was_only_decided_and_counts_in_some_figures() -> None:
    whole, measures = scores(), Measures(Plugins())
    said = "lass that was decided and has no utterance counts as 0 in precision, recall and F1, and not in UA"
    assert said not in measures.words(measures.figures(whole)) + measures.legend
    measures.figure(measures["ua"], whole.take(torch.tensor([0, 2])))
    assert said not in measures.legend  # UA alone is shown
    figures = measures.figures(whole.take(torch.tensor([0, 2])))  # both a, and one of them decided as b
    assert (figures["ua"], figures["recall"]) == (0.5, 0.25)
    assert measures.words(figures).endswith(f"higher is better) (a c{said})")
    assert f"higher is better. A c{said}." in measures.legend


def test_a_metric_that_is_not_shown_is_had_by_its_name_alone() -> None:
    """A label loss depends on what was trained: no report has it unless it is asked for."""
    loss = Measure(GUESTS, "label_loss")
    # -ln 0.9, -ln 0.8, -ln 0.4
    assert loss(scores()) == pytest.approx((0.105361 + 0.223144 + 0.916291) / 3, abs=1e-6)
    assert (loss.shown, loss.text(0.414932), loss.about) == (False, "0.4149", "0 to infinity, lower is better")
    assert "label_loss" not in [one.name for one in Measures(GUESTS).all]


def test_what_a_metric_writes_to_its_scores_nobody_else_reads() -> None:
    def greedy(given: Scores) -> float:
        given.confusion.zero_()
        given.decision.zero_()
        given.target.soft.zero_()
        given.prediction.posterior.zero_()
        return 0.5

    source = manager()
    source.register(SimpleNamespace(sertk_metrics=hookspecs.hookimpl(lambda: {"a": metric(greedy)})), "lab")
    found, plugins = scores(), Plugins(source)
    assert found.confusion.tolist() == [[1, 1], [0, 1]]
    assert Measure(plugins, "a")(found) == 0.5
    assert Measure(plugins, "ua")(found) == 0.75
    assert found.confusion.tolist() == [[1, 1], [0, 1]]
    assert float(found.prediction.posterior.sum()) == pytest.approx(3)


def test_rounding_beyond_a_range_is_borne() -> None:
    source = manager()
    made = metric(lambda _: 1 + 1e-12)
    source.register(SimpleNamespace(sertk_metrics=hookspecs.hookimpl(lambda: {"a": made})), "lab")
    assert Measure(Plugins(source), "a")(scores()) == pytest.approx(1)

"""Our metrics against a hand-worked example and scikit-learn; and statistics of metrics over runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, precision_recall_fscore_support

from sertk.core import Prediction, Scores, Target
from sertk.core.files import write_jsonl
from sertk.plugins import Plugins
from sertk.results.measures import Measure, Measures
from sertk.results.runs import Run
from sertk.results.statistics import summarize, total_confusion
from sertk.results.systems import System

PLUGINS = Plugins()
NAMES = ("wa", "ua", "precision", "recall", "f1")
# 5 of a: 3 right, 2 called b; 2 of b: 1 right, 1 called c; no c; no d, and none called so
PAIRS = [("a", "a")] * 3 + [("a", "b")] * 2 + [("b", "b"), ("b", "c")]


def scores(pairs: list[tuple[str, str]], classes: str) -> Scores:
    """Of (label, decision)."""
    size, unknown = (len(pairs), len(classes)), (None,) * len(pairs)
    label, decision = (torch.tensor([classes.index(pair[side]) for pair in pairs]) for side in (0, 1))
    flat = torch.full(size, 1 / len(classes), dtype=torch.float64)
    return Scores(
        ids=tuple(f"u{row}" for row in range(len(pairs))),
        classes=tuple(classes),
        target=Target.of(label, len(classes)),
        prediction=Prediction(flat, torch.zeros_like(flat)),
        decision=decision,
        speaker=unknown,
        gender=unknown,
        session=unknown,
        seconds=torch.full((len(pairs),), math.nan, dtype=torch.float64),
    )


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("wa", 4 / 7),
        ("ua", (3 / 5 + 1 / 2) / 2),  # a and b occur in the reference
        ("recall", (3 / 5 + 1 / 2 + 0) / 3),  # c occurs in the decisions, d nowhere
        ("precision", (3 / 3 + 1 / 3 + 0) / 3),
        ("f1", (6 / 8 + 2 / 5 + 0) / 3),  # 2 x right / (reference + decisions)
    ],
)
def test_metrics_of_a_hand_worked_example(metric: str, expected: float) -> None:
    assert Measure(PLUGINS, metric)(scores(PAIRS, "abcd")) == pytest.approx(expected, abs=1e-12)


classes = st.integers(0, 4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(classes, classes), min_size=1, max_size=30))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_metrics_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, decided = zip(*pairs, strict=True)
    made = scores([(str(a), str(b)) for a, b in pairs], "01234")
    assert made.confusion.tolist() == confusion_matrix(truth, decided, labels=range(5)).tolist()
    macro = precision_recall_fscore_support(truth, decided, average="macro", zero_division=0)
    expected = (accuracy_score(truth, decided), balanced_accuracy_score(truth, decided), *macro[:3])
    assert [Measure(PLUGINS, name)(made) for name in NAMES] == pytest.approx(list(expected), abs=1e-6)


def test_of_right_decisions_all_are_1() -> None:
    figures = Measures(PLUGINS).figures(scores([("a", "a"), ("b", "b")], "abc"))
    assert {name: figures[name] for name in NAMES} == dict.fromkeys(NAMES, 1.0)


def run(folder: Path, fold: str, seed: int, counts: list[list[int]]) -> Run:
    """A run of two classes, as its files say it."""
    pairs = [
        (a, b) for a, row in zip("ab", counts, strict=True) for b, n in zip("ab", row, strict=True) for _ in [0] * n
    ]
    flat = {"posterior": [0.5, 0.5], "logits": [0.0, 0.0], "speaker": None}
    lines = [{"id": f"{fold}.{row}", "label": a, "decision": b, **flat} for row, (a, b) in enumerate(pairs)]
    write_jsonl(folder / f"{fold}.{seed}/scores.jsonl", lines)
    trained = {"corpus": "c", "protocol": "p", "fold": fold, "hash": "h", "system": "s", "settings": "x", "seed": seed}
    return Run(folder / f"{fold}.{seed}", {"classes": ["a", "b"], "confusion": counts, "protocol": {}}, trained)


def test_folds_are_pooled_in_both_ways(tmp_path: Path) -> None:
    # fold 1: recalls 4/4 and 0/2, UA 50; fold 2: 1/2 and 2/2, UA 75; pooled: 5/6 and 2/4, UA 66.67
    runs = [run(tmp_path, "1", 0, [[4, 0], [2, 0]]), run(tmp_path, "2", 0, [[1, 1], [0, 2]])]
    both = summarize(System("s", tmp_path, runs), Measure(PLUGINS, "ua"), Measures(PLUGINS))
    assert both.runs == [0.5, 0.75]
    assert both.folds == [pytest.approx(0.625)]
    assert both.pooled == [pytest.approx(2 / 3)]
    assert total_confusion(runs).tolist() == [[5, 1], [2, 2]]


def test_each_seed_is_summarized_by_itself(tmp_path: Path) -> None:
    runs = [run(tmp_path, "1", 0, [[4, 0], [2, 0]]), run(tmp_path, "1", 1, [[1, 1], [0, 2]])]
    both = summarize(System("s", tmp_path, runs), Measure(PLUGINS, "ua"), Measures(PLUGINS))
    assert both.folds == both.pooled == [pytest.approx(0.5), pytest.approx(0.75)]


def test_a_metric_that_fails_on_a_fold_has_no_mean_and_is_pooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run(tmp_path, "1", 0, [[4, 0], [0, 0]]), run(tmp_path, "2", 0, [[1, 1], [0, 2]])]
    measure, measures = Measure(PLUGINS, "wa"), Measures(PLUGINS)
    plain = measure._metric
    monkeypatch.setattr(
        measure, "_metric", lambda scores: plain(scores) if torch.all(scores.confusion.sum(1) > 0) else math.nan
    )
    both = summarize(System("s", tmp_path, runs), measure, measures)
    assert (both.runs, both.folds) == ([None, 0.75], [None])
    assert both.pooled == [7 / 8]

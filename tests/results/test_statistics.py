"""Metrics of confusion counts, against a hand-worked example and scikit-learn; and their statistics over runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, precision_recall_fscore_support

from sertk.builtin.metrics import f1, precision, recall, ua, wa
from sertk.plugins import Plugins
from sertk.results.runs import Run
from sertk.results.statistics import all_metrics, confusion, spread, summarize, total_confusion

CLASSES = ("a", "b", "c", "d")
# 5 of a: 3 right, 2 called b; 2 of b: 1 right, 1 called c; no c; no d, and none called so
PAIRS = [("a", "a")] * 3 + [("a", "b")] * 2 + [("b", "b"), ("b", "c")]


def test_confusion_has_labels_in_rows_and_decisions_in_columns() -> None:
    expected = [[3, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert confusion(PAIRS, CLASSES).tolist() == expected
    assert confusion([], CLASSES).tolist() == [[0] * 4] * 4


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (wa, 4 / 7),
        (ua, (3 / 5 + 1 / 2) / 2),  # a and b occur in the reference
        (recall, (3 / 5 + 1 / 2 + 0) / 3),  # c occurs in the decisions, d nowhere
        (precision, (3 / 3 + 1 / 3 + 0) / 3),
        (f1, (6 / 8 + 2 / 5 + 0) / 3),  # 2 x right / (reference + decisions)
    ],
)
def test_metrics_of_a_hand_worked_example(metric: object, expected: float) -> None:
    assert callable(metric)
    assert metric(confusion(PAIRS, CLASSES)) == pytest.approx(expected, abs=1e-6)


classes = st.integers(0, 4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(classes, classes), min_size=1, max_size=30))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_metrics_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, decided = zip(*pairs, strict=True)
    counts = confusion([(str(a), str(b)) for a, b in pairs], "01234")
    assert counts.tolist() == confusion_matrix(truth, decided, labels=range(5)).tolist()
    macro = precision_recall_fscore_support(truth, decided, average="macro", zero_division=0)
    expected = (accuracy_score(truth, decided), balanced_accuracy_score(truth, decided), *macro[:3])
    assert [metric(counts) for metric in (wa, ua, precision, recall, f1)] == pytest.approx(list(expected), abs=1e-6)


def test_all_metrics_are_all_registered_metrics_by_name() -> None:
    perfect = all_metrics(torch.eye(3, dtype=torch.int64), Plugins())
    assert perfect == dict.fromkeys(("f1", "precision", "recall", "ua", "wa"), 1.0)


def run(fold: str, seed: str, counts: list[list[int]]) -> Run:
    """A run of two classes."""
    metrics = all_metrics(torch.tensor(counts), Plugins())
    return Run(fold, seed, {"classes": ["a", "b"], "confusion": counts, "metrics": metrics}, Path())


def test_folds_are_pooled_in_both_ways() -> None:
    # fold 1: recalls 4/4 and 0/2, UA 50; fold 2: 1/2 and 2/2, UA 75; pooled: 5/6 and 2/4, UA 66.67
    runs = [run("1", "0", [[4, 0], [2, 0]]), run("2", "0", [[1, 1], [0, 2]])]
    both = summarize(runs, "ua", Plugins())
    assert both.folds == [pytest.approx(0.625)]
    assert both.pooled == [pytest.approx(2 / 3)]
    assert total_confusion(runs).tolist() == [[5, 1], [2, 2]]


def test_each_seed_is_summarized_by_itself() -> None:
    runs = [run("1", "0", [[4, 0], [2, 0]]), run("1", "1", [[1, 1], [0, 2]])]
    both = summarize(runs, "ua", Plugins())
    assert both.folds == both.pooled == [pytest.approx(0.5), pytest.approx(0.75)]


@pytest.mark.parametrize(("values", "text"), [([0.5], "50.00"), ([0.5, 0.75], "62.50 ± 12.50")])
def test_the_spread_over_seeds_is_that_of_the_population(values: list[float], text: str) -> None:
    assert spread(values) == text

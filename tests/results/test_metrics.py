"""Metrics of confusion counts, against a hand-worked example and scikit-learn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, precision_recall_fscore_support

from sertk.builtin.metrics import f1, precision, recall, ua, wa
from sertk.plugins import Plugins
from sertk.results import statistics as metrics

CLASSES = ("a", "b", "c", "d")
# 5 of a: 3 right, 2 called b; 2 of b: 1 right, 1 called c; no c; no d, and none called so
PAIRS = [("a", "a")] * 3 + [("a", "b")] * 2 + [("b", "b"), ("b", "c")]


def test_confusion_has_labels_in_rows_and_decisions_in_columns() -> None:
    expected = [[3, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert metrics.confusion(PAIRS, CLASSES).tolist() == expected
    assert metrics.confusion([], CLASSES).tolist() == [[0] * 4] * 4


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
    assert metric(metrics.confusion(PAIRS, CLASSES)) == pytest.approx(expected, abs=1e-6)


classes = st.integers(0, 4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(classes, classes), min_size=1, max_size=30))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_metrics_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, decided = zip(*pairs, strict=True)
    counts = metrics.confusion([(str(a), str(b)) for a, b in pairs], "01234")
    assert counts.tolist() == confusion_matrix(truth, decided, labels=range(5)).tolist()
    macro = precision_recall_fscore_support(truth, decided, average="macro", zero_division=0)
    expected = (accuracy_score(truth, decided), balanced_accuracy_score(truth, decided), *macro[:3])
    assert [metric(counts) for metric in (wa, ua, precision, recall, f1)] == pytest.approx(list(expected), abs=1e-6)


def test_figures_are_all_registered_metrics_by_name() -> None:
    perfect = metrics.figures(torch.eye(3, dtype=torch.int64), Plugins())
    assert perfect == dict.fromkeys(("f1", "precision", "recall", "ua", "wa"), 1.0)

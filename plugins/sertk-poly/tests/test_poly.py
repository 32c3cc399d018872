"""PolyLoss keeps the contracts of a loss, and gives the numbers of a hand calculation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sertk.core import WHOLE, Dims, Padded, Target, Task, View
from sertk.plugins import Plugins
from sertk.testing import Case, contracts


@pytest.mark.parametrize("check", contracts("loss", "poly"), ids=lambda check: check.id)
def test_contract(check: Case) -> None:
    check()


def poly(probabilities: Tensor, soft: Tensor, weight: Tensor, **settings: float) -> float:
    """The loss of rows with these class probabilities."""
    rows, classes = probabilities.shape
    loss = Plugins().make("loss", {"name": "poly", **settings}, Task(tuple("abc"[:classes])), Dims(1, 1))
    frames = Padded(torch.zeros(rows, 1, 1), torch.ones(rows, dtype=torch.int64))
    count = torch.ones(rows, dtype=torch.int64)
    view = View(frames, torch.zeros(rows, 1), {"emotion": probabilities.log()}, torch.arange(rows), count)
    return float(loss({WHOLE: view}, Target(soft, weight), {}))


def test_is_cross_entropy_and_what_the_label_lacks() -> None:
    found = poly(torch.tensor([[0.75, 0.25]]), torch.tensor([[0.0, 1.0]]), torch.ones(1))
    assert found == pytest.approx(math.log(4) + 0.75)


def test_epsilon_weighs_the_second_term() -> None:
    found = poly(torch.tensor([[0.75, 0.25]]), torch.tensor([[0.0, 1.0]]), torch.ones(1), epsilon=-0.5)
    assert found == pytest.approx(math.log(4) - 0.375)


def test_of_a_soft_label_is_the_mean_over_its_classes() -> None:
    found = poly(torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.5, 0.5, 0.0]]), torch.ones(1))
    # -log p: (ln 2 + ln 4) / 2; 1 - p: (0.5 + 0.75) / 2
    assert found == pytest.approx(1.5 * math.log(2) + 0.625)


def test_is_the_mean_over_rows_without_companions() -> None:
    rows = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]])
    found = poly(rows, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 1.0, 0.0]))
    assert found == pytest.approx((math.log(2) + 0.5 + math.log(4) + 0.75) / 2)

"""L1, Smooth L1, binary cross-entropy and their metric: against numbers worked by hand, and torch's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sertk.builtin.losses.bce import BinaryCrossEntropy
from sertk.builtin.losses.l1 import L1, SmoothL1
from sertk.builtin.losses.label import bce, l1, mapped, smooth_l1
from sertk.core import WHOLE, Dims, Output, Padded, Prediction, Scores, Span, Target, Task, UsageError, View
from sertk.plugins import Plugins

DIMS = Dims(frame=2, embedding=3)
LN3 = math.log(3)  # softmax (ln 3, 0) = (3/4, 1/4); sigmoid of ln 3 is 3/4, of 0 it is 1/2
LABEL = torch.tensor([[0.5, 0.5]])
LOGITS = torch.tensor([[LN3, 0.0]])


def task(classes: int = 2) -> Task:
    return Task(tuple("abcdefgh"[:classes]), torch.full((classes,), 5))


def view(logits: Tensor, owner: Tensor | None = None, length: Tensor | None = None) -> View:
    rows = torch.arange(len(logits)) if owner is None else owner
    length = torch.ones(len(rows), dtype=torch.int64) if length is None else length
    frames = Padded(torch.zeros(len(rows), int(length.max()), 2), length)
    return View(frames, torch.zeros(len(rows), 3), {"emotion": logits}, rows, torch.bincount(rows)[rows])


@pytest.mark.parametrize(
    ("output", "absolute", "smooth"),
    [
        # p = (3/4, 1/4): |d| = 1/4 twice; d^2 / 2 = 1/32 twice
        ("softmax", 0.25, 0.03125),
        # p = (3/4, 1/2), not divided by their sum: (1/4 + 0) / 2; (1/32 + 0) / 2
        ("sigmoid", 0.125, 0.015625),
        # p = (1.098612, 0): (0.598612 + 0.5) / 2; (0.179168 + 0.125) / 2
        ("linear", 0.549306, 0.152084),
    ],
)
def test_l1_and_smooth_l1_compare_each_value_of_the_output_map(output: Output, absolute: float, smooth: float) -> None:
    assert l1(LOGITS, LABEL, output).tolist() == pytest.approx([absolute], abs=1e-6)
    assert smooth_l1(LOGITS, LABEL, output).tolist() == pytest.approx([smooth], abs=1e-6)


def test_smooth_l1_is_straight_from_beta_on() -> None:
    # d = (0.25, 0.25), beta 0.1: 0.25 - 0.05
    assert smooth_l1(LOGITS, LABEL, beta=0.1).item() == pytest.approx(0.2)


def test_of_eight_classes_a_saturated_softmax_loses_a_quarter_of_its_errors_and_zeros_an_eighth() -> None:
    """P1 table 1: 0.142 on val is 0.25 (1 - 0.4331), for a wrong row is off by 1 in two of eight values."""
    truth = functional.one_hot(torch.zeros(471, dtype=torch.int64), 8).float()
    decided = (torch.arange(471) >= 204).long()  # 204 of 471 are right
    saturated = 100.0 * functional.one_hot(decided, 8)
    assert l1(saturated, truth).mean().item() == pytest.approx(0.25 * (1 - 204 / 471), abs=1e-6)
    assert round(l1(saturated, truth).mean().item(), 3) == 0.142
    assert l1(torch.zeros(3, 8), truth[:3], "linear").tolist() == pytest.approx([0.125] * 3)


def test_bce_of_the_base_rate_of_eight_classes() -> None:
    # -(1/8 ln 1/8 + 7/8 ln 7/8) = 0.259930 + 0.116840
    truth = functional.one_hot(torch.tensor([2, 7, 0]), 8).float()
    assert bce(torch.full((3, 8), math.log(1 / 7)), truth).tolist() == pytest.approx([0.376770] * 3, abs=1e-5)
    assert bce(torch.zeros(3, 8), truth, "softmax").tolist() == pytest.approx([0.376770] * 3, abs=1e-5)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        # -(ln 3/4 + ln 1/4) / 2 = 0.836988 for ln 3, ln 2 = 0.693147 for 0: their mean
        ("sigmoid", 0.765068),
        # p = (3/4, 1/4): 0.836988 for both
        ("softmax", 0.836988),
    ],
)
def test_bce_of_a_soft_label(output: Output, expected: float) -> None:
    assert bce(LOGITS, LABEL, output).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_bce_is_torchs_of_the_probabilities(output: Output) -> None:
    noise = torch.Generator().manual_seed(4)
    logits, label = (2 * torch.randn(5, 3, generator=noise, dtype=torch.float64) for _ in range(2))
    wanted = functional.binary_cross_entropy(mapped(logits, output), label.softmax(1), reduction="none").mean(1)
    torch.testing.assert_close(bce(logits, label.softmax(1), output), wanted)


SATURATED = torch.tensor([[100.0, -100.0, -100.0], [-100.0, 100.0, 0.0], [-100.0] * 3, [100.0] * 3])
EVERY: list[dict[str, Any]] = [
    *({"name": name, "output": output} for name in ("l1", "smooth_l1") for output in ("softmax", "sigmoid", "linear")),
    *({"name": "bce", "output": output} for output in ("sigmoid", "softmax")),
]


@pytest.mark.parametrize("spec", EVERY, ids=str)
def test_saturated_values_have_finite_losses_and_gradients(spec: dict[str, Any]) -> None:
    logits = SATURATED.clone().requires_grad_()
    target = Target(functional.one_hot(torch.tensor([1, 1, 0, 2]), 3).float(), torch.ones(4))
    loss = Plugins().make("loss", spec, task(3), DIMS)({WHOLE: view(logits)}, target, {})
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_softmax_bce_of_a_wrong_row_that_is_sure_still_pulls() -> None:
    logits = torch.tensor([[100.0, -100.0, -100.0]], requires_grad=True)
    # -ln p_1 = 200, -ln(1 - p_0) = 200 - ln 2, the third is right: (200 + 199.306853) / 3
    loss = bce(logits, torch.tensor([[0.0, 1.0, 0.0]]), "softmax")
    assert loss.item() == pytest.approx(133.102284, abs=1e-3)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] > 0.5


@pytest.mark.parametrize("spec", [*EVERY, {"name": "l1"}, {"name": "smooth_l1"}, {"name": "bce"}], ids=str)
def test_the_head_carries_the_output_map_that_the_loss_has(spec: dict[str, Any]) -> None:
    loss = Plugins().make("loss", spec, task(2), DIMS)
    head, output = loss.heads()["emotion"], spec.get("output", "sigmoid" if spec["name"] == "bce" else "softmax")
    assert (head.kind, head.out, head.output) == ("linear", 2, output)
    wanted = {"l1": l1, "smooth_l1": smooth_l1, "bce": bce}[spec["name"]](LOGITS, LABEL, output)
    torch.testing.assert_close(loss({WHOLE: view(LOGITS)}, Target(LABEL, torch.ones(1)), {}), wanted[0])


def test_windows_rows_and_companions_count_as_in_cross_entropy() -> None:
    pieces = Span(4, 2)
    logits = torch.tensor([[LN3, 0.0], [0.0, 0.0], [LN3, 0.0]])
    views = {
        pieces: view(logits, torch.tensor([0, 0, 1]), torch.tensor([4, 3, 2])),
        WHOLE: view(logits[:2], length=torch.tensor([5, 2])),
    }
    target = Target(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 0.0]))
    dims = Dims(frame=2, embedding=3, segments=pieces)
    # row 0: 1/4 and 1/2 on its segments, 1/4 on the whole; row 1 is a companion
    assert L1(task(), dims)(views, target, {}).item() == pytest.approx(1.0)
    # row 0: 1/32, 1/8 and 1/32; row 1, which is not cut and so counts once, as the whole: 1/8
    both = Target(target.soft, torch.ones(2))
    assert SmoothL1(task(), dims, reduction="sum")(views, both, {}).item() == pytest.approx(0.3125)
    # only wholes: (-ln 3/4 + ln 2) / 2 and ln 2 for row 1, whose values are 0
    loss = BinaryCrossEntropy(task(), dims, at="whole")(views, both, {})
    assert loss.item() == pytest.approx(((0.287682 + 0.693147) / 2 + 0.693147) / 2, abs=1e-5)


def test_a_batch_of_companions_alone_is_zero_with_a_gradient_path() -> None:
    logits = torch.ones(2, 2, requires_grad=True)
    loss = L1(task(), DIMS)({WHOLE: view(logits)}, Target(LABEL.expand(2, 2), torch.zeros(2)), {})
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


# --- the metric -----------------------------------------------------------------------------------------------------


def scores(logits: Tensor, label: Tensor) -> Scores:
    """Utterances of two classes, their labels in float32 and their values in float64, as in score lines."""
    none, posterior = (None,) * len(logits), logits.double().softmax(1)
    target = Target(label.float(), torch.ones(len(label)))
    return Scores(
        ids=tuple(map(str, range(len(logits)))),
        classes=("a", "b"),
        target=target,
        prediction=Prediction(posterior, logits.double()),
        decision=posterior.argmax(1),
        speaker=none,
        gender=none,
        session=none,
        seconds=torch.ones(len(logits)),
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # the first is right with 3/4, the second wrong with 3/4, the third has 1/2
        ({}, (0.287682 + 1.386294 + 0.693147) / 3),
        ({"of": "ce", "output": "softmax"}, (0.287682 + 1.386294 + 0.693147) / 3),
        ({"of": "l1"}, (0.25 + 0.75 + 0.5) / 3),
        ({"of": "smooth_l1"}, (0.03125 + 0.28125 + 0.125) / 3),
        # sigmoids 3/4 and 1/2 against (1, 0), 3/4 and 1/2 against (0, 1), 1/2 twice
        ({"of": "l1", "output": "sigmoid"}, (0.375 + 0.625 + 0.5) / 3),
        ({"of": "bce"}, ((0.287682 + 0.693147) / 2 + (1.386294 + 0.693147) / 2 + 0.693147) / 3),
        # of two classes it is cross-entropy
        ({"of": "bce", "output": "softmax"}, (0.287682 + 1.386294 + 0.693147) / 3),
    ],
)
def test_a_label_loss_is_measured_as_it_is_trained(settings: dict[str, Any], expected: float) -> None:
    found = scores(torch.tensor([[LN3, 0.0], [LN3, 0.0], [0.0, 0.0]]), torch.tensor([[1, 0], [0, 1], [1, 0]]))
    metric = Plugins().make("metric", {"name": "label_loss", **settings})
    assert metric(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("of", "output"), [("ce", "sigmoid"), ("bce", "linear")])
def test_a_label_loss_that_is_not_defined_is_refused(of: str, output: str) -> None:
    with pytest.raises(UsageError, match=f"metric 'label_loss': output is {output}; of {of} it is .*softmax, or null"):
        Plugins().make("metric", {"name": "label_loss", "of": of, "output": output})

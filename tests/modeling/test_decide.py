"""Which windows are decided, and how, where nothing is said."""

from __future__ import annotations

import math

import pytest
import torch

from sertk.builtin.decisions import max_probability, mean
from sertk.core import WHOLE, Dims, HeadSpec, Output, Rng, Span, UsageError
from sertk.modeling.decide import Decider, check_temperature, make_decider, of_logits, resolve_decision
from sertk.plugins import Plugins
from sertk.settings.check import settings_of

PIECES = Span(14, 7)
RNG = Rng.for_rows(0, ["one", "other"], [0, 0], 0, "decision")


def decided(
    temperature: float, windows: list[list[float]], owner: list[int], output: Output = "softmax"
) -> list[list[float]]:
    """The posterior of two utterances, by the mean of their windows."""
    decider = Decider(WHOLE, mean, temperature=temperature)
    found: list[list[float]] = decider.decide(of_logits(torch.tensor(windows), torch.tensor(owner), output), 2, RNG)[
        0
    ].tolist()
    return found


@pytest.mark.parametrize(
    ("segments", "decision", "name", "at"),
    [
        (None, "auto", "mean", "whole"),
        ("14:7", "auto", "max_probability", "segments"),
        ("14:7", "auto:at=whole", "mean", "whole"),
        ("14:7", "mean", "mean", "segments"),
        ("14:7", "mean:at=whole", "mean", "whole"),
        (None, "max_probability", "max_probability", "whole"),
    ],
)
def test_windows_and_decision_follow_from_the_segments_where_nothing_is_said(
    segments: str | None, decision: str, name: str, at: str
) -> None:
    settings = settings_of({"segments": segments, "decision": decision})
    spec = resolve_decision(settings)
    assert (spec.name, spec.at) == (name, at)
    decider = make_decider(Plugins(), settings, Dims(3, 5, segments=PIECES if segments else None))
    assert decider.span == (PIECES if at == "segments" else WHOLE)
    assert decider.decision == {"mean": mean, "max_probability": max_probability}[name]


def test_segments_cannot_be_decided_where_there_are_none() -> None:
    with pytest.raises(UsageError, match="at: segments needs windows, and the run has none"):
        resolve_decision(settings_of({"decision": "mean:at=segments"}))


# --- temperature -----------------------------------------------------------------------------------------------------


def test_a_temperature_divides_the_logits_of_each_window_and_the_logits_that_are_given_stay() -> None:
    # 9 to 1 and 1 to 4 become 3 to 1 and 1 to 2, whose mean is (3/4 + 1/3) / 2; 16 to 1 becomes 4 to 1
    windows = [[math.log(9), 0.0], [0.0, math.log(4)], [math.log(16), 0.0]]
    view = of_logits(torch.tensor(windows), torch.tensor([0, 0, 1]), "softmax")
    posterior, logits = Decider(WHOLE, mean, temperature=2.0).decide(view, 2, RNG)
    torch.testing.assert_close(posterior, torch.tensor([[13 / 24, 11 / 24], [4 / 5, 1 / 5]]))
    torch.testing.assert_close(logits, torch.tensor([[math.log(9) / 2, math.log(4) / 2], [math.log(16), 0.0]]))
    assert view.logits.tolist() == torch.tensor(windows).tolist()


def test_windows_together_are_tempered_too() -> None:
    values = torch.tensor([[math.log(9), 0.0], [0.0, math.log(4)]])
    posterior, logits = Decider(WHOLE, mean, temperature=2.0).together(values, "softmax", RNG.take(torch.tensor([0])))
    torch.testing.assert_close(posterior, torch.tensor([13 / 24, 11 / 24]))
    torch.testing.assert_close(logits, torch.tensor([math.log(9) / 2, math.log(4) / 2]))


def test_the_decision_of_one_window_stays_and_the_one_of_several_may_change() -> None:
    # one window is for the first class by 81 to 1, two for the second by 3 to 2
    windows = [[math.log(81), 0.0], [0.0, math.log(1.5)], [0.0, math.log(1.5)], [0.0, 0.1]]
    warm, cold = (decided(temperature, windows, [0, 0, 0, 1]) for temperature in (1.0, 0.1))
    # (81/82 + 2/5 + 2/5) / 3; at 0.1 the two are sure by 1.5 to the power of 10: (1 + 2 / 58.665) / 3
    assert warm[0] == pytest.approx([0.5959, 0.4041], abs=1e-4)
    assert cold[0] == pytest.approx([0.3447, 0.6553], abs=1e-4)
    assert all(row[1][1] > row[1][0] for row in (warm, cold))


def test_a_sigmoid_is_of_the_divided_logit() -> None:
    # sigmoids 1/2 and 3/4, and of the doubled logits 1/2 and 9/10
    logits = [[0.0, math.log(3)]] * 2
    assert decided(1.0, logits, [0, 1], "sigmoid")[0] == pytest.approx([0.4, 0.6])
    assert decided(0.5, logits, [0, 1], "sigmoid")[0] == pytest.approx([5 / 14, 9 / 14])


def test_a_temperature_of_one_changes_no_bit() -> None:
    logits = torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    owner = torch.tensor([0] * 4 + [1] * 7)
    view = of_logits(logits, owner, "softmax")
    assert torch.equal(Decider(WHOLE, mean).decide(view, 2, RNG)[0], mean(view, 2, RNG))


@pytest.mark.parametrize("temperature", [2.0, "fitted"])
def test_values_that_are_no_logits_have_no_temperature(temperature: object) -> None:
    settings = settings_of({"decision": {"name": "mean", "temperature": temperature}})
    with pytest.raises(UsageError, match=rf"decision.temperature is {temperature}, and .* \(output: linear\)"):
        check_temperature(settings, {"emotion": HeadSpec("linear", 3, output="linear")})
    check_temperature(settings, {"emotion": HeadSpec("linear", 3, output="sigmoid")})
    check_temperature(settings_of({}), {"emotion": HeadSpec("linear", 3, output="linear")})


def test_a_temperature_that_is_fitted_is_one_until_then() -> None:
    made = [settings_of({"decision": f"mean:temperature={value}"}) for value in ("fitted", 1.75)]
    assert [make_decider(Plugins(), settings, Dims(3, 5)).temperature for settings in made] == [1.0, 1.75]

"""Which windows are decided, and how, where nothing is said."""

from __future__ import annotations

import pytest

from sertk.builtin.decisions import max_probability, mean
from sertk.core import WHOLE, Dims, Span, UsageError
from sertk.modeling.decide import make_decider, resolve_decision
from sertk.plugins import Plugins
from sertk.settings.check import settings_of

PIECES = Span(14, 7)


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

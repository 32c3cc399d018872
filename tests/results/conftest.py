"""What the tests of statistics share: systems made of a few decisions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from sertk.core import Prediction, Scores, Target
from sertk.results.runs import Run
from sertk.results.systems import System

Clip = tuple[str, str | None, str, str]
"""Id, speaker, label, decision."""


def scores_of(clips: Sequence[Clip], classes: str, **columns: Sequence[str | None] | torch.Tensor) -> Scores:
    ids, speaker, label, decision = zip(*clips, strict=True)
    decided = torch.tensor([classes.index(one) for one in decision])
    posterior = torch.full((len(ids), len(classes)), 0.1, dtype=torch.float64)
    posterior[torch.arange(len(ids)), decided] = 1.1 - 0.1 * len(classes)
    unknown = (None,) * len(ids)
    return Scores(
        ids=ids,
        classes=tuple(classes),
        target=Target.of(torch.tensor([classes.index(one) for one in label]), len(classes)),
        prediction=Prediction(posterior, posterior.log()),
        decision=decided,
        speaker=speaker,
        **{
            "gender": unknown,
            "session": unknown,
            "seconds": torch.full((len(ids),), math.nan, dtype=torch.float64),
            **columns,
        },
    )


def system_of(runs: Mapping[tuple[str, str], Sequence[Clip] | Scores], classes: str = "abc", name: str = "s") -> System:
    """A system of runs by fold and seed."""
    made = []
    for (fold, seed), clips in sorted(runs.items()):
        run = Run(Path("nowhere"), {"protocol": {}}, {"corpus": None, "fold": fold, "seed": seed})
        run.__dict__["scores"] = clips if isinstance(clips, Scores) else scores_of(clips, classes)
        made.append(run)
    return System(name, Path("nowhere"), made)


def voices(right: Sequence[int], clips: int, classes: str = "abc") -> list[Clip]:
    """Speakers s0, s1, ... with so many clips, in turn of each class; the first so many are right."""
    return [
        (
            f"{speaker}.{clip}",
            f"s{speaker}",
            classes[clip % len(classes)],
            classes[(clip + (clip >= own)) % len(classes)],
        )
        for speaker, own in enumerate(right)
        for clip in range(clips)
    ]


@pytest.fixture
def scores() -> Callable[..., Scores]:
    return scores_of


@pytest.fixture
def system() -> Callable[..., System]:
    return system_of


@pytest.fixture
def voiced() -> Callable[..., list[Clip]]:
    return voices

"""Utterances to listen to: the surest wrong decisions and the least sure right ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import torch

from sertk.core import Scores
from sertk.corpus.prepared import Data
from sertk.results.runs import Run

MOST = 10
SHOWN = 0.005
"""A smaller probability is shown together with the others."""


class Heard(NamedTuple):
    """An utterance and what was decided of it.

    Attributes:
        id: Its id.
        label: Its label.
        decision: What was decided.
        confidence: The probability of the decision.
        posterior: All probabilities in words, the highest first.
        speaker: None where unknown.
        run: Fold and seed in words.
        source: The link to its file; "" where there is none.
        why: Why there is no link.
    """

    id: str
    label: str
    decision: str
    confidence: float
    posterior: str
    speaker: str | None
    run: str
    source: str = ""
    why: str = ""


def chosen(run: Run, scores: Scores, *, right: bool) -> Iterator[Heard]:
    """The least sure right decisions of a run, or its surest wrong ones, in this order.

    Args:
        run: The run.
        scores: Its scores, with the posterior read.
        right: Which of the two.
    """
    posterior, label = scores.prediction.posterior, scores.target.hard
    sure = posterior.gather(1, scores.decision[:, None])[:, 0]
    kept = ((scores.decision == label) == right).nonzero().flatten()
    order = sure[kept].argsort(descending=not right, stable=True)[:MOST]
    for row in kept[order].tolist():
        yield Heard(
            id=scores.ids[row],
            label=scores.classes[int(label[row])],
            decision=scores.classes[int(scores.decision[row])],
            confidence=float(sure[row]),
            posterior=posterior_text(posterior[row], scores.classes),
            speaker=scores.speaker[row],
            run=f"fold {run.fold}, seed {run.seed}",
        )


def best(found: Sequence[Heard], *, right: bool) -> list[Heard]:
    """Those of all runs together, each utterance once: in the run where it stands out most."""
    ordered = sorted(found, key=lambda one: one.confidence if right else -one.confidence)
    first: dict[str, Heard] = {}
    for one in ordered:
        first.setdefault(one.id, one)
    return list(first.values())[:MOST]


def located(found: Sequence[Heard], data: Data, place: Path) -> list[Heard]:
    """The same with links to their files, or why there is none.

    Args:
        found: The utterances.
        data: The corpus that was prepared.
        place: The folder of the page.
    """
    return [_located(one, data, place) for one in found]


def _located(one: Heard, data: Data, place: Path) -> Heard:
    if one.id not in data.utterances:
        return one._replace(why=f"no such utterance in {data.folder.name}")
    file, facts = data.root / data.utterances[one.id].path, data.facts[one.id]
    if not file.is_file():
        return one._replace(why="its file is not where it was prepared")
    return one._replace(source=link(place, file, facts.start, facts.asked))


def posterior_text(posterior: torch.Tensor, classes: Sequence[str]) -> str:
    """Probabilities in words, the highest first; those that round to 0.00 together."""
    order = posterior.argsort(descending=True, stable=True).tolist()
    shown = [f"{classes[number]} {posterior[number]:.2f}" for number in order if posterior[number] >= SHOWN]
    rest = len(classes) - len(shown)
    return ", ".join([*shown, *[f"{rest} other{'s' * (rest > 1)} below 0.01"] * (rest > 0)])


def link(place: Path, file: Path, start: float, duration: float | None) -> str:
    """A link from a folder to an audio file, and to the seconds of the utterance in it.

    Args:
        place: The folder of the page.
        file: The file.
        start: Seconds.
        duration: Seconds; None for the rest of the file.

    Returns:
        A relative link.
    """
    path = quote(Path(os.path.relpath(file.resolve(), place.resolve())).as_posix())
    end = "" if duration is None else f",{start + duration:.3f}"
    return path if not start and duration is None else f"{path}#t={start:.3f}{end}"

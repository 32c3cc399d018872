"""Utterances to listen to: the surest wrong decisions, the least sure right ones, those that two systems differ on."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import soundfile
import torch

from sertk.core import InputError, Scores
from sertk.corpus import audio
from sertk.corpus.prepared import Data
from sertk.results.runs import Run
from sertk.results.systems import rows_in
from sertk.settings.schema import AudioSettings

MOST = 10
LONGEST = 6.0
"""Seconds of an excerpt that is in the page."""
ROOM = 3_500_000
"""Characters of all excerpts: the page stays under 5 MB."""
HEARD = AudioSettings(rate=16000, min_seconds=0.0)
"""How an excerpt is read: one channel."""
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
        source: The link to its file, or its sound as a data URI; "" where there is none.
        why: Why there is no link.
        system: Whose decision it is; "" where there is one system.
        rival: What the system says with which it is compared.
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
    system: str = ""
    rival: Heard | None = None


def chosen(run: Run, scores: Scores, *, right: bool) -> Iterator[Heard]:
    """The least sure right decisions of a run, or its surest wrong ones, in this order.

    Args:
        run: The run.
        scores: Its scores, with the posterior read.
        right: Which of the two.
    """
    sure = _sure(scores)
    kept = ((scores.decision == scores.target.hard) == right).nonzero().flatten()
    order = sure[kept].argsort(descending=not right, stable=True)[:MOST]
    for row in kept[order].tolist():
        yield _heard(run, scores, row)


def differing(
    run: Run, scores: Scores, rival: Run, theirs: Scores, names: tuple[str, str], *, right: bool
) -> Iterator[Heard]:
    """What one of two systems has right and the other wrong; first where the less sure of the two is surest.

    Args:
        run: Of the one system.
        scores: Its scores, with the posterior read.
        rival: The run of the other, of the same fold.
        theirs: Its scores, likewise.
        names: Of the systems.
        right: Whether the one is right, or the other.
    """
    row_of = rows_in(rival, run)
    correct, others = scores.decision == scores.target.hard, (theirs.decision == theirs.target.hard)[row_of]
    sure = torch.minimum(_sure(scores), _sure(theirs)[row_of])
    kept = ((correct == right) & (others != right)).nonzero().flatten()
    order = sure[kept].argsort(descending=True, stable=True)[:MOST]
    for row in kept[order].tolist():
        against = _heard(rival, theirs, int(row_of[row]))._replace(system=names[1])
        yield _heard(run, scores, row)._replace(system=names[0], rival=against)


def _sure(scores: Scores) -> torch.Tensor:
    """(N,) the probability of each decision."""
    return scores.prediction.posterior.gather(1, scores.decision[:, None])[:, 0]


def _heard(run: Run, scores: Scores, row: int) -> Heard:
    posterior, decision = scores.prediction.posterior[row], int(scores.decision[row])
    return Heard(
        id=scores.ids[row],
        label=scores.classes[int(scores.target.hard[row])],
        decision=scores.classes[decision],
        confidence=float(posterior[decision]),
        posterior=posterior_text(posterior, scores.classes),
        speaker=scores.speaker[row],
        run=f"fold {run.fold}, seed {run.seed}",
    )


def best(found: Sequence[Heard], *, right: bool) -> list[Heard]:
    """Those of all runs together, each utterance once: in the run where it stands out most."""
    return _first(sorted(found, key=lambda one: one.confidence if right else -one.confidence))


def surest(found: Sequence[Heard]) -> list[Heard]:
    """Of those that two systems differ on likewise: first where the less sure of the two is surest."""
    return _first(sorted(found, key=lambda one: -min(one.confidence, one.rival.confidence if one.rival else 1.0)))


def _first(ordered: Sequence[Heard]) -> list[Heard]:
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


def embedded(lists: Mapping[str, Sequence[Heard]], data: Data) -> tuple[dict[str, list[Heard]], int]:
    """The same with the first seconds of their sound in place of links, and how many have it.

    Args:
        lists: Utterances with links, by heading.
        data: The corpus that was prepared.
    """
    left, count, made = ROOM, 0, dict[str, list[Heard]]()
    for heading, found in lists.items():
        made[heading] = []
        for one in found:
            own = _excerpt(one, data) if one.source else one
            if len(own.source) > left:
                own = one._replace(source="", why=f"the page would be too large: it has {ROOM / 1e6:g} MB for sound")
            left, count = left - len(own.source), count + bool(own.source)
            made[heading].append(own)
    return made, count


def _excerpt(one: Heard, data: Data) -> Heard:
    """An utterance whose link is its sound itself, as FLAC; without one, if its file cannot be read."""
    facts = data.facts[one.id]
    seconds = LONGEST if facts.seconds > LONGEST else facts.asked
    try:
        wave = audio.read(data.root / facts.path, one.id, HEARD, facts.start, seconds)
    except InputError as error:
        return one._replace(source="", why=str(error).rstrip("."))
    file = io.BytesIO()
    soundfile.write(file, wave.clamp(-1, 1).numpy(), HEARD.rate, format="FLAC", subtype="PCM_16")
    return one._replace(source=f"data:audio/flac;base64,{base64.b64encode(file.getvalue()).decode()}")


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

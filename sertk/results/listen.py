"""Utterances to listen to: the surest wrong decisions and the least sure right ones."""

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

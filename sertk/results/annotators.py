"""A system beside the people who labelled: its posterior against their votes, and their agreement with each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sertk.core import Scores
from sertk.core.rows import coded
from sertk.results.intervals import Estimate, estimates
from sertk.results.measures import Measure, Measures
from sertk.results.systems import System
from sertk.results.tables import markdown
from sertk.results.uncertainty import PERCENT, ends, figure
from sertk.results.units import Units

FEWEST = 3
"""Votes of an utterance: with fewer there is no majority of the others."""
LEAST = 5e-7
"""A smaller probability counts as this one: score lines round to 6 digits, and the logarithm of 0 is infinite."""
MINUS = "the decision minus a vote"
"""A row of the table."""
ALONE = "an utterance has no speaker, or the seeds have not the same utterances"


class VoteFit(NamedTuple):
    """How a posterior fits the votes.

    Attributes:
        size: Utterances with a vote for one of the classes.
        cross: The cross-entropy of the votes' shares and the posterior, nats, the mean over utterances.
        entropy: The entropy of the shares, nats: the least that the cross-entropy can be.
        correlation: Pearson's, of the share and the probability of a class over utterances, the mean over the classes
            that have one; NaN where none has.
    """

    size: int
    cross: float
    entropy: float
    correlation: float


class Agreement(NamedTuple):
    """Votes, and decisions of a system, each against what most of the other votes of the utterance are for.

    Attributes:
        size: Utterances.
        speakers: S names, sorted, None the last: it stands for all whose name is unknown.
        people: (S, C, C) counts: rows are what most of the others are for, columns the vote.
        system: (S, C, C) the same with the decision of the system in the place of the vote.
    """

    size: int
    speakers: Sequence[str | None]
    people: Tensor
    system: Tensor


def fit(scores: Scores) -> VoteFit | None:
    """How the posterior fits the votes; None where no utterance has any.

    Source of the cross-entropy: Peterson et al. 2019, Human uncertainty makes classification more robust, ICCV.
    """
    if scores.votes is None or not (voted := scores.votes.sum(1) > 0).any():
        return None
    votes = scores.votes[voted].double()
    share, posterior = votes / votes.sum(1, keepdim=True), scores.prediction.column("posterior")[voted].double()
    cross = -(share * posterior.clamp(min=LEAST).log()).sum(1).mean()
    centred = [one - one.mean(0) for one in (share, posterior)]
    size = centred[0].norm(dim=0) * centred[1].norm(dim=0)
    known = size > 1e-9  # a class with the same share everywhere has no correlation
    correlation = ((centred[0] * centred[1]).sum(0)[known] / size[known]).mean()  # of none it is NaN
    return VoteFit(len(votes), float(cross), float(torch.special.entr(share).sum(1).mean()), float(correlation))


def agreement(scores: Scores) -> Agreement | None:
    """Each vote, and the decision, against the other votes; None where no utterance has enough.

    Utterances count that have at least `FEWEST` votes for the classes, all whole numbers. Each of their votes is left
    out once. If the most frequent classes of the others tie, each of the t classes gets 1/t of a count.

    Source of comparing one labeller with the others: Steidl et al. 2005, "Of all things the measure is man", ICASSP,
    I-317, who measure it by an entropy and not by counts.
    """
    if scores.votes is None:
        return None
    whole = (scores.votes == scores.votes.round()).all(1) & (scores.votes >= 0).all(1)
    kept = whole & (scores.votes.sum(1) >= FEWEST)
    if not kept.any():
        return None
    codes, names = coded(scores.speaker)
    spoken = sorted(torch.unique(codes[kept]).tolist(), key=lambda code: (names[code] is None, names[code]))
    place = torch.zeros(len(names), dtype=torch.int64)
    place[spoken] = torch.arange(len(spoken))
    rows = torch.cat([scores.votes[kept].long(), scores.decision[kept, None], place[codes[kept], None]], 1)
    rows, alike = torch.unique(rows, dim=0, return_counts=True)  # so that millions of utterances are a few rows
    votes, decision, speaker = rows[:, :-2].double(), rows[:, -2], rows[:, -1]
    classes = votes.shape[1]
    others = votes[:, None] - torch.eye(classes, dtype=torch.float64)  # (N, C, C): row c without a vote for c
    most = others == others.amax(2, keepdim=True)
    target = most / most.sum(2, keepdim=True) * (votes * alike[:, None])[:, :, None]  # 0 where nobody voted for c
    decided = target.sum(1)[:, :, None] * torch.nn.functional.one_hot(decision, classes)[:, None]
    none = torch.zeros(len(spoken), classes, classes, dtype=torch.float64)
    people, system = (none.index_add(0, speaker, one) for one in (target.mT, decided))
    return Agreement(int(kept.sum()), [names[code] for code in spoken], people, system)


def annotator_lines(system: System, measures: Measures) -> list[str]:
    """The agreement with annotators of a system, folds pooled, the mean over seeds; nothing where there are no votes.

    Args:
        system: The system.
        measures: The metrics.
    """
    seeds = list(system.seeds.values())
    fits = [one for one in map(fit, seeds) if one is not None]
    found = [one for one in map(agreement, seeds) if one is not None]
    return [*_table(system.name, found, measures), *([""] if found else []), *_fit_lines(fits)]


def _table(name: str, found: Sequence[Agreement], measures: Measures) -> list[str]:
    if not found:
        return []
    shown = [one for one in measures.shown if one.name in ("ua", "wa")]
    found = _alike(found)
    people, system = (torch.stack([getattr(one, what) for one in found], 1) for what in ("people", "system"))
    rows = {
        "a vote": people[:, None],
        f"the decision of {name}": system[:, None],
        MINUS: torch.stack([people, system], 1),
    }
    speakers, counted = found[0].speakers, {one.name: one.counted for one in shown}
    drawn = {what: estimates(_units(speakers, counts), counted) for what, counts in rows.items()}
    body = [[what, *(_figure(one, own[one.name], what) for one in shown)] for what, own in drawn.items()]
    head = [f"against the other votes, n = {found[0].size}", *(one.title for one in shown)]
    said = f"Each vote of utterances with at least {FEWEST} votes for the classes is left out once; ties are shared."
    why = ALONE if speakers == [None] else next(iter(drawn["a vote"].values())).why
    brackets = f"No intervals: {why}." if why else f"In brackets {PERCENT} intervals by {len(speakers)} speakers."
    return [*markdown(head, body), "", f"{said} {brackets}"]


def _alike(found: Sequence[Agreement]) -> Sequence[Agreement]:
    """The agreement of each seed; without speakers where one is unknown, or the seeds differ in their utterances."""
    first = found[0]
    same = (one.speakers == first.speakers and torch.equal(one.people, first.people) for one in found)
    if None not in first.speakers and all(same):
        return found
    return [Agreement(one.size, [None], one.people.sum(0)[None], one.system.sum(0)[None]) for one in found]


def _units(speakers: Sequence[str | None], counts: Tensor) -> Units:
    """Speakers of (S, A, K, C, C) counts, folds pooled."""
    ones = np.ones(len(speakers), np.int64)
    return Units("speakers", counts.numpy(), np.zeros_like(ones), ones, [str(one) for one in speakers])


def _figure(measure: Measure, estimate: Estimate, what: str) -> str:
    text = figure(measure, estimate.value, sign=what == MINUS)
    return text if estimate.why else f"{text} ({ends(measure, estimate)})"


def _fit_lines(fits: Sequence[VoteFit]) -> list[str]:
    if not fits:
        return []
    cross, correlation = (statistics.fmean(getattr(one, word) for one in fits) for word in ("cross", "correlation"))
    told = "" if math.isnan(correlation) else f"; mean correlation of probability and share of votes {correlation:.3f}"
    return [
        f"The posterior against the votes of {fits[0].size} utterances: cross-entropy {cross:.3f} nats (the least "
        f"possible is {fits[0].entropy:.3f}, the entropy of the votes){told}."
    ]

"""A system under changed audio, and systems on other corpora than their own: what is counted, and the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sertk.core import Scores
from sertk.core.files import csv_text
from sertk.core.rows import hashes
from sertk.core.scores import Labels
from sertk.results.intervals import DRAWS, FEWEST, Estimate, Statistic, estimates
from sertk.results.measures import Measure
from sertk.results.runs import Held
from sertk.results.systems import System
from sertk.results.tables import markdown
from sertk.results.uncertainty import (
    PERCENT,
    Difference,
    adjusted,
    apart_by_blanks,
    differences,
    figure,
    tested,
    validity,
)
from sertk.results.units import Array, By, units_of

CHANGED = ("kept", "changed")
"""What a decision is, against that of the clean condition."""
FEW = (
    "`--by utterances` gives an interval of clips, which is too narrow; a folder of runs has the speakers of all folds."
)
CLIPS = "The clips of a speaker are taken for independent of each other; they are not, so the intervals are too narrow."
OWN, SEEN, HEARD = "*", "†", "‡"
"""How a cell is marked whose system was trained on the corpus, or on some of the recordings that it scored there, or
that knew the speakers."""


@dataclass(frozen=True)
class Row:
    """A condition.

    Attributes:
        name: Of the condition.
        about: It in words.
        size: Utterances, each counted once, however many bundles scored it.
        ua: UA, folds pooled.
        changed: The share of decisions that are others than those of the clean condition; None of that one.
    """

    name: str
    about: str
    size: int
    ua: Estimate
    changed: Estimate | None


@dataclass(frozen=True)
class Cell:
    """A system on a corpus.

    Attributes:
        system: By name.
        trained: The corpus that it was trained on.
        corpus: By name.
        classes: The shared ones.
        runs: Of its bundles, the same utterances in those of a fold.
        size: Utterances of shared classes that were scored; like all that are counted but `by_logits`, each once,
            however many bundles there are.
        ua: UA of the shared classes.
        left_out: How many utterances of each other label there are.
        failed: Utterances that a bundle could not score.
        by_logits: Decisions, of all bundles, by logits: the posterior is 0 for each shared class.
        seen: Utterances that the weights of a bundle have learned from.
        uneven: Utterances that some bundles scored and others could not; they are in no figure.
        heard: How it knew the speakers, in words; empty if it did not.
    """

    system: str
    trained: str
    corpus: str
    classes: Sequence[str]
    runs: Sequence[Held]
    size: int
    ua: Estimate
    left_out: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0
    by_logits: int = 0
    seen: int = 0
    uneven: int = 0
    heard: str = ""

    @property
    def own(self) -> bool:
        """Whether the system was trained on this corpus."""
        return self.trained == self.corpus

    @property
    def mark(self) -> str:
        """Signs that are explained below the table."""
        return OWN * self.own + SEEN * (self.seen > 0) + HEARD * bool(self.heard)


def common(runs: Mapping[str, Sequence[Held]]) -> dict[str, list[Held]]:
    """The same runs with the utterances alone that were scored in every condition, by all runs of their fold.

    Args:
        runs: By condition; number k of each is of the same utterances, in the same order.
    """
    kept, _ = scored_by_all([run for own in runs.values() for run in own])
    left = iter(kept)
    return {name: [next(left) for _ in own] for name, own in runs.items()}


def scored_by_all(runs: Sequence[Held]) -> tuple[list[Held], int]:
    """The same runs with the utterances alone that all runs of their fold scored, and how many others there are."""
    ids, every, kept = [np.asarray(hashes(run.scores.ids)) for run in runs], dict[str, Array](), dict[str, Array]()
    for run, own in zip(runs, ids, strict=True):
        every[run.fold] = np.union1d(every.get(run.fold, own), own)
        kept[run.fold] = np.intersect1d(kept.get(run.fold, own), own)
    masks = [torch.from_numpy(np.isin(own, kept[run.fold])) for run, own in zip(runs, ids, strict=True)]
    found = [Held(run.fold, run.seed, run.scores.take(mask)) for run, mask in zip(runs, masks, strict=True)]
    return found, sum(len(every[fold]) - len(kept[fold]) for fold in kept)


def rows(runs: Mapping[str, Sequence[Held]], about: Mapping[str, str], ua: Measure, by: By) -> list[Row]:
    """A row for each condition.

    Args:
        runs: By condition, the clean one first; of the same utterances, see `common`.
        about: The conditions in words.
        ua: The metric.
        by: What is drawn for the intervals.

    Raises:
        SertkError: See `units_of`.
    """
    clean, *_ = runs.values()
    made = []
    for name, own in runs.items():
        against = [
            Held(run.fold, run.seed, against_clean(run.scores, was.scores)) for run, was in zip(own, clean, strict=True)
        ]
        changed = None if own is clean else estimate(against, changed_share, by)
        made.append(Row(name, about[name], utterances(own), estimate(own, ua.counted, by), changed))
    return made


def utterances(runs: Sequence[Held]) -> int:
    """How many utterances runs scored, where those of a fold scored the same ones."""
    return sum({run.fold: len(run.scores.ids) for run in runs}.values())


def against_clean(scores: Scores, clean: Scores) -> Scores:
    """Scores of the same utterances in the same order -> decisions that were kept or changed; every label is kept."""
    changed = (scores.decision != clean.decision).long()
    return replace(scores, classes=CHANGED, target=Labels(torch.zeros_like(changed), 2), decision=changed)


def changed_share(counts: Tensor) -> Tensor:
    """(..., 2, 2) counts of `against_clean` -> (...,) the share that changed."""
    return counts[..., 1].sum(-1).double() / counts.sum((-2, -1))


def estimate(runs: Sequence[Held], statistic: Statistic, by: By) -> Estimate:
    """A figure of runs with its interval, folds pooled.

    Raises:
        SertkError: See `units_of`.
    """
    units = units_of([System("these", runs[0].folder, runs)], by).pooled
    return estimates(units, {"it": statistic})["it"]


def stress_table(
    found: Sequence[Row], ua: Measure, what: tuple[str, str] = ("condition", "audio"), seed: str = "seed"
) -> list[str]:
    """The conditions in Markdown; `what` heads the name and what is said of it, `seed` is what there are several of."""
    head = [*what, "n", "UA", PERCENT, "decisions changed", PERCENT]
    body = [
        [one.name, one.about, str(one.size), *_shown(one.ua, ua), *(_shown(one.changed, ua) if one.changed else "––")]
        for one in found
    ]
    return [*markdown(head, body), "", _caption([one.ua for one in found], seed)]


def stress_csv(found: Sequence[Row], what: tuple[str, str] = ("condition", "audio")) -> str:
    """The conditions as CSV, shares from 0 to 1."""
    head = [*what, "utterances", "ua", "ua_low", "ua_high", "changed", "changed_low", "changed_high"]
    body = [[one.name, one.about, one.size, *_ends(one.ua), *_ends(one.changed)] for one in found]
    rows = ([*row, one.ua.by, one.ua.size] for row, one in zip(body, found, strict=True))
    return csv_text([[*head, "by", "units"], *rows])


DRAWN = ("drawn", "known by")
"""What heads the rows of an enrolment."""


def enrolment_table(found: Sequence[Row], ua: Measure, kinds: Mapping[str, str], draws: int) -> list[str]:
    """UA by the utterances that the speakers are known by, in Markdown.

    Args:
        found: The rows, first that of nothing drawn.
        ua: The metric.
        kinds: How utterances are drawn, in words.
        draws: Of each number.
    """
    said = "; ".join(f"{kind}: {about}" for kind, about in kinds.items())
    about = (
        "All rows are of the same utterances, half of each speaker's test. The recordings that a speaker is known by "
        f"are drawn from the other half, without replacement ({said}); the system does not see their labels. Each row "
        f"is the mean of {draws} draws. Decisions changed is against none drawn, the statistics of training alone. All "
        "other rows are speaker-normalised: do not compare them with systems that meet unknown speakers."
    )
    return [*stress_table(found, ua, DRAWN, "enrolment"), "", about]


def _heard(cells: Sequence[Cell]) -> str:
    """How systems knew the speakers of each corpus, in words; the systems are named where they differ in it."""
    found = dict[str, dict[str, list[str]]]()
    for one in cells:
        if one.heard:
            found.setdefault(one.corpus, {}).setdefault(one.heard, []).append(one.system)
    return "; ".join(
        f"{', '.join(systems)} on {corpus}: {how}" if len(ways) > 1 else f"on {corpus}: {how}"
        for corpus, ways in found.items()
        for how, systems in ways.items()
    )


@dataclass(frozen=True)
class Pair:
    """Two systems of the same training corpus on a corpus.

    Attributes:
        base: The first of the systems that were trained on that corpus.
        cell: The other.
        difference: Of the other to the first; words that say why there is none.
    """

    base: Cell
    cell: Cell
    difference: Difference | str


def pairs(cells: Sequence[Cell], ua: Measure) -> list[Pair]:
    """Each system of a matrix against the first that has its training corpus and its classes, corpus by corpus.

    Holm's adjustment is over all of them.
    """
    first, found = dict[tuple[str, ...], Cell](), list[Pair]()
    for cell in cells:
        base = first.setdefault((cell.trained, cell.corpus, *cell.classes), cell)
        if base is not cell:
            two = (System(one.system, Path(), one.runs) for one in (base, cell))
            some, why = differences(next(two), [*two], ua, cell.ua.by)
            found.append(Pair(base, cell, some[0] if some else why[cell.system]))
    family = iter(adjusted([one.difference for one in found if isinstance(one.difference, Difference)]))
    return [one if isinstance(one.difference, str) else replace(one, difference=next(family)) for one in found]


def _pairs(found: Sequence[Pair], ua: Measure) -> list[str]:
    """The differences in Markdown; nothing where no two systems have one training corpus."""
    known = [
        ((one.cell.corpus, f"{one.cell.system}{one.cell.mark}", f"{one.base.system}{one.base.mark}"), one.difference)
        for one in found
        if isinstance(one.difference, Difference)
    ]
    lines = tested(known, ["corpus", "system", "minus"], ua, "all rows of this table") if known else []
    said = ["A system stands against the first one in the matrix that was trained on the same corpus."] * bool(found)
    if any(bool(one.base.heard) != bool(one.cell.heard) for one in found):
        said.append(f"A system marked {HEARD} minus one that is not: it knows the speakers, and the other does not.")
    lost = [
        f"{one.cell.system} on {one.cell.corpus} is not tested against {one.base.system}: {one.difference}"
        for one in found
        if isinstance(one.difference, str)
    ]
    return apart_by_blanks([*lines, [" ".join([*said, *lost])] if said else []])


def cross_table(cells: Sequence[Cell], found: Sequence[Pair], ua: Measure) -> list[str]:
    """The matrix in Markdown, what was left out below it, and the tests of `pairs`."""
    corpora = list(dict.fromkeys(one.corpus for one in cells))
    place = {(one.system, one.corpus): one for one in cells}
    matrix = [
        [system, *(_cell(place[system, corpus], ua) for corpus in corpora)]
        for system in dict.fromkeys(one.system for one in cells)
    ]
    head = ["system", "corpus", "classes", "n", "UA", PERCENT, "left out", "failed"]
    body = [
        [
            f"{one.system}{one.mark}",
            one.corpus,
            ", ".join(one.classes),
            str(one.size),
            *_shown(one.ua, ua),
            ", ".join(f"{count} {label}" for label, count in one.left_out.items()) or "none",
            str(one.failed),
        ]
        for one in cells
    ]
    marks = f"Marked {OWN}: trained on this corpus, of which the test part of its own fold is scored."
    seen = ", ".join(f"{one.seen} of {one.corpus} by {one.system}" for one in cells if one.seen)
    learned = [f"Marked {SEEN}: among these are recordings that the system learned from ({seen})."] * bool(seen)
    knew = _heard(cells)
    learned += [f"Marked {HEARD}: speaker-normalised, not to be compared with unknown speakers ({knew})."] * bool(knew)
    logits = [
        f"{one.system} on {one.corpus}: {one.by_logits} decisions had posterior 0 for every shared class; the "
        "logits decided."
        for one in cells
        if one.by_logits
    ]
    uneven = [
        f"{one.system} on {one.corpus}: {one.uneven} utterances were scored by some of its bundles and not by all; no "
        "figure counts them."
        for one in cells
        if one.uneven
    ]
    said = [" ".join([marks, *learned, *logits, *uneven])], [_caption([one.ua for one in cells], "bundle")]
    shown = (markdown(["UA, percent", *corpora], matrix), markdown(head, body))
    return apart_by_blanks([*shown, *said, _pairs(found, ua)])


def cross_csv(cells: Sequence[Cell], found: Sequence[Pair]) -> str:
    """The matrix as CSV, a line a cell, shares from 0 to 1; those of `pairs` with their difference."""
    head = ["system", "corpus", "own", "classes", "utterances", "ua", "ua_low", "ua_high", "by", "units"]
    against = {(one.cell.system, one.cell.corpus): one for one in found}
    body = [
        [
            *(one.system, one.corpus, int(one.own), " ".join(one.classes), one.size),
            *(*_ends(one.ua), one.ua.by, one.ua.size),
            *(sum(one.left_out.values()), one.failed, one.by_logits, one.seen, one.uneven, one.heard),
            *_against(against.get((one.system, one.corpus))),
        ]
        for one in cells
    ]
    head += ["left_out", "failed", "by_logits", "seen", "uneven", "speakers"]
    return csv_text([[*head, "against", "difference", "difference_low", "difference_high", "p", "p_holm"], *body])


def _against(pair: Pair | None) -> list[float | str]:
    """The difference of a cell for CSV; empty where there is none."""
    if pair is None or isinstance(pair.difference, str):
        return [""] * 6
    one = pair.difference
    tests = ("" if p is None else round(p, 6) for p in (one.p, one.holm))
    return [pair.base.system, *_ends(one.estimate), *tests]


def _cell(one: Cell, ua: Measure) -> str:
    """UA with its interval and its marks."""
    value, ends = _shown(one.ua, ua)
    return f"{value}{one.mark}" + (f" ({ends})" if ends != "–" else "")


def _shown(one: Estimate | None, ua: Measure) -> list[str]:
    """A share in percent, and the ends of its interval."""
    if one is None:
        return ["–", "–"]
    ends = "–" if one.why else " to ".join(figure(ua, end) for end in (one.low, one.high))
    return [figure(ua, one.value), ends]


def _ends(one: Estimate | None) -> list[float | str]:
    """A share and the ends of its interval for CSV; empty where there are none."""
    if one is None:
        return ["", "", ""]
    return [round(one.value, 6), *(["", ""] if one.why else [round(one.low, 6), round(one.high, 6)])]


def _caption(found: Sequence[Estimate], seed: str) -> str:
    """What the intervals are; `seed` is what there are several of, a noun."""
    by = found[0].by
    drawn = [one for one in found if not one.why]
    sizes = sorted({one.size for one in drawn})
    said = ["UA is the mean class recall, percent, higher is better; folds are pooled."]
    if drawn:
        many = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        said += [
            f"Intervals are of {DRAWS:,} draws of {by} ({many}), percentiles expanded by t.",
            validity(drawn, seed),
        ]
    few = sorted({one.size for one in found if one.why and one.size < FEWEST})
    said += [f"{', '.join(map(str, few))} {by} are too few for an interval, at least {FEWEST} are needed."] * bool(few)
    said += [
        f"No interval: {why}." for why in dict.fromkeys(one.why for one in found if one.why and one.size >= FEWEST)
    ]
    said += [FEW] * (by == "speakers" and len(drawn) < len(found)) + [CLIPS] * (by == "utterances" and bool(drawn))
    return " ".join(said)

"""How many recordings of a speaker a system needs that is normalised by speaker: UA against their number.

Half of each test speaker's utterances, chosen by the hash of their ids, are its pool, and the other half is scored: so
all rows of the table are of the same utterances, and none of these was heard.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sertk.console.progress import say, track
from sertk.core import Rng, UsageError, Utterance, key
from sertk.core.files import Document, Record, json_bytes, part_of, writing
from sertk.corpus import ledger
from sertk.corpus.audit import by_speaker
from sertk.corpus.prepared import Data
from sertk.modeling import bundle
from sertk.modeling.speakers import Totals
from sertk.plugins import Plugins
from sertk.results.figures import draw_enrolment
from sertk.results.lines import read_scores
from sertk.results.measures import Measures
from sertk.results.robustness import DRAWN, enrolment_table, rows, stress_csv
from sertk.results.runs import Held, trained_as
from sertk.results.units import By
from sertk.scoring.inputs import Inputs, of_corpus
from sertk.scoring.outputs import check_folder, write_folder
from sertk.scoring.scorer import Scorer
from sertk.scoring.stored import Shelf
from sertk.scoring.system import is_system, runs_of
from sertk.training import distributed

NUMBERS = {"random": (1, 2, 5, 10, 20), "skewed": (1, 2, 5, 10, 20), "neutral": (1, 2)}
"""Utterances of each speaker that are drawn, as many as there are at most."""
DRAWS = 5
KINDS = {
    "random": "at random",
    "skewed": "of skewed classes: each class half as likely as the one before it, in an order of each speaker's own",
    "neutral": "neutral ones alone, at random",
}


class Ask(NamedTuple):
    """What is drawn from the pool.

    Attributes:
        kind: Of `KINDS`; "none" draws nothing.
        most: Utterances of each speaker at most; None takes all.
        draw: Number of the draw. Of two draws with one number, the larger has all utterances of the smaller.
    """

    kind: str
    most: int | None
    draw: int = 0

    @property
    def name(self) -> str:
        """Of the row."""
        return "none" if self.kind == "none" else f"{self.kind} {self.most or 'all'}"


class _How(NamedTuple):
    """What all runs are scored with; the draws are those of `draws` from `seed` on."""

    plugins: Plugins
    device: str
    batch: int
    draws: int
    seed: int


class _Pool(NamedTuple):
    """What the speakers may be known by: P utterances that could be read.

    Attributes:
        utterances: P, with the labels of the protocol.
        moments: (P, 2 D + 1) by input, see `sertk.modeling.speakers`.
    """

    utterances: Sequence[Utterance]
    moments: Mapping[str, Tensor]


def enrolment(
    model: Path,
    data: Path,
    out: Path,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    root: Path | None = None,
    fold: str | None = None,
    by: By = "speakers",
    device: str = "auto",
    batch: int = 32,
    files: Sequence[Path] = (),
) -> int:
    """Scores half of a test with more and more of the other half; writes score lines, table, CSV and figure.

    Args:
        model: The bundle of a system that is normalised by speaker; or a folder of its runs.
        data: The prepared corpus.
        out: A folder.
        draws: Of each number of utterances; their figures are averaged.
        seed: Of the draws.
        root: The corpus folder, where it is not the one that was prepared.
        fold: Of a folder of runs: 1,2; those there are by default.
        by: What is drawn for the intervals.
        device: auto, cpu, cuda, cuda:N.
        batch: Utterances at once.
        files: Plugin files.

    Returns:
        Inputs that could not be read; they are in `failed.jsonl` in `out`.

    Raises:
        SertkError: If a bundle or the corpus cannot be read.
        UsageError: If the system is not normalised by speaker.
    """
    check_folder(out)
    how = _How(Plugins(files=files), distributed.device(device), batch, draws, seed)
    corpus, ua, system = Data(data, root), Measures(how.plugins)["ua"], is_system(model)
    models = [run / "model" for run in runs_of(model, corpus, fold, None)] if system else [model]
    shelf, found, failed = Shelf(corpus, how.plugins), dict[str, list[Held]](), list[Record]()
    counts: dict[str, list[int]] = {}
    for one in models:
        opened = bundle.opened(one, how.plugins)
        if not opened.settings.by_speaker:
            raise UsageError(f"{one} is not normalised by speaker: who speaks changes nothing. Give another system.")
        own = of_corpus(corpus, opened.about, failed, fold=None if system else fold)
        about: Document = {"how": "disjoint", "shrink": opened.settings.speakers.shrink, "without": 0}
        _one(opened, own, shelf, out, how, (found, counts, failed))
        ledger.note(corpus.folder, own.stamp, trained_as(opened.about), None)
    words = {name: by_speaker({**about, "n": [min(own), max(own)]}) for name, own in counts.items()}
    table = rows({name: _as_many(own, len(models), how.draws) for name, own in found.items()}, words, ua, by)
    text = "\n".join([*enrolment_table(table, ua, KINDS, how.draws), ""])
    write_folder(out, "enrolment", text, stress_csv(table, DRAWN), failed)
    draw_enrolment(out / "enrolment", table, ua)
    say(f"wrote {out}: enrolment.md, enrolment.csv, a figure (PNG, SVG, PDF), and score lines by fold and seed")
    return len(failed)


def _as_many(own: Sequence[Held], models: int, draws: int) -> list[Held]:
    """The runs of a row, one for each draw; where nothing is drawn by chance, the same one for each."""
    if len(own) > models:
        return list(own)
    return [Held(run.fold, f"{run.seed}.{draw}", run.scores) for run in own for draw in range(draws)]


def halves(utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """The pool and what is scored: of each speaker's utterances, ordered by the hash of their ids, half each.

    Of an odd number the pool has the smaller half. Who has no known speaker is scored.
    """
    pool, people = set[str](), dict[str, list[Utterance]]()
    for one in utterances:
        if one.known_speaker is not None:
            people.setdefault(one.known_speaker, []).append(one)
    for own in people.values():
        pool |= {one.id for one in sorted(own, key=lambda one: key("enrolment", one.id))[: len(own) // 2]}
    return [one for one in utterances if one.id in pool], [one for one in utterances if one.id not in pool]


def asks(classes: Collection[str], draws: int) -> Iterator[Ask]:
    """What is drawn, row by row.

    Args:
        classes: Of the bundle; without neutral none is drawn.
        draws: Of each number.
    """
    yield Ask("none", 0)
    for kind, numbers in NUMBERS.items():
        if kind != "neutral" or kind in classes:
            yield from (Ask(kind, number, draw) for number in numbers for draw in range(draws))
            if kind != "skewed":  # of all there is nothing to skew
                yield Ask(kind, None)


def drawn(pool: Sequence[Utterance], ask: Ask, seed: int) -> Tensor:
    """(P,) bool, which utterances of the pool are drawn.

    Args:
        pool: P utterances.
        ask: What.
        seed: Of the draws.
    """
    if ask.kind == "none" or not pool:
        return torch.zeros(len(pool), dtype=torch.bool)
    ids, names = [one.id for one in pool], sorted({str(one.known_speaker) for one in pool})
    speaker = _places([str(one.known_speaker) for one in pool])
    label = _places([str(one.label) for one in pool])
    order = Rng.for_rows(seed, ids, [ask.draw] * len(ids), 0, "enrolment").uniform()[:, 0].double()
    if ask.kind == "skewed":  # exponential races: the rate of a class is its weight
        chance = Rng.for_rows(seed, names, [ask.draw] * len(names), 0, "classes").uniform(1 + int(label.max()))
        order = -torch.log1p(-order) * 2.0 ** chance.argsort(1).argsort(1)[speaker, label]
    known = torch.tensor([ask.kind != "neutral" or one.label == "neutral" for one in pool])
    order = torch.where(known, order, math.inf)
    first = order.argsort(stable=True)
    first = first[speaker[first].argsort(stable=True)]  # speaker by speaker, the smallest first
    size = torch.bincount(speaker)
    place = torch.empty_like(first)
    place[first] = torch.arange(len(pool)) - (size.cumsum(0) - size)[speaker[first]]
    return known & (place < (len(pool) if ask.most is None else ask.most))


def _places(names: Sequence[str]) -> Tensor:
    """(P,) int64, the place of each name among all, in their order."""
    place = {name: number for number, name in enumerate(sorted({*names}))}
    return torch.tensor([place[name] for name in names])


def _one(
    opened: bundle.Opened,
    found: Inputs,
    shelf: Shelf,
    out: Path,
    how: _How,
    taken: tuple[dict[str, list[Held]], dict[str, list[int]], list[Record]],
) -> None:
    """Scores half of a bundle's test with everything that is drawn from the other half."""
    runs, counts, failed = taken
    stored, _ = shelf.find(opened, found.utterances)
    scorer = Scorer(opened.folder, how.device, how.plugins, stored)
    half, rest = halves(found.utterances)
    pool = _heard(scorer, half, found.root, how.batch, failed)
    names = sorted({one.known_speaker for one in rest if one.known_speaker is not None})
    told: Document = trained_as(opened.about)
    fold, seed = str(found.stamp["fold"]), str(told["seed"])
    folder = out / f"fold={part_of(fold)}" / f"seed={seed}"
    every = list(asks(scorer.bundle.classes, how.draws))
    stamp = f"{found.stamp['stamp']}, speaker-normalised"
    for number, ask in enumerate(track(every, len(every), "draws")):
        scorer.speakers = totals = Totals(names, opened.settings.speakers.shrink)
        mask = drawn(pool.utterances, ask, how.seed)
        chosen = [one.known_speaker for one, is_in in zip(pool.utterances, mask.tolist(), strict=True) if is_in]
        totals.add(chosen, {name: own[mask] for name, own in pool.moments.items()})
        path = folder / f"{ask.name.replace(' ', '-')}.{ask.draw}.jsonl"
        lost = failed if not number else []
        with writing(path) as file:
            lines = scorer.lines(rest, found.root, how.batch, lost)
            file.writelines(json_bytes({**line, "stamp": stamp}, line["id"]) for line in lines)
        held = Held(fold, f"{seed}.{ask.draw}", read_scores(path, scorer.bundle.classes))
        runs.setdefault(ask.name, []).append(held)
        counts.setdefault(ask.name, []).extend(totals.counts([one.known_speaker for one in rest]).tolist())
    say(f"scored fold {fold}, seed {seed}: {len(rest)} utterances, {len(every)} draws from {len(half)} others")


def _heard(scorer: Scorer, half: Sequence[Utterance], root: Path, batch: int, failed: list[Record]) -> _Pool:
    """The moments of each utterance of the pool."""
    heard, parts = list[Utterance](), list[Mapping[str, Tensor]]()
    for utterances, found in scorer.moments(half, root, batch, failed):
        heard += utterances
        parts += [found] * bool(found)
    return _Pool(heard, {name: torch.cat([one[name] for one in parts]) for name in (parts[0] if parts else ())})

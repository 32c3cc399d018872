"""Scored systems beside each other, from their score lines: their figures, intervals and differences."""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sertk.console.progress import say
from sertk.core import SertkError, UsageError, nearest
from sertk.core.files import write_text
from sertk.core.rows import hashes
from sertk.corpus.prepared import Data
from sertk.plugins import Plugins
from sertk.results.measures import Measures
from sertk.results.pair_page import Comparison, write_pair_page
from sertk.results.runs import Run, failures, find, lacking, two_settings
from sertk.results.systems import System
from sertk.results.tables import systems_table
from sertk.results.uncertainty import compared
from sertk.results.units import By
from sertk.results.versions import made_with

SHORT = 10.0
"""Up to here an utterance is short, s."""


def compare(
    folders: Sequence[Path],
    *,
    seconds: float = SHORT,
    truth: str | None = None,
    baseline: str | None = None,
    by: By = "speakers",
    clips: bool = False,
    out: Path | None = None,
    page: Path | None = None,
    data: Path | None = None,
    files: Sequence[Path] = (),
) -> None:
    """Prints a Markdown table of systems that were scored on the same utterances.

    Args:
        folders: System folders, or anything above or in them.
        seconds: Up to here an utterance is short, s.
        truth: The name of the system whose decisions the others are compared with; None takes the one with the highest
            UA.
        baseline: The name of the system that the others are tested against; None takes the first.
        by: What is drawn for the intervals.
        clips: Whether McNemar's test on utterances is shown too.
        out: Also write the table here.
        page: Also write compare.html, its figures and compare.md into this folder.
        data: The prepared corpus, data/NAME, whose files the page plays.
        files: Plugin files.

    Raises:
        SertkError: If a folder has no scored run, or the systems were not scored on the same utterances.
        UsageError: If no system has the name `truth` or `baseline`, or `data` is given without a page, or another
            corpus than that of the scores.
    """
    corpus = _corpus(data, page)
    measures = Measures(Plugins(files=files))
    systems = _systems(folders, corpus)
    protocols = _protocols(systems)
    _check_lines(systems)
    best = _truth(systems, truth, measures)
    base = systems[0] if baseline is None else _named("--baseline", baseline, systems)
    table = systems_table(systems, best, seconds, measures)
    lost = [f"{system.name}: {one}" for system in systems for one in failures(system.runs)]
    for one in lost:
        say(f"warning: {one}")
    legend = _legend(best, seconds, "as asked" if truth else "the highest UA", measures)
    notes = [*protocols, *_runs(best), *(f"- {one}" for one in lost)]
    it = Comparison(systems, base, by, table, legend, compared(systems, base, measures, by, clips=clips), notes)
    sys.stdout.write(it.text)
    if out:
        write_text(out, it.text)
        say(f"wrote {out}")
    if page:
        asked: dict[str, object] = {
            "--seconds": None if seconds == SHORT else f"{seconds:g}",
            "--truth": truth,
            "--baseline": baseline,
        }
        asked |= {"--by": None if by == "speakers" else by, "--page": page, "--data": data}
        facts = [*notes, _command(folders, asked, mcnemar=clips), made_with()]
        say(f"wrote {write_pair_page(page, replace(it, facts=facts), measures, corpus)}")


def _corpus(data: Path | None, page: Path | None) -> Data | None:
    """The corpus whose files a page plays.

    Raises:
        UsageError: If there is no page.
    """
    if data and not page:
        raise UsageError("--data is for the sound of a page. Give its folder too: --page FOLDER")
    return Data(data) if data else None


def _command(folders: Sequence[Path], asked: Mapping[str, object], *, mcnemar: bool) -> str:
    """A line of Markdown with the command, as far as it is not the default."""
    options = [word for name, value in asked.items() if value is not None for word in (name, str(value))]
    words = ["sertk", "compare", *map(str, folders), *options, *["--mcnemar"] * mcnemar]
    return f"- command: `{shlex.join(words)}`"


def _systems(folders: Sequence[Path], corpus: Data | None) -> list[System]:
    """The systems in folders, by their short names.

    Raises:
        SertkError: If a folder has no scored run, or the runs differ, see `_check_runs`.
    """
    for folder in folders:
        find([folder])  # raises if it has no runs: no folder is left out in silence
    found = find(folders)
    _check_runs(found, corpus)
    names = _short_names(list(found))
    return [System(name, folder, runs) for name, (folder, runs) in zip(names, found.items(), strict=True)]


def _check_runs(found: Mapping[Path, Sequence[Run]], corpus: Data | None) -> None:
    """Refuses runs that differ in protocol, part or classes, and systems that lack some of the runs.

    Raises:
        SertkError: Naming what differs.
        UsageError: If the runs are of another corpus than the one that is given.
    """
    every = [run for runs in found.values() for run in runs]
    first = _facts(every[0])
    for run in every:
        for what, own in _facts(run).items():
            if own != first[what]:
                raise SertkError(
                    f"{every[0].folder} and {run.folder} are of different {what} ({first[what]} and {own}). "
                    "Compare systems that were scored on the same utterances: score both on the same folds."
                )
    scored = every[0].metrics["protocol"].get("corpus", "none")
    if corpus and corpus.corpus != scored:
        raise UsageError(f"--data {corpus.folder} is {corpus.corpus}, and the scores are of {scored}.")
    for system, runs in found.items():
        missing = lacking(runs, every)
        if missing:
            raise SertkError(
                f"{system} lacks {len(missing)} of the runs that are compared, the first fold {missing[0][0]}, seed "
                f"{missing[0][1]}. Train and score it, or give the run folders (SYSTEM/fold=F) that every system has."
            )


def _facts(run: Run) -> dict[str, str]:
    """What must be the same in all runs."""
    about = run.metrics["protocol"]
    return {
        "folds": f"{about.get('corpus', '?')} / {about.get('name', '?')}, hash {about.get('hash', 'none')}",
        "part": about.get("part", "none"),
        "classes": ", ".join(run.metrics["classes"]),
    }


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths, of equal length, that differ."""
    ends = ([Path(*folder.parts[-depth:]).as_posix() for folder in folders] for depth in count(1))
    return next(names for names in ends if len(set(names)) == len(names))


def _check_lines(systems: Sequence[System]) -> None:
    """Refuses systems whose utterances differ.

    Raises:
        SertkError: Naming the first utterance that differs.
    """
    known: npt.NDArray[np.int64] | None = None
    for system in systems:
        for seed, runs in system.by_seed.items():
            own = np.sort(hashes(_utterances(runs)))
            known = own if known is None else known
            if not np.array_equal(own, known):
                _refuse_lines(systems[0], system, seed)


def _utterances(runs: Sequence[Run]) -> Iterator[tuple[str, str, int, float]]:
    """Fold, id, label and duration of each utterance."""
    for run in runs:
        labels, seconds = (one.numpy().data for one in (run.scores.target.hard, run.seconds))
        for name, label, length in zip(run.scores.ids, labels, seconds, strict=True):
            yield run.fold, name, label, length


def _refuse_lines(first: System, other: System, seed: str) -> None:
    """Names the first utterance in which a seed of a system differs from the first seed of another."""
    here, there = (set(_utterances(runs)) for runs in (other.by_seed[seed], next(iter(first.by_seed.values()))))
    different = sorted({(fold, name) for fold, name, *_ in here ^ there})
    fold, name = different[0]
    raise SertkError(
        f"{first.folder} and {other.folder} (seed {seed}) have not scored the same utterances: "
        f"{len(different)} differ in id, label or duration, the first {name!r} of fold {fold}. "
        "Look for failed.jsonl beside the scores, and score both again on the same files."
    )


def _truth(systems: Sequence[System], name: str | None, measures: Measures) -> System:
    if name is None:
        ua = measures["ua"]
        return max(systems, key=lambda system: statistics.fmean(map(ua, system.seeds.values())))
    return _named("--truth", name, systems)


def _named(option: str, name: str, systems: Sequence[System]) -> System:
    """The system that an option names."""
    found = {system.name: system for system in systems}
    if name not in found:
        raise UsageError(f"{option} {name!r} is not one of the systems that are compared{nearest(name, found)}")
    return found[name]


def _legend(truth: System, limit: float, why: str, measures: Measures) -> str:
    """How the table was made."""
    return (
        f"{measures.legend} Folds are pooled; mean ± standard deviation over seeds where there are several. Agreement "
        f"is UA with the decisions of {truth.name} ({why}) as the truth. Exactly {limit:g} s is in the first group; n "
        "is its utterances."
    )


def _runs(truth: System) -> list[str]:
    folds = dict.fromkeys(run.fold for run in truth.runs)
    return [f"- folds: {', '.join(folds)}; seeds: {', '.join(truth.seeds)}"]


def _protocols(systems: Sequence[System]) -> list[str]:
    """A line for each protocol; where there are several, with the systems that have it."""
    names: dict[str, list[str]] = {}
    for system in systems:
        names.setdefault(system.protocol, []).append(system.name)
    lines = [
        f"- protocol{'' if len(names) == 1 else ' of ' + ', '.join(own)}: {protocol}" for protocol, own in names.items()
    ]
    return lines + [f"- {one}" for one in two_settings({one.name: one.about for one in systems})]

"""Scored systems beside each other, from their score lines: their figures, intervals and differences."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sertk.console.progress import say
from sertk.core import SertkError, UsageError, nearest
from sertk.core.files import write_text
from sertk.core.rows import hashes
from sertk.plugins import Plugins
from sertk.results.measures import Measures
from sertk.results.runs import Run, failures, find, lacking, two_settings
from sertk.results.systems import System
from sertk.results.tables import systems_table
from sertk.results.uncertainty import compared
from sertk.results.units import By


def compare(
    folders: Sequence[Path],
    *,
    seconds: float = 10.0,
    truth: str | None = None,
    baseline: str | None = None,
    by: By = "speakers",
    clips: bool = False,
    out: Path | None = None,
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
        files: Plugin files.

    Raises:
        SertkError: If a folder has no scored run, or the systems were not scored on the same utterances.
        UsageError: If no system has the name `truth` or `baseline`.
    """
    measures = Measures(Plugins(files=files))
    for folder in folders:
        find([folder])  # raises if it has no runs: no folder is left out in silence
    found = find(folders)
    _check_runs(found)
    names = _short_names(list(found))
    systems = [System(name, folder, runs) for name, (folder, runs) in zip(names, found.items(), strict=True)]
    protocols = _protocols(systems)
    _check_lines(systems)
    best = _truth(systems, truth, measures)
    base = systems[0] if baseline is None else _named("--baseline", baseline, systems)
    table = systems_table(systems, best, seconds, measures)
    lost = [f"{system.name}: {one}" for system in systems for one in failures(system.runs)]
    for one in lost:
        say(f"warning: {one}")
    why = "as asked" if truth else "the highest UA"
    notes = [*protocols, *_runs(best), *(f"- {one}" for one in lost)]
    ends = compared(systems, base, measures, by, clips=clips)
    text = "\n".join([*table, "", _legend(best, seconds, why, measures), "", *ends, "", *notes, ""])
    sys.stdout.write(text)
    if out:
        write_text(out, text)
        say(f"wrote {out}")


def _check_runs(found: Mapping[Path, Sequence[Run]]) -> None:
    """Refuses runs that differ in protocol, part or classes, and systems that lack some of the runs.

    Raises:
        SertkError: Naming what differs.
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

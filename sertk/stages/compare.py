"""Scored systems beside each other, from their score lines: P3's UA by duration and its agreement with the best."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

from sertk.console.progress import say
from sertk.core import InputError, Metric, SertkError, UsageError, nearest
from sertk.core.files import read_jsonl, write_text
from sertk.plugins import Plugins
from sertk.results.statistics import confusion
from sertk.stages.report import Run, find, lacking, protocol_of, spread, stated

SCORE = "Run `sertk score RUN/model DATA --out RUN/scores.jsonl` again (of a recipe: --stage score --force)."


class Line(NamedTuple):
    """What is taken from a score line."""

    label: str
    decision: str
    seconds: float


Lines = dict[tuple[str, str], Line]
"""Score lines of all folds, by fold and id."""


class System(NamedTuple):
    """A system that was scored.

    Attributes:
        name: As it is shown.
        folder: exp/<protocol>/<system>.
        protocol: In words.
        classes: In order.
        seeds: Its score lines by seed.
    """

    name: str
    folder: Path
    protocol: str
    classes: list[str]
    seeds: dict[str, Lines]

    def values(self, metric: str, where: Callable[[Line], bool] = lambda line: True) -> list[float]:
        """A metric of the lines where something holds, folds pooled, of each seed that has such lines."""
        kept = [[line for line in lines.values() if where(line)] for lines in self.seeds.values()]
        return self._values(metric, [[(line.label, line.decision) for line in lines] for lines in kept if lines])

    def agreement(self, truth: System) -> list[float]:
        """UA with the decisions of another system as the truth, folds pooled, seed by seed."""
        pairs = [
            [(truth.seeds[seed][key].decision, line.decision) for key, line in lines.items()]
            for seed, lines in self.seeds.items()
        ]
        return self._values("ua", pairs)

    def _values(self, metric: str, pairs: Sequence[Sequence[tuple[str, str]]]) -> list[float]:
        return [_metric(metric)(confusion(own, self.classes)) for own in pairs]


@cache
def _metric(name: str) -> Metric:
    made: Metric = Plugins().factory("metric", name)
    return made


def compare(
    folders: Sequence[Path], *, seconds: float = 10.0, truth: str | None = None, out: Path | None = None
) -> None:
    """Prints a Markdown table of systems that were scored on the same utterances.

    Args:
        folders: System folders, or anything above or in them.
        seconds: Up to here an utterance is short, s.
        truth: The system whose decisions are the truth of the agreement, by name; the one of the highest UA where None.
        out: Where the table is written too.

    Raises:
        SertkError: Where a folder has no scored run, or the systems were not scored on the same utterances.
    """
    for folder in folders:
        find([folder])  # each has runs: none is left out in silence
    found = find(folders)
    _check_runs([run for runs in found.values() for run in runs], found)
    systems = [_system(name, folder, found[folder]) for name, folder in zip(_names(list(found)), found, strict=True)]
    _check_lines(systems)
    text = _text(systems, _truth(systems, truth), seconds, "as asked" if truth else "the highest UA")
    sys.stdout.write(text)
    if out:
        write_text(out, text)
        say(f"wrote {out}")


def _check_runs(every: Sequence[Run], found: Mapping[Path, Sequence[Run]]) -> None:
    """Refuses runs that are not of one protocol, part and list of classes, and systems that lack some of them.

    Raises:
        SertkError: Naming what differs.
    """
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


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths, of equal length, that differ."""
    ends = ([Path(*folder.parts[-depth:]).as_posix() for folder in folders] for depth in count(1))
    return next(names for names in ends if len(set(names)) == len(names))


def _system(name: str, folder: Path, runs: Sequence[Run]) -> System:
    seeds: dict[str, Lines] = {}
    for run in runs:
        seeds.setdefault(run.seed, {}).update({(run.fold, i): line for i, line in _read(run).items()})
    return System(name, folder, stated(protocol_of(folder, runs)), runs[0].metrics["classes"], seeds)


def _read(run: Run) -> dict[str, Line]:
    """The lines of a run by id, those whose label is a class of the bundle, as in metrics.json.

    Raises:
        SertkError: Where the file is missing, or is not the one that metrics.json was made of.
        InputError: On a line that lacks something or comes twice.
    """
    path, classes = run.folder / "scores.jsonl", run.metrics["classes"]
    lines: dict[str, Line] = {}
    for where, line in read_jsonl(path, SCORE):
        missing = [name for name in ("id", *Line._fields) if name not in line]
        if missing:
            raise InputError(
                f"{where}: the score line lacks {', '.join(missing)}; an older sertk wrote no seconds. {SCORE}"
            )
        if line["id"] in lines:
            raise InputError(
                f"{where}: id {line['id']!r} comes twice, as where shards that overlap are put together. {SCORE}"
            )
        lines[line["id"]] = Line(*(line[name] for name in Line._fields))
    kept = {i: line for i, line in lines.items() if line.label in classes}
    pairs = [(line.label, line.decision) for line in kept.values() if line.decision in classes]
    if len(pairs) < len(kept) or confusion(pairs, classes).tolist() != run.metrics["confusion"]:
        raise SertkError(f"{path} has other decisions than the metrics.json beside it counts. {SCORE}")
    return kept


def _check_lines(systems: Sequence[System]) -> None:
    """Refuses systems whose utterances differ.

    Raises:
        SertkError: Naming the first.
    """
    known: dict[tuple[str, str], tuple[str, float]] | None = None
    for system in systems:
        for seed, lines in system.seeds.items():
            own = {key: (line.label, line.seconds) for key, line in lines.items()}
            known = own if known is None else known
            different = sorted({key for key, _ in own.items() ^ known.items()})
            if different:
                fold, name = different[0]
                raise SertkError(
                    f"{systems[0].folder} and {system.folder} (seed {seed}) have not scored the same utterances: "
                    f"{len(different)} differ in id, label or duration, the first {name!r} of fold {fold}. "
                    "Look for failed.jsonl beside the scores, and score both again on the same files."
                )


def _truth(systems: Sequence[System], name: str | None) -> System:
    if name is None:
        return max(systems, key=lambda system: statistics.fmean(system.values("ua")))
    found = {system.name: system for system in systems}
    if name not in found:
        raise UsageError(f"--truth {name!r} is none of the systems that are compared{nearest(name, found)}")
    return found[name]


def _text(systems: Sequence[System], truth: System, limit: float, why: str) -> str:
    """The table, and below it what it was made with."""
    protocols: dict[str, list[str]] = {}
    for system in systems:
        protocols.setdefault(system.protocol, []).append(system.name)
    seeds = truth.seeds
    folds = dict.fromkeys(fold for lines in seeds.values() for fold, _ in lines)
    return "\n".join(
        [
            f"| system | WA | UA | UA up to {limit:g} s (n) | UA beyond (n) | agreement with {truth.name} |",
            "|---|---|---|---|---|---|",
            *(_row(system, truth, limit) for system in systems),
            "",
            "WA is accuracy, UA is the mean class recall (UAR), folds pooled; percent, mean ± standard deviation over "
            f"seeds where there are several. Agreement is UA with the decisions of {truth.name} ({why}) as the truth. "
            f"Exactly {limit:g} s is in the first group; n is its utterances.",
            "",
            *(
                f"- protocol{'' if len(protocols) == 1 else ' of ' + ', '.join(names)}: {protocol}"
                for protocol, names in protocols.items()
            ),
            f"- folds: {', '.join(folds)}; seeds: {', '.join(seeds)}",
            "",
        ]
    )


def _row(system: System, truth: System, limit: float) -> str:
    def group(where: Callable[[Line], bool]) -> str:
        size = sum(map(where, next(iter(system.seeds.values())).values()))  # each seed has the same utterances
        return f"{spread(system.values('ua', where)) if size else '–'} ({size})"

    cells = [
        system.name,
        spread(system.values("wa")),
        spread(system.values("ua")),
        group(lambda line: line.seconds <= limit),
        group(lambda line: line.seconds > limit),
        "/" if system is truth else spread(system.agreement(truth)),
    ]
    return f"| {' | '.join(cells)} |"

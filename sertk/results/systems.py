"""Scored systems, read from the score lines of their runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sertk.core import InputError, Metric, SertkError
from sertk.core.files import read_jsonl
from sertk.plugins import Plugins
from sertk.results.runs import Run, protocol_of, stated
from sertk.results.statistics import confusion

SCORE = "Run `sertk score RUN/model DATA --out RUN/scores.jsonl` again (of a recipe: --stage score --force)."


class Line(NamedTuple):
    """What is used of a score line.

    Attributes:
        label: The class that the corpus gives.
        decision: The class that the system decided for.
        seconds: Duration of the utterance.
    """

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
        """A metric, pooled over the folds, for each seed that has any of the lines.

        Args:
            metric: By name.
            where: Chooses the lines that count.
        """
        kept = [[line for line in lines.values() if where(line)] for lines in self.seeds.values()]
        return self._values(metric, [[(line.label, line.decision) for line in lines] for lines in kept if lines])

    def agreement(self, truth: System) -> list[float]:
        """UA if the decisions of another system were the labels, pooled over the folds, seed by seed."""
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


def read_system(name: str, folder: Path, runs: Sequence[Run]) -> System:
    """Reads the score lines of a system.

    Args:
        name: How the system is shown.
        folder: Its folder.
        runs: Its runs, of one protocol.

    Raises:
        SertkError: If the runs have different protocols, or scores are missing or do not fit their metrics.json.
        InputError: If a score line lacks something or an id comes twice.
    """
    seeds: dict[str, Lines] = {}
    for run in runs:
        seeds.setdefault(run.seed, {}).update({(run.fold, i): line for i, line in _lines(run).items()})
    return System(name, folder, stated(protocol_of(folder, runs)), runs[0].metrics["classes"], seeds)


def _lines(run: Run) -> dict[str, Line]:
    """The score lines of a run by id; as in metrics.json, only those whose label is a class of the bundle."""
    path, classes = run.folder / "scores.jsonl", run.metrics["classes"]
    kept = {i: line for i, line in _every_line(path).items() if line.label in classes}
    pairs = [(line.label, line.decision) for line in kept.values() if line.decision in classes]
    if len(pairs) < len(kept) or confusion(pairs, classes).tolist() != run.metrics["confusion"]:
        raise SertkError(f"{path} has other decisions than the metrics.json beside it counts. {SCORE}")
    return kept


def _every_line(path: Path) -> dict[str, Line]:
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
    return lines

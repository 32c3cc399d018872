"""Sweeps on disk: their lines, and the runs of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from sertk.core import SertkError
from sertk.core.files import Document, part_of, read_json, read_jsonl
from sertk.core.forms import Form
from sertk.results.lines import SCORE
from sertk.results.runs import METRICS, Run, check_one_hash, check_one_system, protocol_of, run_of
from sertk.results.systems import System
from sertk.settings.sweep import swept_text

Place = tuple[str, str]
"""Fold and seed."""

FAILED = Form({"error": str})
COST = Form(
    {"seconds": float, "parameters": float, "trained": float},
    {"resumed": bool, "device": str, "memory": float, "gpu_memory": float},  # an older sertk wrote none of these
)
BUNDLE = Form({}, {"training": Mapping[str, Any]})
"""What failed.json, cost.json and bundle.json say of a run."""


class Line(NamedTuple):
    """A point of a sweep, or a row of which nothing is run; in the order of the table.

    Attributes:
        row: Name of the row in the file.
        swept: Values of the swept settings, by dotted name.
        folder: exp/PROTOCOL/SYSTEM[+tag]; None where nothing is run.
        runs: (fold, seed) of each run that was asked for; it lies in FOLDER/fold=F/seed=S.
        elsewhere: What is not the paper's: "another corpus", "another protocol", "another encoder", joined by ", ".
    """

    row: str
    swept: Mapping[str, object]
    folder: Path | None
    runs: tuple[Place, ...]
    elsewhere: str

    @property
    def label(self) -> str:
        """The row with its swept values, as it is shown."""
        return ", ".join(filter(None, [self.row, swept_text(self.swept)]))


@dataclass(frozen=True)
class Outcome:
    """What there is of a line.

    Attributes:
        line: The line.
        parts: The scored runs of each part that was asked for.
        training: `training` of the bundle of each run that is trained.
        costs: cost.json of each run that has one.
        failed: The error of each run that failed; nothing else of such a run counts.
    """

    line: Line
    parts: Mapping[str, System]
    training: Mapping[Place, Document]
    costs: Mapping[Place, Document]
    failed: Mapping[Place, str]

    @cached_property
    def lacking(self) -> dict[Place, str]:
        """What the runs lack that are not done and have not failed."""
        scored = {part: {(run.fold, run.seed) for run in system.runs} for part, system in self.parts.items()}
        found = {}
        for place in self.line.runs:
            parts = [part for part, places in scored.items() if place not in places]
            what = f"no scores of {' and '.join(parts)}" if parts else ""
            if place not in self.failed and (what or place not in self.training):
                found[place] = what if place in self.training else "not trained"
        return found

    @cached_property
    def curves(self) -> dict[Place, list[Document]]:
        """The lines of the log of each run that measured train and dev after every epoch."""
        logs = {place: self._log(place) for place in self.training}
        kept = {place: [line for line in log if "curves" in line] for place, log in logs.items()}
        return {place: log for place, log in kept.items() if log}

    def _log(self, place: Place) -> list[Document]:
        path = _folder(self.line, place) / "log.jsonl"
        return [line for _, line in read_jsonl(path, SCORE)] if path.exists() else []

    @property
    def done(self) -> list[Place]:
        """The runs that are trained and scored."""
        return [place for place in self.line.runs if place not in self.failed and place not in self.lacking]

    @property
    def count(self) -> str:
        """The number of runs as it is shown."""
        asked, done = len(self.line.runs), len(self.done)
        return "quoted" if self.line.folder is None else f"{done}{f' of {asked}' * (done < asked)}"


def outcomes(lines: Sequence[Line], parts: Sequence[str]) -> list[Outcome]:
    """Reads what there is of the lines of a sweep.

    Args:
        lines: The lines.
        parts: The parts whose scores are wanted.

    Raises:
        SertkError: On runs that do not go together: of other folds, of other settings, not of the fold or the seed
            that their folder says.
    """
    found = [_outcome(line, parts) for line in lines]
    systems = [(one.line.label, system) for one in found for system in one.parts.values() if system.runs]
    check_one_hash([(label, protocol_of(system.folder, system.runs)) for label, system in systems])
    return found


def _outcome(line: Line, parts: Sequence[str]) -> Outcome:
    runs: dict[str, list[Run]] = {part: [] for part in parts}
    training, costs, failed = dict[Place, Document](), dict[Place, Document](), dict[Place, str]()
    folder = line.folder or Path()
    for place in line.runs:
        run = _folder(line, place)
        bundle, cost, wrong = run / "model" / "bundle.json", run / "cost.json", run / "failed.json"
        if wrong.exists():
            failed[place] = first_sentence(str(read_json(wrong, SCORE, FAILED)["error"]))
            continue
        if bundle.exists():
            training[place] = read_json(bundle, SCORE, BUNDLE, newer=True).get("training") or {}
        if cost.exists():
            costs[place] = read_json(cost, SCORE, COST)
        for part, own in runs.items():
            if (run / METRICS[part]).exists():
                own.append(_placed(run / METRICS[part], place))
    for own in runs.values():
        check_one_system(folder, own)
    systems = {part: System(line.label, folder, own) for part, own in runs.items()}
    return Outcome(line, systems, training, costs, failed)


def _folder(line: Line, place: Place) -> Path:
    """The folder of a run."""
    return (line.folder or Path()) / f"fold={part_of(place[0])}" / f"seed={place[1]}"


def _placed(path: Path, place: Place) -> Run:
    """The run of a metrics file, which must be of the fold and the seed that its folder says."""
    run = run_of(path)
    if (run.fold, run.seed) != place:
        raise SertkError(
            f"{path} is of fold {run.fold}, seed {run.seed}, and its folder says fold {place[0]}, seed {place[1]}. "
            f"{SCORE}"
        )
    return run


def first_sentence(text: str) -> str:
    """The first sentence of an error."""
    return re.split(r"(?<=[.!?])\s|\n", text.strip(), maxsplit=1)[0]

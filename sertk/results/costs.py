"""What a system costs: its parameters, and the time that scoring took, as lines of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sertk.core.files import Document, read_json
from sertk.results.columns import Cost
from sertk.results.lines import SCORE
from sertk.results.runs import Run
from sertk.results.sweeps import COST
from sertk.results.systems import System

COUNT, TIME, SPACE = Cost("parameters"), Cost("scoring", "s"), Cost("memory", "GB")
SOURCES = {"store": "from stored features: not the time that a file of yours takes", "audio": "from audio"}


def cost_lines(system: System) -> list[str]:
    """Parameters, what training took, scoring time and real-time factor, as far as the runs say them: points of a list.

    The real-time factor is the seconds that scoring took by the seconds of audio.

    Args:
        system: The system.
    """
    paths = [run.folder / "cost.json" for run in system.runs]
    costs = [read_json(path, SCORE, COST) for path in paths if path.exists()]
    whole, trained = ([float(one[word]) for one in costs] for word in ("parameters", "trained"))
    found = [f"- parameters: {COUNT.text(*whole)}, of which {COUNT.text(*trained)} are trained"] if costs else []
    found += _training(costs)
    kinds: dict[tuple[Any, ...], list[Run]] = {}
    for run in system.runs:
        if took := run.metrics.get("took"):
            kinds.setdefault(tuple(took.get(word) for word in ("from", "batch")), []).append(run)
    return found + [_scoring(runs, len(system.runs), *kind) for kind, runs in kinds.items()]


def _training(costs: Sequence[Document]) -> list[str]:
    """The time and the memory of training."""
    known = [one for one in costs if "memory" in one]
    whole = [float(one["seconds"]) for one in known if not one["resumed"]]
    if not known:
        return []
    said = f"- training: {TIME.text(*whole)} s a run" if whole else "- training"
    said += f" on {' and '.join(dict.fromkeys(str(one['device']) for one in known))}"
    said += f", at most {SPACE.text(max(float(one['memory']) for one in known))} GB of memory"
    if on_gpu := [float(one["gpu_memory"]) for one in known if "gpu_memory" in one]:
        said += f" and {SPACE.text(max(on_gpu))} GB of the GPU's"
    stopped = len(known) - len(whole)
    return [
        f"{said}; {stopped} of {len(known)} runs went on after a stop, and their time is not known" if stopped else said
    ]


def _scoring(runs: Sequence[Run], every: int, source: str | None, batch: int | None) -> str:
    """The time of runs that were scored alike."""
    seconds = sum(float(run.metrics["took"]["seconds"]) for run in runs)
    # score lines of labels that are no class are not read, and inputs that failed have none
    whole = not any(run.metrics.get("left_out") or run.metrics.get("failed") for run in runs)
    audio = sum(float(run.scores.seconds.sum()) for run in runs) if whole else math.nan
    said = f"- scoring: {TIME.text(seconds)} s"
    if audio > 0:
        factor = np.format_float_positional(seconds / audio, 2, unique=False, fractional=False, trim="-")
        said += f" for {audio:,.0f} s of audio, real-time factor {factor}"
    if len(runs) < every:
        said += f", {len(runs)} of {every} runs"
    said += f", {SOURCES.get(source, source)}" if source else ""
    return f"{said}; {batch} utterances at once" if batch else said

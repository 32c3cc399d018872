"""How far along a sweep is: its runs by row and state, and the time that is left."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from sertk.core.files import read_json
from sertk.core.forms import Form
from sertk.recipe import search as searching
from sertk.recipe.freshness import Step, fresh
from sertk.recipe.launch import Launch
from sertk.recipe.sweep import SweepPlan
from sertk.training import run_folder

STATES = ("done", "running", "submitted", "failed", "to do")
AGAIN = "Delete it."


def status(plan: SweepPlan) -> list[str]:
    """A line for each row, and one for all."""
    found = _runs(plan)
    steps = [step for own in found.values() for steps in own.values() for step in steps]
    queued = Launch.of(plan.base).kept(steps)
    runs = {row: {one: _state(one, some, queued) for one, some in own.items()} for row, own in found.items()}
    lines = [f"{row}: {searching.status(places)}" for row, places in plan.searches.items()]
    lines += [f"{row}: {_words(Counter(states.values()))}" for row, states in runs.items()]
    every = Counter(state for states in runs.values() for state in states.values())
    left = _duration(_left(runs), plan.jobs) if every.total() else "not known until the corpus is prepared"
    return [*lines, f"{every.total()} runs: {_words(every)}; time left: {left}"]


def _runs(plan: SweepPlan) -> dict[str, dict[Path, list[Step]]]:
    """The steps of each run by its folder, by row."""
    found: dict[str, dict[Path, list[Step]]] = {}
    for point, one in plan.plans:
        own = found.setdefault(point.row, {})
        for step in (*(plan.steps_of(point, one, "train") or ()), *(plan.steps_of(point, one, "score") or ())):
            own.setdefault(step.stamp.parent, []).append(step)
    return found


def _state(folder: Path, steps: Sequence[Step], queued: Container[Path]) -> str:
    if run_folder.held(folder):
        return "running"
    if any(step.stamp in queued for step in steps):
        return "submitted"
    if (folder / "failed.json").exists():
        return "failed"
    return "done" if all(map(fresh, steps)) else "to do"


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state)) or "no fold is known yet"


def _left(runs: Mapping[str, Mapping[Path, str]]) -> list[float | None]:
    """Seconds that each open run will take: the mean of its row, else of all rows; None if no run is done."""
    known = {row: list(_seconds(states)) for row, states in runs.items()}
    every = [seconds for own in known.values() for seconds in own]
    found: list[float | None] = []
    for row, states in runs.items():
        each = known[row] or every
        found += [statistics.fmean(each) if each else None for state in states.values() if state != "done"]
    return found


def _seconds(folders: Mapping[Path, str]) -> Iterator[float]:
    """Seconds of training of each run that was trained."""
    for folder in folders:
        if (folder / "cost.json").exists():
            yield read_json(folder / "cost.json", AGAIN, Form({"seconds": float}))["seconds"]


def _duration(left: Sequence[float | None], jobs: int) -> str:
    if not left:
        return "none"
    known = [one for one in left if one is not None]
    if len(known) < len(left):
        return "not known until a run is done"
    minutes = sum(known) / jobs / 60
    return f"about {minutes / 60:.1f} h" if minutes > 90 else f"about {max(1, round(minutes))} min"

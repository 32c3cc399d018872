"""Steps as commands: runs that differ only in fold and seed share a command; there are as many as run at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sertk.core.files import beside, read_json
from sertk.core.forms import Form
from sertk.recipe.freshness import Step, stale
from sertk.settings.several import seeds_text

Grid = tuple[list[str], list[str]]
"""Folds and seeds of the runs of a command: each fold has each seed."""


class Command(NamedTuple):
    """A command, and the steps that it does.

    Attributes:
        words: Without `sertk`.
        steps: One or more.
    """

    words: list[str]
    steps: Sequence[Step]

    def codes(self, code: int) -> list[int]:
        """The exit code of each of its steps, given its own: 3 says that some of several were not done."""
        return [_own(step) for step in self.steps] if code == 3 and len(self.steps) > 1 else [code] * len(self.steps)


def _own(step: Step) -> int:
    folder = step.stamp.parent
    broken = folder / "failed.json"
    if any(not path.exists() for path in step.makes) or (
        broken.exists() and read_json(broken, "Delete it.", Form({"stage": str}))["stage"] == step.stage
    ):
        return 1
    return 3 if step.stage == "score" and beside(step.makes[0], "failed", ".jsonl").exists() else 0


def commands(steps: Sequence[Step], jobs: int | None, *, force: bool) -> list[Command]:
    """The commands that do some steps.

    Args:
        steps: Of one stage.
        jobs: Commands at once: runs that could share one command are shared out among so many. None: each has its own.
        force: Whether to do again what is up to date.
    """
    groups: dict[tuple[bool, tuple[str, ...]], list[Step]] = {}
    for number, step in enumerate(steps):
        begin = step.stage == "train" and (force or stale(step))  # a run that is complete, but out of date
        shared = step.together if jobs and step.run and _listed(step.run[0]) else [str(number)]
        groups.setdefault((begin, tuple(shared)), []).append(step)
    parts = -(-(jobs or 1) // max(1, len(groups)))
    return [one for (begin, _), own in groups.items() for one in _commands(own, parts, ["--force"] * begin)]


def _listed(fold: str) -> bool:
    """Whether a fold can be named among others."""
    return "," not in fold and not fold.startswith("#") and fold != "all"


def _commands(steps: Sequence[Step], parts: int, more: Sequence[str]) -> Iterator[Command]:
    by_run = {step.run: step for step in steps}
    if len(by_run) < 2:
        yield from (Command([*step.words, *more], [step]) for step in steps)
        return
    for folds, seeds in _shares(_grids(run for run in by_run if run), parts):
        own = [by_run[fold, seed] for fold in folds for seed in seeds]
        alone = own[0].words if len(own) == 1 else None
        together = [*own[0].together, "--fold", ",".join(folds), "--seed", seeds_text(seeds)]
        yield Command([*(alone or together), *more], own)


def _grids(runs: Iterable[tuple[str, str]]) -> list[Grid]:
    """Folds with the same seeds, put together."""
    seeds: dict[str, list[str]] = {}
    for fold, seed in runs:
        seeds.setdefault(fold, []).append(seed)
    folds: dict[tuple[str, ...], list[str]] = {}
    for fold, own in seeds.items():
        folds.setdefault(tuple(own), []).append(fold)
    return [(own, list(common)) for common, own in folds.items()]


def _shares(grids: Sequence[Grid], parts: int) -> Iterator[Grid]:
    """Grids cut along their longer side, so that there are some parts of each."""
    each = -(-parts // max(1, len(grids)))
    for folds, seeds in grids:
        longer = folds if len(folds) >= len(seeds) else seeds
        size = -(-len(longer) // min(each, len(longer)))
        cut = [longer[i : i + size] for i in range(0, len(longer), size)]
        yield from ((one, seeds) if longer is folds else (folds, one) for one in cut)

"""Runs the stages of a recipe in order, each skipped while nothing that it depends on changed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from sertk.console.progress import say
from sertk.core import SertkError, UsageError
from sertk.recipe import quick
from sertk.recipe.freshness import Step, files_of, fresh
from sertk.recipe.launch import Launch, skipped
from sertk.recipe.plan import STAGES, Ask, Plan
from sertk.training import distributed
from sertk.training.assemble import rehearse


def run(path: Path, ask: Ask, record: Path | None = None) -> int:
    """Runs the chosen stages; returns the exit code of the first that fails, or 0.

    Args:
        path: recipe.yaml.
        ask: What the user asked.
        record: Where to leave a record for `sertk.recipe.quick`.

    Raises:
        UsageError: On what is wrong with the settings, before the first stage that is due.
        SertkError: Where a stage that comes first has not run.
    """
    if distributed.launched() > 1:
        raise UsageError("torchrun starts `sertk train` alone; `sertk recipe --dry-run` prints its command.")
    stages = _stages(ask)
    plan = Plan(path, ask)
    launch = Launch.of(plan)
    todo, looked = list[Step](), False
    for stage in stages:
        steps = plan.steps(stage)
        if steps is None and ask.dry:
            say(f"{stage}: the folds of {plan.protocol} follow from the corpus; prepare it first (--stage 1).")
            continue
        todo = [step for step in steps or () if ask.force or launch.awaits(step) or not fresh(step)]
        if todo and not looked:
            rehearse(plan.plugins, plan.computed, plan.classes, plan.aux)
            looked = True
        if not ask.dry and not launch.ahead and (todo or steps is None):
            plan.check_before(stage)
        codes = launch.stage(stage, steps or (), todo)
        if any(codes):
            return next(filter(None, codes))
    if failed := [code for _, code in launch.end() if code]:
        return failed[0]
    if stages[-1] == "report" and todo and not ask.dry:
        for note in plan.notes():  # said by prepare, far above the table
            say(f"{plan.title}: {note}")
    if record:
        with contextlib.suppress(SertkError, OSError):  # without a record the next call is made in full
            _record(plan, stages, record)
    return 0


def look(path: Path, ask: Ask, *, cancel: bool) -> int:
    """Shows for each stage how many of its steps are done, in the queue of a cluster, and to do; or ends the jobs.

    Args:
        path: recipe.yaml.
        ask: What the user asked.
        cancel: Whether the jobs are ended.

    Returns:
        The exit code, 0.
    """
    plan = Plan(path, ask)
    steps = {stage: plan.steps(stage) or () for stage in _stages(ask)}
    every = [step for some in steps.values() for step in some]
    if cancel:
        say(f"{Launch.of(plan).cancel(every)} jobs are ended")
        return 0
    queued = Launch.of(plan).kept(every)
    for stage, some in steps.items():
        waits = sum(step.stamp in queued for step in some)
        done = sum(step.stamp not in queued and fresh(step) for step in some)
        say(f"{stage}: {done} done, {waits} submitted, {len(some) - done - waits} to do")
    return 0


def _stages(ask: Ask) -> Sequence[str]:
    stages = STAGES[STAGES.index(ask.first) : STAGES.index(ask.last) + 1]
    if not stages:
        raise UsageError(f"--stage {ask.first} comes after --stop-stage {ask.last}.")
    return stages


def _record(plan: Plan, stages: Sequence[str], record: Path) -> None:
    """Leaves a record of what the same call would find if it came now: that it has nothing to do."""
    steps = {stage: plan.steps(stage) or () for stage in stages}
    every = [step for some in steps.values() for step in some]
    files = [plan.folds_file, *(file for step in every for file in files_of(step))]
    # first look, then judge: a change in between is seen by one of the two
    found = quick.looks(plan.inputs(), [*files, *(step.folder for step in every if step.folder)])
    if found and all(map(fresh, every)):
        quick.leave(record, found, [skipped(stage, len(some), some) for stage, some in steps.items() if some])

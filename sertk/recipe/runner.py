"""Runs the stages of a recipe in order, each skipped while nothing that it depends on changed."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from sertk.console.progress import console, say
from sertk.core import Launcher, SertkError, UsageError
from sertk.recipe import quick
from sertk.recipe.commands import commands
from sertk.recipe.freshness import Fingerprint, Step, files_of, fingerprint, fresh, remember, stale, stamp
from sertk.recipe.plan import STAGES, Ask, Plan
from sertk.training import distributed
from sertk.training.assemble import rehearse

ALONE = ("prepare", "featurize", "report")
"""Stages that are one command, which divides its work among processes itself."""


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
    stages = STAGES[STAGES.index(ask.first) : STAGES.index(ask.last) + 1]
    if not stages:
        raise UsageError(f"--stage {ask.first} comes after --stop-stage {ask.last}.")
    plan = Plan(path, ask)
    launcher: Launcher = plan.plugins.make("launcher", "local")
    due, looked = ask.force, False
    for stage in stages:
        steps = plan.steps(stage)
        if steps is None and ask.dry:
            say(f"{stage}: the folds of {plan.protocol} follow from the corpus; prepare it first (--stage 1).")
            continue
        todo = [step for step in steps or () if due or not fresh(step)]
        if todo and not looked:
            rehearse(plan.plugins, plan.computed, plan.classes, plan.aux)
            looked = True
        if not ask.dry and (todo or steps is None):
            plan.check_before(stage)
        due = due or (ask.dry and bool(todo))  # what follows a stage that will run cannot be judged yet
        codes = run_stage(plan.ask, plan.jobs, stage, steps or (), todo, launcher)
        if any(codes):
            return next(filter(None, codes))
        if stage == "report" and todo and not ask.dry:
            for note in plan.notes():  # said by prepare, far above the table
                say(f"{plan.title}: {note}")
    if record:
        with contextlib.suppress(SertkError, OSError):  # without a record the next call is made in full
            _record(plan, stages, record)
    return 0


def _record(plan: Plan, stages: Sequence[str], record: Path) -> None:
    """Leaves a record of what the same call would find if it came now: that it has nothing to do."""
    steps = {stage: plan.steps(stage) or () for stage in stages}
    every = [step for some in steps.values() for step in some]
    files = [plan.folds_file, *(file for step in every for file in files_of(step))]
    # first look, then judge: a change in between is seen by one of the two
    found = quick.looks(plan.inputs(), [*files, *(step.folder for step in every if step.folder)])
    if found and all(map(fresh, every)):
        quick.leave(record, found, [_skipped(stage, len(some), some) for stage, some in steps.items() if some])


def run_stage(
    ask: Ask, jobs: int, stage: str, steps: Sequence[Step], todo: Sequence[Step], launcher: Launcher
) -> list[int]:
    """Does the steps of a stage that are not up to date, or prints their commands.

    Args:
        ask: What the user asked.
        jobs: Commands at once.
        stage: Its name.
        steps: All of them.
        todo: Those that are due.
        launcher: Runs commands.

    Returns:
        The exit code of each that was due; 0 where its failed inputs are allowed.
    """
    if len(todo) < len(steps):
        say(_skipped(stage, len(steps) - len(todo), steps))
    changed = [] if ask.force else [step for step in todo if stale(step)]
    if changed:
        what = "what they read, or the installed versions, changed since"
        say(f"{stage}: {len(changed)} of {len(steps)} were done with these settings, but {what}: they are done again")
    due = commands(todo, 1 if stage in ALONE else jobs, force=ask.force)
    if ask.dry:
        for command in due:
            sys.stdout.write(shlex.join(["sertk", *command.words]) + "\n")
        return [0] * len(todo)
    for step in steps:
        if step not in todo:
            remember(step)
    for command in due:
        if "--force" not in command.words:  # a forced run takes its stamp away with its folder, when it begins
            for step in command.steps:
                step.stamp.unlink(missing_ok=True)
    before = {step.stamp: fingerprint(step) for step in todo}
    for command in due:
        console.rule(f"{STAGES.index(stage) + 1} {stage}", align="left") if command is due[0] else None
        say(shlex.join(["sertk", *command.words]))
    ended = launcher.run([[sys.executable, "-m", "sertk", *one.words] for one in due], 1 if stage in ALONE else jobs)
    codes = {
        step.stamp: own
        for command, code in zip(due, ended, strict=True)
        for step, own in zip(command.steps, command.codes(code), strict=True)
    }
    return [_finish(step, before[step.stamp], codes[step.stamp], allow_failed=ask.allow_failed) for step in todo]


def _skipped(stage: str, count: int, steps: Sequence[Step]) -> str:
    return f"{stage}: {count} of {len(steps)} up to date, skipped"


def _finish(step: Step, before: Fingerprint, code: int, *, allow_failed: bool) -> int:
    if code == 3 and not allow_failed:
        say(f"{step.stage}: some inputs failed, listed above. Correct them, or go on without: --allow-failed")
    if code == 0 or (code == 3 and allow_failed):
        stamp(step, fingerprint(step) if step.folder else before)  # prepare may have made the corpus itself
        return 0
    return code if code > 0 else 1  # a signal is a negative code

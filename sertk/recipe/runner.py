"""Runs the stages of a recipe in order, each skipped while nothing that it depends on changed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from sertk.console.progress import console, say
from sertk.core import Launcher, UsageError
from sertk.recipe.freshness import Fingerprint, Step, fingerprint, fresh, remember, stale, stamp
from sertk.recipe.plan import STAGES, Ask, Plan
from sertk.training import distributed
from sertk.training.assemble import rehearse

ALONE = ("prepare", "featurize", "report")
"""Stages that are one command, which shares its work out by itself."""


def run(path: Path, ask: Ask) -> int:
    """Runs the stages asked for; gives the exit code of the first that fails, or 0.

    Args:
        path: recipe.yaml.
        ask: What the user asked.

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
            rehearse(plan.plugins, plan.computed, plan.classes)
            looked = True
        if not ask.dry and (todo or steps is None):
            plan.check_before(stage)
        due = due or (ask.dry and bool(todo))  # what follows a stage that will run cannot be judged yet
        code = _stage(plan, stage, steps or (), todo, launcher)
        if code:
            return code
    return 0


def _stage(plan: Plan, stage: str, steps: Sequence[Step], todo: Sequence[Step], launcher: Launcher) -> int:
    if len(todo) < len(steps):
        say(f"{stage}: {len(steps) - len(todo)} of {len(steps)} up to date, skipped")
    changed = [] if plan.ask.force else [step for step in todo if stale(step)]
    if changed:
        what = "what they read, or the installed versions, changed since"
        say(f"{stage}: {len(changed)} of {len(steps)} were done with these settings, but {what}: they are done again")
    commands = [_words(step, force=plan.ask.force) for step in todo]
    if plan.ask.dry:
        for words in commands:
            sys.stdout.write(shlex.join(["sertk", *words]) + "\n")
        return 0
    for step in steps:
        if step not in todo:
            remember(step)
    for step, words in zip(todo, commands, strict=True):
        if "--force" not in words:  # a forced run takes its stamp away with its folder, when it begins
            step.stamp.unlink(missing_ok=True)
    before = [fingerprint(step) for step in todo]
    for words in commands:
        console.rule(f"{STAGES.index(stage) + 1} {stage}", align="left") if words is commands[0] else None
        say(shlex.join(["sertk", *words]))
    programs = [[sys.executable, "-m", "sertk", *words] for words in commands]
    codes = launcher.run(programs, 1 if stage in ALONE else plan.jobs)
    return _finish(todo, before, codes, allow_failed=plan.ask.allow_failed)


def _finish(steps: Sequence[Step], before: Sequence[Fingerprint], codes: Sequence[int], *, allow_failed: bool) -> int:
    worst = 0
    for step, read, code in zip(steps, before, codes, strict=True):
        if code == 3 and not allow_failed:
            say(f"{step.stage}: some inputs failed, listed above. Mend them, or go on without: --allow-failed")
        if code == 0 or (code == 3 and allow_failed):
            stamp(step, fingerprint(step) if step.folder else read)  # prepare may have made the corpus itself
        else:
            worst = worst or (code if code > 0 else 1)  # a signal is a negative code
    return worst


def _words(step: Step, *, force: bool) -> list[str]:
    """The command; a run that is complete but out of date (not of other settings) is told to begin anew."""
    return [*step.words, "--force"] if step.stage == "train" and (force or stale(step)) else step.words

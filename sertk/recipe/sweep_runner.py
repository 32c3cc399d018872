"""Runs a sweep: what is up to date is skipped, a run that fails ends only itself, and the table is the last step."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from sertk.console.progress import say
from sertk.core import SertkError, UsageError
from sertk.plugins import Plugins
from sertk.recipe import search as searching
from sertk.recipe.freshness import Step, fresh
from sertk.recipe.launch import Launch
from sertk.recipe.plan import Ask
from sertk.recipe.status import status
from sertk.recipe.sweep import STAGES, SweepPlan, sweep_files
from sertk.results.measures import Measure
from sertk.stages.tabulate import Part, tabulate
from sertk.training import distributed
from sertk.training.assemble import rehearse
from sertk.training.study import check


def sweep(
    name: str, ask: Ask, rows: Sequence[str], recipe: str | None, what: Literal["run", "status", "cancel", "table"]
) -> int:
    """Runs a sweep, shows how far along it is, ends its jobs, or makes the table of the runs that are done.

    Args:
        name: Its file, RECIPE/NAME, or a NAME that several recipes have, of which the tables are put together.
        ask: What the user asked.
        rows: The rows that are run; all where empty.
        recipe: Another recipe to run it over.
        what: To do.

    Returns:
        The exit code: 0, 3 where some runs failed, or the code of what stopped it.

    Raises:
        UsageError: On what is wrong with the file or the settings, before the first stage that is due.
    """
    if distributed.launched() > 1:
        raise UsageError("torchrun starts `sertk train` alone; `sertk sweep --dry-run` prints its commands.")
    paths = sweep_files(name)
    if len(paths) > 1 and what == "run":
        one = f"{paths[0].parents[1].name}/{name}"
        raise UsageError(
            f"{len(paths)} recipes have a sweep {name!r}. Run them one by one ({one}); --table joins them."
        )
    plans = []
    for path in paths:
        own = ask.work / path.parents[1].name if ask.work and len(paths) > 1 else ask.work
        plans.append(SweepPlan(path, replace(ask, work=own), rows, recipe))
    if what == "run":
        return _run(plans[0])
    if what == "cancel":
        say(f"{sum(map(_cancel, plans))} jobs are ended")
    elif what == "table":
        _table(plans, (ask.work or Path()) / "exp" / "sweeps" / name if len(paths) > 1 else plans[0].out)
    else:
        sys.stdout.write("".join(f"{line}\n" for plan in plans for line in status(plan)))
    return 0


def _cancel(plan: SweepPlan) -> int:
    searches = [one for step in plan.search_steps for one in searching.submitted(step)]
    return Launch.of(plan.base).cancel([*plan.every(), *searches, _last(plan)])


def _run(plan: SweepPlan) -> int:
    with ExitStack() as rest:  # what keeps other processes waiting ends with it
        return _stages(plan, rest)


def _stages(plan: SweepPlan, rest: ExitStack) -> int:
    ask, found = plan.ask, set[str]()  # system files that a dry run's searches would write
    plan.check_curves()
    launch = Launch.of(plan.base)
    todo, looked, failed = list[Step](), False, list[int]()
    for stage in STAGES:
        if stage == "featurize" and not (ask.dry and todo):  # the corpus is prepared
            plan.check_only()
        if stage == "train" and plan.searches:
            searches = [step for step in plan.search_steps if ask.force or launch.awaits(step) or not fresh(step)]
            if searches and not looked:
                _rehearse(plan)
            if code := next((code for _, code in launch.end() if code), 0):  # a search reads what featurize makes
                return code
            codes = searching.run(ask, plan.jobs, searches, launch)
            if 130 in codes:
                return 130
            failed += filter(None, codes)
            found = {str(path) for step in searches for path in step.makes} if ask.dry else found
            if not ask.dry:
                rest.enter_context(searching.alone(plan.out))
            plan = plan.again()
        steps = plan.steps(stage)
        if steps is None:
            say(f"{stage}: the folds of {plan.base.protocol} follow from the corpus; prepare it first.")
            continue
        trained = ask.dry or launch.ahead  # or will be
        steps = [step for step in steps if stage != "score" or trained or (step.stamp.parent / "model").exists()]
        todo = [
            step
            for step in steps
            if ask.force or not found.isdisjoint(step.words) or launch.awaits(step) or not fresh(step)
        ]
        if todo and not looked:
            _rehearse(plan)
            looked = True
        codes = launch.stage(stage, steps, todo, anyhow=stage == "score")
        if any(codes) and (stage in ("prepare", "featurize") or 130 in codes):
            return next(filter(None, codes))
        failed += filter(None, codes)
    if ask.dry:
        sys.stdout.write(shlex.join(["sertk", *plan.command()]) + "\n")
        return 0
    if not launch.ahead:
        _table([plan], plan.out)
        return 3 if failed else 0
    launch.last(_last(plan))
    ended = launch.end()
    say(f"the table is in {plan.out}")
    first = next((code for stage, code in ended if code and stage == "featurize"), 0)
    return first or (130 if ("train", 130) in ended else 3 if any(code for _, code in ended) else 0)


def _last(plan: SweepPlan) -> Step:
    """The table as a step, for launchers whose commands outlive this process."""
    return Step("table", plan.command(), plan.out / ".table.json", None, [], [])


def _table(plans: Sequence[SweepPlan], out: Path) -> None:
    """Writes the table of the runs that are done; several sweeps become one table."""
    parts = [Part(plan.corpus, plan.sweep, plan.lines, plan.notes) for plan in plans]
    tabulate(parts, out, list(dict.fromkeys(file for plan in plans for file in plan.files)))


def _rehearse(plan: SweepPlan) -> None:
    """Makes the metric of every cell and the model of every row, so that errors come before anything is run.

    Raises:
        UsageError: See `Measure` and `rehearse`; the cell or the row is named.
    """
    plugins = Plugins(files=plan.files)
    metrics = [(f"cell {name!r}", cell.metric) for name, cell in plan.sweep.cells.items()]
    metrics += [(f"row {name!r}", metric) for name, row in plan.sweep.rows.items() for metric in row.metrics]
    for place, metric in metrics:
        try:
            Measure(plugins, metric)
        except SertkError as error:
            raise type(error)(f"{place}: {error}") from error
    for row, search in plan.sweep.searched.items():
        if row in plan.searches:
            check(search)
    for point, one in [*plan.bases, *plan.ends()]:
        try:
            rehearse(one.plugins, one.computed, one.classes, one.aux)
        except SertkError as error:
            raise type(error)(f"row {point.row!r}: {error}") from error

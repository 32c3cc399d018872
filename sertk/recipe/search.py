"""The searches of a sweep: a command for each, and what they found."""

from __future__ import annotations

import fcntl
import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import NamedTuple

from sertk.console.progress import console, say
from sertk.core.files import part_of
from sertk.recipe.freshness import Step, fingerprint, stamp
from sertk.recipe.launch import Launch
from sertk.recipe.plan import Ask, Plan
from sertk.results.measures import Measure
from sertk.settings.overrides import Choices
from sertk.settings.plain import identity, plain
from sertk.settings.schema import Searched, Settings
from sertk.settings.several import folds_of
from sertk.settings.sweep import Point, Search, system_name
from sertk.settings.values import value_text
from sertk.training.study import JOURNAL, Study, clear


class Place(NamedTuple):
    """A search of a row.

    Attributes:
        point: The row.
        search: What is searched, and how.
        folder: Of the search.
        searched: The folds on whose dev it is made.
        served: The folds that are run with what it finds.
        system: The file that it writes.
    """

    point: Point
    search: Search
    folder: Path
    searched: list[str]
    served: list[str]
    system: Path


def places(sweep: Path, point: Point, search: Search, base: Plan, out: Path) -> list[Place]:
    """The searches of a row: one for each fold, or one for all; none where the folds are not known yet."""
    served = list(dict.fromkeys(fold for fold, _ in base.places))
    folder, name = out / "search" / part_of(point.row), f"{system_name(sweep, point.row)}.yaml"
    if not served:
        return []
    if search.nested:
        own = {fold: folder / f"fold={part_of(fold)}" for fold in served}
        return [Place(point, search, at, [fold], [fold], at / name) for fold, at in own.items()]
    searched = list(dict.fromkeys(fold for text in search.folds for fold in folds_of(text, base.folds or [])))
    return [Place(point, search, folder, searched, served, folder / name)]


def step_of(sweep: Path, place: Place, base: Plan) -> Step:
    """The command of a search: what `train` would be told, and where the ranges are."""
    first = next(iter(base.steps("train") or ()))
    words = ["search", *first.together[1:-2], "--fold", ",".join(place.searched), "--seed", base.places[0][1]]
    words += ["--sweep", str(sweep), "--row", place.point.row, "--out", str(place.folder)]
    settings = [first.settings, plain(place.search), place.searched]
    file = place.folder / ".search.json"
    return Step("search", words, file, settings, first.needs, [place.system], reads=first.reads)


def asked_of(place: Place, ask: Ask) -> Ask:
    """What is asked of the runs that have what a search found: all that a run is comes from the system file."""
    free = identity(Settings(), "which", "how")
    above: Choices = ask.choices
    given = above.overrides().items()
    texts = [f"{name}={value_text(value)}" for name, value in given if {name, name.partition(".")[0]} & free.keys()]
    own = Choices(system=str(place.system), set=texts, plugin=above.plugin, trust=above.trust)
    return replace(ask, folds=place.served, choices=own)


def submitted(step: Step) -> list[Step]:
    """The processes of a search that were submitted to what outlives sertk; each has a stamp, and so a note."""
    folder = step.stamp.parent
    notes = folder.parent.glob(f".search-*-{escape(folder.name)}.job.json")
    return _processes(step, 1 + max((int(note.name.split("-")[1]) for note in notes), default=-1))


def _processes(step: Step, count: int) -> list[Step]:
    return [step._replace(stamp=step.stamp.with_name(f".search-{number}.json")) for number in range(count)]


def run(ask: Ask, jobs: int, due: Sequence[Step], launch: Launch) -> list[int]:
    """Does searches; where more commands may run than there are searches, several share one.

    Args:
        ask: What the user asked.
        jobs: Commands at once.
        due: The searches that are due.
        launch: Runs commands.

    Returns:
        The exit code of each.
    """
    if ask.dry:
        for step in due:
            sys.stdout.write(shlex.join(["sertk", *step.words, *["--force"] * ask.force]) + "\n")
        if due:
            say("train: the settings of searched rows are known after the search; make the sweep again then.")
        return [0] * len(due)
    console.rule("search", align="left") if due else None
    copies = max(1, jobs // max(1, len(due)))
    every = [one for step in due for one in _processes(step, copies)]
    running = {stamp.parent for stamp in launch.kept(every)}
    for step in due:
        if ask.force and step.stamp.parent not in running:
            clear(step.stamp.parent)
    before = [fingerprint(step) for step in due]
    ended = launch.stage("search", every, every) or [code for _, code in launch.end()]
    codes = [min(ended[i : i + copies], key=abs) for i in range(0, len(ended), copies)]  # one that ended well is enough
    for step, one, code in zip(due, before, codes, strict=True):
        if code == 0:
            stamp(step, one)
    return codes


def notes(search: Search, base: Plan, found: Sequence[Plan], asked: int) -> Iterator[str]:
    """What a table says of a searched row.

    Args:
        search: How it was searched.
        base: The recipe before the search.
        found: A recipe for each system file that there is.
        asked: The number of searches.
    """
    ranges = "; ".join(f"{name} {one}" for name, one in search.ranges.items())
    where = "of each fold by itself, on its own dev" if search.nested else f"on dev of fold {', '.join(search.folds)}"
    seed = next((seed for _, seed in base.places), "?")
    how = f"{search.trials} trials, sampler {search.sampler.name}, pruner {search.pruner.name}, seed {seed}"
    yield f"a search {where}: {how}. Ranges: {ranges}"
    known = [one.settings.searched for one in found if one.settings.searched]
    if len(known) < asked:
        yield f"**partial**: {len(known)} of {asked} searches are done"
    if not known:
        return
    if not search.nested:
        yield "**settings saw test speakers of other folds**: one search chose for all, so its figures are too high"
    trials, pruned, failed = (sum(getattr(one, word) for one in known) for word in ("trials", "pruned", "failed"))
    yield f"{trials} trials were made ({pruned} pruned, {failed} failed); {_on_dev(known, base)}"
    values = [identity(one.settings) for one in found]
    found_by = ", by fold" if search.nested else ""
    yield f"found{found_by}: {'; '.join(f'{n} {_texts(own.get(n) for own in values)}' for n in search.ranges)}"


def _on_dev(known: Sequence[Searched], base: Plan) -> str:
    """What was reached on dev, which is the best of many and so says little of a test."""
    measure = Measure(base.plugins, base.settings.train.metric)
    best = measure.text(statistics.fmean(one.dev for one in known))
    stood = [one.stands for one in known if one.stands is not None]
    before = f" (before the search {measure.text(statistics.fmean(stood))})" if len(stood) == len(known) else ""
    return f"the best have dev {known[0].metric} {best}{before}, a figure that was chosen for being high"


def _texts(values: Iterable[object]) -> str:
    return ", ".join(f"{one:.3g}" if isinstance(one, float) else value_text(one) for one in values)


def status(places: Sequence[Place]) -> str:
    """How far along the searches of a row are."""
    counts: Counter[str] = Counter()
    for one in places:
        if (one.folder / JOURNAL).exists():
            counts += Study(one.folder, one.search).counts
    asked = sum(one.search.trials for one in places)
    words = {"pruned": "PRUNED", "failed": "FAIL", "running": "RUNNING", "to be taken up again": "WAITING"}
    more = [f"{counts[state]} {word}" for word, state in words.items() if counts[state]]
    ended = counts["COMPLETE"] + counts["PRUNED"] + counts["FAIL"]
    return f"search: {ended} of {asked} trials" + (f" ({', '.join(more)})" if more else "")


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Waits until no other process is behind the searches of a sweep: the other one does the rest for both.

    Args:
        out: The folder of the sweep.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".rest.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""Stages as commands that a launcher runs, and where each step was submitted, so that none is submitted twice."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sertk.console.progress import console, say
from sertk.core import Launcher, SertkError
from sertk.core.files import digest, read_json, write_json
from sertk.core.forms import Form
from sertk.plugins import Plugins, Spec, split
from sertk.recipe.commands import Command, commands
from sertk.recipe.freshness import Step, remember, stale
from sertk.recipe.plan import STAGES, Ask, Plan
from sertk.recipe.step import write

ALONE = ("prepare", "featurize", "report")
"""Stages that are one command, which divides its work among processes itself."""


class Note(NamedTuple):
    """Where a step was submitted.

    Attributes:
        launcher: The name of the launcher.
        job: What it calls the job.
        step: A digest of the step.
    """

    launcher: str
    job: str
    step: str


class Launch:
    """The launcher of a recipe or a sweep, and what was given to it.

    Args:
        plugins: The registry.
        spec: The launcher.
        folder: For what is kept of commands and jobs.
        jobs: Commands at once, where they run here.
        ask: What the user asked.

    Raises:
        UsageError: On an unknown launcher or setting.
    """

    def __init__(self, plugins: Plugins, spec: Spec, folder: Path, jobs: int, ask: Ask) -> None:
        self._plugins, self._folder, self._jobs, self._ask = plugins, folder, jobs, ask
        self._name = split("launcher", spec)[0]
        self.launcher = self._make(spec)
        self._open: list[tuple[str, Command, str]] = []
        self._planned = set[Path]()  # what the commands of a dry run would make
        self._new, self._files = False, list[Path]()

    @classmethod
    def of(cls, plan: Plan) -> Launch:
        """That of a recipe; of a sweep, given the first of its plans."""
        spec = plan.ask.launcher or plan.settings.launcher
        return cls(plan.plugins, spec, plan.work / "exp" / ".jobs", plan.jobs, plan.ask)

    def _make(self, spec: Spec) -> Launcher:
        made: Launcher = self._plugins.make("launcher", spec, self._folder, self._jobs)
        return made

    @property
    def ahead(self) -> bool:
        """Whether something was submitted that may not have ended: what follows cannot be judged yet."""
        return bool(self._open)

    def awaits(self, step: Step) -> bool:
        """Whether a step reads what was submitted, or printed, so that it cannot be judged yet if it is up to date."""
        made = self._planned or {path for _, command, _ in self._open for one in command.steps for path in one.makes}
        store = step.stage == "train" and any(stage == "featurize" for stage, _, _ in self._open)
        return store or not made.isdisjoint(step.needs)

    def stage(self, stage: str, steps: Sequence[Step], todo: Sequence[Step], *, anyhow: bool = False) -> list[int]:
        """Does the steps of a stage that are not up to date, or prints their commands.

        Args:
            stage: Its name.
            steps: All of them.
            todo: Those that are due.
            anyhow: Whether they are done though some of the stage before failed.

        Returns:
            The exit code of each that was due, 0 where its failed inputs are allowed. Empty where they were submitted
            to what outlives this process; `end` gives the codes then.
        """
        if len(todo) < len(steps):
            say(skipped(stage, len(steps) - len(todo), steps))
        changed = [] if self._ask.force else [step for step in todo if stale(step) and not self.awaits(step)]
        if changed:
            what = "what they read, or the installed versions, changed since"
            say(f"{stage}: {len(changed)} of {len(steps)} were done with these settings, but {what}: done again")
        jobs = 1 if stage in ALONE else None if self.launcher.outlives else self._jobs
        due = commands(todo, jobs, force=self._ask.force)
        if self._ask.dry:
            for command in due:
                sys.stdout.write(shlex.join(["sertk", *command.words]) + "\n")
            self._planned.update(path for step in todo for path in step.makes)
            return [0] * len(todo)
        for step in steps:
            if step not in todo:
                remember(step)
        before = self._open[-1][0] if self._open else ""
        after = [name for other, _, name in self._open if other == before]
        names = self._submit(stage, due, after, anyhow=anyhow, force=self._ask.force)
        self._open += [(stage, command, name) for command, name in zip(due, names, strict=True)]
        if self.launcher.outlives and stage != "prepare":  # on which all others depend: who is in which fold
            return []
        codes = {stamp: code for _, stamp, code in self._wait()}
        return [codes[step.stamp] for step in todo]

    def end(self) -> list[tuple[str, int]]:
        """Waits for all that was submitted; gives the stage and the exit code of each step."""
        return [(stage, code) for stage, _, code in self._wait()]

    def last(self, step: Step) -> None:
        """Submits what comes after everything, whatever became of it; instead of an earlier one that waits."""
        if self._new:
            self.cancel([step])
            _place(step).unlink(missing_ok=True)  # it may take a moment to end
        command, after = Command(step.words, [step]), [name for _, _, name in self._open]
        names = self._submit(step.stage, [command], after, anyhow=True, force=True)
        self._open += [(step.stage, command, name) for name in names]

    def kept(self, steps: Iterable[Step]) -> dict[Path, Note]:
        """Where steps were submitted that have not ended, by stamp."""
        notes: dict[str, dict[Path, Note]] = {}
        for step in steps:
            if _place(step).exists():
                note = _read(_place(step))
                notes.setdefault(note.launcher, {})[step.stamp] = note
        found: dict[Path, Note] = {}
        for name, own in notes.items():
            alive = self._make(name).alive([note.job for note in own.values()])
            found |= {stamp: note for (stamp, note), yes in zip(own.items(), alive, strict=True) if yes}
        return found

    def cancel(self, steps: Iterable[Step]) -> int:
        """Ends the jobs of steps; gives their number."""
        notes = self.kept(steps)
        for name in {note.launcher for note in notes.values()}:
            self._make(name).cancel([note.job for note in notes.values() if note.launcher == name])
        return len(notes)

    def _submit(
        self, stage: str, due: Sequence[Command], after: Sequence[str], *, anyhow: bool, force: bool
    ) -> list[str]:
        """Submits the commands that are not submitted yet; gives the names of all."""
        there = self._there(stage, due)
        new = [command for command in due if command.steps[0].stamp not in there]
        self._new = self._new or bool(new)
        for command in new:
            if command is new[0] and stage in STAGES:
                console.rule(f"{STAGES.index(stage) + 1} {stage}", align="left")
            say(shlex.join(["sertk", *command.words]))
        names: list[str] = []
        with _undisturbed():
            if new:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                allow = self._ask.allow_failed
                files = [write(one, self._folder, force=force, allow_failed=allow) for one in new]
                self._files += [] if self.launcher.outlives else files
                words = [[sys.executable, "-m", "sertk", "step", str(file)] for file in files]
                logs = [beside(one.steps[0], ".log") for one in new]
                names = self.launcher.submit(words, logs, after, anyhow=anyhow)
            notes = [Note(self._name, name, _key(one.steps[0])) for one, name in zip(new, names, strict=True)]
            if self.launcher.outlives:
                for command, note in zip(new, notes, strict=True):
                    write_json(_place(command.steps[0]), note._asdict())
        if self.launcher.outlives and new:
            say(f"{stage}: submitted {_few(notes)}; what it prints goes to {logs[0]}{', ...' * (len(logs) > 1)}")
        jobs = {stamp: note.job for stamp, note in there.items()}
        jobs |= {command.steps[0].stamp: name for command, name in zip(new, names, strict=True)}
        return [jobs[one.steps[0].stamp] for one in due]

    def _there(self, stage: str, due: Sequence[Command]) -> dict[Path, Note]:
        """Where steps of commands were submitted before that have not ended.

        Raises:
            SertkError: Where that was another command, or to another launcher.
        """
        every = {step.stamp: step for command in due for step in command.steps}
        there = self.kept(every.values())
        for stamp, note in there.items():
            if (note.launcher, note.step) != (self._name, _key(every[stamp])):
                other = "other settings" if note.launcher == self._name else f"launcher {note.launcher!r}"
                raise SertkError(
                    f"{stage} of {stamp.parent} was submitted with {other} and has not ended (job {note.job}). "
                    "Wait for it, or end it with --cancel."
                )
        if there:
            say(f"{stage}: {len(there)} of {len(due)} submitted before, and not ended: {_few(there.values())}")
        return there

    def _wait(self) -> list[tuple[str, Path, int]]:
        """(stage, stamp, exit code) of each step that was submitted."""
        waited, self._open = self._open, []
        try:
            codes = self.launcher.wait([name for _, _, name in waited])
        except KeyboardInterrupt:
            if self.launcher.outlives:
                say("the jobs go on: the same call waits for them again, and with --cancel it ends them")
            raise
        finally:
            for file in self._files:  # of commands that were stopped, or never begun
                file.unlink(missing_ok=True)
        if self.launcher.outlives:
            for (stage, command, name), code in zip(waited, codes, strict=True):
                _place(command.steps[0]).unlink(missing_ok=True)
                if code:
                    say(f"{stage}: job {name} ended with {code}, see {beside(command.steps[0], '.log')}")
        return [
            (stage, step.stamp, self._own(own))
            for (stage, command, _), code in zip(waited, codes, strict=True)
            for step, own in zip(command.steps, command.codes(code), strict=True)
        ]

    def _own(self, code: int) -> int:
        if code == 3 and self._ask.allow_failed:
            return 0
        return code if code >= 0 else 1  # a signal is a negative code


def skipped(stage: str, count: int, steps: Sequence[Step]) -> str:
    """What is said of steps that are up to date."""
    return f"{stage}: {count} of {len(steps)} up to date, skipped"


def beside(step: Step, suffix: str) -> Path:
    """A file of a step beside the folder that it writes, because that may be deleted: fold=1/train-seed=0.log."""
    folder = step.stamp.parent
    return folder.with_name(f"{step.stamp.stem.removeprefix('.')}-{folder.name}{suffix}")


def _place(step: Step) -> Path:
    """Where it is kept as what a step was submitted."""
    path = beside(step, ".job.json")
    return path.with_name(f".{path.name}")


def _read(path: Path) -> Note:
    content = read_json(path, "Delete it, if the job has ended.", Form(dict.fromkeys(Note._fields, str)))
    return Note(*(content[name] for name in Note._fields))


def _key(step: Step) -> str:
    return digest([step.words, step.settings])


def _few(notes: Iterable[Note]) -> str:
    jobs = [note.job for note in notes]
    return f"job {jobs[0]}" if len(jobs) == 1 else f"jobs {jobs[0]} to {jobs[-1]}"


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keeps Ctrl-C and SIGTERM waiting between a submission and the note of it."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)

"""Launchers that are wrong in one way each, and some that are right; `says` is what the contracts must say of it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from sertk.core import Launcher
from sertk.hookspecs import hookimpl


class Runs(Launcher):
    """Runs commands here: a right one."""

    says = ""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.jobs = jobs
        self.codes: list[int] = []

    def submit(
        self,
        commands: Sequence[Sequence[str]],
        logs: Sequence[Path],
        after: Sequence[str] = (),
        *,
        anyhow: bool = False,
    ) -> list[str]:
        first, begin = len(self.codes), anyhow or not any(self.wait(after))
        self.codes += self.run(commands, self.jobs) if begin else [130] * len(commands)
        return [str(place) for place in range(first, len(self.codes))]

    def wait(self, names: Sequence[str]) -> list[int]:
        return [self.codes[int(name)] for name in names]

    def run(self, commands: Sequence[Sequence[str]], jobs: int) -> list[int]:
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(self.one, commands))

    def one(self, command: Sequence[str]) -> int:
        return subprocess.run(command, check=False).returncode


class GoesOn(Runs):
    """Begins commands though one before them failed."""

    says = "though one that it comes after failed"

    def submit(
        self,
        commands: Sequence[Sequence[str]],
        logs: Sequence[Path],
        after: Sequence[str] = (),
        *,
        anyhow: bool = False,
    ) -> list[str]:
        return super().submit(commands, logs, (), anyhow=anyhow)


class NeverAnyhow(Runs):
    """Does not know of `anyhow`."""

    says = "with `anyhow`"

    def submit(
        self,
        commands: Sequence[Sequence[str]],
        logs: Sequence[Path],
        after: Sequence[str] = (),
        *,
        anyhow: bool = False,
    ) -> list[str]:
        return super().submit(commands, logs, after)


class Unsaid(Runs):
    """Says that what never began went well."""

    says = "that never began"

    def wait(self, names: Sequence[str]) -> list[int]:
        return [0 if code == 130 else code for code in super().wait(names)]


class OneByOne(Runs):
    """Runs one command after the other, whatever `jobs` says: a right one."""

    def run(self, commands: Sequence[Sequence[str]], jobs: int) -> list[int]:
        return [self.one(command) for command in commands]


class AsTheyEnd(Runs):
    """Gives exit codes in the order in which commands end."""

    says = "exit codes are"

    def run(self, commands: Sequence[Sequence[str]], jobs: int) -> list[int]:
        with ThreadPoolExecutor(jobs) as pool:
            return [done.result() for done in as_completed([pool.submit(self.one, one) for one in commands])]


class Sulks(Runs):
    """Says that everything failed, and runs nothing."""

    says = "exit codes are"

    def one(self, command: Sequence[str]) -> int:
        return 1


class AlwaysWell(Runs):
    """Forgets the exit codes."""

    says = "exit codes are"

    def one(self, command: Sequence[str]) -> int:
        super().one(command)
        return 0


class StopsAtFirst(Runs):
    """Raises where a command fails."""

    says = "raised CalledProcessError"

    def one(self, command: Sequence[str]) -> int:
        return subprocess.run(command, check=True).returncode


class AllAtOnce(Runs):
    """Runs everything at once, whatever `jobs` says."""

    says = "at a time"

    def run(self, commands: Sequence[Sequence[str]], jobs: int) -> list[int]:
        return super().run(commands, len(commands) + 1)


class Shell(Runs):
    """Puts the words of a command together and lets a shell take them apart."""

    says = "changes the words of a command"

    def one(self, command: Sequence[str]) -> int:
        return subprocess.run(" ".join(command), shell=True, check=False).returncode


class Elsewhere(Runs):
    """Runs in another folder, where relative paths lead to nothing."""

    says = "another folder"

    def one(self, command: Sequence[str]) -> int:
        return subprocess.run(command, check=False, cwd=tempfile.gettempdir()).returncode


@hookimpl
def sertk_launchers() -> Mapping[str, type[Launcher]]:
    return {name: one for name, one in globals().items() if hasattr(one, "says")}

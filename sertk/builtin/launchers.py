"""Launchers: where stage commands run."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from sertk.core import Launcher
from sertk.hookspecs import hookimpl


class Local(Launcher):
    """Runs commands as processes on this machine."""

    def run(self, commands: Sequence[Sequence[str]], jobs: int) -> list[int]:
        """Runs each command, at most `jobs` at a time; gives their exit codes in order."""
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(lambda command: subprocess.run(command, check=False).returncode, commands))


@hookimpl
def sertk_launchers() -> Mapping[str, type[Launcher]]:
    """The launchers by name."""
    return {"local": Local}

"""Launchers: where stage commands run."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from sertk.core import Launcher
from sertk.hookspecs import hookimpl


class Local(Launcher):
    """Runs commands as processes on this machine."""

    def run(self, commands: Sequence[Sequence[str]], jobs: int) -> list[int]:
        """Runs each command, at most `jobs` at a time; gives their exit codes in order, 130 for those never begun."""
        running: set[subprocess.Popen[bytes]] = set()
        stopped = threading.Event()

        def one(command: Sequence[str]) -> int:
            if stopped.is_set():
                return 130
            with subprocess.Popen(command) as process:
                running.add(process)
                if stopped.is_set():  # begun while the others were being told
                    process.terminate()
                try:
                    return process.wait()
                finally:
                    running.discard(process)

        with ThreadPoolExecutor(jobs) as pool:
            try:
                return list(pool.map(one, commands))
            except BaseException:
                # a signal to this process alone (kill, scancel): the commands have not heard of it; and not by SIGINT,
                # which what a script starts in the background ignores
                stopped.set()
                for process in tuple(running):
                    process.terminate()
                raise


@hookimpl
def sertk_launchers() -> Mapping[str, type[Launcher]]:
    """The launchers by name."""
    return {"local": Local}

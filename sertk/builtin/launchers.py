"""Launchers: where stage commands run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from sertk.core import Launcher
from sertk.hookspecs import hookimpl

TIE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Asks Linux to end this process when the thread that began it ends (PR_SET_PDEATHSIG), and becomes the command.

A small program between the two, for what a forked process of a program with threads may do is next to nothing.
"""


def _tied(command: Sequence[str]) -> Sequence[str]:
    """A command that ends, as by `kill`, when this process does, even where that was killed by `kill -9`.

    Only Linux has the means; elsewhere it is the command as it is, which then goes on alone.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", TIE, str(os.getpid()), *command]


class Local(Launcher):
    """Runs commands as processes on this machine, which end with this one."""

    def run(self, commands: Sequence[Sequence[str]], jobs: int) -> list[int]:
        """Runs each command, at most `jobs` at a time; gives their exit codes in order, 130 for those never begun."""
        running: set[subprocess.Popen[bytes]] = set()
        stopped = threading.Event()

        def one(command: Sequence[str]) -> int:
            if stopped.is_set():
                return 130
            with subprocess.Popen(_tied(command)) as process:  # this thread waits for it, so it outlives it
                running.add(process)
                if stopped.is_set():  # begun while the others were being stopped
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

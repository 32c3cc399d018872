"""Commands as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from sertk.core import Launcher

TIE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Asks Linux to end this process when the thread that began it ends (PR_SET_PDEATHSIG), and becomes the command.

A small program between the two, for what a forked process of a program with threads may do is next to nothing.
"""
THREADS = "OMP_NUM_THREADS"
"""The variable that says how many threads torch and numpy use; what the user says stays."""
GPUS = "CUDA_VISIBLE_DEVICES"


def _tied(command: Sequence[str]) -> Sequence[str]:
    """A command that ends, as by `kill`, when this process does, even where that was killed by `kill -9`.

    Only Linux has the means; elsewhere it is the command as it is, which then goes on alone.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", TIE, str(os.getpid()), *command]


class _Put(NamedTuple):
    command: Sequence[str]
    after: Sequence[str]
    anyhow: bool


class Local(Launcher):
    """Runs commands as processes on this machine, which end with this one.

    With --nj N above 1 there are N workers. Each has its share of the cores (OMP_NUM_THREADS, unless you set it) and,
    where several GPUs are visible, one of them, which its commands see as cuda:0.
    """

    def __init__(self, folder: Path, jobs: int) -> None:
        self._jobs = jobs
        self._put: dict[str, _Put] = {}
        self._codes: dict[str, int] = {}

    def submit(
        self,
        commands: Sequence[Sequence[str]],
        logs: Sequence[Path],
        after: Sequence[str] = (),
        *,
        anyhow: bool = False,
    ) -> list[str]:
        """Takes commands, which begin when they are waited for."""
        names = [str(len(self._put) + place) for place in range(len(commands))]
        self._put |= {name: _Put(one, after, anyhow) for name, one in zip(names, commands, strict=True)}
        return names

    def wait(self, names: Sequence[str]) -> list[int]:
        """Runs the commands that have not run, and gives the exit codes of all, 130 for those never begun."""
        todo = [name for name in dict.fromkeys(names) if name not in self._codes]
        if before := [one for name in todo for one in self._put[name].after if one not in self._codes]:
            self.wait(before)
        put = [self._put[name] for name in todo]
        begun = [one.anyhow or not any(self._codes[name] for name in one.after) for one in put]
        ended = iter(self._run([one.command for one, may in zip(put, begun, strict=True) if may]))
        self._codes |= {name: next(ended) if may else 130 for name, may in zip(todo, begun, strict=True)}
        return [self._codes[name] for name in names]

    def _run(self, commands: Sequence[Sequence[str]]) -> list[int]:
        """Runs each command; gives their exit codes in order, 130 for those never begun."""
        running: set[subprocess.Popen[bytes]] = set()
        stopped = threading.Event()
        workers = SimpleQueue[dict[str, str]]()
        for environment in _shares(min(self._jobs, len(commands))):
            workers.put(environment)

        def one(command: Sequence[str]) -> int:
            if stopped.is_set():
                return 130
            environment = workers.get()
            with subprocess.Popen(_tied(command), env={**os.environ, **environment}) as process:
                running.add(process)  # this thread waits for it, so it outlives it
                if stopped.is_set():  # begun while the others were being stopped
                    process.terminate()
                try:
                    return process.wait()
                finally:
                    running.discard(process)
                    workers.put(environment)

        with ThreadPoolExecutor(self._jobs) as pool:
            try:
                return list(pool.map(one, commands))
            except BaseException:
                # a signal to this process alone (kill, scancel): the commands have not heard of it; and not by SIGINT,
                # which what a script starts in the background ignores
                stopped.set()
                for process in tuple(running):
                    process.terminate()
                raise


def _shares(workers: int) -> list[dict[str, str]]:
    """What each worker's commands find in their environment."""
    if workers < 2:
        return [{}] * workers
    threads = {} if THREADS in os.environ else {THREADS: str(max(1, _cores() // workers))}
    gpus = _gpus()
    own = [{GPUS: gpus[place % len(gpus)]} if len(gpus) > 1 else {} for place in range(workers)]
    return [{**threads, **one} for one in own]


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _gpus() -> list[str]:
    """The GPUs that are visible, by the names that CUDA_VISIBLE_DEVICES gives them."""
    import torch

    named = os.environ.get(GPUS)
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else list(map(str, range(count)))

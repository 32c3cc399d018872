"""What is submitted to a cluster. It is pickled by value: a job has it at once, without importing sertk and torch."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from submitit.core.utils import DelayedSubmission

STAY = 600
"""Seconds that a job waits for its end by the cluster, once it was told to end (SIGTERM) and its command has."""


class Job:
    """Runs a command, which hears of what the cluster wants, and keeps its exit code.

    submitit calls it in the job, and `checkpoint` where the job is preempted or near its time limit; then the job is
    requeued, and the command runs again and goes on.

    Args:
        command: The words.
        folder: Where it runs.
        log: Gets what it prints.
        codes: The folder of exit codes.
    """

    def __init__(self, command: Sequence[str], folder: Path, log: Path, codes: Path) -> None:
        self.command, self.folder, self.log, self.codes = command, folder, log, codes
        self._process: subprocess.Popen[bytes] | None = None
        self._told = False

    def __call__(self) -> None:
        """Runs the command.

        Raises:
            SystemExit: With its exit code, where that is not 0: then the job counts as failed, and what depends on its
                success is not begun.
        """
        from submitit import JobEnvironment

        path = self.codes / JobEnvironment().job_id
        path.unlink(missing_ok=True)
        signal.signal(signal.SIGTERM, self._pass)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        cores = os.environ.get("SLURM_CPUS_PER_TASK")
        environment = {**({"OMP_NUM_THREADS": cores} if cores else {}), **os.environ}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
            code = self._process.wait()
        if code and self._told:  # a preempted job that ends by itself is over; one that is ended is requeued
            time.sleep(STAY)
        code = code if code >= 0 else 128 - code  # as shells say it
        new = path.with_name(f"{path.name}.new")
        new.write_text(str(code), encoding="utf-8")
        new.rename(path)
        if code:
            sys.exit(code)

    def _pass(self, number: int, frame: FrameType | None) -> None:
        """Passes on what preemption and `scancel` send first: Slurm may not know of the command."""
        self._told = True
        if self._process:
            self._process.send_signal(number)

    def checkpoint(self) -> DelayedSubmission:
        """Lets the command write its checkpoint and end; gives what the requeued job runs."""
        from submitit.helpers import DelayedSubmission

        process, self._process, self._told = self._process, None, False
        if process:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):  # it has ended already
                # not process.wait(): this runs inside of that, on a signal, and its lock is taken
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(self)

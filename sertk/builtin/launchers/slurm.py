"""Commands as jobs of a cluster with Slurm, through submitit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sertk.core import Launcher, SertkError, UsageError

if TYPE_CHECKING:
    from types import FrameType

    from submitit.core.utils import DelayedSubmission

ARRAY = 1000
"""Jobs of an array at most: Slurm's own limit is 1001 where the cluster sets no other (MaxArraySize)."""
GRACE = 90
"""Seconds before the time limit at which a job is told to write its checkpoint and to leave."""
PAUSES = (0.5, 15.0)
"""Seconds between two looks at the queue: the first, and the longest."""
LATE = 10.0
"""Seconds that a file system of several machines may take to show what a job wrote."""


class Job:
    """What is submitted: it runs a command, which hears of what the cluster wants, and keeps its exit code.

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
        code = code if code >= 0 else 128 - code  # as shells say it
        new = path.with_name(f"{path.name}.new")
        new.write_text(str(code), encoding="utf-8")
        new.rename(path)
        if code:
            sys.exit(code)

    def _pass(self, number: int, frame: FrameType | None) -> None:
        """What `scancel` sends, passed on to the command, which Slurm may not know of."""
        if self._process:
            self._process.send_signal(number)

    def checkpoint(self) -> DelayedSubmission:
        """Lets the command write its checkpoint and end; gives what the requeued job runs."""
        from submitit.helpers import DelayedSubmission

        process, self._process = self._process, None
        if process:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):  # it has ended already
                # not process.wait(): this runs inside of that, on a signal, and its lock is taken
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(self)


class Slurm(Launcher):
    """Runs commands as jobs of Slurm: those of a stage are one array, and the next stage waits for it.

    Args:
        folder: For scripts, pickles and exit codes; private to the user, because whoever can write there runs code.
        jobs: Cores of a job, where `cpus` does not say it.
        partition: Of the cluster; its default if None.
        minutes: Time limit of a job. A command that is not done by then is requeued, and goes on.
        gpus: GPUs of a job.
        cpus: Cores of a job; those of --nj if None.
        memory: Of a job, GB; the cluster's default if None.
        at_once: Jobs of an array that run at once.
        account: Who pays; your default if None.
        requeues: How often a command may reach the time limit.
        extra: Other options of sbatch, {qos: high, constraint: a100}.
    """

    outlives = True
    cluster = "slurm"
    """submitit's name for where jobs go."""

    def __init__(
        self,
        folder: Path,
        jobs: int,
        partition: str | None = None,
        minutes: int = 60,
        gpus: int = 0,
        cpus: int | None = None,
        memory: float | None = None,
        at_once: int = 256,
        account: str | None = None,
        requeues: int = 100,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        least = {"minutes": (minutes, 2), "gpus": (gpus, 0), "at_once": (at_once, 1), "requeues": (requeues, 0)}
        for word, (value, low) in least.items():  # below 2 minutes there is no time left before a job is told to leave
            if value < low:
                raise UsageError(f"launcher 'slurm': {word} must be at least {low}, got {value}")
        self._folder = folder.resolve() / "slurm"
        self._requeues = requeues
        asked: dict[str, Any] = {
            "timeout_min": minutes,
            "gpus_per_node": gpus or None,
            "cpus_per_task": cpus or jobs,
            "mem_gb": memory,
            "slurm_partition": partition,
            "slurm_account": account,
            "slurm_array_parallelism": at_once,
            "slurm_signal_delay_s": GRACE,
            "slurm_srun_args": ["--cpus-per-task", str(cpus or jobs)],  # newer ones do not take sbatch's
        }
        self._asked = {word: value for word, value in asked.items() if value is not None}
        self._extra = dict(extra or {})

    def submit(
        self,
        commands: Sequence[Sequence[str]],
        logs: Sequence[Path],
        after: Sequence[str] = (),
        *,
        anyhow: bool = False,
    ) -> list[str]:
        """Submits commands as an array; gives their job ids, 123_0, 123_1, ..."""
        names: list[str] = []
        for first in range(0, len(commands), ARRAY):
            part = slice(first, first + ARRAY)
            names += self._array(commands[part], logs[part], after, "afterany" if anyhow else "afterok")
        return names

    def _array(
        self, commands: Sequence[Sequence[str]], logs: Sequence[Path], after: Sequence[str], kind: str
    ) -> list[str]:
        from submitit import AutoExecutor
        from submitit.core.utils import FailedSubmissionError, UncompletedJobError
        from submitit.helpers import clean_env

        here, codes = Path.cwd(), self._private(self._folder / "codes")
        jobs = [Job(list(one), here, log.resolve(), codes) for one, log in zip(commands, logs, strict=True)]
        extra: dict[str, Any] = {"kill_on_invalid_dep": "yes", **self._extra}
        if after:
            extra["dependency"] = f"{kind}:{':'.join(self._whole(after))}"
        try:
            executor = AutoExecutor(self._folder, cluster=self.cluster, slurm_max_num_timeout=self._requeues)
            executor.update_parameters(name="sertk", slurm_additional_parameters=extra, **self._asked)
            with clean_env():  # what the job of this process was given is not what the new ones ask for
                return [str(job.job_id) for job in executor.submit_array(jobs)]
        except (RuntimeError, FailedSubmissionError, UncompletedJobError, OSError) as error:
            raise SertkError(f"the jobs cannot be submitted to Slurm: {error}. Correct --launcher slurm:...") from error

    def _private(self, folder: Path) -> Path:
        """Makes a folder that only the user can read and write: pickles in it are code.

        Raises:
            SertkError: Where it is another user's.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if self._folder.stat().st_uid != os.getuid():
            raise SertkError(f"{self._folder} belongs to another user, whose code would be run. Choose another --work.")
        self._folder.chmod(0o700)
        return folder

    def _whole(self, names: Sequence[str]) -> list[str]:
        """Job ids for a dependency: an array of which all are named by its own id, because the list may be long."""
        arrays: dict[str, list[str]] = {}
        for name in dict.fromkeys(names):
            arrays.setdefault(name.partition("_")[0], []).append(name)
        sizes = {array: len([*self._folder.glob(f"{array}_*_submitted.pkl")]) for array in arrays}
        return [one for array, own in arrays.items() for one in ([array] if len(own) == sizes[array] else own)]

    def wait(self, names: Sequence[str]) -> list[int]:
        """The exit codes of jobs when all have left the queue; 130 for one that left no code (cancelled, killed)."""
        pause, longest = PAUSES
        while any(self.alive(names)):
            time.sleep(pause)
            pause = min(longest, 1.3 * pause)
        deadline = time.monotonic() + LATE
        codes = [self._code(name) for name in names]
        while None in codes and time.monotonic() < deadline:
            time.sleep(0.5)
            codes = [self._code(name) for name in names]
        return [130 if code is None else code for code in codes]

    def _code(self, name: str) -> int | None:
        folder = self._folder / "codes"
        with contextlib.suppress(OSError):
            os.listdir(folder)  # noqa: PTH208 - makes NFS look again
            return int((folder / name).read_text(encoding="utf-8"))
        return None

    def alive(self, names: Sequence[str]) -> list[bool]:
        """Whether each job is in the queue: pending, running, or requeued."""
        queued = self._slurm("squeue", "--me", "--array", "--noheader", "--format=%i").split() if names else []
        return [name in queued for name in names]

    def cancel(self, names: Sequence[str]) -> None:
        """Cancels jobs; a command that runs is told first, so that it ends with its files whole."""
        if names:
            self._slurm("scancel", *names)

    def _slurm(self, *words: str) -> str:
        """What a command of Slurm prints.

        Raises:
            SertkError: Where it is not installed, or fails three times, with what it says.
        """
        said = ""
        for pause in (1, 5, 0):  # the controller of a busy cluster does not always answer
            try:
                return subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout
            except FileNotFoundError:
                raise SertkError(f"{words[0]} is not installed: call sertk where Slurm is, or without slurm.") from None
            except subprocess.CalledProcessError as error:
                said = error.stderr.strip()
            except subprocess.TimeoutExpired:
                said = "no answer in 120 s"
            time.sleep(pause)
        raise SertkError(f"`{' '.join(words)}` failed: {said}. The jobs go on; make the same call again later.")

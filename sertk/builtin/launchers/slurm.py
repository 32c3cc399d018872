"""Commands as jobs of a cluster with Slurm, through submitit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sertk.builtin.launchers import job
from sertk.core import Launcher, SertkError, UsageError
from sertk.core.files import Record

ARRAY = 1000
"""Jobs of an array at most: Slurm's own limit is 1001 where the cluster sets no other (MaxArraySize)."""
GRACE = 90
"""Seconds before the time limit at which a job is told to write its checkpoint and to leave."""
PAUSES = (0.5, 15.0)
"""Seconds between two looks at the queue: the first, and the longest."""
LATE = 10.0
"""Seconds that a file system of several machines may take to show what a job wrote."""


class Slurm(Launcher):
    """Runs commands as jobs of Slurm: those of a stage are one array, and the next stage waits for it.

    Args:
        folder: For scripts, pickles and exit codes; private to the user, because whoever can write there runs code.
        jobs: Of no use here, where `at_once` says how many there are.
        partition: Of the cluster; its default if None.
        minutes: Time limit of a job, 5 or more. A command that is not done by then is requeued, and goes on.
        gpus: GPUs of a job.
        cpus: Cores of a job; as many as --nj says, for prepare and featurize.
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
        cpus: int = 1,
        memory: float | None = None,
        at_once: int = 256,
        account: str | None = None,
        requeues: int = 100,
        extra: Mapping[str, str | int] | None = None,
    ) -> None:
        least = {
            "minutes": (minutes, 5),
            "gpus": (gpus, 0),
            "cpus": (cpus, 1),
            "at_once": (at_once, 1),
            "requeues": (requeues, 0),
        }
        # Slurm may send the signal a minute too early: within 5 minutes at least 2.5 are left for work
        for word, (value, low) in least.items():
            if value < low:
                raise UsageError(f"launcher 'slurm': {word} must be at least {low}, got {value}")
        self._folder = folder.resolve() / "slurm"
        self._requeues = requeues
        asked: Record = {
            "timeout_min": minutes,
            "gpus_per_node": gpus or None,
            "cpus_per_task": cpus,
            "mem_gb": memory,
            "slurm_partition": partition,
            "slurm_account": account,
            "slurm_array_parallelism": at_once,
            "slurm_signal_delay_s": GRACE,
            "slurm_srun_args": ["--cpus-per-task", str(cpus)],  # newer ones do not take sbatch's
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
        try:
            import cloudpickle
            from submitit import AutoExecutor
            from submitit.helpers import clean_env
        except ImportError:
            raise UsageError("launcher 'slurm' is of submitit: pip install 'sertk[slurm]'") from None

        here, codes = Path.cwd(), self._private(self._folder / "codes")
        jobs = [job.Job(list(one), here, log.resolve(), codes) for one, log in zip(commands, logs, strict=True)]
        cloudpickle.register_pickle_by_value(job)
        extra: Record = {"kill_on_invalid_dep": "yes", **self._extra}
        if after:
            extra["dependency"] = f"{kind}:{':'.join(self._whole(after))}"
        try:
            executor = AutoExecutor(self._folder, cluster=self.cluster, slurm_max_num_timeout=self._requeues)
            # a name of their own: who was killed after sbatch, and before it was noted, finds them again
            said = [list(map(self._said, one)) for one in commands]
            name = f"sertk-{hashlib.sha256(repr(said).encode()).hexdigest()[:12]}"
            there = self._queued(f"--name={name}")
            if len(there) == len(commands):
                return there
            executor.update_parameters(name=name, slurm_additional_parameters=extra, **self._asked)
            with clean_env():  # what the job of this process was given is not what the new ones ask for
                return [str(one.job_id) for one in executor.submit_array(jobs)]
        except (RuntimeError, OSError) as error:
            raise SertkError(f"the jobs cannot be submitted to Slurm: {error}. Correct --launcher slurm:...") from error

    def _said(self, word: str) -> str:
        """A word of a command; for a file that sertk wrote for it, which each call names anew, its content."""
        path = Path(word)
        ours = path.suffix == ".json" and path.parent.resolve() == self._folder.parent
        return path.read_text(encoding="utf-8") if ours else word

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
        queued = set(self._queued()) if names else ()
        return [name in queued for name in names]

    def _queued(self, *more: str) -> list[str]:
        """The user's jobs that are in the queue, by id, those of an array in order."""
        found = self._slurm("squeue", "--me", "--array", "--noheader", "--format=%i", *more).split()
        return sorted(found, key=lambda one: [*map(int, re.findall(r"\d+", one))])

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

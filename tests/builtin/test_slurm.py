"""Slurm: what is submitted, with stand-ins for its programs; and a job on submitit's local executor."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sertk.builtin.launchers import Slurm, job
from sertk.core import SertkError, UsageError

pytest.importorskip("submitit")

SBATCH = 'cp "$1" "{0}/script"; echo call >> "{0}/calls"; echo "Submitted batch job 7"'
# begins, and says which process it is of; ends when it is told, or at once where it was told before
PROGRAM = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
if (folder / "told").exists():
    raise SystemExit(5)
def end(*_):
    (folder / "told").touch()
    raise SystemExit(130)
signal.signal(signal.SIGTERM, end)
(folder / "new").write_text(str(os.getppid()))
(folder / "new").rename(folder / "pid")
print("begun", flush=True)
time.sleep(120)
"""


class Here(Slurm):
    """Jobs are processes of this machine; a job is alive while it has left no exit code."""

    cluster = "local"

    def _queued(self, *more: str) -> list[str]:
        return []

    def alive(self, names: Sequence[str]) -> list[bool]:
        return [self._code(name) is None for name in names]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the programs of Slurm: `queue` is what squeue prints, `script` what sbatch was given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "queue").touch()
    programs = {"sbatch": SBATCH.format(folder), "squeue": f'cat "{folder}/queue"', "srun": "exit 1"}
    programs |= {"scancel": f'echo "$@" >> "{folder}/cancelled"'}
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr("sertk.builtin.launchers.slurm.LATE", 0.0)
    return folder


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_commands_are_one_array_with_what_was_asked_after_what_comes_before(cluster: Path, tmp_path: Path) -> None:
    slurm = Slurm(tmp_path / "jobs", 1, "gpu", 240, 1, 4, 16, at_once=2, account="lab", extra={"qos": "high"})
    names = slurm.submit([["a"], ["b"], ["c"]], [tmp_path / "log"] * 3, ["5", "6_1"])
    assert names == ["7_0", "7_1", "7_2"]
    script = (cluster / "script").read_text().splitlines()
    asked = {"partition=gpu", "time=240", "gpus-per-node=1", "cpus-per-task=4", "mem=16GB", "account=lab", "qos=high"}
    asked |= {"array=0-2%2", "dependency=afterok:5:6_1", "kill-on-invalid-dep=yes", "signal=USR2@90"}
    assert {f"#SBATCH --{one}" for one in asked} <= set(script)
    assert any("srun" in line and "--cpus-per-task 4" in line for line in script)


def test_a_whole_array_is_named_once_and_any_end_of_it_is_enough_if_anyhow(cluster: Path, tmp_path: Path) -> None:
    slurm = Slurm(tmp_path / "jobs", 1)
    names = slurm.submit([["a"], ["b"]], [tmp_path / "log"] * 2)
    slurm.submit([["c"]], [tmp_path / "log"], names, anyhow=True)
    assert "#SBATCH --dependency=afterany:7\n" in (cluster / "script").read_text()
    slurm.submit([["d"]], [tmp_path / "log"], names[1:])
    assert "#SBATCH --dependency=afterok:7_1\n" in (cluster / "script").read_text()


def test_more_commands_than_an_array_may_have_are_several(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sertk.builtin.launchers.slurm.ARRAY", 2)
    Slurm(tmp_path / "jobs", 1).submit([[str(one)] for one in range(5)], [tmp_path / "log"] * 5)
    assert len((cluster / "calls").read_text().splitlines()) == 3


def test_what_is_in_the_queue_is_not_submitted_again(cluster: Path, tmp_path: Path) -> None:
    slurm, commands = Slurm(tmp_path / "jobs", 1), [["a"], ["b"]]
    (cluster / "queue").write_text("9_10\n9_9\n")
    assert slurm.submit(commands, [tmp_path / "log"] * 2) == ["9_9", "9_10"]
    assert not (cluster / "calls").exists()
    (cluster / "queue").write_text("9_1\n")  # a part of it is another submission's
    assert slurm.submit(commands, [tmp_path / "log"] * 2) == ["7_0", "7_1"]


def test_jobs_are_named_by_what_their_files_say_because_each_call_names_these_anew(
    cluster: Path, tmp_path: Path
) -> None:
    def named(text: str, file: str) -> str:
        (tmp_path / "jobs").mkdir(exist_ok=True)
        (tmp_path / "jobs" / file).write_text(text)
        slurm = Slurm(tmp_path / "jobs", 1)
        slurm.submit([["sertk", "step", str(tmp_path / "jobs" / file)]], [tmp_path / "log"])
        (name,) = [line for line in (cluster / "script").read_text().splitlines() if "--job-name=" in line]
        return name

    assert named("a", "1.json") == named("a", "2.json") != named("b", "1.json")


def test_the_folder_of_pickles_is_private(cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs/slurm").mkdir(parents=True, mode=0o755)
    Slurm(tmp_path / "jobs", 1).submit([["a"]], [tmp_path / "log"])
    assert (tmp_path / "jobs/slurm").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(SertkError, match="belongs to another user"):
        Slurm(tmp_path / "jobs", 1).submit([["b"]], [tmp_path / "log"])


def test_exit_codes_are_those_of_jobs_that_left_the_queue_and_130_without_one(cluster: Path, tmp_path: Path) -> None:
    slurm = Slurm(tmp_path / "jobs", 1)
    (tmp_path / "jobs/slurm/codes").mkdir(parents=True)
    (tmp_path / "jobs/slurm/codes/7_0").write_text("3")
    (cluster / "queue").write_text("7_1\n8\n")
    assert slurm.alive(["7_0", "7_1"]) == [False, True]
    (cluster / "queue").write_text("8\n")
    assert slurm.wait(["7_1", "7_0"]) == [130, 3]
    slurm.cancel(["7_0", "8"])
    assert (cluster / "cancelled").read_text() == "7_0 8\n"


def test_what_slurm_does_not_do_is_said(cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="minutes must be at least 5, got 2"):
        Slurm(tmp_path / "jobs", 1, minutes=2)
    (cluster / "sbatch").write_text("#!/bin/sh\necho invalid partition >&2\nexit 1\n")
    with pytest.raises(SertkError, match=r"cannot be submitted to Slurm(.|\n)*invalid partition"):
        Slurm(tmp_path / "jobs", 1).submit([["a"]], [tmp_path / "log"])
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (cluster / "squeue").write_text("#!/bin/sh\necho no controller >&2\nexit 1\n")
    with pytest.raises(SertkError, match=r"`squeue .* failed: no controller"):
        Slurm(tmp_path / "jobs", 1).alive(["7"])
    (cluster / "squeue").unlink()
    monkeypatch.setenv("PATH", str(cluster))
    with pytest.raises(SertkError, match="squeue is not installed"):
        Slurm(tmp_path / "jobs", 1).alive(["7"])


@pytest.mark.skipif(sys.platform != "linux", reason="submitit's local executor sends signals of Linux")
def test_a_job_near_its_time_limit_lets_its_command_end_and_runs_it_again(tmp_path: Path) -> None:
    here = Here(tmp_path / "jobs", 1)
    names = here.submit([[sys.executable, "-c", PROGRAM, str(tmp_path)]], [tmp_path / "run/log"])
    until((tmp_path / "pid").exists)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGUSR2)
    assert here.wait(names) == [5]  # of the second time
    assert (tmp_path / "told").exists()
    assert (tmp_path / "run/log").read_text() == "begun\n"


@pytest.mark.skipif(sys.platform != "linux", reason="submitit's local executor sends signals of Linux")
def test_a_job_that_is_told_to_end_tells_its_command_and_stays_to_be_requeued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "STAY", 3.0)
    here = Here(tmp_path / "jobs", 1)
    names = here.submit([[sys.executable, "-c", PROGRAM, str(tmp_path)]], [tmp_path / "log"])
    until((tmp_path / "pid").exists)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    until((tmp_path / "told").exists)
    time.sleep(1)
    assert here.alive(names) == [True]
    assert here.wait(names) == [130]

"""Launchers: what the contracts cannot see, the end of the process that began the commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sertk.builtin.launchers import Local

CHILD = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(120)"
PARENT = """
import pathlib, sys
from sertk.builtin.launchers import Local
local = Local(pathlib.Path(), 2)
local.wait(local.submit([[sys.executable, "-c", sys.argv[1], file] for file in sys.argv[2:]], []))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the means")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_commands_end_with_the_process_that_began_them_however_that_ends(tmp_path: Path, number: int) -> None:
    files = [tmp_path / "first", tmp_path / "second"]
    words = [sys.executable, "-c", PARENT, CHILD, *map(str, files)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as parent:
        deadline = time.monotonic() + 60
        while not all(file.exists() for file in files):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        parent.send_signal(number)
        parent.communicate(timeout=20)  # ends when the last of them let go of the pipe
    assert parent.returncode == -number


SAYS = "import json, os, sys; json.dump([os.environ.get(name) for name in sys.argv[2:]], open(sys.argv[1], 'w'))"


def environments(tmp_path: Path, jobs: int, count: int) -> list[list[str | None]]:
    files = [tmp_path / f"{place}.json" for place in range(count)]
    local = Local(tmp_path, jobs)
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    assert not any(local.wait(local.submit([[sys.executable, "-c", SAYS, str(one), *names] for one in files], files)))
    return [json.loads(file.read_text()) for file in files]


def test_workers_share_the_cores_and_have_a_gpu_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(9), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 9)
    assert sorted(environments(tmp_path, 2, 2)) == [["4", "3"], ["4", "7"]]
    assert environments(tmp_path, 3, 1) == [[None, "3,7"]]  # one command has all
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert environments(tmp_path, 2, 2) == [["2", "3,7"]] * 2


def test_gpus_are_numbered_where_nobody_chose_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert {gpu for _, gpu in environments(tmp_path, 3, 6)} == {"0", "1", "2"}

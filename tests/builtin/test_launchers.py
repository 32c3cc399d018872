"""Launchers: what the contracts cannot see, the end of the process that began the commands."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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

"""ffmpeg, run for the audio that libsndfile does not read."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sertk.core import InputError

PATIENCE = 60
"""Seconds that ffmpeg has for any file."""
SPEED = 2**17
"""Bytes of a file for which it has one more second: some 8 seconds of audio."""


@contextlib.contextmanager
def decoded(path: Path, most: int) -> Iterator[IO[bytes]]:
    """The audio of a file as a W64 of 32-bit floats, in its own rate and channels, without a name on the disk.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        InputError: Where ffmpeg is not there, says that something is wrong, or does not end; and where there are more.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise InputError(f"{path} is read by ffmpeg, which is not installed. Install it, or convert the file to WAV.")
    seconds = PATIENCE + path.stat().st_size // SPEED
    # of its own accord it ends by -timelimit, should this process be killed; `file:` keeps names from being addresses
    words = [program, "-nostdin", "-v", "error", "-timelimit", str(seconds), "-protocol_whitelist", "file,pipe"]
    words += ["-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32le", "-fs", str(most), "-f", "w64", "pipe:1"]
    with tempfile.TemporaryFile() as wav:
        try:
            done = subprocess.run(words, stdout=wav, stderr=subprocess.PIPE, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise InputError(f"{path}: ffmpeg did not end within {seconds} s. Convert it to WAV by hand.") from None
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode or said:
            last = said.rpartition("\n")[2]
            why = re.sub(r"^\[.*?\] ", "", last) or f"exit code {done.returncode}"  # "[mov @ 0x55ad70cb0980] "
            raise InputError(f"{path}: ffmpeg cannot read all of it ({why}). Obtain it again, or convert it to WAV.")
        if wav.seek(0, 2) >= most:  # there ffmpeg stops, and says nothing
            raise InputError(f"{path} is longer than what is read: decoded, it has over {most} bytes. Cut it.")
        wav.seek(0)
        yield wav

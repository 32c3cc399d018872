"""Checkpoints of a training run: whole or absent, whatever moment the process is killed at."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO

import torch

from sertk.core import SertkError
from sertk.core.files import Record, size_of, writing

State = Record
MARK = b"sertk-sha256:"
"""What stands behind the archive of a checkpoint, in front of its hash."""
TAIL = len(MARK) + 64
END = 22
"""Bytes that a ZIP archive ends with."""
PART = 2**20
"""Bytes that are hashed at once."""


class Checkpoints:
    """`checkpoints/` of a run; numbered files of which the highest counts.

    Args:
        folder: Where they lie.
        keep: How many of the newest stay.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self._folder, self._keep = folder, keep

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.pt"))

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._files())

    def save(self, state: State) -> None:
        """Writes a new checkpoint and lets go of the oldest."""
        files = self._files()
        number = int(files[-1].stem) + 1 if files else 1
        with writing(self._folder / f"{number:08d}.pt") as file:
            stream = _Stream(file)
            try:
                torch.save(state, stream)  # type: ignore[arg-type] # it only writes
            except (OSError, RuntimeError) as error:
                raise stream.error or _interrupt(error) or error from None
            file.write(MARK + stream.found.hexdigest().encode())
        for old in files[: max(0, len(files) + 1 - self._keep)]:
            old.unlink()

    def latest(self) -> State | None:
        """The newest checkpoint, None where there is none.

        Raises:
            SertkError: Where it cannot be read; it was written whole, so the disk or a hand changed it.
        """
        files = self._files()
        if not files:
            return None
        try:
            # weights_only: a checkpoint is resumed on one's own machine, yet even here no code is loaded
            state: State = torch.load(_checked(files[-1]), map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever the damaged part provokes
            raise SertkError(
                f"checkpoint {files[-1]} cannot be read ({error}). Delete it to go on from the one before."
            ) from error
        return state


def _checked(path: Path) -> Path:
    """A checkpoint whose hash, which stands behind its archive, was compared; an older one ends with the archive.

    Raises:
        SertkError: Where it is no file.
        ValueError: Where it is damaged.
    """
    left = max(0, size_of(path, "Delete it to go on from the one before.") - TAIL)
    found = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(left)
        tail = file.read()
        file.seek(0)
        while left and (part := file.read(min(left, PART))):
            found.update(part)
            left -= len(part)
    older = tail[-END:].startswith(b"PK\5\6")
    if not older and tail != MARK + found.hexdigest().encode():
        raise ValueError("it is not what was written: it was changed or damaged")
    return path


def _interrupt(error: BaseException) -> BaseException | None:
    """The Ctrl-C or SIGTERM behind an error: torch ends its archive on the way out, and fails over what is missing."""
    found = error.__context__
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__context__
    return found


class _Stream:
    """A file to write to that hashes what is written, and remembers what ended it.

    torch turns that into a riddle about its own archive.

    "No space left" is such an end, and so is a signal, which may come while something is written.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.found = file, hashlib.sha256()
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        self.found.update(data)
        try:
            return self._file.write(data)
        except (OSError, KeyboardInterrupt) as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()

"""The facts of audio that `prepare` has read so far, kept beside audio.jsonl: a killed call goes on from them."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from pathlib import Path

from sertk.console.progress import say
from sertk.core import SertkError
from sertk.core.files import write_jsonl
from sertk.corpus.audio import Facts, read_facts, to_json

EVERY = 60.0
"""Seconds of reading that a kill may cost."""


class Journal:
    """What is read of a corpus, written down once a minute; its threads may add to it side by side.

    Args:
        out: The prepared corpus. Facts go to files of their own in `.audio`, each written whole or not at all, until
            audio.jsonl has them.

    Attributes:
        known: What earlier calls wrote down, by id.
    """

    def __init__(self, out: Path) -> None:
        self._folder, whole = out / ".audio", out / "audio.jsonl"
        self._files = sorted(self._folder.glob("*.jsonl"))
        self._new, self._lock, self._written = list[Facts](), threading.Lock(), time.monotonic()
        self.known = dict[str, Facts]()
        for path in [whole, *self._files]:
            self.known |= _kept(path)

    def add(self, facts: Facts) -> None:
        """Takes the facts of an utterance that was read now."""
        with self._lock:
            self._new.append(facts)
            if time.monotonic() - self._written >= EVERY:
                self._write()

    def close(self) -> None:
        """Writes down what was added."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        if self._new:
            path = self._folder / f"{uuid.uuid4().hex}.jsonl"
            write_jsonl(path, map(to_json, self._new))
            self._files.append(path)
        self._new, self._written = [], time.monotonic()

    def clear(self) -> None:
        """Deletes what audio.jsonl has now; what another call keeps here stays."""
        for path in self._files:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not there, or not empty
            self._folder.rmdir()


def _kept(path: Path) -> dict[str, Facts]:
    """What a file of an earlier call holds. It saves time alone: where it is damaged, the audio is read again."""
    try:
        return read_facts(path, "All audio that it is about is read again.")
    except SertkError as error:
        if path.exists():  # else it never was, or another call has put it into audio.jsonl since
            say(f"warning: {error}")
        return {}

"""What a user sees of long work: a bar on a terminal, plain timestamped lines in a file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

console = Console(stderr=True, highlight=False, soft_wrap=True)
T = TypeVar("T")
INTERVAL = 10.0
_subject: ContextVar[str] = ContextVar("subject", default="")


@contextmanager
def on(subject: str) -> Iterator[None]:
    """Puts a subject before every line, "fold 1, seed 0" for example: the lines of several commands are mixed."""
    before = _subject.set(f"{subject}: ")
    try:
        yield
    finally:
        _subject.reset(before)


def say(message: str) -> None:
    """Prints a line, with the time of day where it goes to a file."""
    stamp = "" if console.is_terminal else f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} "
    console.print(f"{stamp}{_subject.get()}{message}", markup=False)


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yields the items, showing how far along it is: a bar, or a line every ten seconds."""
    if console.is_terminal:
        yield from rich_track(items, what, total, console=console, transient=True)
        return
    last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > INTERVAL:
            last = time.monotonic()
            say(f"{what}: {done} of {total}")

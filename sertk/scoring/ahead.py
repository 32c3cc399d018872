"""Audio that is read while the model computes, by processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from sertk.core import SertkError
from sertk.core.processes import tie

S = TypeVar("S")
T = TypeVar("T")


def _begin(parent: int) -> None:
    tie(parent)
    for one in (signal.SIGINT, signal.SIGTERM):  # the parent hears them too, and it is the one that says so
        signal.signal(one, signal.SIG_DFL)


def ahead(make: Callable[[S], T], items: Iterable[S], workers: int) -> Iterator[T]:
    """What a function makes of each item, in order, one item a worker ahead of time.

    torch's loader is not used: where one of its workers dies it raises in the middle of whatever runs, which may be the
    scoring of an utterance that is not to blame.

    Args:
        make: It gives no tensors: those would go through /dev/shm, which is 64 MB in many containers.
        items: They are asked for as they are wanted.
        workers: Processes; 0 makes each in this one when it is asked for.

    Raises:
        SertkError: If a worker was killed.
    """
    if not workers:
        yield from map(make, items)
        return
    fork = multiprocessing.get_context("fork" if sys.platform == "linux" else None)  # it imports nothing once more
    pool = ProcessPoolExecutor(workers, fork, initializer=_begin, initargs=(os.getpid(),))
    asked = deque[Future[T]]()
    try:
        for item in items:
            asked.append(pool.submit(make, item))
            if len(asked) > workers:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()
    except BrokenProcessPool:
        raise SertkError(
            "a process that reads audio ended without saying why (killed, or out of memory). What was finished counts: "
            "run the same command again, with --workers 0 if it comes again."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)

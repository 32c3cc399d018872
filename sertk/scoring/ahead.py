"""Audio that is read while the model computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def ahead(make: Callable[[S], T], items: Iterable[S], workers: int) -> Iterator[T]:
    """What a function makes of each item, in order, one item a worker ahead of time.

    Args:
        make: It lets go of the interpreter, as decoding does.
        items: They are asked for as they are wanted.
        workers: Threads; 0 makes each item when it is asked for.
    """
    if not workers:
        yield from map(make, items)
        return
    pool, asked = ThreadPoolExecutor(workers), deque[Future[T]]()
    try:
        for item in items:
            asked.append(pool.submit(make, item))
            if len(asked) > workers:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

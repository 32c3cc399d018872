"""Audio that is read while the model computes, by processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from sertk.core import SertkError
from sertk.core.processes import tie

S = TypeVar("S")
T = TypeVar("T")


class _Calls(Dataset[T], Generic[S, T]):
    """What a function makes of an item, as a loader wants it."""

    def __init__(self, make: Callable[[S], T]) -> None:
        self._make = make

    def __getitem__(self, item: S) -> T:
        return self._make(item)


def _same(made: T) -> T:
    return made


def ahead(make: Callable[[S], T], items: Iterable[S], workers: int) -> Iterator[T]:
    """What a function makes of each item, in order, one item a worker ahead of time.

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
    loader = DataLoader(
        _Calls(make),
        sampler=items,  # any iterable will do
        batch_size=None,
        num_workers=workers,
        prefetch_factor=1,
        collate_fn=_same,
        worker_init_fn=partial(tie, os.getpid()),
        generator=torch.Generator(),  # which is asked for a seed that nobody reads
    )
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise SertkError(
            "a process that reads audio ended without saying why (killed, or out of memory). What was finished counts: "
            "run the same command again, with --workers 0 if it comes again."
        ) from None

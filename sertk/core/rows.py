"""Columns of millions of rows in little memory: no object a row is kept."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import SupportsIndex, TypeVar, overload

import torch
from torch import Tensor

T = TypeVar("T")


class Rows(Sequence[T]):
    """A sequence that makes an item when it is read; it equals any sequence of the same items."""

    @abstractmethod
    def _item(self, row: int) -> T:
        """The item of a row, 0 <= row < len."""

    @overload
    def __getitem__(self, key: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[T]: ...
    def __getitem__(self, key: SupportsIndex | slice) -> T | Sequence[T]:
        if isinstance(key, slice):
            return tuple(self._item(row) for row in range(*key.indices(len(self))))
        return self._item(range(len(self))[key])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # it can grow

    def coded(self) -> tuple[Tensor, list[T]]:
        """See `coded`."""
        return coded(tuple(self))


class Texts(Rows[str]):
    """Texts in one piece of memory: a str of its own takes 50 bytes more."""

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array("q")

    def append(self, text: str) -> None:
        """Adds one; half of a surrogate pair (of a file name) is kept."""
        self._bytes += text.encode(errors="surrogatepass")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def _item(self, row: int) -> str:
        start = self._ends[row - 1] if row else 0
        return self._bytes[start : self._ends[row]].decode(errors="surrogatepass")


class Coded(Rows[T]):
    """Items of which many are the same, as speakers: a number a row, and each item once."""

    def __init__(self) -> None:
        self._codes, self._items, self._number = array("i"), list[T](), dict[T, int]()

    def append(self, item: T) -> None:
        """Adds one."""
        number = self._number.setdefault(item, len(self._items))
        if number == len(self._items):
            self._items.append(item)
        self._codes.append(number)

    def __len__(self) -> int:
        return len(self._codes)

    def _item(self, row: int) -> T:
        return self._items[self._codes[row]]

    def coded(self) -> tuple[Tensor, list[T]]:
        """See `coded`."""
        codes = torch.frombuffer(self._codes, dtype=torch.int32) if self._codes else torch.empty(0)
        return codes.long(), list(self._items)


class Chosen(Rows[T]):
    """Some rows of a sequence, in the order given.

    Args:
        items: The sequence.
        rows: Numbers of rows.
    """

    def __init__(self, items: Sequence[T], rows: Sequence[int]) -> None:
        self._items, self._rows = items, rows

    def __len__(self) -> int:
        return len(self._rows)

    def _item(self, row: int) -> T:
        return self._items[self._rows[row]]

    def coded(self) -> tuple[Tensor, list[T]]:
        """See `coded`; an item of which no row was chosen stays."""
        codes, items = coded(self._items)
        return codes[torch.tensor(self._rows, dtype=torch.int64)], items


class Chained(Rows[T]):
    """Several sequences one after another."""

    def __init__(self, parts: Iterable[Sequence[T]]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._starts = [0, *accumulate(map(len, self._parts))]

    def __len__(self) -> int:
        return self._starts[-1]

    def _item(self, row: int) -> T:
        part = bisect_right(self._starts, row) - 1
        return self._parts[part][row - self._starts[part]]

    def coded(self) -> tuple[Tensor, list[T]]:
        """See `coded`."""
        number, found = dict[T, int](), [torch.empty(0, dtype=torch.int64)]
        for codes, items in map(coded, self._parts):
            found.append(torch.tensor([number.setdefault(one, len(number)) for one in items])[codes])
        return torch.cat(found), list(number)


def coded(items: Sequence[T]) -> tuple[Tensor, list[T]]:
    """(N,) int64 a number for each item, and the differing items in the order of their numbers."""
    if isinstance(items, Rows):
        return items.coded()
    number: dict[T, int] = {}
    codes = [number.setdefault(one, len(number)) for one in items]
    return torch.tensor(codes, dtype=torch.int64), list(number)


def numbers(rows: Tensor) -> array[int]:
    """(N,) int64 row numbers as a sequence of int."""
    found = array("q")
    found.frombytes(rows.contiguous().numpy().tobytes())
    return found


def hashes(items: Iterable[object]) -> array[int]:
    """The hash of each item, 64 bits: two of a million differing items are the same once in 10^7 times."""
    return array("q", map(hash, items))


def repeated(found: array[int]) -> frozenset[int]:
    """Those hashes that come more than once."""
    if not found:
        return frozenset()
    values = torch.frombuffer(found, dtype=torch.int64).sort().values
    return frozenset(values[1:][values[1:] == values[:-1]].tolist())


def first_twice(found: array[int], again: Callable[[], Iterable[tuple[str, str]]]) -> tuple[str, str] | None:
    """The first id that came before, with where it is; None where all differ.

    Args:
        found: Their hashes.
        again: Gives (where, id) of all in their order; it is called only where hashes are the same.
    """
    twice, seen = repeated(found), set[str]()
    for where, name in again() if twice else ():
        if name in seen:
            return where, name
        if hash(name) in twice:
            seen.add(name)
    return None

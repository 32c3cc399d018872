"""Lists of utterances in little memory: a million of them are some tens of megabytes."""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from operator import attrgetter

from sertk.core import Utterance
from sertk.core.rows import Rows

FIELDS = attrgetter(*(field.name for field in fields(Utterance)))
"""All that is known of an utterance, as a tuple."""
BLOCK = 256


class Packed(Rows[Utterance]):
    """Utterances in compressed blocks; one block at a time is unpacked.

    Args:
        utterances: Each is let go as soon as its block is full.
    """

    def __init__(self, utterances: Iterable[Utterance]) -> None:
        self._blocks, self._size = list[bytes](), 0
        self._open: tuple[int, Sequence[Utterance]] = (-1, ())  # the number of the block that was used last, and it
        left = iter(utterances)
        while block := [FIELDS(one) for one in islice(left, BLOCK)]:
            self._blocks.append(zlib.compress(marshal.dumps(block), 1))
            self._size += len(block)

    def __len__(self) -> int:
        return self._size

    def _item(self, row: int) -> Utterance:
        number, place = divmod(row, BLOCK)
        if self._open[0] != number:
            self._open = (number, self._unpacked(number))
        return self._open[1][place]

    def _unpacked(self, number: int) -> list[Utterance]:
        # marshal reads what this process has just written and nothing else
        return [Utterance(*one) for one in marshal.loads(zlib.decompress(self._blocks[number]))]  # noqa: S302

    def __iter__(self) -> Iterator[Utterance]:
        for number in range(len(self._blocks)):
            yield from self._unpacked(number)

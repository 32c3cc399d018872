"""The last step of a sweep: scored runs -> one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sertk.results.sweeps import Line
from sertk.settings.sweep import Sweep


class Part(NamedTuple):
    """A sweep over one corpus; several are put together into one table.

    Attributes:
        corpus: Its title.
        sweep: The file.
        lines: The rows of the table.
        notes: What is said below it.
    """

    corpus: str
    sweep: Sweep
    lines: Sequence[Line]
    notes: Sequence[str]


def tabulate(parts: Sequence[Part], out: Path, files: Sequence[Path] = ()) -> list[Path]:
    """Writes the table."""
    return []

"""The table that a sweep ends in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Line(NamedTuple):
    """A row of the table: one point of a sweep, or what others printed.

    Attributes:
        row: Its name in the sweep's file.
        swept: The values of the swept settings.
        folder: Of the system, exp/PROTOCOL/SYSTEM; None for what is quoted.
        runs: (fold, seed) of each run that was asked for.
        elsewhere: How the runs differ from the paper's, "another encoder" for example; empty where they do not.
    """

    row: str
    swept: Mapping[str, object]
    folder: Path | None
    runs: tuple[tuple[str, str], ...]
    elsewhere: str

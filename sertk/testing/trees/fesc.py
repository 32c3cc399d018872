"""A list and audio as `egs/fesc` wants them. FESC's own layout and counts are not public: these are made up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sertk.testing.trees.anybody import rows, write_csv
from sertk.testing.trees.audio import clip

# five men and four women, as P3 2 has it; which number is whose is made up
SPEAKERS: Final[Mapping[str, str]] = {str(n): "m" if n <= 5 else "f" for n in range(1, 10)}
EMOTIONS: Final = ("neutral", "sadness", "joy", "affection", "anger")
COLUMNS: Final = ("id", "path", "speaker", "gender", "label", "text")


def write(folder: Path, *, seconds: float = 0.005, takes: int = 2) -> Path:
    """Nine speakers with `takes` clips of each of the five emotions, and fesc.csv."""
    content = [{word: row[word] for word in COLUMNS} for row in rows(takes, SPEAKERS, EMOTIONS)]
    for seed, row in enumerate(content):
        clip(folder / str(row["path"]), seed, seconds)
    write_csv(folder / "fesc.csv", content)
    return folder

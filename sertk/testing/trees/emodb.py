"""EmoDB as published: names, and the table of what listeners said."""

from __future__ import annotations

from pathlib import Path

from sertk.core import key
from sertk.testing.trees.audio import clip
from sertk.testing.trees.published import published_ids


def write(folder: Path, *, seconds: float = 0.005) -> Path:
    """Writes the 535 clips of EmoBox's list below `wav`, and `erkennung.txt` with ratings made up; gives `folder`."""
    ids = sorted(published_ids("emodb"))
    lines = ["Nr.\tSatz\terkannt\tnatuerlich"]
    for number, name in enumerate(ids, 1):
        clip(folder / "wav" / f"{name}.wav", key(name), seconds)
        lines.append(f"{number}\xa0\xa0\t{name}.wav\t{80 + number % 21},00\xa0\xa0\t{number % 100},50\xa0\xa0")
    (folder / "erkennung.txt").write_bytes("\n".join([*lines, ""]).encode("latin-1"))
    return folder

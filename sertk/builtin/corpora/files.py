"""What readers of corpus folders share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sertk.core import SertkError

AUDIO = (".wav", ".flac")


def audio_files(root: Path, expected: str) -> Iterator[Path]:
    """Audio files below a folder in the order of their names; hidden ones (AppleDouble's `._`) are no audio.

    Args:
        root: The corpus folder.
        expected: How the corpus lays its files out, for the error.

    Raises:
        SertkError: Where the folder is missing or holds no audio.
    """
    if not root.is_dir():
        raise SertkError(f"{root} is not a folder. Give the corpus folder with --root; expected there: {expected}.")
    found = (path for path in root.rglob("*") if path.suffix.lower() in AUDIO and not path.name.startswith("."))
    paths = sorted(found, key=lambda path: path.relative_to(root).as_posix())
    if not paths:
        raise SertkError(f"{root} holds no {' or '.join(AUDIO)} file. Give another --root; expected there: {expected}.")
    yield from paths

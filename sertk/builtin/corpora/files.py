"""What readers of corpus folders share."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from sertk.core import Rejected, SertkError

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


def strange(path: Path, codes: Sequence[str], tables: Mapping[str, Collection[str]]) -> Rejected | None:
    """A file whose name has a code that the corpus does not know; None where it knows all.

    Args:
        path: The file.
        codes: The codes of its name.
        tables: What each code says, in their order, with the known ones.
    """
    for (what, known), code in zip(tables.items(), codes, strict=True):
        if code not in known:
            return Rejected(path, f"unknown {what} {code!r} in {path.name!r}; known: {', '.join(known)}")
    return None

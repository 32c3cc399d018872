"""What is found in copies of a corpus, put into a generated tree on purpose."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from sertk.core import UsageError, nearest
from sertk.testing.trees.audio import clip

DEFECTS: Final = (
    "label_without_audio",  # the audio of the first clip is gone
    "audio_without_label",  # beside it lies audio that no label file knows
    "labelled_twice",  # the first clip's lines stand again at the end of the label file
    "second_file",  # the second clip lies in a folder `copy` too
    "apple_double",  # every file has a companion `._NAME`, as a Mac leaves it on foreign disks
    "crlf",  # text files have the line ends of Windows
    "latin1",  # text files are in Latin-1 instead of UTF-8
    "mark",  # text files begin with the mark of UTF-8
)


def check(defects: Collection[str]) -> None:
    """Raises UsageError on a defect that is not one of `DEFECTS`, and on two encodings at once."""
    for one in sorted(defects):
        if one not in DEFECTS:
            raise UsageError(f"no tree with the defect {one!r} can be made{nearest(one, DEFECTS)}")
    if {"latin1", "mark"} <= {*defects}:
        raise UsageError("a text file is in one encoding: give the defect 'latin1' or 'mark', not both.")


def write_text(path: Path, lines: Iterable[str], defects: Collection[str] = ()) -> None:
    """Writes a text file with the line ends and the encoding that `defects` say; makes its folder."""
    encoding = "latin-1" if "latin1" in defects else "utf-8-sig" if "mark" in defects else "utf-8"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + ("\r\n" if "crlf" in defects else "\n") for line in lines).encode(encoding))


def spoil(folder: Path, clips: Sequence[Path], unlabelled: str, defects: Collection[str]) -> None:
    """Puts those defects into a written tree that are about files.

    Args:
        folder: The tree.
        clips: Its first two audio files.
        unlabelled: Name, without suffix, of audio that no label file knows.
        defects: Of `DEFECTS`.
    """
    first, second = clips[:2]
    if "audio_without_label" in defects:
        clip(first.with_stem(unlabelled), -1, 0.005)
    if "label_without_audio" in defects:
        first.unlink()
    if "second_file" in defects:
        copy = second.parents[1] / "copy" / second.name
        copy.parent.mkdir()
        shutil.copy(second, copy)
    if "apple_double" in defects:
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")

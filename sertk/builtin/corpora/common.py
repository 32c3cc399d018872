"""What readers of corpus folders share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

from sertk.core import Rejected, SertkError
from sertk.core.walk import below

AUDIO = (".wav", ".flac")


def fold_table(name: str) -> Path:
    """The published fold lists that come with these readers, `folds/NAME.tsv`."""
    return Path(str(resources.files("sertk.builtin.corpora") / "folds" / f"{name}.tsv"))


def audio_files(root: Path, expected: str) -> list[Path]:
    """WAV and FLAC files below a folder in the order of their names, see `below`.

    Args:
        root: The corpus folder.
        expected: How the corpus lays its files out, for the error.

    Raises:
        SertkError: Where the folder is missing or holds no audio.
    """
    if not root.is_dir():
        raise SertkError(f"'{root}' is not a folder. Give the corpus folder with --root; expected there: {expected}.")
    paths = below(root).having(AUDIO)
    if not paths:
        raise SertkError(f"{root} holds no {' or '.join(AUDIO)} file. Give another --root; expected there: {expected}.")
    return paths


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


def text_of(path: Path) -> str:
    """The text of a file in UTF-8, with a mark or without, or in Latin-1, which no byte contradicts."""
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def numbered(path: Path) -> Iterator[tuple[str, str]]:
    """("file, line 3", the line without blanks at its ends) for the lines of a text file that are not empty."""
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def release(root: Path, holds: Iterable[str], expected: str) -> Path:
    """The folder of the release: `root`, or the one folder right below it that has one of the names of `holds`.

    Raises:
        SertkError: If there is no such folder, or there are several.
    """
    names = tuple(holds)
    below = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    for folders in ([root], below):
        found = [folder for folder in folders if any((folder / name).exists() for name in names)]
        if len(found) > 1:
            raise SertkError(f"{root} holds several releases, {found[0]} and {found[1]}. Give one of them with --root.")
        if found:
            return found[0]
    raise SertkError(
        f"neither {root} nor a folder in it has one of {', '.join(names)}. Give the corpus folder with --root; "
        f"expected there: {expected}."
    )

"""What scoring writes: never in the place of what it reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sertk.console.progress import say
from sertk.core import UsageError
from sertk.core.files import Record, beside, check_replaceable, write_jsonl, write_text
from sertk.corpus.prepared import PREPARED
from sertk.scoring.inputs import Inputs
from sertk.scoring.over_time import is_table
from sertk.scoring.shards import sidecar

TABLES = (".csv", ".tsv", ".xlsx")

Made = Mapping[tuple[str, str], str]
"""The option of each file that is written, by its place."""


def check_out(
    out: Path | None, inputs: Iterable[Path], over_time: Path | None = None, embeddings: Path | None = None
) -> None:
    """Refuses an output, or what is written beside it, in the place of a named input or of what `prepare` wrote.

    Args:
        out: scores.jsonl.
        inputs: Files; what is a folder is looked at in `check_audio`.
        over_time: Where windows go.
        embeddings: Where embeddings go.

    Raises:
        UsageError: If it is, if two outputs are one, or if `out` is named as a table.
    """
    if out is not None and out.suffix.lower() in TABLES:
        raise UsageError(
            f"--out {out} is named as a table, and score lines are JSON, one an utterance. Name it FILE.jsonl; "
            "pandas.read_json(FILE, lines=True) reads it as a table."
        )
    made = _made(out)
    for option, path in (("--over-time", over_time), ("--embeddings", embeddings)):
        if path is not None and _place(path) in made:
            raise UsageError(f"{option} {path} is what --out, or a file beside it, is written to. Give another.")
    made |= _made(None, over_time, embeddings)
    for path in inputs:
        _refuse(made, path)
    for folder in {path.parent for path in (out, over_time) if path is not None}:
        for name in PREPARED if (folder / "corpus.json").exists() else ():
            _refuse(made, folder / name)


def check_folder(out: Path) -> None:
    """Refuses a folder whose failed.jsonl is that of `prepare`.

    Raises:
        UsageError: If it is one.
    """
    check_out(out / "scores.jsonl", [])


def write_folder(out: Path, name: str, table: str, csv: str, failed: Sequence[Record]) -> None:
    """Writes and prints a table; beside it CSV, and the inputs that failed.

    Args:
        out: The folder.
        name: Of the files: NAME.md, NAME.csv.
        table: Markdown.
        csv: The same for programs.
        failed: Lines of failed.jsonl; one of before goes where there are none.

    Raises:
        SertkError: If a file cannot be written.
    """
    write_text(out / f"{name}.md", table)
    write_text(out / f"{name}.csv", csv)
    path = out / "failed.jsonl"
    path.unlink(missing_ok=True)
    if failed:
        write_jsonl(path, failed)
        say(f"{len({one['id'] for one in failed})} inputs failed, see {path}; the first: {failed[0]['reason']}")
    sys.stdout.write(table)


def check_files(*paths: Path | None) -> None:
    """Refuses outputs that are no files, before anything is scored.

    Raises:
        SertkError: See `check_replaceable`.
    """
    for path in paths:
        if path is not None:
            check_replaceable(path)


def check_audio(out: Path, found: Inputs) -> None:
    """Refuses an output in the place of an audio file that is to be read, by whatever name it is read.

    Raises:
        UsageError: If it is.
    """
    there = {number for path in _paths(out) if (number := _number(path, follow=False))}
    for one in found.utterances if there else ():  # there may be millions, and most often there is no output yet
        if _number(found.root / one.path, follow=True) in there:
            raise _refusal("--out", found.root / one.path)


def _paths(out: Path) -> list[Path]:
    listed = (beside(out, name, ".jsonl") for name in ("failed", "unscored"))
    return [out, beside(out, "metrics", ".json"), *listed, sidecar(out)]


def _made(
    out: Path | None, over_time: Path | None = None, embeddings: Path | None = None
) -> dict[tuple[str, str], str]:
    made = {_place(path): "--out" for path in (_paths(out) if out else ())}
    made |= {_place(over_time): "--over-time"} if over_time and is_table(over_time) else {}
    return made | ({_place(embeddings): "--embeddings"} if embeddings else {})


def _place(path: Path) -> tuple[str, str]:
    """Where a file is, by any way there; a link is a place of its own, for it is what would be replaced."""
    return os.path.realpath(path.parent), path.name


def _number(path: Path, *, follow: bool) -> tuple[int, int] | None:
    """What is the same of all names of a file."""
    try:
        found = path.stat(follow_symlinks=follow)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _refuse(made: Made, path: Path) -> None:
    for place in (_place(path), _place(Path(os.path.realpath(path)))):
        if place in made and not path.is_dir():
            raise _refusal(made[place], path)


def _refusal(option: str, path: Path) -> UsageError:
    return UsageError(f"{option} would overwrite {path}, which is an input. Give another file, in a folder of its own.")

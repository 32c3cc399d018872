"""What `score` writes never takes the place of what it reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sertk.core import UsageError
from sertk.core.files import beside
from sertk.corpus.prepared import PREPARED
from sertk.scoring.inputs import Inputs
from sertk.scoring.shards import sidecar


def check_out(out: Path, inputs: Iterable[Path]) -> None:
    """Refuses an output, or what is written beside it, in the place of a named input or of what `prepare` wrote.

    Args:
        out: scores.jsonl.
        inputs: Files; what is a folder is looked at in `check_audio`.

    Raises:
        UsageError: If it is.
    """
    made = _made(out)
    for path in inputs:
        _refuse(made, path)
    if (out.parent / "corpus.json").exists():
        for name in PREPARED:
            _refuse(made, out.parent / name)


def check_audio(out: Path, found: Inputs) -> None:
    """Refuses an output in the place of an audio file that is to be read.

    Raises:
        UsageError: If it is.
    """
    made = _made(out)
    names = {place[1] for place in made}
    for one in found.utterances:
        if one.path.rpartition("/")[2] in names:  # the rest is not looked up: there may be millions
            _refuse(made, found.root / one.path)


def _made(out: Path) -> set[tuple[Path, str]]:
    paths = (out, beside(out, "metrics", ".json"), beside(out, "failed", ".jsonl"), sidecar(out))
    return set(map(_place, paths))


def _place(path: Path) -> tuple[Path, str]:
    """Where a file is, by any way there; a link is a place of its own, for it is what would be replaced."""
    return path.parent.resolve(), path.name


def _refuse(made: set[tuple[Path, str]], path: Path) -> None:
    if _place(path) in made and not path.is_dir():
        raise UsageError(f"--out would overwrite {path}, which is an input. Give another file, in a folder of its own.")

"""Whether a step is up to date: fingerprints of what it depends on, kept beside what it wrote."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from sertk.core import SertkError
from sertk.core.files import Document, digest, read_json, write_json
from sertk.core.forms import Form
from sertk.modeling import bundle
from sertk.recipe.look import facts_of, installed, listing

NOTHING: Mapping[str, str] = MappingProxyType({})
LOOKS = re.compile(rb'"size": \d+, "mtime": \d+, ')
"""What a line of audio.jsonl says of how a file looks; what it holds is in its `sha256`."""


class Step(NamedTuple):
    """One stage command.

    Attributes:
        stage: Its name.
        words: The command, without `sertk`.
        stamp: Where its fingerprint is kept.
        settings: What of the settings it depends on.
        folder: A folder whose files it depends on, by name, size and time.
        needs: Files and bundles that earlier stages wrote.
        makes: Files and bundles that it writes.
        reads: What else it depends on, as data.
        run: Fold and seed of the one run that it makes.
        together: The command for several runs, which lacks `--fold` and `--seed`; see `sertk.recipe.commands`.
        without: Folders in `folder` that recipes write.
    """

    stage: str
    words: list[str]
    stamp: Path
    settings: object
    needs: list[Path]
    makes: list[Path]
    folder: Path | None = None
    reads: object = None
    run: tuple[str, str] | None = None
    together: Sequence[str] = ()
    without: Sequence[Path] = ()


class Fingerprint(NamedTuple):
    """Hashes of what a step depends on: its settings, the installed versions, and what it reads."""

    settings: str
    versions: str
    needs: str


def fingerprint(step: Step, known: Mapping[str, str] = NOTHING) -> Fingerprint:
    """The fingerprint of a step as things are now.

    Args:
        step: The step.
        known: Hashes of files by what `_files` says of them.
    """
    needs = [_hashes(step.needs, known), listing(step.folder, step.without) if step.folder else [], step.reads]
    return Fingerprint(digest([step.settings]), _versions(), digest(needs))


@functools.cache
def _versions() -> str:
    """The digest of what is installed."""
    return digest(installed())


def fresh(step: Step) -> bool:
    """Whether a step was done with the same settings, versions and inputs, and its outputs are as it left them."""
    old = _stamp(step)
    known = old.get("known", {})
    return bool(old) and old.get("makes") == _hashes(step.makes, known) and _same(old, fingerprint(step, known))


def stale(step: Step) -> bool:
    """Whether a step was done with these settings, but something else changed since."""
    old: Document = _stamp(step)
    return old.get("settings") == digest([step.settings])


def stamp(step: Step, found: Fingerprint) -> None:
    """Writes down that a step was done, with what it depended on and what it wrote."""
    write_json(step.stamp, {**found._asdict(), "makes": _hashes(step.makes), "known": _known(step)})


def remember(step: Step) -> None:
    """Writes down the hashes of files that were moved or copied since a step was done, so as not to read them again."""
    old = _stamp(step)
    known = _known(step, old.get("known", {}))
    if old.get("known") != known:
        with contextlib.suppress(SertkError):  # if the folder cannot be written, the files are read again the next time
            write_json(step.stamp, {**old, "known": known})


def files_of(step: Step) -> list[Path]:
    """The files that decide whether it is up to date, the files of bundles too; not the files of its own folder."""
    return [step.stamp, *(file for file, _ in _files([*step.needs, *step.makes]))]


def _same(old: Document, now: Fingerprint) -> bool:
    return all(old.get(name) == value for name, value in now._asdict().items())


def _stamp(step: Step) -> Document:
    """What was written down when a step was done; empty if it was not done."""
    try:
        return read_json(step.stamp, "", Form({"makes": list[str]}, {"known": Mapping[str, str]}))
    except SertkError:
        return {}


def _hashes(paths: Iterable[Path], known: Mapping[str, str] = NOTHING) -> list[str]:
    # without their paths: a work folder may be moved
    return [known.get(facts) or _hash(path, facts) if facts else "" for path, facts in _files(paths)]


def _known(step: Step, known: Mapping[str, str] = NOTHING) -> dict[str, str]:
    files = (one for one in _files([*step.needs, *step.makes]) if one[1])
    return {facts: known.get(facts) or _hash(path, facts) for path, facts in files}


def _files(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Each file, of bundles too, with its size, time and inode, which change when it does; "" if it is missing."""
    for path in paths:
        for file in bundle.files(path) if path.is_dir() else [path]:
            yield file, facts_of(file)


@functools.cache
def _hash(path: Path, facts: str) -> str:
    """The hash of a file's content, which is read once while its facts are the same.

    A corpus that was copied or mounted anew has other times and the same audio: nothing is trained again for that.
    """
    with path.open("rb") as file:
        if path.name != "audio.jsonl":
            return hashlib.file_digest(file, "sha256").hexdigest()
        sha = hashlib.sha256()
        for line in file:
            sha.update(LOOKS.sub(b"", line))
        return sha.hexdigest()

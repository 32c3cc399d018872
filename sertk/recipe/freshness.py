"""Whether a step is up to date: fingerprints of what it depends on, kept beside what it wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import NamedTuple

from sertk.core.files import Document, digest, write_json

STACK = ("sertk", "torch", "torchaudio", "speechbrain", "transformers", "soundfile", "numpy")


class Step(NamedTuple):
    """One stage command.

    Attributes:
        stage: Its name.
        words: The command, without `sertk`.
        stamp: Where its fingerprint is kept.
        settings: What of the settings it depends on.
        folder: A folder whose files it depends on, by name, size and time.
        needs: Files that earlier stages wrote.
        makes: Files that it writes.
        reads: What else it depends on, as data.
    """

    stage: str
    words: list[str]
    stamp: Path
    settings: object
    needs: list[Path]
    makes: list[Path]
    folder: Path | None = None
    reads: object = None


class Fingerprint(NamedTuple):
    """Hashes of what a step depends on: its settings, the installed versions, and what it reads."""

    settings: str
    versions: str
    needs: str


def fingerprint(step: Step) -> Fingerprint:
    """The fingerprint of a step as things are now."""
    guests = {f"{point.dist.name} {point.dist.version}" for point in entry_points(group="sertk") if point.dist}
    versions = [*(f"{name} {version(name)}" for name in STACK), *sorted(guests)]
    needs = [_hashes(step.needs), listing(step.folder) if step.folder else [], step.reads]
    return Fingerprint(digest([step.settings]), digest(versions), digest(needs))


def fresh(step: Step) -> bool:
    """Whether a step was done with the same settings, versions and inputs, and its outputs are as it left them."""
    old: Document | None = _stamp(step)
    return old is not None and old.get("makes") == _hashes(step.makes) and _same(old, fingerprint(step))


def stale(step: Step) -> bool:
    """Whether a step was done with these settings, and is out of date by something else."""
    old: Document | None = _stamp(step)
    return old is not None and old.get("settings") == fingerprint(step).settings


def stamp(step: Step, found: Fingerprint) -> None:
    """Writes down that a step was done, with what it depended on and what it wrote."""
    write_json(step.stamp, {**found._asdict(), "makes": _hashes(step.makes)})


def _same(old: Document, now: Fingerprint) -> bool:
    return all(old.get(name) == value for name, value in now._asdict().items())


def _stamp(step: Step) -> Document | None:
    try:
        found: Document = json.loads(step.stamp.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found


def _hashes(paths: Iterable[Path]) -> list[str]:
    # without their paths: a work folder may be moved
    return [hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in paths]


def listing(root: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file below a folder: cheap to take, and it changes when the corpus does."""
    files = ((path, path.stat()) for path in sorted(root.rglob("*")) if path.is_file())
    return [(path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns) for path, stat in files]

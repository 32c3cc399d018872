"""What things look like from outside: sizes, times, versions. No content is read, and torch is not imported."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path

STACK = ("sertk", "torch", "torchaudio", "speechbrain", "transformers", "soundfile", "soxr", "numpy")


@functools.cache
def guests() -> tuple[EntryPoint, ...]:
    """The plugins of installed guests; to find them the metadata of every distribution is read."""
    return tuple(entry_points(group="sertk"))


def installed() -> list[str]:
    """Name and version of the libraries that results depend on, and of every guest."""
    own = {f"{point.dist.name} {point.dist.version}" for point in guests() if point.dist}
    return [*(f"{name} {version(name)}" for name in STACK), *sorted(own)]


def facts_of(path: Path) -> str:
    """Size, time and inode of a file, which change when it does; "" if there is no file."""
    stat = path.stat() if path.is_file() else None
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}" if stat else ""


def listing(root: Path, without: Collection[Path] = ()) -> list[tuple[str, int, int]]:
    """Name, size and time of every file below a folder: cheap to take, and it changes when the corpus does.

    Args:
        root: The folder.
        without: Folders below it that are left out.
    """
    found, folders = list[tuple[str, int, int]](), [""] if root.is_dir() else []
    for folder in folders:  # the list grows in the loop
        with contextlib.suppress(PermissionError), os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders += [f"{folder}{entry.name}/"] * (Path(entry.path) not in without)
                elif entry.is_file():
                    stat = entry.stat()
                    found.append((f"{folder}{entry.name}", stat.st_size, stat.st_mtime_ns))
    return sorted(found, key=lambda one: one[0].split("/"))


def hub_copy(name: str) -> Path:
    """Where this machine keeps what has this name on the Hugging Face hub."""
    from huggingface_hub.constants import HF_HUB_CACHE  # here, because the import is slow

    return Path(HF_HUB_CACHE, "models--" + name.replace("/", "--"))


def look(path: Path) -> str:
    """What a path looks like: the facts of a file, or the place and the files of a folder; "" if nothing is there."""
    return key_of([path.resolve(), listing(path)]) if path.is_dir() else facts_of(path)


def changed(path: Path) -> int:
    """When a file, or one below a folder, was changed last, in ns; 0 if nothing is there."""
    files = [path / name for name, *_ in listing(path)] if path.is_dir() else [path]
    return max((file.stat().st_ctime_ns for file in files if file.is_file()), default=0)


def key_of(content: object) -> str:
    """16 hex digits of what Python says of a value."""
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]

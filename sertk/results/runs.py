"""Scored runs on disk: how they are found, and which of them may stand side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sertk.core import SertkError
from sertk.core.files import Document, Record, name_of_part, read_json
from sertk.corpus.audit import stamped


class Run(NamedTuple):
    """A scored run.

    Attributes:
        fold: Its fold, by name.
        seed: Its seed.
        metrics: The content of its metrics.json.
        folder: Its folder.
    """

    fold: str
    seed: str
    metrics: Record
    folder: Path

    @property
    def counts(self) -> Tensor:
        """(C, C) confusion counts."""
        return torch.tensor(self.metrics["confusion"])


def find(folders: Sequence[Path]) -> dict[Path, list[Run]]:
    """Finds the scored runs in folders and below them.

    Args:
        folders: Run folders, system folders, or anything above them.

    Returns:
        The runs by system folder, in the order given; those of a system are sorted by fold and seed.

    Raises:
        SertkError: If there is no scored run.
    """
    found: dict[Path, list[Run]] = {}
    below = [path.resolve() for folder in folders for path in sorted(folder.rglob("seed=*/metrics.json"))]
    own = [folder.resolve() / "metrics.json" for folder in folders]
    for path in dict.fromkeys([*(one for one in own if one.exists()), *below]):
        found.setdefault(path.parent.parent.parent, []).append(_run(path.parent))
    if not found:
        raise SertkError(
            f"no metrics.json of a scored run (fold=F/seed=S) below {', '.join(map(str, folders))}. "
            "Run `sertk score` first."
        )
    return {system: sorted(runs, key=lambda run: (run.fold, run.seed)) for system, runs in found.items()}


def _run(folder: Path) -> Run:
    """The scored run in `fold=F/seed=S`."""
    fold, seed = name_of_part(folder.parent.name.removeprefix("fold=")), folder.name.removeprefix("seed=")
    return Run(fold, seed, read_json(folder / "metrics.json", "Run `sertk score` again."), folder)


def lacking(runs: Sequence[Run], every: Sequence[Run]) -> list[tuple[str, str]]:
    """The runs that are missing for each fold to have each seed.

    Args:
        runs: The runs that are there.
        every: The runs whose folds and seeds are wanted.

    Returns:
        (fold, seed) of each missing run, sorted.
    """
    grid = set(product({run.fold for run in every}, {run.seed for run in every}))
    return sorted(grid - {(run.fold, run.seed) for run in runs})


def protocol_of(system: Path, runs: Sequence[Run]) -> Record:
    """The one protocol that all runs of a system have.

    Args:
        system: The system's folder, for the error.
        runs: Its runs.

    Returns:
        `protocol` of their metrics.json.

    Raises:
        SertkError: If the runs differ in the hash of the folds, the part or the stamp.
    """
    for what in ("hash", "part", "stamp"):
        kinds = sorted({run.metrics["protocol"].get(what, "none") for run in runs})
        if len(kinds) > 1:
            raise SertkError(f"{system} mixes runs of different {what} ({', '.join(kinds)}). Report them apart.")
    about: Record = runs[0].metrics["protocol"]
    return about


def stated(about: Document) -> str:
    """A protocol in words: corpus, name, stamp, part and hash."""
    return (
        f"{about.get('corpus', '?')} / {about.get('name', '?')}, {stamped(about)}, "
        f"part {about.get('part', '?')}, hash `{about.get('hash', '?')}`"
    )


def check_one_hash(systems: Iterable[tuple[str, Document]]) -> None:
    """Refuses systems that have different folds under one protocol name: readers would compare their metrics.

    Args:
        systems: What each is called in the error, and its protocol.

    Raises:
        SertkError: If two have different hashes of one protocol.
    """
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for system, about in systems:
        name, own = (about.get("corpus", "?"), about.get("name", "?")), about.get("hash", "none")
        other, known = first.setdefault(name, (system, own))
        if own != known:
            raise SertkError(
                f"{other} and {system} are of different folds of {' / '.join(name)} (hash {known} and {own}). "
                "Score both on the same folds, or report them apart."
            )

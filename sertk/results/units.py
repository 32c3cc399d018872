"""What is drawn again for an interval: speakers or utterances, each with its confusion counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sertk.core import Scores, SertkError
from sertk.core.rows import coded, hashes
from sertk.results.lines import SCORE
from sertk.results.runs import Run, lacking
from sertk.results.systems import System

Array = npt.NDArray[Any]
By = Literal["speakers", "utterances"]
Where = Callable[[Scores], Tensor]
"""Chooses utterances: an (N,) mask."""


@dataclass(frozen=True)
class Units:
    """Speakers or utterances of one system, or of two that scored the same utterances.

    Rows U, systems A, seeds K, classes C. Utterances of one fold, label and decisions share a row.

    Attributes:
        by: What a unit is.
        counts: (U, A, K, C, C) float64 confusion counts.
        fold: (U,) number of the fold.
        size: (U,) units that a row stands for; 1 of a speaker.
        names: U speakers; empty for utterances.
    """

    by: By
    counts: Array
    fold: Array
    size: Array
    names: Sequence[str]

    @cached_property
    def sizes(self) -> Array:
        """(F,) units in each fold."""
        return np.bincount(self.fold, weights=self.size).astype(np.int64)

    @property
    def pooled(self) -> Units:
        """The same with the folds put together: a speaker of several folds is one unit."""
        if self.by == "utterances":
            return replace(self, fold=np.zeros_like(self.fold))
        names, place = np.unique(np.array(self.names), return_inverse=True)
        counts = np.zeros((len(names), *self.counts.shape[1:]))
        np.add.at(counts, place, self.counts)
        ones = np.ones(len(names), np.int64)
        return Units("speakers", counts, np.zeros_like(ones), ones, names.tolist())


def units_of(systems: Sequence[System], by: By = "speakers", where: Where | None = None) -> Units:
    """The units of systems that have the same folds and seeds.

    Args:
        systems: One, or two that are compared.
        by: What a unit is.
        where: Chooses the utterances that count; None for all. A fold may have none of them: then pool the units.

    Raises:
        SertkError: If a run is missing, an utterance has no speaker, or two runs of a fold differ in their utterances.
    """
    every = [run for system in systems for run in system.runs]
    for system in systems:
        if missing := lacking(system.runs, every):
            raise SertkError(
                f"{system.name} lacks {len(missing)} run{'s' * (len(missing) > 1)}, the first {_run(*missing[0])}. "
                "Train and score them, or give the folds and seeds that are whole."
            )
    folds: dict[str, list[Run]] = {}
    for run in (run for system in systems for runs in system.by_seed.values() for run in runs):
        folds.setdefault(run.fold, []).append(run)  # A x K runs, systems first
    make = _speakers if by == "speakers" else _utterances
    parts = [make(runs, where) for runs in folds.values()]
    shape, size = (len(systems), len(systems[0].by_seed)), len(every[0].scores.classes)
    return Units(
        by,
        counts=np.concatenate([counts.reshape(-1, *shape, size, size) for counts, _, _ in parts]),
        fold=np.repeat(np.arange(len(parts)), [len(counts) for counts, _, _ in parts]),
        size=np.concatenate([each for _, each, _ in parts]),
        names=[name for _, _, names in parts for name in names],
    )


def _run(fold: str, seed: str) -> str:
    """A run in words; of another corpus, which has no fold of the system, its seed names the bundle."""
    return f"fold {fold}, seed {seed}" if fold else f"the bundle of {seed}"


def _chosen(run: Run, where: Where | None) -> Scores:
    return run.scores if where is None else run.scores.take(where(run.scores))


def _speakers(runs: Sequence[Run], where: Where | None) -> tuple[Array, Array, list[str]]:
    """(S, R, C, C) counts of the speakers of a fold by run, ones, and their names."""
    classes, place = len(runs[0].scores.classes), dict[str, int]()
    found = []
    for run in runs:
        scores = _chosen(run, where)
        codes, names = coded(scores.speaker)
        if None in names and bool((unknown := codes == names.index(None)).any()):
            raise SertkError(
                f"{scores.ids[int(unknown.nonzero()[0])]!r} ({_run(run.fold, run.seed)}) has no speaker. "
                f"Name the speakers in the manifest, and prepare again. {SCORE}"
            )
        rows = torch.tensor([place.setdefault(str(name), len(place)) for name in names], dtype=torch.int64)[codes]
        found.append((rows * classes + scores.target.hard) * classes + scores.decision)
    counted = [torch.bincount(code, minlength=len(place) * classes**2).view(-1, classes, classes) for code in found]
    counts = torch.stack(counted, 1).double().numpy()  # (S, R, C, C)
    labels = counts.sum(-1)
    if (labels != labels[:, :1]).any():
        raise SertkError(
            f"fold {runs[0].fold}: its speakers have not the same utterances in every seed and system. Score all of "
            "them again on the same manifest."
        )
    spoken = labels.sum((1, 2)) > 0  # a name of which no utterance was chosen is left out
    kept = [name for name, known in zip(place, spoken.tolist(), strict=True) if known]
    return counts[spoken], np.ones(len(kept), np.int64), kept


def _utterances(runs: Sequence[Run], where: Where | None) -> tuple[Array, Array, list[str]]:
    """(U, R, C²) one-hot counts of the utterances of a fold, one for all that are alike, and how many are alike."""
    classes = len(runs[0].scores.classes)
    cells, first = [], None
    for run in runs:
        scores = _chosen(run, where)
        own = np.asarray(hashes(scores.ids)) if len(runs) > 1 else np.arange(len(scores.ids))
        order = np.argsort(own)
        label, decision = (one.numpy()[order] for one in (scores.target.hard, scores.decision))
        known = own[order], label
        first = first or known
        if not all(map(np.array_equal, known, first)):
            raise SertkError(
                f"fold {run.fold} has not the same utterances in every seed and system. Look for failed.jsonl beside "
                "the scores, and score all of them again on the same files."
            )
        cells.append(label * classes + decision)
    kind = np.zeros(len(cells[0]), np.int64)
    for one in cells:  # utterances of one kind have the same label and decisions in the runs so far
        _, kind = np.unique(kind * classes**2 + one, return_inverse=True)
    _, first_of, size = np.unique(kind, return_index=True, return_counts=True)
    return np.eye(classes**2)[np.stack(cells, 1)[first_of]], size, []

"""Scored systems, read from the score lines of their runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sertk.core import Scores, SertkError
from sertk.core.files import Record
from sertk.core.rows import hashes
from sertk.core.scores import Labels
from sertk.results.measures import Measure, Measures
from sertk.results.runs import Run, marks, protocol_of, stated


@dataclass(frozen=True)
class System:
    """A system that was scored.

    Attributes:
        name: As it is shown.
        folder: exp/<protocol>/<system>, or one of the user's own choice.
        runs: Sorted by fold and seed.
    """

    name: str
    folder: Path
    runs: Sequence[Run]

    @property
    def about(self) -> Record:
        """Its protocol; SertkError if the runs have different ones."""
        return protocol_of(self.folder, self.runs)

    @property
    def protocol(self) -> str:
        """Its protocol in words."""
        return stated(self.about)

    @property
    def stamped_name(self) -> str:
        """Its name where no line on the protocol stands beside it: what is no test of unknown speakers is marked."""
        part = self.about.get("part", "test")
        return with_marks(self.name, [*marks(self.about), *[f"part {part}"] * (part != "test")])

    @cached_property
    def by_seed(self) -> dict[str, list[Run]]:
        """Its runs by seed."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.seed, []).append(run)
        return found

    @cached_property
    def seeds(self) -> dict[str, Scores]:
        """The scores of all folds together, by seed."""
        return {seed: Scores.join([run.scores for run in runs]) for seed, runs in self.by_seed.items()}

    def values(
        self, measure: Measure, measures: Measures, where: Callable[[Scores], Tensor] | None = None
    ) -> list[float | None]:
        """A metric, pooled over the folds, for each seed that has any of the utterances.

        Args:
            measure: The metric.
            measures: Says so if it fails.
            where: Chooses the utterances that count, an (N,) mask; None for all.
        """
        kept = [scores.take(where(scores)) if where else scores for scores in self.seeds.values()]
        return [measures.figure(measure, scores) for scores in kept if scores.ids]

    def agreement(self, truth: System, measure: Measure, measures: Measures) -> list[float | None]:
        """A metric if the decisions of another system were the labels, pooled over the folds, seed by seed."""
        theirs = {(run.fold, run.seed): run for run in truth.runs}
        own = ([labelled_by(run, theirs[run.fold, run.seed]) for run in runs] for runs in self.by_seed.values())
        return [measures.figure(measure, Scores.join(scores)) for scores in own]


def with_marks(name: str, found: Sequence[str]) -> str:
    """A name with its marks in brackets, see `marks`."""
    return f"{name} ({', '.join(found)})" if found else name


def labelled_by(run: Run, truth: Run) -> Scores:
    """The scores of a run with the decisions of another as the labels.

    Raises:
        SertkError: If the other has not scored one of the utterances, or has other classes.
    """
    return replace(run.scores, target=Labels(truth.scores.decision[rows_in(truth, run)], len(run.scores.classes)))


def rows_in(other: Run, run: Run) -> Tensor:
    """(N,) the row in which another run has each utterance of a run.

    Raises:
        SertkError: If the other has not scored one of the utterances, or has other classes.
    """
    own, theirs = (torch.from_numpy(np.asarray(hashes(one.scores.ids))) for one in (run, other))
    known, order = theirs.sort()
    place = torch.searchsorted(known, own).clamp(max=max(0, len(known) - 1))
    lacking = (known[place] != own).nonzero().flatten() if len(known) else torch.arange(len(own))
    if len(lacking) or run.scores.classes != other.scores.classes:
        unknown = f"{other.folder} has no utterance {run.scores.ids[int(lacking[0])]!r}" if len(lacking) else ""
        what = unknown or "their classes differ"
        raise SertkError(f"{run.folder} cannot be compared with {other.folder}: {what}. Score both on the same folds.")
    return order[place]

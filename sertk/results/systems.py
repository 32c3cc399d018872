"""Scored systems, read from the score lines of their runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from sertk.core import Scores, Target
from sertk.results.measures import Measure, Measures
from sertk.results.runs import Run, protocol_of, stated


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
    def protocol(self) -> str:
        """Its protocol in words; SertkError if the runs have different ones."""
        return stated(protocol_of(self.folder, self.runs))

    @cached_property
    def _by_seed(self) -> dict[str, list[Run]]:
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.seed, []).append(run)
        return found

    @cached_property
    def seeds(self) -> dict[str, Scores]:
        """The scores of all folds together, by seed."""
        return {seed: Scores.join([run.scores for run in runs]) for seed, runs in self._by_seed.items()}

    @cached_property
    def keys(self) -> dict[str, list[tuple[str, str]]]:
        """Fold and id of each utterance in `seeds`."""
        return {seed: [(run.fold, i) for run in runs for i in run.scores.ids] for seed, runs in self._by_seed.items()}

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
        found = []
        for seed, scores in self.seeds.items():
            theirs = dict(zip(truth.keys[seed], truth.seeds[seed].decision.tolist(), strict=True))
            labels = torch.tensor([theirs[key] for key in self.keys[seed]])
            found.append(measures.figure(measure, replace(scores, target=Target.of(labels, len(scores.classes)))))
        return found

"""Utterances that a run decides on while it trains: dev, for the metric that selects, and others for its curves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sertk.core import Prediction, Scores, Target, Utterance
from sertk.training import distributed


class Dev:
    """N utterances of one part of a fold, in its order; each rank decides on its share of them.

    Args:
        utterances: All of them.
        labels: (N,) int64 class of each.
        classes: C class names.
    """

    def __init__(self, utterances: Sequence[Utterance], labels: Tensor, classes: Sequence[str]) -> None:
        self._utterances, self._labels, self._classes = utterances, labels, classes
        self._row = {one.id: row for row, one in enumerate(utterances)}
        self._begin()

    def __len__(self) -> int:
        return len(self._utterances)

    def _begin(self) -> None:
        size = (len(self), len(self._classes))
        self._posterior, self._logits = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)

    def add(self, ids: Sequence[str], posterior: Tensor, logits: Tensor) -> None:
        """Keeps what is decided of B utterances.

        Args:
            ids: B ids.
            posterior: (B, C).
            logits: (B, C).
        """
        rows = torch.tensor([self._row[name] for name in ids])
        self._posterior[rows], self._logits[rows] = posterior.double().cpu(), logits.double().cpu()

    def scores(self) -> Scores:
        """The scores of the epoch, the same on all ranks; then the next epoch begins."""
        # an utterance is decided on by one rank and zero on the others, so that the sum is what that rank has
        prediction = Prediction(*map(distributed.sum_over_ranks, (self._posterior, self._logits)))
        self._begin()
        target = Target.of(self._labels, len(self._classes))
        return Scores.of(self._utterances, self._classes, target, prediction)

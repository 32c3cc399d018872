"""What was decided of utterances: what metrics and statistics read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sertk.core.batch import Target
from sertk.core.utterance import Utterance


@dataclass(frozen=True)
class Prediction:
    """What a decision makes of the windows and crops of B utterances.

    Attributes:
        posterior: (B, C) rows sum to 1.
        logits: (B, C) values of the emotion head, the mean over windows.
    """

    posterior: Tensor
    logits: Tensor

    def take(self, rows: Tensor) -> Prediction:
        """Some rows, in the order asked for."""
        return Prediction(self.posterior[rows], self.logits[rows])


@dataclass(frozen=True)
class Scores:
    """N utterances with their labels and what was decided of them: all that a metric may read.

    Attributes:
        ids: N ids. Of several folds together one may come twice.
        classes: The C class names, in the order of every column and class number.
        target: The labels of the N utterances.
        prediction: (N, C) posterior and logits, float64; in score lines they are rounded to 6 digits.
        decision: (N,) int64 the class that was decided for, as the score line says it: a rounded posterior may tie.
        speaker: N speakers, None where it is unknown.
        gender: N of "female", "male", None.
        session: N sessions, None for an utterance without one.
        seconds: (N,) float64 durations before trimming, NaN where unknown.
    """

    ids: Sequence[str]
    classes: Sequence[str]
    target: Target
    prediction: Prediction
    decision: Tensor
    speaker: Sequence[str | None]
    gender: Sequence[str | None]
    session: Sequence[str | None]
    seconds: Tensor

    @classmethod
    def of(
        cls, utterances: Sequence[Utterance], classes: Sequence[str], target: Target, prediction: Prediction
    ) -> Scores:
        """The scores of N utterances; the decision is the first class of the greatest posterior."""
        seconds = [math.nan if one.duration is None else one.duration for one in utterances]
        return cls(
            ids=tuple(one.id for one in utterances),
            classes=classes,
            target=target,
            prediction=prediction,
            decision=prediction.posterior.argmax(1),
            speaker=tuple(one.known_speaker for one in utterances),
            gender=tuple(one.gender for one in utterances),
            session=tuple(one.session for one in utterances),
            seconds=torch.tensor(seconds, dtype=torch.float64),
        )

    @cached_property
    def confusion(self) -> Tensor:
        """(C, C) int64 counts: rows are the labels, columns the decisions."""
        size = len(self.classes)
        cells = self.target.hard * size + self.decision
        return torch.bincount(cells, minlength=size**2).view(size, size)

    def take(self, rows: Tensor) -> Scores:
        """Some utterances, by (M,) row numbers or an (N,) bool mask, in the order asked for."""
        places = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
        chosen = places.tolist()
        return Scores(
            ids=tuple(self.ids[row] for row in chosen),
            classes=self.classes,
            target=self.target.take(places),
            prediction=self.prediction.take(places),
            decision=self.decision[places],
            speaker=tuple(self.speaker[row] for row in chosen),
            gender=tuple(self.gender[row] for row in chosen),
            session=tuple(self.session[row] for row in chosen),
            seconds=self.seconds[places],
        )

    @classmethod
    def join(cls, parts: Sequence[Scores]) -> Scores:
        """The utterances of several scores of the same classes, one after another; at least one."""
        soft, weight = ([getattr(one.target, name) for one in parts] for name in ("soft", "weight"))
        posterior, logits = ([getattr(one.prediction, name) for one in parts] for name in ("posterior", "logits"))
        return cls(
            ids=tuple(name for one in parts for name in one.ids),
            classes=parts[0].classes,
            target=Target(torch.cat(soft), torch.cat(weight)),
            prediction=Prediction(torch.cat(posterior), torch.cat(logits)),
            decision=torch.cat([one.decision for one in parts]),
            speaker=tuple(name for one in parts for name in one.speaker),
            gender=tuple(name for one in parts for name in one.gender),
            session=tuple(name for one in parts for name in one.session),
            seconds=torch.cat([one.seconds for one in parts]),
        )

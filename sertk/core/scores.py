"""What was decided of utterances: what metrics and statistics read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from sertk.core.batch import Target
from sertk.core.rows import Chained, Chosen, numbers
from sertk.core.utterance import Utterance

Column = Literal["posterior", "logits"]


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
        """Some rows, in the order given."""
        return Prediction(self.posterior[rows], self.logits[rows])

    def column(self, name: Column) -> Tensor:
        """(B, C) one of the two, not kept where it had to be read."""
        return self.posterior if name == "posterior" else self.logits

    def own(self) -> Prediction:
        """The same in tensors of its own."""
        return Prediction(self.posterior.clone(), self.logits.clone())


class Later(Prediction):
    """A prediction that is read from its file when it is used: millions of utterances would fill the memory.

    Args:
        read: Gives (B, C) values in a tensor of their own, each time that it is called.
    """

    _read: Callable[[Column], Tensor]

    def __init__(self, read: Callable[[Column], Tensor]) -> None:
        object.__setattr__(self, "_read", read)

    def column(self, name: Column) -> Tensor:
        """(B, C) one of the two, read again at every call."""
        return self._read(name)

    @cached_property
    def posterior(self) -> Tensor:
        """(B, C)."""
        return self._read("posterior")

    @cached_property
    def logits(self) -> Tensor:
        """(B, C)."""
        return self._read("logits")

    def take(self, rows: Tensor) -> Prediction:
        """Some rows, in the order given."""
        return Later(lambda name: self._read(name)[rows])

    def own(self) -> Prediction:
        """The same, read again."""
        return Later(self._read)


class Labels(Target):
    """Labels that are one class each: their shares are made when they are used.

    Args:
        number: (B,) class numbers, any integers.
        classes: C.
    """

    _number: Tensor
    _classes: int

    def __init__(self, number: Tensor, classes: int) -> None:
        for name, value in (("_number", number), ("_classes", classes), ("aux", {})):
            object.__setattr__(self, name, value)  # it is frozen

    @property
    def soft(self) -> Tensor:
        """(B, C) float32, made again at every call."""
        return torch.nn.functional.one_hot(self.hard, self._classes).float()

    @property
    def weight(self) -> Tensor:
        """(B,) ones."""
        return torch.ones(len(self._number))

    @property
    def hard(self) -> Tensor:
        """(B,) int64, made again at every call."""
        return self._number.long()

    def take(self, rows: Tensor) -> Target:
        """Some rows, in the order given."""
        return Labels(self._number[rows], self._classes)

    @classmethod
    def join(cls, parts: Sequence[Target], classes: int) -> Target:
        """Labels one after another."""
        own = [one._number for one in parts if isinstance(one, Labels)]
        if len(own) == len(parts):
            return cls(torch.cat(own), classes)
        return Target(torch.cat([one.soft for one in parts]), torch.cat([one.weight for one in parts]))


@dataclass(frozen=True)
class Scores:
    """N utterances with their labels and what was decided of them: all that a metric may read.

    Attributes:
        ids: N ids. Of several folds together one may come twice.
        classes: The C class names, in the order of every column and class number.
        target: The labels of the N utterances.
        prediction: (N, C) posterior and logits, float64; in score lines they are rounded to 6 digits. Those of a file
            are read when they are used.
        decision: (N,) int64 the class that was decided for, as the score line says it: a rounded posterior may tie.
        speaker: N speakers, None where it is unknown.
        gender: N of "female", "male", None.
        session: N sessions, None for an utterance without one.
        seconds: (N,) float64 durations before trimming, NaN where unknown.
        intensity: N intensities, such as "strong"; None where unknown. If none is given, all are unknown.
        votes: (N, C) float32 votes of annotators for each class; None where no utterance has any.
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
    intensity: Sequence[str | None] = ()
    votes: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "intensity", self.intensity or (None,) * len(self.ids))

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
            intensity=tuple(one.intensity for one in utterances),
        )

    @cached_property
    def confusion(self) -> Tensor:
        """(C, C) int64 counts: rows are the labels, columns the decisions."""
        size = len(self.classes)
        cells = self.target.hard * size + self.decision
        return torch.bincount(cells, minlength=size**2).view(size, size)

    def take(self, rows: Tensor) -> Scores:
        """Some utterances, by (M,) row numbers or an (N,) bool mask, in the order given."""
        places = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
        chosen = numbers(places)
        return Scores(
            ids=Chosen(self.ids, chosen),
            classes=self.classes,
            target=self.target.take(places),
            prediction=self.prediction.take(places),
            decision=self.decision[places],
            speaker=Chosen(self.speaker, chosen),
            gender=Chosen(self.gender, chosen),
            session=Chosen(self.session, chosen),
            seconds=self.seconds[places],
            intensity=Chosen(self.intensity, chosen),
            votes=None if self.votes is None else self.votes[places],
        )

    @classmethod
    def join(cls, parts: Sequence[Scores]) -> Scores:
        """The utterances of several scores of the same classes, one after another; at least one."""
        first, *others = parts
        if not others:
            return first
        return cls(
            ids=Chained(one.ids for one in parts),
            classes=first.classes,
            target=Labels.join([one.target for one in parts], len(first.classes)),
            prediction=Later(lambda name: torch.cat([one.prediction.column(name) for one in parts])),
            decision=torch.cat([one.decision for one in parts]),
            speaker=Chained(one.speaker for one in parts),
            gender=Chained(one.gender for one in parts),
            session=Chained(one.session for one in parts),
            seconds=torch.cat([one.seconds for one in parts]),
            intensity=Chained(one.intensity for one in parts),
            votes=_joined(parts),
        )

    def own(self) -> Scores:
        """The same in tensors of their own: who writes to them changes nothing here."""
        return replace(
            self,
            target=self.target.take(torch.arange(len(self.ids))),
            prediction=self.prediction.own(),
            decision=self.decision.clone(),
            seconds=self.seconds.clone(),
            votes=None if self.votes is None else self.votes.clone(),
        )


def _joined(parts: Sequence[Scores]) -> Tensor | None:
    """(N, C) the votes of several scores one after another; None if none has any."""
    if all(one.votes is None for one in parts):
        return None
    return torch.cat([torch.zeros(len(one.ids), len(one.classes)) if one.votes is None else one.votes for one in parts])

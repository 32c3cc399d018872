"""What a model decides between: the classes of a protocol, and auxiliary labels beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sertk.core.errors import InputError


@dataclass(frozen=True)
class AuxTask:
    """An auxiliary label: one of `classes`, or a scale cut into bins at `edges`.

    A value on an edge belongs to the outer of its two bins, on the edge in the middle of an odd number to the upper:
    with edges 2 and 4 the bins are [.., 2], (2, 4) and [4, ..], P5's low, medium and high (section 4.2).

    Attributes:
        classes: Names.
        edges: In rising order, for a scale.
    """

    classes: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """The number of classes or bins."""
        return len(self.classes) or len(self.edges) + 1

    def numbers(self, values: Mapping[str, object]) -> Tensor:
        """(U,) float: the number of the class or bin of each value, NaN where an utterance has no value.

        Args:
            values: By the id of the utterance.

        Raises:
            InputError: If a value is not one of the classes, or the value of a scale is not a number.
        """
        read = self._place if self.classes else self._number
        given = {who: math.nan if value in (None, "") else read(who, value) for who, value in values.items()}
        scale = torch.tensor(list(given.values()), dtype=torch.float64)
        return scale.float() if self.classes else self._bins(scale)

    def _bins(self, scale: Tensor) -> Tensor:
        lower = torch.tensor(self.edges[: len(self.edges) // 2], dtype=torch.float64)
        upper = torch.tensor(self.edges[len(self.edges) // 2 :], dtype=torch.float64)
        bins = torch.bucketize(scale, lower) + torch.bucketize(scale, upper, right=True)
        return bins.float().masked_fill(scale.isnan(), math.nan)

    def _place(self, who: str, value: object) -> float:
        if str(value) not in self.classes:
            raise InputError(
                f"{who}: {value!r} is no class of the task; they are {', '.join(self.classes)}. Correct the manifest, "
                "or state your classes in a protocol's `aux`."
            )
        return float(self.classes.index(str(value)))

    def _number(self, who: str, value: object) -> float:
        try:
            return float(str(value))
        except ValueError:
            raise InputError(
                f"{who}: the value {value!r} of a scale is no number. Correct the manifest, or name the classes in a "
                "protocol's `aux`."
            ) from None


AUX: Mapping[str, AuxTask] = {
    "gender": AuxTask(classes=("female", "male")),
    **dict.fromkeys(("valence", "activation", "dominance"), AuxTask(edges=(2.0, 4.0))),
}
"""The auxiliary tasks of P5 (section 4.2), of scales from 1 to 5."""


@dataclass(frozen=True)
class Task:
    """The classes, and how many training utterances each has.

    Attributes:
        classes: The C class names, in the order of every logit, posterior and confusion matrix.
        counts: (C,) training utterances by class.
        aux: Auxiliary tasks by name.
    """

    classes: tuple[str, ...]
    counts: Tensor = field(default_factory=lambda: torch.zeros(0))
    aux: Mapping[str, AuxTask] = field(default_factory=dict)

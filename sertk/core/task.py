"""What is to be told apart: the classes of a protocol and the auxiliary labels beside them."""

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
    with edges 2 and 4 the bins are [.., 2], (2, 4) and [4, ..], P5's low, medium and high (section 2.3).

    Attributes:
        classes: Names.
        edges: In rising order, for a scale.
        ends: Of the scale, lowest and highest, where it has them; values beyond are refused.
    """

    classes: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    ends: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """The number of classes or bins."""
        return len(self.classes) or len(self.edges) + 1

    def numbers(self, values: Mapping[str, object]) -> Tensor:
        """(U,) float number of the class or bin of each value, NaN where it is None or no class.

        Args:
            values: By the id of the utterance.

        Raises:
            InputError: Where a value of a scale is no number, or beyond its ends.
        """
        if self.classes:
            places = {name: float(place) for place, name in enumerate(self.classes)}
            return torch.tensor([places.get(str(one), math.nan) for one in values.values()])
        lower = torch.tensor(self.edges[: len(self.edges) // 2], dtype=torch.float64)
        upper = torch.tensor(self.edges[len(self.edges) // 2 :], dtype=torch.float64)
        scale = torch.tensor([self._number(*one) for one in values.items()], dtype=torch.float64)
        bins = torch.bucketize(scale, lower) + torch.bucketize(scale, upper, right=True)
        return bins.float().masked_fill(scale.isnan(), math.nan)

    def _number(self, who: str, value: object) -> float:
        if value is None or value == "":
            return math.nan
        try:
            found = float(str(value))
        except ValueError:
            raise InputError(
                f"{who}: the value {value!r} of a scale is no number. Mend the manifest, or name the classes in a "
                "protocol's `aux`."
            ) from None
        if self.ends and not self.ends[0] <= found <= self.ends[1]:
            raise InputError(
                f"{who}: the value {found:g} is beyond the scale from {self.ends[0]:g} to {self.ends[1]:g}. State the "
                "edges of your scale in a protocol's `aux`."
            )
        return found


AUX: Mapping[str, AuxTask] = {
    "gender": AuxTask(classes=("female", "male")),
    **dict.fromkeys(("valence", "activation", "dominance"), AuxTask(edges=(2.0, 4.0), ends=(1.0, 5.0))),
}
"""The auxiliary tasks of P5 (section 2.3)."""


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

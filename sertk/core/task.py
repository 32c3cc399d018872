"""What is to be told apart: the classes of a protocol and the auxiliary labels beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class AuxTask:
    """An auxiliary label: categorical with `classes`, or a scale cut into bins at `edges`."""

    kind: Literal["classes", "bins"]
    classes: Sequence[str] = ()
    edges: Sequence[float] = ()


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

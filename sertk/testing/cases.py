"""A contract as something to call, and how it says that it is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sertk.core import InputSpec, Padded
from sertk.plugins import Plugins

ALLOWED = 1e-4  # by how much float32 results may differ that ought to be equal


@dataclass(frozen=True)
class Subject:
    """The component under test, and how to make it.

    Attributes:
        plugins: The registry.
        kind: Its kind.
        name: Its name.
        settings: Those that are not left at their defaults.
        inputs: What a backbone is offered.
    """

    plugins: Plugins
    kind: str
    name: str
    settings: Mapping[str, object]
    inputs: Mapping[str, InputSpec]

    @property
    def what(self) -> str:
        """For the sentence of a broken contract: "loss 'ce'"."""
        return f"{self.kind} {self.name!r}"

    def make(self, *context: object, **settings: object) -> Any:  # noqa: ANN401 - the kind decides what comes back
        """A new component with what the run gives its kind, and some more settings."""
        return self.plugins.make(self.kind, {"name": self.name, **self.settings, **settings}, *context)


Check = Callable[[Subject], None]


@dataclass(frozen=True)
class Case:
    """One contract of one component; call it. Its random numbers are the same at every call, and nobody else's.

    Attributes:
        id: For a report: "loss ce: one row works".
        check: The contract.
        subject: The component.
    """

    id: str
    check: Check
    subject: Subject

    def __call__(self) -> None:
        """Checks the contract.

        Raises:
            AssertionError: Where it is broken: what, by how much, and what is allowed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.check(self.subject)


def require(fine: bool, sentence: str) -> None:
    """Says that a contract is broken.

    Raises:
        AssertionError: With the sentence, where something is not fine.
    """
    if not fine:
        raise AssertionError(sentence)


def require_close(found: Tensor, wanted: Tensor, sentence: str, allowed: float = ALLOWED) -> None:
    """Says by how much two results differ that ought to be equal.

    Args:
        found: Of any shape.
        wanted: Of the same shape.
        sentence: What is broken, up to the figure.
        allowed: The largest difference.

    Raises:
        AssertionError: Where shapes differ, or a value by more, or one is no number.
    """
    require(
        found.shape == wanted.shape, f"{sentence}: the shape is {tuple(found.shape)} instead of {tuple(wanted.shape)}."
    )
    gap = (found.double() - wanted.double()).abs().max().item() if found.numel() else 0.0
    require(gap <= allowed, f"{sentence} by {gap:.2g}; allowed is {allowed:g}.")


def require_same(found: Tensor, wanted: Tensor, sentence: str) -> None:
    """Says that two results differ that ought to be equal bit by bit.

    Raises:
        AssertionError: Where they are not.
    """
    require_close(found, wanted, sentence, 0.0)


def require_finite(values: Tensor, sentence: str) -> None:
    """Says that there are values that are no numbers.

    Raises:
        AssertionError: Where there are.
    """
    bad = int((~values.isfinite()).sum())
    require(bad == 0, f"{sentence}: {bad} of {values.numel()} values are not finite; allowed are none.")


def alone(rows: Padded, row: int) -> Padded:
    """(1, T, ...) a row without companions and without padding."""
    size = int(rows.length[row])
    return Padded(rows.data[row : row + 1, :size], rows.length[row : row + 1])


def stretch(rows: Padded, by: int = 17, value: float = 1e3) -> Padded:
    """The same rows with more padding, all of it set to a value that no one should read."""
    more = rows.data.new_zeros(len(rows.data), by, *rows.data.shape[2:])
    return Padded(torch.cat([rows.data, more], 1), rows.length).fill(value)


def real(rows: Padded, row: int) -> Tensor:
    """(T, ...) the real frames of a row."""
    return rows.data[row, : int(rows.length[row])]

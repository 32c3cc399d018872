"""What travels from the loader to the model and the losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Padded:
    """Sequences of several lengths in one tensor.

    Attributes:
        data: (B, T, ...) with anything, usually zero, from each row's length on.
        length: (B,) int64 real lengths.
    """

    data: Tensor
    length: Tensor

    @classmethod
    def stack(cls, rows: Sequence[Tensor]) -> Padded:
        """Zero-pads rows of (T, ...) to the longest."""
        length = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        return cls(pad_sequence(list(rows), batch_first=True), length)

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, true on real frames."""
        steps = torch.arange(self.data.shape[1], device=self.data.device)
        return steps < self.length[:, None]

    @property
    def present(self) -> Tensor:
        """(B,) bool, false where an utterance lacks this input, as a transcript: its length is 0."""
        return self.length > 0

    def fill(self, value: float | Tensor) -> Padded:
        """The same with the padding set to a value, or to a frame (D,)."""
        if self.length.is_cpu and bool((self.length >= self.data.shape[1]).all()):  # a GPU would have to wait for it
            return self
        mask = self.mask.view(*self.mask.shape, *[1] * (self.data.dim() - 2))
        return Padded(torch.where(mask, self.data, torch.as_tensor(value).to(self.data)), self.length)

    def texts(self) -> list[str]:
        """The B texts of (B, S) or (B, S, 1) code points; what is no character, half of a pair, is U+FFFD."""
        rows = self.data.flatten(1).int().cpu().numpy().astype("<i4")
        return [
            row[:size].tobytes().decode("utf-32-le", "replace")
            for row, size in zip(rows, self.length.tolist(), strict=True)
        ]

    def take(self, rows: Tensor) -> Padded:
        """Some rows, in the order given."""
        return Padded(self.data[rows], self.length[rows])

    def to(self, device: torch.device | str) -> Padded:
        """The same on another device."""
        return Padded(self.data.to(device, non_blocking=True), self.length.to(device, non_blocking=True))


CODE_POINTS = 0x110000  # of Unicode


def code_points(text: str | None) -> Tensor:
    """(S,) int64 Unicode code points of a text; none where there is no text."""
    return torch.tensor([*map(ord, text or "")], dtype=torch.int64)


@dataclass(frozen=True)
class Target:
    """The labels of B rows.

    Attributes:
        soft: (B, C) class distribution, rows sum to 1.
        weight: (B,) of a row in the losses: 1, or the weight of its class, or 0 for a companion row
            that per-row losses skip.
        aux: (B,) number of the class or bin by auxiliary task, NaN where unlabelled.
    """

    soft: Tensor
    weight: Tensor
    aux: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, hard: Tensor, classes: int) -> Target:
        """The labels of (B,) int64 class numbers, each of weight 1."""
        return cls(torch.nn.functional.one_hot(hard, classes).float(), torch.ones(len(hard)))

    @property
    def hard(self) -> Tensor:
        """(B,) int64, the dominant class; the first of equal shares."""
        return self.soft.argmax(1)

    @property
    def pure(self) -> Tensor:
        """(B,) bool, rows whose label is one class alone."""
        return self.soft.amax(1) > 1 - 1e-6

    def take(self, rows: Tensor) -> Target:
        """Some rows, in the order given."""
        return Target(self.soft[rows], self.weight[rows], {name: value[rows] for name, value in self.aux.items()})

    def blend(self, other: Target, share: Tensor) -> Target:
        """Mixes another label in: (1 - share) own + share other's; weight and auxiliary labels stay the row's own.

        Args:
            other: The partner rows' labels, B rows.
            share: (B,) in [0, 1].
        """
        return replace(self, soft=(1 - share[:, None]) * self.soft + share[:, None] * other.soft)

    def to(self, device: torch.device | str) -> Target:
        """The same on another device."""
        aux = {name: value.to(device) for name, value in self.aux.items()}
        return Target(self.soft.to(device), self.weight.to(device), aux)


@dataclass(frozen=True)
class Batch:
    """B rows on their way to the model.

    Attributes:
        ids: B utterance ids.
        inputs: What the backbone reads, by name. A text is an input like any other: its code points, (B, S) int64.
        target: Labels; None when scoring the unlabelled.
        copy: (B,) int64, which copy of an expanded training set (0 is the original).
        owner: (B,) int64, the utterance that a row is a crop of.
        groups: Row indices, "pair" (G, 2) or "triplet" (G, 3) as (anchor, positive, negative).
        speakers: (B, 2, D) mean and deviation over the utterances of each row's speaker, by input, for inputs that are
            standardised with them too.
    """

    ids: tuple[str, ...]
    inputs: Mapping[str, Padded]
    target: Target | None
    copy: Tensor
    owner: Tensor
    groups: Mapping[str, Tensor] = field(default_factory=dict)
    speakers: Mapping[str, Tensor] = field(default_factory=dict)

    def take(self, rows: Tensor) -> Batch:
        """Some rows, in the order given; the result has no groups."""
        inputs = {name: value.take(rows) for name, value in self.inputs.items()}
        target = None if self.target is None else self.target.take(rows)
        ids = tuple(self.ids[row] for row in rows.tolist())
        speakers = {name: value[rows] for name, value in self.speakers.items()}
        return Batch(ids, inputs, target, self.copy[rows], self.owner[rows], speakers=speakers)

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        inputs = {name: value.to(device) for name, value in self.inputs.items()}
        groups = {name: value.to(device) for name, value in self.groups.items()}
        target = None if self.target is None else self.target.to(device)
        speakers = {name: value.to(device) for name, value in self.speakers.items()}
        return Batch(self.ids, inputs, target, self.copy.to(device), self.owner.to(device), groups, speakers)

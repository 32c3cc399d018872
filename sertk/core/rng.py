"""Random numbers that are a pure function of (seed, utterance, copy, epoch), for a whole batch at once.

A `torch.Generator` a row would need a loop over rows, and one a batch would make a row's numbers depend on its
companions. So each row has a 64-bit key and number i of a row is SplitMix64's output for (key, i)
(Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 16): integer arithmetic,
hence the same on every device, whatever the batch, the number of workers or the step a run was resumed at.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX2 = 0x94D049BB133111EB - (1 << 64)


def key(*parts: object) -> int:
    """A signed 64-bit key of any printable parts, the same in every process and on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _shift(bits: Tensor, by: int) -> Tensor:
    # torch shifts int64 arithmetically; SplitMix64 wants zeros from the left
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)


def _splitmix(state: Tensor) -> Tensor:
    """In place, a third of the time: a new tensor a step costs more than its numbers."""
    state.bitwise_xor_(_shift(state, 30)).mul_(_MIX1)
    state.bitwise_xor_(_shift(state, 27)).mul_(_MIX2)
    return state.bitwise_xor_(_shift(state, 31))


class Rng:
    """Independent random streams for the B rows of a batch.

    Successive calls give fresh numbers; equal keys give equal numbers.

    Args:
        keys: (B,) int64, one stream a row.
        fixed: (B,) int64, keys that leave the epoch out; `keys` when absent.
    """

    def __init__(self, keys: Tensor, fixed: Tensor | None = None) -> None:
        self._keys, self._fixed, self._calls = keys, keys if fixed is None else fixed, 0

    @classmethod
    def for_rows(cls, seed: int, ids: Sequence[str], copies: Sequence[int], epoch: int, use: str) -> Rng:
        """The streams of a training batch: row b is (ids[b], copies[b]) in this epoch; `use` keeps uses apart."""
        rows = list(zip(ids, copies, strict=True))
        keys = torch.tensor([key(seed, use, *row, epoch) for row in rows], dtype=torch.int64)
        return cls(keys, torch.tensor([key(seed, use, *row) for row in rows], dtype=torch.int64))

    @property
    def fixed(self) -> Rng:
        """Streams that are the same in every epoch, for what belongs to a copy and not to a visit of it."""
        return Rng(self._fixed)

    def to(self, device: torch.device | str) -> Rng:
        """The same streams on another device."""
        return self._continued(self._keys.to(device), self._fixed.to(device))

    def take(self, rows: Tensor) -> Rng:
        """The streams of some rows."""
        return self._continued(self._keys[rows], self._fixed[rows])

    def _continued(self, keys: Tensor, fixed: Tensor) -> Rng:
        made = Rng(keys, fixed)
        made._calls = self._calls  # or it would give the numbers again that were drawn already
        return made

    def _bits(self, n: int) -> Tensor:
        self._calls += 1
        call = torch.tensor(key("call", self._calls), dtype=torch.int64, device=self._keys.device)
        steps = torch.arange(1, n + 1, device=self._keys.device) * _GOLDEN
        return _splitmix(_splitmix(self._keys + call)[:, None] + steps)

    def uniform(self, n: int = 1) -> Tensor:
        """(B, n) float32, uniform in [0, 1)."""
        return _shift(self._bits(n), 40).float().mul_(2.0**-24)

    def normal(self, n: int = 1) -> Tensor:
        """(B, n) float32, standard normal: two of each number drawn (Box and Muller 1958)."""
        bits = self._bits((n + 1) // 2)
        radius = _shift(bits, 40).float().mul_(-(2.0**-24)).add_(1.0).log_().mul_(-2).sqrt_()
        both = torch.polar(radius, bits.bitwise_and_(0xFFFFFF).float().mul_(2 * math.pi * 2.0**-24))
        return torch.view_as_real(both).flatten(1)[:, :n]

    def integers(self, high: Tensor) -> Tensor:
        """(B,) int64, uniform in 0 .. high-1.

        Args:
            high: (B,) the bounds, at least 1.
        """
        draw = _shift(self._bits(1), 11)[:, 0].double() * 2.0**-53
        return (draw * high).long().clamp(max=high.long() - 1)

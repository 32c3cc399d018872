"""Statistics of speakers: mean and deviation of an input over the utterances of one speaker.

Standardising by speaker is that of Schuller et al. 2010, "Cross-corpus acoustic emotion recognition: variances and
strategies", IEEE Transactions on Affective Computing 1(2), 119-131; the shrinkage is ours.

They are of what the statistics of training have standardised already, where training has mean 0 and deviation 1. An
utterance counts as one, however long it is: it has its own mean and mean square over its frames (`moments`). Those of
a speaker's utterances are added up, and `shrunk` makes a mean and a deviation of the sums, drawn towards 0 and 1 as if
so many more utterances had just these. So where nothing is known of a speaker, nothing changes, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from sertk.core import Padded, Rng

Draw = int | Literal["all"]


def moments(frames: Padded) -> Tensor:
    """(B, T, D) -> (B, 2 D + 1) of each row: mean over its frames, mean of their squares, and 1; 0 without frames."""
    data = torch.where(frames.mask[..., None], frames.data.double(), 0.0)
    size = frames.length.clamp(min=1)[:, None]
    return torch.cat([data.sum(1) / size, data.square().sum(1) / size, frames.present[:, None].double()], 1)


def of_windows(embedding: Tensor, owner: Tensor, rows: int) -> Tensor:
    """(N, E) windows of B rows, (N,) whose each is -> (B, 2 E + 1) as `moments`, a row's windows for its frames."""
    data, size = embedding.double(), torch.bincount(owner, minlength=rows)
    sums = data.new_zeros(rows, 2 * data.shape[1]).index_add_(0, owner, torch.cat([data, data.square()], 1))
    return torch.cat([sums / size.clamp(min=1)[:, None], (size > 0)[:, None].double()], 1)


def shrunk(sums: Tensor, weight: float) -> Tensor:
    """Mean and deviation of speakers: of n utterances with means m_u and mean squares q_u, and of `weight` k more.

        m = sum m_u / (k + n)        s^2 = (k + sum q_u) / (k + n) - m^2

    s^2 is k / (k + n) at least. Where n is 0, m is 0 and s is 1.

    Args:
        sums: (B, 2 D + 1) sums of `moments`.
        weight: k, above 0.

    Returns:
        (B, 2, D) float32.
    """
    width = sums.shape[1] // 2
    sums = sums.double()
    whole = weight + sums[:, -1:]
    mean = sums[:, :width] / whole
    deviation = ((weight + sums[:, width:-1]) / whole - mean.square()).sqrt()
    return torch.stack([mean, deviation], 1).float()


class Totals:
    """Sums of `moments` over all utterances of each speaker, in memory of S x D.

    Args:
        speakers: S names; another speaker, and None, has no utterance.
        weight: See `shrunk`.
    """

    def __init__(self, speakers: Sequence[str], weight: float) -> None:
        self._number = {name: number for number, name in enumerate(speakers)}
        self._weight, self.sums = weight, dict[str, Tensor]()

    def numbers(self, speakers: Sequence[str | None]) -> Tensor:
        """(B,) their places; S for one without utterances."""
        last = len(self._number)
        places = [last if name is None else self._number.get(name, last) for name in speakers]
        return torch.tensor(places, dtype=torch.int64)

    def add(self, speakers: Sequence[str | None], found: Mapping[str, Tensor]) -> None:
        """Adds the (B, 2 D + 1) `moments` of B utterances, by input."""
        numbers = self.numbers(speakers)
        for name, own in found.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros(len(self._number) + 1, own.shape[1], dtype=torch.float64)
            self.sums[name].index_add_(0, numbers, own)
            self.sums[name][-1] = 0.0

    def counts(self, speakers: Sequence[str | None]) -> Tensor:
        """(B,) int64, how many utterances each speaker has; of several inputs, of the one that has the most."""
        numbers = self.numbers(speakers)
        every = [own[numbers, -1].long() for own in self.sums.values()]
        return torch.stack(every).amax(0) if every else torch.zeros_like(numbers)

    def of(self, numbers: Tensor) -> dict[str, Tensor]:
        """{input: (B, 2, D)} of speakers by their places, of all their utterances; see `shrunk`."""
        return {name: shrunk(own[numbers], self._weight) for name, own in self.sums.items()}


class Speakers:
    """The speakers of U rows: each row's statistics, of all utterances of its speaker, or of some that are drawn.

    Args:
        speakers: U names, None where unknown.
        found: (U, 2 D + 1) `moments` by input.
        weight: See `shrunk`.
        draws: Numbers of utterances, of which one is drawn for each row; empty takes all.
    """

    def __init__(
        self, speakers: Sequence[str | None], found: Mapping[str, Tensor], weight: float, draws: Sequence[Draw] = ()
    ) -> None:
        names = list(dict.fromkeys(name for name in speakers if name is not None))
        totals, self._weight = Totals(names, weight), weight
        totals.add(speakers, found)
        self._speaker = totals.numbers(speakers)  # (U,)
        self._whole = totals.of(torch.arange(len(names) + 1))
        self._size = torch.bincount(self._speaker, minlength=len(names) + 1)
        self._size[-1] = 0
        most = int(self._size.max())
        self._draws = torch.tensor([most if one == "all" else min(one, most) for one in draws])
        self._members = _members(self._speaker, self._size)  # (S + 1, most)
        # drawn sums alone need the utterances one by one; the last row is none
        self._rows = {n: torch.cat([x, x.new_zeros(1, x.shape[1])]).float() for n, x in found.items() if draws}

    def __call__(self, rows: Tensor, rng: Rng) -> dict[str, Tensor]:
        """{input: (B, 2, D)} of B rows, see `shrunk`.

        The row itself may be among those that are drawn, as it is among all utterances of a speaker.

        Args:
            rows: (B,) numbers of rows.
            rng: One stream for each.
        """
        speaker = self._speaker[rows]
        whole = {name: own[speaker] for name, own in self._whole.items()}
        if not len(self._draws) or not self._members.shape[1]:
            return whole
        wanted = self._draws[rng.integers(torch.full_like(rows, len(self._draws)))][:, None]  # (B, 1)
        size = self._size[speaker][:, None]
        places = torch.arange(self._members.shape[1])
        # without replacement: those of the smallest of as many random numbers
        first = torch.where(places < size, rng.uniform(len(places)), 2.0).argsort(dim=1, stable=True)
        some = max(1, int(torch.where(wanted < size, wanted, 0).max()))  # of those with fewer, all are taken
        drawn = self._members[speaker].gather(1, first[:, :some])
        drawn = torch.where(places[:some] < wanted, drawn, len(self._speaker))
        found = {name: shrunk(embedding_bag(drawn, own, mode="sum"), self._weight) for name, own in self._rows.items()}
        return {name: torch.where((wanted < size)[..., None], found[name], whole[name]) for name in whole}


def _members(speaker: Tensor, size: Tensor) -> Tensor:
    """(S + 1, most) the rows of each speaker, then U; the last speaker has none.

    Args:
        speaker: (U,).
        size: (S + 1,) rows of each speaker.
    """
    found = torch.full((len(size), int(size.max())), len(speaker))
    order = speaker.argsort(stable=True)[: int(size.sum())]
    own = speaker[order]
    found[own, torch.arange(len(order)) - (size.cumsum(0) - size)[own]] = order
    return found

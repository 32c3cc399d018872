"""The utterances of a fold on their way into batches: rows, their order, the loader."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sertk.console.progress import track
from sertk.core import Batch, BatchSampler, Padded, Plan, Rng, SertkError, Target, Utterance, code_points
from sertk.core.processes import tie
from sertk.corpus import audio
from sertk.corpus.features import Loaded, Store, address
from sertk.corpus.prepared import Data
from sertk.modeling.borders import check_plans, inside
from sertk.modeling.speakers import Speakers
from sertk.settings.schema import AudioSettings


class Reader:
    """Gives the inputs of utterances: features from their stores, and waves and texts for those that are computed.

    Args:
        data: The prepared corpus.
        settings: How audio becomes a wave.
        stores: Features by input name, on disk or in memory.
        raw: What else to give under its own name, "wave" or "text".
    """

    def __init__(
        self, data: Data, settings: AudioSettings, stores: Mapping[str, Store | Loaded], raw: Collection[str] = ()
    ) -> None:
        self._data, self._settings, self._stores, self._raw = data, settings, stores, raw

    def __call__(self, utterances: Sequence[Utterance]) -> dict[str, Padded]:
        """{name: (B, T, D)}; {"wave": (B, S)} and {"text": (B, S)} code points, of length 0 where there is no text."""
        give = {"wave": self.wave, "text": _text}
        raw = {name: Padded.stack([give[name](one) for one in utterances]) for name in self._raw}
        return raw | {
            name: store.stack([address(store.reads, one, self._data.facts) for one in utterances])
            for name, store in self._stores.items()
        }

    def check(self, utterances: Sequence[Utterance]) -> None:
        """Refuses utterances that have no feature.

        Raises:
            SertkError: With the first of them, and where it is said why.
        """
        for name, store in self._stores.items():
            hashes = {one.id: address(store.reads, one, self._data.facts) for one in utterances}
            lacking = [one for one, sha in hashes.items() if sha and sha not in store]
            if lacking:
                told = store.folder / "failed.jsonl"
                why = f"run `sertk featurize {self._data.folder}` first, with the system and settings of this run"
                why = f"{told} says why; take them out of the corpus" if told.exists() else why
                what = f"{len(lacking)} utterances have no feature in {store.folder}, such as {lacking[0]}"
                raise SertkError(f"{name}: {what}: {why}.")

    def wave(self, one: Utterance) -> Tensor:
        """(S,) samples of an utterance at the run's rate."""
        return audio.read(self._data.root / one.path, one.id, self._settings, one.start, one.duration)


def _text(one: Utterance) -> Tensor:
    return code_points(one.transcript)


class Item(NamedTuple):
    """What the loader yields: a batch, the partners of its rows, and the epoch that it belongs to."""

    batch: Batch
    partners: Batch | None
    epoch: int

    def to(self, device: torch.device | str) -> Item:
        """The same on another device."""
        return Item(self.batch.to(device), self.partners and self.partners.to(device), self.epoch)


class Rows(Dataset[Item]):
    """The rows of one part of a fold, each utterance in `copies` copies: row r is copy r % copies of r // copies.

    Args:
        utterances: U utterances.
        labels: (U,) int64 class of each.
        classes: C.
        reader: Gives inputs.
        seed: Of the run.
        copies: Of each utterance.
        partners: Rows drawn for each row of a batch, from all rows.
        aux: (U,) number of the class or bin by auxiliary task, NaN where unlabelled.

    Attributes:
        speakers: Their statistics, where an input is standardised with them.
    """

    speakers: Speakers | None = None

    def __init__(
        self,
        utterances: Sequence[Utterance],
        labels: Tensor,
        classes: int,
        reader: Reader,
        seed: int = 0,
        copies: int = 1,
        partners: int = 0,
        aux: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        self.utterances, self._labels, self._aux = utterances, labels, aux
        self._soft = torch.nn.functional.one_hot(labels, classes).float()
        self._reader, self._seed, self._copies, self._partners = reader, seed, copies, partners

    def wave(self, one: Utterance) -> Tensor:
        """(S,) samples of an utterance at the run's rate."""
        return self._reader.wave(one)

    @property
    def labels(self) -> Tensor:
        """(R,) class of every row."""
        return self._labels.repeat_interleave(self._copies)

    @property
    def lengths(self) -> Tensor:
        """(R,) seconds of every row."""
        seconds = torch.tensor([one.duration or 0.0 for one in self.utterances])
        return seconds.repeat_interleave(self._copies)

    def __getitem__(self, index: tuple[int, Plan]) -> Item:
        """The batch of a plan of some epoch."""
        epoch, plan = index
        batch = self._batch(plan.rows, plan.weight, plan.groups)
        if self.speakers is not None:
            rng = Rng.for_rows(self._seed, batch.ids, batch.copy.tolist(), epoch, "speakers")
            batch = replace(batch, speakers=self.speakers(plan.rows // self._copies, rng))
        if not self._partners:
            return Item(batch, None, epoch)
        rng = Rng.for_rows(self._seed, batch.ids, batch.copy.tolist(), epoch, "partners")
        high = torch.full((len(batch.ids),), len(self.utterances) * self._copies)
        rows = torch.stack([rng.integers(high) for _ in range(self._partners)], 1).flatten()
        return Item(batch, self._batch(rows, torch.zeros(len(rows)), {}), epoch)

    def _batch(self, rows: Tensor, weight: Tensor, groups: Mapping[str, Tensor]) -> Batch:
        places = rows // self._copies
        chosen = [self.utterances[place] for place in places.tolist()]
        aux = {name: values[places] for name, values in self._aux.items()}
        ids = tuple(one.id for one in chosen)
        owner = torch.arange(len(ids))
        return Batch(
            ids, self._reader(chosen), Target(self._soft[places], weight, aux), rows % self._copies, owner, groups
        )

    def in_order(self, batch: int) -> list[tuple[int, Plan]]:
        """All rows once in batches of similar length, without chance: for dev and for statistics."""
        rows = self.lengths.argsort(stable=True)
        return [(0, Plan(part, {}, torch.ones(len(part)))) for part in torch.split(rows, batch)]


class Order(Sampler[tuple[int, Plan]]):
    """The batches of the epoch that the brain is in, from the step at which it resumed.

    Args:
        sampler: Plans an epoch.
        seed: Of the run.
        rows: How many there are.
    """

    def __init__(self, sampler: BatchSampler, seed: int, rows: int) -> None:
        self._sampler, self._seed, self._rows = sampler, seed, rows
        self._epoch, self.start = 0, 0
        self._plans: Sequence[Plan] = ()

    def set_epoch(self, epoch: int) -> None:
        """Plans an epoch.

        Raises:
            SertkError: Where the sampler fails, or names rows that do not exist.
        """
        with inside(self._sampler.who):
            self._epoch, self._plans = epoch, self._sampler.epoch(epoch, self._seed)
        check_plans(self._sampler.who, self._plans, self._rows)

    def __len__(self) -> int:
        return len(self._plans)

    def __iter__(self) -> Iterator[tuple[int, Plan]]:
        first, self.start = self.start, 0
        return iter([(self._epoch, plan) for plan in self._plans[first:]])


class Loader(DataLoader[Item]):
    """Loads planned batches in order, ahead of time where there are workers, and shows how far along it is."""

    def __init__(self, rows: Rows, order: Order | list[tuple[int, Plan]], workers: int, what: str) -> None:
        ended = partial(tie, os.getpid())
        super().__init__(rows, sampler=order, batch_size=None, num_workers=workers, worker_init_fn=ended)
        self._what = what

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]
        try:
            yield from track(super().__iter__(), len(self), self._what)
        except SertkError as error:  # a worker wraps its traceback around the sentence
            raise type(error)(str(error).rpartition(f"{type(error).__name__}: ")[2].strip()) from None

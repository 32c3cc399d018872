"""Rows, their copies and their partners; the order of batches and where a resumed epoch goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sertk.core import BatchSampler, Padded, Plan, SertkError, Utterance
from sertk.training.loading import Item, Loader, Order, Rows

NAMES = "abcde"
LABELS = [2, 0, 1, 1, 0]
SECONDS = [3.0, 1.0, 2.0, 1.0, 5.0]


def reader(utterances: Sequence[Utterance]) -> dict[str, Padded]:
    """A wave that says who it is of: utterance n is n + 1 samples of n."""
    numbers = [NAMES.index(one.id) for one in utterances]
    return {"wave": Padded.stack([torch.full((number + 1,), float(number)) for number in numbers])}


def rows(copies: int = 1, partners: int = 0, seed: int = 0) -> Rows:
    utterances = [Utterance(i, f"{i}.wav", "s", None, duration=s) for i, s in zip(NAMES, SECONDS, strict=True)]
    return Rows(utterances, torch.tensor(LABELS), 3, reader, seed, copies, partners)  # type: ignore[arg-type]


def plan(*chosen: int, weight: Sequence[float] = ()) -> Plan:
    return Plan(torch.tensor(chosen), {}, torch.tensor(weight or [1.0] * len(chosen)))


def partners(item: Item) -> tuple[str, ...]:
    assert item.partners is not None
    return item.partners.ids


def test_a_row_is_a_copy_of_an_utterance_with_its_label_and_its_audio() -> None:
    found = rows(copies=3)
    assert found.labels.tolist() == [2, 2, 2, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert found.lengths.tolist() == [3, 3, 3, 1, 1, 1, 2, 2, 2, 1, 1, 1, 5, 5, 5]
    batch = found[7, plan(14, 3, 7, weight=[1.0, 0.0, 1.0])].batch
    assert batch.ids == ("e", "b", "c")
    assert batch.copy.tolist() == [2, 0, 1]
    assert batch.target is not None
    assert batch.target.soft.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert batch.target.weight.tolist() == [1, 0, 1]
    assert batch.inputs["wave"].length.tolist() == [5, 2, 3]
    assert batch.inputs["wave"].data[:, 0].tolist() == [4, 1, 2]
    assert batch.owner.tolist() == [0, 1, 2]


def test_a_batch_knows_its_epoch_and_groups() -> None:
    pair = torch.tensor([[0, 1]])
    item = rows()[7, Plan(torch.tensor([3, 1]), {"pair": pair}, torch.ones(2))]
    assert item.epoch == 7
    assert item.partners is None
    assert torch.equal(item.batch.groups["pair"], pair)


def test_partners_are_any_row_each_copy_too_and_none_counts() -> None:
    found, drawn = rows(copies=2, partners=2), Counter[tuple[str, int]]()
    for epoch in range(40):
        item = found[epoch, plan(0, 3, 5)]
        assert item.partners is not None
        assert item.partners.target is not None
        assert not item.partners.target.weight.any()
        assert item.partners.target.hard.tolist() == [LABELS[NAMES.index(i)] for i in item.partners.ids]
        drawn.update(zip(item.partners.ids, item.partners.copy.tolist(), strict=True))
    assert set(drawn) == {(i, copy) for i in NAMES for copy in (0, 1)}
    assert min(drawn.values()) > 10  # 240 draws of 10 rows: 24 each; deviation 4.6


def test_partners_are_sorted_by_the_row_that_they_are_of_and_depend_on_it_alone() -> None:
    several, lone = partners(rows(partners=3)[1, plan(4, 0, 2)]), partners(rows(partners=3)[1, plan(0)])
    assert len(several) == 9
    assert several[3:6] == lone
    more = [partners(rows(partners=2)[epoch, plan(0)]) for epoch in range(30)]
    assert sum(first != second for first, second in more) > 15  # the two are drawn apart: 4 of 5 differ


@pytest.mark.parametrize("other", ["seed", "epoch", "copy"])
def test_partners_change_with_seed_epoch_and_copy(other: str) -> None:
    one = partners(rows(copies=2, partners=20)[1, plan(0)])
    found = {
        "seed": lambda: rows(copies=2, partners=20, seed=1)[1, plan(0)],
        "epoch": lambda: rows(copies=2, partners=20)[2, plan(0)],
        "copy": lambda: rows(copies=2, partners=20)[1, plan(1)],
    }[other]()
    assert partners(found) != one


def test_dev_and_statistics_read_every_row_once_the_shortest_first() -> None:
    plans = rows().in_order(2)
    assert [one.rows.tolist() for _, one in plans] == [[1, 3], [2, 0], [4]]
    assert all(epoch == 0 and (one.weight == 1).all() and not one.groups for epoch, one in plans)


class Counted(BatchSampler):
    """Four batches; the row of each says which epoch, seed and place it has."""

    def plans(self, generator: torch.Generator) -> list[Plan]:
        raise AssertionError("only the epochs are asked for")

    def epoch(self, epoch: int, seed: int) -> list[Plan]:
        return [plan(1000 * seed + 10 * epoch + place) for place in range(4)]


def order() -> Order:
    return Order(Counted(torch.zeros(1), torch.zeros(1), 1), 3, 4000)


def first_rows(made: Order) -> list[tuple[int, int]]:
    return [(epoch, int(one.rows)) for epoch, one in made]


def test_an_epoch_goes_on_at_the_step_at_which_it_was_left_and_the_next_begins_anew() -> None:
    made = order()
    made.set_epoch(2)
    made.start = 3
    assert len(made) == 4
    assert first_rows(made) == [(2, 3023)]
    made.set_epoch(5)
    assert first_rows(made) == [(5, 3050 + place) for place in range(4)]


def test_an_error_of_a_worker_is_its_sentence() -> None:
    def torn(utterances: Sequence[Utterance]) -> dict[str, Padded]:
        # as torch wraps what a worker raises
        raise SertkError(
            "Caught SertkError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
            "  File ...\nsertk.core.errors.SertkError: a.wav is torn: obtain it again.\n"
        )

    broken = Rows([Utterance("a", "a.wav", "s", None)], torch.zeros(1, dtype=torch.int64), 2, torn)  # type: ignore[arg-type]
    with pytest.raises(SertkError, match=r"^a\.wav is torn: obtain it again\.$"):
        list(Loader(broken, [(0, plan(0))], 0, "train"))


def test_loaded_batches_come_in_their_order() -> None:
    plans = [(0, plan(row)) for row in (3, 1, 4, 0)]
    found: list[Tensor] = [item.batch.inputs["wave"].data[0, 0] for item in Loader(rows(), plans, 0, "dev")]
    assert [int(value) for value in found] == [3, 1, 4, 0]

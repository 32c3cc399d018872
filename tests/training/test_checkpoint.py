"""What a checkpoint takes: no tensor stands in it twice, and it is never whole in memory."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sertk.core import SertkError, Terms
from sertk.corpus.prepared import Data
from sertk.settings import merge
from sertk.training.checkpoint import Checkpoints
from sertk.training.history import History


def tensors(content: object) -> Iterator[Tensor]:
    """Those of a nested document."""
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from tensors(value)


def size(content: object) -> int:
    """Bytes of its tensors, each storage counted once."""
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors(content)}
    return sum(storages.values())


def test_a_checkpoint_of_the_best_epoch_is_the_size_of_one_model_and_its_optimizer(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sertk.stages.train import train  # late: see test_recipe

    found: list[tuple[dict[str, Any], int]] = []
    save = Checkpoints.save

    def noted(self: Checkpoints, state: dict[str, Any]) -> None:
        save(self, state)
        found.append((state, self._files()[-1].stat().st_size))

    monkeypatch.setattr(Checkpoints, "save", noted)
    settings = {"protocol": "emobox", "fold": "1", "train.epochs": 1, "train.threads": 1, "train.checkpoint_seconds": 0}
    train(merge.load("mini-cnn", None, settings), Data(data), tmp_path / "run")
    ((state, written),) = found
    optimizer = next(value for name, value in state.items() if name.startswith("optimizer"))
    assert state["history"]["best"]["epoch"] == 1
    assert state["history"]["best"]["weights"].keys() == state["model"].keys()
    expected = size(state["model"]) + size(optimizer)
    assert expected < written < expected + 0.1 * size(state["model"]) + 30_000  # the names, too


def epoch(history: History, model: nn.Module, score: float) -> None:
    history.add(Terms(torch.tensor(1.0), {}))
    history.close(score, 1.0, model, {})


def test_what_is_frozen_stands_once_beside_the_best_weights_of_an_earlier_epoch(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(50, 40), nn.Linear(40, 3))
    model[0].requires_grad_(False)
    history, checkpoints = History(tmp_path / "log.jsonl", 9, 0, 1, dev=True), Checkpoints(tmp_path)
    epoch(history, model, 0.5)
    with torch.no_grad():
        model[1].weight += 1.0
    epoch(history, model, 0.4)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoints.save({"model": weights, "history": history.state(weights)})
    state = checkpoints.latest()
    assert state is not None
    assert size(state) == 4 * (50 * 40 + 40 + 2 * 40 * 3 + 3)  # the bias of the second layer did not change either
    best = state["history"]["best"]["weights"]
    assert torch.equal(best["1.weight"] + 1.0, state["model"]["1.weight"])
    assert torch.equal(best["0.weight"], model[0].weight)


def test_the_best_weights_stay_when_training_goes_on_from_a_checkpoint_that_shares_them(tmp_path: Path) -> None:
    model = nn.Linear(4, 3)
    history = History(tmp_path / "log.jsonl", 9, 0, 1, dev=True)
    epoch(history, model, 0.5)
    weights = dict(model.state_dict())
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"model": weights, "history": history.state(weights)})
    state = checkpoints.latest()
    assert state is not None
    again = History(tmp_path / "log.jsonl", 9, 0, 1, dev=True)
    again.load(state["history"])
    model.load_state_dict(state["model"])
    first = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.zero_()
    assert torch.equal(again.best["weights"]["weight"], first)
    assert torch.equal(history.best["weights"]["weight"], first)


class Full:
    """A file of a disk that is full after so many bytes; or whose writer is interrupted then."""

    def __init__(self, room: int, end: BaseException | None = None) -> None:
        self.room, self.longest = room, 0
        self.end = end or OSError(errno.ENOSPC, "No space left on device")

    def write(self, data: bytes) -> int:
        self.longest, self.room = max(self.longest, len(data)), self.room - len(data)
        if self.room < 0:
            raise self.end
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""


STATE = {"model": {str(place): torch.full((1000, 50), float(place)) for place in range(10)}}


def save_to(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def writing(path: Path) -> Iterator[Full]:
        yield full

    monkeypatch.setattr("sertk.training.checkpoint.writing", writing)
    Checkpoints(Path("nowhere")).save(STATE)


@pytest.mark.parametrize("room", [0, 1_000_000, 2_000_500])
def test_a_disk_that_fills_up_while_a_checkpoint_is_written_is_said_to_be_full(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="No space left on device"):  # of which `writing` makes a sentence
        save_to(Full(room), monkeypatch)


@pytest.mark.parametrize("room", [0, 1_000_000, 2_000_500])
def test_a_signal_while_a_checkpoint_is_written_is_no_error(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):  # torch makes a RuntimeError of it, and a run would count as failed
        save_to(Full(room, KeyboardInterrupt()), monkeypatch)


def test_a_signal_between_two_writes_of_a_checkpoint_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos 128 vs 64")  # as torch's archive, which is closed on the way out

    monkeypatch.setattr("torch.save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Checkpoints(tmp_path).save(STATE)


def test_a_checkpoint_is_written_tensor_by_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Full(10_000_000)
    save_to(full, monkeypatch)
    assert 200_000 <= full.longest < 250_000


def test_the_newest_checkpoints_stay_and_the_last_one_is_gone_on_from(tmp_path: Path) -> None:
    made = Checkpoints(tmp_path)
    assert not made
    assert made.latest() is None
    for number in range(1, 5):
        made.save({"number": number})
        assert made
        assert made.latest() == {"number": number}
        kept = [f"{one:08d}.pt" for one in range(max(1, number - 1), number + 1)]
        assert sorted(path.name for path in tmp_path.iterdir()) == kept
    (tmp_path / "00000004.pt").write_bytes(b"torn")
    with pytest.raises(SertkError, match=r"00000004\.pt cannot be read .* Delete it to go on from the one before"):
        made.latest()
    (tmp_path / "00000004.pt").unlink()
    assert made.latest() == {"number": 3}

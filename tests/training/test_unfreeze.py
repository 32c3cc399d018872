"""`train.unfreeze`: layers of the backbone are trained from the top, one more after every N epochs."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sertk.corpus.prepared import Data
from sertk.settings import merge
from sertk.training.optim import gradually

SETTINGS = {
    "protocol": "emobox",
    "fold": "1",
    "train.threads": 1,
    "train.batch": 24,
    "train.epochs": 3,
    "train.checkpoint_steps": 1,
    "train.checkpoint_seconds": 0,
    "train.optimizer": {"name": "sgd", "lr": 0.01},
    "train.unfreeze": 2,
}


def group(*trained: bool) -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(1), requires_grad=one) for one in trained]


def test_the_steps_before_each_layer_from_the_top() -> None:
    low, frozen, middle, top = group(True), group(False), group(True, False), group(True)
    found = gradually([low, frozen, middle, top], 20)
    # 20 steps of the head alone, then top, middle and low; what is frozen takes no turn
    assert [first for first, _ in found] == [20, 40, 60]
    assert [[id(one) for one in own] for _, own in found] == [[id(top[0])], [id(middle[0])], [id(low[0])]]
    assert gradually([low, top], 0) == []


class KilledError(BaseException):
    pass


@pytest.mark.parametrize("killed", [False, True])
def test_the_backbone_begins_to_move_in_its_epoch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    from sertk.stages.train import train as stage  # late: see test_recipe
    from sertk.training.loop import EmotionBrain  # late: see test_recipe

    seen: list[tuple[int, Tensor, Tensor]] = []
    real = EmotionBrain.on_fit_batch_end

    def end(self: EmotionBrain, *given: object) -> None:
        real(self, *given)  # type: ignore[arg-type]
        parts = (self.training.model.backbone, self.training.model.heads["emotion"])
        backbone, head = (torch.cat([one.detach().flatten() for one in part.parameters()]) for part in parts)
        seen.append((self.training.history.epoch, backbone, head))
        if killed and len(seen) == 6:  # of four batches an epoch
            raise KilledError

    monkeypatch.setattr(EmotionBrain, "on_fit_batch_end", end)
    read = merge.load("mini-cnn", None, SETTINGS)
    if killed:
        with pytest.raises(KilledError):
            stage(read, Data(data), tmp_path / "run")
    stage(read, Data(data), tmp_path / "run")
    assert [epoch for epoch, *_ in seen] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    for (_, before, old), (epoch, after, new) in itertools.pairwise(seen):
        assert not torch.equal(old, new)
        assert torch.equal(before, after) == (epoch < 3)


def test_a_refit_unfreezes_after_as_many_steps_as_the_selection(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sertk.stages.train import train as stage  # late: see test_recipe
    from sertk.training.loop import EmotionBrain  # late: see test_recipe

    moved: dict[bool, list[int]] = {True: [], False: []}
    batches: dict[bool, int] = {}
    start, end = EmotionBrain.on_fit_batch_start, EmotionBrain.on_fit_batch_end
    before: list[Tensor] = []

    def weights(self: EmotionBrain) -> Tensor:
        return torch.cat([one.detach().flatten() for one in self.training.model.backbone.parameters()])

    def started(self: EmotionBrain, *given: object) -> None:
        start(self, *given)  # type: ignore[arg-type]
        before[:] = [weights(self)]

    def ended(self: EmotionBrain, *given: object) -> None:
        end(self, *given)  # type: ignore[arg-type]
        selects = self.training.dev is not None
        batches[selects] = len(self.training.order)
        moved[selects] += [self.optimizer_step] * (not torch.equal(before[0], weights(self)))

    monkeypatch.setattr(EmotionBrain, "on_fit_batch_start", started)
    monkeypatch.setattr(EmotionBrain, "on_fit_batch_end", ended)
    more = {"train.refit": True, "train.select": "last", "train.batch": 16}
    stage(merge.load("mini-cnn", None, {**SETTINGS, **more}), Data(data), tmp_path / "run")
    assert batches[True] < batches[False]  # dev is more rows, so an epoch of the refit is longer
    assert moved[True]
    assert moved[True] == moved[False]

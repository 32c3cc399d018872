"""`train.ema`: the moving average of the weights, by hand, on dev, in the bundle, after a refit and after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sertk.corpus.prepared import Data
from sertk.settings import merge
from sertk.training.optim import Average
from sertk.training.state import Training

QUICK = {
    "protocol": "emobox",
    "fold": "1",
    "backbone": {"name": "frames"},
    "segments": None,
    "augment": [],
    "train.epochs": 2,
    "train.batch": 8,
    "train.threads": 1,
    "train.checkpoint_seconds": 0,
    "train.checkpoint_steps": 1,
    "train.select": "last",
    "train.optimizer": {"name": "sgd", "lr": 0.05},
    "train.ema": 0.9,
}


def train(data: Path, out: Path, **more: object) -> Path:
    """Trains a run; gives its bundle."""
    from sertk.stages.train import train as stage  # late: see test_recipe

    stage(merge.load("mini-cnn", None, {**QUICK, **more}), Data(data), out)
    return out / "model"


def averaged(first: Tensor, steps: Sequence[Tensor], decay: float) -> Tensor:
    """The average, as it is defined."""
    mean = first.clone()
    for n, now in enumerate(steps):
        share = min(decay, (1 + n) / (10 + n))
        mean = share * mean + (1 - share) * now
    return mean


def test_the_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
        average = Average(model, 0.15)
        for value in (1.0, 2.0, 4.0):
            model.weight.fill_(value)
            average.move()
    # decays 1/10, then 2/11 and 3/12, of which at most 0.15
    # 0.9; 0.15 * 0.9 + 0.85 * 2 = 1.835; 0.15 * 1.835 + 0.85 * 4 = 3.67525
    assert average.mean[0].item() == pytest.approx(3.67525)
    average.swap()
    assert (model.weight.item(), average.mean[0].item()) == (pytest.approx(3.67525), 4.0)
    average.swap()
    assert (model.weight.item(), average.mean[0].item()) == (4.0, pytest.approx(3.67525))


def test_what_is_frozen_is_not_averaged() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    assert sum(one.numel() for one in Average(model, 0.9).mean) == 6


@pytest.mark.parametrize("refit", [False, True])
def test_the_bundle_has_the_average_of_all_steps(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit: bool
) -> None:
    seen: list[list[Tensor]] = []
    init, real = Average.__init__, Average.move

    def begin(self: Average, model: nn.Module, decay: float) -> None:
        init(self, model, decay)
        seen.append([model.heads["emotion"].layer[1].weight.detach().clone()])  # type: ignore[index, union-attr]
        self.head = [model.heads["emotion"].layer[1].weight]  # type: ignore[index, union-attr]

    def move(self: Average) -> None:
        real(self)
        seen[-1].append(self.head[0].detach().clone())  # type: ignore[index, union-attr]

    monkeypatch.setattr(Average, "__init__", begin)
    monkeypatch.setattr(Average, "move", move)
    bundle = train(data, tmp_path / "run", **{"train.refit": refit})
    assert len(seen) == 1 + refit
    first, *steps = seen[-1]
    found = load_file(bundle / "model.safetensors")["heads.emotion.layer.1.weight"]
    torch.testing.assert_close(found, averaged(first, steps, 0.9))
    assert not torch.allclose(found, steps[-1], atol=1e-3)


def test_dev_is_measured_with_the_average_and_training_goes_on_without(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sertk.training.loop import EmotionBrain  # late: see test_recipe

    def weights(ema: float, out: Path) -> tuple[list[Tensor], list[Tensor]]:
        """The head at the end of each batch, and at each epoch's end."""
        batches, epochs = list[Tensor](), list[Tensor]()
        end, close = EmotionBrain.on_fit_batch_end, Training.close_epoch

        def ended(self: EmotionBrain, *given: object) -> None:
            end(self, *given)  # type: ignore[arg-type]
            batches.append(self.training.model.heads["emotion"].layer[1].weight.detach().clone())  # type: ignore[operator]

        def closed(self: Training, *given: object) -> None:
            close(self, *given)  # type: ignore[arg-type]
            epochs.append(self.model.heads["emotion"].layer[1].weight.detach().clone())  # type: ignore[operator]

        with monkeypatch.context() as patch:
            patch.setattr(EmotionBrain, "on_fit_batch_end", ended)
            patch.setattr(Training, "close_epoch", closed)
            train(data, out, **{"train.ema": ema})
        return batches, epochs

    plain, at_ends = weights(0.0, tmp_path / "plain")
    own, means = weights(0.9, tmp_path / "ema")
    assert all(torch.equal(one, other) for one, other in zip(plain, own, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(at_ends, means, strict=True))


def test_a_killed_run_goes_on_to_the_same_average(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sertk.training.loop import EmotionBrain  # late: see test_recipe

    whole = train(data, tmp_path / "whole")
    real, calls = EmotionBrain.on_fit_batch_end, []

    class KilledError(BaseException):
        pass

    def end(self: EmotionBrain, *given: object) -> None:
        real(self, *given)  # type: ignore[arg-type]
        calls.append(self.step)
        if len(calls) == 20:  # in the second epoch
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(EmotionBrain, "on_fit_batch_end", end)
        with pytest.raises(KilledError):
            train(data, tmp_path / "run")
    bundle = train(data, tmp_path / "run")
    ours, theirs = (load_file(one / "model.safetensors") for one in (bundle, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

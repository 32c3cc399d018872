"""`train.mixup`: embeddings and labels of training rows are mixed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sertk.builtin.losses.ce import CrossEntropy
from sertk.core import AuxTask, Batch, Target, Task, Terms, UsageError, Views
from sertk.corpus.prepared import Data
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.training.assemble import make_parts, rehearse
from sertk.training.loss import Mixture

MIXED = {
    "protocol": "emobox",
    "fold": "1",
    "segments": None,
    "augment": [],
    "train.epochs": 2,
    "train.batch": 12,
    "train.threads": 1,
    "train.checkpoint_seconds": 0,
    "train.checkpoint_steps": 1,
    "train.mixup": 0.4,
}


def train(data: Path, out: Path, **more: object) -> Path:
    """Trains a run; gives its bundle."""
    from sertk.stages.train import train as stage  # late: see test_recipe

    stage(merge.load("mini-cnn", None, {**MIXED, **more}), Data(data), out)
    return out / "model"


def test_embeddings_logits_and_labels_are_mixed_in_one_share(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sertk.training.loop import EmotionBrain  # late: see test_recipe

    before: list[tuple[Views, Tensor]] = []
    shares: list[Tensor] = []
    real, heard = Mixture.forward, EmotionBrain.views

    def seen(self: EmotionBrain, item: object, *, train: bool) -> tuple[Views, Batch]:
        found = heard(self, item, train=train)  # type: ignore[arg-type]
        if train and found[1].target is not None:
            before.append((found[0], found[1].target.soft))
        return found

    def forward(self: Mixture, given: Views, target: Target, groups: object) -> Terms:
        views, soft = before[-1]
        (plain,), (own,) = views.values(), given.values()
        share = 1 - target.soft.amax(1)
        shares.append(share[share > 0])
        # where the partner has another label its share is what the label lost, and it is found among the rows
        for row in (share > 0).nonzero()[:, 0].tolist():
            part = share[row]
            wanted = (1 - part) * plain.embedding[row] + part * plain.embedding
            other = int((wanted - own.embedding[row]).abs().sum(1).argmin())
            torch.testing.assert_close(own.embedding[row], wanted[other])
            torch.testing.assert_close(target.soft[row], (1 - part) * soft[row] + part * soft[other])
            torch.testing.assert_close(own.logits[row], (1 - part) * plain.logits[row] + part * plain.logits[other])
        terms: Terms = real(self, given, target, groups)  # type: ignore[arg-type]
        return terms

    monkeypatch.setattr(EmotionBrain, "views", seen)
    monkeypatch.setattr(Mixture, "forward", forward)
    train(data, tmp_path / "run")
    every = torch.cat(shares)
    assert len(every) > 50
    assert 0 < every.min() < 0.05
    assert 0.2 < every.max() <= 0.5


def test_a_killed_run_goes_on_with_the_same_shares(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sertk.training.loop import EmotionBrain  # late: see test_recipe

    class KilledError(BaseException):
        pass

    whole = load_file(train(data, tmp_path / "whole") / "model.safetensors")
    real, calls = EmotionBrain.on_fit_batch_end, []

    def end(self: EmotionBrain, *given: object) -> None:
        real(self, *given)  # type: ignore[arg-type]
        calls.append(self.step)
        if len(calls) == 5:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(EmotionBrain, "on_fit_batch_end", end)
        with pytest.raises(KilledError):
            train(data, tmp_path / "run")
    ours = load_file(train(data, tmp_path / "run") / "model.safetensors")
    assert all(torch.equal(ours[name], whole[name]) for name in ours)
    plain = load_file(train(data, tmp_path / "plain", **{"train.mixup": 0.0}) / "model.safetensors")
    assert not torch.equal(plain["heads.emotion.layer.1.weight"], whole["heads.emotion.layer.1.weight"])


@pytest.mark.parametrize(
    "more",
    [
        {"segments": {"length": "10", "hop": "5"}},
        {"losses": [{"name": "ce"}, {"name": "triplet"}]},
        {"losses": [{"name": "ce"}, {"name": "triplet", "negatives": "batch"}]},
        {"losses": [{"name": "ce"}, {"name": "frame_supcon"}]},
        {"losses": [{"name": "ce"}, {"name": "aux", "task": "gender"}]},
    ],
)
def test_rows_that_are_compared_and_windows_are_not_mixed(more: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"train\.mixup mixes the embeddings and the emotion labels"):
        rehearse(Plugins(), merge.load("mini-cnn", None, {**MIXED, **more}), ("a", "b", "c"))


def test_a_classifying_loss_that_puts_rows_together_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CrossEntropy, "sampler", "pairs")  # as a guest may have it
    with pytest.raises(UsageError, match=r"do not go with it: here ce\."):
        rehearse(Plugins(), merge.load("mini-cnn", None, MIXED), ("a", "b", "c"))


def test_the_windows_that_are_decided_on_are_not_mixed(data: Path, tmp_path: Path) -> None:
    whole = {"losses": [{"name": "ce", "at": "whole"}], "segments": {"length": "4", "hop": "2"}, "train.epochs": 1}
    assert (train(data, tmp_path / "run", **whole) / "bundle.json").exists()


def test_what_could_not_be_looked_at_before_is_refused_when_the_parts_are_made() -> None:
    task = Task(("a", "b"), torch.tensor([1, 1]), {"gender": AuxTask(("f", "m"))})
    settings = merge.load("mini-cnn", None, {**MIXED, "losses": [{"name": "ce"}, {"name": "center"}]})
    with pytest.raises(UsageError, match=r"train\.mixup mixes .* here center"):
        make_parts(Plugins(), settings, task)
    settings = merge.load("mini-cnn", None, {"losses": [{"name": "bce"}], "train.warm_start": "probe"})
    with pytest.raises(UsageError, match=r"train\.warm_start: probe gives the emotion head"):
        make_parts(Plugins(), settings, task)

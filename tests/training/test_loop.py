"""The loop, step by step: what a loss with one parameter of a known gradient sees of it."""

from __future__ import annotations

import json
import platform
import resource
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sertk.core import SertkError
from sertk.corpus.prepared import Data
from sertk.settings import merge
from sertk.training.checkpoint import Checkpoints

PLUGIN = '''
import json
import os

import torch
from sertk.core import Loss
from sertk.hookspecs import hookimpl


class Known(Loss):
    """A parameter, at first 1, times the number of the batch in its epoch: 1, 2, 3, ..."""

    def __init__(self, task, dims):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, views, target, groups):
        seen = {"weight": self.weight.item(), "seed": torch.initial_seed(), "training": self.training}
        with open(os.environ["SEEN"], "a+") as file:
            file.seek(0)
            before = len(file.readlines())
            file.write(json.dumps(seen) + "\\n")
        return self.weight * (before % int(os.environ["BATCHES"]) + 1)


@hookimpl
def sertk_losses():
    return {"known": Known}
'''
BATCHES = 6


class Killed(BaseException):
    pass


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BATCHES", str(BATCHES))
    (tmp_path / "known.py").write_text(PLUGIN)
    return tmp_path / "known.py"


def train(plugin: Path, data: Path, out: Path, **more: object) -> list[dict[str, Any]]:
    """Trains two epochs of six batches, by plain gradient descent at 0.1; gives what the loss of this run saw."""
    from sertk.stages.train import train as stage  # late: see test_recipe

    plain = {
        "protocol": "emobox",
        "fold": "1",
        "backbone": {"name": "frames"},
        "losses": [{"name": "ce"}, {"name": "known"}],
        "train.epochs": 2,
        "train.batch": 18,
        "train.accumulate": 4,
        "train.clip": 1e9,
        "train.optimizer": {"name": "sgd", "lr": 0.1},
        "train.schedule": {"name": "constant"},
        "train.threads": 1,
        "train.checkpoint_seconds": 0,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEEN", f"{out}.jsonl")
        stage(merge.load("mini-cnn", None, {**plain, **more}, plugins=[plugin]), Data(data), out)
    return [json.loads(line) for line in Path(f"{out}.jsonl").read_text().splitlines()]


def weights(seen: list[dict[str, Any]]) -> list[float]:
    return [one["weight"] for one in seen]


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


# gradients 1 to 6: the first step has the mean of 1, 2, 3 and 4, 2.5, and the second that of the two that are left, 5.5
STEPS = [1.0] * 4 + [0.75] * 2 + [0.2] * 4 + [-0.05] * 2


def test_a_step_is_by_the_mean_gradient_and_the_rest_of_an_epoch_makes_one_too(
    plugin: Path, data: Path, tmp_path: Path
) -> None:
    seen = train(plugin, data, tmp_path / "run")
    assert weights(seen) == pytest.approx(STEPS, abs=1e-6)
    assert all(one["training"] for one in seen)
    # 1 (1 + 2 + 3 + 4) + 0.75 (5 + 6) = 18.25 of 6 batches; 0.2 x 10 - 0.05 x 11 = 1.45
    assert [line["terms"]["known"] for line in log(tmp_path / "run")] == pytest.approx([18.25 / 6, 1.45 / 6], abs=1e-6)


def test_every_batch_makes_a_step_where_nothing_is_accumulated(plugin: Path, data: Path, tmp_path: Path) -> None:
    seen = train(plugin, data, tmp_path / "run", **{"train.accumulate": 1, "train.epochs": 1})
    # less 0.1, 0.2, ... after each
    assert weights(seen) == pytest.approx([1.0, 0.9, 0.7, 0.4, 0.0, -0.5], abs=1e-6)


def test_the_gradient_is_clipped_to_its_norm(plugin: Path, data: Path, tmp_path: Path) -> None:
    more = {"train.accumulate": 1, "train.epochs": 1, "train.clip": 1e-3}
    seen = train(plugin, data, tmp_path / "run", **more)
    assert 1 - 0.1 * 6e-3 < seen[-1]["weight"] < 1  # five steps of at most 0.1 x 1e-3


def test_dropout_has_a_seed_of_its_own_in_every_step_of_every_epoch(plugin: Path, data: Path, tmp_path: Path) -> None:
    seeds = [one["seed"] for one in train(plugin, data, tmp_path / "run")]
    assert len(set(seeds)) == 2 * BATCHES
    assert seeds == [one["seed"] for one in train(plugin, data, tmp_path / "again")]
    assert not set(seeds) & {one["seed"] for one in train(plugin, data, tmp_path / "other", seed=1)}


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 1), ("cpu", 0)])
def test_dropout_on_a_gpu_has_the_seed_too(monkeypatch: pytest.MonkeyPatch, device: str, gpus: int) -> None:
    from sertk.training.loop import EmotionBrain

    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    training = SimpleNamespace(seed=3, history=SimpleNamespace(epoch=2), unfreeze=lambda step: None)
    brain: Any = SimpleNamespace(training=training, step=5, optimizer_step=7, device_type=device)
    EmotionBrain.on_fit_batch_start(brain, None, should_step=True)  # type: ignore[arg-type]
    assert seeds == [torch.initial_seed()] * gpus


def test_rates_follow_the_schedule_by_optimizer_steps(plugin: Path, data: Path, tmp_path: Path) -> None:
    schedule = {"name": "exponential", "gamma": 0.5}
    seen = train(plugin, data, tmp_path / "run", **{"train.schedule": schedule})
    # epoch 2 steps by 0.05: 0.2 - 0.05 x 2.5
    assert weights(seen) == pytest.approx([*STEPS[:10], 0.075, 0.075], abs=1e-6)
    assert [line["rates"]["main"] for line in log(tmp_path / "run")] == pytest.approx([0.1, 0.05])


def test_a_schedule_ends_with_the_run(plugin: Path, data: Path, tmp_path: Path) -> None:
    seen = train(plugin, data, tmp_path / "run", **{"train.schedule": {"name": "linear", "warmup": 0.25}})
    # four steps, of which the first is the warm-up: factors 1, 1, 2/3 and 1/3. 0.2 - 0.1 x 2/3 x 2.5
    assert weights(seen) == pytest.approx([*STEPS[:10], 0.2 - 0.5 / 3, 0.2 - 0.5 / 3], abs=1e-6)
    assert [line["rates"]["main"] for line in log(tmp_path / "run")] == pytest.approx([0.1, 0.1 / 3])


def test_a_pilot_sees_the_first_batches_with_dropout_and_changes_nothing_but_the_weights_of_the_losses(
    plugin: Path, data: Path, tmp_path: Path
) -> None:
    plain = train(plugin, data, tmp_path / "plain")
    seen = train(plugin, data, tmp_path / "run", pilot=3)
    pilot, steps = seen[:3], seen[3:]
    assert all(one["training"] for one in pilot)
    assert len({one["seed"] for one in pilot} - {one["seed"] for one in steps}) == 3
    assert [one["seed"] for one in steps] == [one["seed"] for one in plain]
    about = json.loads((tmp_path / "run/pilot.json").read_text())
    assert about["largest"]["known"] == 3.0  # of 1, 2 and 3
    assert about["weights"]["known"] == pytest.approx(1 / 3)


def test_a_plateau_lowers_the_rate_after_an_epoch_whose_dev_loss_did_not_fall(
    plugin: Path, data: Path, tmp_path: Path
) -> None:
    # so small a gradient changes no weight: after the first epoch the loss stays where it is
    more = {"train.schedule": {"name": "plateau"}, "train.clip": 1e-25, "train.epochs": 4}
    train(plugin, data, tmp_path / "run", **more, **{"train.patience": 0, "train.accumulate": 1})
    lines = log(tmp_path / "run")
    assert len({line["dev_loss"] for line in lines}) == 1
    assert [line["rates"]["main"] for line in lines] == pytest.approx([0.1, 0.1, 0.05, 0.025])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, None),
        ({"augment": "speed:factors=[1.0,1.1]"}, None),
        (
            {"augment": "speed:factors=[0.9,1.0]"},
            r"is 0\.\d s, and augmentations make it up to 0\.\d s, which is above",
        ),
        ({"augment": "speed:factors=[0.9]", "crop": {"length": 0.2, "train": "random"}}, None),
    ],
)
def test_an_utterance_that_the_encoder_does_not_take_is_refused_before_the_first_epoch(
    plugin: Path, data: Path, tmp_path: Path, more: dict[str, object], says: str | None
) -> None:
    positions = int(50 * max(one.seconds for one in Data(data).facts.values())) + 1  # of 20 ms
    config = {"d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 8}
    encoder = {"name": "whisper", "reads": "wave", "config": {**config, "max_source_positions": positions}}
    own = {"inputs": {"wave": {"name": "wave"}}, "backbone": encoder, "on_augment": "recompute", "train.epochs": 1}
    if says is None:
        train(plugin, data, tmp_path / "run", **own, **more)
        return
    with pytest.raises(SertkError, match=says):
        train(plugin, data, tmp_path / "run", **own, **more)
    assert not (tmp_path / "run.jsonl").exists()


@pytest.mark.parametrize(
    ("more", "saved"),
    [
        ({"train.checkpoint_steps": 1}, [(4, 1), (0, 2), (4, 3), (0, 4)]),  # batch of the epoch, optimizer step
        ({"train.checkpoint_steps": 2}, [(0, 2), (0, 4)]),
        ({"train.checkpoint_steps": 0}, [(0, 2), (0, 4)]),
        # a refit takes the six steps of an epoch again, of the nine that an epoch of train and dev has
        (
            {"train.refit": True, "train.accumulate": 1, "train.epochs": 1, "train.checkpoint_steps": 4},
            [(4, 4), (0, 6), (4, 4), (0, 6)],
        ),
    ],
)
def test_checkpoints_lie_between_optimizer_steps_and_at_the_end_of_an_epoch(
    plugin: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, object],
    saved: list[tuple[int, int]],
) -> None:
    found = []

    def noted(self: Checkpoints, state: Mapping[str, Any]) -> None:
        found.append((state["counters"]["step"], state["counters"]["optimizer_step"]))

    monkeypatch.setattr(Checkpoints, "save", noted)
    train(plugin, data, tmp_path / "run", **more)
    assert found == saved


ADAM = {
    "train.checkpoint_steps": 1,
    "train.schedule": {"name": "linear"},
    "train.optimizer": {"name": "adam", "lr": 0.1},
}
REFIT = {**ADAM, "train.refit": True, "train.accumulate": 1, "train.checkpoint_steps": 5, "train.select": "last"}


@pytest.mark.parametrize(
    ("more", "saves"),
    [
        *((ADAM, saves) for saves in (1, 2, 3)),
        # steps 5 and 6, 11 and 12 of the selection; then 5, 9 and 12 of the refit
        *(({**REFIT, "train.patience": 0}, saves) for saves in (1, 4, 5, 6)),
    ],
)
def test_a_run_goes_on_where_it_was_left(
    plugin: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, object], saves: int
) -> None:
    whole = train(plugin, data, tmp_path / "whole", **more)
    save, count = Checkpoints.save, 0

    def killed(self: Checkpoints, state: Any) -> None:  # noqa: ANN401
        nonlocal count
        save(self, state)
        count += 1
        if count == saves:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", killed)
    with pytest.raises(Killed):
        train(plugin, data, tmp_path / "run", **more)
    assert train(plugin, data, tmp_path / "run", **more) == whole
    assert log(tmp_path / "run") == log(tmp_path / "whole")
    ours, theirs = (load_file(tmp_path / name / "model/model.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_refit_takes_the_steps_that_were_selected_at_the_rates_of_the_selection(
    plugin: Path, data: Path, tmp_path: Path
) -> None:
    more = {"train.accumulate": 1, "train.select": "last", "train.patience": 0, "train.refit": True}
    schedule = {"name": "exponential", "gamma": 0.5}
    seen = weights(train(plugin, data, tmp_path / "run", **more, **{"train.schedule": schedule}))
    selection, refit = seen[: 2 * BATCHES], seen[2 * BATCHES :]
    # twelve steps again, though an epoch of train and dev has nine: six by 0.1, then six by 0.05
    assert refit == pytest.approx(selection, abs=1e-6)
    assert refit[BATCHES:] == pytest.approx([-1.1, -1.15, -1.25, -1.4, -1.6, -1.85], abs=1e-6)
    about = json.loads((tmp_path / "run/model/bundle.json").read_text())["training"]
    assert (about["epoch"], about["steps"], about["refit"]) == (2, 12, True)
    lines = (tmp_path / "run/log-refit.jsonl").read_text().splitlines()
    assert [json.loads(line)["dev"] for line in lines] == [None] * len(lines)


def test_the_bundle_has_the_weights_of_the_best_epoch(plugin: Path, data: Path, tmp_path: Path) -> None:
    more = {"train.patience": 0, "train.optimizer": {"name": "sgd", "lr": 3.0}, "train.accumulate": 1}
    train(plugin, data, tmp_path / "run", **more, **{"train.epochs": 5})
    scores = [line["dev"] for line in log(tmp_path / "run")]
    best = scores.index(max(scores)) + 1
    assert best < 5
    train(plugin, data, tmp_path / "until", **more, **{"train.epochs": best, "train.select": "last"})
    ours, theirs = (load_file(tmp_path / name / "model/model.safetensors") for name in ("run", "until"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    about = json.loads((tmp_path / "run/model/bundle.json").read_text())["training"]
    assert (about["epoch"], about["steps"], about["dev"]) == (best, best * BATCHES, {"ua": max(scores)})


def test_the_same_seed_begins_with_the_same_weights_and_another_with_others(
    plugin: Path, data: Path, tmp_path: Path
) -> None:
    more = {"train.optimizer": {"name": "sgd", "lr": 0.0}, "train.epochs": 1}
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        train(plugin, data, tmp_path / name, **more, seed=seed)
    one, again, two = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "again", "two"))
    head = "heads.emotion.layer.1.weight"
    assert torch.equal(one[head], again[head])
    assert not (one[head] == two[head]).any()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_training_keeps_the_pages_of_freed_tensors(plugin: Path, data: Path, tmp_path: Path) -> None:
    train(plugin, data, tmp_path / "run")
    faults = list[int]()
    for _ in range(8):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**25)  # 128 MiB, which are 32,768 pages of 4 KiB
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert sum(faults[4:]) < 1000, faults  # what lies between the first may not be wide enough for the next

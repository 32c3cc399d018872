"""What can be set of a training run beside what it is: precision, and curves to watch it by."""

import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from sertk.core import UsageError, View
from sertk.corpus.prepared import Data
from sertk.modeling.decide import Decider
from sertk.modeling.frontend import Frontend
from sertk.modeling.model import Model
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.settings.schema import Component, OptimizerSpec
from sertk.stages.score import score as score_stage
from sertk.training import optim
from sertk.training.history import History
from sertk.training.loss import Mixture
from sertk.training.optim import OPTIMIZERS, make_optimizers
from sertk.training.state import Training


def train(data: Path, out: Path, **more: object) -> None:
    from sertk.stages.train import train as stage  # late: see test_recipe

    every = {"train.threads": 1, "train.checkpoint_seconds": 0}
    settings = {"protocol": "emobox", "fold": "1", "train.epochs": 3, **every, **more}
    stage(merge.load("mini-cnn", None, settings), Data(data), out)


def lines(out: Path, name: str = "log.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def test_bf16_is_for_the_model_and_not_for_its_losses_and_decisions(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[object]] = {"frontend": set(), "model": set(), "loss": set(), "decision": set()}

    def spy(of: type, method: str, note: Callable[[Any, Any], Iterable[tuple[str, torch.Tensor]]]) -> None:
        plain = getattr(of, method)

        def noting(self: object, *given: Any, **named: Any) -> object:  # noqa: ANN401
            made = plain(self, *given, **named)
            for name, value in note(given, made):
                seen[name].add((value.dtype, torch.is_autocast_enabled("cpu")))
            return made

        monkeypatch.setattr(of, method, noting)

    def parts(views: Mapping[object, View]) -> list[torch.Tensor]:
        return [value for view in views.values() for value in (view.logits, view.embedding, view.frames.data)]

    spy(Frontend, "__call__", lambda given, batch: [("frontend", one.data) for one in batch.inputs.values()])
    spy(Model, "forward", lambda given, views: [("model", view.logits) for view in views.values()])
    spy(Mixture, "forward", lambda given, terms: [("loss", value) for value in (*parts(given[0]), terms.total)])
    spy(Decider, "__call__", lambda given, made: [("decision", value) for value in made])
    train(data, tmp_path / "run", **{"train.precision": "bf16"}, losses=[{"name": "ce"}, {"name": "contrastive"}])
    assert seen["model"] == {(torch.bfloat16, True)}
    assert seen["frontend"] == seen["loss"] == seen["decision"] == {(torch.float32, False)}
    losses = [line["train_loss"] for line in lines(tmp_path / "run")]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]
    weights = load_file(tmp_path / "run/model/model.safetensors")
    assert all(value.dtype != torch.bfloat16 for value in weights.values())


def test_curves_measure_train_and_dev_alike_and_change_nothing(data: Path, tmp_path: Path) -> None:
    more = {"augment": [{"name": "noise", "copies": 2}], "on_augment": "recompute"}
    train(data, tmp_path / "plain", **more)
    train(data, tmp_path / "curves", **more, **{"train.curves": True})
    weights = [load_file(tmp_path / f"{name}/model/model.safetensors") for name in ("plain", "curves")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    for plain, line in zip(lines(tmp_path / "plain"), lines(tmp_path / "curves"), strict=True):
        measured = line.pop("curves")
        assert line == plain
        # cross-entropy, so the objective of dev is the negative log-probability of the labels
        assert measured["dev"]["loss"] == pytest.approx(line["dev_loss"], rel=1e-5)
        assert 0 <= measured["train"]["wa"] <= 1
        assert measured["train"]["loss"] > 0


def test_curves_of_train_are_of_the_rows_as_they_are(data: Path, tmp_path: Path) -> None:
    loud = [{"name": "noise", "copies": 2, "snr": [-20, -20]}, {"name": "gain", "gain": [-80, -80]}]
    more = {"augment": loud, "on_augment": "recompute"}
    train(data, tmp_path / "run", **more, **{"train.curves": True, "train.select": "last"})
    for part, measured in lines(tmp_path / "run")[-1]["curves"].items():
        score_stage(tmp_path / "run/model", [str(data)], tmp_path / f"{part}.jsonl", part=part)
        found = lines(tmp_path, f"{part}.jsonl")
        assert measured["wa"] == pytest.approx(sum(one["label"] == one["decision"] for one in found) / len(found))
        classes = Data(data).protocol("emobox").classes
        logs = [math.log(one["posterior"][classes.index(one["label"])]) for one in found]
        assert measured["loss"] == pytest.approx(-sum(logs) / len(logs), abs=1e-4)


@pytest.mark.parametrize("more", [{"losses": [{"name": "ce", "reduction": "sum"}]}, {"class_weights": "balanced"}])
def test_curves_do_not_depend_on_the_batches(data: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    for batch in (7, 96):
        train(data, tmp_path / str(batch), **more, **{"train.curves": True, "train.epochs": 1, "score.batch": batch})
    small, large = (lines(tmp_path / name)[0]["curves"] for name in ("7", "96"))
    for part in ("train", "dev"):
        assert small[part]["loss"] == pytest.approx(large[part]["loss"], rel=1e-4)
        assert 0.5 < small[part]["loss"] < 5  # of a row


def test_curves_leave_out_the_terms_that_compare_chosen_rows(data: Path, tmp_path: Path) -> None:
    losses = [{"name": "ce", "weight": 0.5}, {"name": "contrastive"}]
    train(data, tmp_path / "run", losses=losses, **{"train.curves": True})
    line = lines(tmp_path / "run")[-1]
    assert line["curves"]["dev"]["loss"] == pytest.approx(0.5 * line["dev_loss"], rel=1e-5)


class Killed(BaseException):
    pass


def test_tensorboard_has_every_epoch_of_a_resumed_run_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, save, saves = tmp_path / "run", Training.save, Counter[str]()

    def killed(self: Training, *state: Any) -> None:  # noqa: ANN401
        saves["all"] += 1
        if saves["all"] == 2:  # the second epoch is in the log and in the curves, and in no checkpoint
            raise Killed
        save(self, *state)

    more = {"train.tensorboard": True, "train.refit": True, "train.schedule": {"name": "exponential"}}
    monkeypatch.setattr(Training, "save", killed)
    with pytest.raises(Killed):
        train(data, out, **more, losses=[{"name": "ce"}, {"name": "triplet"}])
    assert len(lines(out)) == 2
    train(data, out, **more, losses=[{"name": "ce"}, {"name": "triplet"}])

    check(out / "tensorboard", lines(out), {"dev", "dev_loss"})
    assert [line["rates"]["main"] for line in lines(out)] == pytest.approx([5e-3 * 0.875**e for e in range(3)])
    check(out / "tensorboard/refit", lines(out, "log-refit.jsonl"), set())
    assert json.loads((out / "cost.json").read_text())["resumed"] is True


def check(folder: Path, log: list[dict[str, Any]], dev: set[str]) -> None:
    """Holds the curves against the log, event by event."""
    events = [event for path in folder.glob("events*") for event in EventFileLoader(str(path)).Load()]
    found = Counter((value.tag, event.step) for event in events for value in event.summary.value)
    tags = {"train_loss", "terms/ce", "terms/triplet", "rates/main", *dev}
    assert found == Counter((tag, line["epoch"]) for tag in tags for line in log)
    read = EventAccumulator(str(folder)).Reload()
    for tag in tags:
        in_log = [line[tag] if "/" not in tag else line[tag.split("/")[0]][tag.split("/")[1]] for line in log]
        assert [one.value for one in read.Scalars(tag)] == pytest.approx(in_log)


def test_watching_makes_no_other_run(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "run", **{"train.epochs": 1})
    train(data, tmp_path / "run", **{"train.epochs": 1, "train.tensorboard": True})


def test_a_run_leaves_no_thread_that_writes_curves(data: Path, tmp_path: Path) -> None:
    def threads() -> list[str]:
        return [type(one).__name__ for one in threading.enumerate() if type(one).__name__ == "_AsyncWriterThread"]

    before = threads()
    train(data, tmp_path / "run", **{"train.epochs": 1, "train.tensorboard": True, "train.refit": True})
    assert threads() == before


def test_tensorboard_that_is_not_installed_is_told_before_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sertk.training.assemble.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'sertk\[tensorboard\]'"):
        train(data, tmp_path / "run", **{"train.tensorboard": True})


def test_the_last_epoch_is_taken_where_the_run_says_so(tmp_path: Path) -> None:
    taken = {}
    for newest in (False, True):
        history = History(tmp_path / "log.jsonl", 3, 0, 7, dev=True, newest=newest)
        for score in (0.5, 0.9, 0.7):
            history.close(score, 1.0, torch.nn.Linear(1, 1), {})
        taken[newest] = (history.best["epoch"], history.best["steps"], history.best["score"])
    assert taken == {False: (2, 14, 0.9), True: (3, 21, 0.7)}


def test_the_direction_of_the_metric_selects_and_says_when_patience_is_used_up(tmp_path: Path) -> None:
    from sertk.training.history import History

    scores = (-0.2, 0.4, 0.4, 0.1, 0.3, 2.5)
    taken, kept = {}, {}
    for better in ("higher", "lower"):
        history = History(tmp_path / "log.jsonl", 9, 3, 7, dev=True, better=better)  # type: ignore[arg-type]
        for score in scores:
            if not history.finished:
                history.close(score, 1.0, torch.nn.Linear(1, 1), {})
        taken[better], kept[better] = history.best["epoch"], history.epoch - 1
    # higher: 0.4 in epoch 2 is not exceeded in the 3 after it; lower: the first is the best, and 3 more follow
    assert taken == {"higher": 2, "lower": 1}
    assert kept == {"higher": 5, "lower": 4}


def test_the_first_epoch_is_taken_whatever_its_score(tmp_path: Path) -> None:
    from sertk.training.history import History

    history = History(tmp_path / "log.jsonl", 9, 0, 7, dev=True)
    history.close(-3.0, 1.0, torch.nn.Linear(1, 1), {})
    assert (history.best["epoch"], history.best["score"]) == (1, -3.0)


@pytest.mark.parametrize(
    ("more", "says"),
    [({"train.select": "first"}, r"It must be best \| last"), ({"train.patience": 3}, "patience: 0")],
)
def test_a_selection_that_makes_no_sense_is_refused(more: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        merge.load("mini-cnn", None, {"train.select": "last", **more})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fused_step_is_the_plain_one_to_rounding(name: str) -> None:
    def trained(**more: object) -> torch.Tensor:
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(1_000))
        spec = OptimizerSpec(name, {"weight_decay": 0.1, **more}, lr=1e-2)
        (optimizer,) = make_optimizers(Plugins(), spec, {}, [weight]).values()
        assert optimizer.defaults["fused"] is (None if more else True)
        for _ in range(20):
            optimizer.zero_grad()
            (weight.sin().square().sum()).backward()
            optimizer.step()
        return weight.detach()

    fused, plain = trained(), trained(foreach=False)
    assert (fused - plain).abs().max() < 1e-6 * plain.abs().max()


def rates(spec: Component, steps: int, per_epoch: int = 2) -> list[float]:
    """The learning rate of each optimizer step of a run, and the one that would come after it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=8.0)
    schedule = optim.make_schedules(Plugins(), spec, {"main": optimizer}, per_epoch, steps)["main"]
    found = []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("spec", "steps", "expected"),
    [
        # 2 of 6 steps of warm-up: a half, the whole; then 4/4, 3/4, 2/4, 1/4 and nothing
        (Component("linear", {"warmup": 1 / 3}), 6, [4, 8, 8, 6, 4, 2, 0]),
        (Component("linear", {"warmup": 0}), 4, [8, 8, 16 / 3, 8 / 3, 0]),
        # 4 steps to fall in: (1 + cos) / 2 at 0, 45, 90, 135 and 180 degrees
        (Component("cosine", {"warmup": 1 / 3}), 6, [4, 8, 8, 4 + 8**0.5, 4, 4 - 8**0.5, 0]),
        (Component("cosine", {"warmup": 0}), 4, [8, 8, 6, 2, 0]),
        # 3 epochs of 2 steps
        (Component("exponential", {"gamma": 0.5, "until": 2}), 8, [8, 8, 4, 4, 2, 2, 2, 2, 2]),
        (Component("constant"), 2, [8, 8, 8]),
    ],
)
def test_schedules_give_each_step_its_rate(spec: Component, steps: int, expected: list[float]) -> None:
    assert rates(spec, steps) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (Component("linear", {"warmup": 1.01}), "warmup is 1.01; it is at least 0 and at most 1"),
        (Component("cosine", {"warmup": 1.01}), "warmup is 1.01; it is at least 0 and at most 1"),
        (Component("cosine", {"warmup": -0.01}), "warmup is -0.01"),
        (Component("exponential", {"gamma": 0.0}), "gamma is 0.0; it is above 0"),
        (Component("exponential", {"until": -1}), "until is -1; it is at least 0"),
        (Component("plateau", {"factor": 1.0}), "factor is 1.0; it is above 0 and below 1"),
        (Component("plateau", {"patience": -1}), "patience is -1; it is at least 0"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(spec: Component, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        rates(spec, 4)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 2.99999 is lower by less than torch's threshold, 2.99999 and 3.5 are not; 3.2 is below 3.5, and no new least
        ({}, [8, 8, 8, 4, 2, 1]),
        ({"factor": 0.1, "patience": 1}, [8, 8, 8, 8, 0.8, 0.8]),
    ],
)
def test_plateau_lowers_the_rate_where_the_loss_is_not_below_its_least(
    settings: Mapping[str, object], expected: list[float]
) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=8.0)
    spec = Component("plateau", settings)
    schedule: Any = optim.make_schedules(Plugins(), spec, {"main": optimizer}, 2, 10)["main"]
    found = [optimizer.param_groups[0]["lr"]]
    for loss in (3.0, 2.99999, 2.99999, 3.5, 3.2):
        schedule.step(loss)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("patience", "last"),
    [
        (0, 9),  # never
        (1, 3),  # epoch 3 is as good as 2, and no better
        (2, 4),
        (3, 8),  # epoch 5 is better than 2, and 6, 7 and 8 are not
        (4, 9),
    ],
)
def test_patience_ends_a_run_after_so_many_epochs_without_a_better_one(
    tmp_path: Path, patience: int, last: int
) -> None:
    history = History(tmp_path / "log.jsonl", 9, patience, 1, dev=True)
    scores = iter([0.2, 0.5, 0.5, 0.4, 0.6, 0.6, 0.3, 0.1, 0.9])
    while not history.finished:
        history.close(next(scores), 1.0, torch.nn.Linear(1, 1), {})
    assert history.epoch - 1 == last

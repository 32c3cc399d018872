"""What is selected, when a run ends, and what of it a checkpoint gives back; rates by optimizer."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from sertk.core import SertkError, Terms
from sertk.plugins import Plugins
from sertk.settings.schema import Component, OptimizerSpec
from sertk.training.history import History
from sertk.training.optim import make_optimizers, make_schedules


def history(folder: Path, *, epochs: int = 9, patience: int = 0, last_step: int | None = None) -> History:
    """Seven steps an epoch."""
    return History(folder / "log.jsonl", epochs, patience, 7, dev=last_step is None, last_step=last_step)


def close(made: History, score: float, model: nn.Module | None = None) -> None:
    made.close(score, 1.0, model or nn.Linear(1, 1), {})


def test_of_equal_scores_the_first_epoch_is_taken(tmp_path: Path) -> None:
    made = history(tmp_path)
    for score in (0.5, 0.7, 0.7):
        close(made, score)
    assert (made.best["epoch"], made.best["steps"]) == (2, 14)


def test_of_equal_scores_the_one_of_the_least_dev_loss_is_taken_where_that_is_asked_for(tmp_path: Path) -> None:
    made = History(tmp_path / "log.jsonl", 9, 0, 7, dev=True, by_loss=True)
    model = nn.Linear(1, 1)
    for score, loss in ((0.7, 0.9), (0.7, 0.8), (0.6, 0.1), (0.7, 0.85), (0.7, 0.8)):
        made.close(score, loss, model, {})
    assert made.best["epoch"] == 2
    # also after a kill: the loss of the best is in the checkpoint
    again = History(tmp_path / "log.jsonl", 9, 0, 7, dev=True, by_loss=True)
    again.load(made.state(model.state_dict()))
    for loss in (0.81, 0.79):
        again.close(0.7, loss, nn.Linear(1, 1), {})
    assert again.best["epoch"] == 7


def test_an_epoch_that_is_taken_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = history(tmp_path)
    for score in (0.5, 0.4, 0.7):
        close(made, score)
    lines = [line for line in capsys.readouterr().err.splitlines() if "epoch" in line]
    assert [line.endswith(" *") for line in lines] == [True, False, True]
    refit = history(tmp_path, last_step=14)
    refit.close(None, None, None, {})
    assert "dev" not in capsys.readouterr().err


def test_the_weights_that_are_kept_stay_as_they_were(tmp_path: Path) -> None:
    made, model = history(tmp_path), nn.Linear(1, 1)
    model.weight.data.fill_(3.0)
    close(made, 0.5, model)
    model.weight.data.fill_(4.0)
    close(made, 0.4, model)
    assert made.best["weights"]["weight"].item() == 3.0


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    made = history(tmp_path)
    made.add(Terms(torch.tensor(2.0), {}))
    for value in (math.nan, math.inf):
        with pytest.raises(SertkError, match=f"the loss became {value} in epoch 1"):
            made.add(Terms(torch.tensor(value), {}))


def test_a_history_goes_on_where_it_was_left(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    whole, left = history(tmp_path, patience=3), history(tmp_path / "left", patience=3)
    for score in (0.7, 0.6):
        close(whole, score)
    whole.add(Terms(torch.tensor(5.0), {"ce": torch.tensor(2.0)}))
    left.load(copy.deepcopy(whole.state(nn.Linear(1, 1).state_dict())))  # as from the disk
    for made in (whole, left):
        made.add(Terms(torch.tensor(7.0), {"ce": torch.tensor(6.0)}))
        close(made, 0.65)
        assert (made.best["epoch"], made.best["score"], made.epoch) == (1, 0.7, 4)
        assert not made.finished
        close(made, 0.6)
        assert made.finished  # three epochs without a better one
    lines = [json.loads(line) for line in (tmp_path / "left/log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert (lines[2]["train_loss"], lines[2]["terms"]) == (6.0, {"ce": 4.0})


def test_a_refit_ends_with_the_epoch_of_its_last_step(tmp_path: Path) -> None:
    for last, epochs in ((7, 1), (14, 2), (15, 3)):
        made = history(tmp_path, last_step=last)
        for epoch in range(1, epochs + 1):
            assert not made.finished, (last, epoch)
            made.close(None, None, None, {})
        assert made.finished


def test_every_rate_has_an_optimizer_and_a_schedule_of_its_own() -> None:
    main, own = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    plugins = Plugins()
    made = make_optimizers(plugins, OptimizerSpec("sgd", {"momentum": 0.5}, lr=0.1), {0.03: [own]}, [main])
    schedules = make_schedules(plugins, Component("exponential", {"gamma": 0.5}), made, 1, 4)
    assert set(made) == set(schedules) == {"main", "rate=0.03"}
    for expected in ((0.1, 0.03), (0.05, 0.015), (0.025, 0.0075)):
        rates = [one.param_groups[0]["lr"] for one in made.values()]
        assert rates == pytest.approx(expected)
        for name, optimizer in made.items():
            optimizer.step()
            schedules[name].step()
    assert [one.param_groups[0]["momentum"] for one in made.values()] == [0.5, 0.5]
    held = [[id(p) for p in one.param_groups[0]["params"]] for one in made.values()]
    assert held == [[id(main)], [id(own)]]

"""The temperature that is fitted on dev: by hand, in a run, after a refit, after a kill, and on several ranks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sertk.builtin.decisions import max_probability, mean, random
from sertk.core import WHOLE, Decision, UsageError
from sertk.corpus.prepared import Data
from sertk.modeling.decide import Decider, of_logits
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.stages.score import score
from sertk.training import record, temperature
from sertk.training.assemble import rehearse
from sertk.training.history import History
from sertk.training.temperature import DevWindows, least

CLASSES = 3
QUICK = {
    "protocol": "emobox",
    "fold": "1",
    "train.epochs": 2,
    "train.threads": 1,
    "train.batch": 8,
    "backbone": {"name": "frames"},
    "segments": None,
}


def windows(
    logits: Sequence[Sequence[float]], owner: list[int], label: list[int], decision: Decision = mean
) -> DevWindows:
    view = of_logits(torch.tensor(logits, dtype=torch.float64), torch.tensor(owner), "softmax")
    ids = [f"u{number}" for number in range(len(label))]
    return DevWindows(view, ids, torch.tensor(label), Decider(WHOLE, decision), 7)


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_three_right_of_four_that_are_equally_sure_are_three_quarters_sure() -> None:
    # all logits differ by ln 81: ln 81 / T must be ln 3, the odds of 3 to 1; and by ln 3, with 9 of 10, ln 9
    far, near = math.log(81), math.log(3)
    own = windows([[far, 0], [0, far], [5, 5 - far], [far, 0]], [0, 1, 2, 3], [0, 1, 0, 1])
    assert least(own.nll) == pytest.approx(4, rel=1e-5)
    own = windows([[0, near]] * 10, list(range(10)), [1] * 9 + [0])
    assert least(own.nll) == pytest.approx(1 / 2, rel=1e-5)


def test_the_windows_are_tempered_and_the_posteriors_averaged() -> None:
    # at T = 2: 9 to 1 is 3 to 1 and 1 to 4 is 1 to 2, of which the mean is 13/24; 1 to 16 is 1 to 4
    own = windows([[math.log(9), 0], [0, math.log(4)], [0, math.log(16)]], [0, 0, 1], [0, 1])
    assert own.nll(2.0) == pytest.approx(-math.log(13 / 24) - math.log(4 / 5))
    assert own.nll(1.0) == pytest.approx(-math.log((9 / 10 + 1 / 5) / 2) - math.log(16 / 17))


def test_a_decision_drawn_at_random_is_the_same_at_every_temperature() -> None:
    logits = torch.randn(60, CLASSES, generator=torch.Generator().manual_seed(1)).tolist()
    own = windows(logits, [n // 6 for n in range(60)], [n % CLASSES for n in range(10)], random)
    assert own.nll(1.3) == own.nll(1.3)


@pytest.mark.parametrize("decision", [mean, max_probability])
def test_the_best_of_several_minima_is_found(decision: Decision) -> None:
    chance = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(90, CLASSES, generator=chance)
    label = torch.randint(CLASSES, (30,), generator=chance)
    logits[torch.arange(0, 90, 3), label] += 3.0
    own = windows(logits.tolist(), [n // 3 for n in range(90)], label.tolist(), decision)
    found = least(own.nll)
    assert found is not None
    assert own.nll(found) <= min(own.nll(0.1 * step) for step in range(1, 200)) + 1e-9


def test_the_deepest_of_two_minima_is_found_exactly() -> None:
    # ln T is best at 2, in a narrow hollow, and there is a wide one around -2
    found = least(lambda value: min(0.1 + 0.2 * (math.log(value) + 2) ** 2, 3 * (math.log(value) - 2) ** 2))
    assert found == pytest.approx(math.exp(2), rel=1e-5)


@pytest.mark.parametrize("label", [[0, 1], [1, 0]], ids=["all right", "all wrong"])
def test_where_dev_has_no_best_temperature_there_is_none(label: list[int]) -> None:
    assert least(windows([[2, 0], [0, 2]], [0, 1], label).nll) is None


# --- in a run --------------------------------------------------------------------------------------------------------


def train(data: Path, out: Path, **more: object) -> Path:
    from sertk.stages.train import train as stage  # late: see test_recipe

    stage(merge.load("mini-cnn", None, {**QUICK, **more}), Data(data), out)
    return out


def decision_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "model/bundle.json").read_text())["components"]["decision"]
    return found


def weights(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(run / "model/model.safetensors")
    return found


def same(one: Path, other: Path) -> bool:
    here, there = weights(one), weights(other)
    return here.keys() == there.keys() and all(torch.equal(value, there[name]) for name, value in here.items())


def dev(run: Path, data: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(N, C) posterior and logits of the dev part, and (N,) labels."""
    score(run / "model", [str(data)], run / "dev.jsonl", part="dev")
    lines = [json.loads(line) for line in (run / "dev.jsonl").read_text().splitlines()]
    classes = Data(data).protocol("emobox").classes
    columns = (torch.tensor([line[word] for line in lines], dtype=torch.float64) for word in ("posterior", "logits"))
    return *columns, torch.tensor([classes.index(line["label"]) for line in lines])


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs as they are, with a temperature, and with it and a refit."""
    folder = tmp_path_factory.mktemp("runs")
    fitted = {"decision.temperature": "fitted"}
    return {
        "plain": train(data, folder / "plain"),
        "fitted": train(data, folder / "fitted", **fitted),
        "plain, refit": train(data, folder / "refitted", **{"train.refit": True}),
        "fitted, refit": train(data, folder / "both", **fitted, **{"train.refit": True}),
    }


def test_a_fitted_temperature_changes_the_posteriors_and_nothing_else(runs: dict[str, Path], data: Path) -> None:
    assert decision_of(runs["plain"]) == {"name": "mean", "at": "whole"}
    found = decision_of(runs["fitted"])["temperature"]
    assert same(runs["plain"], runs["fitted"])
    logs = [(runs[name] / "log.jsonl").read_text() for name in ("plain", "fitted")]
    assert logs[0] == logs[1]
    (before, raw, label), (after, kept, _) = (dev(runs[name], data) for name in ("plain", "fitted"))
    assert torch.equal(raw, kept)
    torch.testing.assert_close(after, (raw / found).softmax(1), atol=2e-5, rtol=0)
    assert torch.equal(before.argmax(1), after.argmax(1))
    # where the likelihood of T is greatest, labels have on average the logit that their posterior expects
    expected = ((raw / found).softmax(1) * raw).sum(1).mean()
    assert float(raw.gather(1, label[:, None]).mean()) == pytest.approx(float(expected), abs=1e-4)
    assert (before.argmax(1) != label).any()
    trained = json.loads((runs["fitted"] / "dev.metrics.json").read_text())["trained"]
    assert trained["temperature"] == found
    assert "temperature" not in json.loads((runs["plain"] / "dev.metrics.json").read_text())["trained"]


def test_the_temperature_is_of_the_epoch_that_is_selected(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = {"decision.temperature": "fitted", "train.schedule": "constant"}
    alone = train(data, tmp_path / "alone", **fitted, **{"train.epochs": 1})
    monkeypatch.setattr(History, "_selects", lambda history, score, loss: history.epoch == 1)
    first = train(data, tmp_path / "first", **fitted)
    assert len((first / "log.jsonl").read_text().splitlines()) == 2
    assert same(first, alone)
    assert decision_of(first) == decision_of(alone)


def test_a_refit_keeps_the_temperature_of_the_selected_model(runs: dict[str, Path]) -> None:
    assert decision_of(runs["fitted, refit"]) == decision_of(runs["fitted"])
    assert same(runs["plain, refit"], runs["fitted, refit"])
    assert not same(runs["fitted"], runs["fitted, refit"])


@pytest.mark.parametrize("name", ["fitted", "fitted, refit"])
@pytest.mark.parametrize("moment", ["before the fit", "after it"])
def test_a_run_killed_there_ends_with_the_same_bundle(
    runs: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, moment: str
) -> None:
    def kill(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    more = {"decision.temperature": "fitted", "train.refit": name.endswith("refit"), "train.checkpoint_seconds": 0}
    with monkeypatch.context() as patch:
        patch.setattr(*((temperature, "fit") if moment == "before the fit" else (record, "write")), kill)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "run", **more)
    assert not (tmp_path / "run/model").exists()
    train(data, tmp_path / "run", **more)
    ours, theirs = (folder / "model/bundle.json" for folder in (tmp_path / "run", runs[name]))
    assert ours.read_bytes() == theirs.read_bytes()
    assert same(tmp_path / "run", runs[name])


def test_a_temperature_that_is_given_is_that_of_dev_too(runs: dict[str, Path], data: Path, tmp_path: Path) -> None:
    given = train(data, tmp_path / "given", **{"decision.temperature": 3})
    assert decision_of(given)["temperature"] == 3
    assert same(given, runs["plain"])
    posterior, _, label = dev(given, data)
    log = [json.loads(line) for line in (given / "log.jsonl").read_text().splitlines()]
    chosen = json.loads((given / "model/bundle.json").read_text())["training"]["epoch"]
    loss = -posterior.gather(1, label[:, None]).log().mean()
    assert log[chosen - 1]["dev_loss"] == pytest.approx(float(loss), rel=1e-4)


def test_dev_is_heard_with_the_statistics_of_its_speakers(data: Path, tmp_path: Path) -> None:
    run = train(data, tmp_path / "run", normalize="speaker", **{"decision.temperature": "fitted"})
    _, raw, label = dev(run, data)
    expected = ((raw / decision_of(run)["temperature"]).softmax(1) * raw).sum(1).mean()  # see above
    assert float(raw.gather(1, label[:, None]).mean()) == pytest.approx(float(expected), abs=1e-4)


def test_a_model_without_a_mistake_on_dev_keeps_its_temperature_and_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(temperature, "least", lambda nll: None)
    found = train(data, tmp_path / "run", **{"decision.temperature": "fitted"})
    assert "temperature" not in decision_of(found)
    assert "no temperature between 0.01 and 100 is the best on dev, so it stays 1" in capsys.readouterr().err


def test_values_that_are_no_logits_are_refused_before_any_work() -> None:
    losses = [{"name": "l1", "output": "linear"}]
    settings = merge.load("mini-cnn", None, {**QUICK, "losses": losses, "decision.temperature": "fitted"})
    with pytest.raises(UsageError, match=r"decision\.temperature is fitted, and a temperature divides logits"):
        rehearse(Plugins(), settings, ("a", "b", "c"))

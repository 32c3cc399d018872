"""The feature gives openSMILE's own numbers, the loss has LinearSVC's minimum, and the systems run from end to end."""

from __future__ import annotations

import json
import math
import pickle
import sys
from pathlib import Path

import opensmile
import pytest
import torch
from sklearn.svm import LinearSVC
from torch import Tensor

from sertk.core import WHOLE, Dims, Feature, InputError, Loss, Padded, SertkError, Target, Task, UsageError, View
from sertk.corpus import audio
from sertk.corpus.features import stores
from sertk.corpus.prepared import Data
from sertk.modeling import build
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.stages.featurize import featurize
from sertk.stages.prepare import prepare
from sertk.stages.score import score
from sertk.stages.train import train
from sertk.testing import Case, contracts, tone_corpus
from sertk.training.assemble import make_parts, rehearse

RATE = 16_000
SYSTEMS = Path(__file__).parents[1] / "systems"
SETS = {"eGeMAPSv02": 88, "ComParE_2016": 6373}


@pytest.mark.parametrize(
    "check", [*contracts("feature", "opensmile"), *contracts("loss", "hinge")], ids=lambda check: check.id
)
def test_contract(check: Case) -> None:
    check()


# ---------------------------------------------------------------- the feature


def feature(name: str = "eGeMAPSv02", rate: int = RATE) -> Feature:
    made: Feature = Plugins().make("feature", {"name": "opensmile", "set": name}, rate)
    return made


def voice(seconds: float, hertz: float = 140.0, rate: int = RATE) -> Tensor:
    """(S,) a buzz with a rise and a fall, and some noise."""
    steps = torch.arange(round(seconds * rate)) / rate
    phase = 2 * math.pi * (hertz * steps + 3 * torch.sin(5 * steps))
    noise = 0.01 * torch.randn(len(steps), generator=torch.Generator().manual_seed(0))
    return 0.3 * torch.sin(phase) + 0.1 * torch.sin(7 * phase) + noise


def own(wave: Tensor, name: str, rate: int = RATE) -> Tensor:
    """(D,) what opensmile's own interface gives."""
    smile = opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel.Functionals)
    return torch.from_numpy(smile.process_signal(wave.numpy(), rate).to_numpy().copy()[0])


@pytest.mark.parametrize("name", SETS)
def test_gives_the_numbers_of_opensmile_in_one_frame(name: str) -> None:
    waves = [voice(1.0), voice(0.4, 230.0)]
    made = feature(name)
    found = made(Padded.stack(waves))
    assert found.data.shape == (2, 1, SETS[name])
    assert made.width == SETS[name]
    assert found.length.tolist() == [1, 1]
    for row, wave in zip(found.data[:, 0], waves, strict=True):
        assert row.any()
        assert torch.equal(row, own(wave, name))


def test_takes_the_rate_of_the_run() -> None:
    wave = voice(0.5, rate=44_100)
    found = feature(rate=44_100)(Padded.stack([wave])).data[0, 0]
    assert torch.equal(found, own(wave, "eGeMAPSv02", 44_100))
    assert not torch.allclose(found, own(wave, "eGeMAPSv02", 16_000))


def test_full_scale_does_not_change_its_sign() -> None:
    wave = (3 * voice(0.5)).clamp(-1, 1)
    wave[wave > 0.5] = 1.0
    found = feature()(Padded.stack([wave])).data[0, 0]
    assert torch.equal(found, own(wave.clamp(max=32767 / 32768), "eGeMAPSv02"))
    assert not torch.allclose(found, own(wave, "eGeMAPSv02"))  # opensmile lets 1.0 become -1.0


def test_silence_has_functionals() -> None:
    assert feature()(Padded(torch.zeros(1, RATE), torch.tensor([RATE]))).data.isfinite().all()


@pytest.mark.parametrize("size", [1, 959])
def test_a_wave_under_60_ms_is_refused_with_the_mend(size: int) -> None:
    with pytest.raises(InputError, match=r"too short; eGeMAPSv02 needs 0.06 s. Set audio.min_seconds"):
        feature()(Padded.stack([voice(0.5), voice(0.5)[:size]]))


def test_a_wave_of_60_ms_is_taken() -> None:
    assert feature()(Padded.stack([voice(0.06)])).data.isfinite().all()


def test_samples_that_are_no_numbers_are_refused() -> None:
    wave = voice(0.5)
    wave[10] = torch.nan
    with pytest.raises(InputError, match="samples that are no numbers"):
        feature()(Padded.stack([wave]))


def test_functionals_that_are_no_numbers_are_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = feature()
    values = own(voice(0.5), "eGeMAPSv02")
    values[2] = torch.inf
    monkeypatch.setattr(opensmile.Smile, "__call__", lambda self, signal, rate: values.numpy()[None, :, None])
    with pytest.raises(InputError, match=r"1 of 88 functionals .* 'F0semitoneFrom27.5Hz_sma3nz_percentile20.0'"):
        made(Padded.stack([voice(0.5)]))


def test_an_unknown_set_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"set must be eGeMAPSv02 \| ComParE_2016, got 'emobase'"):
        feature("emobase")


def test_the_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(SertkError, match="needs the package opensmile, which does not load"):
        feature()


def test_goes_to_another_process_and_gives_the_same() -> None:
    made, rows = feature(), Padded.stack([voice(0.5)])
    assert torch.equal(pickle.loads(pickle.dumps(made))(rows).data, made(rows).data)


@pytest.mark.parametrize("setting", [{"crop": {"length": 1.0}}, {"segments": "1s:1s"}], ids=["crop", "segments"])
def test_pieces_in_seconds_are_refused(setting: dict[str, object]) -> None:
    settings = merge.load(str(SYSTEMS / "egemaps-svm.yaml"), overrides=setting)
    with pytest.raises(UsageError, match=r"crop cuts nothing|frame"):
        build.make_body(Plugins(), settings)


# ---------------------------------------------------------------- the loss


def hinge(values: Tensor, soft: Tensor, weight: Tensor | None = None) -> Tensor:
    """The loss of rows with these values of the head."""
    rows, classes = values.shape
    loss: Loss = Plugins().make("loss", "hinge", Task(tuple("abcdefgh"[:classes])), Dims(1, 1))
    frames, ones = Padded(torch.zeros(rows, 1, 1), torch.ones(rows, dtype=torch.int64)), torch.ones(rows)
    view = View(frames, torch.zeros(rows, 1), {"emotion": values}, torch.arange(rows), ones.long())
    return loss({WHOLE: view}, Target(soft, ones if weight is None else weight), {})


def test_is_the_squared_distance_from_the_margins_of_every_class() -> None:
    # label b: (1 - 0.25)^2 for b, (1 + 0.5)^2 for a, nothing for c, which is beyond its margin
    found = hinge(torch.tensor([[0.5, 0.25, -2.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
    assert float(found) == pytest.approx(0.5625 + 2.25)


def test_a_soft_label_shares_each_class_between_both_sides() -> None:
    # of class a 0.75 (1 - 0.5)^2 + 0.25 (1 + 0.5)^2, of class b 0.25 (1 + 1)^2 and nothing below its margin
    found = hinge(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.75, 0.25]]))
    assert float(found) == pytest.approx(0.1875 + 0.5625 + 1.0)


def test_is_the_mean_over_rows_without_companions() -> None:
    values = torch.tensor([[1.0, -1.0], [0.0, 0.0], [-9.0, 9.0]])
    found = hinge(values, torch.tensor([[1.0, 0.0]] * 3), torch.tensor([1.0, 1.0, 0.0]))
    assert float(found) == pytest.approx((0.0 + 2.0) / 2)


def test_with_weight_decay_its_minimum_is_that_of_linear_svc() -> None:
    draw = torch.Generator().manual_seed(1)
    label = torch.arange(60) % 3
    x = torch.randn(60, 5, generator=draw) + torch.eye(3, 5)[label]
    svc = LinearSVC(C=0.05, tol=1e-8, max_iter=100_000).fit(x.numpy(), label.numpy())
    head = torch.nn.Linear(5, 3)
    head.weight.data, head.bias.data = (torch.from_numpy(v).float() for v in (svc.coef_, svc.intercept_))
    hinge(head(x), torch.eye(3)[label]).backward()
    decay = 1 / (0.05 * 60)  # lambda = 1 / (C R)
    for parameter in head.parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, -decay * parameter.data, atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------- the systems


@pytest.mark.parametrize(("system", "name"), [("egemaps-svm", "eGeMAPSv02"), ("compare-svm", "ComParE_2016")])
def test_a_system_is_a_linear_model_of_its_set(system: str, name: str) -> None:
    settings, plugins = merge.load(str(SYSTEMS / f"{system}.yaml"), overrides={"train.device": "cpu"}), Plugins()
    rehearse(plugins, settings, ("anger", "neutral"))
    model = make_parts(plugins, settings, Task(("anger", "neutral"))).model
    assert sum(one.numel() for one in model.parameters()) == 2 * (SETS[name] + 1)
    assert list(model.normalize) == ["opensmile"]
    assert settings.train.optimizer.name == "adam"  # adamw's decay is not the SVM's


QUICK = {"train.epochs": 12, "train.batch": 8, "train.optimizer.lr": 0.03, "train.device": "cpu"}


def test_trains_and_scores_from_end_to_end(tmp_path: Path) -> None:
    folder = tone_corpus(tmp_path / "tones", 8, 1)
    assert prepare("ravdess", folder, tmp_path / "data", [], 0.1, 1) == 0
    data, path = Data(tmp_path / "data"), str(SYSTEMS / "egemaps-svm.yaml")
    settings = merge.load(path, None, {**QUICK, "fold": "1"})
    featurize(data, settings, 1)
    store, first = stores(data.folder, settings, Plugins())["opensmile"], next(iter(data.utterances.values()))
    wave = audio.read(data.root / first.path, first.id, settings.audio)
    assert torch.equal(store[data.facts[first.id].sha256][0], own(wave, "eGeMAPSv02"))

    train(settings, data, tmp_path / "run")
    assert score(tmp_path / "run/model", [str(data.folder)], tmp_path / "run/scores.jsonl", device="cpu") == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["utterances"] == 2 * 8
    assert metrics["metrics"]["ua"] > 0.8

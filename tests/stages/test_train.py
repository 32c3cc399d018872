"""Several folds and seeds in one process: each run as it is alone, and a failure ends only itself."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import shutil
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.core import SertkError, UsageError
from sertk.core.files import write_json
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import to_json
from sertk.settings import merge
from sertk.training.checkpoint import Checkpoints

PLUGIN = '''
import os

import torch
from torch import nn

from sertk.core import Feature, Padded
from sertk.hookspecs import hookimpl


class Plain(Feature):
    """The loudest samples of every 100 ms; it is always the same, and a process needs it once."""

    def __init__(self, rate):
        with open(os.environ["MADE"], "a") as file:
            file.write("x")
        self.width, self.frame_seconds = 5, 0.1

    def __call__(self, inputs):
        wave = inputs.data[:, : inputs.data.shape[1] // 1600 * 1600]
        loudest = wave.reshape(len(wave), -1, 1600).abs().topk(5, 2).values
        return Padded(loudest, (inputs.length // 1600).clamp(min=1, max=loudest.shape[1]))


class Drawn(Plain):
    """It draws random numbers when it is made, as a checkpoint's model does before its weights are read."""

    def __init__(self, rate):
        super().__init__(rate)
        self.layer = nn.Linear(1, 7)  # 14 parameters
        nn.init.constant_(self.layer.weight, 0.5)
        nn.init.constant_(self.layer.bias, 0.0)


class Fitted(Plain):
    """It adds up what it was fitted on."""

    def __init__(self, rate):
        super().__init__(rate)
        self.seen = 0

    def fit(self, utterances, wave):
        self.seen += sum(int(one.speaker) for one in utterances)

    def files(self):
        return {"seen": str(self.seen).encode()}


@hookimpl
def sertk_features():
    return {"drawn": Drawn, "fitted": Fitted, "plain": Plain}
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugin") / "mine.py"
    file.write_text(PLUGIN)
    return file


def train(data: Path | Data, out: Path, folds: str | None, seeds: str | None, **more: Any) -> int:  # noqa: ANN401
    """Trains mini-cnn for an epoch."""
    from sertk.stages.train import train as stage  # late: see test_recipe

    force, files = more.pop("force", False), more.pop("files", ())
    settings = {"protocol": "emobox", "train.epochs": 1, "train.threads": 1, **more}
    found = data if isinstance(data, Data) else Data(data)
    return stage(
        merge.load("mini-cnn", None, settings, plugins=files), found, out, folds=folds, seeds=seeds, force=force
    )


FRAMES = {"backbone": {"name": "frames"}}


def weights(run: Path) -> bytes:
    return (run / "model/model.safetensors").read_bytes()


def failed(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "failed.json").read_text())
    return found


def runs(out: Path) -> list[str]:
    """The runs that are trained."""
    return sorted(str(path.parents[1].relative_to(out)) for path in out.glob("fold=*/seed=*/model/bundle.json"))


def test_runs_of_one_process_are_what_they_are_alone(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "all", "1,2", "0-1") == 0
    names = [f"fold={fold}/seed={seed}" for fold in (1, 2) for seed in (0, 1)]
    assert runs(tmp_path / "all") == names
    for fold, seed in ((2, 0), (1, 1)):
        assert train(data, tmp_path / f"{fold}{seed}", str(fold), str(seed)) == 0
        alone, among = tmp_path / f"{fold}{seed}", tmp_path / f"all/fold={fold}/seed={seed}"
        assert weights(alone) == weights(among)
        for name in ("config.yaml", "run.json", "log.jsonl", "model/bundle.json"):
            assert (alone / name).read_text() == (among / name).read_text()
    assert len({weights(tmp_path / "all" / name) for name in names}) == 4


def test_what_is_said_of_a_run_names_its_fold_and_seed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(data, tmp_path, "1,2", None, **FRAMES)
    said = [line for line in capsys.readouterr().err.splitlines() if "epoch 1 of at most" in line]
    assert [line.partition(": epoch")[0][-14:] for line in said] == ["fold 1, seed 0", "fold 2, seed 0"]


def test_a_fold_and_a_seed_of_the_settings_are_a_run_in_the_folder_itself(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "run", None, None, fold="2", seed=3, **FRAMES) == 0
    about = json.loads((tmp_path / "run/model/bundle.json").read_text())
    assert (about["protocol"]["fold"], about["training"]["seed"]) == ("2", 3)


@pytest.fixture
def mine(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the corpus, to be changed."""
    return Path(shutil.copytree(data, tmp_path_factory.mktemp("mine") / "data"))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("plain", 1),  # for both runs
        (
            "drawn",
            4,
        ),  # once to find out that it moves the generator of the first weights, for its store, and by each run
        ("fitted", 3),  # once to look at it, and by each run
    ],
)
def test_features_are_shared_where_no_run_can_tell(
    mine: Path, tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch, name: str, made: int
) -> None:
    from sertk.stages.featurize import featurize

    count = tmp_path / "made"
    monkeypatch.setenv("MADE", str(count))
    inputs = {"inputs": {"mel": {"name": name}}, "files": [plugin]}
    featurize(Data(mine), merge.load("mini-cnn", None, {"inputs": inputs["inputs"]}, plugins=[plugin]), 1)
    count.unlink()
    train(mine, tmp_path / "all", "1,2", None, **inputs)
    assert len(count.read_text()) == made + 1  # the rehearsal makes one on the meta device
    train(mine, tmp_path / "alone", "2", None, **inputs)
    among, alone = tmp_path / "all/fold=2/seed=0", tmp_path / "alone"
    assert weights(among) == weights(alone)
    assert (among / "model/bundle.json").read_text() == (alone / "model/bundle.json").read_text()


@pytest.fixture
def spoilt(mine: Path) -> Data:
    """The corpus with a second fold that lacks a class in train."""
    found = Data(mine)
    folds = found.protocol("emobox")
    kept = tuple(i for i in folds.folds["2"].train if folds.labels[i] != "calm")
    second = folds.folds["2"]._replace(train=kept)
    path = mine / "protocols/spoilt.json"
    write_json(path, to_json(replace(folds, name="spoilt", folds={**folds.folds, "2": second})))
    return Data(mine)


def test_a_run_that_fails_ends_only_itself_and_goes_on_later(
    spoilt: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sertk.training import hearing

    out, calls = tmp_path / "system", Counter[str]()
    normalize = hearing.fit_inputs

    def ill(*parts: Any) -> None:  # noqa: ANN401
        calls["all"] += 1
        if calls["all"] == 2:
            raise ZeroDivisionError("a bug")
        normalize(*parts)

    monkeypatch.setattr(hearing, "fit_inputs", ill)
    assert train(spoilt, out, "1,2,3", "0,1", protocol="spoilt", **FRAMES) == 3
    assert runs(out) == ["fold=1/seed=0", "fold=3/seed=0", "fold=3/seed=1"]
    assert failed(out / "fold=1/seed=1") == {
        "schema": 1,
        "stage": "train",
        "error": "ZeroDivisionError: a bug. This is a bug of sertk or of a plugin: run again with `sertk --debug ...`.",
    }
    for seed in (0, 1):
        assert "no training utterance is of class calm" in failed(out / f"fold=2/seed={seed}")["error"]
    done = {name: (out / name / "model/bundle.json").stat().st_mtime_ns for name in runs(out)}

    assert train(spoilt, out, "1,3", "0,1", protocol="spoilt", **FRAMES) == 0
    assert runs(out) == ["fold=1/seed=0", "fold=1/seed=1", "fold=3/seed=0", "fold=3/seed=1"]
    assert not (out / "fold=1/seed=1/failed.json").exists()
    assert all((out / name / "model/bundle.json").stat().st_mtime_ns == time for name, time in done.items())


def test_a_run_that_another_process_trains_is_left_to_it(data: Path, tmp_path: Path) -> None:
    (tmp_path / "fold=1").mkdir()
    with (tmp_path / "fold=1/.seed=0.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert train(data, tmp_path, "1", "0-1", **FRAMES) == 1
    assert runs(tmp_path) == ["fold=1/seed=1"]
    assert not (tmp_path / "fold=1/seed=0").exists()


def test_a_folder_of_another_run_gets_no_word_of_a_failure(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "fold=1/seed=0"
    train(data, out, "1", "0", **FRAMES)
    # 3 would say that those without failed.json are done
    with pytest.raises(SertkError, match=r"fold=1/seed=0 is a run with other settings \(train\.batch: .* 7 now"):
        train(data, tmp_path, "1,2", None, **FRAMES, **{"train.batch": 7})
    assert not (out / "failed.json").exists()
    assert runs(tmp_path) == ["fold=1/seed=0", "fold=2/seed=0"]
    assert train(data, tmp_path, "1,2", None, **FRAMES, **{"train.batch": 7}, force=True) == 0


@pytest.mark.parametrize("seeds", ["0", "0,1"])
def test_where_no_run_is_done_the_error_is_that_of_the_first(spoilt: Data, tmp_path: Path, seeds: str) -> None:
    with pytest.raises(SertkError, match="no training utterance is of class calm"):
        train(spoilt, tmp_path, "2", seeds, protocol="spoilt", **FRAMES)


def command(data: Path, out: Path, *more: str) -> list[str]:
    words = ["train", str(data), "--system", "mini-cnn", "--protocol", "spoilt", "--out", str(out)]
    return [*words, "--set", "train.epochs=1", "--set", "backbone={name: frames}", *more]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--fold", "1,2", "--seed", "0"), 3),
        (("--fold", "1,#3", "--seed", "0"), 0),
        (("--fold", "2", "--seed", "0-1"), 1),
        (("--fold", "1,7", "--seed", "0"), 2),
        (("--fold", "1", "--seed", "3-1"), 2),
        (("--seed", "3"), 2),
        (("--fold", "all", "--set", "pooling=men"), 2),
    ],
)
def test_exit_codes(spoilt: Data, tmp_path: Path, more: tuple[str, ...], code: int) -> None:
    assert CliRunner().invoke(app, command(spoilt.folder, tmp_path / "out", *more)).exit_code == code
    assert (tmp_path / "out").exists() == (code != 2)  # what is wrong for all is said before the first


def test_a_missing_fold_is_asked_for_with_what_there_is(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no fold is given\. Give --fold with one or more of 1, 2, .*, #n by position, or all"
    ):
        train(data, tmp_path, None, "0-4")
    with pytest.raises(UsageError, match="no fold '7'"):
        train(data, tmp_path, "1,7", "0-4")
    assert not list(tmp_path.iterdir())


def test_an_interrupt_ends_all(spoilt: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sertk.training.loop import EmotionBrain

    def interrupted(*_: Any) -> None:  # noqa: ANN401
        raise KeyboardInterrupt

    monkeypatch.setattr(EmotionBrain, "train_on", interrupted)
    done = CliRunner().invoke(app, command(spoilt.folder, tmp_path / "out", "--fold", "1,3"))
    assert done.exit_code == 130
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fold=1"]
    assert not list((tmp_path / "out").rglob("failed.json"))


def test_a_run_leaves_no_model_in_memory_though_it_failed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sertk.training import hearing, run

    kept, alive = [], []
    make, normalize, enabled = run.make_parts, hearing.fit_inputs, gc.isenabled()

    def noted(*given: Any) -> Any:  # noqa: ANN401
        alive.append(sum(one() is not None for one in kept))
        made = make(*given)
        kept.append(weakref.ref(made.model))
        return made

    def ill(*given: Any) -> None:  # noqa: ANN401
        if len(kept) == 2:
            raise SertkError("ill")
        normalize(*given)

    monkeypatch.setattr(run, "make_parts", noted)
    monkeypatch.setattr(hearing, "fit_inputs", ill)
    gc.disable()  # which might come too late
    try:
        assert train(data, tmp_path, "1", "0-2", **FRAMES) == 1
    finally:
        gc.enable() if enabled else None
    assert alive == [0, 0, 0]


def saves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Where in the run checkpoints are written: batch of the epoch, optimizer step."""
    found = []

    def noted(self: Checkpoints, state: dict[str, Any]) -> None:
        found.append((state["counters"]["step"], state["counters"]["optimizer_step"]))

    monkeypatch.setattr(Checkpoints, "save", noted)
    return found


def test_a_run_of_seconds_writes_no_checkpoint_and_its_whole_log(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = saves(monkeypatch)
    train(data, tmp_path, "1", "0", **FRAMES, **{"train.epochs": 3, "train.checkpoint_steps": 1})
    assert found == []
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("seconds", "steps", "expected"),
    [
        # two epochs of six steps of a second
        (4, 1, [(4, 4), (2, 8), (0, 12)]),
        (7, 1, [(1, 7)]),
        (4, 5, [(5, 5), (4, 10)]),  # as many steps must have passed, too
        (4, 0, [(0, 6), (0, 12)]),  # at the end of an epoch alone
        (13, 1, []),
    ],
)
def test_checkpoints_are_as_far_apart_as_a_kill_may_cost(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    steps: int,
    expected: list[tuple[int, int]],
) -> None:
    from sertk.training import loop

    clock = Counter[str]()
    begin: Callable[..., None] = loop.EmotionBrain.on_fit_batch_start

    def later(self: Any, *given: Any) -> None:  # noqa: ANN401
        clock["now"] += 1
        begin(self, *given)

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return float(clock["now"])

    monkeypatch.setattr(loop.EmotionBrain, "on_fit_batch_start", later)
    monkeypatch.setattr(loop, "time", Clock)
    found = saves(monkeypatch)
    how = {"train.checkpoint_seconds": seconds, "train.checkpoint_steps": steps}
    train(data, tmp_path, "1", "0", **FRAMES, **how, **{"train.epochs": 2, "train.batch": 16})
    assert found == expected


def test_what_a_run_cost_is_written_down(
    mine: Path, tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sertk.stages.featurize import featurize

    monkeypatch.setenv("MADE", os.devnull)
    inputs = {"inputs": {"mel": {"name": "drawn"}}, **FRAMES}
    featurize(Data(mine), merge.load("mini-cnn", None, inputs, plugins=[plugin]), 1)
    train(mine, tmp_path, "1", "0", **inputs, files=[plugin])
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert 0 < cost.pop("seconds") < 60
    assert 5e7 < cost.pop("memory") < 1e11  # bytes, and torch alone takes more than 50 MB
    assert cost.pop("device").startswith("cpu, ")
    assert cost.pop("resumed") is False
    # 5 values an utterance and a bias, for 8 classes; and the 14 of the feature's layer, which no run trains
    assert cost == {"schema": 1, "parameters": 8 * 6 + 14, "trained": 8 * 6}


def test_what_is_frozen_of_a_model_is_not_trained(tmp_path: Path) -> None:
    from sertk.training.record import _write_cost

    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    _write_cost(tmp_path, SimpleNamespace(model=model, frontend=SimpleNamespace(features={})), 1.5, resumed=True)  # type: ignore[arg-type]
    found = json.loads((tmp_path / "cost.json").read_text())
    assert (found["seconds"], found["resumed"]) == (1.5, True)
    assert (found["parameters"], found["trained"]) == (16 + 10, 10)

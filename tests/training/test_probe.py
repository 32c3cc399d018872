"""`train.warm_start: probe`: the emotion head begins as scikit-learn's classifier of the embeddings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sertk.core import UsageError
from sertk.corpus.prepared import Data
from sertk.plugins import Plugins
from sertk.scoring.embeddings import read
from sertk.settings import merge
from sertk.stages.score import score
from sertk.training.assemble import rehearse
from sertk.training.probe import Probe, classified

PROBED = {
    "protocol": "emobox",
    "fold": "1",
    "backbone": {"name": "frames"},
    "pooling": {"name": "mean_std"},
    "segments": None,
    "augment": [],
    "train.epochs": 1,
    "train.batch": 8,
    "train.threads": 1,
    "train.checkpoint_seconds": 0,
    "train.checkpoint_steps": 1,
    "train.optimizer": {"name": "sgd", "lr": 0.0},
    "train.warm_start": {"name": "probe", "c": 0.05},
}
Array = NDArray[np.float64]


def train(data: Path, out: Path, **more: object) -> Path:
    """Trains a run; gives its bundle."""
    from sertk.stages.train import train as stage  # late: see test_recipe

    stage(merge.load("mini-cnn", None, {**PROBED, **more}), Data(data), out)
    return out / "model"


def embedded(bundle: Path, data: Path, out: Path, ids: Sequence[str]) -> tuple[Array, Array]:
    """(U, E) embeddings and (U, C) posteriors of utterances, as the bundle gives them."""
    score(bundle, [str(Data(data).root)], out, embeddings=out.with_suffix(".safetensors"))
    found = read(out.with_suffix(".safetensors"))
    kept = {Path(name).stem: one for name, one in zip(found.ids, found.rows, strict=True)}
    lines = {Path(line["id"]).stem: line for line in map(json.loads, out.read_text().splitlines())}
    rows = [lines[i]["posterior"] for i in ids]
    return torch.stack([kept[i] for i in ids]).double().numpy(), np.array(rows)


@pytest.mark.parametrize("refit", [False, True])
def test_a_run_that_learns_nothing_decides_as_the_classifier(data: Path, tmp_path: Path, refit: bool) -> None:
    bundle = train(data, tmp_path / "run", **{"train.refit": refit})
    protocol = Data(data).protocol("emobox")
    fold = protocol.fold("1")
    ids = [*fold.train, *fold.dev] if refit else list(fold.train)
    found, posterior = embedded(bundle, data, tmp_path / "scores.jsonl", ids)
    labels = [protocol.labels[i] for i in ids]
    scaler = StandardScaler().fit(found)
    own = LogisticRegression(C=0.05, max_iter=2000)
    own.fit(scaler.transform(found), labels)
    columns = [list(own.classes_).index(name) for name in protocol.classes]
    expected = own.predict_proba(scaler.transform(found))[:, columns]
    np.testing.assert_allclose(posterior, expected, atol=2e-4)
    assert expected.std(0).min() > 0.01, "the classifier must tell utterances apart"


def test_the_windows_of_an_utterance_weigh_as_much_as_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Array, NDArray[np.int64]]] = []
    real = LogisticRegression.fit

    def fit(self: LogisticRegression, x: Array, y: NDArray[np.int64], sample_weight: Array) -> LogisticRegression:
        seen.append((sample_weight, y))
        return real(self, x, y, sample_weight=sample_weight)

    monkeypatch.setattr(LogisticRegression, "fit", fit)
    train(data, tmp_path / "run", segments={"length": "12", "hop": "6"})
    (weight, label), protocol = seen[0], Data(data).protocol("emobox")
    train_ids = protocol.fold("1").train
    assert len(weight) > len(train_ids)
    for number, name in enumerate(protocol.classes):
        utterances = sum(protocol.labels[i] == name for i in train_ids)
        assert weight[label == number].sum() == pytest.approx(utterances)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_weights_give_the_probabilities_of_the_classifier(classes: int, balanced: bool) -> None:
    chance = np.random.default_rng(classes)
    x, y = chance.normal(3.0, [0.1, 1.0, 10.0], (60, 3)), (np.arange(60) % 7).clip(max=classes - 1)
    x[:, 1] += y
    slope, offset, right = classified(Probe(c=1.0), x, y, np.ones(60), balanced=balanced)
    scaled = StandardScaler().fit_transform(x)
    own = LogisticRegression(C=1.0, max_iter=2000, class_weight="balanced" if balanced else None).fit(scaled, y)
    found = (torch.from_numpy(x) @ slope.T + offset).softmax(1).numpy()
    np.testing.assert_allclose(found, own.predict_proba(scaled), atol=1e-4)
    assert right == own.score(scaled, y) > 1 / classes


def test_a_killed_run_goes_on_without_a_second_probe(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sertk.training.loop import EmotionBrain  # late: see test_recipe

    learns = {"train.optimizer": {"name": "sgd", "lr": 0.01}, "train.epochs": 2}
    whole = train(data, tmp_path / "whole", **learns)
    capsys.readouterr()

    class KilledError(BaseException):
        pass

    real, calls = EmotionBrain.on_fit_batch_end, []

    def end(self: EmotionBrain, *given: object) -> None:
        real(self, *given)
        calls.append(self.step)
        if len(calls) == 3:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(EmotionBrain, "on_fit_batch_end", end)
        with pytest.raises(KilledError):
            train(data, tmp_path / "run", **learns)
    assert capsys.readouterr().err.count("warm start: ") == 1
    bundle = train(data, tmp_path / "run", **learns)
    assert "warm start: " not in capsys.readouterr().err
    ours, theirs = (load_file(one / "model.safetensors") for one in (bundle, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"losses": [{"name": "arcface"}]}, "softmax classifier, and this one is head 'cosine'"),
        ({"losses": [{"name": "bce"}]}, "its output map is sigmoid"),
        ({"train.warm_start": {"name": "prob"}}, "no warm start is named 'prob'"),
        ({"train.warm_start": {"name": "probe", "c": 0}}, "c is 0.0; it is above 0"),
        ({"train.warm_start": {"name": "none", "c": 1}}, "takes no 'c'"),
    ],
)
def test_what_cannot_begin_so_is_refused_before_training(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        rehearse(Plugins(), merge.load("mini-cnn", None, {**PROBED, **settings}), ("a", "b", "c"))

"""Runs whose embedding is standardised by speaker: what is heard, when, and that scoring hears the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sertk.core import UsageError
from sertk.core.files import read_json
from sertk.corpus.prepared import Data
from sertk.modeling.model import Model
from sertk.scoring.scorer import Scorer
from sertk.settings import merge
from sertk.stages.score import score
from sertk.training.hearing import Hearing
from sertk.training.state import Training

HEARS = {"normalize": {"mel": "dimension", "embedding": "speaker"}}
QUICK = {"protocol": "emobox", "fold": "1", "train.epochs": 2, "train.threads": 1, "train.batch": 16}
AVERAGE = {"train.ema": 0.9}
PIECES = {"segments": {"length": 20, "hop": 10}}


def train(data: Path, out: Path, **more: object) -> dict[str, Tensor]:
    """The weights of a run."""
    from sertk.stages.train import train as stage  # late: see test_recipe

    stage(merge.load("mini-cnn", None, {**QUICK, **HEARS, **more}), Data(data), out)
    found: dict[str, Tensor] = load_file(out / "model/model.safetensors")
    return found


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def raw(model: Path, data: Path, ids: tuple[str, ...]) -> Tensor:
    """(N, E) what the pooling of a bundle gives of the windows of utterances, one by one."""
    scorer, corpus, found = Scorer(model), Data(data), list[Tensor]()
    own: Model = scorer.bundle.model

    def noted(inputs: Any, names: Any, span: Any) -> dict[str, Tensor]:  # noqa: ANN401
        found.append(own.raw(inputs, span)[0])
        return Model.moments(own, inputs, names, span)

    own.moments = noted  # type: ignore[method-assign, assignment]
    assert len([*scorer.moments(corpus.select([*ids]), corpus.root, 1, [])]) > 0
    return torch.cat(found)


@pytest.mark.parametrize("more", [{}, AVERAGE, {**PIECES, **AVERAGE}, {"train.refit": True}], ids=str)
def test_a_bundle_has_the_statistics_of_its_own_embeddings_of_train(
    data: Path, tmp_path: Path, more: dict[str, object]
) -> None:
    weights, fold = train(data, tmp_path / "run", **more), Data(data).protocol("emobox").folds["1"]
    found = raw(tmp_path / "run/model", data, (*fold.train, *(fold.dev if more.get("train.refit") else ()))).double()
    torch.testing.assert_close(weights["normalize.embedding.mean"], found.mean(0).float(), atol=1e-4, rtol=1e-4)
    scale = found.var(0, correction=0).clamp(min=1e-8).sqrt().float()
    torch.testing.assert_close(weights["normalize.embedding.scale"], scale, atol=1e-4, rtol=1e-3)


def test_each_utterance_has_what_was_heard_of_it(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, take = list[Tensor](), Hearing._take

    def noted(self: Hearing, found: Tensor) -> None:
        taken.append(found)
        take(self, found)

    monkeypatch.setattr(Hearing, "_take", noted)
    train(data, tmp_path / "run", **{"train.epochs": 1, "train.refit": True})
    fold, corpus, scorer = Data(data).protocol("emobox").folds["1"], Data(data), Scorer(tmp_path / "run/model")
    every = corpus.select([*fold.train, *fold.dev])
    found = {
        one.id: row
        for utterances, own in scorer.moments(every, corpus.root, 8, [])
        for one, row in zip(utterances, own["embedding"], strict=True)
    }
    wanted = torch.stack([found[one.id] for one in every]).float()
    torch.testing.assert_close(taken[-1], wanted, atol=1e-3, rtol=1e-3)  # those of the weights that the bundle has
    assert (wanted - wanted.roll(1, 0)).abs().amax(1).min() > 1e-2  # and of each other ones


@pytest.mark.parametrize("more", [{}, {**PIECES, **AVERAGE, "train.curves": True}], ids=str)
def test_dev_is_heard_as_scoring_hears_it(data: Path, tmp_path: Path, more: dict[str, object]) -> None:
    train(data, tmp_path / "run", **more)
    assert score(tmp_path / "run/model", [str(data)], tmp_path / "dev.jsonl", part="dev", device="cpu") == 0
    about = read_json(tmp_path / "dev.metrics.json", "")
    training = read_json(tmp_path / "run/model/bundle.json", "", newer=True)["training"]
    assert about["metrics"]["ua"] == pytest.approx(training["dev"]["ua"], abs=1e-9)
    assert about["protocol"]["speakers"]["how"] == "transductive"
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    for line in log if more else ():
        assert line["curves"]["dev"]["loss"] == pytest.approx(line["dev_loss"], rel=1e-4)


def test_speakers_change_what_is_decided(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "run")
    score(tmp_path / "run/model", [str(data)], tmp_path / "known.jsonl", device="cpu")
    scorer, corpus = Scorer(tmp_path / "run/model"), Data(data)  # it knows no speaker
    known = {one["id"]: one for one in map(json.loads, (tmp_path / "known.jsonl").read_text().splitlines())}
    chosen = corpus.select([*corpus.protocol("emobox").folds["1"].test])
    unknown = {one["id"]: one for one in scorer.lines(chosen, corpus.root, 8, [])}
    assert known.keys() == unknown.keys()
    assert any(known[name]["posterior"] != pytest.approx(unknown[name]["posterior"], abs=1e-3) for name in known)


@pytest.mark.parametrize("more", [{}, AVERAGE, {"train.refit": True}], ids=str)
def test_a_run_that_was_interrupted_inside_an_epoch_ends_with_the_same_bits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, object]
) -> None:
    more |= {"train.checkpoint_steps": 1, "train.checkpoint_seconds": 0, "train.warm_start": {"name": "probe"}}
    whole = train(data, tmp_path / "whole", **more)
    step, calls = Training.step_rates, [0]

    def stopping(self: Training, dev_loss: float | None = None) -> None:
        calls[0] += 1
        if calls[0] in (3, 12, 25):
            raise KeyboardInterrupt
        step(self, dev_loss)

    monkeypatch.setattr(Training, "step_rates", stopping)
    for _ in range(3):
        try:
            train(data, tmp_path / "again", **more)
        except KeyboardInterrupt:
            continue
        break
    assert calls[0] > 12
    assert same(train(data, tmp_path / "again", **more), whole)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "again")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(("more", "passes"), [({}, 1 + 2), (AVERAGE, 1 + 3), ({"train.refit": True}, 3 + 3)], ids=str)
def test_train_is_heard_again_only_where_the_weights_are_others(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, object], passes: int
) -> None:
    heard, refresh = [0], Hearing.refresh

    def counted(self: Hearing, *, others: bool = False) -> None:
        heard[0] += 1
        refresh(self, others=others)

    monkeypatch.setattr(Hearing, "refresh", counted)
    train(data, tmp_path / "run", **{**more, "train.patience": 0})
    # once at the beginning and on dev of each of two epochs; with an average the second epoch hears its own weights; a
    # refit of two epochs hears each at its beginning, and its end
    assert heard[0] == passes


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"crop": {"length": 1.0}}, "is of whole utterances: set crop: null"),
        ({"normalize": {"mel": "speaker", "embedding": "speaker"}}, "of inputs or of the embedding, not of both"),
        ({"normalize": {"embedding": "dimension"}}, "of the embedding it is speaker or none"),
        ({"inputs": {"embedding": {"name": "mel"}}}, "no input can be called 'embedding'"),
        ({"augment": [{"name": "lam"}], "on_augment": "recompute"}, "does not go with"),
        ({"normalize": {"embeding": "speaker"}}, "names the input 'embeding'; did you mean 'embedding'"),
    ],
    ids=str,
)
def test_what_does_not_go_with_it_is_refused(data: Path, tmp_path: Path, more: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        train(data, tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()

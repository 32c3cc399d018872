"""Runs whose inputs are standardised by speaker: what they draw, what dev hears, and that they go on as they were."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sertk.core import Rng
from sertk.corpus.prepared import Data
from sertk.modeling.speakers import Speakers
from sertk.scoring.scorer import Scorer
from sertk.settings import merge
from sertk.stages.featurize import featurize
from sertk.stages.score import score
from sertk.training.state import Training

QUICK = {"protocol": "emobox", "fold": "1", "train.epochs": 2, "train.threads": 1, "backbone": {"name": "frames"}}


def train(data: Path, out: Path, **more: object) -> dict[str, Tensor]:
    """The weights of a run on frames as they are."""
    from sertk.stages.train import train as stage  # late: see test_recipe

    stage(merge.load("mini-cnn", None, {**QUICK, "normalize": "speaker", **more}), Data(data), out)
    found: dict[str, Tensor] = load_file(out / "model/model.safetensors")
    return found


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_with_no_utterance_of_a_speaker_a_run_is_that_of_dimension_to_the_bit(data: Path, tmp_path: Path) -> None:
    last = {"train.select": "last", "train.patience": 0}  # dev hears its speakers, and selects nothing
    plain = train(data, tmp_path / "plain", normalize="dimension", **last)
    none = train(data, tmp_path / "none", **last, **{"speakers.draws": [0]})
    assert same(none, plain)
    some = train(data, tmp_path / "some", **last)
    assert not same(some, plain)
    assert torch.equal(some["normalize.mel.mean"], plain["normalize.mel.mean"])
    bundle = json.loads((tmp_path / "some/model/bundle.json").read_text())["components"]
    assert (bundle["normalize"], bundle["speakers"]["shrink"]) == ("speaker", 10.0)


def test_a_run_that_was_interrupted_draws_as_one_that_was_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"train.batch": 16, "train.checkpoint_steps": 1, "train.checkpoint_seconds": 0}
    whole = train(data, tmp_path / "whole", **more)
    step, left = Training.step_rates, [9]  # of ten or so in an epoch

    def stopping(self: Training, dev_loss: float | None = None) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        step(self, dev_loss)

    monkeypatch.setattr(Training, "step_rates", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "again", **more)
    assert list((tmp_path / "again/checkpoints/select").iterdir())
    monkeypatch.undo()
    assert same(train(data, tmp_path / "again", **more), whole)


def test_train_draws_from_training_utterances_and_dev_hears_all_of_its_own(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[set[str | None], int, tuple[Any, ...]]] = []
    heard: list[Tensor] = []
    init = Speakers.__init__

    def noted(self: Speakers, speakers: Any, found: Any, weight: float, draws: Any = ()) -> None:  # noqa: ANN401
        made.append(({*speakers}, len(speakers), tuple(draws)))
        heard.append(found["mel"])
        init(self, speakers, found, weight, draws)

    monkeypatch.setattr(Speakers, "__init__", noted)
    train(data, tmp_path / "run", **{"train.epochs": 1, "train.refit": True})
    fold, known = Data(data).protocol("emobox").folds["1"], Data(data).utterances
    people = [{known[i].speaker for i in part} for part in (fold.train, fold.dev)]
    draws = (1, 2, 5, 10, 20, "all")
    refit = people[0] | people[1], len(fold.train) + len(fold.dev), draws
    assert made == [(people[0], len(fold.train), draws), (people[1], len(fold.dev), ()), refit]
    # each utterance has its own moments, whatever the order in which they were read; a refit has statistics of its own
    scorer, every = Scorer(tmp_path / "run/model"), Data(data).select([*fold.train, *fold.dev])
    found = {
        one.id: row
        for utterances, own in scorer.moments(every, Data(data).root, 8, [])
        for one, row in zip(utterances, own["mel"], strict=True)
    }
    torch.testing.assert_close(heard[2], torch.stack([found[one.id] for one in every]), atol=1e-3, rtol=1e-3)


def test_a_copy_of_a_row_has_the_speaker_of_its_utterance(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    own = Speakers.__call__

    def noted(self: Speakers, rows: Tensor, rng: Rng) -> dict[str, Tensor]:
        asked.extend(zip(rows.tolist(), rng._keys.tolist(), strict=True))
        return own(self, rows, rng)

    monkeypatch.setattr(Speakers, "__call__", noted)
    train(data, tmp_path / "run", augment="noise:copies=3", on_augment="recompute", **{"train.epochs": 1})
    fold = Data(data).protocol("emobox").folds["1"]
    copies = [(place, i, copy, 1) for place, i in enumerate(fold.train) for copy in range(3)]
    dev = [(place, i, 0, 0) for place, i in enumerate(fold.dev)]
    streams = [
        (place, Rng.for_rows(0, [i], [copy], epoch, "speakers")._keys.item()) for place, i, copy, epoch in copies + dev
    ]
    assert sorted(asked) == sorted(streams)


def test_utterances_without_a_known_speaker_are_counted_and_have_the_statistics_of_training(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    fold = Data(data).protocol("emobox").folds["1"]
    lines = [json.loads(line) for line in (copy / "manifest.jsonl").read_text().splitlines()]
    lines = [{**line, "speaker": "unknown"} if line["id"] in fold.train else line for line in lines]
    (copy / "manifest.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    last = {"train.select": "last", "train.patience": 0}
    none = train(copy, tmp_path / "none", **last)
    said = f"{len(fold.train)} of {len(fold.train)} utterances have no known speaker"
    assert said in " ".join(capsys.readouterr().err.split())
    assert same(none, train(data, tmp_path / "plain", normalize="dimension", **last))


def test_an_input_that_the_backbone_does_not_read_is_not_listened_to(data: Path, tmp_path: Path) -> None:
    inputs = {"mel": {"name": "mel", "n_mels": 40}, "mfcc": {"name": "mfcc", "n_mfcc": 20}}
    both = {"inputs": inputs, "backbone": {"name": "frames", "reads": "mel"}, "train.epochs": 1}
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    featurize(Data(copy), merge.load("mini-cnn", None, {**QUICK, "normalize": "speaker", **both}), 1)
    assert same(train(copy, tmp_path / "both", **both), train(data, tmp_path / "one", **{"train.epochs": 1}))
    assert score(tmp_path / "both/model", [str(copy)], tmp_path / "scores.jsonl", device="cpu") == 0

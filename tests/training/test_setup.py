"""What a run looks at before it trains: the parts of its fold, and the statistics of its inputs."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sertk.core import SertkError
from sertk.core.files import write_json
from sertk.corpus.folding import Fold, subset
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import to_json
from sertk.settings import merge
from sertk.stages.score import score
from sertk.training import assemble, optim

QUICK = {"protocol": "emobox", "fold": "1", "train.epochs": 1, "train.threads": 1, "backbone": {"name": "frames"}}


def train(data: Path, out: Path, **more: object) -> dict[str, torch.Tensor]:
    """The weights of an epoch on frames as they are."""
    from sertk.stages.train import train as stage  # late: see test_recipe

    stage(merge.load("mini-cnn", None, {**QUICK, **more}), Data(data), out)
    found: dict[str, torch.Tensor] = load_file(out / "model/model.safetensors")
    return found


def prepared(data: Path, to: Path, fold: Fold) -> Path:
    """The corpus with a protocol `other` of one fold."""
    copy = Path(shutil.copytree(data, to))
    folds = Data(data).protocol("emobox")
    write_json(copy / "protocols/other.json", to_json(replace(folds, name="other", folds={"1": fold})))
    return copy


@pytest.mark.parametrize("part", ["train", "dev"])
def test_a_fold_without_train_or_dev_is_refused(data: Path, tmp_path: Path, part: str) -> None:
    fold = Data(data).protocol("emobox").folds["1"]
    copy = prepared(data, tmp_path / "data", fold._replace(**{part: ()}))
    with pytest.raises(SertkError, match=f"protocol 'other', fold 1: {part} is empty"):
        train(copy, tmp_path / "run", protocol="other")


def test_a_class_that_train_lacks_is_refused_though_dev_has_it(data: Path, tmp_path: Path) -> None:
    folds = Data(data).protocol("emobox")
    fold = folds.folds["1"]
    kept = tuple(i for i in fold.train if folds.labels[i] != "calm")
    copy = prepared(data, tmp_path / "data", fold._replace(train=kept))
    with pytest.raises(SertkError, match="no training utterance is of class calm: it cannot be learned"):
        train(copy, tmp_path / "run", protocol="other")


def test_a_subset_of_train_is_all_that_a_run_learns_from(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = Data(data).protocol("emobox")
    fold = folds.folds["1"]
    kept = subset(fold.train, folds.labels, 0.25)
    assert 0 < len(kept) < len(fold.train)
    counts: list[list[int]] = []
    plain = assemble.make_mixture

    def noted(*given: Any) -> Any:  # noqa: ANN401
        counts.append(given[2].counts.tolist())
        return plain(*given)

    monkeypatch.setattr(assemble, "make_mixture", noted)
    part = train(data, tmp_path / "part", **{"train.subset": 0.25})
    assert f"train.subset 0.25: {len(kept)} of {len(fold.train)} training utterances" in capsys.readouterr().err
    assert counts[-1] == [sum(folds.labels[i] == name for i in kept) for name in folds.classes]
    # a protocol of those utterances alone gives the same bits
    copy = prepared(data, tmp_path / "data", fold._replace(train=kept))
    alone = train(copy, tmp_path / "alone", protocol="other")
    assert all(torch.equal(part[name], alone[name]) for name in alone)
    bundles = [
        json.loads((tmp_path / name / "model/bundle.json").read_text())["training"] for name in ("part", "alone")
    ]
    assert bundles[0]["seen"] == bundles[1]["seen"]
    capsys.readouterr()
    whole = train(data, tmp_path / "whole", **{"train.subset": 1.0})
    assert "train.subset" not in capsys.readouterr().err
    assert not torch.equal(whole["normalize.mel.mean"], part["normalize.mel.mean"])


def test_a_learned_alpha_is_in_the_log_and_its_last_value_in_the_bundle(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"losses": ["ce", {"name": "triplet", "margin": 0.1}], "alpha": "learned", "train.epochs": 2}
    train(data, tmp_path / "run", **more)
    alphas = [json.loads(line)["alpha"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert 0.5 != alphas[0] != alphas[1]
    assert f"alpha {alphas[1]:.3f}" in capsys.readouterr().err
    weights = json.loads((tmp_path / "run/model/bundle.json").read_text())["training"]["losses"]
    assert weights == {"ce": pytest.approx(1 - alphas[1]), "triplet": pytest.approx(alphas[1])}
    train(data, tmp_path / "fixed", alpha=0.5, losses=more["losses"])
    assert "alpha" not in (tmp_path / "fixed/log.jsonl").read_text()


def test_statistics_are_of_real_frames_and_not_of_what_a_crop_pads(data: Path, tmp_path: Path) -> None:
    whole = train(data, tmp_path / "whole")
    crop = {"length": 1.0, "pad": "silence"}  # three times as long as the utterances
    padded = train(data, tmp_path / "crop", crop=crop)
    for name in ("normalize.mel.mean", "normalize.mel.scale"):
        torch.testing.assert_close(padded[name], whole[name])


def test_statistics_are_by_dimension_or_of_all_dimensions_together(data: Path, tmp_path: Path) -> None:
    each = train(data, tmp_path / "each")
    together = train(data, tmp_path / "together", normalize="scalar")
    mean, scale = each["normalize.mel.mean"].double(), each["normalize.mel.scale"].double()
    assert len(mean.unique()) > 30
    torch.testing.assert_close(together["normalize.mel.mean"].double(), mean.mean().expand(40))
    # of all values: the mean of the variances, and the variance of the means
    deviation = (scale.square().mean() + mean.var(correction=0)).sqrt()
    torch.testing.assert_close(together["normalize.mel.scale"].double(), deviation.expand(40), rtol=1e-4, atol=0)


def test_every_parameter_has_one_optimizer_that_of_its_rate(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, torch.optim.Optimizer]] = []
    plain = optim.make_optimizers

    def noted(*given: Any) -> dict[str, torch.optim.Optimizer]:  # noqa: ANN401
        made.append(plain(*given))
        return made[-1]

    monkeypatch.setattr(optim, "make_optimizers", noted)
    small = {"name": "cnn_transformer", "channels": [8, 8, 8, 8], "layers": 1, "ffn": 8}
    losses = [{"name": "ce"}, {"name": "center", "rate": 0.02, "width": 3}]
    train(data, tmp_path / "run", backbone=small, losses=losses, **{"train.backbone_rate": 0.5})
    by_rate = {
        round(one.param_groups[0]["initial_lr"], 9): [tuple(p.shape) for p in one.param_groups[0]["params"]]
        for one in made[-1].values()
    }
    assert set(by_rate) == {5e-3, 2.5e-3, 0.02}  # the run's, half of it for the backbone, and the centres'
    assert by_rate[0.02] == [(8, 3)]
    assert len(by_rate[5e-3]) == 4  # weight and bias of the head, and of the projection to the centres
    held = [id(p) for one in made[-1].values() for p in one.param_groups[0]["params"]]
    assert len(held) == len(set(held))


def test_the_windows_of_the_decision_are_made_though_no_loss_looks_at_them(data: Path, tmp_path: Path) -> None:
    more = {
        "losses": [{"name": "ce", "at": "whole"}],
        "segments": "8:4",
        "decision": {"name": "mean", "at": "segments"},
    }
    assert train(data, tmp_path / "run", **more)


def test_the_dev_loss_is_the_mean_over_utterances_of_the_log_loss_of_the_scores(data: Path, tmp_path: Path) -> None:
    # 64 dev utterances in 13 batches: a mean of batches would count those of the last one for more
    train(data, tmp_path / "run", **{"score.batch": 5, "train.optimizer": {"name": "sgd", "lr": 1.0}})
    score(tmp_path / "run/model", [str(data)], tmp_path / "dev.jsonl", part="dev")
    lines = [json.loads(line) for line in (tmp_path / "dev.jsonl").read_text().splitlines()]
    classes = Data(data).protocol("emobox").classes
    losses = [-math.log(line["posterior"][classes.index(line["label"])]) for line in lines]
    (log,) = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert len(losses) == 64
    assert log["dev_loss"] == pytest.approx(sum(losses) / 64, rel=1e-4)
    assert log["dev"] == json.loads((tmp_path / "dev.metrics.json").read_text())["metrics"]["ua"]

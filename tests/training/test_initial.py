"""`--init`: a run that continues from the model of another."""

import functools
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.core import SertkError, UsageError, Utterance
from sertk.core.files import write_json
from sertk.corpus import protocols
from sertk.corpus.folding import Fold
from sertk.corpus.prepared import Data
from sertk.settings import merge
from sertk.stages.score import score
from sertk.testing import signed
from sertk.training import initial, record


def train(data: Path, out: Path, *, force: bool = False, **more: object) -> Path:
    """Trains an epoch; gives the bundle."""
    from sertk.stages.train import train as stage  # late: see test_recipe

    settings = {"protocol": "emobox", "fold": "1", "train.epochs": 1, "train.threads": 1, **more}
    stage(merge.load("mini-cnn", None, settings), Data(data), out, force=force)
    return out / "model"


@pytest.fixture(scope="module")
def begun(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to continue from."""
    return train(data, tmp_path_factory.mktemp("begun") / "run")


@pytest.fixture
def mine(begun: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(begun, tmp_path / "begun"))


def still(init: Path) -> dict[str, object]:
    """Settings of a run that learns nothing."""
    return {"train.init": str(init), "train.optimizer": {"name": "sgd", "lr": 0.0}}


def test_the_hash_of_a_bundle_to_begin_with_covers_its_frozen_weights(mine: Path) -> None:
    about, found = json.loads((mine / "bundle.json").read_text()), []
    (mine / "files").mkdir()
    for name in ("0123456789abcdef.safetensors", "fedcba9876543210.safetensors"):
        (mine / "files" / name).write_bytes(b"")
        write_json(mine / "bundle.json", {**about, "frozen": name})
        signed(mine)
        found.append(initial.digest(str(mine)))
    write_json(mine / "bundle.json", {**about, "training": {}})  # which are no weights
    signed(mine)
    assert len({*found, initial.digest(str(mine))}) == 3
    (mine / "files" / name).unlink()
    write_json(mine / "bundle.json", {**about, "frozen": name})
    signed(mine)
    with pytest.raises(UsageError, match=rf"there is no {mine / 'files' / name}\. Give the `model` folder"):
        initial.files(str(mine))


def scores(bundle: Path, corpus: Path, out: Path) -> list[object]:
    assert score(bundle, [str(corpus / "Actor_01")], out) == 0
    return [json.loads(line)["posterior"] for line in out.read_text().splitlines()]


def weights(bundle: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(bundle / "model.safetensors")
    return loaded


@pytest.mark.parametrize("more", [{}, {"train.refit": True}, {"train.ema": 0.98}])
def test_a_run_that_learns_nothing_scores_as_the_bundle_it_began_with(
    begun: Path, data: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, object]
) -> None:
    monkeypatch.setattr("torch.nn.BatchNorm2d", functools.partial(torch.nn.BatchNorm2d, momentum=0.0))
    bundle = train(data, tmp_path / "run", **still(begun), fold="2", seed=3, **more)
    ours, theirs = weights(begun), weights(bundle)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if "tracked" not in name)
    assert scores(bundle, corpus, tmp_path / "a.jsonl") == scores(begun, corpus, tmp_path / "b.jsonl")
    sha = hashlib.sha256((begun / "model.safetensors").read_bytes()).hexdigest()
    assert json.loads((bundle / "bundle.json").read_text())["training"]["init"] == sha
    assert json.loads((tmp_path / "run/run.json").read_text())["init"] == sha


def test_a_bundle_of_another_fold_of_the_corpus_is_told_to_know_more(
    begun: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(data, tmp_path / "same", **still(begun))
    assert "may be among what it was trained on" not in capsys.readouterr().err
    train(data, tmp_path / "other", **still(begun), fold="2")
    assert "trained on fold 1 of emobox" in capsys.readouterr().err


def test_a_bundle_names_the_parts_of_a_union_that_it_learned_from(tmp_path: Path) -> None:
    parts = {"a": "ravdess", "b": "savee", "c": "emodb", "d": 4}
    data = SimpleNamespace(
        utterances={i: Utterance(i, i, "s", None, aux={"corpus": part}) for i, part in parts.items()},
        facts={i: SimpleNamespace(sha256=i * 64) for i in parts},
    )
    write_json(tmp_path / "bundle.json", {"training": {"seen": ["f" * 16], "corpora": ["tess"]}})
    setup: Any = SimpleNamespace(
        fold=Fold(("a", "d"), ("b",), ("c",)),
        settings=SimpleNamespace(train=SimpleNamespace(init=str(tmp_path))),
        shared=SimpleNamespace(data=data),
    )
    found = record._learned_from(setup)
    assert found == {"seen": ["a" * 16, "b" * 16, "d" * 16, "f" * 16], "corpora": ["ravdess", "savee", "tess"]}


def test_a_bundle_has_seen_what_the_bundle_that_it_began_with_had(begun: Path, data: Path, tmp_path: Path) -> None:
    def seen(bundle: Path) -> set[str]:
        return set(json.loads((bundle / "bundle.json").read_text())["training"]["seen"])

    folds, facts = Data(data).protocol("emobox").folds, Data(data).facts
    held = {name: {facts[i].sha256[:16] for i in (*folds[name].train, *folds[name].dev)} for name in "12"}
    bundle = train(data, tmp_path / "run", **still(begun), fold="2")
    assert seen(begun) == held["1"]
    assert seen(bundle) == held["1"] | held["2"]
    assert held["1"] - held["2"]


@pytest.mark.parametrize("other", ["merged", "renamed"])
def test_the_head_starts_anew_for_other_classes(
    begun: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    prepared = Path(shutil.copytree(data, tmp_path / "data"))
    folds = Data(data).protocol("emobox")
    name = {"merged": {"calm": "neutral"}, "renamed": {"calm": "serenity"}}[other]
    labels = {i: name.get(label, label) for i, label in folds.labels.items()}
    changed = replace(folds, name=other, classes=tuple(sorted(set(labels.values()))), labels=labels)
    write_json(prepared / f"protocols/{other}.json", protocols.to_json(changed))
    bundle = train(prepared, tmp_path / "run", **still(begun), protocol=other, seed=1)
    assert "the emotion head is a new one: the bundle's classes are anger, calm," in capsys.readouterr().err
    ours, theirs = weights(begun), weights(bundle)
    for name_ in theirs:
        if name_.startswith("heads.emotion"):
            assert ours[name_].shape != theirs[name_].shape or not torch.equal(ours[name_], theirs[name_])
        elif "running" not in name_ and "tracked" not in name_:
            assert torch.equal(ours[name_], theirs[name_])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"backbone.channels": [8, 32, 32]},
            r"backbone\.\S+ = \(16, 1, 3, 3\), this run has backbone\.\S+ = \(8, 1, 3, 3\)\. Give the run what bundle",
        ),
        ({"backbone.layers": 2}, r"backbone\.\S+ = nothing, this run has backbone\.\S+ = \(96, 32\)"),
        ({"inputs.mel.n_mels": 44}, r"inputs\.mel\.n_mels = 40, this run has inputs\.mel\.n_mels = 44"),
        ({"normalize": "scalar"}, r"normalize = dimension, this run has normalize = scalar"),
        ({"audio.min_seconds": 0.2}, r"audio\.min_seconds = 0\.1, this run has audio\.min_seconds = 0\.2"),
        ({"pooling.project": 8}, r"pooling\.\S+ = nothing, this run has pooling\.\S+ = \(8, \d+\)"),
        ({"losses": [{"name": "arcface"}]}, r"heads\.emotion\.weight = nothing, this run has \S+ = \(8, \d+\)"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(
    begun: Path, data: Path, tmp_path: Path, more: Mapping[str, object], says: str
) -> None:
    with pytest.raises(SertkError, match=says):
        train(data, tmp_path / "run", **{"train.init": str(begun), "on_augment": "recompute", **more})


def test_a_head_of_one_of_the_two_alone_is_no_hindrance(
    begun: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"losses": [{"name": "ce"}, {"name": "aux", "task": "gender"}]}
    train(data, tmp_path / "more", **{"train.init": str(begun)}, **more)
    assert "init: the head 'aux_gender' is a new one" in capsys.readouterr().err
    train(data, tmp_path / "less", **{"train.init": str(tmp_path / "more/model")})
    assert "init: the head 'aux_gender' of the bundle is left out" in capsys.readouterr().err


def test_a_path_that_is_no_bundle_is_told(begun: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no .*bundle\.json\. Give the `model` folder"):
        train(data, tmp_path / "run", **{"train.init": str(begun.parent)})
    with pytest.raises(UsageError, match=r"train\.init is 5"):
        train(data, tmp_path / "run", **{"train.init": 5})


def change(bundle: Path) -> None:
    changed = weights(bundle)
    changed["heads.emotion.layer.1.bias"] += 1
    save_file(changed, bundle / "model.safetensors")
    signed(bundle)


def test_a_changed_bundle_makes_another_run(mine: Path, data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "run", **still(mine))
    change(mine)
    with pytest.raises(SertkError, match=r"began with init .*--force"):
        train(data, tmp_path / "run", **still(mine))
    train(data, tmp_path / "run", **still(mine), force=True)


def test_a_run_is_not_deleted_to_begin_with_its_own_model(data: Path, tmp_path: Path) -> None:
    bundle = train(data, tmp_path / "run")
    with pytest.raises(UsageError, match="which --force would delete"):
        train(data, tmp_path / "run", **still(bundle), force=True)
    assert bundle.exists()


def test_a_recipe_trains_again_where_the_bundle_changed(mine: Path, data: Path, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nfolds: ['1']\ntrain: {epochs: 1, threads: 1}\n"
    )
    shutil.copytree(data, tmp_path / "data/ravdess")
    words = ["recipe", str(tmp_path), "--root", str(corpus), "--stage", "3", "--init", str(mine)]

    def trains() -> bool:
        done = CliRunner().invoke(app, [*words, "--dry-run"])
        assert done.exit_code == 0
        assert "--init BUNDLE" in done.stdout.splitlines()[-1]  # the command that RESULTS.md shows
        return f"--init {mine}" in done.stdout

    assert trains()
    assert CliRunner().invoke(app, [*words, "--stop-stage", "3"]).exit_code == 0
    assert not trains()
    change(mine)
    assert trains()

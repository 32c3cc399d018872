"""What of a bundle is not trained: a file named by its hash, shared between bundles, checked when it is read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sertk.core import HeadSpec, Padded, SertkError
from sertk.modeling import build, bundle
from sertk.modeling.build import Body
from sertk.modeling.model import Model
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.settings.schema import Settings
from sertk.testing import signed

SIZES = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "num_mel_bins": 40}
ABOUT = {
    "classes": ["anger", "neutral", "sadness"],
    "protocol": {"corpus": "toy", "name": "p", "fold": "1", "hash": "0" * 16, "stamp": "speaker-independent"},
    "training": {},
}
PROBE = {"inputs": {"x": {"name": "frozen", "backbone": {"name": "whisper", "config": SIZES}}}, "backbone": "frames"}
TUNED = {"inputs": {"wave": {"name": "wave"}}, "backbone": {"name": "whisper", "config": SIZES, "freeze": 1}}
PLUGINS = Plugins()


def made(kind: dict[str, Any], encoder: int = 0) -> tuple[Model, Body, Settings]:
    """A model that is frozen in part, or behind a frozen feature; its frozen weights follow from a seed."""
    settings = merge.load(None, None, {**kind, "normalize": "none"})
    torch.manual_seed(encoder)
    body = build.make_body(PLUGINS, settings)
    model = build.make_model(PLUGINS, settings, body, {"emotion": HeadSpec("linear", 3)})
    return model.eval(), body, build.portable_settings(settings, body)


def write(folder: Path, kind: dict[str, Any], encoder: int = 0, beside: list[Path] | None = None) -> Path:
    model, body, settings = made(kind, encoder)
    bundle.write(folder, model, body.frontend, settings, ABOUT, PLUGINS, beside or [])
    return folder


def only(folder: Path) -> Path:
    """The one file of files/."""
    (path,) = (folder / "files").iterdir()
    return path


@pytest.mark.parametrize("kind", [PROBE, TUNED], ids=["feature", "lower layers"])
def test_what_is_frozen_is_a_file_named_by_its_hash(kind: dict[str, Any], tmp_path: Path) -> None:
    model, body, settings = made(kind)
    bundle.write(tmp_path / "model", model, body.frontend, settings, ABOUT, PLUGINS)
    path, trained = only(tmp_path / "model"), load_file(tmp_path / "model/model.safetensors")
    assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    learns = {name for name, value in model.named_parameters() if value.requires_grad}
    assert learns <= trained.keys()
    assert not trained.keys() & load_file(path).keys()
    read = bundle.read(tmp_path / "model", PLUGINS)
    for one, other in ((model.state_dict(), read.model.state_dict()), *_features(body, read)):
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert bundle.outline(tmp_path / "model").shapes == shapes


def _features(body: Body, read: bundle.Bundle) -> list[tuple[Any, Any]]:
    ours, theirs = (of.features.get("x") for of in (body.frontend, read.frontend))
    return [(ours._backbone.state_dict(), theirs._backbone.state_dict())] if ours else []  # type: ignore[attr-defined,union-attr]


def test_a_model_that_is_trained_whole_has_no_such_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"inputs": {"mel": {"name": "mel"}}, "backbone": {"name": "frames"}})
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.json", "model.safetensors"]


@pytest.mark.parametrize("kind", [PROBE, TUNED], ids=["feature", "lower layers"])
def test_bundles_beside_each_other_share_it_and_each_can_be_moved_alone(kind: dict[str, Any], tmp_path: Path) -> None:
    first = write(tmp_path / "a/model", kind)
    second = write(tmp_path / "b/model", kind, beside=[tmp_path / "gone", first])
    other = write(tmp_path / "c/model", kind, encoder=1, beside=[first, second])
    assert only(first).samefile(only(second))
    assert only(first).stat().st_nlink == 2
    assert only(other).name != only(first).name
    alone = Path(shutil.copytree(second, tmp_path / "alone"))
    shutil.rmtree(first)
    shutil.rmtree(tmp_path / "b")
    assert only(alone).stat().st_nlink == 1
    assert bundle.read(alone, PLUGINS).classes == ("anger", "neutral", "sadness")


def test_a_bundle_that_is_written_again_leaves_the_others_alone(tmp_path: Path) -> None:
    first = write(tmp_path / "a/model", TUNED)
    second = write(tmp_path / "b/model", TUNED, beside=[first])
    before = only(first).read_bytes()
    write(second, TUNED, encoder=1, beside=[first, second])
    assert only(first).read_bytes() == before
    assert bundle.read(second, PLUGINS)


def test_where_the_file_system_has_no_links_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("sertk.core.files.Path.hardlink_to", refuse)
    first = write(tmp_path / "a/model", TUNED)
    second = write(tmp_path / "b/model", TUNED, beside=[first])
    assert not only(first).samefile(only(second))
    assert only(first).read_bytes() == only(second).read_bytes()


def test_a_damaged_file_is_not_shared_and_not_read(tmp_path: Path) -> None:
    first = write(tmp_path / "a/model", TUNED)
    content = bytearray(only(first).read_bytes())
    content[-1] ^= 1
    only(first).write_bytes(content)
    second = write(tmp_path / "b/model", TUNED, beside=[first])
    assert bundle.read(second, PLUGINS)
    with pytest.raises(SertkError, match=r"is not what it was: the hash of its content is \w{16}, and was "):
        bundle.read(first, PLUGINS)


@pytest.mark.parametrize("kind", [PROBE, TUNED], ids=["feature", "lower layers"])
def test_a_bundle_without_it_is_refused(kind: dict[str, Any], tmp_path: Path) -> None:
    folder = write(tmp_path / "model", kind)
    path = only(folder)
    path.unlink()
    with pytest.raises(SertkError, match=rf"{path} is missing\. Give the `model` folder"):
        bundle.read(folder, PLUGINS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"frozen": "../../0123456789abcdef.safetensors"},
        {"frozen": 7},
        {"files": {"x": {"weights.safetensors": "weights.safetensors"}}},
        {"files": {"x": ["0123456789abcdef"]}},
        {"files": []},
    ],
)
def test_a_bundle_that_names_other_files_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "model", PROBE) / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    signed(path.parent)
    with pytest.raises(SertkError, match="frozen or files does not name files by 16 hex digits"):
        bundle.read(tmp_path / "model", PLUGINS)


@pytest.mark.parametrize("kind", [PROBE, TUNED], ids=["feature", "lower layers"])
def test_every_file_of_weights_is_checked_and_read_once(
    kind: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, check, checked = write(tmp_path / "model", kind), bundle._check_sum, list[str]()
    monkeypatch.setattr(bundle, "_check_sum", lambda path, *more: checked.append(path.name) or check(path, *more))
    bundle.read(folder, PLUGINS)
    assert sorted(checked) == sorted(["model.safetensors", only(folder).name])


def test_the_files_of_a_feature_that_runs_share_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, body, settings = made(PROBE)
    files, calls = body.frontend.features["x"].files, Counter[str]()

    def counted() -> dict[str, bytes]:
        calls["all"] += 1
        return files()

    monkeypatch.setattr(body.frontend.features["x"], "files", counted)
    known: bundle.Kept = {"x": {}}

    def run(name: str) -> Path:
        bundle.write(tmp_path / name, model, body.frontend, settings, ABOUT, PLUGINS, kept=known)
        return only(tmp_path / name)

    first, second = run("one"), run("two")
    assert calls["all"] == 1
    assert first.name == second.name
    assert first.stat().st_ino == second.stat().st_ino
    assert bundle.read(tmp_path / "two", PLUGINS).classes == ("anger", "neutral", "sadness")
    content = second.read_bytes()
    second.write_bytes(content[:-1] + b"!")  # both names of it
    third = run("three")
    assert calls["all"] == 2
    assert third.read_bytes() == content
    shutil.rmtree(tmp_path / "three")
    assert run("four").read_bytes() == content
    assert calls["all"] == 3


def test_the_files_of_other_features_are_those_of_each_run(tmp_path: Path) -> None:
    known: bundle.Kept = {}
    for number in (0, 1):
        model, body, settings = made(PROBE, encoder=number)
        bundle.write(tmp_path / str(number), model, body.frontend, settings, ABOUT, PLUGINS, kept=known)
    assert only(tmp_path / "0").name != only(tmp_path / "1").name
    assert known == {}


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "mel", "n_mels": 24},
        {"name": "mfcc", "n_mfcc": 7},  # whose silence is another value in each dimension
        {"name": "frozen", "backbone": {"name": "whisper", "config": SIZES, "layers": "all"}, "pool": "mean"},
    ],
    ids=lambda spec: spec["name"],
)
def test_a_bundle_describes_its_features_so_that_a_model_is_made_without_them(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    kind = {"inputs": {"x": spec}, "backbone": "frames"}
    folder, feature = write(tmp_path / "model", kind), made(kind)[1].frontend.features["x"]
    told = (bundle.opened(folder, PLUGINS).features or {})["x"]
    for word in ("width", "frame_seconds", "layers", "weights"):
        assert getattr(told, word) == getattr(feature, word)
    assert torch.equal(torch.as_tensor(told.silence), torch.as_tensor(feature.silence))
    shutil.rmtree(folder / "files", ignore_errors=True)  # no weights of a feature are looked at
    read = bundle.read(folder, PLUGINS, stored=True)
    assert read.frontend.inputs()["x"].width == feature.width
    with pytest.raises(SertkError, match="made to read its features from a store was given waves"):
        read.frontend.features["x"](Padded(torch.zeros(1, 800), torch.tensor([800])))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"features": []}, "features is no dict of dicts"),
        ({"features": {"x": 3}}, "features is no dict of dicts"),
        ({"features": {}}, "features describes none; the inputs are x"),
        (
            {"features": {"x": {"width": 16, "layers": True, "silence": None}}},
            "'x': frame_seconds, layers, silence, we",
        ),
    ],
)
def test_a_bundle_that_describes_other_features_is_refused(wrong: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model", PROBE) / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    signed(path.parent)
    with pytest.raises(SertkError, match=says):
        bundle.read(tmp_path / "model", PLUGINS)


def test_a_bundle_has_its_temperature_and_one_without_has_one(tmp_path: Path) -> None:
    warm = write(tmp_path / "warm", {**PROBE, "decision": {"name": "mean", "temperature": 1.75}})
    assert json.loads((warm / "bundle.json").read_text())["components"]["decision"]["temperature"] == 1.75
    assert bundle.read(warm, PLUGINS).decider.temperature == 1.75
    plain = write(tmp_path / "plain", PROBE)
    assert json.loads((plain / "bundle.json").read_text())["components"]["decision"] == {"name": "mean", "at": "whole"}
    assert bundle.read(plain, PLUGINS).decider.temperature == 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0, "decision.temperature is 0; it is above 0"),
        (-1.5, "decision.temperature is -1.5; it is above 0"),
        (1e400, "bundle.json"),  # JSON has no infinity
        (float("nan"), "bundle.json"),
        (True, "decision.temperature is True. It must be a number or fitted"),
        ("warm", "decision.temperature is 'warm'. It must be a number or fitted"),
        (None, "decision.temperature is None. It must be a number or fitted"),
        ("fitted", "decision.temperature is 'fitted'; a bundle has a number above 0"),
    ],
)
def test_a_bundle_with_a_temperature_that_is_none_is_refused(value: object, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model", PROBE) / "bundle.json"
    about = json.loads(path.read_text())
    about["components"]["decision"]["temperature"] = value
    path.write_text(json.dumps(about))
    signed(path.parent)
    with pytest.raises(SertkError, match=says):
        bundle.read(tmp_path / "model", PLUGINS)

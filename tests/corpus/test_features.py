"""The key of a store of features: whatever changes what is computed gives another one."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from sertk.builtin.backbones.frames import Frames
from sertk.builtin.features.spectral import MFCC, Mel
from sertk.core import SertkError
from sertk.corpus.features import Store, stores, write_shard
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.settings.schema import Component

LOUD = """
from sertk.core import Feature, Padded
from sertk.hookspecs import hookimpl


class Loud(Feature):
    def __init__(self, rate, mel: Feature):
        self.mel, self.width, self.frame_seconds = mel, mel.width, mel.frame_seconds

    def __call__(self, inputs):
        return self.mel(Padded(2 * inputs.data, inputs.length))


@hookimpl
def sertk_features():
    return {"loud": Loud}
"""


def key(feature: dict[str, Any], files: tuple[Path, ...] = (), **overrides: object) -> str:
    """The folder of a feature's store."""
    settings = merge.load("mini-cnn", None, overrides)
    inner = {word: value for word, value in feature.items() if word != "name"}
    settings = replace(settings, inputs={"x": Component(feature["name"], inner)})
    return stores(Path("data"), settings, Plugins(files=files))["x"].folder.name


@pytest.mark.parametrize("library", ["sertk", "soxr", "torch", "torchaudio", "transformers"])
def test_another_version_of_what_computes_it_is_another_key(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key({"name": "mel"})
    assert key({"name": "mel"}) == before
    monkeypatch.setattr("sertk.corpus.features.version", lambda name: "99" if name == library else version(name))
    assert key({"name": "mel"}) != before


def test_another_revision_of_a_feature_is_another_key_for_whatever_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    features: dict[str, dict[str, Any]] = {
        "mel": {"name": "mel", "n_mels": 20},
        "mfcc of a mel": {"name": "mfcc", "mel": {"name": "mel"}},
        "mfcc": {"name": "mfcc"},
    }
    before = {name: key(one) for name, one in features.items()}
    monkeypatch.setattr(MFCC, "revision", MFCC.revision + 1)
    changed = {name for name, one in features.items() if key(one) != before[name]}
    assert changed == {"mfcc of a mel", "mfcc"}
    monkeypatch.undo()
    monkeypatch.setattr(Mel, "revision", Mel.revision + 1)
    changed = {name for name, one in features.items() if key(one) != before[name]}
    assert changed == {"mel", "mfcc of a mel"}


def test_mfcc_which_makes_a_mel_of_its_own_has_a_higher_revision_than_mel() -> None:
    assert MFCC.revision > Mel.revision  # so it rises with it


def test_a_revision_of_a_frozen_backbone_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = {"name": "frozen", "backbone": {"name": "frames", "reads": "wave"}}
    before = key(frozen)
    assert key(frozen) == before
    monkeypatch.setattr(Frames, "revision", 2)
    assert key(frozen) != before


def test_an_edited_plugin_file_is_another_key(tmp_path: Path) -> None:
    file = tmp_path / "loud.py"
    file.write_text(LOUD)
    loud = {"name": "loud", "mel": {"name": "mel"}}
    before = key(loud, (file,))
    assert key(loud, (file,)) == before
    file.write_text(LOUD.replace("2 *", "3 *"))
    assert key(loud, (file,)) != before


def test_another_version_of_a_guest_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loud_guest.py").write_text(LOUD)
    about = tmp_path / "loud_guest-1.0.dist-info"
    about.mkdir()
    (about / "entry_points.txt").write_text("[sertk]\nloud = loud_guest\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    loud, found = {"name": "loud", "mel": {"name": "mel"}}, []
    for number in ("1.0", "1.0", "1.1"):
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: loud-guest\nVersion: {number}\n")
        importlib.invalidate_caches()
        found.append(key(loud))
    del sys.modules["loud_guest"]
    assert found[0] == found[1] != found[2]


def test_the_audio_in_front_of_it_is_part_of_the_key() -> None:
    assert key({"name": "mel"}, **{"audio.trim_db": 30.0}) != key({"name": "mel"})


def kept(folder: Path, *frames: int) -> Store:
    """A store of utterances a, b, ... of so many frames, two shards of it; no index."""
    made = {name: torch.randn(size, 3) for name, size in zip("abcdefg", frames, strict=False)}
    names = list(made)
    for part in (names[:2], names[2:]):
        write_shard(folder, {name: made[name] for name in part})
    return Store(folder)


@pytest.mark.parametrize("frames", [(1, 1, 1, 1, 1), (4, 1, 2, 5, 3)], ids=["a frame each", "several frames"])
def test_features_in_memory_are_those_on_disk(tmp_path: Path, frames: tuple[int, ...]) -> None:
    store = kept(tmp_path, *frames)
    loaded = store.loaded(["d", "a", "b", "d", "e", "nowhere"])
    assert loaded is not store
    for shas in (["a"], ["e", "d", "a", "a", "b"], ["c", "a"]):  # c was not asked for: it is read
        ours, theirs = loaded.stack(shas), store.stack(shas)
        assert torch.equal(ours.data, theirs.data)
        assert torch.equal(ours.length, theirs.length)
        assert ours.length.dtype == theirs.length.dtype
    with pytest.raises(SertkError, match="lacks the feature of audio nowhere"):
        loaded.stack(["a", "nowhere"])


def test_more_features_than_memory_is_given_are_read_as_they_come(tmp_path: Path) -> None:
    store = kept(tmp_path, 1, 1, 1, 1, 1)
    first = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors") if "a" in Store(tmp_path))
    assert store.loaded("abcde", first) is not store
    assert store.loaded("abcde", first - 1) is store
    assert store.loaded("cd", first - 1) is not store  # one shard of the two


def test_a_shard_has_the_same_bytes_in_every_run(tmp_path: Path) -> None:
    rows = {f"{place:016x}": torch.full((2, 3), float(place)) for place in range(40)}
    for name in ("a", "b"):
        write_shard(tmp_path / name, rows)
    (one,), (other,) = ((tmp_path / name).glob("*.safetensors") for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()

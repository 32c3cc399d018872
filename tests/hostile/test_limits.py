"""Files that are made to do harm, or were damaged: refused in a moment, with a sentence that names the file."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from sertk.cli.group import _escaped
from sertk.core import SertkError, UsageError
from sertk.core.files import bytes_text, read_json, read_jsonl, sentence
from sertk.corpus.audit import overlap_in_words, undeclared
from sertk.corpus.features import Store, write_shard
from sertk.corpus.folding import read_table
from sertk.modeling import bundle
from sertk.modeling.limits import check_size
from sertk.plugins import Plugins
from sertk.scoring import over_time
from sertk.settings import merge
from sertk.settings.check import settings_of
from sertk.testing import signed
from sertk.training.checkpoint import Checkpoints

BUNDLES = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1"
PLUGINS = Plugins()
SHA, OTHER = "a" * 64, "b" * 64
MOMENT = 5.0
"""Seconds that a refusal may take; alone on a machine each takes less than one."""


@contextmanager
def refused(says: str, kind: type[SertkError] = SertkError) -> Iterator[None]:
    before = time.monotonic()
    with pytest.raises(kind, match=says) as caught:
        yield
    assert time.monotonic() - before < MOMENT
    assert len(str(caught.value)) < 1000


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Imports what the first bundle imports."""
    for name in ("mini-cnn", "whisper-frozen"):
        bundle.read(BUNDLES / name, PLUGINS)


@pytest.fixture(params=["mini-cnn", "whisper-frozen"])
def mine(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A released bundle as this sertk would have written it, to be spoilt."""
    folder = Path(shutil.copytree(BUNDLES / request.param, tmp_path / "model"))
    edit(folder, lambda about: about.update(schema=bundle.BUNDLE_SCHEMA))
    return folder


def edit(folder: Path, change: Callable[[dict[str, Any]], object], *, sign: bool = True) -> None:
    path = folder / "bundle.json"
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))
    if sign:
        signed(folder)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# --- checksums -----------------------------------------------------------------------------------------------------


def test_a_flipped_byte_of_the_weights_is_refused_and_a_whole_bundle_is_read(mine: Path) -> None:
    assert bundle.read(mine, PLUGINS).classes
    flip(mine / "model.safetensors", -3)
    with refused(r"model\.safetensors is not what it was: .* changed or damaged\. Give the `model` folder"):
        bundle.read(mine, PLUGINS)


def test_a_renamed_class_is_refused_and_so_is_a_bundle_that_lost_its_checksums(mine: Path) -> None:
    edit(mine, lambda about: about["classes"].__setitem__(0, "angst"), sign=False)
    with refused("classes is not what was written: it was changed or damaged"):
        bundle.read(mine, PLUGINS)
    edit(mine, lambda about: about.pop("checksums"), sign=False)
    with refused("checksums is lacking or wrong"):
        bundle.read(mine, PLUGINS)


def test_a_key_without_a_checksum_is_refused_where_it_is_one_of_ours(mine: Path) -> None:
    edit(mine, lambda about: about.update(note="from Anna"), sign=False)
    assert bundle.read(mine, PLUGINS).classes
    edit(mine, lambda about: about["checksums"].pop("classes"), sign=False)
    with refused("classes is not what was written"):
        bundle.read(mine, PLUGINS)


def test_the_identity_of_a_bundle_changes_with_its_weights_and_hashes_them_only_where_they_have_no_checksum(
    mine: Path,
) -> None:
    before = bundle.identity(mine)
    flip(mine / "model.safetensors", -3)
    assert bundle.identity(mine) == before  # they are hashed where they are read
    signed(mine)
    assert bundle.identity(mine) != before
    older = [
        bundle.identity(BUNDLES / "mini-cnn"),
        bundle.identity(shutil.copytree(BUNDLES / "mini-cnn", mine / "old")),
    ]
    flip(mine / "old" / "model.safetensors", -3)
    assert older[0] == older[1] != bundle.identity(mine / "old")


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_a_flipped_byte_of_a_feature_is_refused_where_it_is_read(kind: torch.dtype, tmp_path: Path) -> None:
    frames = torch.rand(3, 4).to(kind)
    write_shard(tmp_path / "s", {SHA: frames, OTHER: torch.rand(5, 4).T.contiguous().to(kind)})
    store = Store(tmp_path / "s")
    assert torch.equal(store[SHA], frames)
    (path,) = (tmp_path / "s").glob("*.safetensors")
    shutil.copytree(tmp_path / "s", tmp_path / "t")
    flip(tmp_path / "t" / path.name, -1)  # of the last tensor
    other = Store(tmp_path / "t")
    assert torch.equal(other[SHA], frames)
    with refused(
        rf"feature shard .*{path.name}: the feature of {OTHER[:12]} is not what was written\. Delete its folder"
    ):
        other[OTHER]


def test_a_shard_of_an_older_sertk_which_has_no_checksums_is_read(tmp_path: Path) -> None:
    (tmp_path / "old.safetensors").write_bytes(save({SHA: torch.ones(2, 3)}))
    assert torch.equal(Store(tmp_path)[SHA], torch.ones(2, 3))


def test_a_feature_is_compared_with_its_checksum_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sertk.corpus import features

    write_shard(tmp_path, {SHA: torch.ones(2, 3)})
    store, found, plain = Store(tmp_path), list[str](), features.checksum
    monkeypatch.setattr(features, "checksum", lambda sha, tensor: found.append(sha) or plain(sha, tensor))
    for _ in range(3):
        assert store[SHA].shape == (2, 3)
    assert found == [SHA]


def test_an_index_that_names_the_wrong_shard_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path, {SHA: torch.ones(2, 3)})
    write_shard(tmp_path, {OTHER: torch.ones(2, 3)})
    Store(tmp_path).index()
    lines = [json.loads(line) for line in (tmp_path / "index.jsonl").read_text().splitlines()]
    lines[0]["shard"], lines[1]["shard"] = lines[1]["shard"], lines[0]["shard"]
    (tmp_path / "index.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with refused("feature shard .* Delete its folder and run `sertk featurize` again"):
        Store(tmp_path)[SHA]


@pytest.mark.parametrize("place", [100, -200, -1, -70])  # the archive, its end, the checksum, the mark in front of it
def test_a_flipped_byte_of_a_checkpoint_is_refused(place: int, tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save({"w": torch.arange(300.0)})
    state = kept.latest()
    assert state is not None
    assert torch.equal(state["w"], torch.arange(300.0))
    flip(tmp_path / "00000001.pt", place)
    with refused(r"00000001\.pt cannot be read .*Delete it to go on from the one before"):
        kept.latest()


def test_a_checkpoint_of_an_older_sertk_which_has_no_checksum_is_read(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(3)}, tmp_path / "00000001.pt")
    state = Checkpoints(tmp_path).latest()
    assert state is not None
    assert torch.equal(state["w"], torch.ones(3))


# --- absurd sizes and names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "setting", "value"),
    [
        *[
            ("backbone", word, value)
            for word, value in (("layers", 1_000_000), ("ffn", 10**9), ("channels", [10**7] * 3))
        ],
        ("pooling", "name", {"name": "flam", "heads": 10**9}),
        ("inputs", "mel", {"name": "mel", "n_mels": 10**9}),
        ("inputs", "mel", {"name": "mel", "n_fft": 10**12}),
        ("crop", "length", 1e9),
    ],
)
def test_a_model_far_larger_than_its_weights_is_refused(part: str, setting: str, value: object, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(BUNDLES / "mini-cnn", tmp_path / "model"))

    def change(about: dict[str, Any]) -> None:
        parts = about["components"]
        if setting == "name":
            parts[part] = value
        else:
            parts[part] = {**(parts[part] or {}), setting: value}

    edit(mine, change)
    with refused(r"bundle\.json"):
        bundle.read(mine, PLUGINS)


def test_a_model_of_a_million_layers_is_refused_as_larger_than_its_weights(tmp_path: Path) -> None:
    mine = Path(shutil.copytree(BUNDLES / "mini-cnn", tmp_path / "model"))
    edit(mine, lambda about: about["components"]["backbone"].update(layers=1_000_000))
    with refused("its components make a model far larger than its weights"):
        bundle.read(mine, PLUGINS)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "", ".", "a.b", "x\n"])
def test_the_name_of_an_input_that_is_a_path_is_refused(name: str, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(BUNDLES / "mini-cnn", tmp_path / "model"))
    edit(mine, lambda about: about["components"].update(inputs={name: {"name": "mel"}}))
    with refused("cannot name an input"):
        bundle.read(mine, PLUGINS)
    with refused("cannot name an input", UsageError):
        settings_of({"inputs": {name: {"name": "mel"}}})


@pytest.mark.parametrize("name", ["a.b", "pop", "", "../x"])
def test_the_name_of_a_head_that_torch_cannot_have_is_refused(name: str, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(BUNDLES / "mini-cnn", tmp_path / "model"))
    edit(mine, lambda about: about["heads"].update({name: {"kind": "linear", "out": 2}}))
    with refused(r"no model has the heads|do not fit its components"):
        bundle.read(mine, PLUGINS)


# --- files that never end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bundle.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_part_of_a_bundle_that_is_no_file_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(BUNDLES / "mini-cnn", tmp_path / "model"))
    (mine / name).unlink()
    make(mine / name, kind)
    with refused(rf"{name} is a folder, a pipe or a device, and not a file"):
        bundle.read(mine, PLUGINS)


def make(path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_list_a_shard_or_settings_that_are_no_file_are_refused(kind: str, tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json", "a.yaml", "a.safetensors", "a.csv"):
        make(tmp_path / name, kind)
    with refused(r"a\.jsonl is a folder, a pipe or a device"):
        list(read_jsonl(tmp_path / "a.jsonl", "Correct."))
    with refused(r"a\.json is a folder, a pipe or a device"):
        read_json(tmp_path / "a.json", "Correct.")
    with refused(r"a\.yaml is a folder, a pipe or a device"):
        merge.read(tmp_path / "a.yaml")
    with refused(r"a\.safetensors is a folder, a pipe or a device"):
        Store(tmp_path)[SHA]
    with refused(r"a\.csv is a folder, a pipe or a device"):
        read_table(tmp_path / "a.csv")
    with refused(r"a\.csv is a folder, a pipe or a device"):
        over_time.read(tmp_path / "a.csv")


def test_a_line_of_a_gigabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"id": "1"}\n')
        file.truncate(2**30)  # zeros, none of them on the disk
    with refused(r"a\.jsonl:2: the line is longer than 16777216 characters"):
        list(read_jsonl(path, "Correct."))
    with path.open("ab") as file:
        file.truncate(2**31)
    with refused("bytes, and 1073741824 are read at most"):
        read_json(path, "Correct.")


def test_deep_nesting_and_endless_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, says in (("[" * 100_000 + "]" * 100_000, "nested too deeply"), ("1" * 10_000, "not JSON")):
        path.write_text(f'{{"schema": 1, "x": {text}}}\n')
        with refused(says):
            read_json(path, "Correct.")
        with refused(says):
            list(read_jsonl(path, "Correct."))


@pytest.mark.parametrize("text", ["[" * 100_000, "x: " + "{a: " * 100_000, "- " * 100_000])
def test_deep_nesting_in_settings_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with refused(r"a\.yaml:1: settings are nested 50 times at most"):
        merge.read(tmp_path / "a.yaml")


def test_aliases_that_repeat_each_other_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    with refused(r"a\.yaml:5: .* 20000 values, aliases written out"):  # 10 + 100 + 1,000 + 10,000, and the next
        merge.read(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("\n".join(lines[:3]))
    assert len(merge.read(tmp_path / "a.yaml")["a2"]) == 10


def test_a_power_in_a_reference_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("alpha: 0.5\ntrain:\n  batch: !ref 9**9**9**9\n")
    with refused(r"a\.yaml:3: '\*\*' in a reference is refused"):
        merge.load(config=tmp_path / "a.yaml")


# --- messages ------------------------------------------------------------------------------------------------------


def test_a_file_that_may_not_be_read_is_not_called_one_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")
    closed = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def refuse(*_: object, **__: object) -> None:
        raise closed

    for word in ("open", "read_bytes"):
        monkeypatch.setattr(Path, word, refuse)
    for read in (lambda: read_json(path, "Correct."), lambda: list(read_jsonl(path, "Correct."))):
        with refused(r"Cannot read .*a\.json \(Permission denied\)\. Change its rights"):
            read()
    assert (
        sentence(closed) == f"No right to use {path} (Permission denied). Change its rights (chmod), or choose another."
    )


def test_sizes_are_shown_in_a_unit_that_fits() -> None:
    shown = [bytes_text(count) for count in (0, 812, 40_000, 3_400_000, 5.25e9, 2e12)]
    assert shown == ["0 bytes", "812 bytes", "40.0 kB", "3.4 MB", "5.2 GB", "2.0 TB"]


def test_an_overlap_of_ten_thousand_copies_is_told_in_a_line() -> None:
    copies = " = ".join(f"utterance{n}" for n in range(10_000))
    report = {"1": {"shared": {"audio": {"train+test": [copies]}, "speaker": {}, "session": {}, "text": {}}}}
    (found,) = map(overlap_in_words, undeclared(report, {}))
    assert found.endswith("= utterance9 and 9990 more'")
    assert len(found) < 300


def test_what_a_terminal_takes_for_a_command_is_spelled() -> None:
    assert _escaped("class '\x1b[2J' of a\nb") == "class '\\x1b[2J' of a\nb"


def test_many_small_weights_are_counted_together() -> None:
    def make() -> Iterator[torch.nn.Module]:
        return (torch.nn.Linear(1_000, 1_000) for _ in range(30))  # 30 million values, of a million each

    check_size(make, 40_000_000)
    with pytest.raises(UsageError, match="far larger than its weights"):
        check_size(make, 1_000)

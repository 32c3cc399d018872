"""Whether a step is up to date is found without reading again what nobody touched; whatever was changed is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import IO, Any

import pytest

from sertk.corpus.audio import Facts, to_json
from sertk.recipe import freshness
from sertk.recipe.freshness import Step, fingerprint, fresh, remember, stamp

BUNDLE = Path(__file__).parents[1] / "modeling/bundles/schema-1/mini-cnn"
FROZEN = "0123456789abcdef.safetensors"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose content was read, in a new process as it were."""
    names: list[str] = []
    whole = hashlib.file_digest

    def noted(file: IO[bytes], kind: str) -> Any:  # noqa: ANN401
        names.append(Path(file.name).name)
        return whole(file, kind)  # type: ignore[arg-type]

    monkeypatch.setattr("sertk.recipe.freshness.hashlib.file_digest", noted)
    freshness._hash.cache_clear()
    return names


def done(folder: Path) -> Step:
    """A step that made a bundle with a frozen part from a manifest, stamped."""
    shutil.copytree(BUNDLE, folder / "model")
    about = json.loads((folder / "model/bundle.json").read_text())
    (folder / "model/bundle.json").write_text(json.dumps({**about, "files": {}, "frozen": FROZEN}))
    (folder / "model/files").mkdir()
    (folder / "model/files" / FROZEN).write_bytes(b"frozen")
    (folder / "manifest.jsonl").write_text("{}\n")
    stamp(made := step(folder), fingerprint(made))
    freshness._hash.cache_clear()
    return made


def step(folder: Path) -> Step:
    return Step("train", [], folder / ".train.json", {"a": 1}, [folder / "manifest.jsonl"], [folder / "model"])


def test_files_that_nobody_touched_are_not_read_again(tmp_path: Path, read: list[str]) -> None:
    made = done(tmp_path / "run")
    assert sorted(read) == sorted(["bundle.json", "model.safetensors", FROZEN, "manifest.jsonl"])
    read.clear()
    assert fresh(made)
    assert not read


@pytest.mark.parametrize(
    "name", ["model/model.safetensors", f"model/files/{FROZEN}", "model/bundle.json", "manifest.jsonl"]
)
def test_a_file_changed_in_its_place_is_noticed_though_its_size_is_the_same(tmp_path: Path, name: str) -> None:
    made = done(tmp_path / "run")
    path = tmp_path / "run" / name
    content = bytearray(path.read_bytes())
    content[1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10))
    assert not fresh(made)


def facts(**changed: object) -> str:
    one = Facts(
        "a", "5" * 64, 2.0, 16000, 1, size=2000, mtime=10**18, path="a.wav", start=0.0, asked=None, silent=False
    )
    return json.dumps(to_json(one._replace(**changed))) + "\n"


def heard(folder: Path, line: str) -> str:
    path = folder / "audio.jsonl"
    path.write_text(line)
    return fingerprint(Step("train", [], folder / ".train.json", {}, [path], [])).needs


def test_audio_that_looks_otherwise_and_is_the_same_leaves_a_step_as_it_is(tmp_path: Path) -> None:
    before = heard(tmp_path, facts())
    assert heard(tmp_path, facts(mtime=10**18 + 1)) == heard(tmp_path, facts(size=2044)) == before
    for other in ({"sha256": "6" * 64}, {"id": "b"}, {"start": 0.5}, {"path": "b.wav"}, {"silent": True}):
        assert heard(tmp_path, facts(**other)) != before


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    made = done(tmp_path / "run")
    path, other = tmp_path / "run/model/model.safetensors", tmp_path / "other"
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.replace(path)
    assert not fresh(made)


@pytest.mark.parametrize("name", ["model/model.safetensors", f"model/files/{FROZEN}", "model"])
def test_a_file_that_is_gone_is_noticed(tmp_path: Path, name: str) -> None:
    made = done(tmp_path / "run")
    path = tmp_path / "run" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not fresh(made)


def test_a_copied_folder_is_fresh_and_is_read_once(tmp_path: Path, read: list[str]) -> None:
    done(tmp_path / "run")
    copied = step(Path(shutil.copytree(tmp_path / "run", tmp_path / "copy", copy_function=shutil.copyfile)))
    read.clear()
    assert fresh(copied)
    assert len(read) == 4
    remember(copied)
    freshness._hash.cache_clear()
    read.clear()
    assert fresh(copied)
    assert not read


def test_a_folder_that_cannot_be_written_is_fresh_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = done(tmp_path / "run")
    os.utime(tmp_path / "run/manifest.jsonl")
    text = made.stamp.read_text()

    def refuse(*words: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sertk.core.files.tempfile.mkstemp", refuse)
    assert fresh(made)
    remember(made)
    assert made.stamp.read_text() == text


def test_a_stamp_from_before_hashes_were_kept_counts(tmp_path: Path) -> None:
    made = done(tmp_path / "run")
    old = json.loads(made.stamp.read_text())
    del old["known"]
    made.stamp.write_text(json.dumps(old))
    assert fresh(made)


def test_a_note_beside_the_files_of_a_bundle_is_nobodys_business(tmp_path: Path) -> None:
    made = done(tmp_path / "run")
    (tmp_path / "run/model/README").write_text("mine\n")
    assert fresh(made)

"""Embeddings: what a row is, how the file is laid out, and that nothing else is written over."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from sertk.core import InputError, SertkError, UsageError, Utterance
from sertk.core.files import Record, json_bytes
from sertk.scoring.embeddings import AT_ONCE, BESIDE, KEY, carried, place, read, rows_of, split_off, write
from sertk.scoring.scorer import Scorer
from sertk.scoring.windows import Cutting, Windows

BUNDLES = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1"
RATE = 16_000
IDS = ["x/a.wav", 'b,"\n\0', "ä\udcff"]
ROWS = torch.tensor([[0.0, 1.5], [2.0, -3.25], [4.0, 1e-20]])
LINES = [json_bytes({"schema": 1, "id": name, "decision": "joy"}, "") for name in IDS]


def carrying() -> list[bytes]:
    pairs = zip(LINES, IDS, ROWS, strict=True)
    return [json_bytes(json.loads(line) | carried(name, row), "") for line, name, row in pairs]


# --- the file ---------------------------------------------------------------------------------------------------------


def test_two_lines_read_the_rows_and_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    assert list(split_off(carrying(), path, "b17")) == LINES
    found = load_file(path)
    ids = json.loads(found["ids"].tobytes())
    assert ids == IDS
    np.testing.assert_array_equal(found["embeddings"], ROWS.numpy())
    assert found["embeddings"].dtype == np.float32


def test_the_header_stands_first_and_says_what_the_rows_are_of(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    list(split_off(carrying(), path, "b17"))
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + size])
    assert 8 + size == 512
    assert head["embeddings"] == {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]}
    assert content[512:520] == struct.pack("<2f", 0, 1.5)
    # sha256sum of the three score lines
    import hashlib

    assert head["__metadata__"] == {
        "schema": "1",
        "bundle": "b17",
        "scores": hashlib.sha256(b"".join(LINES)).hexdigest(),
    }
    assert (read(path).bundle, read(path).scores) == ("b17", head["__metadata__"]["scores"])


def test_no_utterance_is_a_file_too(tmp_path: Path) -> None:
    assert list(split_off([], tmp_path / "e.safetensors", "b")) == []
    assert (read(tmp_path / "e.safetensors").ids, list(rows_of(tmp_path / "e.safetensors"))) == ([], [])


def test_lines_that_are_not_all_written_leave_no_file(tmp_path: Path) -> None:
    left = split_off(carrying(), tmp_path / "e.safetensors", "b")
    next(left)
    left.close()  # type: ignore[attr-defined] # it is a generator
    assert list(tmp_path.iterdir()) == []


def test_rows_come_back_as_they_were_written_however_many(tmp_path: Path) -> None:
    count = AT_ONCE + 3
    rows = [struct.pack("<3f", n, n / 2, -n) for n in range(count)]
    pairs = ((json_bytes({"id": str(n)}, ""), row) for n, row in enumerate(rows))
    for _ in write(pairs, tmp_path / "e.safetensors", "b"):
        pass
    assert list(rows_of(tmp_path / "e.safetensors")) == rows
    assert read(tmp_path / "e.safetensors").rows[AT_ONCE + 1].tolist() == [1025, 512.5, -1025]


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\xff" * 64])
def test_what_is_no_file_of_embeddings_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "e.safetensors"
    path.write_bytes(content)
    with pytest.raises(SertkError, match=r"e\.safetensors is .*, and not what --embeddings writes"):
        read(path)


def test_a_file_with_another_number_of_ids_is_refused(tmp_path: Path) -> None:
    path, ids = tmp_path / "e.safetensors", np.frombuffer(b'["a"]', np.uint8)
    about = {"schema": "1", "bundle": "b", "scores": "s"}
    save_file({"embeddings": np.zeros((2, 3), np.float32), "ids": ids}, path, metadata=about)
    with pytest.raises(SertkError, match="not what --embeddings writes"):
        read(path)
    with pytest.raises(SertkError, match="is missing"):
        read(tmp_path / "none.safetensors")


# --- where it goes ----------------------------------------------------------------------------------------------------


def test_beside_is_beside_the_scores() -> None:
    assert place(BESIDE, Path("x/scores.jsonl")) == Path("x/embeddings.safetensors")
    assert place(BESIDE, Path("x/train.jsonl")) == Path("x/train.embeddings.safetensors")
    assert place(None, Path("x/scores.jsonl")) is None
    with pytest.raises(UsageError, match="--embeddings beside needs --out"):
        place(BESIDE, None)


def test_another_form_and_a_file_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"e\.npz is not FILE\.safetensors"):
        place(tmp_path / "e.npz", None)
    weights = tmp_path / "model.safetensors"
    shutil.copy(BUNDLES / "mini-cnn" / "model.safetensors", weights)
    with pytest.raises(UsageError, match=r"would overwrite .*model\.safetensors, which holds no embeddings"):
        place(weights, None)
    weights.write_bytes(b"")
    with pytest.raises(UsageError, match="holds no embeddings"):
        place(weights, None)
    list(split_off(carrying(), tmp_path / "e.safetensors", "b"))
    assert place(tmp_path / "e.safetensors", None) == tmp_path / "e.safetensors"


# --- the rows ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rising tone of 2 s, one of 0.7 s, and one of 2 s whose middle second is silent."""
    folder = tmp_path_factory.mktemp("tones")
    for name, seconds in (("two", 2.0), ("short", 0.7), ("gap", 2.0)):
        steps = np.arange(round(seconds * RATE)) / RATE
        wave = 0.3 * np.sin(2 * np.pi * (200 + 300 * steps) * steps)
        wave *= (np.abs(steps - 1.0) > 0.5) | (name != "gap")
        soundfile.write(folder / f"{name}.wav", wave, RATE)
    return folder


def of(*names: str) -> list[Utterance]:
    return [Utterance(name, f"{name}.wav", "s", None) for name in names]


def changed(folder: Path, components: Mapping[str, object]) -> Path:
    shutil.copytree(BUNDLES / "mini-cnn", folder)
    about = json.loads((folder / "bundle.json").read_text())
    about["components"] |= components
    (folder / "bundle.json").write_text(json.dumps(about))
    return folder


def scored(
    scorer: Scorer, chosen: Sequence[Utterance], root: Path, failed: list[Record] | None = None
) -> dict[str, np.ndarray]:
    """The embedding that each score line carries, by id."""
    from base64 import b64decode

    found = scorer.lines(chosen, root, 5, [] if failed is None else failed)
    return {one["id"]: np.frombuffer(b64decode(one[KEY]), "<f4") for one in found}


def watched(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What the emotion head is given, call by call."""
    seen: list[np.ndarray] = []
    scorer.bundle.model.heads["emotion"].register_forward_pre_hook(lambda _, given: seen.append(given[0].numpy()))
    return seen


def test_a_row_is_what_the_emotion_head_is_given(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(BUNDLES / "whisper-frozen", embeddings=True)
    seen = watched(scorer, monkeypatch)
    found = scored(scorer, of("two", "short"), root)
    ((short, two),) = seen  # batched by length
    np.testing.assert_array_equal(found["two"], two)
    np.testing.assert_array_equal(found["short"], short)
    assert found["two"].dtype == np.float32


def test_a_row_is_the_mean_of_the_segments_that_decide(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    components = {"segments": "16:8:drop", "decision": {"name": "max_probability", "at": "segments"}}
    scorer = Scorer(changed(tmp_path / "model", components), embeddings=True)
    seen = watched(scorer, monkeypatch)
    found = scored(scorer, of("two"), root)
    (segments,) = seen
    assert len(segments) == 5  # 50 frames: 1 + (50 - 16) // 8
    np.testing.assert_allclose(found["two"], segments.astype(np.float64).mean(0), rtol=1e-6)


def test_a_row_of_a_recording_is_the_mean_of_its_windows_without_the_silent_ones(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Scorer(BUNDLES / "whisper-frozen", embeddings=True)
    ends = [Utterance(str(n), "gap.wav", "s", None, start, 0.5 - 1 / RATE) for n, start in enumerate((0.0, 1.5))]
    first, last = scored(alone, ends, root).values()
    cutting = Cutting(Windows(0.5, 0.5), silence=-40.0)
    scorer = Scorer(BUNDLES / "whisper-frozen", cutting=cutting, embeddings=True)
    seen = watched(scorer, monkeypatch)
    found = scored(scorer, of("gap"), root)["gap"]
    assert sum(map(len, seen)) == 2  # of four windows
    np.testing.assert_allclose(found, (first.astype(np.float64) + last) / 2, atol=2e-5)
    assert np.abs(first - last).max() > 0.01


def test_a_line_carries_nothing_where_none_is_asked_for_and_is_the_same_else(root: Path) -> None:
    plain, keeping = (Scorer(BUNDLES / "mini-cnn", embeddings=kept) for kept in (False, True))
    before, after = (list(one.lines(of("two", "short"), root, 5, [])) for one in (plain, keeping))
    assert [{word: value for word, value in one.items() if word != KEY} for one in after] == before
    assert KEY not in before[0]


def test_an_embedding_that_is_not_finite_costs_its_own_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(BUNDLES / "mini-cnn", embeddings=True)
    forward = scorer._forward

    def torn(ids: Sequence[str], *given: Any) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        posterior, logits, embedding = forward(ids, *given)
        embedding[list(ids).index("short"), 0] = torch.inf
        return posterior, logits, embedding

    monkeypatch.setattr(scorer, "_forward", torn)
    failed: list[Record] = []
    assert list(scored(scorer, of("two", "short"), root, failed)) == ["two"]
    assert [one["reason"] for one in failed] == [
        "short: the model gives it an embedding that is not finite. Look at its audio."
    ]
    with pytest.raises(InputError, match="not finite"):
        carried("a", torch.tensor([0.0, torch.nan]))

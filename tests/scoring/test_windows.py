"""Where the windows of a recording lie, how long they are, and which are silent."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sertk.core import SertkError, UsageError
from sertk.modeling import bundle
from sertk.plugins import Plugins
from sertk.scoring.windows import Windows, are_loud, cut, limit, own_windows

BUNDLES = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1"


@pytest.mark.parametrize(
    ("size", "length", "hop", "starts"),
    [
        (13, 4, 3, [0, 3, 6, 9]),  # the last ends with the recording
        (14, 4, 3, [0, 3, 6, 9, 10]),  # and else is moved back
        (12, 4, 4, [0, 4, 8]),
        (9, 4, 4, [0, 4, 5]),
        (4, 4, 2, [0]),
        (5, 4, 2, [0, 1]),
        (15, 2, 5, [0, 5, 10]),  # the next would begin where the recording ends
        (13, 2, 5, [0, 5, 10]),  # the end lies between two windows
        (11, 2, 5, [0, 5, 9]),
    ],
)
@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize("rows", [1, 2, 50])
def test_windows_lie_every_hop_and_the_last_ends_with_the_recording(
    size: int, length: int, hop: int, starts: Sequence[int], block: int, rows: int
) -> None:
    wave = np.arange(size, dtype=np.float32)
    pieces = list(cut((wave[at : at + block] for at in range(0, size, block)), length, hop, rows))
    assert np.concatenate([piece.start for piece in pieces]).tolist() == starts
    assert max(len(piece.start) for piece in pieces) <= rows
    for piece in pieces:
        assert piece.size == length
        # without the last sample
        assert piece.samples.tolist() == [list(range(start, start + length - 1)) for start in piece.start]


def test_a_recording_shorter_than_a_window_is_one_with_all_its_samples() -> None:
    (piece,) = cut([np.arange(2, dtype=np.float32), np.arange(1, dtype=np.float32)], 7, 2, 5)
    assert (piece.start.tolist(), piece.size, piece.samples.tolist()) == ([0], 3, [[0, 1, 0]])
    assert list(cut([], 7, 2, 5)) == []


def test_a_window_comes_before_the_recording_ends() -> None:
    def blocks() -> object:
        yield np.zeros(4, np.float32)
        seen.append("asked for more")
        yield np.zeros(4, np.float32)

    seen: list[str] = []
    next(iter(cut(blocks(), 4, 2, 1)))  # type: ignore[arg-type] # it yields blocks
    assert not seen


def test_no_more_of_a_recording_is_kept_than_the_windows_need() -> None:
    tracemalloc.start()
    for piece in cut((np.zeros(100, np.float32) for _ in range(1_000)), 300, 50, 4):
        last = int(piece.start[-1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last == 100_000 - 300
    assert peak < 200_000  # bytes; the recording has 400,000


@pytest.mark.parametrize("text", ["4:2", "4s", "4s:2", "s:s", "0s:1s", "4s:0.001s", "61s:1s", "infs:1s", "4s:2s:keep"])
def test_windows_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"is not LENGTH:HOP in seconds, for example 4s:2s; each is from 0\.01s to 60s"
    ):
        Windows.parse(text)


def test_windows_are_given_in_seconds() -> None:
    assert Windows.parse("4s:2s") == (4.0, 2.0)
    assert Windows.parse("2.5s:0.25s") == (2.5, 0.25)


def test_a_window_is_silent_by_its_power() -> None:
    samples = np.array([[0.1, -0.1], [0.2, 0.0], [0.0, 0.0]], np.float32)  # -20 dB, -16.99 dB, none
    assert are_loud(samples, None).tolist() == [True, True, True]
    assert are_loud(samples, -19.0).tolist() == [False, True, False]
    assert are_loud(samples, -21.0).tolist() == [True, True, False]


def of(folder: Path, name: str, components: dict[str, object], longest: object = None) -> bundle.Bundle:
    shutil.copytree(BUNDLES / name, folder)
    about = json.loads((folder / "bundle.json").read_text())
    about["components"] |= components
    if longest is not None:
        about["training"]["longest"] = longest
    (folder / "bundle.json").write_text(json.dumps(about))
    return bundle.read(folder, Plugins())


WHOLE = {"segments": None, "decision": {"name": "mean", "at": "whole"}}


@pytest.mark.parametrize(
    ("name", "components", "longest", "windows"),
    [
        ("mini-cnn", {"crop": {"length": 3.0, "hop": 1.5}}, 7.0, (3.0, 1.5)),
        ("mini-cnn", {**WHOLE, "crop": {"length": 2.0}}, 7.0, (2.0, 2.0)),
        ("mini-cnn", {}, 7.0, (0.32, 0.16)),  # segments 8:4 of frames of 40 ms
        ("mini-cnn", WHOLE, 7.0, (7.0, 7.0)),
        ("mini-cnn", WHOLE, 700.0, (60.0, 60.0)),
        ("mini-cnn", WHOLE, None, (10.0, 10.0)),  # an older bundle
        ("whisper-frozen", {}, 7.0, (2.0, 2.0)),  # an encoder of 100 frames of 20 ms
    ],
)
def test_a_models_own_windows_are_its_crop_its_segments_its_limit_or_its_longest_utterance(
    tmp_path: Path, name: str, components: dict[str, object], longest: float | None, windows: tuple[float, float]
) -> None:
    made = of(tmp_path / "model", name, components, longest)
    assert own_windows(made) == pytest.approx(windows)
    assert limit(made) == (np.inf if name == "mini-cnn" else 2.0)


@pytest.mark.parametrize(("crop", "most"), [(None, 4.0), ({"length": 3.0}, np.inf)])
def test_what_an_encoder_takes_is_no_limit_behind_a_crop(
    tmp_path: Path, crop: dict[str, object] | None, most: float
) -> None:
    made = of(tmp_path / "model", "mini-cnn", WHOLE | {"crop": crop}, 7.0)
    made.model.backbone.longest = 4.0
    assert limit(made) == most
    assert own_windows(made) == ((4.0, 4.0) if crop is None else (3.0, 3.0))


@pytest.mark.parametrize("longest", ["7", 0, -1.0, True, [], float("inf"), float("nan")])
def test_a_longest_utterance_that_is_no_length_is_refused(tmp_path: Path, longest: object) -> None:
    with pytest.raises(SertkError, match=r"training\.longest is no number of seconds"):
        of(tmp_path / "model", "mini-cnn", {}, longest)

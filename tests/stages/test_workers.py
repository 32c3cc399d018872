"""Processes that help a stage: what comes out is the same without them, and none of them outlives the stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sertk.core.processes import tie
from sertk.scoring.ahead import ahead
from sertk.scoring.scorer import Scorer
from sertk.stages.score import score

BUNDLE = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1" / "mini-cnn"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")


@pytest.fixture
def scp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven tones, the third no audio, in windows of two."""
    monkeypatch.setattr("sertk.scoring.scorer.WINDOW", 2)
    for number in range(7):
        steps = np.arange((5 + number) * 1600) / 16_000
        soundfile.write(tmp_path / f"{number}.wav", 0.3 * np.sin(2 * np.pi * 200 * (number + 2) * steps), 16_000)
    (tmp_path / "2.wav").write_text("no audio")
    (tmp_path / "wav.scp").write_text("".join(f"u{n} {tmp_path}/{n}.wav\n" for n in range(7)))
    return tmp_path / "wav.scp"


def test_scores_and_failures_are_the_same_with_any_number_of_workers(scp: Path, tmp_path: Path) -> None:
    for workers in range(3):
        assert score(BUNDLE, [str(scp)], tmp_path / f"{workers}/scores.jsonl", workers=workers) == 1
    for name in ("scores.jsonl", "failed.jsonl"):
        plain, *others = ((tmp_path / str(workers) / name).read_bytes() for workers in range(3))
        assert others == [plain, plain]
    assert [json.loads(line)["id"] for line in (tmp_path / "2/failed.jsonl").open()] == ["u2"]
    assert len((tmp_path / "2/scores.jsonl").read_text().splitlines()) == 6


def test_a_run_with_workers_goes_on_where_one_was_killed(
    scp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "out/scores.jsonl", list[str]()
    score(BUNDLE, [str(scp)], tmp_path / "whole/scores.jsonl")
    monkeypatch.setattr("sertk.scoring.parts.Parts.clear", lambda self: None)
    score(BUNDLE, [str(scp)], out)
    (parts,) = out.parent.glob(".*.parts")
    first = min(parts.iterdir(), key=lambda path: "u0" not in path.read_text())
    first.unlink()
    forward = Scorer._forward
    monkeypatch.setattr(Scorer, "_forward", lambda self, ids, *given: seen.extend(ids) or forward(self, ids, *given))
    score(BUNDLE, [str(scp)], out, workers=1)
    assert sorted(seen) == ["u0", "u1"]  # what is gone; u2 fails again
    assert out.read_bytes() == (tmp_path / "whole/scores.jsonl").read_bytes()


def test_items_are_made_in_order_while_the_one_before_is_used_and_no_further_ahead() -> None:
    asked, made, go = list[int](), list[int](), threading.Event()

    def items() -> Iterator[int]:
        for item in (5, 4, 3, 2):
            asked.append(item)
            yield item

    def make(item: int) -> int:
        made.append(item)
        if item == 4:
            go.set()
        return item

    found = ahead(make, items(), 1)
    assert asked == []
    assert next(found) == 5
    assert go.wait(10)  # nobody has asked for it yet
    assert asked == [5, 4]
    assert list(found) == [4, 3, 2]
    assert made == [5, 4, 3, 2]


def test_what_making_an_item_raises_comes_at_its_turn() -> None:
    found = ahead(lambda item: 6 // item, [2, 0, 1], 2)
    assert next(found) == 3
    with pytest.raises(ZeroDivisionError):
        next(found)


# --- killed by kill -9 -----------------------------------------------------------------------------------------------

PARENT = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
import sertk.stages.featurize as featurize, sertk.training.loading as training
from pathlib import Path

def note(*_):
    Path(sys.argv[2], str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    if sys.argv[1] == "train":
        class Rows:
            __getitem__ = note
        next(iter(training.Loader(Rows(), [1, 2], 2, "rows")))
    else:
        featurize._shard = note
        next(featurize._run([1, 2], 2))
"""


@LINUX
@pytest.mark.parametrize("stage", ["train", "featurize"])
def test_workers_end_when_the_stage_is_killed(stage: str, tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "pids").mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), stage, str(tmp_path / "pids")], stderr=subprocess.DEVNULL
    )
    try:
        pids = waited(lambda: [int(path.name) for path in (tmp_path / "pids").iterdir()], 2, 60)
    finally:
        parent.kill()
        parent.wait()
    assert waited(lambda: [pid for pid in pids if not alive(pid)], 2, 2)


def waited(found: Callable[[], list[int]], number: int, seconds: float) -> list[int]:
    """What is found as soon as there are so many."""
    end = time.monotonic() + seconds
    while len(found()) < number:
        assert time.monotonic() < end, found()
        time.sleep(0.02)
    return found()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@LINUX
def test_a_process_whose_parent_is_gone_already_ends_at_once() -> None:
    child = os.fork()
    if not child:
        tie(os.getppid() + 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1

"""`sertk prepare` beside reading audio headers alone, on a corpus made up: prepare.py [--files 20000] [--seconds 3].

The files are WAV noise of 40 speakers in four class folders; each way is run in turn, imports are not counted, and each
figure is the median.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
import soundfile

from sertk.stages.prepare import prepare
from sertk.testing.trees.audio import clip

CORPUS = "folder:speaker=(s[0-9]+)/"
CLASSES = ("anger", "happiness", "neutral", "sadness")


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a file")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    ask = parser.parse_args()
    print(harness.machine("sertk", "numpy", "soundfile"))
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as folder:
        root, out = Path(folder) / "corpus", Path(folder) / "data"
        for n in range(ask.files):
            clip(root / CLASSES[n % 4] / f"s{n // 4 % 40}" / f"{n}.wav", n, ask.seconds)
        paths = sorted(root.rglob("*.wav"))
        ways: dict[str, Callable[[], object]] = {
            "headers alone": lambda: [soundfile.info(path) for path in paths],
            "samples alone": lambda: [soundfile.read(path, dtype="float32") for path in paths],
            "prepare": lambda: (shutil.rmtree(out, ignore_errors=True), run(root, out, ask.jobs)),
            "prepare again": lambda: run(root, out, ask.jobs),
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ask.runs):
            for name, way in ways.items():
                took[name].append(_seconds(way))
        print("| what | runs | median, s | from–to, s | x headers |\n|---|---|---|---|---|")
        for name, times in took.items():
            middle = statistics.median(times)
            ratio = middle / statistics.median(took["headers alone"])
            print(f"| {name} | {ask.runs} | {middle:.2f} | {min(times):.2f}–{max(times):.2f} | {ratio:.1f} |")


def run(root: Path, out: Path, jobs: int) -> None:
    """Prepares with one protocol, five folds of disjoint speakers."""
    prepare(CORPUS, root, out, ["disjoint5"], 0.001, jobs)


def _seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

"""What a window of a recording costs: windows.py --root RAVDESS BUNDLE [BUNDLE...].

Latency is the time from the last sample of a window to its posterior, a window at a time, as `sertk score - --stream`
makes them; what the sound card or the pipe holds back comes on top. The real-time factor is processing time over the
length of the audio, of a recording in `sertk score`, read and cut, with windows in batches. The loading of the model
is in neither.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import harness
import numpy as np
import soundfile

from sertk.core import SertkError, Utterance
from sertk.core.files import Record
from sertk.corpus import audio
from sertk.scoring.over_time import Window
from sertk.scoring.scorer import Scorer
from sertk.scoring.windows import Cutting, Windows

RATE = 16_000
HEADER = (
    "| model | windows | runs | latency, ms | 95 % of them under, ms | real-time factor | from–to |\n"
    "|---|---|---|---|---|---|---|"
)


class Cost(NamedTuple):
    """What a model costs.

    Attributes:
        latency: Seconds, by window.
        factor: Real-time factor, by run.
    """

    latency: list[float]
    factor: list[float]


def main() -> None:
    """Prints a row for each bundle."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--root", type=Path, required=True, help="a folder of audio")
    parser.add_argument("--seconds", type=float, default=120.0, help="of the recording that is made of it")
    parser.add_argument("--windows", default="4s:2s")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=5)
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "transformers", "numpy", "soundfile"))
    print(HEADER)
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as folder:
        path = Path(folder) / "recording.flac"
        soundfile.write(path, recording(ask.root, ask.seconds), RATE)
        for bundle in ask.bundles:
            scorer = Scorer(bundle, ask.device, cutting=Cutting(Windows.parse(ask.windows)))
            print(row(bundle.parent.name, ask.windows, cost(scorer, path, ask.runs)), flush=True)


def recording(root: Path, seconds: float) -> audio.Samples:
    """(S,) samples of the audio files of a folder, one after another, from the first again when they end.

    Raises:
        SertkError: Where there are none.
    """
    paths, parts, left = sorted(root.rglob("*.flac")) or sorted(root.rglob("*.wav")), list[audio.Samples](), seconds
    if not paths:
        raise SertkError(f"{root} holds no .flac and no .wav. Give another folder.")
    while left > 0:
        for path in paths:
            parts += audio.resampled(audio.blocks(path, path.name), RATE)
            left = seconds - sum(map(len, parts)) / RATE
            if left <= 0:
                break
    return np.concatenate(parts)[: round(seconds * RATE)]


def cost(scorer: Scorer, path: Path, runs: int) -> Cost:
    """Scores a recording so many times each way, after a warm-up."""
    one = Utterance(str(path), str(path), "unknown", None)
    found = Cost([], [])
    for run in range(runs + 1):
        latency, factor = _latency(scorer, one), _factor(scorer, one)
        if run:
            found.latency.extend(latency)
            found.factor.append(factor)
    return found


def _latency(scorer: Scorer, one: Utterance) -> list[float]:
    times = []
    for piece in scorer.cut(audio.resampled(audio.blocks(Path(one.path), one.id), RATE), 1):
        start, windows = time.perf_counter(), list[Window]()
        scorer.score_windows(one, piece, windows, [])
        times.append(time.perf_counter() - start)
    return times


def _factor(scorer: Scorer, one: Utterance) -> float:
    failed: list[Record] = []
    start = time.perf_counter()
    lines = list(scorer.lines([one], Path(), 32, failed))
    if failed:
        raise SertkError(failed[0]["reason"])
    seconds: float = lines[0]["seconds"]
    return (time.perf_counter() - start) / seconds


def row(name: str, windows: str, found: Cost) -> str:
    """A row of the table below `HEADER`."""
    middle = 1000 * statistics.median(found.latency)
    high = 1000 * float(np.quantile(found.latency, 0.95))
    factors = f"**{statistics.median(found.factor):.3g}** | {min(found.factor):.3g}–{max(found.factor):.3g}"
    return f"| {name} | {windows} | {len(found.factor)} | {middle:.1f} | {high:.1f} | {factors} |"


if __name__ == "__main__":
    main()

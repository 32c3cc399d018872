"""What `prepare`, `featurize` and `score` take on a corpus, beside what bounds them: limits.py --root RAVDESS.

Reading and mel are timed alone, in one thread, on every file of the corpus; each figure is the median of some runs.
With `--bundle MODEL` the files are scored too: if reading alone takes less than the rest of `score`, then reading ahead
(`--workers`) hides it. A small model is the hard case.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import harness
import soundfile
import torch
import torchaudio

from sertk.corpus.prepared import Data
from sertk.settings import merge
from sertk.settings.schema import Settings
from sertk.stages.featurize import featurize
from sertk.stages.prepare import prepare
from sertk.stages.score import score


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="the corpus folder")
    parser.add_argument("--corpus", default="ravdess", help="its name")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--bundle", type=Path, help="a model to score with")
    parser.add_argument("--runs", type=int, default=5)
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "torchaudio", "numpy", "soundfile"))
    print("| what | runs | median, s | from–to, s | x real time |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as folder:
        data = harness.prepared(ask.corpus, ask.root, Path(folder) / "data")
        sound = sum(fact.seconds for fact in Data(data).facts.values())
        for name, run in works(ask.corpus, data, ask.jobs, Path(folder), ask.bundle):
            took = sorted(_seconds(run) for _ in range(ask.runs))
            middle = statistics.median(took)
            print(
                f"| {name} | {ask.runs} | {middle:.2f} | {took[0]:.2f}–{took[-1]:.2f} | {sound / middle:.0f} |",
                flush=True,
            )


def works(
    corpus: str, data: Path, jobs: list[int], folder: Path, bundle: Path | None
) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is timed, by name."""
    root, paths = Data(data).root, [Data(data).root / one.path for one in Data(data).utterances.values()]
    waves = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in paths]
    mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=512, win_length=400, hop_length=160, n_mels=80)
    settings = merge.load(overrides={"inputs": {"mel": {"name": "mel"}}})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield "soundfile reads alone, 1 thread", lambda: [soundfile.read(path, dtype="float32") for path in paths]
    yield "torchaudio mel alone, file by file, 1 thread", lambda: [mel(wave) for wave in waves]
    torch.set_num_threads(threads)
    for n in (0, 1, 2) if bundle else ():
        names, out = [str(path) for path in paths], folder / "scores.jsonl"
        yield f"score, workers={n}", partial(score, bundle, names, out, device="cpu", workers=n)
    for n in jobs:
        yield f"prepare, jobs={n}", partial(_prepare, corpus, root, folder / "prepare", n)
    for n in jobs:
        yield f"featurize mel, jobs={n}", partial(_featurize, data, settings, n)


def _prepare(corpus: str, root: Path, out: Path, jobs: int) -> None:
    shutil.rmtree(out, ignore_errors=True)
    prepare(corpus, root, out, [], 0.1, jobs)


def _featurize(data: Path, settings: Settings, jobs: int) -> None:
    shutil.rmtree(data / "feats", ignore_errors=True)
    featurize(Data(data), settings, jobs)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

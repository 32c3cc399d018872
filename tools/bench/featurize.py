"""`sertk featurize` against a loop with librosa, on the same files: featurize.py --root RAVDESS [--jobs 2].

A is the stage on a prepared corpus with a new, empty store; B is librosa_loop.py, which reads the same files, computes
at the same settings and saves an array a file. Both run inside this process, so imports are not counted (but for those
of worker processes); with --commands each is a command of its own, from the start of its interpreter to its end. Before
anything is timed A must agree with torchaudio, and with B.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import harness
import numpy as np
import soundfile
import torch
import torchaudio
from harness import Arrays, Way

from sertk.corpus.features import stores
from sertk.corpus.prepared import Data
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.stages.featurize import featurize

HERE = Path(__file__).resolve().parent
TOLERANCE = 0.05  # dB, of librosa: where a band holds 1e-10 of the power beside it, float32 is no better
SAME = 0.01  # dB, of torchaudio: its rows come one by one, ours in batches
SOUND = {"n_fft": 512, "win_length": 400, "hop_length": 160, "pad_mode": "constant"}


def main() -> None:
    """Prints a row a feature."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="the corpus folder")
    parser.add_argument("--corpus", default="ravdess", help="its name")
    parser.add_argument("--feature", nargs="+", choices=["mel", "mfcc"], default=["mel", "mfcc"])
    parser.add_argument("--jobs", type=int, default=1, help="processes of A")
    parser.add_argument("--their-jobs", type=int, default=1, help="processes of B")
    parser.add_argument("--commands", action="store_true", help="time whole commands, imports and all")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--limit", type=int, help="only the first files")
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "torchaudio", "librosa", "numpy", "soundfile"))
    print(harness.HEADER)
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as folder:
        data = harness.prepared(ask.corpus, ask.root, Path(folder) / "data", ask.limit)
        for kind in ask.feature:
            print(row(kind, data, ask), flush=True)


def row(kind: str, data: Path, ask: argparse.Namespace) -> str:
    """The comparison of a feature, as a row of the table."""
    ours, theirs = sertk(kind, data, ask.jobs, ask.commands), librosa(kind, data, ask.their_jobs, ask.commands)
    check(kind, data, ours)
    result = harness.compare(ours, theirs, ask.pairs, TOLERANCE)
    seconds = sum(fact.seconds for fact in Data(data).facts.values())
    how = "whole commands" if ask.commands else "in process"
    work = f"{kind} of {len(Data(data).utterances)} files, {seconds / 60:.0f} min; {how}"
    return result.row(work, f"sertk, jobs={ask.jobs}", f"librosa loop, jobs={ask.their_jobs}")


def sertk(kind: str, data: Path, jobs: int, commands: bool) -> Way:
    """The stage."""
    settings = merge.load(overrides={"inputs": {kind: {"name": kind}}})

    def run(folder: Path) -> None:
        if commands:
            words = [
                "featurize",
                str(folder / "data"),
                "--nj",
                str(jobs),
                "--set",
                f"inputs={{{kind}: {{name: {kind}}}}}",
            ]
            subprocess.run([sys.executable, "-m", "sertk", *words], check=True, stderr=subprocess.DEVNULL)
        else:
            featurize(Data(folder / "data"), settings, jobs)

    def read(folder: Path) -> Arrays:
        made, store = Data(folder / "data"), stores(folder / "data", settings, Plugins())[kind]
        return {Path(one.path).stem: store[made.facts[i].sha256].numpy() for i, one in made.utterances.items()}

    return Way("sertk", run, read, lambda folder: shutil.copytree(data, folder / "data"))


def librosa(kind: str, data: Path, jobs: int, commands: bool) -> Way:
    """The loop."""
    import librosa_loop  # late: the workers of A need not pay for it

    made = Data(data)
    paths = [made.root / one.path for one in made.utterances.values()]

    def ready(folder: Path) -> None:
        (folder / "list").write_text("\n".join(map(str, paths)), encoding="utf-8")
        (folder / "out").mkdir()

    def run(folder: Path) -> None:
        if commands:
            words = [kind, str(folder / "list"), str(folder / "out"), str(jobs)]
            subprocess.run([sys.executable, str(HERE / "librosa_loop.py"), *words], check=True)
        else:
            librosa_loop.loop(kind, paths, folder / "out", jobs)

    def read(folder: Path) -> Arrays:
        return {path.stem: np.load(path).T for path in (folder / "out").glob("*.npy")}

    return Way("librosa", run, read, ready)


def check(kind: str, data: Path, ours: Way) -> None:
    """Compares what the stage makes with torchaudio's own transform.

    Raises:
        SertkError: Where they differ by more than `SAME`.
    """
    made, transform = Data(data), TORCHAUDIO[kind]()
    theirs = {}
    for one in made.utterances.values():
        wave, _ = soundfile.read(made.root / one.path, dtype="float32")
        theirs[Path(one.path).stem] = transform(torch.from_numpy(wave)).T.numpy()
    apart = harness.difference(harness.output(ours), theirs, SAME)
    print(f"{kind} agrees with torchaudio: the largest difference is {apart:.3g} dB", file=sys.stderr)


def _mel() -> torch.nn.Module:
    mel = torchaudio.transforms.MelSpectrogram(16000, n_mels=80, **SOUND)
    return torch.nn.Sequential(mel, torchaudio.transforms.AmplitudeToDB("power"))


def _mfcc() -> torch.nn.Module:
    mel = {"n_mels": 26, "window_fn": torch.hamming_window, **SOUND}
    mfcc: torch.nn.Module = torchaudio.transforms.MFCC(16000, n_mfcc=13, melkwargs=mel)
    mfcc.amplitude_to_DB = torchaudio.transforms.AmplitudeToDB("power")  # not cut 80 dB below the loudest
    return mfcc


TORCHAUDIO = {"mel": _mel, "mfcc": _mfcc}

if __name__ == "__main__":
    main()

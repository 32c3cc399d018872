"""What a user without sertk writes, a loop over files with librosa: librosa_loop.py mel|mfcc LIST OUT [JOBS]."""

from __future__ import annotations

import functools
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt

RATE = 16000
SAME = {"sr": RATE, "n_fft": 512, "win_length": 400, "hop_length": 160, "htk": True, "norm": None}
Samples = npt.NDArray[np.float32]


def mel(wave: Samples, **settings: Any) -> Samples:  # noqa: ANN401
    """(S,) -> (n_mels, T), dB: sertk's defaults in librosa's words."""
    power = librosa.feature.melspectrogram(y=wave, pad_mode="constant", **{"n_mels": 80, **SAME, **settings})
    decibels: Samples = librosa.power_to_db(power, top_db=None)
    return decibels


def mfcc(wave: Samples) -> Samples:
    """(S,) -> (13, T)."""
    return librosa.feature.mfcc(S=mel(wave, n_mels=26, window="hamming"), n_mfcc=13)


def one(kind: str, out: Path, path: Path) -> None:
    """Reads a file and saves its feature."""
    wave, _ = librosa.load(path, sr=RATE)
    np.save(out / f"{path.stem}.npy", {"mel": mel, "mfcc": mfcc}[kind](wave))


def loop(kind: str, paths: Sequence[Path], out: Path, jobs: int = 1) -> None:
    """Does it for every file."""
    work = functools.partial(one, kind, out)
    if jobs < 2:
        for path in paths:
            work(path)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        pool.map(work, paths)


if __name__ == "__main__":
    lines = Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()
    loop(sys.argv[1], [Path(line) for line in lines], Path(sys.argv[3]), int(*sys.argv[4:] or ["1"]))

"""What bf16 saves in training P1 from random weights: precision.py --root RAVDESS.

A trains p1-ce in bf16, as the system says; B trains it in fp32. Equal on both sides: audio, crops, noise, batches,
optimizer. An epoch of each is timed, reading from the disk included; dev and checkpoints are not. "Differ by" says
nothing here: the two round differently.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import harness
import numpy as np
import torch
from frozen import side
from harness import Way

from sertk.corpus.prepared import Data
from sertk.settings import merge


def main() -> None:
    """Prints the row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="the corpus folder, audio of 16 kHz")
    parser.add_argument("--corpus", default="ravdess")
    parser.add_argument("--limit", type=int, default=64, help="files to train on")
    parser.add_argument("--pairs", type=int, default=7)
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "speechbrain", "soundfile"))
    print(harness.HEADER)
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as folder:
        data = Data(harness.prepared(ask.corpus, ask.root, Path(folder) / "data", ask.limit))
        ways = way(data, "bf16"), way(data, "fp32")
        result = harness.compare(*ways, ask.pairs, 0.0)
    print(result.row(f"an epoch of p1-ce, {len(data.utterances)} files", *(one.name for one in ways)))


def way(data: Data, precision: str) -> Way:
    """An epoch of training in a precision."""
    overrides = {"train.device": "cpu", "train.checkpoint_steps": 0, "train.workers": 0, "train.precision": precision}
    settings = replace(merge.load("p1-ce", overrides=overrides), fold="all")
    made, epochs = side(data, settings), itertools.count(1)

    def run(folder: Path) -> None:
        made.brain.fit([next(epochs)], made.batches(), progressbar=False)

    return Way(precision, run, lambda folder: {"rows": np.array(len(made.rows.labels))})


if __name__ == "__main__":
    torch.manual_seed(0)
    main()

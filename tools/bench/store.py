"""Scores from stored features against scores from audio: store.py --root RAVDESS --source WHISPER [--folds 6].

A is one `sertk score` of the runs of whisper-probe on a corpus whose features are stored. B is the same from audio: a
command a run with --commands, from the start of each interpreter to its end; else both run inside this process, so that
imports are not counted. Logits must agree before anything is timed.

The probes are trained for two epochs: a classifier costs what any does.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

import harness
import numpy as np
import torch
from harness import Arrays, Way

from sertk.corpus.prepared import Data
from sertk.settings import merge
from sertk.stages.featurize import featurize
from sertk.stages.score import score_runs
from sertk.stages.train import train

TOLERANCE = 1e-4  # of a logit


def main() -> None:
    """Prints a row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="the folder of RAVDESS")
    parser.add_argument("--source", required=True, help="a Whisper checkpoint, folder or name")
    parser.add_argument("--folds", type=int, default=6, help="only the first of the protocol emobox")
    parser.add_argument("--commands", action="store_true", help="time whole commands, imports and all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=6)
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "transformers", "numpy", "soundfile"))
    print(harness.HEADER)
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as name:
        folder = Path(name)
        data = harness.prepared("ravdess", ask.root, folder / "data")
        trained(data, folder / "system", ask.source, ask.folds)
        ways = [way(source, data, folder / "system", ask.device, ask.commands) for source in ("store", "audio")]
        result = harness.compare(*ways, ask.pairs, TOLERANCE)
        tests = [fold.test for fold in list(Data(data).protocol("emobox").folds.values())[: ask.folds]]
    how = "whole commands" if ask.commands else "in process"
    work = f"scores of {sum(map(len, tests))} files in {len(tests)} runs of whisper-probe, {ask.device}; {how}"
    print(result.row(work, *(one.name for one in ways)))


def trained(data: Path, system: Path, source: str, folds: int) -> None:
    """The runs of a system, their features stored."""
    chosen = {"inputs.whisper.backbone.source": source, "protocol": "emobox", "train.epochs": 2, "train.device": "cpu"}
    threads = torch.get_num_threads()
    featurize(Data(data), merge.load("whisper-probe", overrides=chosen), 1)
    for name in list(Data(data).protocol("emobox").folds)[:folds]:
        settings = merge.load("whisper-probe", overrides={**chosen, "fold": name})
        train(settings, Data(data), system / f"fold={name}" / "seed=0", [])
    torch.set_num_threads(threads)  # the stages set what suits them


def way(source: Literal["store", "audio"], data: Path, system: Path, device: str, commands: bool) -> Way:
    """The runs scored from the store in one command; or from audio, with `commands` in one each."""

    def run(folder: Path) -> None:
        own = folder / "system"
        if not commands:
            score_runs(own, [str(data)], device=device, source=source)
        elif source == "store":
            command(own, data, "--device", device)
        else:
            for bundle in sorted(own.glob("fold=*/seed=*/model")):
                out = bundle.parent / "scores.jsonl"
                command(bundle, data, "--device", device, "--from", "audio", "--out", out)

    together = "a command a run" if commands and source == "audio" else "one command" if commands else "one process"
    return Way(f"from {source}, {together}", run, read, lambda folder: shutil.copytree(system, folder / "system"))


def command(*words: object) -> None:
    """Runs `sertk score`."""
    whole = [sys.executable, "-m", "sertk", "score", *map(str, words)]
    subprocess.run(whole, check=True, stderr=subprocess.DEVNULL)


def read(folder: Path) -> Arrays:
    """The logits by fold and utterance."""
    found = {}
    for path in folder.glob("system/*/*/scores.jsonl"):
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            found[f"{path.parent.parent.name} {line['id']}"] = np.array(line["logits"])
    return found


if __name__ == "__main__":
    main()

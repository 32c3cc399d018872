"""Scoring with a frozen Whisper in batches against one file at a time: score.py --root RAVDESS --source WHISPER.

A is `sertk score` on a bundle of whisper-probe, which sorts by length and scores in batches; B is one of

- one: `sertk.load` once, then a call a file; the output is the same.
- usual: the script that people write: Hugging Face's feature extractor, which pads every file to 30 s, and encoder, a
  file at a time, the statistics of its layers over the frames of the file, then the bundle's classifier. At `--window
  real` the output differs by design (padding to 30 s is another front end, see `sertk plugins backbone whisper`); at
  `--window 30s` sertk computes the same, and that is checked.

The bundle is trained on tones: it costs what any does, and its scores mean nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import harness
import numpy as np
import soundfile
import torch
from harness import Arrays, Way

import sertk
from sertk.core import Batch, Padded, Rng
from sertk.corpus.prepared import Data
from sertk.scoring.scorer import Scorer
from sertk.settings import merge
from sertk.stages.featurize import featurize
from sertk.stages.prepare import prepare
from sertk.stages.score import score
from sertk.stages.train import train
from sertk.testing import tone_corpus

TOLERANCE = 1e-4  # of a posterior


def main() -> None:
    """Prints a row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="a folder of audio")
    parser.add_argument("--source", required=True, help="a Whisper checkpoint, folder or name")
    parser.add_argument("--against", choices=["one", "usual"], default="one")
    parser.add_argument("--window", choices=["real", "30s"], default="real")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--limit", type=int, help="only the first files")
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "transformers", "numpy", "soundfile"))
    print(harness.HEADER)
    paths = sorted(path for path in ask.root.rglob("*") if path.suffix in (".wav", ".flac"))[: ask.limit]
    minutes = sum(soundfile.info(path).duration for path in paths) / 60
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as folder:
        bundle = trained(Path(folder), ask.source, ask.window)
        ours = batched(bundle, paths, ask.device, ask.batch)
        theirs = (
            one(bundle, paths, ask.device) if ask.against == "one" else usual(bundle, paths, ask.device, ask.source)
        )
        by_design = ask.against == "usual" and ask.window == "real"
        result = harness.compare(ours, theirs, ask.pairs, math.inf if by_design else TOLERANCE)
    work = f"scores of {len(paths)} files, {minutes:.0f} min, window {ask.window}, {ask.device}"
    print(result.row(work + "; differs by design" * by_design, ours.name, theirs.name))


def trained(folder: Path, source: str, window: str) -> Path:
    """A bundle of whisper-probe."""
    prepare("ravdess", tone_corpus(folder / "tones", 6, 1), folder / "data", ["emobox"], 0.1, 1)
    settings = {
        "inputs.whisper.backbone.source": source,
        "inputs.whisper.backbone.window": window,
        "protocol": "emobox",
        "fold": "1",
        "train.device": "cpu",
    }
    document, data = merge.load("whisper-probe", overrides=settings), Data(folder / "data")
    threads = torch.get_num_threads()
    featurize(data, document, 1)
    train(document, data, folder / "run", [])
    torch.set_num_threads(threads)  # the stages set what suits them
    return folder / "run" / "model"


def batched(bundle: Path, paths: list[Path], device: str, batch: int) -> Way:
    """The stage."""

    def run(folder: Path) -> None:
        score(bundle, [str(path) for path in paths], folder / "scores.jsonl", device=device, batch=batch)

    return Way(f"sertk score, batch={batch}", run, read)


def one(bundle: Path, paths: list[Path], device: str) -> Way:
    """The library, a call a file."""

    def run(folder: Path) -> None:
        model = sertk.load(bundle, device)
        write(folder, {str(path): list(model(path).values()) for path in paths})

    return Way("sertk.load, a call a file", run, read)


def usual(bundle: Path, paths: list[Path], device: str, source: str) -> Way:
    """Hugging Face, a file at a time."""
    from transformers import AutoConfig, WhisperFeatureExtractor, WhisperModel
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    alone = "WhisperEncoder" in (AutoConfig.from_pretrained(source).architectures or [])

    @torch.inference_mode()
    def run(folder: Path) -> None:
        extractor = WhisperFeatureExtractor.from_pretrained(source)
        loaded: Any = (WhisperEncoder if alone else WhisperModel).from_pretrained(source, dtype=torch.float32)
        encoder = (loaded if alone else loaded.encoder).eval().to(device)
        scorer, found = Scorer(bundle, device), {}
        for path in paths:
            wave, rate = soundfile.read(path, dtype="float32")
            mel = extractor(wave, sampling_rate=rate, return_tensors="pt").input_features.to(device)
            layers = encoder(mel, output_hidden_states=True).hidden_states
            frames = torch.stack(layers)[:, 0, : math.ceil(math.ceil(len(wave) / 160) / 2)]  # (layers, T, D)
            pooled = torch.cat([frames.mean(1), frames.std(1, correction=0)], 1)  # (layers, 2 D)
            found[str(path)] = classified(scorer, pooled.flatten(), device)
        write(folder, found)

    return Way("Hugging Face padded to 30 s, a file at a time", run, read)


def classified(scorer: Scorer, pooled: torch.Tensor, device: str) -> list[float]:
    """The posterior of the statistics of an utterance (layers x 2 D,)."""
    bundle, row = scorer.bundle, torch.zeros(1, dtype=torch.long, device=device)
    batch = Batch(("",), {"whisper": Padded(pooled[None, None], row + 1)}, None, row, row)
    views = bundle.model(bundle.frontend(batch).inputs, [bundle.decider.span])
    posterior, _ = bundle.decider(views, batch, 1, Rng.for_rows(0, [""], [0], 0, "decision").to(device))
    values: list[float] = posterior[0].tolist()
    return values


def write(folder: Path, found: Mapping[str, list[float]]) -> None:
    """Posteriors as lines, as the stage writes them."""
    lines = (json.dumps({"id": name, "posterior": values}) + "\n" for name, values in found.items())
    (folder / "scores.jsonl").write_text("".join(lines), encoding="utf-8")


def read(folder: Path) -> Arrays:
    """Posteriors by file."""
    lines = map(json.loads, (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines())
    return {line["id"]: np.array(line["posterior"]) for line in lines}


if __name__ == "__main__":
    main()

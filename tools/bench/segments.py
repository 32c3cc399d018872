"""What segments, triplets and EAM add to a fine-tuned encoder: segments.py --root RAVDESS --source WHISPER.

B is the same model on the same rows as A, with segments: scoring looks at windows in the place of the whole, training
adds their losses and an in-batch triplet. B / A is how many times as long it takes (the paper: 41 s against 30 s, 1.37;
P3 section 5). Outputs differ by design. The weights above the encoder are random: they cost what trained ones do.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import harness
import numpy as np
import soundfile
import torch
from harness import Arrays, Way

from sertk.core import Batch, Padded, Rng, Target, Task
from sertk.modeling.decide import make_decider
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.training.assemble import make_parts

CLASSES = tuple("abcdefgh")


def main() -> None:
    """Prints the rows, and the share of EAM."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="a folder of audio, 16 kHz")
    parser.add_argument("--source", required=True, help="a Whisper checkpoint, folder or name")
    parser.add_argument("--limit", type=int, default=32, help="files")
    parser.add_argument("--batch", type=int, default=16, help="rows of a training step")
    parser.add_argument("--pairs", type=int, default=7)
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "transformers", "numpy", "soundfile"))
    print(harness.HEADER)
    # every so many-th, so that there are many speakers and emotions
    paths = sorted(path for path in ask.root.rglob("*") if path.suffix in (".wav", ".flac"))
    paths = paths[:: max(1, len(paths) // ask.limit)][: ask.limit]
    waves = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in paths]
    for segments in ("80:40", "140:70"):
        whole, cut = scored(ask.source, waves, None), scored(ask.source, waves, segments)
        print(
            harness.compare(whole, cut, ask.pairs, math.inf).row(f"scores of {len(waves)} files", whole.name, cut.name)
        )
    rows = waves[: ask.batch]
    whole, cut = trained(ask.source, rows, None), trained(ask.source, rows, "80:40")
    result = harness.compare(whole, cut, ask.pairs, math.inf)
    print(result.row(f"a step of {len(rows)} rows", whole.name, cut.name), flush=True)
    print(share_of_eam(ask.source, rows, paths[: ask.batch]))


class System:
    """A whisper-finetune system, whole or with segments, on waves."""

    def __init__(self, source: str, segments: str | None) -> None:
        losses = [{"name": "ce"}, *([{"name": "triplet", "negatives": "batch"}] if segments else [])]
        settings = {"backbone.source": source, "segments": segments, "losses": losses, "augment": []}
        loaded, plugins = merge.load("whisper-finetune", overrides=settings), Plugins()
        body, self.mixture, self.model = make_parts(plugins, loaded, Task(CLASSES, torch.ones(len(CLASSES))))
        self.decider = make_decider(plugins, loaded, body.dims)

    @torch.inference_mode()
    def score(self, wave: torch.Tensor) -> list[float]:
        """The posterior of a wave."""
        batch = batched([wave])
        views = self.model.eval()(batch.inputs, [self.decider.span])
        posterior, _ = self.decider(views, batch, 1, Rng.for_rows(0, ["0"], [0], 0, "decision"))
        values: list[float] = posterior[0].tolist()
        return values

    def step(self, batch: Batch) -> list[float]:
        """A forward and a backward pass; the total and the size of the gradient."""
        views = self.model.train()(batch.inputs, self.mixture.spans)
        total = self.mixture({span: view.float() for span, view in views.items()}, batch.target, {}).total
        self.model.zero_grad()
        total.backward()
        return [total.item()]


def batched(waves: Sequence[torch.Tensor]) -> Batch:
    """Rows with labels in turn."""
    rows, padded = torch.arange(len(waves)), Padded.stack(list(waves))
    target = Target(torch.eye(len(CLASSES))[rows % len(CLASSES)], weight=torch.ones(len(waves)))
    inputs = {"wave": Padded(padded.data[..., None], padded.length)}
    return Batch(tuple(map(str, rows.tolist())), inputs, target, torch.zeros_like(rows), rows)


def scored(source: str, waves: Sequence[torch.Tensor], segments: str | None) -> Way:
    """Each file alone, as P3 times it."""
    system = System(source, segments)
    return _way(f"segments {segments}" if segments else "whole", lambda: [system.score(wave) for wave in waves])


def trained(source: str, waves: Sequence[torch.Tensor], segments: str | None) -> Way:
    """A training step."""
    system, batch = System(source, segments), batched(waves)
    name = f"segments {segments}, triplet of the batch" if segments else "whole"
    return _way(name, lambda: system.step(batch))


def _way(name: str, work: Callable[[], object]) -> Way:
    def run(folder: Path) -> None:
        np.save(folder / "out.npy", np.asarray(work()))

    def read(folder: Path) -> Arrays:
        return {"out": np.load(folder / "out.npy")}

    return Way(name, run, read)


def share_of_eam(source: str, waves: Sequence[torch.Tensor], paths: Sequence[Path], runs: int = 7) -> str:
    """What mixing a batch, and reading as many partners, takes beside the step that it feeds."""
    system, batch, rows = System(source, None), batched(waves), Padded.stack(list(waves))
    eam = Plugins().make("augmentation", {"name": "eam", "probability": 1.0})
    flat = Batch(batch.ids, {"wave": rows}, batch.target, batch.copy, batch.owner)
    rng = Rng.for_rows(0, list(batch.ids), [0] * len(waves), 0, "eam")
    mix = statistics.median(_seconds(lambda: eam(flat, rng, flat)) for _ in range(runs))
    step = statistics.median(_seconds(lambda: system.step(batch)) for _ in range(runs))
    seek = statistics.median(_seconds(lambda: [soundfile.read(path) for path in paths]) for _ in range(runs))
    return (
        f"\nEAM of {len(waves)} rows takes {1e3 * mix:.1f} ms, {100 * mix / step:.2f} % of the step ({step:.2f} s); "
        f"reading its partners {1e3 * seek:.1f} ms, {100 * seek / step:.2f} %, which train.workers takes off the step."
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

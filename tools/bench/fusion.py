"""What frozen branches add to an epoch of training: fusion.py --root RAVDESS --bert FOLDER.

A trains a spectrogram branch alone, as a fusion of one branch. B trains the same branch with frozen BERT and VGGish
beside it (P4's MTAP), whose features are read from the store. Equal on both sides: audio, crops, batches, optimizer.
An epoch of each is timed, reading from the disk included; dev, checkpoints and the one run of `featurize` are not.

VGGish has random weights, which cost what trained ones do. "Differ by" says nothing here: the two models are others.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import harness
import numpy as np
import torch
from frozen import side
from harness import Way
from safetensors.torch import save_file

from sertk.core import InputSpec
from sertk.corpus.prepared import Data
from sertk.modeling.build import with_frozen
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.settings.schema import Component
from sertk.stages.featurize import featurize

IMAGE = {"name": "spectrogram_cnn", "reads": "spectrogram"}


def main() -> None:
    """Prints the row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="the corpus folder, audio of 16 kHz")
    parser.add_argument("--corpus", default="ravdess", help="a corpus that has transcripts")
    parser.add_argument("--bert", required=True, help="a BERT checkpoint, folder or name")
    parser.add_argument("--limit", type=int, default=96, help="files to train on")
    parser.add_argument("--pairs", type=int, default=7)
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "speechbrain", "transformers", "soundfile"))
    print(harness.HEADER)
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as folder:
        data = Data(harness.prepared(ask.corpus, ask.root, Path(folder) / "data", ask.limit))
        text = {"name": "bert", "source": ask.bert, "freeze": "all", "reads": "text"}
        audio = {"name": "vggish", "source": random_vggish(Path(folder)), "freeze": "all", "reads": "wave"}
        ways = (
            way(data, {"image": IMAGE}, "the spectrogram alone"),
            way(data, {"image": IMAGE, "text": text, "audio": audio}, "with frozen text and audio"),
        )
        result = harness.compare(*ways, ask.pairs, 0.0)
    print(result.row(f"an epoch of {len(data.utterances)} files, 4 s", *(one.name for one in ways)))


def random_vggish(folder: Path) -> str:
    """A file of random weights."""
    made = Plugins().make("backbone", "vggish", {"wave": InputSpec(1, 1 / 16_000)})
    save_file({name: one.contiguous() for name, one in made.state_dict().items()}, folder / "vggish.safetensors")
    return str(folder / "vggish.safetensors")


def way(data: Data, branches: Mapping[str, object], name: str) -> Way:
    """An epoch of training with some branches."""
    overrides = {"crop.length": 4.0, "train.device": "cpu", "train.checkpoint_steps": 0}
    settings = replace(merge.load("p4-mtap", overrides=overrides), fold="all")
    inputs = {word: one for word, one in settings.inputs.items() if len(branches) > 1 or word == "spectrogram"}
    settings = replace(settings, inputs=inputs, backbone=Component("fusion", {"branches": branches}))
    featurize(data, settings, 1)
    made, epochs = side(data, with_frozen(Plugins(), settings)), itertools.count(1)

    def run(folder: Path) -> None:
        made.brain.fit([next(epochs)], made.batches(), progressbar=False)

    return Way(name, run, lambda folder: {"rows": np.array(len(made.rows.labels))})


if __name__ == "__main__":
    torch.manual_seed(0)
    main()

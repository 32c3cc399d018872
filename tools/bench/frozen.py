"""Training above frozen layers that are cached, against computing them in every epoch: frozen.py --root RAVDESS.

A is what `sertk train` runs for `freeze: N`: what the frozen layers give is read from the store. B has the same encoder
whole, and computes the frozen layers in each step, as it was before they were cached and as it still is behind an
augmentation of waves; or it trains all layers. Equal on both sides: audio, first weights, batches, losses, optimizers.

First both must give the same loss and the same gradients of what A trains, on a batch of several lengths. Then an epoch
of each is timed, reading from the disk included. Dev, checkpoints and the one run of `featurize` are not.

With --source it is that Whisper; else an encoder of the sizes of wav2vec2-base with random weights, which cost what
trained ones do.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import harness
import torch
from harness import Arrays, Way
from speechbrain import Stage

from sertk.corpus.folding import Fold
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds
from sertk.modeling.build import with_frozen
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.settings.schema import Settings
from sertk.stages.featurize import featurize
from sertk.training.assemble import make_order, make_parts, make_setup, make_training, share, training_rows
from sertk.training.loading import Loader, Rows
from sertk.training.loop import EmotionBrain

CLASSES = ("anger", "happiness", "neutral", "sadness")
TOLERANCE = 1e-4  # of a loss, and of gradients by the largest of them
SAME = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0, "activation_dropout": 0.0}


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="the corpus folder, audio of 16 kHz")
    parser.add_argument("--corpus", default="ravdess", help="corpus plugin; folder, table: your own audio")
    parser.add_argument("--source", help="a Whisper checkpoint, folder or name")
    parser.add_argument("--limit", type=int, default=16, help="files to train on")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=7)
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "speechbrain", "transformers", "soundfile"))
    print(harness.HEADER)
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as folder:
        data = Data(harness.prepared(ask.corpus, ask.root, Path(folder) / "data", ask.limit))
        for name, settings, frozen in systems(ask.source, Path(folder)):
            print(measured(data, settings, frozen, ask.batch, ask.pairs, name), flush=True)


def systems(whisper: str | None, folder: Path) -> Iterator[tuple[str, Settings, int | str]]:
    """What is compared: a name, settings with some layers frozen, and the `freeze` of B."""
    if whisper:
        settings = merge.load("whisper-finetune", overrides={"augment": [], "backbone.source": whisper})
        for other in (2, "none"):
            yield "Whisper, 2 layers frozen", frozen(settings, 2), other
        return
    settings = merge.load("p3-baseline", overrides={"backbone.source": checkpoint(folder / "encoder")})
    yield "wav2vec2-base, 8 of 12 layers frozen", frozen(settings, 8), 8


def frozen(settings: Settings, freeze: int | str) -> Settings:
    """The settings with another `freeze`."""
    backbone = replace(settings.backbone, settings={**settings.backbone.settings, "freeze": freeze})
    return replace(settings, backbone=backbone, fold="all")


def checkpoint(folder: Path, **sizes: object) -> str:
    """Saves an encoder with random weights and no dropout; its sizes are those of wav2vec2-base where not given."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(**{**SAME, **sizes})).save_pretrained(folder)  # type: ignore[arg-type]
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return str(folder)


def measured(data: Data, settings: Settings, other: int | str, batch: int, pairs: int, name: str) -> str:
    """A row."""
    settings = replace(settings, train=replace(settings.train, batch=batch, device="cpu", checkpoint_steps=0))
    featurize(data, settings, 1)
    words = "all layers trained" if other == "none" else "computed in every epoch"
    cached, whole = side(data, with_frozen(Plugins(), settings)), side(data, frozen(settings, other))
    # what is drawn beside the encoder, which draws too where it is read
    whole.brain.training.model.load_state_dict(cached.brain.training.model.state_dict(), strict=False)
    trained = [name for name, value in cached.brain.training.model.named_parameters() if value.requires_grad]
    ways = way(cached, trained, "read from the store"), way(whole, trained, words)
    result = harness.compare(*ways, pairs, TOLERANCE)
    return result.row(f"an epoch of {len(data.utterances)} files: {name}", ways[0].name, ways[1].name)


class Side(NamedTuple):
    """What `sertk train` trains, and with which rows."""

    brain: EmotionBrain
    rows: Rows

    def batches(self) -> Loader:
        """Of the next epoch."""
        return Loader(self.rows, self.brain.training.order, 0, "train")


def side(data: Data, settings: Settings) -> Side:
    """A run on all utterances."""
    ids = tuple(data.utterances)
    labels = {one: CLASSES[place % len(CLASSES)] for place, one in enumerate(ids)}
    folds = Folds(data.corpus, "", CLASSES, labels, {"all": Fold(ids, ids[:1], ())})
    shared = share(Plugins(), settings, data, folds, ["all"])
    setup = make_setup(shared, settings, Path(tempfile.gettempdir()) / "sertk-bench-writes-nothing")
    parts = make_parts(shared.plugins, settings, setup.task, shared.made)
    rows = training_rows(setup, parts, ids)
    _, order = make_order(setup, parts.mixture, rows)
    return Side(EmotionBrain(make_training(setup, "select", None, parts, order)), rows)


def way(made: Side, trained: Sequence[str], name: str) -> Way:
    """An epoch of training; what the first batch gave before is compared."""
    first, epochs = outputs(made, trained), itertools.count(1)

    def run(folder: Path) -> None:
        made.brain.fit([next(epochs)], made.batches(), progressbar=False)

    return Way(name, run, lambda folder: first)


def outputs(made: Side, trained: Sequence[str]) -> Arrays:
    """The loss of the first batch, and its gradients."""
    brain, item = made.brain, next(iter(made.batches()))
    brain.modules.train()
    loss = brain.compute_objectives(brain.compute_forward(item, Stage.TRAIN), item, Stage.TRAIN)
    loss.backward()
    named = {name: value for name, value in brain.training.model.named_parameters() if name in trained}
    found = {name: value.grad.clone() for name, value in named.items() if value.grad is not None}
    largest = max(float(one.abs().max()) for one in found.values())
    brain.modules.zero_grad()
    return {"loss": loss.detach().numpy(), **{name: (one / largest).numpy() for name, one in found.items()}}


if __name__ == "__main__":
    main()

"""Fine-tuning wav2vec 2.0 with sertk against the loop of SpeechBrain's IEMOCAP recipe: train.py --root EMODB.

A is what `sertk train` runs for p3-baseline: sampler, loader, brain, optimizers, clipping. B is the loop of the recipe
recipes/IEMOCAP/emotion_recognition/train_with_wav2vec2.py on SpeechBrain's own classes: random batches, its collate,
its wav2vec 2.0 with `output_norm`, the mean over time, a linear layer, two Adams. Equal on both sides: audio, first
weights, batch, dropout, frozen convolutions, optimizers, rates, clipping, made-up labels, no workers (the recipe: two).

First both must give the same frames of an utterance. Then A trains on some batches of an epoch of the whole corpus, at
even distances by length, and B on the same utterances in random batches, other ones in each run; so both pad as much
as in the whole epoch, but for chance. Dev and checkpoints are not timed.

Without --source the encoder has the sizes of wav2vec2-base and random weights, which cost what trained ones do.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import speechbrain as sb
import torch
from harness import Arrays, Way
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataio import read_audio
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.integrations.huggingface.wav2vec2 import Wav2Vec2
from speechbrain.nnet.activations import Softmax
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.losses import nll_loss
from speechbrain.nnet.pooling import StatisticsPooling
from torch import Tensor
from torch.nn.functional import layer_norm
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from sertk.core import Batch, BatchSampler, Padded, Plan, Task, Utterance, Views
from sertk.corpus.folding import Fold
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.training.assemble import Setup, Shared, make_parts, make_training
from sertk.training.loading import Item, Loader, Order, Reader, Rows
from sertk.training.loop import EmotionBrain

CLASSES = ("anger", "happiness", "neutral", "sadness")
CLIP, HEAD, ENCODER = 5.0, 1e-4, 1e-5
TOLERANCE, LOOSE = 1e-3, 0.5  # of frames of unit variance, in fp32 and in half precision
# as in the published wav2vec2-base; a layerdrop above 0 would let B leave out a part of its work
DROPOUT = {"layerdrop": 0.0, "activation_dropout": 0.0}


@dataclass
class Fed:
    """Counts the samples that a loop was fed.

    Attributes:
        samples: All of them.
        real: Those that are no padding.
    """

    samples: int = 0
    real: int = 0

    def add(self, data: Tensor, real: Tensor) -> None:
        """Counts a batch: (B, S) or (B, S, 1) samples, and how many of each row are real."""
        self.samples += data.numel()
        self.real += int(real.sum())

    @property
    def padded(self) -> float:
        """The share of padding, %."""
        return 100 * (1 - self.real / self.samples)


@dataclass(frozen=True)
class Work:
    """What both loops are given.

    Attributes:
        data: The prepared audio.
        source: The encoder's checkpoint.
        plans: The batches of A; B has their utterances.
        batch: Rows.
        device: Of both.
        precision: Of A; B's is fp32.
    """

    data: Data
    source: str
    plans: Sequence[Plan]
    batch: int
    device: str
    precision: str

    @property
    def chosen(self) -> list[Utterance]:
        """The utterances of the epoch."""
        every = list(self.data.utterances.values())
        return [every[row] for plan in self.plans for row in plan.rows.tolist()]

    def first(self) -> Tensor:
        """(1, S) the first of them."""
        wave: Tensor = read_audio(str(self.data.root / self.chosen[0].path))
        return wave[None].to(self.device)


def main() -> None:
    """Prints a row, and what both loops were fed."""
    ask = _asked()
    print(harness.machine("sertk", "torch", "speechbrain", "transformers", "soundfile"))
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as folder:
        source = ask.source or checkpoint(Path(folder) / "encoder")
        data = Data(harness.prepared(ask.corpus, ask.root, Path(folder) / "data"))
        work = Work(data, source, planned(data, ask.batch, ask.limit), ask.batch, ask.device, ask.precision)
        print("\n".join(measured(work, ask.pairs, Path(folder))))


def measured(work: Work, pairs: int, folder: Path) -> list[str]:
    """The row, and a line for each side."""
    fed = (Fed(), Fed())
    ways = sertk_way(work, folder / "run", fed[0]), recipe_way(work, folder / "saved", fed[1])
    result = harness.compare(*ways, pairs, TOLERANCE if work.precision == "fp32" else LOOSE)
    files, seconds = len(work.chosen), sum(one.duration or 0.0 for one in work.chosen)
    lines = [harness.HEADER, result.row(f"training on {files} files, {seconds:.0f} s", ways[0].name, ways[1].name)]
    for way, counted, costs in zip(ways, fed, (result.a, result.b), strict=True):
        rate = files / statistics.median(cost.wall for cost in costs)
        lines.append(f"{way.name}: {rate:.2f} utterances/s, {counted.padded:.1f} % of the samples padding")
    return lines


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="the corpus folder, audio of 16 kHz")
    parser.add_argument("--corpus", default="emodb", help="corpus plugin; folder, table: your own audio")
    parser.add_argument("--source", help="a wav2vec 2.0 checkpoint, folder or name; random weights where not given")
    parser.add_argument("--limit", type=int, default=24, help="files to train on")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32", help="of sertk alone")
    return parser.parse_args()


def label(one: Utterance) -> int:
    """A class that costs what any does; the corpora differ in theirs."""
    return len(one.path) % len(CLASSES)


def checkpoint(folder: Path, **sizes: Any) -> str:  # noqa: ANN401
    """Saves an encoder with random weights; its sizes are those of wav2vec2-base where not given."""
    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(**{**DROPOUT, **sizes})).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return str(folder)


def planned(data: Data, batch: int, limit: int) -> list[Plan]:
    """Batches of the first epoch of all files by sertk's sampler, at even distances by length; `limit` rows or so."""
    lengths = torch.tensor([one.duration or 0.0 for one in data.utterances.values()])
    sampler: BatchSampler = Plugins().make("sampler", "shuffle", torch.zeros(len(lengths)), lengths, batch)
    plans = sorted(sampler.epoch(1, 0), key=lambda plan: float(lengths[plan.rows].sum()))
    count = min(len(plans), max(1, limit // batch))
    return [plans[int((place + 0.5) * len(plans) / count)] for place in range(count)]


class Some(BatchSampler):
    """Gives the batches that were chosen of an epoch."""

    def __init__(self, labels: Tensor, lengths: Tensor, work: Work) -> None:
        super().__init__(labels, lengths, work.batch)
        self._plans = work.plans

    def plans(self, generator: torch.Generator) -> list[Plan]:
        """The same in each epoch."""
        return list(self._plans)


class Ours(EmotionBrain):
    """sertk's brain, its food counted."""

    fed: Fed

    def compute_forward(self, item: Item, stage: sb.Stage) -> tuple[Views, Batch]:
        """Counts, then goes on as ever."""
        wave = item.batch.inputs["wave"]
        self.fed.add(wave.data, wave.length)
        return super().compute_forward(item, stage)


def sertk_way(work: Work, out: Path, fed: Fed) -> Way:
    """What `sertk train` runs for p3-baseline, at the recipe's settings; without dev nothing is written."""
    settings = {
        "fold": "all",
        "backbone.source": work.source,
        "train.optimizer": {"name": "adam", "lr": HEAD},
        "train.backbone_rate": ENCODER / HEAD,
        "train.clip": CLIP,
        "train.batch": work.batch,
        "train.checkpoint_steps": 0,
        "train.device": work.device,
        "train.precision": work.precision,
    }
    loaded, plugins = merge.load("p3-baseline", overrides=settings), Plugins()
    utterances = list(work.data.utterances.values())
    labels = torch.tensor([label(one) for one in utterances])
    task = Task(CLASSES, torch.bincount(labels, minlength=len(CLASSES)))
    parts = make_parts(plugins, loaded, task)
    reader = Reader(work.data, loaded.audio, {}, ["wave"])
    rows = Rows(utterances, labels, len(CLASSES), reader)
    order = Order(Some(rows.labels, rows.lengths, work), 0, len(rows.labels))
    folds = Folds(work.data.corpus, "", CLASSES, {}, {"all": Fold((), (), ())})
    shared = Shared(plugins, work.data, folds, reader, parts.body.frontend.features, {}, {}, None)
    setup = Setup(shared, loaded, folds.fold("all"), task, out)
    brain = Ours(make_training(setup, "select", None, parts, order))
    brain.fed = fed
    brain.modules.eval()
    with torch.no_grad():
        wave = work.first()
        waves = Padded(wave[..., None], torch.tensor([wave.shape[1]], device=wave.device))
        frames = parts.body.backbone({"wave": waves})
        frames = layer_norm(frames.data, frames.data.shape[1:])  # the recipe's output_norm
    loader = Loader(rows, order, loaded.train.workers, "train")
    return _way(f"sertk, {work.precision}", brain, loader, frames, deterministic=True)


class Theirs(sb.Brain):  # type: ignore[misc] # SpeechBrain has no types
    """The recipe's model, objective and optimizers."""

    fed: Fed

    def compute_forward(self, batch: PaddedBatch, stage: sb.Stage) -> Tensor:
        """Log-probabilities of the classes."""
        waves, lengths = batch.to(self.device).sig
        self.fed.add(waves, (lengths * waves.shape[1]).round())
        frames = self.modules.encoder(waves, lengths)
        pooled = self.hparams.pool(frames, lengths).flatten(1)
        logp: Tensor = self.hparams.log_softmax(self.modules.head(pooled))
        return logp

    def compute_objectives(self, logp: Tensor, batch: PaddedBatch, stage: sb.Stage) -> Tensor:
        """The negative log-probability of the labels."""
        loss: Tensor = nll_loss(logp, batch.label.data.to(logp.device))
        return loss

    def init_optimizers(self) -> None:
        """One for the encoder, one for the head."""
        pairs = (("encoder", ENCODER), ("head", HEAD))
        self.optimizers_dict = {name: torch.optim.Adam(self.modules[name].parameters(), rate) for name, rate in pairs}


def recipe_way(work: Work, saved: Path, fed: Fed) -> Way:
    """The recipe's loop."""
    encoder = Wav2Vec2(work.source, str(saved), output_norm=True, freeze_feature_extractor=True)
    encoder.model.feature_extractor._freeze_parameters()  # as the recipe does: no gradient of the wave is asked for
    head = Linear(input_size=encoder.model.config.hidden_size, n_neurons=len(CLASSES), bias=False)
    parts = {"pool": StatisticsPooling(return_std=False), "log_softmax": Softmax(apply_log=True)}
    options = {"device": work.device, "max_grad_norm": CLIP, "noprogressbar": True}
    brain = Theirs({"encoder": encoder, "head": head}, hparams=parts, run_opts=options)
    brain.fed = fed
    items = {one.id: {"wav": str(work.data.root / one.path), "label": label(one)} for one in work.chosen}
    dataset = DynamicItemDataset(items, output_keys=["id", "sig", "label"])
    dataset.add_dynamic_item(read_audio, takes="wav", provides="sig")
    loader = brain.make_dataloader(dataset, sb.Stage.TRAIN, batch_size=work.batch, shuffle=True, drop_last=False)
    brain.modules.eval()
    with torch.no_grad():
        frames = brain.modules.encoder(work.first(), torch.ones(1, device=work.device))
    return _way("recipe, fp32", brain, loader, frames, deterministic=False)


def _way(name: str, brain: Any, loader: Any, frames: Tensor, *, deterministic: bool) -> Way:  # noqa: ANN401
    """An epoch of a brain; what it made before the first one is compared."""

    def ready(folder: Path) -> None:
        torch.backends.cudnn.deterministic = deterministic  # sertk asks for it, the recipe does not

    epochs = itertools.count(1)

    def run(folder: Path) -> None:
        brain.fit([next(epochs)], loader, progressbar=False)
        if frames.is_cuda:
            torch.cuda.synchronize()

    def read(folder: Path) -> Arrays:
        return {"frames": frames.float().cpu().numpy()}

    return Way(name, run, read, ready)


if __name__ == "__main__":
    main()

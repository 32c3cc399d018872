"""Whether training waits for its loader: loader.py --root RAVDESS [--system p5-baseline] [--set ...].

A is the loader alone: an epoch of a fold from cached features, with one worker, its start included. B is training on
the same batches, which are in memory: front end, model, loss, backward, optimizer. B / A above 1: one worker gives
batches faster than they are used. Both must be of the same rows.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import harness
import numpy as np
from harness import Arrays, Way
from speechbrain.core import Stage

from sertk.corpus.prepared import Data
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.settings.overrides import Choices
from sertk.settings.schema import Settings
from sertk.stages.featurize import featurize
from sertk.training.assemble import make_order, make_parts, make_setup, make_training, rows_of, share
from sertk.training.loading import Item, Loader
from sertk.training.loop import EmotionBrain


def main() -> None:
    """Prints a row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="the folder of RAVDESS")
    parser.add_argument("--system", default="p5-baseline", help="of cached features, without augmentation of waves")
    parser.add_argument("--set", action="append", default=[], help="a setting, as `sertk train` takes it")
    parser.add_argument("--pairs", type=int, default=6)
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "numpy"))
    print(harness.HEADER)
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as name:
        folder = Path(name)
        data = Data(harness.prepared("ravdess", ask.root, folder / "data"))
        more = {"protocol": "emobox", "fold": "1", "train.checkpoint_steps": 0}
        settings = merge.load(ask.system, None, {**Choices(set=ask.set).overrides(), **more})
        featurize(data, settings, 1)
        ways, rows = made(settings, data, folder / "run")
        result = harness.compare(*ways, ask.pairs, 0.0)
    print(result.row(f"{rows} rows of {ask.system}, an epoch", *(way.name for way in ways)))


def made(settings: Settings, data: Data, out: Path) -> tuple[tuple[Way, Way], int]:
    """The loader and the training, and the rows of an epoch."""
    folds = data.protocol("emobox")
    setup = make_setup(share(Plugins(), settings, data, folds, ["1"]), settings, out)
    parts = make_parts(setup.shared.plugins, settings, setup.task, setup.shared.made)
    rows = rows_of(setup, setup.fold.train)
    _, order = make_order(setup, parts.mixture, rows)
    training = make_training(setup, "select", None, parts, order)
    brain = EmotionBrain(training)
    brain.on_fit_start()
    kept = list(Loader(rows, order, 0, "kept"))
    loaded: list[Item] = []

    def load(folder: Path) -> None:
        loaded[:] = Loader(rows, order, 1, "train")

    def train(folder: Path) -> None:
        brain.modules.train()
        brain.on_stage_start(Stage.TRAIN, 1)
        for brain.step, item in enumerate(kept, 1):
            brain.fit_batch(item)

    def sizes(items: list[Item]) -> Arrays:
        return {"rows": np.array([len(item.batch.ids) for item in items])}

    loader = Way("the loader, one worker", load, lambda folder: sizes(loaded))
    return (loader, Way("training", train, lambda folder: sizes(kept))), len(rows.labels)


if __name__ == "__main__":
    main()

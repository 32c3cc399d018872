"""Stage 3: features or waves of folds -> run folders, each with its bundle `model/`."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch

from sertk.console.progress import say
from sertk.core import SertkError, UsageError
from sertk.core.files import part_of, sentence
from sertk.corpus.prepared import Data
from sertk.modeling.borders import inside
from sertk.modeling.build import Body, about_frozen, with_frozen
from sertk.modeling.frontend import Frontend
from sertk.modeling.model import Model
from sertk.plugins import Plugins
from sertk.settings.schema import LossTerm, Settings
from sertk.settings.several import folds_of, seeds_of
from sertk.training import distributed, pilot, record, run_folder, warm_start
from sertk.training.assemble import (
    Parts,
    Setup,
    Shared,
    make_order,
    make_parts,
    make_setup,
    make_training,
    rehearse,
    rows_of,
    share,
)
from sertk.training.loading import Loader, Rows
from sertk.training.loop import EmotionBrain
from sertk.training.loss import with_losses
from sertk.training.state import Training


def train(
    settings: Settings,
    data: Data,
    out: Path,
    named: Sequence[LossTerm] = (),
    *,
    folds: str | None = None,
    seeds: str | None = None,
    force: bool = False,
) -> int:
    """Trains folds with seeds, or goes on with them.

    Args:
        settings: With the protocol.
        data: A prepared and featurized corpus.
        out: The run folder; of several runs the folder of their system, and a run is `fold=NAME/seed=N` in it.
        named: The losses that the command line names.
        folds: See `folds_of`; that of the settings where None.
        seeds: See `seeds_of`; that of the settings where None.
        force: Delete earlier runs instead of going on with them.

    Returns:
        How many of several runs failed, the others being done; each says why, in its `failed.json` too.

    Raises:
        SertkError: On settings that contradict each other; where no run was done, for a folder of another run, a loss
            that is no number and whatever else ends one.
    """
    with distributed.process_group():
        plugins = Plugins(files=settings.plugins)
        protocol = data.protocol(settings.protocol)
        text = settings.fold if folds is None else folds
        if text is None:
            known = ", ".join(protocol.folds)
            raise UsageError(f"no fold is given; give --fold with some of {known}, #n by position, or all.")
        chosen = folds_of(text, list(protocol.folds))
        numbers = (settings.seed,) if seeds is None else seeds_of(seeds)
        settings, added = with_losses(plugins, settings, named)
        # of where and how nothing is kept that says what else there was to do
        settings = replace(settings, root=None, jobs=1, folds=("all",))
        computed = with_frozen(plugins, settings)
        rehearse(plugins, computed, protocol.classes)
        if settings.train.threads:
            torch.set_num_threads(settings.train.threads)
        shared = share(plugins, computed, data, protocol, chosen)
        if frozen := about_frozen(plugins, settings):
            say(frozen)
        if added:
            own = ", ".join(added)
            say(f"none of the named losses trains the emotion head: the system's own {own} stays beside them")
        runs = [
            Run(shared, *(replace(one, fold=fold, seed=seed, seeds=(seed,)) for one in (settings, computed)))
            for fold, seed in product(chosen, numbers)
        ]
        if len(runs) == 1:
            runs[0].train(out, force=force)
            return 0
        return _train_all(runs, out, force=force)


def _train_all(runs: Sequence[Run], out: Path, *, force: bool) -> int:
    """Trains several runs; gives how many failed.

    Raises:
        Exception: That of the first run, where all failed; any, where several processes train, for they are then no
            longer at the same place.
    """
    failed: list[Exception] = []
    for number, run in enumerate(runs, 1):
        say(f"run {number} of {len(runs)}: fold {run.settings.fold}, seed {run.settings.seed}")
        try:
            run.train(out / f"fold={part_of(str(run.settings.fold))}" / f"seed={run.settings.seed}", force=force)
        except Exception as error:  # a run can fail in any way, and ends only itself
            if distributed.world_size() > 1:
                raise
            failed.append(error)
            say(f"fold {run.settings.fold}, seed {run.settings.seed} failed: {sentence(error)}")
    if len(failed) == len(runs):
        raise failed[0]
    if failed:
        say(f"{len(failed)} of {len(runs)} runs failed, see failed.json in their folders")
    return len(failed)


class Run(NamedTuple):
    """One fold with one seed.

    Attributes:
        shared: With the other runs.
        settings: Its own, as the user gave them.
        computed: The same; what is frozen is a feature.
    """

    shared: Shared
    settings: Settings
    computed: Settings

    def train(self, out: Path, *, force: bool) -> None:
        """Trains in a folder; what ends it stands in `failed.json` there."""
        lock = distributed.rank_zero(lambda: run_folder.lock(out))
        try:
            distributed.rank_zero(lambda: run_folder.claim(self.settings, out, force=force))
            with run_folder.failure(out) if lock else nullcontext():
                _train(make_setup(self.shared, self.computed, out))
        finally:
            if lock:
                lock.close()


def _train(setup: Setup) -> None:
    """Trains in a folder that is claimed and locked."""
    began, t = time.monotonic(), setup.settings.train
    parts = _parts(setup)
    distributed.rank_zero(lambda: run_folder.claim_data(setup.out, record.began_with(setup, parts)))
    if (setup.out / "model" / "bundle.json").exists():
        say(f"{setup.out} is trained already")
        return
    processes = distributed.world_size()
    rows = t.batch * t.accumulate * processes
    made = f"train.batch {t.batch} x train.accumulate {t.accumulate} x processes {processes}"
    say(f"{rows} rows an optimizer step: {made}")
    selected = _fit(setup, "select", None, parts)
    best = selected.history.best
    if not best["weights"]:
        raise SertkError(f"{setup.out}: no epoch was finished; raise train.epochs.")
    say(f"selected epoch {best['epoch']}: dev {t.metric.name} {selected.metric.text(best['score'])}")
    final = selected
    if t.refit:
        say(f"refit on train + dev for {best['steps']} steps")
        final = _fit(setup, "refit", selected, _parts(setup))
    else:
        final.model.load_state_dict(best["weights"])
    seconds = time.monotonic() - began
    distributed.rank_zero(lambda: record.write(setup, final, best, seconds))
    say(f"wrote {setup.out / 'model'}")


def _parts(setup: Setup) -> Parts:
    return make_parts(setup.shared.plugins, setup.settings, setup.task, setup.shared.made)


def _fit(setup: Setup, phase: str, selected: Training | None, parts: Parts) -> Training:
    """Trains with dev (phase "select"), or on train + dev for the steps that were selected ("refit")."""
    s, fold = setup.settings, setup.fold
    body, mixture = parts.body, parts.mixture
    augment = body.frontend.augment
    copies = math.prod(one.copies for one in augment)
    ids = fold.train if selected is None else (*fold.train, *fold.dev)
    rows = rows_of(setup, ids, copies, max((one.partners for one in augment), default=0))
    sampler, order = make_order(setup, mixture, rows)
    plans = [(1, plan) for plan in sampler.epoch(1, s.seed)[: s.pilot or 0]]  # the same on all ranks
    sampler.shard(distributed.rank(), distributed.world_size())
    training = make_training(setup, phase, selected, parts, order)
    _say_uncut(body, rows, s)
    plain = rows_of(setup, ids)
    if setup.shared.init:
        _warm_start(setup, training)
    else:
        for feature in body.frontend.features.values():
            with inside(feature.who):
                feature.fit(plain.utterances)  # before a resumed run too: it follows from the utterances alone
        if not training.checkpoints:
            _normalize(parts.model, body, plain, s)
    brain = EmotionBrain(training)
    if selected is not None:
        mixture.weight.copy_(selected.mixture.weight)
    elif plans and not training.checkpoints:
        pilot.weigh(brain, Loader(rows, plans, s.train.workers, "pilot"), setup.out / "pilot.json")
    dev = _dev(setup) if selected is None else None
    brain.train_on(Loader(rows, order, s.train.workers, "train"), dev)
    return training


def _dev(setup: Setup) -> Loader:
    """The dev rows of this rank."""
    s = setup.settings
    rows = rows_of(setup, setup.fold.dev)
    mine = rows.in_order(s.score.batch)[distributed.rank() :: distributed.world_size()]
    return Loader(rows, mine, s.train.workers, "dev")


def _say_uncut(body: Body, rows: Rows, s: Settings) -> None:
    """Says so where windows are asked for and no input is long enough to be cut into them."""
    span, longest = body.dims.segments, max(one.duration or 0.0 for one in rows.utterances)
    frames = (s.crop.length if s.crop else longest) / body.backbone.frame_seconds  # a crop pads what is shorter
    if span and frames <= span.length:
        say(
            f"segments {span.length}:{span.hop}: the longest training input has {frames:.0f} frames of this backbone, "
            "so none is cut. Give fewer frames, or seconds (2.8s:1.4s)"
        )


def _warm_start(setup: Setup, training: Training) -> None:
    """Begins with the weights, the statistics and the fitted features of `train.init`."""
    begun = warm_start.begin(Path(setup.settings.train.init or ""), setup.shared.plugins, setup.settings)
    weights = {name: feature.weights for name, feature in training.frontend.features.items()}
    warm_start.take(begun, training.model, training.settings, weights, setup.task.classes)
    warm_start.warn(begun, setup.about)
    for name, feature in training.frontend.features.items():
        feature.restore(begun.frontend.features[name].files())


def _normalize(model: Model, body: Body, rows: Rows, s: Settings) -> None:
    """Fits the statistics of the inputs on the training utterances as they are, not augmented."""
    whole = Frontend(body.frontend.features, None)  # statistics are of real frames, not of what a crop pads
    for name, normalize in model.normalize.items():
        loader = Loader(rows, rows.in_order(s.score.batch), s.train.workers, "statistics")
        normalize.fit((whole(item.batch).inputs[name] for item in loader), scalar=s.normalize == "scalar")

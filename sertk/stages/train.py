"""Stage 3: features or waves of a fold -> a run folder with its bundle `model/`."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

from sertk.console.progress import say
from sertk.core import SertkError, UsageError
from sertk.core.files import digest, read_json
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds
from sertk.modeling import build, bundle
from sertk.modeling.borders import inside
from sertk.modeling.build import Body, about_frozen, with_frozen
from sertk.modeling.frontend import Frontend
from sertk.modeling.model import Model
from sertk.plugins import Plugins, file_hash
from sertk.settings.plain import difference
from sertk.settings.schema import LossTerm, Settings
from sertk.training import distributed, pilot, run_folder, warm_start
from sertk.training.assemble import Parts, Setup, make_order, make_parts, make_setup, make_training, rehearse, rows_of
from sertk.training.loading import Loader, Rows
from sertk.training.loop import EmotionBrain
from sertk.training.loss import with_losses
from sertk.training.state import Training


def train(settings: Settings, data: Data, out: Path, named: Sequence[LossTerm] = (), *, force: bool = False) -> None:
    """Trains one fold with one seed, or goes on with it.

    Args:
        settings: With protocol, fold and seed.
        data: A prepared and featurized corpus.
        out: The run folder.
        named: The losses that the command line names.
        force: Delete an earlier run in `out` instead of going on with it.

    Raises:
        SertkError: On settings that contradict each other, a folder of another run, or a loss that is no number.
    """
    with distributed.process_group():
        plugins = Plugins(files=settings.plugins)
        folds = data.protocol(settings.protocol)
        if settings.fold is None:
            raise UsageError(f"no fold is given; give --fold with one of {', '.join(folds.folds)}, or #n by position.")
        settings, added = with_losses(plugins, settings, named)
        # of where and how nothing is kept that says what else there was to do
        name, seeds = folds.name_of(str(settings.fold)), (settings.seed,)
        settings = replace(settings, fold=name, root=None, jobs=1, folds=("all",), seeds=seeds)
        computed = with_frozen(plugins, settings)
        rehearse(plugins, computed, folds.classes)
        lock = distributed.rank_zero(lambda: run_folder.lock(out))
        if frozen := about_frozen(plugins, settings):
            say(frozen)
        try:
            distributed.rank_zero(lambda: run_folder.claim(settings, out, force=force))
            _run(plugins, computed, data, folds, out, added)
        finally:
            if lock:
                lock.close()


def _run(plugins: Plugins, settings: Settings, data: Data, folds: Folds, out: Path, added: Sequence[str]) -> None:
    """Trains in a folder that is claimed and locked."""
    t = settings.train
    if t.threads:
        torch.set_num_threads(t.threads)
    setup = make_setup(plugins, settings, data, folds, out)
    parts = make_parts(plugins, settings, setup.task)
    distributed.rank_zero(lambda: run_folder.claim_data(out, _began_with(setup, parts)))
    if added:
        say(f"none of the named losses trains the emotion head: the system's own {', '.join(added)} stays beside them")
    if (out / "model" / "bundle.json").exists():
        say(f"{out} is trained already")
        return
    processes = distributed.world_size()
    rows = t.batch * t.accumulate * processes
    made = f"train.batch {t.batch} x train.accumulate {t.accumulate} x processes {processes}"
    say(f"{rows} rows an optimizer step: {made}")
    selected = _fit(setup, "select", None, parts)
    best = selected.history.best
    if not best["weights"]:
        raise SertkError(f"{out}: no epoch was finished; raise train.epochs.")
    say(f"selected epoch {best['epoch']}: dev {t.metric.name} {selected.metric.text(best['score'])}")
    final = selected
    if t.refit:
        say(f"refit on train + dev for {best['steps']} steps")
        final = _fit(setup, "refit", selected, make_parts(plugins, settings, setup.task))
    else:
        final.model.load_state_dict(best["weights"])
    distributed.rank_zero(lambda: _write(setup, final, best))
    say(f"wrote {out / 'model'}")


def _began_with(setup: Setup, parts: Parts) -> dict[str, object]:
    """What a run must find unchanged when it goes on."""
    ids = sorted(i for part in setup.ids for i in part)
    files = sorted([Path(one).name, file_hash(one)] for one in setup.settings.plugins)
    return {
        "protocol": setup.folds.about(setup.fold),
        "audio": digest([setup.data.facts[i].sha256 for i in ids]),
        "features": setup.features,
        "weights": build.weights(parts.body),
        "versions": {name: version(name) for name in bundle.STACK},
        "init": setup.init,
        **({"plugins": files} if files else {}),
    }


def _fit(setup: Setup, phase: str, selected: Training | None, parts: Parts) -> Training:
    """Trains with dev (phase "select"), or on train + dev for the steps that were selected ("refit")."""
    s, fold = setup.settings, setup.ids
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
    if setup.init:
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
    rows = rows_of(setup, setup.ids.dev)
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
    begun = bundle.read(Path(setup.settings.train.init or ""), setup.plugins)
    weights = {name: feature.weights for name, feature in training.frontend.features.items()}
    warm_start.take(begun, training.model, training.settings, weights, setup.folds.classes)
    warm_start.warn(begun, setup.folds.about(setup.fold))
    for name, feature in training.frontend.features.items():
        feature.restore(begun.frontend.features[name].files())


def _normalize(model: Model, body: Body, rows: Rows, s: Settings) -> None:
    """Fits the statistics of the inputs on the training utterances as they are, not augmented."""
    whole = Frontend(body.frontend.features, None)  # statistics are of real frames, not of what a crop pads
    for name, normalize in model.normalize.items():
        loader = Loader(rows, rows.in_order(s.score.batch), s.train.workers, "statistics")
        normalize.fit((whole(item.batch).inputs[name] for item in loader), scalar=s.normalize == "scalar")


def _seen(setup: Setup) -> list[str]:
    """16 hex digits of each recording that the weights learned from, those of `train.init` included.

    So scores find it out where a test, of this corpus or another, has one of them.
    """
    fold, init = setup.ids, setup.settings.train.init
    before = bundle.seen(read_json(Path(init) / "bundle.json", bundle.OBTAIN, newer=True)) if init else ()
    return sorted({*before, *(setup.data.facts[i].sha256[:16] for i in (*fold.train, *fold.dev))})


def _identity(s: Settings) -> str:
    """16 hex digits of what makes the system of a run: the settings that are not at their defaults, plugin files."""
    # each fold may begin with a bundle of its own
    own = {**difference(s, Settings()), "train.init": s.train.init is not None}
    return digest([own, sorted(map(file_hash, s.plugins))])


def _write(setup: Setup, final: Training, best: Mapping[str, object]) -> None:
    s = setup.settings
    about = {
        "classes": list(setup.folds.classes),
        "protocol": setup.folds.about(setup.fold),
        "training": {
            "system": Path(s.system).stem if s.system else None,
            "settings": _identity(s),
            "seed": s.seed,
            "epoch": best["epoch"],
            "steps": best["steps"],
            "dev": {s.train.metric.name: best["score"]},
            "refit": s.train.refit,
            "weights": final.weights,
            "losses": final.mixture.weights,
            "ranks": distributed.world_size(),
            "init": setup.init,
            "seen": _seen(setup),
        },
    }
    beside = run_folder.bundles_beside(setup.out)
    bundle.write(setup.out / "model", final.model, final.frontend, final.settings, about, setup.plugins, beside)
    shutil.rmtree(setup.out / "checkpoints", ignore_errors=True)

"""A run: one fold with one seed, from its settings to its bundle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from sertk.console.progress import on, say
from sertk.core import SertkError
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds
from sertk.modeling.borders import inside
from sertk.modeling.build import Body, with_frozen
from sertk.modeling.frontend import Frontend, most_seconds
from sertk.plugins import Plugins
from sertk.settings.schema import DecisionSpec, Settings
from sertk.training import distributed, hearing, initial, pilot, probe, record, run_folder, temperature
from sertk.training.assemble import (
    Parts,
    Setup,
    Shared,
    check_aux,
    check_texts,
    decided,
    make_order,
    make_parts,
    make_setup,
    make_training,
    rehearse,
    rows_of,
    share,
    training_rows,
)
from sertk.training.curves import Curves
from sertk.training.hearing import Hearing
from sertk.training.loading import Loader, Rows
from sertk.training.loop import EmotionBrain
from sertk.training.state import Training, Watch


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

    @property
    def name(self) -> str:
        """Its fold and seed."""
        return f"fold {self.settings.fold}, seed {self.settings.seed}"

    def train(self, out: Path, *, force: bool) -> None:
        """Trains in a folder; what ends it stands in `failed.json` there."""
        with self._in(out, force=force) as setup:
            _train(setup)

    def dev_score(self, out: Path, watch: Watch) -> float:
        """Trains in a folder to the selected epoch alone, as `train` does, and gives its dev score; makes no bundle.

        Args:
            out: The run folder.
            watch: Told of each epoch; where it raises PrunedError, `pruned.json` says so.
        """
        with self._in(out, force=False) as setup:
            parts = _claimed(setup)
            score: float = _select(setup._replace(watch=watch), parts).history.best["score"]
            return score

    @contextmanager
    def _in(self, out: Path, *, force: bool) -> Iterator[Setup]:
        """Holds a folder and claims it."""
        lock = distributed.rank_zero(lambda: run_folder.lock(out))
        try:
            distributed.rank_zero(lambda: run_folder.claim(self.settings, out, force=force))
            with on(self.name), run_folder.failure(out) if lock else nullcontext():
                yield make_setup(self.shared, self.computed, out)
        finally:
            if lock:
                lock.close()


def make_runs(
    plugins: Plugins,
    settings: Settings,
    data: Data,
    protocol: Folds,
    places: Sequence[tuple[str, int]],
    shared: Callable[[Settings], Shared] | None = None,
) -> list[Run]:
    """Checks settings, and makes the runs that have them.

    Args:
        plugins: The registry.
        settings: With all losses.
        data: A prepared and featurized corpus.
        protocol: Its folds.
        places: Fold and seed of each run.
        shared: Gives what the runs share, where the caller keeps it; made anew by default.

    Raises:
        SertkError: On settings that contradict each other, or where a feature cannot be had.
    """
    # of where and how nothing is kept that says what else there was to do
    settings = replace(settings, root=None, jobs=1, launcher=Settings().launcher, folds=("all",))
    computed = with_frozen(plugins, settings)
    rehearse(plugins, computed, protocol.classes, protocol.aux)
    if settings.train.threads:
        torch.set_num_threads(settings.train.threads)
    chosen = list(dict.fromkeys(fold for fold, _ in places))
    common = shared(computed) if shared else share(plugins, computed, data, protocol, chosen)
    return [
        Run(common, *(replace(one, fold=fold, seed=seed, seeds=(seed,)) for one in (settings, computed)))
        for fold, seed in places
    ]


def _claimed(setup: Setup) -> Parts:
    """The parts of a run, whose folder is then this run's or was before."""
    parts = _parts(setup)
    distributed.rank_zero(lambda: run_folder.claim_data(setup.out, record.began_with(setup, parts)))
    return parts


def _train(setup: Setup) -> None:
    """Trains in a folder that is claimed and locked."""
    began, t = time.monotonic(), setup.settings.train
    parts = _claimed(setup)
    if (setup.out / "model" / "bundle.json").exists():
        say(f"{setup.out} is trained already")
        return
    resumed = run_folder.begun(setup.out)
    selected = _select(setup, parts)
    best = selected.history.best
    final, decision = selected, _decision(setup, selected)
    if t.refit:
        say(f"refit on train + dev for {best['steps']} steps")
        final = _fit(setup, "refit", selected, _parts(setup))
    final.settings = replace(final.settings, decision=decision)
    seconds = time.monotonic() - began
    distributed.rank_zero(lambda: record.write(setup, final, best, seconds, resumed=resumed))
    say(f"wrote {setup.out / 'model'}")


def _select(setup: Setup, parts: Parts) -> Training:
    """Trains with dev; the model has the weights of the selected epoch then.

    Raises:
        SertkError: Where no epoch was finished.
    """
    t, processes = setup.settings.train, distributed.world_size()
    check_aux(setup, parts.mixture.aux)
    check_texts(setup, parts.body)
    setup.shared.reader.check(setup.shared.data.select([*setup.fold.train, *setup.fold.dev]))
    rows = t.batch * t.accumulate * processes
    made = f"train.batch {t.batch} x train.accumulate {t.accumulate} x processes {processes}"
    say(f"{rows} rows an optimizer step: {made}")
    selected = _fit(setup, "select", None, parts)
    best = selected.history.best
    if not best["weights"]:
        raise SertkError(f"{setup.out}: no epoch was finished; raise train.epochs.")
    say(f"selected epoch {best['epoch']}: dev {t.metric.name} {selected.metric.text(best['score'])}")
    selected.model.load_state_dict(best["weights"])
    return selected


def _decision(setup: Setup, selected: Training) -> DecisionSpec:
    """The decision of the bundle: of the selected model, with its temperature as a number.

    A refit keeps it: it has learned dev, and would be surer there than of anybody else.
    """
    found = selected.settings.decision
    if not isinstance(found.temperature, str):
        return found
    return replace(
        found, temperature=temperature.fit(selected, _plain(setup, selected, setup.fold.dev, "dev", trained=True))
    )


def _parts(setup: Setup) -> Parts:
    return make_parts(setup.shared.plugins, setup.settings, setup.task, setup.shared.made)


def _fit(setup: Setup, phase: str, selected: Training | None, parts: Parts) -> Training:
    """Trains with dev (phase "select"), or on train + dev for the steps that were selected ("refit")."""
    s, fold = setup.settings, setup.fold
    body, mixture = parts.body, parts.mixture
    ids = fold.train if selected is None else (*fold.train, *fold.dev)
    rows = training_rows(setup, parts, ids)
    _check_longest(body, rows, s)
    sampler, order = make_order(setup, mixture, rows)
    plans = [(1, plan) for plan in sampler.epoch(1, s.seed)[: s.pilot or 0]]  # the same on all ranks
    sampler.shard(distributed.rank(), distributed.world_size())
    training = make_training(setup, phase, selected, parts, order)
    _say_uncut(body, rows, s)
    plain = rows_of(setup, ids)
    if setup.shared.init:
        _continue(setup, training)
    else:
        for feature in body.frontend.features.values():
            with inside(feature.who):
                # before a resumed run too: it follows from the utterances alone
                feature.fit(plain.utterances, plain.wave)
        # a resumed run reads them with its weights, and that is later than the speakers are heard
        if s.by_speaker or not training.checkpoints:
            hearing.fit_inputs(parts.model, _whole(body), plain, s)
    training.hearing = _hear(training, body, rows, plain, s)
    dev = _plain(setup, training, fold.dev, "dev") if selected is None else None
    brain = EmotionBrain(training, _curves(setup, training) if s.train.curves and selected is None else None)
    if training.hearing is not None and not training.checkpoints:
        training.hearing.refresh()
    linear = probe.make(setup.shared.plugins, s.train.warm_start)
    if linear is not None and not training.checkpoints:
        every = Loader(plain, plain.in_order(s.score.batch), s.train.workers, "probe")
        probe.start(linear, training, every, balanced=s.class_weights == "balanced")
    if selected is not None:
        mixture.weight.copy_(selected.mixture.weight)
    elif plans and not training.checkpoints:
        pilot.weigh(brain, Loader(rows, plans, s.train.workers, "pilot"), setup.out / "pilot.json")
    if training.average is not None and not training.checkpoints:
        training.average.begin()
    brain.train_on(Loader(rows, order, s.train.workers, "train"), dev)
    if training.average is not None:
        training.average.swap()
    if training.hearing is not None and selected is not None:  # what was selected has the statistics that it had on dev
        training.hearing.refresh()
    return training


def _whole(body: Body) -> Frontend:
    return Frontend(body.frontend.features, None)


def _hear(training: Training, body: Body, rows: Rows, plain: Rows, s: Settings) -> Hearing | None:
    """Gives training rows, and each utterance once, the statistics of their speakers; what hears them again."""
    parts = training.model, _whole(body), training.decider.span
    if s.by_speaker:
        hearing.say_unknown(plain.utterances)
    if s.hears:
        return Hearing(*parts, rows, plain, s)
    rows.speakers = hearing.speakers_of(*parts, plain, s, s.speakers.draws)
    plain.speakers = hearing.speakers_of(*parts, plain, s) if s.train.warm_start.name != "none" else None
    return None


def _plain(
    setup: Setup,
    training: Training,
    ids: Sequence[str],
    what: str,
    aux: Collection[str] = (),
    *,
    trained: bool = False,
) -> Loader:
    """Utterances as they are, those of this rank, in a fixed order; their speakers are known by all of them.

    Args:
        setup: Of the run.
        training: Of the pass; its model changes while it is not `trained`.
        ids: Of the utterances.
        what: The loader's name.
        aux: Auxiliary tasks whose labels are read.
        trained: Whether the model stays as it is.
    """
    s, rows = setup.settings, rows_of(setup, ids, aux=aux)
    if s.by_speaker:
        hearing.say_unknown(rows.utterances)
    if training.hearing is not None and not trained:
        training.hearing.add(rows)
    else:
        frontend = Frontend(training.frontend.features, None)
        rows.speakers = hearing.speakers_of(training.model, frontend, training.decider.span, rows, s)
    mine = rows.in_order(s.score.batch)[distributed.rank() :: distributed.world_size()]
    return Loader(rows, mine, s.train.workers, what)


def _curves(setup: Setup, training: Training) -> Curves:
    """What measures train and dev after each epoch."""
    own, aux = {"train": setup.fold.train, "dev": setup.fold.dev}, training.mixture.aux
    loaders = {name: _plain(setup, training, ids, f"curves of {name}", aux) for name, ids in own.items()}
    return Curves({name: (loader, decided(setup, own[name])) for name, loader in loaders.items()})


def _check_longest(body: Body, rows: Rows, s: Settings) -> None:
    """Refuses a training utterance that the model does not take whole, before epochs are spent on the others.

    Where silence is trimmed it is not known yet how long they are.

    Raises:
        SertkError: There.
    """
    most = most_seconds(body.frontend.features, body.backbone, s.crop)
    longest = max(rows.utterances, key=lambda one: one.duration or 0.0)
    seconds, stretch = longest.duration or 0.0, math.prod(one.stretch for one in body.frontend.augment)
    if s.audio.trim_db is None and seconds * stretch > most:
        made = f", and augmentations make it up to {seconds * stretch:.1f} s" if stretch > 1 else ""
        raise SertkError(
            f"the training utterance {longest.id} is {seconds:.1f} s{made}, which is above the {most:g} s that the "
            f"model takes. Cut the file{', leave the augmentation out' * (stretch > 1)}, or, where the encoder is the "
            "backbone and no frozen feature, set crop: {length: 10, train: random, score: all}."
        )


def _say_uncut(body: Body, rows: Rows, s: Settings) -> None:
    """Says so where windows are asked for and no input is long enough to be cut into them."""
    span, longest = body.dims.segments, max(one.duration or 0.0 for one in rows.utterances)
    frames = (s.crop.length if s.crop else longest) / body.backbone.frame_seconds  # a crop pads what is shorter
    if span and frames <= span.length:
        say(
            f"segments {span.length}:{span.hop}: the longest training input has {frames:.0f} frames of this backbone, "
            "so none is cut. Give fewer frames, or seconds (2.8s:1.4s)"
        )


def _continue(setup: Setup, training: Training) -> None:
    """Begins with the weights, the statistics and the fitted features of `train.init`."""
    begun = initial.begin(Path(setup.settings.train.init or ""), setup.shared.plugins, setup.settings)
    weights = {name: feature.weights for name, feature in training.frontend.features.items()}
    initial.take(begun, training.model, training.settings, weights, setup.task.classes)
    initial.warn(begun, setup.about)
    for name, feature in training.frontend.features.items():
        feature.restore(begun.frontend.features[name].files())

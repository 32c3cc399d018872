"""A run's parts, assembled from its settings: rows, model, objective, optimizers, schedules."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sertk.console.progress import say
from sertk.core import WHOLE, AuxTask, BatchSampler, Dims, Feature, NotHereError, SertkError, Task, UsageError, key
from sertk.core.files import Record
from sertk.corpus.features import address, cached, reads_of, share_features, stores
from sertk.corpus.folding import Fold, subset
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds, value_of
from sertk.modeling import build, bundle
from sertk.modeling.build import Body
from sertk.modeling.decide import check_temperature, make_decider
from sertk.modeling.frontend import Frontend
from sertk.modeling.limits import asks_for_values
from sertk.modeling.model import Model
from sertk.plugins import Plugins
from sertk.results.measures import Measure
from sertk.settings.schema import Component, Settings, TrainSettings
from sertk.training import distributed, initial, optim, probe
from sertk.training.checkpoint import Checkpoints
from sertk.training.dev import Dev
from sertk.training.history import History
from sertk.training.loading import Order, Reader, Rows
from sertk.training.loss import Mixture, chosen_heads, chosen_sampler, make_mixture
from sertk.training.state import Training, Watch


class Shared(NamedTuple):
    """What the runs of a process share: made and read once, however many folds and seeds there are.

    Attributes:
        plugins: The registry.
        data: The prepared corpus.
        folds: The protocol.
        reader: Gives inputs.
        made: Features by input; not those that a run makes for itself, see `share_features`.
        kept: Their files, as bundles have them.
        features: Keys of the cached features, by input.
        init: Hash of the bundle's weights that the runs begin with.
    """

    plugins: Plugins
    data: Data
    folds: Folds
    reader: Reader
    made: Mapping[str, Feature]
    kept: bundle.Kept
    features: Mapping[str, str]
    init: str | None


def share(plugins: Plugins, settings: Settings, data: Data, folds: Folds, chosen: Sequence[str]) -> Shared:
    """Makes the features, and reads those that are cached.

    Args:
        plugins: The registry.
        settings: Of the runs, whatever fold and seed; what is frozen is a feature already.
        data: The prepared corpus.
        folds: The protocol.
        chosen: The folds of the runs, by name.

    Raises:
        SertkError: Where a feature cannot be had.
    """
    made = share_features(plugins, settings)
    kept = stores(data.folder, settings, plugins, made)
    ids = {i for name in chosen for i in (*folds.fold(name).train, *folds.fold(name).dev)}
    read = [one for i, one in data.utterances.items() if i in ids]
    loaded = {n: store.loaded([address(store.reads, one, data.facts) for one in read]) for n, store in kept.items()}
    raw = {reads_of(plugins, spec) for name, spec in settings.inputs.items() if name not in kept}
    reader = Reader(data, settings.audio, loaded, sorted(raw))
    features = {name: store.folder.name for name, store in kept.items()}
    files: bundle.Kept = {name: {} for name in made}
    return Shared(plugins, data, folds, reader, made, files, features, initial.digest(settings.train.init))


class Setup(NamedTuple):
    """What both passes of a run, selection and refit, share.

    Attributes:
        shared: With the other runs of the process.
        settings: Of the run; what is frozen is a feature already.
        fold: The utterances of its parts, of train those of `train.subset`.
        task: Its classes, and the training utterances of each.
        out: The run folder.
        watch: Told of the epochs of the selection.
    """

    shared: Shared
    settings: Settings
    fold: Fold
    task: Task
    out: Path
    watch: Watch | None = None

    @property
    def about(self) -> Record:
        """What the bundle and its scores say of the fold."""
        return self.shared.folds.about(str(self.settings.fold))


def make_setup(shared: Shared, settings: Settings, out: Path) -> Setup:
    """Looks at the fold.

    Raises:
        SertkError: Where train or dev is empty, or a class has no training utterance.
    """
    folds = shared.folds
    fold = folds.fold(str(settings.fold))
    for part in ("train", "dev"):
        if not getattr(fold, part):
            raise SertkError(
                f"protocol {folds.name!r}, fold {settings.fold}: {part} is empty. Choose another protocol."
            )
    share = settings.train.subset
    if share < 1:
        whole, fold = fold, fold._replace(train=subset(fold.train, folds.labels, share))
        say(f"train.subset {share:g}: {len(fold.train)} of {len(whole.train)} training utterances")
    counts = torch.tensor([sum(folds.labels[i] == name for i in fold.train) for name in folds.classes])
    absent = [name for name, count in zip(folds.classes, counts.tolist(), strict=True) if not count]
    if absent:
        raise SertkError(
            f"protocol {folds.name!r}, fold {settings.fold}: no training utterance is of class "
            f"{', '.join(absent)}: it cannot be learned. Complete the corpus, or choose another protocol."
        )
    return Setup(shared, settings, fold, Task(folds.classes, counts, folds.aux), out)


def check_aux(setup: Setup, tasks: Collection[str]) -> None:
    """Says how the training utterances are labelled for each auxiliary task that a run trains.

    A scale that is not the task's is seen there: its values are all in one bin.

    Raises:
        SertkError: Where no training utterance has a label of a task.
    """
    for name in sorted(tasks):
        labels, task = _aux_labels(setup, name, setup.fold.train), setup.task.aux[name]
        known = labels[~labels.isnan()].long()
        if not len(known):
            raise SertkError(
                f"fold {setup.settings.fold} of {setup.shared.folds.name}: no training utterance has a label of task "
                f"{name!r}. Take another task."
            )
        counts = known.bincount(minlength=task.size).tolist()
        named = zip(task.classes or (f"bin {n + 1}" for n in range(task.size)), counts, strict=True)
        shares = ", ".join(f"{one} {count}" for one, count in named)
        say(f"task {name!r}: {len(known)} of {len(labels)} training utterances have a label: {shares}")


def check_texts(setup: Setup, body: Body) -> None:
    """Says how many utterances of train and dev have no transcript, where a run reads it.

    Raises:
        SertkError: Where there are some and the run reads nothing else, or all of train are.
    """
    utterances = setup.shared.data.utterances
    reads = {body.frontend.features[name].reads for name in body.backbone.inputs}
    if "text" not in reads:
        return
    for part, ids in {"train": setup.fold.train, "dev": setup.fold.dev}.items():
        lacking = [i for i in ids if not utterances[i].transcript]
        what = f"{len(lacking)} of {len(ids)} {part} utterances have no transcript"
        where = f"fold {setup.settings.fold} of {setup.shared.folds.name}: {what}"
        if lacking and reads == {"text"}:
            raise SertkError(
                f"{where}, such as {lacking[0]}, and the model reads nothing else. Take a fusion with another input, "
                "or a protocol without them."
            )
        if part == "train" and len(lacking) == len(ids):
            raise SertkError(f"{where}: there is nothing to learn from. Leave the text out.")
        if lacking:
            say(f"{what}: what reads it is not run for them")


def _aux_labels(setup: Setup, name: str, ids: Sequence[str]) -> Tensor:
    """(U,) number of the class or bin of each utterance."""
    utterances = setup.shared.data.utterances
    return setup.task.aux[name].numbers({i: value_of(utterances[i], name) for i in ids})


def rows_of(setup: Setup, ids: Sequence[str], copies: int = 1, partners: int = 0, aux: Collection[str] = ()) -> Rows:
    """The rows of some utterances, each in so many copies, with so many partners and the labels of some tasks."""
    shared, classes = setup.shared, setup.task.classes
    labels = torch.tensor([classes.index(shared.folds.labels[i]) for i in ids], dtype=torch.int64)
    utterances = shared.data.select(ids)
    found = {name: _aux_labels(setup, name, ids) for name in aux}
    return Rows(utterances, labels, len(classes), shared.reader, setup.settings.seed, copies, partners, found)


class Parts(NamedTuple):
    """What a pass is made of."""

    body: Body
    mixture: Mixture
    model: Model


def make_parts(
    plugins: Plugins, settings: Settings, task: Task, shared: Mapping[str, Feature] = MappingProxyType({})
) -> Parts:
    """The body, the objective and the model with the heads that it wants; weights follow from the seed.

    Args:
        plugins: The registry.
        settings: Of the run.
        task: Its classes.
        shared: Features that are made already.

    Raises:
        UsageError: On an unknown name, or settings that a part does not take or that do not go together.
    """
    torch.manual_seed(key(settings.seed, "weights") & (2**63 - 1))
    body = build.make_body(plugins, settings, train=True, shared=shared)
    mixture = make_mixture(plugins, settings, task, body.dims)
    model = build.make_model(plugins, settings, body, chosen_heads(settings, mixture.heads))
    _check_copies(settings, body.frontend)
    if settings.train.warm_start.name != "none":
        with settings.located("train.warm_start"):
            probe.check(model)
    if settings.train.mixup:
        with settings.located("train.mixup"):
            _check_mixup(mixture)
    return Parts(body, mixture, model)


def make_order(setup: Setup, mixture: Mixture, rows: Rows) -> tuple[BatchSampler, Order]:
    """The sampler of a pass and the batches of its epochs."""
    s = setup.settings
    sampler = _make_sampler(setup.shared.plugins, s, mixture, rows.labels, rows.lengths)
    return sampler, Order(sampler, s.seed, len(rows.labels))


def _make_sampler(
    plugins: Plugins, settings: Settings, mixture: Mixture, labels: Tensor, lengths: Tensor
) -> BatchSampler:
    """The sampler that the run or a loss wants.

    Args:
        plugins: The registry.
        settings: Of the run.
        mixture: The objective.
        labels: (R,) int64 class of every row.
        lengths: (R,) seconds.

    Raises:
        UsageError: On an unknown sampler or setting, or where it repeats what class weights do.
    """
    wanted = chosen_sampler(settings, mixture.sampler)
    made: BatchSampler = plugins.make("sampler", wanted, labels, lengths, settings.train.batch)
    if made.balances and settings.class_weights == "balanced":
        raise UsageError(
            f"{settings.at('class_weights')}class_weights balanced and sampler {wanted.name} both make classes count "
            "alike. Take one of them."
        )
    return made


def _check_copies(settings: Settings, frontend: Frontend) -> None:
    """Refuses two augmentations that copy every row.

    Raises:
        UsageError: There.
    """
    expanding = [type(one).__name__ for one in frontend.augment if one.copies > 1]
    if len(expanding) > 1:
        raise UsageError(
            f"{settings.at('augment')}augmentations {' and '.join(expanding)} both copy every row; keep one of them."
        )


def training_rows(setup: Setup, parts: Parts, ids: Sequence[str]) -> Rows:
    """The rows that a pass trains on: copies and partners as its augmentations ask, and the labels of its tasks."""
    augment = parts.body.frontend.augment
    copies, partners = math.prod(one.copies for one in augment), max((one.partners for one in augment), default=0)
    return rows_of(setup, ids, copies, partners, parts.mixture.aux)


def make_training(setup: Setup, phase: str, selected: Training | None, parts: Parts, order: Order) -> Training:
    """The parts of a pass with their optimizers, schedules, history and checkpoints.

    Args:
        setup: Of the run.
        phase: "select" or "refit".
        selected: The selection that a refit follows; None for the selection itself.
        parts: Body, objective and model.
        order: The batches of its epochs.
    """
    s, t = setup.settings, setup.settings.train
    order.set_epoch(1)
    per_epoch = -(-len(order) // t.accumulate)
    # the rates and the unfreezing of a refit are those of the run that chose its steps
    planned = per_epoch if selected is None else selected.history.per_epoch
    last = None if selected is None else selected.history.best["steps"]
    epochs = t.epochs if last is None else -(-last // per_epoch)
    optimizers = _optimizers(setup, parts)
    schedules = optim.make_schedules(setup.shared.plugins, t.schedule, optimizers, planned, planned * t.epochs)
    curves = setup.out / "tensorboard" / ("" if last is None else phase) if t.tensorboard else None
    metric = Measure(setup.shared.plugins, t.metric)
    history = History(
        setup.out / _log_name(phase),
        epochs,
        t.patience,
        per_epoch,
        dev=last is None,
        better=metric.better,
        text=metric.text,
        newest=t.select == "last",
        by_loss=t.ties == "loss",
        last_step=last,
        curves=curves,
    )
    return Training(
        model=parts.model,
        mixture=parts.mixture,
        frontend=parts.body.frontend,
        decider=make_decider(setup.shared.plugins, s, parts.body.dims),
        settings=build.portable_settings(s, parts.body),
        weights=build.weights(parts.body),
        metric=metric,
        dev=decided(setup, setup.fold.dev) if last is None else None,
        optimizers=optimizers,
        schedules=schedules,
        order=order,
        checkpoints=Checkpoints(setup.out / "checkpoints" / phase),
        history=history,
        seed=s.seed,
        save_every=t.checkpoint_steps,
        save_seconds=t.checkpoint_seconds,
        options=_options(s, last),
        layers=optim.gradually(parts.body.backbone.groups(), t.unfreeze * planned),
        average=optim.Average(parts.model, t.ema) if t.ema else None,
        watch=setup.watch if last is None else None,
    )


def decided(setup: Setup, ids: Sequence[str]) -> Dev:
    """Utterances that are decided on while the run trains."""
    rows = rows_of(setup, ids)
    return Dev(rows.utterances, rows.labels, setup.task.classes)


def _optimizers(setup: Setup, parts: Parts) -> dict[str, torch.optim.Optimizer]:
    """One for each learning rate."""
    t = setup.settings.train
    own, rest = parts.mixture.rates()
    layers = optim.layer_rates(parts.body.backbone.groups(), t)
    apart = {id(p) for group in layers.values() for p in group}
    rest = [p for p in (*parts.model.parameters(), *rest) if p.requires_grad and id(p) not in apart]
    own = {rate: [*own.get(rate, ()), *layers.get(rate, ())] for rate in (*own, *layers)}
    return optim.make_optimizers(setup.shared.plugins, t.optimizer, own, rest)


def _log_name(phase: str) -> str:
    return "log.jsonl" if phase == "select" else f"log-{phase}.jsonl"


def _options(s: Settings, last: int | None) -> dict[str, object]:
    """SpeechBrain's run options."""
    t = s.train
    return {
        "device": distributed.device(t.device),
        "precision": t.precision,
        "eval_precision": t.precision,
        "grad_accumulation_factor": t.accumulate,
        "max_grad_norm": t.clip,
        "optimizer_step_limit": last,
        "noprogressbar": True,
    }


# --- looked at beforehand ------------------------------------------------------------------------------------------


def rehearse(
    plugins: Plugins, settings: Settings, classes: Sequence[str], aux: Mapping[str, AuxTask] | None = None
) -> None:
    """Makes all that a run will make, on torch's meta device: what is wrong is said in seconds, before any work.

    No weights and no network: an encoder is made of its checkpoint's configuration. Where that is not on this machine
    the model is looked at when it is, and the rest now.

    Args:
        plugins: The registry.
        settings: Of the run; what is frozen is a feature already.
        classes: Of the protocol; two made-up ones where they follow from a corpus that is not prepared.
        aux: Auxiliary tasks of the protocol; where it is not known, any that a loss asks for.

    Raises:
        UsageError: On an unknown name or setting, a value that a part refuses, or settings that do not go together.
        SertkError: Where the bundle of `train.init` or a checkpoint cannot be read.
    """
    _check_machine(settings)
    s, t = settings, settings.train
    names = tuple(classes) if len(classes) > 1 else ("a", "b")
    with s.located("train.init"):
        initial.files(t.init)
    cached(s, plugins)  # an augmentation in front of what is cached
    with s.located("train.metric"):
        Measure(plugins, t.metric)
    with s.located("train.optimizer"):
        optimizers = optim.make_optimizers(plugins, t.optimizer, {}, [nn.Parameter(torch.zeros(1))])
        optim.layer_rates([], t)
    with s.located("train.schedule"):
        optim.make_schedules(plugins, t.schedule, optimizers, 2, 2 * t.epochs)
    with s.located("train.warm_start"):
        probe.make(plugins, t.warm_start)
    with s.located("decision"):
        make_decider(plugins, s, Dims(1, 1))
    task = Task(names, torch.ones(len(names)), defaultdict(AuxTask) if aux is None else aux)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            parts = make_parts(plugins, s, task)
    except NotHereError as error:
        say(f"{error}: its model is checked when it has been fetched")
        _check_without_backbone(plugins, s, task)
        if t.init:
            with s.located("train.init"):
                initial.foresee(Path(t.init), plugins, s, None, classes)
        return
    except SertkError as error:
        cause = asks_for_values(error)
        if cause is None:
            raise
        who = str(error).partition(" cannot be made")[0]
        say(f"{who} computes with values when it is made, so the model is checked later, when it is trained ({cause})")
        return
    _check_sampler(plugins, s, parts.mixture)
    if t.init:
        with s.located("train.init"):
            initial.foresee(Path(t.init), plugins, build.portable_settings(s, parts.body), parts.model, classes)


def _check_sampler(plugins: Plugins, s: Settings, mixture: Mixture) -> None:
    with s.located("sampler"):
        _make_sampler(plugins, s, mixture, torch.tensor([0, 1]), torch.ones(2))


def _check_mixup(mixture: Mixture) -> None:
    """Refuses mixed embeddings where the objective is not of the emotion of whole rows by themselves.

    Raises:
        UsageError: There.
    """
    others = [name for name, loss in mixture.losses.items() if "emotion" not in loss.trains]
    if others or mixture.sampler != "shuffle" or set(mixture.spans) != {WHOLE}:
        named = ", ".join(others or mixture.losses)
        raise UsageError(
            "train.mixup mixes the embeddings and the emotion labels of whole rows. Losses that compare rows, look at "
            f"windows of them or have other labels do not go with it: here {named}. Leave out train.mixup, or these "
            "losses."
        )


def _check_without_backbone(plugins: Plugins, s: Settings, task: Task) -> None:
    """What can be looked at where the backbone cannot be made: its width and the length of its frames are made up.

    Raises:
        UsageError: See `rehearse`.
    """
    width = 64
    with s.located("pooling"):
        plugins.check("pooling", s.pooling)
    with s.located("segments"):
        segments = s.segments.span(1e-3) if s.segments else None
    mixture = make_mixture(plugins, s, task, Dims(width, width, segments=segments))
    specs = chosen_heads(s, mixture.heads)
    check_temperature(s, specs)
    for spec in specs.values():
        with s.located("head"):
            plugins.make("head", Component(spec.kind, spec.settings), width, spec.out)
    _check_sampler(plugins, s, mixture)


def _check_machine(s: Settings) -> None:
    """Refuses what this machine cannot do.

    Raises:
        UsageError: There.
    """
    if s.train.tensorboard and find_spec("tensorboard") is None:
        raise UsageError(
            f"{s.at('train.tensorboard')}train.tensorboard needs the package tensorboard: "
            "pip install 'sertk[tensorboard]', or set it to false."
        )
    if s.train.device != "auto":
        with s.located("train.device"):
            distributed.known_device(s.train.device)  # a recipe may be printed for another machine
    if s.train.precision == "fp16" and distributed.device(s.train.device) == "cpu":
        raise UsageError(f"{s.at('train.precision')}train.precision fp16 needs a GPU; take bf16 or fp32 on the CPU")


def say_slow(t: TrainSettings) -> None:
    """Says so where the precision is one that the CPU has no instructions for; it computes in it all the same."""
    on_cpu = distributed.device(t.device) == "cpu"
    if t.precision == "bf16" and on_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        say(
            "train.precision bf16: this CPU has no instructions for it, so a step takes 5 to 15 times as long as in "
            "fp32. With --precision fp32 the results differ a little"
        )

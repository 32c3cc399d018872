"""Stage 3: features or waves of a fold -> a run folder with its bundle `model/`."""

from __future__ import annotations

import fcntl
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

from sertk.console.progress import say
from sertk.core import BatchSampler, SertkError, Task, UsageError, key
from sertk.core.files import digest, explain, read_json, write_json
from sertk.corpus.prepared import Data, Item, Loader, Order, Reader, Rows
from sertk.corpus.protocols import Folds
from sertk.modeling import build, bundle
from sertk.modeling.frontend import Frontend
from sertk.modeling.model import Model
from sertk.plugins import Plugins
from sertk.settings import merge as config
from sertk.stages.featurize import stores
from sertk.training import distributed, optim, warm_start
from sertk.training.checkpoint import Checkpoints
from sertk.training.history import History
from sertk.training.loop import EmotionBrain
from sertk.training.loss import Mixture
from sertk.training.state import Training

HERE = ("root", "jobs", "folds", "seeds")  # settings that say where and what else, not what this run is


class Setup(NamedTuple):
    """What both passes of a run, selection and refit, share."""

    plugins: Plugins
    settings: dict[str, Any]
    data: Data
    folds: Folds
    task: Task
    reader: Reader
    features: dict[str, str]
    out: Path
    init: str | None


def train(
    document: Mapping[str, Any], data: Data, out: Path, named: Sequence[Any] = (), *, force: bool = False
) -> None:
    """Trains one fold with one seed, or goes on with it.

    Args:
        document: The merged settings, with protocol, fold and seed.
        data: A prepared and featurized corpus.
        out: The run folder.
        named: The losses that the command line names.
        force: Delete an earlier run in `out` instead of going on with it.

    Raises:
        SertkError: On settings that contradict each other, a folder of another run, or a loss that is no number.
    """
    with distributed.process_group():
        plugins = Plugins()
        losses, added = build.resolve_losses(plugins, document["losses"], named)
        document = {**document, "losses": losses, **dict.fromkeys(HERE)}
        folds = data.protocol(document["protocol"])
        if document["fold"] is None:
            raise UsageError(f"no fold is given; give --fold with one of {', '.join(folds.folds)}, or #n by position.")
        document.update(folds="all", seeds=[document["seed"]], jobs=1, fold=folds.name_of(str(document["fold"])))
        lock = distributed.rank_zero(lambda: _lock(out))
        try:
            distributed.rank_zero(lambda: _claim(document, out, force=force))
            _run(plugins, config.resolve(document), data, folds, out, added)
        finally:
            if lock:
                lock.close()


def _run(plugins: Plugins, settings: dict[str, Any], data: Data, folds: Folds, out: Path, added: Sequence[str]) -> None:
    """Trains in a folder that is claimed and locked."""
    build.check(settings)
    if settings["train"]["threads"]:
        torch.set_num_threads(settings["train"]["threads"])
    setup = _setup(plugins, settings, data, folds, out)
    distributed.rank_zero(lambda: _claim_data(setup))
    if added:
        say(f"none of the named losses trains the emotion head: the system's own {', '.join(added)} stays beside them")
    if (out / "model" / "bundle.json").exists():
        say(f"{out} is trained already")
        return
    batch, accumulate, processes = settings["train"]["batch"], settings["train"]["accumulate"], distributed.world_size()
    rows = batch * accumulate * processes
    say(f"{rows} rows an optimizer step: train.batch {batch} x train.accumulate {accumulate} x processes {processes}")
    selected = _fit(setup, "select", None)
    best = selected.history.best
    if not best["weights"]:
        raise SertkError(f"{out}: no epoch was finished; raise train.epochs.")
    say(f"selected epoch {best['epoch']}: dev {settings['train']['metric']} {100 * best['score']:.2f}")
    final = selected
    if settings["train"]["refit"]:
        say(f"refit on train + dev for {best['steps']} steps")
        final = _fit(setup, "refit", selected)
    else:
        final.model.load_state_dict(best["weights"])
    distributed.rank_zero(lambda: _write(setup, final, best))
    say(f"wrote {out / 'model'}")


def _lock(out: Path) -> IO[bytes]:
    """Holds the run folder for this process; the kernel lets go of it with the process, however that ends.

    Raises:
        SertkError: Where another process holds it, or its folder cannot be written.
    """
    path = out.with_name(f".{out.name}.lock")  # beside it: the folder itself may be deleted by --force
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SertkError(f"{out} is being trained by another process. Wait for it, or choose another --out.") from None
    except OSError as error:
        raise explain(error, path) from error
    return file


def _clear(out: Path) -> None:
    """Deletes an earlier run, all of it from the first moment on.

    Raises:
        UsageError: Where the folder is not that of a run.
    """
    if not out.exists():
        return
    if any(out.iterdir()) and not (out / "config.yaml").exists():
        raise UsageError(
            f"{out} is no run folder (it has no config.yaml), so --force deletes nothing. Give a run's --out."
        )
    doomed = out.with_name(f".{out.name}.deleted")
    shutil.rmtree(doomed, ignore_errors=True)
    out.rename(doomed)
    shutil.rmtree(doomed)


def _claim(document: Mapping[str, Any], out: Path, *, force: bool) -> None:
    """Makes the folder this run's, of an earlier run only where forced to, or finds that it is.

    Raises:
        SertkError: Where it is another run's; the first difference is named.
    """
    if force:
        init = document["train"]["init"]
        if init and Path(str(init)).resolve().is_relative_to(out.resolve()):
            raise UsageError(f"--init {init} lies in {out}, which --force would delete. Choose another --out.")
        _clear(out)
    path = out / "config.yaml"
    if not path.exists() or not _begun(out):
        config.dump(document, path)
        return
    old = config.read(path)
    if config.text_of(old) == config.text_of(document):
        return
    there, now = config.flat(config.resolve(old)), config.flat(config.resolve(document))  # 5 and 5.0 are one
    odd = next((n for n in {**now, **there} if there.get(n) != now.get(n) and n not in config.COMPUTED_BY), None)
    if odd is not None:
        raise SertkError(
            f"{out} is a run with other settings ({odd}: {there.get(odd)!r} there, {now.get(odd)!r} now). "
            "Choose another --out or --tag, or --force to delete it."
        )


def _begun(out: Path) -> bool:
    """Whether anything was trained there; a start that failed on its settings claims no folder."""
    return (out / "model" / "bundle.json").exists() or any((out / "checkpoints").glob("*/*.pt"))


def _claim_data(setup: Setup) -> None:
    """Writes down the folds and the audio that the run trains on, or finds that they are the same.

    Raises:
        SertkError: Where they changed since the run began.
    """
    fold = str(setup.settings["fold"])
    ids = sorted(i for part in setup.folds.fold(fold) for i in part)
    audio = digest([setup.data.facts[i].sha256 for i in ids])
    versions = {name: version(name) for name in bundle.STACK}
    path = setup.out / "run.json"
    weights = build.weights(build.make_body(setup.plugins, setup.settings))
    now: dict[str, Any] = {"protocol": setup.folds.about(fold), "audio": audio, "features": setup.features}
    now |= {"weights": weights, "versions": versions, "init": setup.init}
    if not path.exists() or not _begun(setup.out):
        write_json(path, now)
        return
    old = read_json(path, "Delete the run folder, or --force.")
    for name, value in now.items():
        if old.get(name) != value:
            raise SertkError(
                f"{setup.out} began with another {name} ({old.get(name)} there, {value} now). "
                "Choose another --out or --tag, or --force to delete it."
            )


def _setup(plugins: Plugins, settings: dict[str, Any], data: Data, folds: Folds, out: Path) -> Setup:
    fold = folds.fold(settings["fold"])
    for part in ("train", "dev"):
        if not getattr(fold, part):
            raise SertkError(
                f"protocol {folds.name!r}, fold {settings['fold']}: {part} is empty. Choose another protocol."
            )
    counts = torch.tensor([sum(folds.labels[i] == name for i in fold.train) for name in folds.classes])
    absent = [name for name, count in zip(folds.classes, counts.tolist(), strict=True) if not count]
    if absent:
        raise SertkError(
            f"protocol {folds.name!r}, fold {settings['fold']}: no training utterance is of class "
            f"{', '.join(absent)}: it cannot be learned. Complete the corpus, or choose another protocol."
        )
    kept = stores(data.folder, settings, plugins)
    reader = Reader(data, settings["audio"], kept, wave=settings["inputs"].keys() != kept.keys())
    task = Task(folds.classes, counts)
    features = {name: store.folder.name for name, store in kept.items()}
    init = warm_start.digest(settings["train"]["init"])
    return Setup(plugins, settings, data, folds, task, reader, features, out, init)


def _rows(setup: Setup, ids: Sequence[str], copies: int = 1, partners: int = 0) -> Rows:
    utterances = setup.data.select(ids)
    labels = torch.tensor([setup.folds.classes.index(setup.folds.labels[i]) for i in ids])
    return Rows(utterances, labels, len(setup.folds.classes), setup.reader, setup.settings["seed"], copies, partners)


def _fit(setup: Setup, phase: str, selected: Training | None) -> Training:
    """Trains with dev (phase "select"), or on train + dev for the steps that were selected ("refit")."""
    s = setup.settings
    fold = setup.folds.fold(str(s["fold"]))
    torch.manual_seed(key(s["seed"], "weights") & (2**63 - 1))
    body = build.make_body(setup.plugins, s, s["seed"], train=True)
    mixture = build.make_mixture(setup.plugins, s, setup.task, body.dims)
    model = build.make_model(setup.plugins, s, body, mixture.heads)
    augment = body.frontend.augment
    copies = math.prod(one.copies for one in augment)
    ids = fold.train if selected is None else (*fold.train, *fold.dev)
    rows = _rows(setup, ids, copies, max((one.partners for one in augment), default=0))
    _check_rows(mixture, body.frontend)
    sampler: BatchSampler = setup.plugins.make(
        "sampler", mixture.sampler, rows.labels, rows.lengths, s["train"]["batch"]
    )
    pilot = [(1, plan) for plan in sampler.epoch(1, s["seed"])[: s["pilot"] or 0]]  # the same on all ranks
    sampler.shard(distributed.rank(), distributed.world_size())
    order, dev = Order(sampler, s["seed"]), None
    if selected is None:
        dev_rows = _rows(setup, fold.dev)
        share = dev_rows.in_order(s["score"]["batch"])[distributed.rank() :: distributed.world_size()]
        dev = Loader(dev_rows, share, s["train"]["workers"], "dev")
    training = _training(setup, phase, selected, model, mixture, body, order)
    _say_uncut(body, rows, s["crop"])
    plain = _rows(setup, ids)
    if setup.init:
        _continue(setup, training)
    else:
        for feature in body.frontend.features.values():
            feature.fit(plain.utterances)  # before a resumed run too: it follows from the utterances alone
        if not training.checkpoints:
            _normalize(model, body, plain, s)
    brain = EmotionBrain(training)
    if selected is not None:
        mixture.weight.copy_(selected.mixture.weight)
    elif pilot and not training.checkpoints:
        _weigh(setup, brain, Loader(rows, pilot, s["train"]["workers"], "pilot"))
    brain.train_on(Loader(rows, order, s["train"]["workers"], "train"), dev)
    return training


def _say_uncut(body: build.Body, rows: Rows, crop: Mapping[str, Any] | None) -> None:
    """Says so where windows are asked for and no input is long enough to be cut into them."""
    span, longest = body.dims.segments, max(one.duration or 0.0 for one in rows.utterances)
    frames = (crop["length"] if crop else longest) / body.backbone.frame_seconds  # a crop pads what is shorter
    if span and frames <= span.length:
        say(
            f"segments {span.length}:{span.hop}: the longest training input has {frames:.0f} frames of this backbone, "
            "so none is cut. Give fewer frames, or seconds (2.8s:1.4s)"
        )


def _continue(setup: Setup, training: Training) -> None:
    """Begins with the weights, the statistics and the fitted features of `train.init`."""
    begun = bundle.read(Path(setup.settings["train"]["init"]), setup.plugins)
    weights = {name: feature.weights for name, feature in training.frontend.features.items()}
    warm_start.take(begun, training.model, {**training.components, "weights": weights}, setup.folds.classes)
    warm_start.warn(begun, setup.folds.about(str(setup.settings["fold"])))
    for name, feature in training.frontend.features.items():
        feature.restore(begun.frontend.features[name].files())


def _weigh(setup: Setup, brain: EmotionBrain, batches: Loader) -> None:
    """Weighs the terms of the objective by their largest value in batches that nothing is learned from."""
    mixture, largest = brain.training.mixture, _largest_terms(brain, batches)
    mixture.normalize(largest)
    about = {"batches": len(batches), "largest": largest, "weights": mixture.weights}
    distributed.rank_zero(lambda: write_json(setup.out / "pilot.json", about))
    weights = ", ".join(f"{name} {weight:.4g}" for name, weight in mixture.weights.items())
    say(f"weights of the losses, by a pilot of {len(batches)} batches: {weights}")


@torch.no_grad()
def _largest_terms(brain: EmotionBrain, items: Iterable[Item]) -> dict[str, float]:
    """The largest value of each term of the objective on some training batches, of which nothing remains.

    Dropout is on, a function of the seed and the batch; batch statistics and generators are put back.
    """
    kept = [(buffer, buffer.clone()) for buffer in brain.modules.buffers()]
    found: list[dict[str, float]] = []
    brain.modules.train()
    with torch.random.fork_rng([brain.device] if brain.device_type == "cuda" else []):
        for item in items:
            torch.manual_seed(key(brain.training.seed, "pilot", len(found)) & (2**63 - 1))
            with brain.training_ctx:
                views, batch = brain.views(item, train=True)
            with torch.autocast(brain.device_type, enabled=False):
                terms = brain.training.terms(views, batch).terms
            found.append({name: value.item() for name, value in terms.items()})
    for buffer, value in kept:
        buffer.copy_(value)
    # a value that is no number stays one: max() would pass over it
    return {name: torch.tensor([one[name] for one in found]).max().item() for name in found[0]}


def _check_rows(mixture: Mixture, frontend: Frontend) -> None:
    """Refuses what would make rows that their losses or augmentations cannot read.

    Raises:
        UsageError: There.
    """
    if frontend.crop and frontend.crop.train == "all" and mixture.sampler != "shuffle":
        raise UsageError(
            f"crop.train: all makes several rows of an utterance, and sampler {mixture.sampler!r} groups utterances; "
            "take first, center or random."
        )
    expanding = [type(one).__name__ for one in frontend.augment if one.copies > 1]
    if len(expanding) > 1:
        raise UsageError(f"augmentations {' and '.join(expanding)} both copy every row; keep one of them.")


def _training(
    setup: Setup,
    phase: str,
    selected: Training | None,
    model: Model,
    mixture: Mixture,
    body: build.Body,
    order: Order,
) -> Training:
    s, t = setup.settings, setup.settings["train"]
    order.set_epoch(1)
    per_epoch = -(-len(order) // t["accumulate"])
    # the rates of a refit are those of the run that chose its steps
    planned = per_epoch if selected is None else selected.history.per_epoch
    last = None if selected is None else selected.history.best["steps"]
    epochs = t["epochs"] if last is None else -(-last // per_epoch)
    own, rest = mixture.rates()
    layers = optim.layer_rates(body.backbone.groups(), t)
    apart = {id(p) for group in layers.values() for p in group}
    rest = [p for p in (*model.parameters(), *rest) if p.requires_grad and id(p) not in apart]
    own = {rate: [*own.get(rate, ()), *layers.get(rate, ())] for rate in (*own, *layers)}
    optimizers = optim.make_optimizers(setup.plugins, t["optimizer"], own, rest)
    schedules = optim.make_schedules(setup.plugins, t["schedule"], optimizers, planned, planned * t["epochs"])
    curves = setup.out / "tensorboard" / ("" if last is None else phase) if t["tensorboard"] else None
    log = setup.out / _log_name(phase)
    select = {"dev": last is None, "newest": t["select"] == "last"}
    history = History(log, epochs, t["patience"], per_epoch, **select, last_step=last, curves=curves)
    metric = setup.plugins.factory("metric", t["metric"])
    classes = len(setup.task.classes)
    return Training(
        model=model,
        mixture=mixture,
        frontend=body.frontend,
        decider=build.make_decider(setup.plugins, s, body.dims),
        components=build.components(setup.plugins, s, body),
        weights=build.weights(body),
        metric=metric,
        optimizers=optimizers,
        schedules=schedules,
        order=order,
        checkpoints=Checkpoints(setup.out / "checkpoints" / phase),
        history=history,
        seed=s["seed"],
        save_every=t["checkpoint_steps"],
        confusion=torch.zeros(classes, classes, dtype=torch.int64),
        options=_options(t, last),
    )


def _log_name(phase: str) -> str:
    return "log.jsonl" if phase == "select" else f"log-{phase}.jsonl"


def _options(t: Mapping[str, Any], last: int | None) -> dict[str, Any]:
    """SpeechBrain's run options."""
    return {
        "device": build.device(t["device"]),
        "precision": t["precision"],
        "eval_precision": t["precision"],
        "grad_accumulation_factor": t["accumulate"],
        "max_grad_norm": t["clip"],
        "optimizer_step_limit": last,
        "noprogressbar": True,
    }


def _normalize(model: Model, body: build.Body, rows: Rows, s: Mapping[str, Any]) -> None:
    """Fits the statistics of the inputs on the training utterances as they are, not augmented."""
    whole = Frontend(body.frontend.features, None)  # statistics are of real frames, not of what a crop pads
    for name, normalize in model.normalize.items():
        loader = Loader(rows, rows.in_order(s["score"]["batch"]), s["train"]["workers"], "statistics")
        normalize.fit((whole(item.batch).inputs[name] for item in loader), scalar=s["normalize"] == "scalar")


def _seen(setup: Setup) -> list[str]:
    """16 hex digits of each recording that the weights learned from, those of `train.init` included.

    So scores find it out where a test, of this corpus or another, has one of them.
    """
    fold, init = setup.folds.fold(str(setup.settings["fold"])), setup.settings["train"]["init"]
    before = read_json(Path(init) / "bundle.json", bundle.OBTAIN)["training"].get("seen", ()) if init else ()
    return sorted({*before, *(setup.data.facts[i].sha256[:16] for i in (*fold.train, *fold.dev))})


def _write(setup: Setup, final: Training, best: Mapping[str, Any]) -> None:
    s = setup.settings
    about = {
        "classes": list(setup.folds.classes),
        "components": final.components,
        "protocol": setup.folds.about(str(s["fold"])),
        "training": {
            "system": Path(s["system"]).stem if s["system"] else None,
            "seed": s["seed"],
            "epoch": best["epoch"],
            "steps": best["steps"],
            "dev": {s["train"]["metric"]: best["score"]},
            "refit": s["train"]["refit"],
            "weights": final.weights,
            "losses": final.mixture.weights,
            "ranks": distributed.world_size(),
            "init": setup.init,
            "seen": _seen(setup),
        },
    }
    bundle.write(setup.out / "model", final.model, final.frontend, about, setup.plugins)
    shutil.rmtree(setup.out / "checkpoints", ignore_errors=True)

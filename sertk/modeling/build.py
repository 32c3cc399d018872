"""Settings + plugins + task -> model, objective and what surrounds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, get_type_hints

import torch
from torch import Tensor

from sertk.core import (
    WHOLE,
    Backbone,
    Batch,
    Crop,
    Decision,
    Dims,
    Feature,
    HeadSpec,
    Pooling,
    Rng,
    SertkError,
    Span,
    Task,
    UsageError,
    View,
    Views,
    nearest,
)
from sertk.modeling.frontend import Frontend
from sertk.modeling.model import Model, Normalize
from sertk.plugins import Plugins, fits, split
from sertk.settings.merge import flat
from sertk.training import distributed
from sertk.training.loss import Mixture

Settings = Mapping[str, Any]

NORMALIZE = ("dimension", "scalar", "none")
PRECISIONS = ("fp32", "bf16", "fp16")
COMPONENTS = ("audio", "inputs", "normalize", "crop", "backbone", "pooling", "segments", "decision")


@dataclass(frozen=True)
class Decider:
    """How the windows and crops of an utterance become its posterior.

    Attributes:
        span: The windows that are looked at.
        decision: What is made of them.
    """

    span: Span
    decision: Decision

    def __call__(self, views: Views, batch: Batch, utterances: int, rng: Rng) -> tuple[Tensor, Tensor]:
        """(U, C) posterior and (U, C) logits, the mean over windows, of U utterances."""
        view = views[self.span].float()
        owner = batch.owner[view.owner]
        count = torch.bincount(owner, minlength=utterances)
        merged = View(view.frames, view.embedding, view.heads, owner, count[owner], view.output)
        logits = view.logits.new_zeros(utterances, view.logits.shape[1]).index_add(0, owner, view.logits)
        return self.decision(merged, utterances, rng), logits / count[:, None]


@dataclass(frozen=True)
class Body:
    """What comes before the heads."""

    frontend: Frontend
    backbone: Backbone
    pooling: Pooling
    dims: Dims


def make_body(plugins: Plugins, settings: Settings, seed: int = 0, *, train: bool = False) -> Body:
    """The front end, the backbone and the pooling.

    Args:
        plugins: The registry.
        settings: The run's, or the components of a bundle.
        seed: Of the run.
        train: Whether to make the augmentations too.

    Raises:
        UsageError: On an unknown name or setting.
    """
    if not settings["inputs"]:
        raise UsageError("the run has no inputs; give a --system, or inputs: {mel: {name: mel}} in the recipe.")
    features = make_features(plugins, settings)
    augment = [plugins.make("augmentation", spec) for spec in settings["augment"]] if train else []
    frontend = Frontend(features, make_crop(settings["crop"]), augment, seed)
    backbone: Backbone = plugins.make("backbone", settings["backbone"], frontend.inputs())
    if backbone.fixed is not None and settings["crop"] is None:
        raise UsageError(f"this backbone takes {backbone.fixed} frames; set crop: {{length: SECONDS}}.")
    pooling: Pooling = plugins.make("pooling", settings["pooling"], backbone.width)
    if not isinstance(settings["segments"], str | None):
        raise UsageError(f"segments is {settings['segments']!r}; it is text, LENGTH:HOP, for example '140:70'")
    segments = settings["segments"] and Span.parse(settings["segments"], backbone.frame_seconds)
    dims = Dims(backbone.width, pooling.out, branches=backbone.branches, segments=segments or None)
    return Body(frontend, backbone, pooling, dims)


def make_features(plugins: Plugins, settings: Settings) -> dict[str, Feature]:
    """The features by input name.

    Raises:
        UsageError: On an unknown name or setting, or a feature of something else than waves.
    """
    rate = settings["audio"]["rate"]
    made: dict[str, Feature] = {name: plugins.make("feature", spec, rate) for name, spec in settings["inputs"].items()}
    for name, feature in made.items():
        if feature.reads != "wave":
            raise UsageError(
                f"input {name!r} reads {feature.reads}, and only waves are read yet; take another feature."
            )
        if name == "wave" and feature.cached:
            raise UsageError("the input name 'wave' is the wave's own; give this feature another name in `inputs`.")
    return made


def make_crop(settings: Settings | None) -> Crop | None:
    """The crop of the settings.

    Raises:
        UsageError: On an unknown key, a missing length or a value of the wrong type.
    """
    if settings is None:
        return None
    if not isinstance(settings, Mapping):
        raise UsageError(f"crop is {settings!r}; it is a mapping: {{length: SECONDS}}")
    hints = get_type_hints(Crop)
    for word, value in settings.items():
        if word not in hints:
            raise UsageError(f"crop takes no {word!r}{nearest(word, hints)}")
        if not fits(value, hints[word]):
            raise UsageError(f"crop.{word} must be {hints[word]}, got {value!r}")
    if "length" not in settings:
        raise UsageError("crop needs a length in seconds: {length: 3.5}")
    made = Crop(**settings)
    if made.length <= 0 or (made.hop is not None and made.hop <= 0):
        raise UsageError(f"crop has length {made.length} s and hop {made.hop} s; both are above 0")
    return made


def make_model(plugins: Plugins, settings: Settings, body: Body, specs: Mapping[str, HeadSpec]) -> Model:
    """The model with its heads; its weights are the torch generator's."""
    inputs = {} if settings["normalize"] == "none" else body.frontend.inputs()
    normalize = {name: Normalize(spec.width) for name, spec in inputs.items() if name in body.backbone.inputs}
    heads = {}
    for name, spec in specs.items():
        width = body.dims.embedding
        if spec.reads is not None:
            slices = (body.dims.branches[branch] for branch in spec.reads)
            width = sum(one.stop - one.start for one in slices)
        heads[name] = plugins.make("head", {"name": spec.kind, **spec.settings}, width, spec.out)
    return Model(normalize, body.backbone, body.pooling, heads, specs, body.dims.branches)


def resolve_decision(plugins: Plugins, settings: Settings) -> dict[str, Any]:
    """`decision` with name and `at` spelled out.

    Raises:
        UsageError: On an unknown name or setting, or segments that the run does not have.
    """
    name, rest = split("decision", settings["decision"])
    at = rest.pop("at", "auto")
    if at == "auto":
        at = "segments" if settings["segments"] else "whole"
    if name == "auto":
        name = "max_probability" if at == "segments" else "mean"
    if at not in ("whole", "segments") or (at == "segments" and not settings["segments"]):
        raise UsageError(f"decision: at: {at} is not whole, or segments where --segments sets them.")
    plugins.factory("decision", name)
    if rest:
        raise UsageError(f"decision {name!r} takes no {next(iter(rest))!r}; it takes at")
    return {"name": name, "at": at}


def make_decider(plugins: Plugins, settings: Settings, dims: Dims) -> Decider:
    """The decision over its windows."""
    spec = resolve_decision(plugins, settings)
    span = dims.segments if spec["at"] == "segments" and dims.segments else WHOLE
    return Decider(span, plugins.factory("decision", spec["name"]))


def resolve_losses(plugins: Plugins, own: Sequence[Any], named: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """The terms that a run trains with, and which of them the system adds.

    Args:
        plugins: The registry.
        own: `losses` of the settings.
        named: What the command line's `--loss` named; empty for none.

    Returns:
        The named terms; where none of them trains the emotion head, the system's own that do come first.
    """
    if not named:
        return list(own), []
    if any(_classifies(plugins, spec) for spec in named):
        return list(named), []
    kept = [spec for spec in own if _classifies(plugins, spec)]
    return [*kept, *named], [split("loss", spec)[0] for spec in kept]


def _classifies(plugins: Plugins, spec: Any) -> bool:  # noqa: ANN401
    trains: frozenset[str] = getattr(plugins.factory("loss", split("loss", spec)[0]), "trains", frozenset())
    return "emotion" in trains


def make_mixture(plugins: Plugins, settings: Settings, task: Task, dims: Dims) -> Mixture:
    """The training objective.

    Raises:
        UsageError: On an unknown loss or setting, two of one name, or an alpha that has nothing to weigh.
    """
    losses, weights = {}, {}
    for spec in settings["losses"]:
        name, rest = split("loss", spec)
        if name in losses:
            raise UsageError(f"loss {name!r} is named twice; give it once, with the sum of the weights.")
        weights[name] = rest.pop("weight", 1.0)
        if not fits(weights[name], float):
            raise UsageError(f"loss {name!r}: weight must be a number, got {weights[name]!r}")
        if settings["alpha"] is not None and weights[name] != 1:
            raise UsageError(f"loss {name!r} has a weight, and alpha sets the weights; give one of the two.")
        losses[name] = plugins.make("loss", {"name": name, **rest}, task, dims)
    deciding = [name for name, loss in losses.items() if "emotion" in loss.trains]
    if not deciding:
        raise UsageError(
            f"none of the losses {', '.join(losses)} trains the emotion head; add one that does, such as ce."
        )
    if settings["alpha"] is not None:
        if len(losses) == len(deciding):
            raise UsageError(
                "alpha weighs the other terms against the emotion head's, and there is none: add a --loss."
            )
        alpha = settings["alpha"]
        if not fits(alpha, float) or not 0 <= alpha <= 1:
            raise UsageError(f"alpha is {alpha!r}; it is from 0 to 1")
        weights = {name: 1 - alpha if name in deciding else alpha for name in losses}
    return Mixture(losses, weights)


def components(plugins: Plugins, settings: Settings, body: Body) -> dict[str, Any]:
    """The settings that a bundle needs to be scored, everything spelled out, nothing that lies elsewhere.

    Raises:
        SertkError: Where a component is an object that a recipe's `!new:` made, which no bundle can carry.
    """
    kept = {name: settings[name] for name in COMPONENTS}
    _refuse_objects(kept, "")
    features = body.frontend.features
    kept["inputs"] = {name: portable("feature", spec, features[name]) for name, spec in kept["inputs"].items()}
    kept["backbone"] = portable("backbone", kept["backbone"], body.backbone)
    segments = body.dims.segments
    kept["segments"] = segments and f"{segments.length}:{segments.hop}:{segments.tail}"
    kept["decision"] = resolve_decision(plugins, settings)
    return kept


def weights(body: Body) -> dict[str, str]:
    """The hashes of the pretrained weights, by input, or "backbone"."""
    parts: dict[str, Feature | Backbone] = {**body.frontend.features, "backbone": body.backbone}
    return {name: part.weights for name, part in parts.items() if part.weights}


def portable(kind: str, spec: Any, made: Feature | Backbone) -> Any:  # noqa: ANN401
    """A component's settings with what the component itself has in the place of some."""
    name, rest = split(kind, spec)
    return _overlaid({"name": name, **rest}, made.portable())


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for word, value in above.items():
        under = merged.get(word)
        under = {"name": under} if isinstance(under, str) else under  # a bare name
        merged[word] = _overlaid(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def _refuse_objects(value: object, where: str) -> None:
    if isinstance(value, Mapping):
        for name, child in value.items():
            _refuse_objects(child, f"{where}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for child in value:
            _refuse_objects(child, where)
    elif not isinstance(value, str | int | float | None):
        raise SertkError(
            f"{where} is a {type(value).__name__} of the recipe's own; a bundle carries plugins by name only."
        )


def device(name: str) -> str:
    """The device that a setting means: "auto" is the GPU where there is one; each of several ranks has its own.

    Raises:
        UsageError: Where it is no device, or torch sees no such GPU.
    """
    if name == "auto":
        name = f"cuda:{distributed.local_rank()}" if torch.cuda.is_available() else "cpu"
    elif distributed.world_size() > 1 and name.startswith("cuda"):
        if name != "cuda":
            raise UsageError(
                f"device {name!r} is one GPU, and {distributed.world_size()} processes need one each; take cuda."
            )
        name = f"cuda:{distributed.local_rank()}"
    try:
        asked = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r} is none; take auto, cpu, cuda or cuda:N.") from None
    here = torch.cuda.device_count()
    if asked.type == "cuda" and (asked.index or 0) >= here:
        raise UsageError(f"device {name!r}: torch sees {here} CUDA devices. Run `sertk doctor`, or take --device cpu.")
    return name


def check(settings: Mapping[str, Any]) -> None:
    """Refuses settings that contradict each other.

    Raises:
        UsageError: There.
    """
    t, values = settings["train"], flat(settings)
    choices = {"normalize": NORMALIZE, "on_augment": ("error", "recompute"), "train.precision": PRECISIONS}
    for name, allowed in choices.items():
        if values[name] not in allowed:
            raise UsageError(f"{name} is {values[name]!r}; it is one of {', '.join(allowed)}")
    if settings["pilot"] is not None and (not fits(settings["pilot"], int) or settings["pilot"] < 1):
        raise UsageError(f"pilot is {settings['pilot']!r}; it is a number of batches, at least 1, or null")
    if t["select"] not in ("best", "last"):
        raise UsageError(f"train.select is {t['select']!r}; it is best or last")
    if t["select"] == "last" and t["patience"]:
        raise UsageError("train.select last takes the last epoch, so nothing is to wait for: set train.patience: 0")
    if t["refit"] and split("schedule", t["schedule"])[0] == "plateau":
        raise UsageError(
            "train.refit has no dev loss for schedule 'plateau'; take constant, exponential, linear or cosine"
        )
    least = {"train.batch": 1, "train.accumulate": 1, "train.epochs": 1, "train.workers": 0, "train.patience": 0}
    least |= {"train.checkpoint_steps": 0, "train.threads": 0, "score.batch": 1, "audio.rate": 1}
    for name, bound in least.items():
        if values[name] < bound:
            raise UsageError(f"{name} is {values[name]}; it is at least {bound}")
    if t["clip"] <= 0:
        raise UsageError(f"train.clip is {t['clip']}; it is above 0, and 1e9 never clips")
    if not isinstance(t["init"], str | None):
        raise UsageError(f"train.init is {t['init']!r}; it is the path of a bundle, or null")
    if t["tensorboard"] and find_spec("tensorboard") is None:
        raise UsageError(
            "train.tensorboard needs the package tensorboard: pip install 'sertk[tensorboard]', or set it to false."
        )
    if t["precision"] == "fp16" and device(t["device"]) == "cpu":
        raise UsageError("train.precision fp16 needs a GPU; take bf16 or fp32 on the CPU")

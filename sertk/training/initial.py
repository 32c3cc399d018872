"""Where a run begins that continues from a model: `train.init`, the bundle of another run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sertk.console.progress import say
from sertk.core import UsageError
from sertk.core.files import Document
from sertk.core.low_rank import unadapted
from sertk.modeling import bundle
from sertk.modeling.build import joined
from sertk.modeling.bundle import Bundle
from sertk.modeling.model import Model
from sertk.plugins import Plugins
from sertk.settings.plain import flat, plain, run_part
from sertk.settings.schema import Settings

Weights = Mapping[str, str]
EMOTION = "heads.emotion."  # what starts from random weights if the classes are others


def files(init: str | None) -> list[Path]:
    """What of a bundle a run depends on.

    Raises:
        UsageError: Where it is not the path of one.
    """
    if init is None:
        return []
    found = bundle.files(Path(init))
    for path in found:
        if not path.is_file():
            raise UsageError(f"train.init is {init!r}, and there is no {path}. {bundle.OBTAIN}")
    return found


def digest(init: str | None) -> str | None:
    """SHA-256 of a bundle's weights: of model.safetensors, and of the names of the other files; None for none."""
    if init is None:
        return None
    _, weights, *others = files(init)
    with weights.open("rb") as file:
        whole = hashlib.file_digest(file, "sha256")
    for path in others:  # named by their hashes
        whole.update(path.name.encode())
    return whole.hexdigest()


def begin(init: Path, plugins: Plugins, settings: Settings) -> Bundle:
    """The bundle that a run begins with; a part that was frozen there is where this run has it.

    Raises:
        SertkError: See `bundle.read`.
    """
    return bundle.read(init, plugins, whole=is_whole(plugins, settings))


def is_whole(plugins: Plugins, settings: Settings) -> bool:
    """Whether no part of a run's backbone is a cached feature."""
    return joined(plugins, settings).inputs == settings.inputs


def take(begun: Bundle, model: Model, settings: Settings, weights: Weights, classes: Sequence[str]) -> None:
    """Gives a new model the weights and the statistics of a bundle; a head of other classes starts from random weights.

    Args:
        begun: The bundle.
        model: Gets them.
        settings: Of the run, portable.
        weights: Hashes of the pretrained weights that its inputs are computed with.
        classes: Of the run.

    Raises:
        SertkError: On other audio, inputs or normalisation, or a part of another name or shape; it is named.
    """
    theirs = {name: feature.weights for name, feature in begun.frontend.features.items()}
    _compare(_heard(begun.settings, theirs), _heard(settings, weights))
    _compare(*(flat({"backbone": of.backbone.portable()}) for of in (begun.model, model)))
    other, anew = begun.classes != tuple(classes), _anew(begun.model.heads, model.heads, begun.classes, classes)
    ours, held = model.state_dict(), begun.model.state_dict()
    names = unadapted(ours)
    old = {name: weight for name, weight in held.items() if not name.startswith(anew)}
    new = {name: ours[own] for name, own in names.items() if not name.startswith(anew)}
    _compare(*({name: tuple(weight.shape) for name, weight in of.items()} for of in (old, new)))
    model.load_state_dict({**ours, **{names[name]: weight for name, weight in old.items()}})
    if other:
        say(f"init: the emotion head is a new one: the bundle's classes are {', '.join(begun.classes)}")
    for name in sorted(begun.model.heads.keys() ^ model.heads.keys()):
        say(f"init: the head {name!r} {'is a new one' if name in model.heads else 'of the bundle is left out'}")


def _anew(theirs: Iterable[str], ours: Iterable[str], were: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """What weights that are not compared begin with: heads of one of the two alone, the emotion's of other classes."""
    own = [f"heads.{name}." for name in set(theirs) ^ set(ours)]
    return (*own, *([] if tuple(were) == tuple(classes) else [EMOTION]))


def foresee(init: Path, plugins: Plugins, settings: Settings, model: Model | None, classes: Sequence[str]) -> None:
    """Compares a bundle with a run that is not made yet, as `take` will: all but the weights themselves.

    Args:
        init: The bundle.
        plugins: The registry.
        settings: Of the run, portable where there is a model.
        model: Of the run, on torch's meta device; None where it cannot be made yet, and sound alone is compared.
        classes: Of the run; none where they are not known, and then the emotion head is not compared.

    Raises:
        UsageError: See `take`.
        SertkError: Where the bundle cannot be read.
    """
    theirs = bundle.outline(init, plugins if is_whole(plugins, settings) else None)
    if model is None:
        _compare(
            *(flat({"audio": run_part(of.audio), "normalize": of.normalize}) for of in (theirs.settings, settings))
        )
        return
    _compare(_heard(theirs.settings, {}), _heard(settings, {}))
    own = flat({"backbone": model.backbone.portable()})  # of a fusion what each branch must have, and no more
    spelled = (flat({"backbone": plain(of.backbone.settings)}) for of in (theirs.settings, settings))
    _compare(*({word: of.get(word) for word in own} for of in spelled))
    heads = {name.split(".")[1] for name in theirs.shapes if name.startswith("heads.")}
    anew = _anew(heads, model.heads, theirs.classes, classes)
    ours = model.state_dict()
    here = {name: tuple(ours[own].shape) for name, own in unadapted(ours).items()}
    _compare(*({n: shape for n, shape in of.items() if not n.startswith(anew)} for of in (theirs.shapes, here)))


def warn(begun: Bundle, protocol: Document) -> None:
    """Says where a bundle may have been trained on what this run is tested on."""
    was = begun.about["protocol"]
    if was["corpus"] == protocol["corpus"] and any(was[name] != protocol[name] for name in ("hash", "fold")):
        say(
            f"init: the bundle was trained on fold {was['fold']} of {was['name']}, on this corpus too: "
            "test utterances of this run may be among what it was trained on"
        )


def _heard(settings: Settings, weights: Weights) -> dict[str, object]:
    """What the weights were trained to hear, by dotted name."""
    return flat(
        {
            "inputs": plain(settings.inputs),
            "audio": run_part(settings.audio),
            "normalize": settings.normalize,
            "weights": weights,
        }
    )


def _compare(there: Mapping[str, object], here: Mapping[str, object]) -> None:
    odd = next((name for name in {**here, **there} if there.get(name) != here.get(name)), None)
    if odd is not None:
        raise UsageError(
            f"Cannot start from the bundle of train.init: it was trained with {odd} = {there.get(odd, 'nothing')}, "
            f"this run has {odd} = {here.get(odd, 'nothing')}. Give the run what bundle.json says, or another --init."
        )

"""The bundle: a model that travels as data; no pickle, no YAML tag, no code.

`bundle.json` says what it is, and `model.safetensors` has the weights that were trained. `files/` has the weights that
were not, and what features learned. Each file there is named by the hash of its content. Bundles of one recipe share
such files on disk (hard links), yet every folder is whole by itself.

`bundle.json` also says of each feature what a model must know of it, so that a model whose features are read from a
store is made without what computes them.

JSON and safetensors cannot run code, so nothing in a bundle is looked at for any. A bundle grows: what an older one
lacks has its default.
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

import sertk
from sertk.console.progress import say
from sertk.core import Feature, HeadSpec, Padded, SertkError, UsageError
from sertk.core.errors import some
from sertk.core.files import Document, digest, link, put_folder, read_bytes, read_json, size_of, write_json, writing
from sertk.core.forms import Form, fits
from sertk.corpus.features import cached
from sertk.modeling import build
from sertk.modeling.borders import inside
from sertk.modeling.build import Body
from sertk.modeling.decide import Decider, make_decider, resolve_decision
from sertk.modeling.frontend import Frontend
from sertk.modeling.limits import check_size
from sertk.modeling.model import Model
from sertk.plugins import Plugins, switch_note
from sertk.settings.check import settings_of
from sertk.settings.plain import BUNDLED, bundled
from sertk.settings.schema import Component, Settings

OBTAIN = "Give the `model` folder that `sertk train` wrote, or copy it again."
BUNDLE_SCHEMA = 2
"""Of bundle.json: 2 has `checksums`, which schema 1 does not know."""
KEYS = {
    *("schema", "checksums", "classes", "components", "features", "files", "frozen"),
    *("heads", "plugins", "protocol", "training", "versions"),
}
WEIGHTS = "model.safetensors"
STORED = re.compile(r"[0-9a-f]{16}(\.safetensors)?")  # the name of a file in files/
STACK = ("torch", "torchaudio", "speechbrain", "transformers")
TRAINING = Form({}, {"seed": int | None, "seen": list[str] | None, "corpora": list[str] | None})
PROTOCOL = {"corpus", "name", "fold", "hash", "stamp"}


class FeatureSpec(NamedTuple):
    """What a bundle says of a feature, see `sertk.core.Feature`.

    Attributes:
        width: Of its frames.
        frame_seconds: Seconds between two frames; None where an utterance is one frame.
        layers: Equal parts of its width.
        silence: One value, or one for each dimension.
        weights: Hash of the weights that it computes with.
        reads: "wave" or "text".
        symbols: How many there are, where its frames are numbers of symbols.
    """

    width: int
    frame_seconds: float | None
    layers: int
    silence: float | list[float]
    weights: str
    reads: Literal["wave", "text"] = "wave"
    symbols: int = 0

    @classmethod
    def of(cls, made: Feature) -> FeatureSpec:
        """What there is to say of a feature."""
        seconds = None if math.isinf(made.frame_seconds) else float(made.frame_seconds)
        silence = made.silence.tolist() if isinstance(made.silence, Tensor) else float(made.silence)
        return cls(int(made.width), seconds, int(made.layers), silence, made.weights, made.reads, int(made.symbols))


class Described(Feature):
    """A feature as a bundle describes it: it is read from a store and cannot be computed.

    Args:
        spec: The description.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.width, self.layers, self.weights = spec.width, spec.layers, spec.weights
        self.reads, self.symbols = spec.reads, spec.symbols
        self.frame_seconds = math.inf if spec.frame_seconds is None else spec.frame_seconds
        self.silence = torch.tensor(spec.silence) if isinstance(spec.silence, list) else spec.silence

    def __call__(self, inputs: Padded) -> Padded:
        """Refuses to compute."""
        raise SertkError("a model that was made to read its features from a store was given waves or texts.")


@dataclass(frozen=True)
class Opened:
    """A bundle whose bundle.json was read and checked; its weights were not read.

    Attributes:
        folder: The bundle.
        about: bundle.json as it is.
        settings: Those that it is scored with; all others are at their defaults.
        heads: By name.
        features: As it describes them, by input name; None in an older bundle, which does not.
    """

    folder: Path
    about: Document
    settings: Settings
    heads: Mapping[str, HeadSpec]
    features: Mapping[str, Feature] | None


@dataclass(frozen=True)
class Bundle:
    """A model read from a bundle, ready to score.

    Attributes:
        classes: C class names.
        settings: Those that it is scored with; all others are at their defaults.
        model: In eval mode.
        frontend: Features and crops.
        decider: How windows are decided.
        about: bundle.json as it is.
    """

    classes: tuple[str, ...]
    settings: Settings
    model: Model
    frontend: Frontend
    decider: Decider
    about: Document


def write(
    folder: Path,
    model: Model,
    frontend: Frontend,
    settings: Settings,
    about: Mapping[str, object],
    plugins: Plugins,
    beside: Sequence[Path] = (),
    kept: Kept | None = None,
) -> None:
    """Writes a bundle whole or not at all.

    Args:
        folder: Where to; what is there is replaced when the new one is complete.
        model: Its weights are written.
        frontend: Its features' own files are written.
        settings: Of the run, portable.
        about: classes, protocol, training.
        plugins: Tells which distribution or file offers each component.
        beside: Other bundles, to share files with.
        kept: Has the files of those features that no run changes, once the first bundle is written.
    """
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    trained, frozen = _weights(model)
    weights = save(trained)
    with writing(fresh / WEIGHTS) as file:
        file.write(weights)
    before = kept or {}
    learned = {
        name: _put_files(fresh, feature, beside, before.get(name) or {}) for name, feature in frontend.features.items()
    }
    content = {
        "schema": BUNDLE_SCHEMA,
        **about,
        "frozen": _put(fresh, save(frozen), ".safetensors", beside) if frozen else None,
        "files": {name: stored for name, stored in learned.items() if stored},
        "components": bundled(settings),
        "features": {name: FeatureSpec.of(one)._asdict() for name, one in frontend.features.items()},
        "heads": {name: {**spec._asdict(), "settings": dict(spec.settings)} for name, spec in model.specs.items()},
        "plugins": _offered(plugins, settings, model.specs),
        "versions": {"sertk": sertk.__version__, **{name: version(name) for name in STACK}},
    }
    write_json(fresh / "bundle.json", {**content, "checksums": checksums(content, weights)})
    put_folder(fresh, folder)
    for name, stored in learned.items():
        if name in before:
            before[name] = {word: _Seen.of(folder / "files" / file) for word, file in stored.items()}


def checksums(content: Document, weights: bytes) -> dict[str, str]:
    """What bundle.json says of its own keys and of model.safetensors, so that damage is seen: 16 hex digits of each."""
    return {**{word: digest(value) for word, value in content.items()}, WEIGHTS: _hash(weights)}


def _weights(model: Model) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a model: those that were trained, buffers among them, and those that were not."""
    trained, frozen = dict[str, Tensor](), dict[str, Tensor]()
    for name, value in model.state_dict(keep_vars=True).items():
        kept = frozen if isinstance(value, nn.Parameter) and not value.requires_grad else trained
        kept[name] = value.detach().cpu().contiguous()
    return trained, frozen


class _Seen(NamedTuple):
    """A file as this process wrote it, or compared it: while size, time and inode stay, so does its content."""

    path: Path
    stat: tuple[int, int, int]

    @classmethod
    def of(cls, path: Path) -> _Seen:
        found = path.stat()
        return cls(path, (found.st_size, found.st_mtime_ns, found.st_ino))

    def again(self, path: Path) -> bool:
        """Gives the file another name, if it is unchanged and can have one; says whether it did."""
        try:
            return self.of(self.path) == self and link(self.path, path)
        except OSError:
            return False


Kept = dict[str, Mapping[str, _Seen]]
"""The files of features that no run changes, by input; none where none is written yet. Else a process that trains
thirty runs would write out, hash and compare the same encoder thirty times."""


def _put_files(folder: Path, feature: Feature, beside: Sequence[Path], before: Mapping[str, _Seen]) -> dict[str, str]:
    """Puts the files of a feature into a bundle; gives their names there."""
    if before and all(seen.again(folder / "files" / seen.path.name) for seen in before.values()):
        return {word: seen.path.name for word, seen in before.items()}
    return {word: _put(folder, content, "", beside) for word, content in feature.files().items()}


def _put(folder: Path, content: bytes, suffix: str, beside: Sequence[Path]) -> str:
    """Puts a file named by its hash into a bundle, by a link to another bundle's where that can be; gives its name."""
    name = _hash(content) + suffix
    path = folder / "files" / name
    if not path.exists() and not any(_share(other / "files" / name, content, path) for other in beside):
        with writing(path) as file:
            file.write(content)
    return name


def _share(there: Path, content: bytes, path: Path) -> bool:
    """Links a file of another bundle; says whether it did. One that is damaged or being deleted is not shared."""
    try:
        return there.read_bytes() == content and link(there, path)
    except OSError:
        return False


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def files(folder: Path) -> list[Path]:
    """The files of a bundle: bundle.json, model.safetensors, and those that bundle.json names, where it can be read."""
    own = [folder / "bundle.json", folder / WEIGHTS]
    try:
        return [*own, *(folder / "files" / name for name in _stored(read_about(folder)))]
    except SertkError:
        return own


def identity(folder: Path) -> str:
    """Digest of what a bundle is, the same for every copy; its weights are in bundle.json by their hashes.

    Raises:
        SertkError: If it cannot be read.
    """
    own = read_bytes(folder / "bundle.json", OBTAIN)
    older = "checksums" not in read_about(folder)
    return _hash(own + (read_bytes(folder / WEIGHTS, OBTAIN) if older else b""))


def _stored(about: Document) -> list[str]:
    """The names of what lies in files/."""
    frozen = [about["frozen"]] if about.get("frozen") else []
    return [*frozen, *(name for stored in (about.get("files") or {}).values() for name in stored.values())]


def _parts(settings: Settings) -> list[tuple[str, Component]]:
    """The components of a model by kind, but for the heads."""
    return [
        ("backbone", settings.backbone),
        ("pooling", settings.pooling),
        ("decision", settings.decision),
        *(("feature", spec) for spec in settings.inputs.values()),
    ]


def _needed(settings: Settings, heads: Mapping[str, HeadSpec], plugins: Plugins) -> Iterator[tuple[str, str]]:
    """(kind, name) of everything that a registry must know, what lies inside others too."""
    for kind, spec in _parts(settings):
        yield from plugins.inside(kind, spec)
    yield from (("head", spec.kind) for spec in heads.values())


def _offered(plugins: Plugins, settings: Settings, heads: Mapping[str, HeadSpec]) -> dict[str, str]:
    """Who offers each component: a distribution with its version, or a plugin file with its hash."""
    entries = {f"{kind} {name}": plugins.entry(kind, name) for kind, name in _needed(settings, heads, plugins)}
    return {name: f"{entry.distribution} {entry.version}" for name, entry in entries.items()}


def computed_by(found: Opened, plugins: Plugins) -> dict[str, str]:
    """Who offers each component of a bundle here and now, with version and revision."""
    factories = {
        f"{kind} {name}": plugins.factory(kind, name) for kind, name in _needed(found.settings, found.heads, plugins)
    }
    offered = _offered(plugins, found.settings, found.heads)
    return {name: f"{who} revision {getattr(factories[name], 'revision', 1)}" for name, who in offered.items()}


def opened(folder: Path, plugins: Plugins) -> Opened:
    """Reads bundle.json.

    Args:
        folder: The `model` folder.
        plugins: The registry.

    Raises:
        SertkError: On a missing file, a key of a newer sertk, settings or a plugin that this one does not know.
    """
    about, where = read_about(folder), folder / "bundle.json"
    try:
        settings, heads = _settings(about), _heads(about)
        _check_plugins(about, where, settings, heads, plugins)
        features = _features(about, settings)
    except UsageError as error:
        raise _refused(about, where, error) from None
    return Opened(folder, about, replace(settings, seed=_seed(about)), heads, features)  # of random decisions and crops


def read(folder: Path, plugins: Plugins, device: str = "cpu", *, stored: bool = False, whole: bool = False) -> Bundle:
    """Reads a bundle.

    Args:
        folder: The `model` folder.
        plugins: The registry.
        device: Where the model goes.
        stored: Whether its features are read from stores: what computes them is then neither made nor read, where
            the bundle describes them.
        whole: Whether a part of the backbone that was frozen and cached goes back into the backbone.

    Raises:
        SertkError: See `opened`; also on weights that do not fit.
    """
    found = opened(folder, plugins)
    about = found.about
    described: Mapping[str, Feature] = {}
    if stored and found.features:
        described = {name: found.features[name] for name in cached(found.settings, plugins)}
    try:
        settings = build.joined(plugins, found.settings) if whole else found.settings
        check_size(lambda: _make(plugins, settings, described, found.heads)[1:], _size(folder))
        body, model, *_ = _make(plugins, settings, described, found.heads)
        decider = make_decider(plugins, settings, body.dims)
    except UsageError as error:
        raise _refused(about, folder / "bundle.json", error) from None
    _load(model, folder, about, joined=settings.inputs != found.settings.inputs)
    for name, feature in body.frontend.features.items():
        if name not in described:
            with inside(feature.who):
                feature.restore(_learned(folder, about, name))
    model.to(torch.device(device)).eval()
    return Bundle(tuple(about["classes"]), settings, model, body.frontend, decider, about)


def _make(
    plugins: Plugins, settings: Settings, described: Mapping[str, Feature], heads: Mapping[str, HeadSpec]
) -> tuple[Body, Model, *tuple[Feature, ...]]:
    """The front end with the rest of the body, the model, and what else has weights.

    Raises:
        UsageError: On settings that no model can have.
    """
    body = build.make_body(plugins, settings, shared=described)
    try:
        model = build.make_model(plugins, settings, body, heads)
    except (KeyError, TypeError) as error:  # a name that torch takes for no module
        raise UsageError(f"no model has the heads {some(heads)} ({error})") from None
    return body, model, *body.frontend.features.values()


def _size(folder: Path) -> int:
    """Bytes of a bundle; its weights are a file."""
    size_of(folder / WEIGHTS, OBTAIN)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Outline(NamedTuple):
    """What a bundle says of its model, without its weights.

    Attributes:
        classes: C class names.
        settings: Those that it is scored with.
        shapes: Of its weights, by name.
    """

    classes: tuple[str, ...]
    settings: Settings
    shapes: Mapping[str, tuple[int, ...]]


def outline(folder: Path, plugins: Plugins | None = None) -> Outline:
    """Reads what a bundle says of its model, and of its weights the header alone.

    Args:
        folder: The `model` folder.
        plugins: The registry, where a part of the backbone that was frozen and cached goes back into the backbone.

    Raises:
        SertkError: See `read`.
    """
    about, shapes = read_about(folder), dict[str, tuple[int, ...]]()
    try:
        given = _settings(about)
        settings = build.joined(plugins, given) if plugins else given
    except UsageError as error:
        raise _refused(about, folder / "bundle.json", error) from None
    for path, prefix in _weight_files(folder, about, joined=settings.inputs != given.inputs):
        size_of(path, OBTAIN)
        try:
            with safe_open(str(path), "pt") as file:
                shapes |= {prefix + name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise SertkError(f"{path} is not safetensors ({error}). {OBTAIN}") from None
    return Outline(tuple(about["classes"]), settings, shapes)


def seen(about: Document) -> frozenset[str]:
    """16 hex digits of each recording that a bundle's weights learned from; an old one does not say."""
    return frozenset((about.get("training") or {}).get("seen") or ())


def corpora(about: Document) -> frozenset[str]:
    """The parts of a union that a bundle's weights learned from, by name; other bundles, and old ones, name none."""
    return frozenset((about.get("training") or {}).get("corpora") or ())


def longest(about: Document) -> float | None:
    """Seconds of the longest training utterance; an old bundle does not say."""
    found: float | None = (about.get("training") or {}).get("longest")
    return found


def _seed(about: Document) -> int:
    """The seed of the run; an old bundle does not say."""
    training: Document = about.get("training") or {}
    return int(training.get("seed") or 0)


def read_about(folder: Path) -> Document:
    """What bundle.json says.

    Raises:
        SertkError: Where it is missing, or not what a bundle says.
    """
    if not folder.is_dir():
        raise SertkError(f"{folder} is not a folder. {OBTAIN}")
    if (folder / "ensemble.json").exists():
        raise SertkError(f"{folder} is an ensemble, and one bundle is needed here. Give one of {folder / 'members'}.")
    if not (folder / "bundle.json").exists() and (folder / "model" / "bundle.json").exists():
        raise SertkError(f"{folder} is a run, and its model is in it. Give {folder / 'model'}.")
    about = read_json(folder / "bundle.json", OBTAIN, newer=True)
    _check(about, folder / "bundle.json")
    return about


def _refused(about: Document, where: Path, error: UsageError) -> SertkError:
    """What is wrong with a bundle, as a sentence; of a newer one it is most likely what this sertk does not know."""
    what = str(error).rstrip(".")
    if about["schema"] > BUNDLE_SCHEMA:
        return SertkError(
            f"{where} was written by a newer sertk (schema {about['schema']}, this one reads {BUNDLE_SCHEMA}): {what}. "
            "Upgrade: pip install -U sertk"
        )
    return SertkError(f"{where}: {what}. {OBTAIN}")


def _load(model: Model, folder: Path, about: Document, *, joined: bool) -> None:
    """Gives a model its weights."""
    weights: dict[str, Tensor] = {}
    for path, prefix in _weight_files(folder, about, joined=joined):
        try:
            size_of(path, OBTAIN)  # raises if it is gone, or a pipe
            with path.open("rb") as file:
                _check_sum(path, about, hashlib.file_digest(file, "sha256").hexdigest()[:16])
            # mapped and not read: an encoder's weights would be in memory three times
            weights |= {prefix + name: value for name, value in load_file(path).items()}
        except SafetensorError as error:
            raise SertkError(f"{path} is not safetensors ({error}). {OBTAIN}") from None
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise SertkError(f"the weights of {folder} do not fit its components: {error}. {OBTAIN}") from None


def _weight_files(folder: Path, about: Document, *, joined: bool) -> list[tuple[Path, str]]:
    """Where the weights of the model are, with what comes in front of their names: those that were trained, and not.

    With `joined` those of the frozen part, which is a feature in the bundle, are the backbone's.
    """
    frozen = [about["frozen"]] if about.get("frozen") else []
    below = about["files"]["frozen"].values() if joined else ()
    own = [folder / WEIGHTS, *(folder / "files" / name for name in frozen)]
    return [*((path, "") for path in own), *((folder / "files" / name, "backbone.") for name in below)]


def _learned(folder: Path, about: Document, name: str) -> dict[str, bytes]:
    """What a feature's `files` gave the bundle, by file name."""
    if "files" not in about:  # a bundle from before files were named by their hashes
        return {path.name: _read(path, about) for path in sorted((folder / "files" / name).glob("*"))}
    return {word: _read(folder / "files" / stored, about) for word, stored in about["files"].get(name, {}).items()}


def _read(path: Path, about: Document) -> bytes:
    """The content of model.safetensors, or of a file that is named by its hash.

    Raises:
        SertkError: Where it cannot be read, or the hash is another one.
    """
    content = read_bytes(path, OBTAIN)
    _check_sum(path, about, _hash(content))
    return content


def _check_sum(path: Path, about: Document, found: str) -> None:
    """Compares the hash of a file with the one that the bundle says."""
    sums: Mapping[str, str] = about.get("checksums") or {}
    was = sums.get(WEIGHTS, "") if path.name == WEIGHTS else path.stem if STORED.fullmatch(path.name) else ""
    if was and was != found:
        raise SertkError(
            f"{path} is not what it was: the hash of its content is {found}, and was {was}. It was changed or damaged. "
            f"{OBTAIN}"
        )


def _check(about: Document, where: Path) -> None:
    """Refuses what is no bundle, or one of a newer sertk that says what this one does not know."""
    forms = {"components": dict, "heads": dict, "protocol": dict, "classes": list}
    for name, form in forms.items():
        if not isinstance(about.get(name), form):
            raise _refused(about, where, UsageError(f"{name} is not a {form.__name__}"))
    heads, classes = about["heads"], about["classes"]
    wrong = {
        "training, plugins or versions is no dict": any(
            not isinstance(about.get(name), dict | None) for name in ("training", "plugins", "versions")
        ),
        "seed, seen or corpora of training is wrong": bool(TRAINING.fault(about.get("training") or {})),
        "a value of protocol is no text": not all(
            isinstance(about["protocol"].get(word), str | None) for word in PROTOCOL
        ),
        "training.longest is no number of seconds": not _is_length(about.get("training")),
        "a head is no dict": not all(isinstance(spec, dict) for spec in heads.values()),
        "heads has no emotion": "emotion" not in heads,
        "classes are not different texts": len(set(map(str, classes))) < len(classes)
        or not all(isinstance(name, str) for name in classes),
        "protocol lacks corpus, name, fold, hash or stamp": bool(PROTOCOL - set(about["protocol"])),
        "features is no dict of dicts": not fits(about.get("features"), Mapping[str, dict[str, object]] | None),
        "frozen or files does not name files by 16 hex digits": not _names_files(about),
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise _refused(about, where, UsageError(what))
    if len(classes) != heads["emotion"].get("out"):
        raise _refused(about, where, UsageError("classes are not as many as the emotion head's outputs"))
    _check_keys(about, where)
    _check_sums(about, where)


def _check_sums(about: Document, where: Path) -> None:
    """Refuses a bundle.json that was changed since it was written; one of schema 1 does not say what it was.

    Raises:
        SertkError: Where one of its keys was changed, or has no checksum; a note of somebody's need not have one.
    """
    sums: Document = about.get("checksums") or {}
    if "checksums" not in about and about["schema"] < BUNDLE_SCHEMA:
        return
    if not fits(sums, Mapping[str, str]) or WEIGHTS not in sums:
        raise SertkError(f"{where}: checksums is lacking or wrong: it was changed or damaged. {OBTAIN}")
    own = (KEYS & about.keys() | sums.keys()) - {"checksums", WEIGHTS}
    odd = sorted(word for word in own if word not in about or sums.get(word) != digest(about[word]))
    if odd:
        raise SertkError(f"{where}: {odd[0]} is not what was written: it was changed or damaged. {OBTAIN}")


def _is_length(training: object) -> bool:
    """Whether what is said of the longest training utterance, if anything, is a length."""
    found = training.get("longest", 1.0) if isinstance(training, dict) else 1.0
    return isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < math.inf


def _names_files(about: Document) -> bool:
    """Whether what lies in files/ is named as it must be, and nothing outside of it."""
    groups = about.get("files", {})
    if not isinstance(groups, dict) or not all(isinstance(stored, dict) for stored in groups.values()):
        return False
    names: list[object] = [*_stored(about)]
    return all(isinstance(name, str) and STORED.fullmatch(name) for name in names)


def _check_keys(about: Document, where: Path) -> None:
    odd = [
        *sorted(about.keys() - KEYS),
        *(f"components.{word}" for word in sorted(about["components"].keys() - BUNDLED)),
        *(f"heads.{name}.{word}" for name, spec in about["heads"].items() for word in sorted(spec.keys() - _HEAD)),
    ]
    if odd and about["schema"] > BUNDLE_SCHEMA:
        raise _refused(about, where, UsageError(f"unknown key {odd[0]!r}"))
    inner = [name for name in odd if "." in name]  # at the top a note of somebody's does no harm
    if inner:
        raise SertkError(f"{where}: unknown key {inner[0]!r}. {OBTAIN}")


_HEAD = set(HeadSpec._fields)


def _settings(about: Document) -> Settings:
    """The components as settings; what an older bundle lacks has its default."""
    found = settings_of(about["components"])
    if isinstance(found.decision.temperature, str):
        raise UsageError(f"decision.temperature is {found.decision.temperature!r}; a bundle has a number above 0")
    return replace(found, decision=resolve_decision(found))


def _heads(about: Document) -> dict[str, HeadSpec]:
    """The heads by name.

    Raises:
        UsageError: Where one lacks something, or has a value that it cannot have.
    """
    hints, found = get_type_hints(HeadSpec), dict[str, HeadSpec]()
    for name, spec in about["heads"].items():
        reads = spec.get("reads")
        given = {**spec, "reads": tuple(reads) if isinstance(reads, list) else reads}
        lacking = [word for word in ("kind", "out") if word not in spec]
        odd = [word for word, value in given.items() if not fits(value, hints[word])]
        if lacking or odd:
            raise UsageError(f"head {name!r}: {', '.join(lacking or odd)} is {'lacking' if lacking else 'wrong'}")
        found[name] = HeadSpec(**given)
    return found


def _features(about: Document, settings: Settings) -> dict[str, Feature] | None:
    """The features as the bundle describes them; None in an older bundle.

    Raises:
        UsageError: Where it describes other features than its inputs, or one has a value that it cannot have.
    """
    hints, told, given = get_type_hints(FeatureSpec), about.get("features"), dict[str, Document]()
    if told is None:
        return None
    if told.keys() != settings.inputs.keys():
        raise UsageError(f"features describes {', '.join(told) or 'none'}; the inputs are {', '.join(settings.inputs)}")
    for name, spec in told.items():
        given[name] = {**FeatureSpec._field_defaults, **spec}  # what an older bundle does not say
        odd = [word for word, hint in hints.items() if word not in given[name] or not fits(given[name][word], hint)]
        if odd:
            raise UsageError(f"feature {name!r}: {', '.join(odd)} is lacking or wrong")
    return {name: Described(FeatureSpec(*(spec[word] for word in hints))) for name, spec in given.items()}


def _check_plugins(
    about: Document, where: Path, settings: Settings, heads: Mapping[str, HeadSpec], plugins: Plugins
) -> None:
    """Refuses a bundle whose components nobody offers; says where a plugin file is not the one it was trained with."""
    for kind, spec in _parts(settings):
        for place in plugins.places(kind, spec):
            raise SertkError(
                f"{where}: {kind} {spec.name!r} loads {place!r}, and a bundle has its weights itself. {OBTAIN}"
            )
    recorded = about.get("plugins") or {}
    for kind, name in _needed(settings, heads, plugins):
        was = str(recorded.get(f"{kind} {name}", ""))
        if name not in plugins.names(kind):
            mend = f"Install what offers it: pip install {was.replace(' ', '==')}" if was else OBTAIN
            if " sha256 " in was:
                file = was.rpartition(" sha256 ")[0]
                mend = f"Give the file that offers it, {was}: --plugin {shlex.quote(file)}"
            lacking = f"{where} needs the {kind} {name!r}, which no installed plugin offers."
            raise SertkError(" ".join(filter(None, [lacking, switch_note(), mend])))
        entry = plugins.entry(kind, name)
        if " sha256 " in was and was != (now := f"{entry.distribution} {entry.version}"):
            say(f"{kind} {name!r} comes from {now} and the bundle was trained with {was}: it may compute otherwise")

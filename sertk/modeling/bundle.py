"""The bundle: a model that travels as data. `model.safetensors` + `bundle.json`; no pickle, no YAML tag, no code."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

import sertk
from sertk.core import HeadSpec, SertkError
from sertk.core.files import SCHEMA, read_json, write_json, writing
from sertk.modeling import build
from sertk.modeling.build import COMPONENTS, Decider
from sertk.modeling.frontend import Frontend
from sertk.modeling.model import Model
from sertk.plugins import Plugins

OBTAIN = "Give the `model` folder that `sertk train` wrote, or copy it again."
KEYS = {"schema", "classes", "components", "heads", "plugins", "protocol", "training", "versions"}
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".npy", ".joblib")
STACK = ("torch", "torchaudio", "speechbrain", "transformers")
AUDIO = {"rate", "trim_db", "min_seconds"}
PROTOCOL = {"corpus", "name", "fold", "hash", "stamp"}
KINDS = ("backbone", "pooling", "decision")


@dataclass(frozen=True)
class Bundle:
    """A model read from a bundle, ready to score.

    Attributes:
        classes: C class names.
        audio: Sampling rate and the like.
        model: In eval mode.
        frontend: Features and crops.
        decider: How windows are decided.
        about: bundle.json as it is.
    """

    classes: tuple[str, ...]
    audio: dict[str, Any]
    model: Model
    frontend: Frontend
    decider: Decider
    about: dict[str, Any]


def write(folder: Path, model: Model, frontend: Frontend, about: Mapping[str, Any], plugins: Plugins) -> None:
    """Writes a bundle whole or not at all.

    Args:
        folder: Where to; what is there is replaced when the new one is complete.
        model: Its weights are written.
        frontend: Its features' own files are written.
        about: classes, components, protocol, training.
        plugins: Tells which distribution offers each component.
    """
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with writing(fresh / "model.safetensors") as file:
        file.write(save(weights))
    for name, feature in frontend.features.items():
        for file_name, content in feature.files().items():
            with writing(fresh / "files" / name / file_name) as file:
                file.write(content)
    heads = {name: {**spec._asdict(), "settings": dict(spec.settings)} for name, spec in model.specs.items()}
    offered = _distributions(plugins, about["components"], heads)
    versions = {"sertk": sertk.__version__, **{name: version(name) for name in STACK}}
    write_json(fresh / "bundle.json", {**about, "heads": heads, "plugins": offered, "versions": versions})
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _named(components: Mapping[str, Any], heads: Mapping[str, Any], plugins: Plugins) -> list[tuple[str, str]]:
    """(kind, name) of everything that a registry must know, what lies inside others too."""
    specs = [(kind, components[kind]) for kind in KINDS]
    specs += [("feature", spec) for spec in components["inputs"].values()]
    named = [one for kind, spec in specs for one in plugins.inside(kind, spec)]
    return named + [("head", spec["kind"]) for spec in heads.values()]


def _distributions(plugins: Plugins, components: Mapping[str, Any], heads: Mapping[str, Any]) -> dict[str, str]:
    entries = {f"{kind} {name}": plugins.entry(kind, name) for kind, name in _named(components, heads, plugins)}
    return {name: f"{entry.distribution} {entry.version}" for name, entry in entries.items()}


def read(folder: Path, plugins: Plugins, device: str = "cpu") -> Bundle:
    """Reads a bundle.

    Args:
        folder: The `model` folder.
        plugins: The registry.
        device: Where the model goes.

    Raises:
        SertkError: On a missing file, a pickle, a YAML tag, an unknown key, a plugin that is not installed, or weights
            that do not fit.
    """
    _refuse_foreign(folder)
    about = read_json(folder / "bundle.json", OBTAIN)
    _check(about, folder, plugins)
    settings = {**about["components"], "augment": []}
    body = build.make_body(plugins, settings)
    specs = {
        name: HeadSpec(**{**spec, "reads": spec["reads"] and tuple(spec["reads"])})
        for name, spec in about["heads"].items()
    }
    model = build.make_model(plugins, settings, body, specs)
    try:
        weights = load((folder / "model.safetensors").read_bytes())
    except OSError as error:
        raise SertkError(f"{folder / 'model.safetensors'}: {error.strerror}. {OBTAIN}") from None
    except SafetensorError as error:
        raise SertkError(f"{folder / 'model.safetensors'} is not safetensors ({error}). {OBTAIN}") from None
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise SertkError(f"the weights of {folder} do not fit its components: {error}. {OBTAIN}") from None
    for name, feature in body.frontend.features.items():
        feature.restore({path.name: path.read_bytes() for path in sorted((folder / "files" / name).glob("*"))})
    model.to(torch.device(device)).eval()
    decider = build.make_decider(plugins, settings, body.dims)
    return Bundle(tuple(about["classes"]), settings["audio"], model, body.frontend, decider, about)


def _refuse_foreign(folder: Path) -> None:
    if not folder.is_dir():
        raise SertkError(f"{folder} is not a folder. {OBTAIN}")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLES:
            raise SertkError(
                f"{path} is a pickle or may hold one, and a pickle can run any code: bundles are data only. "
                "Delete it if the bundle is yours; else ask its author for a bundle that `sertk train` wrote."
            )
        if path.name == "model.safetensors" and path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"PK"):
            raise SertkError(f"{path} is a pickle under another name, and a pickle can run any code. {OBTAIN}")


def _check(about: Mapping[str, Any], folder: Path, plugins: Plugins) -> None:
    where = folder / "bundle.json"
    _refuse_tags(about, where)
    for name, form in (("components", dict), ("heads", dict), ("protocol", dict), ("classes", list), ("plugins", dict)):
        if not isinstance(about.get(name), form):
            raise SertkError(f"{where}: {name} is not a {form.__name__}. {OBTAIN}")
    for found, known, place in (
        (set(about), KEYS, "bundle.json"),
        (set(about.get("components", {})), set(COMPONENTS), "components"),
        *((set(spec), set(HeadSpec._fields), f"heads.{name}") for name, spec in about.get("heads", {}).items()),
    ):
        odd, missing = sorted(found - known), sorted(known - found)
        if odd or missing:
            what = f"an unknown key {odd[0]!r}" if odd else f"no key {missing[0]!r}"
            raise SertkError(
                f"{where}: {place} has {what}; it has {', '.join(sorted(known))} in schema {SCHEMA}. {OBTAIN}"
            )
    _check_values(about, where)
    for kind, name in _named(about["components"], about["heads"], plugins):
        if name not in plugins.names(kind):
            offered = about["plugins"].get(f"{kind} {name}", "")
            mend = f"Install what offers it: pip install {offered.replace(' ', '==')}" if offered else OBTAIN
            raise SertkError(f"{where} needs the {kind} {name!r}, which no installed plugin offers. {mend}")


def _check_values(about: Mapping[str, Any], where: Path) -> None:
    """Refuses values that a bundle of ours cannot have."""
    parts, heads = about["components"], about["heads"]
    wrong = {
        "heads has no emotion": "emotion" not in heads,
        "components.audio is not rate, trim_db and min_seconds": set(parts["audio"]) != AUDIO,
        f"components.normalize is {parts['normalize']!r}": parts["normalize"] not in ("dimension", "scalar", "none"),
        "components name a source, and a bundle has its weights itself": _names_source(parts),
        "protocol lacks corpus, name, fold, hash or stamp": bool(PROTOCOL - set(about["protocol"])),
        "classes are not as many as the emotion head's outputs": (
            len(about["classes"]) != heads.get("emotion", {}).get("out")
        ),
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise SertkError(f"{where}: {what}. {OBTAIN}")


def _names_source(content: object) -> bool:
    """Whether anything in it would be loaded from elsewhere: a path of this machine, or the network."""
    if isinstance(content, Mapping):
        return content.get("source") is not None or any(map(_names_source, content.values()))
    return isinstance(content, list) and any(map(_names_source, content))


def _refuse_tags(content: object, where: Path) -> None:
    if isinstance(content, str) and content.startswith("!"):
        raise SertkError(f"{where} holds the YAML tag {content!r}; a bundle is data and names plugins only. {OBTAIN}")
    children = content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ()
    for child in children:
        _refuse_tags(child, where)

"""Settings: base <- system <- recipe <- command line, merged as round-trip trees and then read by HyperPyYAML."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from sertk.core import SertkError, UsageError, nearest
from sertk.core.files import write_text

Settings = dict[str, Any]

COMPUTED_BY = ("train.device", "train.workers", "train.tensorboard")
"""Settings that say how a run is computed and watched, not which run it is."""

CONF = Path(__file__).with_name("conf")


def systems() -> dict[str, Path]:
    """The systems that come with sertk, by name."""
    return {path.stem: path for path in sorted((CONF / "systems").glob("*.yaml"))}


def system_file(name: str) -> Path:
    """The file of a system, given its name or a path.

    Raises:
        UsageError: Where there is none; the nearest name is proposed.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    known = systems()
    if name not in known:
        raise UsageError(f"no system named {name!r}{nearest(name, known)}")
    return known[name]


def read(path: Path) -> CommentedMap:
    """Reads a YAML file (1.2, so `140:50` is text and `1e-4` a number).

    Raises:
        SertkError: Where it is missing, not YAML, or not a mapping.
    """
    try:
        tree = YAML().load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SertkError(f"cannot read settings {path}: {error.strerror}. Give an existing YAML file.") from None
    except YAMLError as error:
        raise SertkError(f"{path} is not YAML: {error}") from None
    if tree is None:
        return CommentedMap()
    if not isinstance(tree, CommentedMap):
        raise SertkError(f"{path} holds a {type(tree).__name__}, not settings as KEY: VALUE.")
    return tree


def merge(layers: Sequence[tuple[str, CommentedMap]]) -> CommentedMap:
    """Merges (name for errors, tree) layers over base.yaml.

    A mapping with a `name` or a tag replaces what is there; other mappings merge.

    Raises:
        UsageError: On an unknown key at any depth (the nearest known one is proposed) or a value of another type.
    """
    merged = read(CONF / "base.yaml")
    base = read(CONF / "base.yaml")
    for where, layer in layers:
        _merge(merged, layer, base, where, "")
    return merged


def load(
    system: str | None = None, recipe: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> CommentedMap:
    """The merged document of a run, to be saved beside it and handed to `resolve`.

    Args:
        system: Name or path; the recipe's own where None.
        recipe: A recipe.yaml or a saved config.yaml.
        overrides: Dotted keys and values from the command line.

    Raises:
        UsageError: See `merge`.
    """
    corpus = read(recipe) if recipe else CommentedMap()
    name = system or corpus.get("system")
    layers = [(str(recipe), corpus), ("the command line", _nest(overrides or {}))]
    # a saved config.yaml is whole: its system's file may have changed since, or be gone
    whole = system is None and set(read(CONF / "base.yaml")) <= set(corpus)
    if name and not whole:
        path = system_file(name)
        layers.insert(0, (str(path), read(path)))
        layers[2:2] = _for_system(Path(name).stem, corpus, str(recipe))
    merged = merge(layers)
    merged["system"], merged["systems"] = name, CommentedMap()
    return merged


def _for_system(name: str, corpus: Mapping[str, Any], where: str) -> list[tuple[str, CommentedMap]]:
    """The layers of a recipe that are for one system alone."""
    own = corpus.get("systems") or {}
    for pattern, tree in own.items():
        if not isinstance(tree, CommentedMap):
            raise UsageError(f"{_line(where, own, pattern)}: systems.{pattern} is {tree!r}; it takes settings")
    return [(f"{where}, systems {pattern}", tree) for pattern, tree in own.items() if fnmatchcase(name, pattern)]


def resolve(document: Mapping[str, Any]) -> Settings:
    """The settings as plain data, HyperPyYAML's tags (`!ref`, `!name:`, `!new:`) resolved."""
    # HyperPyYAML parses with PyYAML, which reads 140:50 as a base-60 number and 1e-4 as text: spell both safely
    writer = YAML()
    writer.Representer = _SafeForPyYAML
    text = io.StringIO()
    writer.dump(_quoted(document), text)
    try:
        settings: Settings = load_hyperpyyaml(text.getvalue())
    except Exception as error:  # whatever a tag of the user's own recipe runs into
        raise SertkError(f"the settings' tags cannot be resolved: {type(error).__name__}: {error}") from error
    return _frozen(settings)


def _frozen(settings: Settings) -> Settings:
    """A backbone on whole waves that is frozen whole, put as what it is: a feature, which is computed once."""
    backbone, inputs = settings["backbone"], settings["inputs"]
    waves = inputs and all(spec in ("wave", {"name": "wave"}) for spec in inputs.values())
    if settings["crop"] or not waves or not isinstance(backbone, Mapping) or backbone.get("freeze") != "all":
        return settings
    inside = {word: value for word, value in backbone.items() if word not in ("freeze", "reads")}
    weighted = inside.get("layers") == "weighted"
    inside |= {"layers": "all"} if weighted else {}
    frames = {"name": "frames", "layers": "weighted" if weighted else "keep"}
    return {**settings, "inputs": {"frozen": {"name": "frozen", "backbone": inside}}, "backbone": frames}


def dump(document: Mapping[str, Any], path: Path) -> None:
    """Writes a document as YAML, whole or not at all."""
    write_text(path, text_of(document))


def text_of(document: Mapping[str, Any]) -> str:
    """A document as YAML text."""
    text = io.StringIO()
    writer = YAML()
    writer.width = 120
    writer.dump(_bare(document), text)
    return text.getvalue()


def value_of(text: str) -> Any:  # noqa: ANN401 - whatever the user typed
    """Reads a value of the command line as YAML 1.2 does: 4, 1e-4, true, null, [1, 2], {a: 1} or text."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UsageError(f"{text!r} is not a value: {error}") from None


def component_of(text: str) -> dict[str, Any]:
    """Reads a component of the command line: "triplet", "triplet:margin=0.5" or "triplet:margin=0.5,at=whole".

    Raises:
        UsageError: Where a setting is not KEY=VALUE.
    """
    name, _, rest = text.partition(":")
    settings: dict[str, Any] = {"name": name}
    for pair in filter(None, re.split(r",(?=\w+=)", rest)):
        word, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{text!r} is not NAME or NAME:SETTING=VALUE[,SETTING=VALUE]: {pair!r} has no '='.")
        settings[word] = value_of(value)
    return settings


def spell(component: str | Mapping[str, Any]) -> str:
    """A component as it is typed: what `component_of` reads."""
    if isinstance(component, str):
        return component
    pairs = [f"{word}={_typed(value)}" for word, value in component.items() if word != "name"]
    return f"{component['name']}:{','.join(pairs)}" if pairs else str(component["name"])


def _typed(value: object) -> str:
    return value if isinstance(value, str) and value_of(value) == value else json.dumps(value, ensure_ascii=False)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return found


def _nest(overrides: Mapping[str, Any]) -> CommentedMap:
    tree = CommentedMap()
    # a component before its settings
    for dotted, value in sorted(overrides.items(), key=lambda pair: pair[0].count(".")):
        *path, last = dotted.split(".")
        place = tree
        for word in path:
            place = place.setdefault(word, CommentedMap())
            if not isinstance(place, dict):
                raise UsageError(f"{dotted} cannot be set: {word} is given as {place!r}. Give one of the two.")
        place[last] = value
    return tree


def _tagged(value: object) -> bool:
    tag = getattr(value, "tag", None)
    return tag is not None and bool(tag.value)


def _replaces(value: object) -> bool:
    return not isinstance(value, Mapping) or "name" in value or _tagged(value)


def _merge(
    into: CommentedMap, layer: Mapping[str, Any], known: Mapping[str, Any] | None, where: str, prefix: str
) -> None:
    for word, value in layer.items():
        dotted = f"{prefix}{word}"
        if known is not None and word not in known:
            raise UsageError(f"{_line(where, layer, word)}: unknown setting {dotted!r}{nearest(str(word), known)}")
        default = None if known is None else known[word]
        if known is not None:
            _check(default, value, dotted, _line(where, layer, word))
        if _replaces(value) or not value or not isinstance(into.get(word), Mapping):  # {} empties
            into[word] = value
        else:
            # below a component (it has a name) and below an open mapping ({}) the plugin's own check decides
            closed = isinstance(default, Mapping) and default and "name" not in default
            _merge(into[word], value, default if closed else None, where, f"{dotted}.")


def _check(default: object, value: object, dotted: str, where: str) -> None:
    if default is None or _tagged(value):
        return
    if isinstance(default, Mapping):
        allowed: tuple[type, ...] = (Mapping, str) if "name" in default else (Mapping,)
    elif dotted == "folds":
        allowed = (str, list)
    else:
        # ruamel's round-trip scalars are subclasses of the plain ones
        plain = next(kind for kind in (bool, int, float, list, str) if isinstance(default, kind))
        allowed = (int, float) if plain is float else (plain,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join("mapping" if kind is Mapping else kind.__name__ for kind in allowed)
        raise UsageError(f"{where}: {dotted} must be {names}, got {value!r}")


def _line(where: str, layer: Mapping[str, Any], word: str) -> str:
    try:
        return f"{where}:{layer.lc.key(word)[0] + 1}"  # type: ignore[attr-defined]
    except (AttributeError, KeyError, TypeError):
        return where


class _SafeForPyYAML(RoundTripRepresenter):
    pass


def _represent_float(representer: RoundTripRepresenter, value: float) -> Any:  # noqa: ANN401
    text = repr(value)
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+03d}"
    return representer.represent_scalar("tag:yaml.org,2002:float", text)


_SafeForPyYAML.add_representer(float, _represent_float)


def _quoted(tree: Any) -> Any:  # noqa: ANN401
    """A copy that PyYAML reads as ruamel does: text quoted, floats as plain floats, tags as they are."""
    if _tagged(tree):
        return tree
    if isinstance(tree, Mapping):
        return CommentedMap((word, _quoted(value)) for word, value in tree.items())
    if isinstance(tree, list | tuple):
        return CommentedSeq(_quoted(value) for value in tree)
    if isinstance(tree, str):
        return DoubleQuotedScalarString(tree)
    return float(tree) if isinstance(tree, float) else tree


def _bare(tree: Any) -> Any:  # noqa: ANN401
    """A copy without comments."""
    if _tagged(tree):
        return tree
    if isinstance(tree, Mapping):
        return CommentedMap((word, _bare(value)) for word, value in tree.items())
    if isinstance(tree, list | tuple):
        return CommentedSeq(_bare(value) for value in tree)
    return tree

"""Layers of settings into one: defaults <- system <- recipe <- command line, each value with its file and line."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hyperpyyaml import resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarint import ScalarInt

from sertk.core import SertkError, UsageError, nearest
from sertk.core.files import read_bytes, write_text
from sertk.settings.check import check_part, settings_of
from sertk.settings.packaged import egs
from sertk.settings.plain import plain
from sertk.settings.schema import COMMAND_LINE, Component, Settings, fields_of, given_at
from sertk.settings.values import component_of

CONF = Path(__file__).with_name("conf")
LATER = {"plugins", "head", "sampler", "class_weights", "speakers", "searched", "launcher"}
"""Settings that the first saved configs do not have; they have all others."""
YAML_BYTES, NESTED, VALUES = 2**20, 50, 20_000
"""Bytes of a file of settings that is read, how deep it may be, and values that it may have, aliases written out."""
TAGS = ("!ref", "!copy")
"""The tags of HyperPyYAML that compute values from values; its other tags run code."""


class Layer(NamedTuple):
    """Some settings and the file that they come from; None for the command line."""

    file: Path | None
    tree: CommentedMap

    @property
    def where(self) -> str:
        """For errors."""
        return str(self.file or COMMAND_LINE)


def systems() -> dict[str, Path]:
    """The systems that come with sertk, by name."""
    return {path.stem: path for path in sorted((CONF / "systems").glob("*.yaml"))}


def system_file(name: str) -> Path:
    """The file of a system, given its name or a path.

    Raises:
        UsageError: If there is no such system; the nearest name is proposed.
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
        UsageError: Where it is missing, not YAML, not a mapping, or has a tag that could run code.
    """
    try:
        text = read_bytes(path, "Give an existing YAML file.", YAML_BYTES).decode()
        tree = deepcopy(_parsed(path, text))
    except SertkError as error:
        raise error if isinstance(error, UsageError) else UsageError(f"cannot read settings: {error}") from None
    except (YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not YAML: {error}") from None
    if tree is None:
        return CommentedMap()
    if not isinstance(tree, CommentedMap):
        what = "a list" if isinstance(tree, list) else f"the text {tree!r}"
        raise UsageError(f"{path} holds {what}, and not KEY: VALUE lines.")
    return tree


@lru_cache(maxsize=64)  # each point of a sweep reads the same two files
def _parsed(path: Path, text: str) -> Any:  # noqa: ANN401 - what YAML can say
    """What a YAML text holds; not to be changed.

    Raises:
        UsageError: See `_refuse_tags`.
        YAMLError: On what is not YAML.
    """
    _refuse_tags(path, text)
    return YAML().load(text)


def _refuse_tags(path: Path, text: str) -> None:
    """Refuses tags before anything acts on one, and small files that become very large when they are read.

    Raises:
        UsageError: On any tag but `TAGS`, on nesting, and on aliases that repeat each other; with file and line.
    """
    open_, sizes = [("", 0)], dict[str, int]()  # what is not closed yet: its anchor, and how many values it has
    for event in YAML().parse(text):
        line, tag = f"{path}:{event.start_mark.line + 1}", getattr(event, "tag", None)
        if tag is not None and str(tag) not in TAGS:
            raise UsageError(
                f"{line}: the tag {tag} is refused: settings are data, and tags can run "
                f"code. Allowed are {' and '.join(TAGS)}. A class of your own comes as a plugin file (plugins: [FILE])."
            )
        if tag is not None and "**" in str(getattr(event, "value", "")):
            raise UsageError(
                f"{line}: '**' in a reference is refused, for its value may fill the memory. Write it out."
            )
        anchor = getattr(event, "anchor", None) or ""
        if isinstance(event, CollectionStartEvent):
            open_.append((anchor, 1))
            own = None
        elif isinstance(event, CollectionEndEvent):
            anchor, own = open_.pop()
        else:
            own = sizes.get(anchor, 1) if isinstance(event, AliasEvent) else 1
        if own is not None:
            sizes[anchor] = own
            open_[-1] = open_[-1][0], open_[-1][1] + own
        if len(open_) > NESTED or open_[-1][1] > VALUES:
            raise UsageError(
                f"{line}: settings are nested {NESTED} times at most, and have {VALUES} values, aliases written out. "
                "Write what is needed."
            )


def load(
    system: str | None = None,
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    plugins: Sequence[Path] = (),
    trust: bool = False,
) -> Settings:
    """The settings of a run, merged and checked.

    Args:
        system: Name or path; the document's own where None.
        config: A recipe.yaml, or the config.yaml that a run saved.
        overrides: Dotted keys and values from the command line.
        plugins: Plugin files that the command line names.
        trust: Whether plugin files that the document names may be run.

    Raises:
        UsageError: On an unknown key at any depth, or a value of the wrong type or out of its range, with file and
            line; on a plugin file that is neither trusted nor named by the command line; where a file cannot be read.
    """
    document, chosen = read(config) if config else CommentedMap(), _nest(overrides or {})
    system = system or chosen.get("system")
    name = system or document.get("system")
    # a run's own config.yaml is whole: its system's file may have changed since, or be gone
    every = fields_of(Settings).keys() - LATER <= document.keys()
    whole = system is None and every and document["fold"] is not None  # a recipe may name all, but not the fold
    file = system_file(str(name)) if name and not whole else None
    recipe = Layer(config, document)
    below = [Layer(file, read(file))] if file else []
    layers = [*below, recipe, Layer(None, chosen)]
    _check_systems(layers, config)
    if file:
        layers[2:2] = _for_system(file.stem, recipe)
    tree, places = merge(layers)
    tree |= {"system": name, "systems": {}, "plugins": _trusted(layers, plugins, trust=trust)}
    found = settings_of(_resolved(tree, places), places)
    return _with_what_was_chosen(found) if whole else found


def sources(system: str, config: Path) -> list[Path]:
    """The files that settings come from, and the plugin files that these name, as they name them.

    Args:
        system: Name or path.
        config: A recipe.yaml.
    """
    found = [config, system_file(system)]
    for file in tuple(found):
        named = read(file).get("plugins") or []
        found += [file.parent / one for one in (named if isinstance(named, list) else [named])]
    return found


def _with_what_was_chosen(saved: Settings) -> Settings:
    """The settings that differ from their defaults, of a saved config, which names every setting."""
    defaults = Settings()
    same = {name for name in fields_of(Settings) if getattr(saved, name) == getattr(defaults, name)}
    return replace(saved, places={name: place for name, place in saved.places.items() if name not in same})


def merge(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Merges layers over the defaults: a mapping with a `name` replaces what is there, other mappings merge.

    Returns:
        The tree, references not yet resolved; and FILE:LINE of what was given, by dotted name.
    """
    merged, places = plain(Settings()), dict[str, str]()
    for layer in layers:
        _merge(merged, layer.tree, layer.where, "", places)
    return merged, places


def _merge(into: dict[str, Any], layer: Mapping[str, Any], where: str, prefix: str, places: dict[str, str]) -> None:
    for word, value in layer.items():
        dotted = f"{prefix}{word}"
        if not isinstance(word, str | int | float | None):
            raise UsageError(
                f"{_line(where, layer, word)}: {dotted} cannot be the name of a setting. Write KEY: VALUE."
            )
        under = into.get(word)
        if isinstance(under, str) and isinstance(value, Mapping) and "name" not in value and _is_component(dotted):
            under = into[word] = component_of(under)
        if not isinstance(value, Mapping) or "name" in value or not value or not isinstance(under, dict):  # {} empties
            for old in [name for name in places if name.startswith(f"{dotted}.")]:
                del places[old]
            into[word] = value
            places |= _lines(where, layer, word, dotted)
            continue
        into[word] = dict(under)
        places[dotted] = _line(where, layer, word)
        _merge(into[word], value, where, f"{dotted}.", places)


def _is_component(dotted: str) -> bool:
    """Whether a setting is one plugin, so that text is its name."""
    if dotted.startswith("inputs.") and dotted.count(".") == 1:
        return True
    kind: Any = Settings()
    for word in dotted.split("."):
        kind = getattr(kind, word, None)
    return isinstance(kind, Component)


def _line(where: str, layer: Mapping[str, Any], word: str) -> str:
    try:
        return f"{where}:{layer.lc.key(word)[0] + 1}"  # type: ignore[attr-defined]
    except (AttributeError, KeyError, TypeError):
        return where


def _lines(where: str, layer: Mapping[str, Any], word: str, dotted: str) -> dict[str, str]:
    """FILE:LINE of a value and of all that it holds, by dotted name."""
    found, value = {dotted: _line(where, layer, word)}, layer[word]
    for inner in value if isinstance(value, CommentedMap) else ():
        found |= _lines(where, value, inner, f"{dotted}.{inner}")
    return found


def where_given(where: Path | str, tree: CommentedMap) -> dict[str, str]:
    """FILE:LINE of all that a tree holds, by dotted name."""
    return {name: line for word in tree for name, line in _lines(str(where), tree, word, str(word)).items()}


def _check_systems(layers: Sequence[Layer], recipe: Path | None) -> None:
    """Checks the settings that a recipe has for some systems only, also of systems that are not run.

    Raises:
        UsageError: Where one is wrong; where another layer than the recipe has any.
    """
    for layer in layers:
        own = layer.tree.get("systems") or {}
        place = _line(layer.where, layer.tree, "systems")
        if own and (layer.file is None or layer.file != recipe or not isinstance(own, Mapping)):
            raise UsageError(f"{place}: systems is {own!r}. A recipe has it, as {{SYSTEM: {{KEY: VALUE}}}}.")
        for pattern, tree in own.items():
            if not isinstance(tree, CommentedMap):
                line = _line(layer.where, own, pattern)
                raise UsageError(f"{line}: systems.{pattern} is {tree!r}; it takes settings")
            if not tags_in(tree):  # what a reference makes is seen where the system is run
                check_part(tree, where_given(layer.where, tree))


def _for_system(name: str, recipe: Layer) -> list[Layer]:
    """The layers of a recipe that are for one system alone."""
    own = recipe.tree.get("systems") or {}
    return [Layer(recipe.file, tree) for pattern, tree in own.items() if fnmatchcase(name, str(pattern))]


def _nest(overrides: Mapping[str, Any]) -> CommentedMap:
    tree = CommentedMap()
    # a component before its settings
    for dotted, value in sorted(overrides.items(), key=lambda pair: pair[0].count(".")):
        *path, last = dotted.split(".")
        place = tree
        for word in path:
            if isinstance(place.get(word), str):
                place[word] = component_of(place[word])
            place = place.setdefault(word, CommentedMap())
            if not isinstance(place, dict):
                raise UsageError(f"{dotted} cannot be set: {word} is given as {place!r}. Give one of the two.")
        place[last] = value
    return tree


def _trusted(layers: Sequence[Layer], given: Sequence[Path], *, trust: bool) -> list[str]:
    """The full paths of the plugin files of a run: named in a document and trusted, or given with `--plugin`.

    Raises:
        UsageError: Where a document names one that is not trusted, or what is no list of files.
    """
    files = list(dict.fromkeys(str(one.resolve()) for one in given))
    last = next((one for one in reversed(layers) if "plugins" in one.tree), None)
    named = last.tree["plugins"] if last else None
    if last is None or not named:
        return files
    place = _line(last.where, last.tree, "plugins")
    listed = named if isinstance(named, list) else [named]
    if not all(isinstance(one, str) for one in listed):
        raise UsageError(f"{place}: plugins is {named!r}. It must be a list of files.")
    folder = last.file.parent if last.file else Path()
    own = [str((folder / one).resolve()) for one in listed]
    odd = next((one for one in own if one not in files), None)
    # what the command line sets is the user's own act, as --plugin is
    if odd and last.file and not trust and not _packaged(last.file.resolve()):
        raise UsageError(
            f"{place}: this names the plugin file {odd}, which is code that would run. "
            f"Read it; then allow it with --trust, or name it yourself: --plugin {shlex.quote(odd)}"
        )
    return list(dict.fromkeys([*own, *files]))


def _packaged(path: Path) -> bool:
    """Whether a file is a recipe or a system that comes with sertk; what a run left in a recipe's folder is not."""
    recipe = path.name == "recipe.yaml" and path.parent.parent == egs().resolve()
    return recipe or path.parent == (CONF / "systems").resolve()


def _resolved(tree: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """The tree with HyperPyYAML's references and arithmetic made values.

    Raises:
        UsageError: Where a reference leads nowhere or its arithmetic fails.
    """
    with suppress(KeyError):  # most have no reference, and HyperPyYAML writes and parses the text twice
        return {word: _value(value) for word, value in tree.items()}
    text = dumped(tree)
    try:
        # HyperPyYAML only resolves `TAGS`: its loader could make objects, but no other tag reaches it
        found: dict[str, Any] = YAML(typ="safe", pure=True).load(resolve_references(text))
    except Exception as error:  # a reference in the user's file can fail in any way
        raise UsageError(f"{_blamed(tree, places, str(error))}a !ref cannot be resolved: {error}") from error
    return found


def _value(tree: Any) -> Any:  # noqa: ANN401 - what YAML can say
    """A value of a document, of plain types: 6.5 however it is spelled.

    Raises:
        KeyError: Where it holds a reference, or a value of another type than `_SPELLED`.
    """
    if _tagged(tree):
        raise KeyError(tree)
    if isinstance(tree, Mapping):
        return {_value(word): _value(value) for word, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_value(value) for value in tree]
    return _SPELLED[type(tree)](tree)


_SPELLED: dict[type, Callable[[Any], Any]] = {
    **{kind: kind for kind in (str, int, float, bool)},
    **{ScalarFloat: float, ScalarInt: int, type(None): lambda none: none},
}
"""What makes plain values, of those that may be spelled in several ways; of all others HyperPyYAML does."""


def _blamed(tree: Mapping[str, Any], places: Mapping[str, str], message: str) -> str:
    """FILE:LINE of the reference that an error names; of some reference if it names no reference."""
    said = {name: " ".join(tags_in(_at(tree, name))) for name in places}
    tagged = {name: text for name, text in said.items() if text}
    meant = [name for name, text in tagged.items() if any(f'"{one}"' in message for one in re.findall("<(.*?)>", text))]
    return given_at(max(meant or tagged, key=lambda name: name.count("."), default=""), places)


def _at(tree: Any, dotted: str) -> Any:  # noqa: ANN401
    for word in dotted.split("."):
        tree = tree.get(word) if isinstance(tree, Mapping) else None
    return tree


def tags_in(tree: object) -> list[str]:
    """What the tagged values in a tree say."""
    if _tagged(tree):
        return [str(getattr(tree, "value", ""))]
    parts = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple) else ()
    return [tag for part in parts for tag in tags_in(part)]


def _tagged(value: object) -> bool:
    tag = getattr(value, "tag", None)
    return tag is not None and bool(tag.value)


def dump(settings: Settings, path: Path) -> None:
    """Writes settings as YAML that `load` reads back, whole or not at all."""
    write_text(path, dumped(plain(settings)))


def dumped(document: Mapping[str, Any], *, flow: bool = False) -> str:
    """A document as YAML text; its values in flow style (`{a: 1}`) if `flow` is set."""
    text = io.StringIO()
    writer = YAML()
    writer.width = 1000 if flow else 120
    writer.Representer = _Spelled
    writer.dump(CommentedMap((word, _bare(value, flow=flow)) for word, value in document.items()), text)
    return text.getvalue()


class _Spelled(RoundTripRepresenter):
    """Writes null as such: an empty value looks like one that was forgotten."""


_Spelled.add_representer(type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null"))


def _bare(tree: Any, *, flow: bool = False) -> Any:  # noqa: ANN401
    """A copy without comments."""
    if _tagged(tree):
        return tree
    if isinstance(tree, Mapping):
        made: Any = CommentedMap((word, _bare(value, flow=flow)) for word, value in tree.items())
    elif isinstance(tree, list | tuple):
        made = CommentedSeq(_bare(value, flow=flow) for value in tree)
    else:
        return tree
    if flow:
        made.fa.set_flow_style()
    return made

"""Finds plugins, names what they offer, makes it from settings. Builtins come through the same door as guests."""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pluggy

import sertk
from sertk import core, hookspecs
from sertk.core import SertkError, UsageError, nearest

BUILTINS = (
    "sertk.builtin.corpora",
    "sertk.builtin.features",
    "sertk.builtin.backbones",
    "sertk.builtin.poolings",
    "sertk.builtin.heads",
    "sertk.builtin.losses",
    "sertk.builtin.augmentations",
    "sertk.builtin.samplers",
    "sertk.builtin.decisions",
    "sertk.builtin.metrics",
    "sertk.builtin.launchers",
)

HOOKS = {
    "corpus": "sertk_corpora",
    "feature": "sertk_features",
    "backbone": "sertk_backbones",
    "pooling": "sertk_poolings",
    "head": "sertk_heads",
    "loss": "sertk_losses",
    "augmentation": "sertk_augmentations",
    "sampler": "sertk_samplers",
    "decision": "sertk_decisions",
    "metric": "sertk_metrics",
    "launcher": "sertk_launchers",
}

# how many arguments of a factory come from the run and not from its settings
CONTEXT = {"feature": 1, "backbone": 1, "pooling": 1, "head": 2, "loss": 2, "sampler": 3, "decision": 3, "metric": 1}

_INTERFACES: dict[type, str] = {
    core.Corpus: "corpus",
    core.Feature: "feature",
    core.Backbone: "backbone",
    core.Pooling: "pooling",
    core.Head: "head",
    core.Loss: "loss",
    core.Augmentation: "augmentation",
    core.BatchSampler: "sampler",
    core.Launcher: "launcher",
}


# what a component gives to one of another kind inside it, from what the run gave it
_INSIDE: dict[tuple[str, str], Callable[[Any], object]] = {
    ("feature", "backbone"): lambda rate: {"wave": core.InputSpec(1, 1 / rate)}
}


@dataclass(frozen=True)
class Entry:
    """A registered name: what makes the thing, and the distribution that offers it."""

    factory: Callable[..., Any]
    distribution: str
    version: str


class Setting(NamedTuple):
    """A setting of a plugin, as `sertk plugins KIND NAME` shows it."""

    name: str
    type: str
    default: str
    about: str


def manager() -> pluggy.PluginManager:
    """A new plugin manager with every builtin and every installed guest.

    Raises:
        SertkError: Where a guest cannot be imported: training silently without it would be a wrong result.
    """
    made = pluggy.PluginManager("sertk")
    made.add_hookspecs(hookspecs)
    for name in BUILTINS:
        made.register(importlib.import_module(name), name)
    points = importlib.metadata.entry_points(group="sertk")
    for point in points:
        where = f"plugin {point.name!r} of {point.dist.name if point.dist else 'an unknown distribution'}"
        if made.has_plugin(point.name):
            raise SertkError(
                f"{where} has the name of another plugin. Installed: {_spell_points(points)}. Uninstall one."
            )
        try:
            made.load_setuptools_entrypoints("sertk", point.name)
            made.check_pending()
        except (Exception, SystemExit) as error:  # a guest can fail in any way; each of them ends the run and is named
            raise SertkError(
                f"{where} ({point.value}) does not load: {type(error).__name__}: {error}. Mend or uninstall it."
            ) from error
        if not made.get_hookcallers(made.get_plugin(point.name)):
            raise SertkError(f"{where} ({point.value}) offers nothing. Mark its hooks with @hookimpl, or uninstall it.")
    return made


def _spell_points(points: importlib.metadata.EntryPoints) -> str:
    return ", ".join(f"{point.name} = {point.value}" for point in points)


class Plugins:
    """The registered names by kind, and how to make them.

    Args:
        source: The plugin manager to read; a new one by default.
    """

    def __init__(self, source: pluggy.PluginManager | None = None) -> None:
        made = source or manager()
        owners = {id(plugin): dist for plugin, dist in made.list_plugin_distinfo()}
        self._entries = {kind: self._collect(made, kind, hook, owners) for kind, hook in HOOKS.items()}

    @staticmethod
    def _collect(made: pluggy.PluginManager, kind: str, hook: str, owners: Mapping[int, Any]) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for implementation in getattr(made.hook, hook).get_hookimpls():
            owner = owners.get(id(implementation.plugin))
            name, version = (owner.metadata["Name"], owner.version) if owner else ("sertk", sertk.__version__)
            for word, factory in _offered(implementation, f"{hook} of {name} {version}").items():
                if word in entries:
                    other = entries[word]
                    raise SertkError(
                        f"{kind} {word!r} is offered by both {other.distribution} {other.version} and {name} "
                        f"{version}. Uninstall one of them: pip uninstall {name}"
                    )
                entries[word] = Entry(factory, name, version)
        return entries

    def names(self, kind: str) -> list[str]:
        """The registered names of a kind, sorted."""
        return sorted(self._of(kind))

    def _of(self, kind: str) -> dict[str, Entry]:
        if kind not in self._entries:
            raise UsageError(f"no kind of plugin is named {kind!r}{nearest(kind, self._entries)}")
        return self._entries[kind]

    def entry(self, kind: str, name: str) -> Entry:
        """What stands behind a name.

        Raises:
            UsageError: Where nothing does; the nearest name is proposed.
        """
        entries = self._of(kind)
        if name not in entries:
            raise UsageError(f"no {kind} named {name!r}{nearest(name, entries)}")
        return entries[name]

    def factory(self, kind: str, name: str) -> Callable[..., Any]:
        """The class or function behind a name."""
        return self.entry(kind, name).factory

    def about(self, kind: str, name: str) -> str:
        """The first line of the docstring of what stands behind a name."""
        return (inspect.getdoc(self.factory(kind, name)) or "").partition("\n")[0]

    def settings(self, kind: str, name: str) -> list[Setting]:
        """The settings of a plugin with types, defaults and, from its docstring, meaning and unit."""
        factory = self.factory(kind, name)
        notes = _argument_notes(factory)
        return [
            Setting(p.name, _spell(p.annotation), _default(p), notes.get(p.name, ""))
            for p in _parameters(factory, CONTEXT.get(kind, 0))
        ]

    def make(self, kind: str, spec: object, *context: object) -> Any:  # noqa: ANN401 - the kind decides what comes back
        """Makes a component from its settings.

        Args:
            kind: The kind of plugin.
            spec: A name, a mapping with `name` and settings, or the ready object (an escape hatch of one's own recipe).
            context: What the run gives every component of the kind, before the settings.

        Raises:
            UsageError: On an unknown name or setting, or a value of the wrong type; with the mend.
        """
        if not isinstance(spec, str | Mapping):
            return spec
        name, _ = split(kind, spec)
        return self.build(kind, self.factory(kind, name), spec, *context)

    def inside(self, kind: str, spec: object) -> list[tuple[str, str]]:
        """(kind, name) of a component and of every component that its settings hold; an unknown one ends its branch."""
        if not isinstance(spec, str | Mapping):
            return []
        name, settings = split(kind, spec)
        found = [(kind, name)]
        factory = self._of(kind)[name].factory if name in self._of(kind) else None
        hints = _hints(factory) if factory else {}
        for word, value in settings.items():
            inner = _interface(hints.get(word))
            if inner:
                listed = isinstance(value, Mapping) and _is_mapping(hints[word])
                parts = list(value.values()) if listed else value if isinstance(value, list) else [value]
                found += [one for part in parts for one in self.inside(inner, part)]
        return found

    def build(self, kind: str, factory: Callable[..., Any], spec: str | Mapping[str, Any], *context: object) -> Any:  # noqa: ANN401
        """Calls a factory with checked settings; `make` without the look-up, for tables that are no plugins."""
        name, settings = split(kind, spec)
        where = f"{kind} {name!r}"
        known = {p.name: p for p in _parameters(factory, len(context))}
        hints = _hints(factory)
        for word, value in settings.items():
            if word not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes no settings"
                close = difflib.get_close_matches(word, known, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise UsageError(f"{where} takes no {word!r}; {hint}{takes}")
            settings[word] = self._argument(f"{where}: {word}", value, hints.get(word, Any), kind, context)
        missing = [p.name for p in known.values() if p.default is p.empty and p.name not in settings]
        if missing:
            raise UsageError(f"{where} needs {', '.join(missing)}: {{name: {name}, {missing[0]}: ...}}")
        try:
            return factory(*context, **settings)
        except ValueError as error:  # what a library thinks of a value is the user's to mend
            raise UsageError(f"{where}: {error}") from error

    def _argument(self, where: str, value: Any, hint: Any, kind: str, context: tuple[object, ...]) -> Any:  # noqa: ANN401
        """An argument as its annotation wants it: components made from their settings, anything else checked."""
        inner = _interface(hint)
        if inner is None:
            if not fits(value, hint):
                raise UsageError(f"{where} must be {_spell(hint)}, got {value!r}")
            return value
        given = context if inner == kind else ()
        if (kind, inner) in _INSIDE:
            given = (_INSIDE[kind, inner](*context),)
        if isinstance(value, Mapping) and _is_mapping(hint):
            return {name: self.make(inner, spec, *given) for name, spec in value.items()}
        if isinstance(value, list):
            return [self.make(inner, spec, *given) for spec in value]
        return self.make(inner, value, *given)


def _offered(implementation: pluggy.HookImpl, where: str) -> Mapping[str, Callable[..., Any]]:
    """What a hook gives: names, and what makes the thing.

    Raises:
        SertkError: Where it fails or gives something else; the guest is named.
    """
    try:
        offered = implementation.function()
    except (Exception, SystemExit) as error:  # a body imports what it needs, so this is where most guests fail
        raise SertkError(f"{where} fails: {type(error).__name__}: {error}. Mend or uninstall it.") from error
    if not isinstance(offered, Mapping):
        raise SertkError(f"{where} gives {offered!r}; it gives names and what makes them, such as {{'poly': Poly}}.")
    return offered


def split(kind: str, spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the settings of a component's specification.

    Raises:
        UsageError: Where a mapping has no name.
    """
    if not isinstance(spec, str | Mapping):
        raise UsageError(f"{kind} is {spec!r}; give a name, or {{name: ..., setting: value}}")
    settings: dict[str, Any] = {}
    settings.update({"name": spec} if isinstance(spec, str) else spec)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise UsageError(f"{kind} {spec!r} has no name; write it as {{name: ..., setting: value}}")
    return name, settings


def fits(value: object, hint: Any) -> bool:  # noqa: ANN401, PLR0911 - a table of cases
    """Whether a value read from YAML or the command line suits an annotation."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:  # a class since Python 3.11, but not one to check against
        return True
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (None, type(None)):
        return value is None
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(v, arguments[1]) for v in value.values())
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(fits(v, arguments[0]) for v in value)
    return not inspect.isclass(hint) or isinstance(value, hint)


def _parameters(factory: Callable[..., Any], context: int) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(factory).parameters.values())[context:]
    return [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)


def _interface(hint: Any) -> str | None:  # noqa: ANN401
    """The kind of plugin that an annotation asks for, inside containers and unions too."""
    if inspect.isclass(hint):
        return _INTERFACES.get(hint)
    return next((kind for kind in map(_interface, typing.get_args(hint)) if kind), None)


def _is_mapping(hint: Any) -> bool:  # noqa: ANN401
    origin = typing.get_origin(hint)
    return inspect.isclass(origin) and issubclass(origin, Mapping)


def _spell(hint: Any) -> str:  # noqa: ANN401
    if isinstance(hint, str):
        return hint
    if typing.get_origin(hint) is Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    return hint.__name__ if inspect.isclass(hint) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _default(parameter: inspect.Parameter) -> str:
    return "required" if parameter.default is parameter.empty else str(parameter.default)


def _argument_notes(factory: Callable[..., Any]) -> dict[str, str]:
    """The sentences of a Google docstring's Args section, by argument; a class has those of its bases too."""
    notes: dict[str, str] = {}
    for one in getattr(factory, "__mro__", (factory,)):
        section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.getdoc(one) or "", re.MULTILINE | re.DOTALL)
        found = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", section[1] if section else "", re.MULTILINE | re.DOTALL)
        notes = {name: " ".join(text.split()) for name, text in found} | notes
    return notes

"""Finds plugins, lists what they offer, and makes parts from settings. Builtins are found in the same way as guests."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, NamedTuple

import pluggy
from packaging.utils import canonicalize_name
from torch import nn

import sertk
from sertk import core, hookspecs
from sertk.console.progress import say
from sertk.core import SertkError, UsageError, nearest
from sertk.core.forms import as_annotated, fits, type_words
from sertk.settings.schema import Component
from sertk.settings.values import component_parts


class Kind(NamedTuple):
    """One kind of plugin: all that the registry, `sertk plugins` and the contracts know about it.

    Attributes:
        plural: The plural of its name: the hook is `sertk_PLURAL`, our parts are in `sertk.builtin.PLURAL`.
        interface: The class that a factory makes; None if a function is registered, which is called as it is.
        given: What the run gives it before its settings, by name.
        about: What it does, for `sertk plugins`.
    """

    plural: str
    interface: type | None
    given: tuple[str, ...]
    about: str

    @property
    def hook(self) -> str:
        """The name of its hook."""
        return f"sertk_{self.plural}"


KINDS: Mapping[str, Kind] = {
    "corpus": Kind("corpora", core.Corpus, (), "an official corpus folder -> utterances and protocols"),
    "feature": Kind("features", core.Feature, ("rate",), "a wave or a text -> frames"),
    "backbone": Kind("backbones", core.Backbone, ("inputs",), "inputs -> frames"),
    "pooling": Kind("poolings", core.Pooling, ("frames",), "frames -> an embedding"),
    "head": Kind("heads", core.Head, ("width", "out"), "an embedding -> the values of a task"),
    "loss": Kind("losses", core.Loss, ("task", "dims"), "views and labels -> a scalar"),
    "augmentation": Kind("augmentations", core.Augmentation, (), "a random change of training rows"),
    "sampler": Kind("samplers", core.BatchSampler, ("labels", "lengths", "batch"), "which rows share a batch"),
    "decision": Kind("decisions", None, ("view", "rows", "rng"), "windows or crops of an utterance -> its posterior"),
    "metric": Kind("metrics", core.Metric, (), "scores of utterances -> a figure"),
    "launcher": Kind("launchers", core.Launcher, ("folder", "jobs"), "where stage commands run"),
}
"""Every kind of plugin, in the order in which they are shown."""

_BY_INTERFACE = {kind.interface: name for name, kind in KINDS.items() if kind.interface}
SWITCH = "SERTK_PLUGINS"
"""The environment variable that switches installed plugins off."""
Spec = str | Mapping[str, object] | Component
"""A component as it may be given: NAME[:SETTING=VALUE,...], {name: ..., setting: value}, or read already."""


@dataclass(frozen=True)
class Entry:
    """A registered name: what makes the part, and who offers it.

    Attributes:
        factory: A class or a function.
        distribution: The distribution that offers it, or the name of a plugin file.
        version: Of the distribution, or "sha256 ..." of the file.
    """

    factory: Callable[..., Any]
    distribution: str
    version: str


class Setting(NamedTuple):
    """A setting of a plugin, as `sertk plugins KIND NAME` shows it."""

    name: str
    type: str
    default: str
    about: str


def manager(files: Sequence[str | Path] = (), faults: list[str] | None = None) -> pluggy.PluginManager:
    """A new plugin manager with every builtin, every installed guest and the plugin files of a run.

    Args:
        files: Python files with hooks; importing them runs them.
        faults: A list that gets a sentence for each guest that cannot be used; the guest is left out.

    Raises:
        SertkError: If a file cannot be used; or a guest, and `faults` is None.
        UsageError: If `SERTK_PLUGINS` cannot be read.
    """
    made = pluggy.PluginManager("sertk")
    made.add_hookspecs(hookspecs)
    for kind in KINDS.values():
        name = f"sertk.builtin.{kind.plural}"
        made.register(importlib.import_module(name), name)
    off, points = _switched_off(), importlib.metadata.entry_points(group="sertk")
    for word in sorted(off - {name for point in points for name in _names(point)}):
        _warn(f"{SWITCH} switches off {word!r}, but no plugin of that name is installed.")
    for point in points:
        if off.isdisjoint(_names(point)):
            try:
                _register_guest(made, point)
            except SertkError as error:
                if faults is None:
                    raise
                faults.append(str(error))
    for file in dict.fromkeys(Path(one).resolve() for one in files):
        _register_file(made, file)
    return made


def _off(name: str) -> str:
    return f"set {SWITCH}=-{name} to switch it off."


def is_off(point: importlib.metadata.EntryPoint) -> bool:
    """Whether SERTK_PLUGINS switches an entry point off, by its name or by the name of its distribution.

    Raises:
        UsageError: If `SERTK_PLUGINS` cannot be read.
    """
    return not _switched_off().isdisjoint(_names(point))


def _names(point: importlib.metadata.EntryPoint) -> set[str]:
    """Its name and the name of its distribution, as pip writes them: with small letters and "-"."""
    return {canonicalize_name(name) for name in (point.name, point.dist.name if point.dist else point.name)}


def switch_note() -> str:
    """A sentence with what SERTK_PLUGINS switches off; empty if nothing."""
    off = sorted(_switched_off())
    return f"{SWITCH} switches off: {', '.join(off)}." if off else ""


def _switched_off() -> set[str]:
    """The distributions and entry points that SERTK_PLUGINS switches off, such as "-sertk-lab,-sertk-poly".

    Raises:
        UsageError: If a word of it does not begin with a minus.
    """
    words = [word.strip() for word in os.environ.get(SWITCH, "").split(",") if word.strip()]
    if wrong := [word for word in words if not word.startswith("-")]:
        raise UsageError(f"{SWITCH} has {wrong[0]!r}. It switches plugins off, as in {SWITCH}=-sertk-lab,-sertk-poly.")
    return {canonicalize_name(word[1:]) for word in words}


def _register_guest(made: pluggy.PluginManager, point: importlib.metadata.EntryPoint) -> None:
    """Imports what an entry point names and registers its hooks.

    Raises:
        SertkError: If it cannot be used. Nothing of it is registered then.
    """
    dist = point.dist.name if point.dist else "an unknown distribution"
    where, way = f"plugin {point.name!r} of {dist}", f"Repair or uninstall it, or {_off(dist)}"
    if made.has_plugin(point.name):
        points = ", ".join(f"{one.name} = {one.value}" for one in importlib.metadata.entry_points(group="sertk"))
        raise SertkError(f"{where} has the name of another plugin. Installed: {points}. Uninstall one.")
    try:
        made.load_setuptools_entrypoints("sertk", point.name)
        _check_hooks(made, made.get_plugin(point.name))
    except (Exception, SystemExit) as error:  # a guest can fail in any way
        if made.has_plugin(point.name):
            made.unregister(name=point.name)
        said = str(error) if isinstance(error, SertkError) else f"does not load: {type(error).__name__}: {error}."
        raise SertkError(f"{where} ({point.value}) {said} {way}") from error


def _check_hooks(made: pluggy.PluginManager, plugin: Any) -> None:  # noqa: ANN401 - a module, or any object
    """Checks what a plugin offers.

    Raises:
        SertkError: If it was written for another interface, offers nothing, or a hook is misspelt or not marked.
    """
    needs = getattr(plugin, "SERTK_API", core.API)
    if needs != core.API:
        raise SertkError(
            f"needs interface {needs!r} of sertk; sertk {sertk.__version__} has {core.API}. "
            "Install a version that fits."
        )
    hooks = [kind.hook for kind in KINDS.values()]
    for name in (one for one in dir(plugin) if one.startswith("sertk_") and inspect.isroutine(getattr(plugin, one))):
        marked = made.parse_hookimpl_opts(plugin, name) is not None
        if name in hooks and not marked:
            raise SertkError(f"has a function {name} without @hookimpl. Mark it.")
        if name not in hooks and (marked or difflib.get_close_matches(name, hooks, n=1)):
            raise SertkError(f"has a hook {name}, which sertk does not know{nearest(name, hooks)}.")
    made.check_pending()
    if not made.get_hookcallers(plugin):
        raise SertkError("offers nothing. Mark its hooks with @hookimpl.")


def _register_file(made: pluggy.PluginManager, path: Path) -> None:
    """Imports a plugin file and registers its hooks.

    Raises:
        UsageError: If there is no such file.
        SertkError: If it does not load or has no hook.
    """
    if not path.is_file():
        raise UsageError(f"there is no plugin file {path}. Give a Python file with hooks marked @hookimpl.")
    spec = importlib.util.spec_from_file_location(f"sertk_file_{path.stem}_{file_hash(path)}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"the plugin file {path} is not a Python file. Its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
        made.register(module, str(path))
        _check_hooks(made, module)
    except (Exception, SystemExit) as error:  # as a guest's, whatever it is
        said = str(error) if isinstance(error, SertkError) else f"does not load: {type(error).__name__}: {error}."
        raise SertkError(f"the plugin file {path} {said}") from error


def file_hash(path: str | Path) -> str:
    """16 hex digits of a plugin file's content, as bundles and runs record it."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


class Plugins:
    """The registered names by kind, and how to make them.

    Args:
        source: The plugin manager to read; a new one by default.
        files: Plugin files of the run, for a new one.

    Attributes:
        faults: A sentence for each installed plugin, or name of one, that cannot be used. It is warned of once.
    """

    def __init__(self, source: pluggy.PluginManager | None = None, files: Sequence[str | Path] = ()) -> None:
        faults: list[str] = []
        made = source or manager(files, faults)
        owners = {id(plugin): dist for plugin, dist in made.list_plugin_distinfo()}
        self._contested: dict[tuple[str, str], str] = {}
        self._entries = {name: self._collect(made, name, owners, faults) for name in KINDS}
        self.faults = tuple(dict.fromkeys(faults))
        for fault in self.faults:
            _warn(fault)

    def _collect(
        self, made: pluggy.PluginManager, kind: str, owners: Mapping[int, Any], faults: list[str]
    ) -> dict[str, Entry]:
        """Who offers which name of a kind. If a guest fails, only its own names are lost."""
        entries: dict[str, Entry] = {}
        hook = KINDS[kind].hook
        for implementation in getattr(made.hook, hook).get_hookimpls():
            dist = owners.get(id(implementation.plugin))
            name, version = _owner(implementation.plugin, dist)
            try:
                offered = _offered(implementation, f"{hook} of {name} {version}")
            except SertkError as error:
                if not dist:
                    raise
                faults.append(f"{error} Or {_off(name)}")
                continue
            for word, factory in offered.items():
                if word not in entries:
                    entries[word] = Entry(factory, name, version)
                    continue
                both = f"{entries[word].distribution} {entries[word].version} and {name} {version}"
                fault = f"{kind} {word!r} is offered by both {both}. Rename or uninstall one of them."
                if not dist:
                    first = entries[word].distribution
                    raise SertkError(fault if first == "sertk" else f"{fault} Or {_off(first)}")
                self._contested[kind, word] = f"{fault} Or {_off(name)}"
                faults.append(self._contested[kind, word])
        return {word: entry for word, entry in entries.items() if (kind, word) not in self._contested}

    def names(self, kind: str) -> list[str]:
        """The registered names of a kind, sorted."""
        return sorted(self._of(kind))

    def _of(self, kind: str) -> dict[str, Entry]:
        if kind not in self._entries:
            raise UsageError(f"no kind of plugin is named {kind!r}{nearest(kind, self._entries)}")
        return self._entries[kind]

    def entry(self, kind: str, name: str) -> Entry:
        """What is registered under a name.

        Raises:
            UsageError: If nothing is; the nearest name is proposed, and plugins that cannot be used are named.
            SertkError: If several distributions offer it.
        """
        entries = self._of(kind)
        if (kind, name) in self._contested:
            raise SertkError(self._contested[kind, name])
        if name not in entries:
            notes = " ".join(filter(None, [switch_note(), *self.faults]))
            raise UsageError(f"no {kind} named {name!r}{nearest(name, entries)}" + f". {notes}" * bool(notes))
        return entries[name]

    def factory(self, kind: str, name: str) -> Callable[..., Any]:
        """The class or function that is registered under a name."""
        return self.entry(kind, name).factory

    def about(self, kind: str, name: str) -> str:
        """The first line of the docstring of what is registered under a name."""
        # not inspect.getdoc: a class without a docstring would show the one of its interface
        return inspect.cleandoc(self.factory(kind, name).__doc__ or "").partition("\n")[0]

    def settings(self, kind: str, name: str) -> list[Setting]:
        """The settings of a plugin with types, defaults and, from its docstring, meaning and unit."""
        factory = self.factory(kind, name)
        notes, hints = _argument_notes(factory), _hints(factory)
        return [
            Setting(p.name, _shown(hints.get(p.name, Any)), _default(p), notes.get(p.name, ""))
            for p in _parameters(factory, len(KINDS[kind].given))
        ]

    def make(self, kind: str, spec: Spec, *context: object) -> Any:  # noqa: ANN401 - the kind decides what comes back
        """Makes a component from its settings; of a function (a decision), the function with its settings.

        Args:
            kind: The kind of plugin.
            spec: A name, a mapping with `name` and settings, or a component.
            context: What the run gives every component of the kind, before the settings; see `KINDS`.

        Raises:
            UsageError: On an unknown name or setting, or a value of the wrong type; the message says what is allowed.
            SertkError: If the component fails when it is made, or is not what its kind asks for; it is named.
        """
        factory, interface = self.factory(kind, split(kind, spec)[0]), KINDS[kind].interface
        if interface is None:
            settings = self.check(kind, spec)
            return functools.partial(factory, **settings) if settings else factory
        who = self.who(kind, split(kind, spec)[0])
        try:
            made = self.build(kind, factory, spec, *context)
        except (SertkError, OSError):
            raise
        except Exception as error:  # a guest can fail in any way
            what = f"{who} cannot be made: {type(error).__name__}: {error}."
            raise SertkError(f"{what} Run again with `sertk --debug ...` to see where.") from error
        base, own = f"sertk.core.{interface.__name__}", type(made).__name__
        if interface not in type(made).__mro__:  # mypy would narrow what isinstance looks at
            raise SertkError(f"{who}: its class {own} does not inherit from {base}. Write `class {own}({base})`.")
        if isinstance(made, nn.Module) and "_modules" not in vars(made):
            raise SertkError(f"{who}: {own}.__init__ does not call super().__init__(). Call it first.")
        made.who = who
        return made

    def who(self, kind: str, name: str) -> str:
        """What errors call a component: "pooling 'gem' of sertk-lab 0.1.0"."""
        entry = self.entry(kind, name)
        return f"{kind} {name!r} of {entry.distribution} {entry.version}"

    def check(self, kind: str, spec: Spec) -> dict[str, object]:
        """The settings of a component, checked by name and type; it is not made, so ranges are not checked.

        Raises:
            UsageError: As `make`.
        """
        given = (None,) * len(KINDS[kind].given)
        return self._checked(kind, self.factory(kind, split(kind, spec)[0]), spec, given)

    def inside(self, kind: str, spec: Spec) -> list[tuple[str, str]]:
        """(kind, name) of a component and of every component that its settings hold; an unknown one ends its branch."""
        return [(kind, name) for kind, name, _ in self._walk(kind, spec)]

    def places(self, kind: str, spec: Spec) -> list[str]:
        """What a component and the components in its settings load from: folders, names on a hub."""
        found = []
        for inner, name, settings in self._walk(kind, spec):
            known = name in self._of(inner)
            words: tuple[str, ...] = getattr(self.factory(inner, name), "places", ()) if known else ()
            found += [str(settings[word]) for word in words if settings.get(word) is not None]
        return found

    def _walk(self, kind: str, spec: Spec) -> Iterator[tuple[str, str, dict[str, object]]]:
        """(kind, name, settings) of a component and of every component that its settings hold."""
        name, settings = split(kind, spec)
        yield kind, name, settings
        factory = self._of(kind)[name].factory if name in self._of(kind) else None
        hints = _hints(factory) if factory else {}
        for word, value in settings.items():
            inner = _interface(hints.get(word))
            if inner:
                several = isinstance(value, Mapping) and _is_mapping(hints[word])
                parts = value.values() if several and isinstance(value, Mapping) else [value]
                parts = value if isinstance(value, list) else parts
                for part in parts:
                    if isinstance(part, str | Mapping):
                        yield from self._walk(inner, part)

    def build(self, kind: str, factory: Callable[..., Any], spec: Spec, *context: object) -> Any:  # noqa: ANN401
        """Calls a factory with checked settings; `make` without the look-up, for tables that are not plugins."""
        settings = self._checked(kind, factory, spec, context)
        try:
            return factory(*context, **settings)
        except ValueError as error:  # a value that a library refuses is the user's to correct
            raise UsageError(f"{kind} {split(kind, spec)[0]!r}: {error}") from error

    def _checked(
        self, kind: str, factory: Callable[..., Any], spec: Spec, context: tuple[object, ...]
    ) -> dict[str, object]:
        """The settings of a component as its factory takes them.

        Raises:
            UsageError: On an unknown setting, a missing one, or a value of the wrong type.
        """
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
            ways = f"{name}:{missing[0]}=VALUE, or {{name: {name}, {missing[0]}: VALUE}} in YAML"
            raise UsageError(f"{where} needs {', '.join(missing)}: {ways}")
        return settings

    def _argument(self, where: str, value: Any, hint: Any, kind: str, context: tuple[object, ...]) -> Any:  # noqa: ANN401
        """An argument as its annotation says: a component is made from its settings, anything else is checked.

        An inner component of the same kind gets the arguments that the outer one got. One of another kind is annotated
        `Callable[[its arguments], Interface]`: the outer one calls it, because only it knows the arguments.
        """
        inner = _interface(hint)
        if inner is None:
            if not fits(value, hint):
                raise UsageError(f"{where} must be {type_words(hint)}, got {value!r}")
            return as_annotated(value, hint)

        def made(spec: Any) -> Any:  # noqa: ANN401
            if not isinstance(spec, str | Mapping | Component):
                raise UsageError(f"{where} must be a {inner}: a name or {{name: ..., setting: value}}, got {spec!r}")
            late = _is_maker(hint)
            return functools.partial(self.make, inner, spec) if late else self.make(inner, spec, *context)

        if isinstance(value, Mapping) and _is_mapping(hint):
            return {str(name): made(spec) for name, spec in value.items()}
        return [made(spec) for spec in value] if isinstance(value, list) else made(value)


@functools.cache  # once a process, however many registries it makes
def _warn(fault: str) -> None:
    say(f"warning: {fault}")


def _owner(plugin: object, distribution: Any) -> tuple[str, str]:  # noqa: ANN401 - pluggy's view of a distribution
    """Who offers a plugin, and which version."""
    if distribution:
        return distribution.metadata["Name"], distribution.version
    file = getattr(plugin, "__file__", None)
    if isinstance(plugin, ModuleType) and plugin.__name__.startswith("sertk_file_") and file:
        return Path(file).name, f"sha256 {file_hash(file)}"
    return "sertk", sertk.__version__


def _offered(implementation: pluggy.HookImpl, where: str) -> Mapping[str, Callable[..., Any]]:
    """What a hook gives: names, and what makes the part.

    Raises:
        SertkError: If it fails or gives something else; the guest is named.
    """
    try:
        offered = implementation.function()
    except (Exception, SystemExit) as error:  # a body imports what it needs, so this is where most guests fail
        raise SertkError(f"{where} fails: {type(error).__name__}: {error}. Repair or uninstall it.") from error
    if not isinstance(offered, Mapping):
        raise SertkError(f"{where} returns {offered!r}. Return names and classes, such as {{'poly': Poly}}.")
    for word, factory in offered.items():
        if not callable(factory):
            raise SertkError(f"{where}: {word!r} is {factory!r}. Give a class or a function, such as {{'poly': Poly}}.")
        if not re.fullmatch(r"\w+", word):
            raise SertkError(f"{where} has the name {word!r}, which users cannot type. Use letters, digits and _.")
    return offered


def split(kind: str, spec: Spec) -> tuple[str, dict[str, object]]:
    """The name and the settings of a component.

    Raises:
        UsageError: If it is not a component.
    """
    if isinstance(spec, Component):
        return spec.name, dict(spec.settings)
    try:
        return component_parts(spec)
    except UsageError as error:
        raise UsageError(f"{kind} {error}") from None


def _parameters(factory: Callable[..., Any], context: int) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(factory).parameters.values())[context:]
    return [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _hints(factory: Callable[..., Any]) -> dict[str, object]:
    return typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)


def _interface(hint: Any) -> str | None:  # noqa: ANN401
    """The kind of plugin that an annotation asks for, inside containers, unions and callables too."""
    if inspect.isclass(hint) and not typing.get_args(hint):
        return _BY_INTERFACE.get(hint)
    return next((kind for kind in map(_interface, typing.get_args(hint)) if kind), None)


def _is_mapping(hint: Any) -> bool:  # noqa: ANN401
    origin = typing.get_origin(hint)
    if origin in (typing.Union, UnionType):
        return any(map(_is_mapping, typing.get_args(hint)))
    return inspect.isclass(origin) and issubclass(origin, Mapping)


def _is_maker(hint: Any) -> bool:  # noqa: ANN401
    return typing.get_origin(hint) is Callable or any(map(_is_maker, typing.get_args(hint)))


def _shown(hint: Any) -> str:  # noqa: ANN401
    """The type of a setting, for `sertk plugins KIND NAME`."""
    inner = _interface(hint)
    if inner is None:
        return type_words(hint)
    several = typing.get_origin(hint) in (list, Sequence) or _is_mapping(hint)
    return f"{KINDS[inner].plural}" if several else f"a {inner}"


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    return "null" if parameter.default is None else str(parameter.default)


def _argument_notes(factory: Callable[..., Any]) -> dict[str, str]:
    """The sentences of a Google docstring's Args section, by argument; a class has its bases' sentences too."""
    notes: dict[str, str] = {}
    for one in getattr(factory, "__mro__", (factory,)):
        section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.getdoc(one) or "", re.MULTILINE | re.DOTALL)
        found = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", section[1] if section else "", re.MULTILINE | re.DOTALL)
        notes = {name: " ".join(text.split()) for name, text in found} | notes
    return notes

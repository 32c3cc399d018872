"""What lies in sertk/builtin is registered, and its settings are described."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import pytest

import sertk.builtin
from sertk.plugins import KINDS, Plugins, manager

SOURCE = manager()
PLUGINS = Plugins(SOURCE)
OURS = [
    (kind, name) for kind in KINDS for name in PLUGINS.names(kind) if PLUGINS.entry(kind, name).distribution == "sertk"
]
FACTORIES = {PLUGINS.factory(*part) for part in OURS}


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(sertk.builtin.__path__, "sertk.builtin."):
        yield import_module(found.name)


def parts(module: ModuleType) -> Iterator[tuple[str, type]]:
    """(kind, class) of the public classes of a module that a hook could offer: parts that are no base of another."""
    for name, found in vars(module).items():
        own = inspect.isclass(found) and found.__module__ == module.__name__ and not name.startswith("_")
        if own and not inspect.isabstract(found) and not found.__subclasses__():
            for kind, one in KINDS.items():
                if one.interface and issubclass(found, one.interface):
                    yield kind, found


def unregistered(module: ModuleType) -> list[str]:
    """A sentence for each part of a module that no hook offers."""
    return [
        f"{part.__name__} of {module.__name__} is not registered: add it to {KINDS[kind].hook}() in "
        f"{import_module(f'sertk.builtin.{KINDS[kind].plural}').__file__}"
        for kind, part in parts(module)
        if part not in FACTORIES
    ]


def test_every_part_is_registered() -> None:
    assert [sentence for module in modules() for sentence in unregistered(module)] == []


def test_a_part_that_is_not_registered_is_found() -> None:
    module = ModuleType("sertk.builtin.poolings")
    pooling = KINDS["pooling"].interface
    assert pooling is not None
    module.GeM = type("GeM", (pooling,), {"forward": None, "__module__": module.__name__})  # type: ignore[attr-defined]
    (sentence,) = unregistered(module)
    assert sentence.startswith("GeM of sertk.builtin.poolings is not registered: add it to sertk_poolings() in ")


@pytest.mark.parametrize(("kind", "name"), OURS, ids=map(" ".join, OURS))
def test_a_part_says_what_it_is_and_what_each_setting_means(kind: str, name: str) -> None:
    where = inspect.getsourcefile(inspect.unwrap(PLUGINS.factory(kind, name)))
    assert PLUGINS.about(kind, name), f"{kind} {name!r} has no docstring: {where}"
    silent = [one.name for one in PLUGINS.settings(kind, name) if not one.about]
    assert not silent, f"{kind} {name!r}: describe {', '.join(silent)} under Args: in its docstring, {where}"

"""Values as YAML and the command line give them: read, spelled, and compared with a type."""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sertk.core import UsageError

PAIR = re.compile(
    r"""(?: (?<==) "(?:\\.|[^"\\])*"
          | (?<==) '(?:[^']|'')*'
          | (?<==) \[ (?: "(?:\\.|[^"\\])*" | [^\]"] )* \]
          | ,(?!\w+=)
          | [^,] )+""",
    re.VERBOSE,
)
"""SETTING=VALUE: up to a comma that begins another one, but none inside quotes or a list."""
WORDS = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "text"),
    type(None): ("null", "null"),
}
"""Types in words, one and several."""


def value_of(text: str) -> Any:  # noqa: ANN401 - whatever the user typed
    """Reads a value of the command line as YAML 1.2 does: 4, 1e-4, true, null, [1, 2], {a: 1} or text.

    Raises:
        UsageError: Where it is none, or has a tag.
    """
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
    for pair in PAIR.findall(rest):
        word, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{text!r} is not NAME or NAME:SETTING=VALUE[,SETTING=VALUE]: {pair!r} has no '='.")
        settings[word] = value_of(value)
    return settings


def component_parts(spec: object) -> tuple[str, dict[str, Any]]:
    """The name and the settings of a component: text as `component_of` reads it, or a mapping with `name`.

    Raises:
        UsageError: Where it is neither.
    """
    if not isinstance(spec, str | Mapping):
        raise UsageError(f"{spec!r} is no component; give a name, or {{name: ..., setting: value}}")
    settings = component_of(spec) if isinstance(spec, str) else {str(word): value for word, value in spec.items()}
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise UsageError(f"{spec!r} has no name; write it as {{name: ..., setting: value}}")
    return name, settings


def component_text(name: str, settings: Mapping[str, object]) -> str:
    """A component as it is typed: what `component_of` reads."""
    pairs = [f"{word}={value_text(value)}" for word, value in settings.items()]
    return f"{name}:{','.join(pairs)}" if pairs else name


def value_text(value: object) -> str:
    """A value as it is typed: what `value_of` reads."""
    return value if isinstance(value, str) and _is_plain(value) else json.dumps(value, ensure_ascii=False)


def _is_plain(text: str) -> bool:
    """Whether a text is read back as itself without quotes."""
    try:
        return value_of(text) == text and PAIR.findall(f"x={text}") == [f"x={text}"]
    except UsageError:
        return False


def fits(value: object, hint: Any) -> bool:  # noqa: ANN401, PLR0911 - a table of cases
    """Whether a value read from YAML or the command line suits an annotation; a number is finite."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:  # a class since Python 3.11, but not one to check against
        return True
    if origin is Literal:
        return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in arguments)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (None, type(None)):
        return value is None
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(v, arguments[1]) for v in value.values())
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(fits(v, arguments[0]) for v in value)
    return not inspect.isclass(hint) or isinstance(value, hint)


def type_words(hint: Any, *, several: bool = False) -> str:  # noqa: ANN401, PLR0911 - a table of cases
    """An annotation in words: "a whole number", "last | all | weighted", "a number or null", "a list of components"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_words(one, several=several) for one in arguments)
    if origin is tuple or (inspect.isclass(origin) and issubclass(origin, Sequence)):
        return f"{'lists' if several else 'a list'} of {type_words(arguments[0], several=True)}"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"{'mappings' if several else 'a mapping'} of names to {type_words(arguments[1], several=True)}"
    if inspect.isclass(origin):  # what makes a component: the component
        return type_words(arguments[-1], several=several)
    if hint is Any or hint is object:
        return "anything"
    if hint in WORDS:
        return WORDS[hint][several]
    name = hint.__name__.lower() if inspect.isclass(hint) else str(hint)
    words: tuple[str, str] = getattr(hint, "words", (f"a {name}", f"{name}s"))
    return words[several]

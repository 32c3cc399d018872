"""Values of documents and settings, compared with types: everything that was read from a file goes through here."""

from __future__ import annotations

import functools
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

WORDS = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "text"),
    dict: ("an object", "objects"),
    list: ("a list", "lists"),
    type(None): ("null", "null"),
}
"""Types in words, one and several."""
PLAIN = {str, bool, dict, list, type(None)}
"""Types for which `isinstance` agrees with YAML and JSON; true is not a number."""
SHOWN = 80
"""Characters of a value that an error shows."""


def fits(value: object, hint: Any) -> bool:  # noqa: ANN401
    """Whether a value read from JSON, YAML or the command line suits an annotation; a number is finite."""
    return _check_of(hint)(value)


@functools.cache
def _check_of(hint: Any) -> Callable[[object], bool]:  # noqa: ANN401, PLR0911 - a table of cases
    """The check of an annotation, made once: a file may have a million lines."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, Form):
        return lambda value: not hint.fault(value)
    if hint is Any:  # a class since Python 3.11, but not one to check against
        return lambda value: True
    if origin is Literal:
        return lambda value: any(value == x and isinstance(value, bool) == isinstance(x, bool) for x in arguments)
    if origin in (typing.Union, types.UnionType):
        if PLAIN.issuperset(arguments):
            return lambda value: isinstance(value, arguments)
        either = [_check_of(one) for one in arguments]
        return lambda value: any(check(value) for check in either)
    if hint is float:
        return _is_number
    if hint is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    if hint in (None, type(None)):
        return lambda value: value is None
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        inner = _check_of(arguments[1])
        return lambda value: isinstance(value, Mapping) and all(map(inner, value.values()))
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        if arguments[0] is float:
            return _are_numbers
        item = _check_of(arguments[0])
        return lambda value: isinstance(value, list | tuple) and all(map(item, value))
    return lambda value: not inspect.isclass(hint) or isinstance(value, hint)


def as_annotated(value: Any, hint: Any) -> Any:  # noqa: ANN401
    """A value that fits an annotation, in its types: 2 was written and 2.0 is meant, or the name "2"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is float:
        return float(value)
    if origin in (typing.Union, types.UnionType):
        inner = next(one for one in sorted(arguments, key=lambda one: one is not int) if fits(value, one))
        return as_annotated(value, inner)
    if isinstance(value, list | tuple) and inspect.isclass(origin) and issubclass(origin, Sequence):
        return type(value)(as_annotated(one, arguments[0]) for one in value)
    if isinstance(value, Mapping) and inspect.isclass(origin) and issubclass(origin, Mapping):
        return {str(word): as_annotated(one, arguments[1]) for word, one in value.items()}
    return value


def _are_numbers(value: object) -> bool:
    if not isinstance(value, list | tuple):
        return False
    return ({*map(type, value)} == {float} and math.isfinite(sum(value))) or all(map(_is_number, value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


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


class Form:
    """What the keys of a document must be; keys that it does not name are let through.

    Args:
        needed: Types by key; a form is one too.
        optional: Types of keys that may be lacking.
    """

    def __init__(self, needed: Mapping[str, object], optional: Mapping[str, object] | None = None) -> None:
        self._hints = {**needed, **(optional or {})}
        self._needed = needed.keys()
        self._checks = {word: _check_of(hint) for word, hint in self._hints.items()}

    def fault(self, content: object) -> str:
        """What is wrong with a document, in words; empty where nothing is."""
        if not isinstance(content, Mapping):
            return f"it is {shown(content)}, and not an object"
        if not self._needed <= content.keys():
            return f"it lacks {', '.join(word for word in self._needed if word not in content)}"
        for word, check in self._checks.items():
            if word in content and not check(content[word]):
                hint = self._hints[word]
                if isinstance(hint, Form):
                    return f"{word}: {hint.fault(content[word])}"
                return f"{word} is {shown(content[word])}; it must be {type_words(hint)}"
        return ""


def shown(value: object) -> str:
    """A value as an error shows it: its beginning."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or deep nesting
        return "a value that is too large to show"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."

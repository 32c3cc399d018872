"""Values as YAML and the command line give them: read and spelled."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

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


def value_of(text: str) -> Any:  # noqa: ANN401 - any value that a user can type
    """Reads a value of the command line as YAML 1.2 does: 4, 1e-4, true, null, [1, 2], {a: 1} or text.

    Raises:
        UsageError: If it is not YAML, or has a tag.
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


def setting_text(value: object) -> str:
    """A value of a saved config.yaml as it is typed, lists and components too."""
    if isinstance(value, Mapping) and "name" in value:
        return component_text(str(value["name"]), {word: one for word, one in value.items() if word != "name"})
    if isinstance(value, list | tuple):
        return ", ".join(map(setting_text, value)) or "none"
    return value_text(value)


def _is_plain(text: str) -> bool:
    """Whether a text is read back as itself without quotes."""
    try:
        return value_of(text) == text and PAIR.findall(f"x={text}") == [f"x={text}"]
    except UsageError:
        return False

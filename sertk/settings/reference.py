"""The reference of all settings, generated from the schema: `conf/base.yaml` and a page of the docs."""

from __future__ import annotations

import textwrap
import typing
from collections.abc import Iterator
from dataclasses import Field, is_dataclass
from itertools import pairwise
from typing import Any

from sertk.core.forms import type_words
from sertk.settings.merge import dumped
from sertk.settings.plain import plain
from sertk.settings.schema import SECTIONS, Component, Segments, Settings, fields_of, note
from sertk.settings.values import component_text

HEAD = """\
# Every setting of sertk with its default: generated from sertk/settings/schema.py by `python tools/docs.py`.
# A system (systems/), a recipe (egs/*/recipe.yaml, --config) and the command line are merged over these, in that order;
# an unknown key is an error. A component is a name, NAME:SETTING=VALUE, or a mapping with `name` and its settings
# (`sertk plugins KIND NAME` lists them).
"""
WIDTH = 120


def base_yaml() -> str:
    """The defaults as YAML, each with its meaning."""
    lines = [HEAD.rstrip()]
    for name, one in fields_of(Settings).items():
        if name in SECTIONS:
            lines += ["", f"# --- {SECTIONS[name]} ".ljust(WIDTH - 1, "-"), ""]
        lines += _entry(name, one, getattr(Settings(), name), "")
    return "\n".join([*lines, ""])


def _entry(name: str, one: Field[Any], default: object, indent: str) -> Iterator[str]:
    """The lines of a setting: its meaning, then its default; for a group, the lines of its settings."""
    if is_dataclass(default) and not isinstance(default, type | Component | Segments):
        yield f"{indent}{name}:"
        for inner, field in fields_of(type(default)).items():
            yield from _entry(inner, field, getattr(default, inner), f"{indent}  ")
        return
    yield from textwrap.wrap(_meaning(one), WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    yield f"{indent}{dumped({name: _typed(default)}, flow=True).rstrip()}"


def _typed(default: object) -> object:
    """A default as a user would type it: a component as NAME:SETTING=VALUE."""
    if isinstance(default, Component):
        own = plain(default)
        return component_text(own.pop("name"), own)
    return [_typed(one) for one in default] if isinstance(default, tuple) else plain(default)


def _meaning(one: Field[Any]) -> str:
    about = note(one)
    parts = [about.about, *([f"({_range(one)})"] if _range(one) else [])]
    return " ".join(parts)


def _range(one: Field[Any]) -> str:
    about = note(one)
    bounds = (("at least", about.low), ("above", about.above), ("at most", about.high))
    words = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
    return f"{words} {about.unit}".strip() if words else about.unit


def settings_page() -> str:
    """The reference as Markdown: a table a section."""
    lines = [
        "# Settings",
        "",
        "Generated from `sertk/settings/schema.py` by `python tools/docs.py`. A system, a recipe and the command line",
        "are merged over the defaults, in that order. *Run*: whether the setting is part of what a run is. A setting",
        "that is not says where and how fast a run is made. It opens no new system and trains nothing again.",
        "",
    ]
    for name, one in fields_of(Settings).items():
        if name in SECTIONS:
            lines += [
                f"## {SECTIONS[name].capitalize()}",
                "",
                "| setting | type | default | range, unit | run | meaning |",
            ]
            lines += ["|---|---|---|---|---|---|"]
        lines += _rows(name, one, Settings, getattr(Settings(), name), "")
        if name in _LAST:
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


_NAMES = list(fields_of(Settings))
_LAST = {before for before, name in pairwise(_NAMES) if name in SECTIONS}


def _rows(name: str, one: Field[Any], group: type, default: object, prefix: str) -> Iterator[str]:
    if is_dataclass(default) and not isinstance(default, type | Component | Segments):
        for inner, field in fields_of(type(default)).items():
            yield from _rows(inner, field, type(default), getattr(default, inner), f"{prefix}{name}.")
        return
    hint = type_words(typing.get_type_hints(group)[name])
    shown = dumped({"x": _typed(default)}, flow=True).partition(": ")[2].strip()
    cells = [f"`{prefix}{name}`", hint, f"`{shown}`", _range(one)]
    cells += ["no" if note(one).role == "how" else "yes", note(one).about]
    yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

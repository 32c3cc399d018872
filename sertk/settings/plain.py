"""Settings as plain data: to be saved, hashed, compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from sertk.settings.schema import Component, Segments, Settings, fields_of, note


def plain(value: object) -> Any:  # noqa: ANN401 - what YAML and JSON can say
    """A group of settings, or a value in one, as YAML and JSON can say it; `settings_of` reads it back."""
    if isinstance(value, Component):
        own = {word: getattr(value, word) for word in fields_of(type(value)) if word not in ("name", "settings")}
        typed = {one.name: own[one.name] for one in fields(value) if one.name in own and own[one.name] != one.default}
        return {"name": value.name, **plain(value.settings), **typed}
    if isinstance(value, Segments):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {word: plain(getattr(value, word)) for word in fields_of(type(value))}
    if isinstance(value, Mapping):
        return {word: plain(one) for word, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree by dotted name."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return found


def run_part(group: object) -> dict[str, Any]:
    """The settings of a group that are part of what a run is, as plain data."""
    return _of(group, ("run",))


def identity(settings: Settings, *roles: str) -> dict[str, Any]:
    """What a run is, by dotted name: its settings of some roles, `run` where none is named; see `schema.Role`.

    Of the file of a system or of a protocol it has the name: the path depends on where one stands.
    """
    found = flat(_of(settings, roles or ("run",)))
    files = {word: Path(str(found[word])) for word in ("system", "protocol") if word in found}
    return {**found, **{word: file.stem for word, file in files.items() if file.suffix in (".yaml", ".yml")}}


def _of(group: object, roles: tuple[str, ...]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for word, one in fields_of(type(group)).items():
        value = getattr(group, word)
        if is_dataclass(value) and not isinstance(value, type | Component | Segments) and fields_of(type(value)).keys():
            inner = _of(value, roles)
            kept |= {word: inner} if inner else {}
        elif note(one).role in roles:
            kept[word] = plain(value)
    return kept


def changed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """What a saved config.yaml has that is not a default, of the settings that are part of a run, by dotted name."""
    other = {word for word, one in fields_of(Settings).items() if note(one).role != "run"}
    other |= identity(Settings(), "which", "how").keys()
    defaults = flat(plain(Settings()))
    kept = {name: value for name, value in flat(saved).items() if not {name, name.partition(".")[0]} & other}
    return {name: value for name, value in kept.items() if name not in defaults or defaults[name] != value}


def dev_metric(saved: Mapping[str, Any]) -> str:
    """The name of the metric of a saved config.yaml that selects on dev; "" where it says none."""
    return str(flat(saved).get("train.metric.name", ""))


def difference(ours: Settings, other: Settings) -> dict[str, Any]:
    """The settings that are part of what a run is and differ, by dotted name, with our values."""
    here, there = identity(ours), identity(other)
    return {name: here.get(name) for name in {**there, **here} if here.get(name) != there.get(name)}


BUNDLED = frozenset(name for name, one in fields_of(Settings).items() if note(one).bundled)
"""The settings that a model is scored with."""


def bundled(settings: Settings) -> dict[str, Any]:
    """The settings that a bundle holds, as plain data."""
    return {name: plain(getattr(settings, name)) for name in fields_of(Settings) if name in BUNDLED}

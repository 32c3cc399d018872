"""Trees of plain data into checked settings: every value of the right type and range, every key a known one."""

from __future__ import annotations

import functools
import operator
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, TypeVar

from sertk.core import SertkError, UsageError, nearest, out_of_range
from sertk.core.forms import fits, type_words
from sertk.settings.schema import Component, Note, Segments, Settings, fields_of, given_at, note
from sertk.settings.values import component_of

T = TypeVar("T")
HOUR = 3600.0  # the longest crop, s: it is padded to its length
NAME = re.compile(r"\w[\w-]*")  # of an input: it is a part of paths, and of dotted names
MOST = 2**63 - 1  # the largest whole number that torch can hold


class Place(NamedTuple):
    """The place of a value.

    Attributes:
        name: Its dotted name.
        places: FILE:LINE of the settings that were given, by dotted name.
        partial: Whether these are only some of the settings, and another layer has the others; then nothing is made.
    """

    name: str
    places: Mapping[str, str]
    partial: bool = False

    def below(self, word: object) -> Place:
        """The place of a part of it."""
        return self._replace(name=f"{self.name}.{word}".lstrip("."))

    def refuse(self, what: str) -> UsageError:
        """The error of this value, with the file and line of it, or of the group that holds it."""
        return UsageError(f"{given_at(self.name, self.places)}{what}")


def settings_of(tree: Mapping[str, Any], places: Mapping[str, str] | None = None) -> Settings:
    """Checks a whole tree of settings; what it lacks has its default.

    Args:
        tree: By name, as YAML gives it.
        places: FILE:LINE by dotted name.

    Raises:
        UsageError: On an unknown key at any depth (the nearest known one is proposed), or a value of the wrong type or
            out of its range; with file and line.
    """
    known = places or {}
    found = _group(Settings, tree, Place("", known), {"places": known})
    _refuse_contradictions(found)
    return found


def group_of(kind: type[T], tree: Mapping[str, Any], places: Mapping[str, str]) -> T:
    """Checks a tree of another group than settings, such as a sweep, whose fields have notes too; see `settings_of`."""
    return _group(kind, tree, Place("", places), {})


def check_part(tree: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Checks some settings alone, such as the settings of a recipe for one system, each value by itself.

    Raises:
        UsageError: See `settings_of`.
    """
    _group(Settings, tree, Place("", places, partial=True), {})


def _refuse_contradictions(s: Settings) -> None:
    """Refuses settings that do not go together.

    Raises:
        UsageError: There.
    """
    t, crop = s.train, s.crop
    odd = next((name for name in s.inputs if not NAME.fullmatch(name)), None)
    wrong = {
        "inputs": odd is not None and f"{odd!r} cannot name an input. Use letters, digits, '_' and '-'.",
        "folds": not s.folds and "folds is empty, so nothing would be run. Name folds, or write all.",
        "seeds": not s.seeds and "seeds is empty, so nothing would be run. Give at least one.",
        "speakers.draws": not s.speakers.draws
        and "speakers.draws is empty, so there is no number to draw. Give at least one, for example all.",
        "losses": not s.losses and "losses is empty, so nothing would be trained. Name one, for example ce.",
        "crop": crop is not None
        and not (0 < crop.length <= HOUR and (crop.hop is None or 0 < crop.hop <= HOUR))
        and f"crop has length {crop.length} s and hop {crop.hop} s. Both must be above 0, and {HOUR} s at most.",
        "train.select": t.select == "last"
        and t.patience > 0
        and "train.select last takes the last epoch, so there is nothing to wait for. Set train.patience: 0.",
        "train.refit": t.refit
        and t.schedule.name == "plateau"
        and "train.refit has no dev loss for schedule plateau. Take constant, exponential, linear or cosine.",
        "train.unfreeze": t.unfreeze >= t.epochs > 0
        and f"train.unfreeze {t.unfreeze} of {t.epochs} epochs: no layer of the backbone would ever be trained. Lower "
        "it, or freeze the backbone.",
    }
    for name, what in wrong.items():
        if what:
            raise UsageError(f"{s.at(name)}{what}")


def _group(kind: type[T], tree: object, at: Place, more: Mapping[str, Any]) -> T:
    """A group of settings, from a mapping."""
    if not isinstance(tree, Mapping):
        what = "null" if tree is None else repr(tree)
        raise at.refuse(f"{at.name} is {what}. It must be settings, as KEY: VALUE.")
    known, hints = fields_of(kind), typing.get_type_hints(kind)
    made: dict[str, Any] = dict(more)
    for word, value in tree.items():
        here = at.below(word)
        if word not in known:
            raise here.refuse(f"unknown setting {here.name!r}{nearest(str(word), known)}")
        made[word] = _value(hints[word], value, here, note(known[word]))
    lacking = [one.name for one in fields(kind) if one.init and one.name not in made and _needed(one)]  # type: ignore[arg-type]
    if lacking and not at.partial:
        raise at.refuse(f"{at.name} needs {lacking[0]}: {{{lacking[0]}: ...}}")
    return _made(kind, made, at)


def _needed(one: Any) -> bool:  # noqa: ANN401 - a dataclass field
    return one.default is one.default_factory  # without a default, both are the same marker


def _made(kind: type[T], values: Mapping[str, Any], at: Place) -> T:
    if at.partial:
        return typing.cast("T", None)
    try:
        return kind(**values)
    except SertkError as error:
        raise at.refuse(str(error)) from None


def _value(hint: Any, value: object, at: Place, about: Note, *, null: bool = False) -> Any:  # noqa: ANN401, PLR0911
    """A value as its annotation wants it, case by case; `null` says that null was allowed too."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType) and type(None) in arguments:
        inner = functools.reduce(operator.or_, [one for one in arguments if one is not type(None)])
        return None if value is None else _value(inner, value, at, about, null=True)
    if isinstance(hint, type) and issubclass(hint, Component):
        return _component(hint, value, at)
    if hint is Segments and isinstance(value, str):
        return _parsed(value, at)
    if is_dataclass(hint) and isinstance(hint, type):
        return _group(hint, value, at, {})
    if origin is tuple:
        if value is None:
            raise at.refuse(f"{at.name} is null. It must be {type_words(hint)}.")
        at = at._replace(partial=False)  # lists do not merge: each item is whole
        if not isinstance(value, list | tuple):  # one item stands for a list of one item
            return (_value(arguments[0], value, at, about),)
        items = [(at._replace(name=f"{at.name}[{i}]") if len(value) > 1 else at, one) for i, one in enumerate(value)]
        return tuple(_value(arguments[0], one, place, about) for place, one in items)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {str(word): _value(arguments[1], one, at.below(word), about) for word, one in value.items()}
    return _plain(hint, value, at, about, null=null)


def _plain(hint: Any, value: object, at: Place, about: Note, *, null: bool) -> Any:  # noqa: ANN401
    """A text, a number, a choice."""
    if hint is str and about.role != "run" and fits(value, int):  # a fold may be called 1
        return str(value)
    if not fits(value, hint):
        raise at.refuse(f"{at.name} is {value!r}. It must be {type_words(hint)}{' or null' * null}.")
    if isinstance(value, int | float):
        high = MOST if about.high is None and hint is int and value > MOST else about.high
        wrong = out_of_range(
            at.name, value, at_least=about.low, above=about.above, at_most=high, unit=about.unit, null=null
        )
        if wrong:
            raise at.refuse(f"{wrong}.")
    return float(value) if fits(value, float) and float in (hint, *typing.get_args(hint)) else value  # type: ignore[arg-type]


def _parsed(text: str, at: Place) -> Segments:
    try:
        return Segments.parse(text)
    except UsageError as error:
        raise at.refuse(str(error)) from None


def _component(kind: type[Component], value: object, at: Place) -> Component:
    """A plugin by name: text as on the command line, or a mapping with `name`; what the schema knows of it is typed."""
    if isinstance(value, str):
        value = component_of(value)
    if not isinstance(value, Mapping) or not (at.partial or isinstance(value.get("name"), str)):
        raise at.refuse(
            f"{at.name} is {value!r}. It must be a name, NAME:SETTING=VALUE, or {{name: NAME, SETTING: VALUE}}."
        )
    own = {word: one for word, one in fields_of(kind).items() if word not in ("name", "settings")}
    hints = typing.get_type_hints(kind)
    typed = {w: _value(hints[w], value[w], at.below(w), note(one)) for w, one in own.items() if w in value}
    rest = {str(word): one for word, one in value.items() if word != "name" and word not in own}
    return _made(kind, {"name": value.get("name"), "settings": rest, **typed}, at)

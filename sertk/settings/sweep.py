"""A sweep: named rows of settings over a recipe, grids of them, and the table that they end in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sertk.core import UsageError, nearest
from sertk.core.files import part_of
from sertk.core.task import AUX
from sertk.settings.check import check_part, group_of
from sertk.settings.merge import read, tags_in, where_given
from sertk.settings.plain import identity
from sertk.settings.schema import Component, Settings, given_at, setting
from sertk.settings.values import component_of, value_text

NOT_SETTINGS = {
    "system": "A row has it: rows: {NAME: {system: SYSTEM}}.",
    "plugins": "Name the file in the recipe, or give it with --plugin.",
}
"""What a recipe has among its settings, and a sweep has not."""
FIELDS = ("speaker", "gender", "session")
"""What scores say of an utterance, by which a cell may choose."""
Values = Mapping[str, float | Mapping[str, float]]
"""What was printed, by cell: a figure, or figures by name for a cell by fold or by speaker. Shares are in percent."""


@dataclass(frozen=True)
class Cell:
    """A column of the table: a metric of a part of the folds, or what a run costs."""

    metric: Component = setting(Component("ua"), "a registered metric")
    part: Literal["train", "dev", "test"] = setting("test", "the part of the fold that is scored")
    how: Literal["folds", "pooled", "fold", "speaker"] = setting(
        "folds",
        "folds: mean of the folds; pooled: the utterances of all folds together; fold, speaker: a column each, pooled",
    )
    agreement: str | None = setting(None, "a row whose decisions are the labels; the folds are pooled")
    curve: str | None = setting(None, "a swept setting: the figures of a row over it are a line of a plot")
    epochs: Literal["loss", "wa"] | None = setting(
        None,
        "instead of a metric: a plot over the epochs of training, of the objective or the accuracy of train or "
        "dev; every row needs train.curves",
    )
    only: Mapping[str, tuple[str, ...]] = setting(
        {}, "only utterances of these values of speaker, gender or session, e.g. {speaker: [OAF, YAF]}"
    )
    upto: float | None = setting(None, "only utterances up to this long", "s", above=0)
    beyond: float | None = setting(None, "only utterances longer than this", "s", above=0)
    cost: Literal["parameters", "trained", "training", "memory", "scoring"] | None = setting(
        None,
        "instead of a metric: parameters of the model, those that are trained, seconds of training a run, the most "
        "memory that its process held, seconds of scoring a run",
    )


@dataclass(frozen=True)
class Range:
    """Where a setting is searched: from one number to another, or among some values."""

    low: float | None = setting(None, "the least number")
    high: float | None = setting(None, "the greatest number")
    log: bool = setting(False, "drawn evenly in the logarithm")
    step: float | None = setting(None, "between two numbers; without it any real number is drawn", above=0)
    choices: tuple[object, ...] = setting((), "some values, instead of numbers")

    @property
    def whole(self) -> bool:
        """Whether whole numbers are drawn."""
        return self.step is not None and all(one is None or one == int(one) for one in (self.low, self.high, self.step))

    @property
    def ends(self) -> tuple[object, ...]:
        """Values that are looked at before the search: both ends, or every choice."""
        numbers = [one for one in (self.low, self.high) if one is not None]
        return self.choices or tuple(int(one) if self.whole else one for one in numbers)

    def holds(self, value: object) -> bool:
        """Whether the search could draw a value."""
        if self.choices:
            return value in self.choices
        low, high = self.low or 0, self.high or 0
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            return False
        return self.step is None or math.isclose(low + round((value - low) / self.step) * self.step, value)

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(map(value_text, self.choices))}"
        first, last = (f"{one:g}" for one in (self.low, self.high) if one is not None)
        step = f", step {self.step:g}" if self.step is not None else ""
        return f"{first} to {last}{step}{', log' * self.log}"


@dataclass(frozen=True)
class Search:
    """How the settings of a row are searched, on dev."""

    ranges: Mapping[str, Range] = setting({}, "where each setting is searched, by dotted name")
    trials: int = setting(30, "settings that are tried in a search", low=1)
    sampler: Component = setting(Component("tpe"), "tpe, random or gp, with Optuna's settings")
    pruner: Component = setting(
        Component("median"), "median, percentile, halving, hyperband or none, with Optuna's settings"
    )
    folds: tuple[str, ...] = setting(
        ("each",),
        "each: a search for every fold, on its own dev; names of folds, or all: one search on the dev of these, and "
        "every fold has what it finds",
    )
    seed: int = setting(0, "what is drawn follows from it", low=0)

    @property
    def nested(self) -> bool:
        """Whether each fold has a search of its own."""
        return self.folds == ("each",)


@dataclass(frozen=True)
class Row:
    """A row of the table: a system with its settings, or figures that others printed."""

    system: str | None = setting(None, "a system by name; the recipe's own by default")
    settings: Mapping[str, object] = setting({}, "written as in a recipe; they replace the settings of the sweep")
    metrics: tuple[Component, ...] = setting((), "settings that metrics of the cells have for this row")
    paper: Values = setting({}, "what the paper printed, by cell")
    quoted: Values = setting({}, "of other work, by cell: nothing is run")
    chance: bool = setting(
        False, "for every utterance the most frequent class of what is scored, instead of a system: nothing is run"
    )
    search: Search | None = setting(None, "settings that are searched on dev before the row is trained with them")
    source: str = setting("", "of what is quoted")
    about: str = setting("", "a note below the table")

    @property
    def trained(self) -> bool:
        """Whether a system is trained for it."""
        return not self.quoted and not self.chance

    def metric(self, cell: Cell) -> Component:
        """The metric of a cell, with the settings that it has for this row."""
        return next((one for one in self.metrics if one.name == cell.metric.name), cell.metric)


@dataclass(frozen=True)
class Paper:
    """Where the values of the paper stand, and what they are of."""

    source: str = setting("", "table or figure")
    corpus: str | None = setting(None, "the paper's corpus")
    protocol: str | None = setting(None, "our name of the paper's protocol")
    backbone: Component | None = setting(None, "the paper's encoder, with its source")


@dataclass(frozen=True)
class Sweep:
    """A table over a recipe.

    Every row that is trained is run at every point of `grid`, and at every step of `zip`.
    """

    title: str = setting("", "heading of the table")
    about: str = setting("", "below the heading")
    recipe: str = setting("../recipe.yaml", "relative to this file")
    settings: Mapping[str, object] = setting({}, "of all rows, written as in a recipe")
    folds: tuple[str, ...] = setting((), "names of folds, or all; the recipe's by default", role="how")
    seeds: tuple[int, ...] = setting((), "the recipe's by default", low=0)
    paper: Paper = setting(Paper(), "what the values of the paper are of")
    baseline: str | None = setting(
        None, "a row: a second table tests every other row against it, in UA of the test part"
    )
    grid: Mapping[str, tuple[object, ...]] = setting({}, "product over settings, by dotted name")
    zip: Mapping[str, tuple[object, ...]] = setting({}, "settings that go together, by dotted name")
    cells: Mapping[str, Cell] = setting({}, "columns by title")
    rows: Mapping[str, Row] = setting({}, "rows by name")

    @property
    def parts(self) -> list[str]:
        """The parts of a fold that are scored for the cells, the test first."""
        parts = {cell.part for cell in self.cells.values() if cell.cost in (None, "scoring") and cell.epochs is None}
        return sorted(parts, key=("test", "dev", "train").index)

    @property
    def swept(self) -> tuple[str, ...]:
        """The settings that have several values."""
        return (*self.grid, *self.zip)

    @property
    def searched(self) -> dict[str, Search]:
        """The searches by row."""
        return {name: row.search for name, row in self.rows.items() if row.search is not None}

    @property
    def points(self) -> list[Point]:
        """Each row that is trained at each point of the grid, in the order of the rows."""
        products = [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        together = [dict(zip(self.zip, values, strict=True)) for values in zip(*self.zip.values(), strict=True)] or [{}]
        swept = [one | two for one in products for two in together]
        return [Point(name, values) for name, row in self.rows.items() if row.trained for values in swept]


class Point(NamedTuple):
    """A row with one value of each swept setting.

    Attributes:
        row: Its name.
        swept: The values by dotted name.
    """

    row: str
    swept: Mapping[str, object]


def load(path: Path) -> Sweep:
    """Reads a sweep.

    Raises:
        UsageError: On what is no sweep, with file and line: an unknown key, a row or a cell that does not exist.
    """
    tree = read(path)
    places = where_given(path, tree)
    tag = next(iter(tags_in(tree)), None)
    if tag is not None:
        raise UsageError(
            f"{path}: the reference {tag} is refused: a sweep's settings are command-line words. Write it out."
        )
    sweep = group_of(Sweep, tree, places)
    _check(sweep, places)
    return sweep


def place_of(path: Path, name: str) -> str:
    """FILE:LINE of what a sweep's file says, by dotted name, and a colon."""
    return given_at(name, where_given(path, read(path)))


def _check(sweep: Sweep, places: Mapping[str, str]) -> None:
    """Refuses what does not go together.

    Raises:
        UsageError: There.
    """
    for word, wrong in {
        "cells": not sweep.cells and "there are no cells. Give columns, by title: {UA: {metric: ua}}.",
        **{
            word: len({*values}) < len(values) and f"{word} is {', '.join(map(str, values))}. Give each once."
            for word, values in {"seeds": sweep.seeds, "folds": sweep.folds}.items()
        },
        "zip": len({len(values) for values in sweep.zip.values()}) > 1
        and f"zip has {', '.join(f'{len(values)} values of {name}' for name, values in sweep.zip.items())}. Give as "
        "many of each.",
        **{
            f"{group}.{name}": (not values and f"{name} has no value, so nothing would be run. Give at least one.")
            or (group == "grid" and any(values.count(one) > 1 for one in values) and f"{name} has a value twice.")
            for group in ("grid", "zip")
            for name, values in getattr(sweep, group).items()
        },
        "grid": any(same(one, other) for one, other in combinations(sweep.swept, 2))
        and f"of {', '.join(sweep.swept)} two are the same, or one holds the other. Give one of them.",
        "baseline": _baseline(sweep),
    }.items():
        if wrong:
            raise UsageError(f"{given_at(word, places)}{wrong}")
    for name, cell in sweep.cells.items():
        _check_cell(sweep, name, cell, given_at(f"cells.{name}", places))
    for name, row in sweep.rows.items():
        _check_row(sweep, name, row, places)
    if not any(row.trained for row in sweep.rows.values()):
        raise UsageError(f"{given_at('rows', places)}no row is trained. Give rows, by name.")
    _check_settings(sweep.settings, "settings", places)
    _check_swept(sweep, sweep.settings, "settings", places)
    for group in ("grid", "zip"):
        for name, values in getattr(sweep, group).items():
            for value in values:
                place = {name: given_at(f"{group}.{name}", places).removesuffix(": ")}
                _check_settings(_nested(name, value), "", place)


def _baseline(sweep: Sweep) -> str:
    """What is wrong with the baseline, "" if nothing is."""
    trained = [name for name, row in sweep.rows.items() if row.trained]
    if sweep.baseline is None:
        return ""
    if sweep.baseline not in trained:
        return f"baseline {sweep.baseline!r} is no row that is trained{nearest(sweep.baseline, trained)}"
    if sweep.swept or "test" not in sweep.parts:
        return "a baseline needs a cell of the test part, and no swept settings. Leave it out, or change them."
    return ""


def _check_cell(sweep: Sweep, name: str, cell: Cell, place: str) -> None:
    trained = [row for row, one in sweep.rows.items() if one.trained]
    if cell.agreement is not None and cell.agreement not in trained:
        raise UsageError(
            f"{place}cell {name!r} agrees with {cell.agreement!r}, no row{nearest(cell.agreement, trained)}"
        )
    if cell.curve is not None and cell.curve not in sweep.swept:
        swept = ", ".join(sweep.swept) or "none"
        raise UsageError(f"{place}cell {name!r} is a curve over {cell.curve!r}; the swept settings are {swept}.")
    if cell.epochs is not None and cell.part == "test":
        raise UsageError(
            f"{place}cell {name!r} is over epochs, after which no test is scored. Give part: train or dev."
        )
    if cell.epochs is not None and replace(cell, epochs=None, part="test") != Cell():
        raise UsageError(f"{place}cell {name!r} is over epochs. Give it `epochs` and `part` alone.")
    odd = next((one for one in cell.only if one not in FIELDS), None)
    if odd is not None:
        raise UsageError(f"{place}cell {name!r}: only of {odd!r}{nearest(odd, FIELDS)}")
    empty = next((one for one, values in cell.only.items() if not values), None)
    if empty is not None:
        raise UsageError(f"{place}cell {name!r}: only of no {empty}, so of no utterance. Give values, or leave it out.")
    genders = AUX["gender"].classes
    odd = next((one for one in cell.only.get("gender", ()) if one not in genders), None)
    if odd is not None:
        raise UsageError(f"{place}cell {name!r}: only of gender {odd!r}{nearest(odd, genders)}")
    if cell.upto is not None and cell.beyond is not None and cell.beyond >= cell.upto:
        raise UsageError(
            f"{place}cell {name!r} is of no utterance: beyond {cell.beyond:g} s and up to {cell.upto:g} s."
        )


def _check_row(sweep: Sweep, name: str, row: Row, places: Mapping[str, str]) -> None:
    place = given_at(f"rows.{name}", places)
    own = row.system or row.settings or row.metrics or row.paper or row.search
    if row.quoted and own:
        raise UsageError(
            f"{place}row {name!r} is quoted, so nothing of it is run. Give it `quoted` and `source` alone."
        )
    if row.chance and (row.quoted or own):
        raise UsageError(f"{place}row {name!r} is chance, so nothing of it is run. Give it `chance` and `about` alone.")
    known, given = {cell.metric.name for cell in sweep.cells.values()}, [one.name for one in row.metrics]
    for one in given:
        if one not in known:
            raise UsageError(f"{place}row {name!r} has settings of {one!r}, the metric of no cell{nearest(one, known)}")
        if given.count(one) > 1:
            raise UsageError(f"{place}row {name!r} has settings of {one!r} twice. Give them once.")
    for cell, value in {**row.paper, **row.quoted}.items():
        if cell not in sweep.cells:
            raise UsageError(f"{place}row {name!r} has a value of {cell!r}, no cell{nearest(cell, sweep.cells)}")
        several = sweep.cells[cell].how in ("fold", "speaker")
        if isinstance(value, Mapping) != several:
            wanted = "{NAME: VALUE, ...}" if several else "a number"
            raise UsageError(f"{place}row {name!r}, cell {cell!r} is {value!r}. Give {wanted}.")
    _check_settings(row.settings, f"rows.{name}.settings", places)
    _check_swept(sweep, row.settings, f"rows.{name}.settings", places)
    if row.search is not None:
        _check_search(sweep, row.search, f"rows.{name}.search", places)


def _check_search(sweep: Sweep, search: Search, group: str, places: Mapping[str, str]) -> None:
    """Refuses a search of what cannot be searched, or not so.

    Raises:
        UsageError: There.
    """
    wrong = {
        "ranges": not search.ranges and "a search needs ranges: {train.optimizer.lr: {low: 1.0e-4, high: 1.0e-2}}.",
        "": sweep.swept and "a row that is searched has no grid and no zip beside it. Make two sweeps.",
        "folds": (not search.folds or ("each" in search.folds and len(search.folds) > 1))
        and f"folds is {', '.join(search.folds) or 'empty'}. Give each alone, or names of folds, or all.",
        **{
            f"ranges.{one}": f"of {one} and {other} one holds the other. Search one of them."
            for one, other in combinations(search.ranges, 2)
            if same(one, other)
        },
    }
    for word, what in wrong.items():
        if what:
            raise UsageError(f"{given_at(f'{group}.{word}'.rstrip('.'), places)}{what}")
    for name, one in search.ranges.items():
        place = given_at(f"{group}.ranges.{name}", places)
        if what := _wrong_range(name, one):
            raise UsageError(f"{place}{name}: {what}")
        if not one.choices and not one.whole and not _takes(name, 1 / 3) and _takes(name, 1):
            raise UsageError(f"{place}{name}: it takes whole numbers. Give step: 1.")
        for value in one.ends:
            _check_settings(_nested(name, value), "", {name: place.removesuffix(": ")})


def _takes(name: str, value: float) -> bool:
    """Whether a setting may have a value."""
    try:
        _check_settings(_nested(name, value), "", {})
    except UsageError:
        return False
    return True


def _wrong_range(name: str, one: Range) -> str:
    """What is wrong with a range, "" if nothing is."""
    if name in identity(Settings(), "which", "how") or name.partition(".")[0] in ("audio", "inputs", *NOT_SETTINGS):
        return "it cannot be searched, for all trials read the same features. Make a row for each value."
    if one.choices:
        return "" if replace(one, choices=()) == Range() else "it has choices. Leave out low, high, log and step."
    if one.low is None or one.high is None or one.low >= one.high:
        return "a range goes from low up to high, or has choices: {low: 0.1, high: 10.0} or {choices: [...]}."
    if one.log and one.low <= 0:
        return f"low is {one.low:g}, which has no logarithm. Give a low above 0, or no log."
    if one.log and one.step is not None and not (one.whole and one.step == 1):
        return "log goes with step 1 and whole numbers alone, as Optuna has it. Leave out step, or log."
    return ""


def _check_settings(settings: Mapping[str, object], name: str, places: Mapping[str, str]) -> None:
    """Checks settings that are written as in a recipe.

    Raises:
        UsageError: Where one is wrong, or has another place: a file must not have code run that nobody trusts.
    """
    own = _below(name, places) if name else places
    check_part(settings, own)
    for word, instead in NOT_SETTINGS.items():
        if word in settings:
            raise UsageError(f"{given_at(word, own)}{word} is no setting of a sweep. {instead}")


def _check_swept(sweep: Sweep, settings: Mapping[str, object], name: str, places: Mapping[str, str]) -> None:
    """Refuses settings that the grid would replace at every point: their row would be another row's runs.

    Raises:
        UsageError: There.
    """
    for swept in sweep.swept:
        if _says(settings, swept):
            place = given_at(f"{name}.{swept}", places)
            raise UsageError(f"{place}{swept} is swept, and {name} sets it. Leave it out, or make two sweeps.")


def _says(settings: Mapping[str, object], dotted: str) -> bool:
    """Whether settings as a recipe writes them have a value of a dotted name, or of what it holds."""
    first, _, rest = dotted.partition(".")
    value = settings.get(first)
    if rest and isinstance(value, str) and "=" in value:  # NAME:SETTING=VALUE
        value = component_of(value)
    return _says(value, rest) if rest and isinstance(value, Mapping) else first in settings and not rest


def _below(name: str, places: Mapping[str, str]) -> dict[str, str]:
    """The places of what lies below a name, by the rest of theirs."""
    return {one.removeprefix(f"{name}."): place for one, place in places.items() if one.startswith(f"{name}.")}


def _nested(dotted: str, value: object) -> dict[str, Any]:
    """A setting by its dotted name -> as a recipe writes it."""
    first, dot, rest = dotted.partition(".")
    return {first: _nested(rest, value) if dot else value}


def system_name(path: Path, row: str) -> str:
    """The name of the system that the search of a row writes: that of the sweep and the row."""
    return f"{path.stem}-{part_of(row)}"


def search_of(path: Path, row: str) -> Search:
    """The search of a row.

    Raises:
        UsageError: Where the file is no sweep, or has no such search.
    """
    known = load(path).searched
    if row not in known:
        raise UsageError(f"{path} has no row {row!r} with a search{nearest(row, known)}")
    return known[row]


def words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a recipe writes them, by dotted name as `--set` takes them; a component is one value."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value and "name" not in value:
            found |= {f"{name}.{inner}": one for inner, one in words(value).items()}
        else:
            found[str(name)] = value
    return found


def same(one: str, other: str) -> bool:
    """Whether two settings by dotted name are one, or one holds the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def swept_text(swept: Mapping[str, object]) -> str:
    """The values of swept settings as they are shown: "alpha 0.1, segments.length 80"."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in swept.items())


def rows_of(sweep: Sweep, chosen: Sequence[str]) -> list[str]:
    """The rows that are trained, or only the chosen ones.

    Raises:
        UsageError: On a name that is no row.
    """
    known = [name for name, row in sweep.rows.items() if row.trained]
    for name in chosen:
        if name not in known:
            raise UsageError(f"no row {name!r} that is trained{nearest(name, known)}")
    return [name for name in known if name in chosen] if chosen else known

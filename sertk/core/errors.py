"""The errors a user can cause: one sentence that says what, what was given, what is allowed and the next step."""

from __future__ import annotations

import difflib
import math
import operator
import traceback
from collections.abc import Iterable
from typing import TypedDict, Unpack


class SertkError(Exception):
    """Something that a user can correct. The command line prints its message alone and exits with `exit_code`."""

    exit_code = 1


class UsageError(SertkError):
    """A wrong name, option or setting: exit code 2."""

    exit_code = 2


class NotHereError(SertkError):
    """What a run needs and will fetch, but is not on this machine yet: a part cannot be looked at beforehand."""


class InputError(SertkError):
    """One input (a file, a line, an utterance) that cannot be used; stages collect these in `failed.jsonl`."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence, with what may be meant: "; did you mean 'triplet'? Known: arcface, ce, triplet"."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Known: {some(names, 50) or 'none'}"


def some(names: Iterable[object], most: int = 10, joint: str = ", ") -> str:
    """Names in one text, the first of them where there are many: "a, b, c and 97 more"."""
    every = list(map(str, names))
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return joint.join(every[:most]) + more


class Bounds(TypedDict, total=False):
    """The range of a setting, and how it is spelled.

    Attributes:
        at_least: The lowest value.
        above: What it must be larger than.
        at_most: The highest value.
        below: What it must be smaller than.
        unit: Unit of the limits.
        null: Whether null is allowed too.
    """

    at_least: float | None
    above: float | None
    at_most: float | None
    below: float | None
    unit: str
    null: bool


def check_range(part: str, setting: str, value: float | None, **bounds: Unpack[Bounds]) -> None:
    """Refuses a setting outside of its range, for example "loss 'ce': smoothing is 2; it is at least 0 and below 1".

    NaN and infinity are outside of every range. None is not checked.

    Args:
        part: Whose setting it is, for example "loss 'ce'".
        setting: Its name.
        value: What was given.
        bounds: See `Bounds`.

    Raises:
        UsageError: Where the value is outside of its range.
    """
    wrong = out_of_range(setting, value, **bounds)
    if wrong:
        raise UsageError(f"{part}: {wrong}")


def out_of_range(setting: str, value: float | None, **bounds: Unpack[Bounds]) -> str:
    """What is wrong with a value, see `check_range`; empty where it is in its range."""
    words = (
        ("at least", bounds.get("at_least"), operator.ge),
        ("above", bounds.get("above"), operator.gt),
        ("at most", bounds.get("at_most"), operator.le),
        ("below", bounds.get("below"), operator.lt),
    )
    limits = [(word, limit, holds) for word, limit, holds in words if limit is not None]
    if value is None or (abs(value) < math.inf and all(holds(value, limit) for _, limit, holds in limits)):
        return ""
    unit = bounds.get("unit", "")
    allowed = " and ".join(f"{word} {limit:g}" for word, limit, _ in limits) + (f" {unit}" if unit else "")
    finite = "" if abs(value) < math.inf else "finite, "
    return f"{setting} is {value}; it is {finite}{allowed}{', or null' if bounds.get('null') else ''}"


def without_frames(error: Exception) -> Exception:
    """An error that no longer holds what was in memory when it, or what caused it, was raised: models, batches."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    return error

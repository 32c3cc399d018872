"""The errors a user can cause: one sentence that says what, what was given, what is allowed and the next step."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable


class SertkError(Exception):
    """Something a user can mend. The command line prints its message alone and exits with `exit_code`."""

    exit_code = 1


class UsageError(SertkError):
    """A wrong name, option or setting: exit code 2."""

    exit_code = 2


class NotHereError(SertkError):
    """What a run needs and will fetch, but is not on this machine yet: a part cannot be looked at beforehand."""


class InputError(SertkError):
    """One input (a file, a line, an utterance) that cannot be used; stages collect these in `failed.jsonl`."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The half sentence that proposes the mend, for example "; did you mean 'triplet'? Known: arcface, ce, triplet"."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Known: {', '.join(names) or 'none'}"


def check_range(
    part: str,
    setting: str,
    value: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    unit: str = "",
    null: bool = False,
) -> None:
    """Refuses a setting outside of its range, for example "loss 'ce': smoothing is 2; it is at least 0 and below 1".

    NaN and infinity are outside of every range. None is not checked.

    Args:
        part: Whose setting it is, for example "loss 'ce'".
        setting: Its name.
        value: What was given.
        at_least: The lowest value.
        above: What it must be larger than.
        at_most: The highest value.
        below: What it must be smaller than.
        unit: Unit of the limits, for the sentence.
        null: Whether the sentence offers null too.

    Raises:
        UsageError: Where the value is outside of its range.
    """
    wrong = out_of_range(
        setting, value, at_least=at_least, above=above, at_most=at_most, below=below, unit=unit, null=null
    )
    if wrong:
        raise UsageError(f"{part}: {wrong}")


def out_of_range(
    setting: str,
    value: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    unit: str = "",
    null: bool = False,
) -> str:
    """What is wrong with a value, see `check_range`; empty where it is in its range."""
    bounds = (
        ("at least", at_least, operator.ge),
        ("above", above, operator.gt),
        ("at most", at_most, operator.le),
        ("below", below, operator.lt),
    )
    limits = [(word, limit, holds) for word, limit, holds in bounds if limit is not None]
    if value is None or (abs(value) < math.inf and all(holds(value, limit) for _, limit, holds in limits)):
        return ""
    allowed = " and ".join(f"{word} {limit:g}" for word, limit, _ in limits) + (f" {unit}" if unit else "")
    finite = "" if abs(value) < math.inf else "finite, "
    return f"{setting} is {value}; it is {finite}{allowed}{', or null' if null else ''}"

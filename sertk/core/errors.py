"""The errors a user can cause: one sentence that says what, what was given, what is allowed and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SertkError(Exception):
    """Something a user can mend. The command line prints its message alone and exits with `exit_code`."""

    exit_code = 1


class UsageError(SertkError):
    """A wrong name, option or setting: exit code 2."""

    exit_code = 2


class InputError(SertkError):
    """One input (a file, a line, an utterance) that cannot be used; stages collect these in `failed.jsonl`."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The half sentence that proposes the mend, for example "; did you mean 'triplet'? Known: arcface, ce, triplet"."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Known: {', '.join(names) or 'none'}"

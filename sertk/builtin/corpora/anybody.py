"""What the readers of anybody's corpus (folder, table, kaldi) share: protocols, genders, names, what nobody lists."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sertk.core import PAIRS, Disjoint, InputError, LeaveOneOut, Next, Protocol, RandomDev, RandomSplit, Stratified

TEXT: Final = {"text": PAIRS}  # nobody knows which sentences are read twice
SESSION: Final = {"session": PAIRS, **TEXT}  # two speakers may talk in one session; the audit names what is shared
ALL: Final = {"speaker": PAIRS, **SESSION}

PROTOCOLS: Final[Mapping[str, Protocol]] = {
    "speakers": Protocol(
        labels=None,
        test=LeaveOneOut(),
        dev=Next(),
        overlaps=SESSION,
        about="labels as they are, one speaker out; a fold is named by the speaker it tests, dev is the next one",
    ),
    "disjoint5": Protocol(
        labels=None,
        test=Disjoint(5),
        dev=Next(),
        overlaps=SESSION,
        about="labels as they are, 5 folds that share no speaker, balanced by class and gender; dev: the next fold",
    ),
    "sessions": Protocol(
        labels=None,
        test=LeaveOneOut(),
        dev=Next(),
        group="session",
        overlaps={"speaker": PAIRS, **TEXT},
        about="labels as they are, one session out, dev the next; speakers may be in several sessions",
    ),
    "random": Protocol(
        labels=None,
        test=RandomSplit(80, 10),
        overlaps=ALL,
        about="labels as they are, 80:10:10 of each class at random: speaker-dependent",
    ),
    "random5": Protocol(
        labels=None,
        test=Stratified(5),
        dev=RandomDev(10),
        overlaps=ALL,
        about="labels as they are, 5 folds of each class at random, dev 10 % of train: speaker-dependent",
    ),
}
# for the corpora that say nothing of sessions
BY_SPEAKER: Final = {name: one for name, one in PROTOCOLS.items() if one.group == "speaker"}

GENDERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("f", "female", "w", "woman"), "female"),
    **dict.fromkeys(("m", "male", "man"), "male"),
}


def gender_of(value: str, where: str) -> str:
    """A gender as the manifest says it.

    Raises:
        InputError: On a value that is not one of `GENDERS`.
    """
    if value.casefold() not in GENDERS:
        raise InputError(f"{where}: gender {value!r} is none of {', '.join(GENDERS)}. Write one of them, or nothing.")
    return GENDERS[value.casefold()]


def composed(text: str) -> str:
    """A name in composed letters (NFC): macOS takes letters and their marks apart, and a list may not."""
    return unicodedata.normalize("NFC", text)


def some(things: list[str], what: str) -> list[str]:
    """A note of how many there are, and the first; none where there is nothing."""
    return [f"{len(things)} {what}, the first: {things[0]}"] if things else []


def relative(path: Path, root: Path) -> str:
    """A path from the corpus folder, links of folders followed; absolute where none leads there (another drive)."""
    try:
        return Path(os.path.relpath(path.parent.resolve() / path.name, root.resolve())).as_posix()
    except ValueError:
        return path.absolute().as_posix()

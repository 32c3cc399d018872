"""Lines of our Markdown as parts of a page: tables, lists and sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from markupsafe import Markup, escape

Kind = Literal["table", "list", "text", "left out"]
_CELLS = re.compile(r"(?<!\\)\|")


class Block(NamedTuple):
    """A part of a page.

    Attributes:
        kind: What it is.
        rows: Of a table its rows, the head first; of a list its points; else one text.
    """

    kind: Kind
    rows: Sequence[Sequence[Markup]]


def blocks(lines: Iterable[str]) -> list[Block]:
    """The parts that some lines are, in their order."""
    found: list[Block] = []
    for kind, own in groupby(lines, _kind):
        if kind == "table":
            head, _, *body = own
            found.append(Block(kind, [cells(line) for line in (head, *body)]))
        elif kind == "list":
            found.append(Block(kind, [[styled(line.removeprefix("- "))] for line in own]))
        else:
            found += [Block(kind, [[styled(line)]]) for line in own if line]
    return found


def left_out(why: object) -> list[Block]:
    """A sentence that says why something is not there."""
    return [Block("left out", [[styled(f"Left out: {why}")]])]


def _kind(line: str) -> Kind:
    return "table" if line.startswith("|") else "list" if line.startswith("- ") else "text"


def cells(line: str) -> list[Markup]:
    """The cells of a row of a table."""
    return [styled(cell.strip().replace(r"\|", "|")) for cell in _CELLS.split(line)[1:-1]]


def styled(text: str) -> Markup:
    """A text with its `code` and **bold** words, everything else escaped."""
    safe = str(escape(text))
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe))  # noqa: S704 - escaped above

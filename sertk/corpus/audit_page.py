"""The audit of a protocol as a Markdown page: its folds, what they share, and what was kept and dropped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product

from sertk.core import OVERLAPS, PAIRS
from sertk.core.files import Document
from sertk.corpus.protocols import COPIES, NAMED


def page(content: Document) -> str:
    """The audit as Markdown, from the content of a protocol file."""
    lines = [f"# {content['corpus']} / {content['name']}: {content['stamp']}", "", *body(content)]
    return "\n".join(lines).rstrip() + "\n"


def body(content: Document, most: float = math.inf) -> list[str]:
    """The lines of the audit without its title.

    Args:
        content: Of a protocol file.
        most: With more folds than this, the table of the folds is left out, and a sentence says so.
    """
    folds = len(content["audit"])
    many = [f"Left out: the counts of {folds} folds, which `sertk audit` shows."]
    return [
        content["about"],
        f"Hash `{content['hash']}`. {len(content['labels'])} utterances kept, {len(content['dropped'])} dropped.",
        "",
        *(_folds_table(content["classes"], content["audit"]) if folds <= most else many),
        "",
        *_shared_table(content["audit"]),
        "",
        *_counts_table(content),
        "",
        *_dropped_table(content["dropped"]),
    ]


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|" + "---|" * len(cells)]


def _folds_table(classes: Sequence[str], report: Document) -> list[str]:
    lines = _head("fold", "part", "utterances", *classes, "female", "male", "unknown", "speakers")
    for name, fold in report.items():
        for part, counts in fold["counts"].items():
            genders = [counts["genders"].get(gender, 0) for gender in ("female", "male", "unknown")]
            cells = [counts["utterances"], *counts["classes"].values(), *genders, _few(counts["speakers"])]
            lines.append(_row(name, part, *cells))
    return lines


def _shared_table(report: Document) -> list[str]:
    rows = []
    for what, pair in product(OVERLAPS, PAIRS):
        found = {name: fold["shared"][what][pair] for name, fold in report.items() if pair in fold["shared"][what]}
        if found:
            sizes = sorted({len(values) for values in found.values()})
            folds = "all" if len(found) == len(report) else ", ".join(found)
            first = next(iter(found.values()))
            rows.append(_row(what, pair, folds, "-".join(map(str, dict.fromkeys((sizes[0], sizes[-1])))), _few(first)))
    return [*_head("shared", "by", "folds", "number", "which"), *rows] if rows else ["No two parts share anything."]


def _counts_table(content: Document) -> list[str]:
    here, source = Counter(content["labels"].values()), content["expected"]
    if not source:
        return [*_head("class", "kept"), *(_row(name, here[name]) for name in content["classes"])]
    lines = _head("class", "kept", "published", "difference")
    for name in [*content["classes"], "all"]:
        have, want = (sum(c.values()) if name == "all" else c.get(name, 0) for c in (here, source))
        lines.append(_row(name, have, want, f"{have - want:+d}" if have != want else "0"))
    return lines


def _dropped_table(dropped: Sequence[Mapping[str, str]]) -> list[str]:
    ids: dict[str, list[str]] = {}
    for one in dropped:
        ids.setdefault(one["reason"], []).append(one.get("copies", one["id"]))
    rows = [_row(reason, len(own), _few(own, 100 if reason in (NAMED, *COPIES) else 4)) for reason, own in ids.items()]
    return [*_head("dropped because", "number", "which"), *rows] if rows else ["Nothing was dropped."]


def _few(values: Sequence[str], most: int = 4) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more

"""The audit of a protocol: what train, dev and test share, and what each of them holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from sertk.core import Utterance
from sertk.protocols import PARTS, Folds

Property = Callable[[str], str | None]


class Lack(NamedTuple):
    """Classes of which a part of some folds has no utterance.

    Attributes:
        part: train, dev or test.
        classes: In the order of the protocol.
        folds: Those where that part lacks just these and maybe other classes, by name.
    """

    part: str
    classes: tuple[str, ...]
    folds: tuple[str, ...]


def audit(folds: Folds, utterances: Mapping[str, Utterance], audio: Mapping[str, str]) -> dict[str, Any]:
    """Looks at every fold.

    Args:
        folds: The protocol.
        utterances: By id.
        audio: Hash of the decoded samples by id.

    Returns:
        By fold: `shared`, what two parts have in common, and `counts`, classes, genders and speakers by part.
    """
    properties: dict[str, Property] = {
        "speaker": lambda i: utterances[i].speaker,
        "session": lambda i: utterances[i].session,
        "text": lambda i: utterances[i].text,
        "audio": audio.get,
    }
    report = {}
    for name, fold in folds.folds.items():
        parts = dict(zip(PARTS, fold, strict=True))
        report[name] = {
            "shared": {what: _shared(parts, get) for what, get in properties.items()},
            "counts": {part: _counts(ids, folds, utterances) for part, ids in parts.items()},
        }
    return report


def lacking(report: Mapping[str, Any]) -> list[Lack]:
    """The classes that a part lacks though it is not empty, from the report of `audit`.

    Classes that the same part lacks in the same folds come together.
    """
    found = []
    for part in PARTS:
        folds: dict[str, tuple[str, ...]] = {}
        for name, fold in report.items():
            counts = fold["counts"][part]
            for label, count in counts["classes"].items():
                if counts["utterances"] and not count:
                    folds[label] = (*folds.get(label, ()), name)
        alike: dict[tuple[str, ...], tuple[str, ...]] = {}
        for label, names in folds.items():
            alike[names] = (*alike.get(names, ()), label)
        found += [Lack(part, labels, names) for names, labels in alike.items()]
    return found


def _shared(parts: Mapping[str, Sequence[str]], get: Property) -> dict[str, list[str]]:
    values = {part: {get(i) for i in ids} - {None} for part, ids in parts.items()}
    pairs = {f"{a}+{b}": sorted(map(str, values[a] & values[b])) for a, b in combinations(PARTS, 2)}
    return {pair: both for pair, both in pairs.items() if both}


def _counts(ids: Sequence[str], folds: Folds, utterances: Mapping[str, Utterance]) -> dict[str, Any]:
    classes = Counter(folds.labels[i] for i in ids)
    return {
        "utterances": len(ids),
        "classes": {name: classes[name] for name in folds.classes},
        "genders": dict(sorted(Counter(utterances[i].gender or "unknown" for i in ids).items())),
        "speakers": sorted({utterances[i].speaker for i in ids}),
    }

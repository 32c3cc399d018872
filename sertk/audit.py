"""The audit of a protocol: what train, dev and test share, and what each of them holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from sertk.core import Utterance
from sertk.protocols import PARTS, Folds

Property = Callable[[str], str | None]


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

"""The audit of a protocol: what train, dev and test share, and what each of them holds."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, combinations, product
from typing import Any, NamedTuple

from sertk.core import OVERLAPS, PAIRS, PARTS, Utterance
from sertk.corpus.folding import Fold
from sertk.corpus.protocols import Folds, Shares

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
        By fold: `shared`, what two parts have in common, and `counts`, classes, genders and speakers by part. Texts are
        compared by their words, without case and punctuation, or where they are not known by `aux.sentence`, the code
        of a fixed sentence.
    """
    texts = {i: words(utterances[i].text) or utterances[i].aux.get("sentence") for i in folds.labels}
    properties: dict[str, Property] = {
        "speaker": lambda i: utterances[i].speaker,
        "session": lambda i: utterances[i].session,
        "text": texts.get,
        "audio": audio.get,
    }
    report = {}
    for name, fold in folds.folds.items():
        parts = dict(zip(PARTS, fold, strict=True))
        shared = {what: _shared(parts, get) for what, get in properties.items()}
        shared["audio"] = _named(shared["audio"], fold, audio)
        report[name] = {
            "shared": shared,
            "counts": {part: _counts(ids, folds, utterances) for part, ids in parts.items()},
        }
    return report


def words(text: str | None) -> str | None:
    """A text without case and punctuation, to compare; None where there is nothing to say."""
    if text is None:
        return None
    plain = unicodedata.normalize("NFKC", text).casefold()
    # letters, digits and their marks: the vowel signs of some scripts are marks
    kept = (char if char.isalnum() or unicodedata.category(char)[0] == "M" else " " for char in plain)
    return " ".join("".join(kept).split()) or None


def shares(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the parts of some fold share: the pairs of parts, by what it is."""
    found = {
        what: [pair for pair in PAIRS if any(pair in fold["shared"][what] for fold in report.values())]
        for what in OVERLAPS
    }
    return {what: pairs for what, pairs in found.items() if pairs}


def undeclared(report: Mapping[str, Any], declared: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each overlap that a protocol does not declare, with its first fold and values."""
    found = []
    for what, pairs in shares(report).items():
        for pair in pairs:
            if pair not in declared.get(what, ()):
                folds = [name for name, fold in report.items() if pair in fold["shared"][what]]
                values = report[folds[0]]["shared"][what][pair]
                first, second = pair.split("+")
                found.append(
                    f"{first} and {second} share {amount(len(values), what)} in fold {folds[0]}"
                    + (f" and {len(folds) - 1} more" if len(folds) > 1 else "")
                    + f", the first {values[0]!r}"
                )
    return found


def amount(count: int, what: str) -> str:
    """A number of speakers, sessions, texts or recordings in words."""
    noun = "recording" if what == "audio" else what
    return f"{count} {noun}{'s' * (count > 1)}"


def told(found: Shares) -> str:
    """What is shared in words: "text shared by train+dev, train+test, dev+test"; empty where nothing is."""
    names = {"audio": "recordings"}
    return "; ".join(f"{names.get(what, what)} shared by {', '.join(pairs)}" for what, pairs in found.items())


def stamped(about: Mapping[str, Any]) -> str:
    """The stamp of scores with what the parts share."""
    also = told(about.get("shares", {}))
    return f"{about['stamp']} ({also})" if also else str(about["stamp"])


def recordings(utterances: Iterable[Utterance], audio: Mapping[str, str]) -> dict[str, str]:
    """The hash of each utterance's samples; cuts of one file that overlap by a tenth of the shorter share theirs."""
    found = dict(audio)
    cuts: dict[str, list[Utterance]] = {}
    for one in utterances:
        cuts.setdefault(one.path, []).append(one)
    for own in cuts.values():
        last, end = own[0], 0.0
        for one in sorted(own, key=lambda one: (one.start, one.id)):
            shared = min(end, one.start + (one.duration or 0.0)) - one.start
            if shared > 0.1 * min(one.duration or 0.0, last.duration or 0.0):
                found[one.id] = found[last.id]
            if one.start + (one.duration or 0.0) > end:
                last, end = one, one.start + (one.duration or 0.0)
    return found


def duplicates(utterances: Iterable[Utterance], audio: Mapping[str, str]) -> list[list[str]]:
    """Ids of utterances whose samples are the same, group by group."""
    groups: dict[str, list[str]] = {}
    for one in utterances:
        groups.setdefault(audio[one.id], []).append(one.id)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


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


def table(content: Mapping[str, Any]) -> str:
    """The audit as Markdown, from a protocol file's content."""
    lines = [
        f"# {content['corpus']} / {content['name']}: {content['stamp']}",
        "",
        content["about"],
        f"Hash `{content['hash']}`. {len(content['labels'])} utterances kept, {len(content['dropped'])} dropped.",
        "",
        *_folds_table(content["classes"], content["audit"]),
        "",
        *_shared_table(content["audit"]),
        "",
        *_counts_table(content),
        "",
        *_dropped_table(content["dropped"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|" + "---|" * len(cells)]


def _folds_table(classes: Sequence[str], report: Mapping[str, Any]) -> list[str]:
    lines = _head("fold", "part", "utterances", *classes, "female", "male", "unknown", "speakers")
    for name, fold in report.items():
        for part, counts in fold["counts"].items():
            genders = [counts["genders"].get(gender, 0) for gender in ("female", "male", "unknown")]
            cells = [counts["utterances"], *counts["classes"].values(), *genders, _few(counts["speakers"])]
            lines.append(_row(name, part, *cells))
    return lines


def _shared_table(report: Mapping[str, Any]) -> list[str]:
    rows = []
    for what, pair in product(OVERLAPS, PAIRS):
        found = {name: fold["shared"][what][pair] for name, fold in report.items() if pair in fold["shared"][what]}
        if found:
            sizes = sorted({len(values) for values in found.values()})
            folds = "all" if len(found) == len(report) else ", ".join(found)
            first = next(iter(found.values()))
            rows.append(_row(what, pair, folds, "-".join(map(str, dict.fromkeys((sizes[0], sizes[-1])))), _few(first)))
    return [*_head("shared", "by", "folds", "number", "which"), *rows] if rows else ["No two parts share anything."]


def _counts_table(content: Mapping[str, Any]) -> list[str]:
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
        ids.setdefault(one["reason"], []).append(one["id"])
    rows = [_row(reason, len(own), _few(own)) for reason, own in ids.items()]
    return [*_head("dropped because", "number", "which"), *rows] if rows else ["Nothing was dropped."]


def _few(values: Sequence[str], most: int = 4) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def _named(shared: Mapping[str, list[str]], fold: Fold, audio: Mapping[str, str]) -> dict[str, list[str]]:
    """Shared recordings as the ids that have them, in place of hashes."""
    if not shared:
        return {}
    ids: dict[str, list[str]] = {}
    for i in chain(*fold):
        ids.setdefault(audio.get(i, ""), []).append(i)
    return {pair: sorted(" = ".join(sorted({*ids[sha]})) for sha in shas) for pair, shas in shared.items()}


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

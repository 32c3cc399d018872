"""The audit of a protocol: what train, dev and test share, and what each of them holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, combinations
from typing import NamedTuple

from sertk.core import OVERLAPS, PAIRS, PARTS, Utterance
from sertk.core.errors import some
from sertk.core.files import Document, Record
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


def audit_folds(folds: Folds, utterances: Mapping[str, Utterance], audio: Mapping[str, str]) -> Record:
    """Finds what the parts of every fold share, and counts what they hold.

    Args:
        folds: The protocol.
        utterances: By id.
        audio: Hash of the decoded samples by id.

    Returns:
        By fold: `shared`, what two parts have in common, and `counts`, classes, genders and speakers by part. Texts are
        compared by their words, without case and punctuation, or where they are not known by `aux.sentence`, the code
        of a fixed sentence.
    """
    texts = {i: utterances[i].sentence for i in folds.labels}
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
        shared["audio"] = _ids_of_recordings(shared["audio"], fold, audio)
        report[name] = {
            "shared": shared,
            "counts": {part: _counts(ids, folds, utterances) for part, ids in parts.items()},
        }
    return report


def shares(report: Document) -> dict[str, list[str]]:
    """What the parts of some fold share: the pairs of parts, by what it is."""
    found = {
        what: [pair for pair in PAIRS if any(pair in fold["shared"][what] for fold in report.values())]
        for what in OVERLAPS
    }
    return {what: pairs for what, pairs in found.items() if pairs}


def undeclared(report: Document, declared: Mapping[str, Sequence[str]]) -> list[Record]:
    """What parts share and a protocol does not declare: what, the two parts, and all values by fold."""
    return [
        {
            "what": what,
            "parts": pair,
            "folds": {n: fold["shared"][what][pair] for n, fold in report.items() if pair in fold["shared"][what]},
        }
        for what, pairs in shares(report).items()
        for pair in pairs
        if pair not in declared.get(what, ())
    ]


def overlap_in_words(overlap: Document) -> str:
    """One of `undeclared` as a sentence, with its first fold and the first of its values."""
    (fold, values), *others = overlap["folds"].items()
    first, second = overlap["parts"].split("+")
    return (
        f"{first} and {second} share {amount(len(values), overlap['what'])} in fold {fold}"
        + (f" and {len(others)} more" if others else "")
        + f", the first {some(values[0].split(' = '), joint=' = ')!r}"
    )


def amount(count: int, what: str) -> str:
    """A number of speakers, sessions, texts or recordings in words."""
    noun = "recording" if what == "audio" else what
    return f"{count} {noun}{'s' * (count > 1)}"


def _in_words(found: Shares) -> str:
    """What is shared in words: "text shared by train+dev, train+test, dev+test"; empty where nothing is."""
    names = {"audio": "recordings"}
    return "; ".join(f"{names.get(what, what)} shared by {', '.join(pairs)}" for what, pairs in found.items())


def stamped(about: Document) -> str:
    """The stamp of scores with what the parts share, how the speakers were known, and how settings were searched."""
    also, speakers = _in_words(about.get("shares", {})), about.get("speakers")
    searched: Document | None = about.get("searched")
    more = (f" ({by_speaker(speakers)})" if speakers else "") + (f" ({also})" if also else "")
    return line_stamp(about) + more + (f", {by_search(searched)}" if searched else "")


def by_search(searched: Document) -> str:
    """How the settings of scores were searched, and whether that saw speakers of the test."""
    folds = searched["folds"]
    where = "each fold's own dev" if searched["nested"] else f"dev of fold {', '.join(folds)}"
    saw = ", SETTINGS SAW TEST SPEAKERS of other folds" if searched["saw"] else ""
    return f"settings searched on {where}{saw}"


def line_stamp(about: Document) -> str:
    """The stamp of a score line: where the utterance comes from, and whether its speaker was known."""
    return f"{about['stamp']}{', speaker-normalised' * ('speakers' in about)}"


def joined_stamp(stamps: Sequence[Document]) -> Record:
    """What several scorings say of the statistics of speakers, which they made in one way: the range of all n."""
    ends = [end for one in stamps for end in one["n"]]
    return {**stamps[0], "n": [min(ends), max(ends)], "without": sum(one["without"] for one in stamps)}


def by_speaker(about: Document) -> str:
    """How the statistics of the speakers were made, in words."""
    low, high = about["n"]
    count = f"{low}" if low == high else f"{low} to {high}"
    said = f"{about['how']}, n = {count} utterances a speaker, shrunk with k = {about['shrink']:g}"
    return said + (f", {about['without']} utterances without a known speaker" if about["without"] else "")


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


def lacking_classes(report: Document) -> list[Lack]:
    """The classes that a part lacks though it is not empty, from the report of `audit_folds`.

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


def _ids_of_recordings(shared: Mapping[str, list[str]], fold: Fold, audio: Mapping[str, str]) -> dict[str, list[str]]:
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


def _counts(ids: Sequence[str], folds: Folds, utterances: Mapping[str, Utterance]) -> Record:
    classes = Counter(folds.labels[i] for i in ids)
    return {
        "utterances": len(ids),
        "classes": {name: classes[name] for name in folds.classes},
        "genders": dict(sorted(Counter(utterances[i].gender or "unknown" for i in ids).items())),
        "speakers": sorted({utterances[i].speaker for i in ids}),
    }

"""Protocols made into folds: the label map, the filter and the fold rule of a corpus, applied to its utterances."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_type_hints

from sertk.core import (
    OVERLAPS,
    PAIRS,
    PARTS,
    AuxTask,
    Crossed,
    Disjoint,
    Duplicates,
    FoldTable,
    Half,
    LeaveOneOut,
    Next,
    Protocol,
    RandomDev,
    RandomSplit,
    SertkError,
    Stratified,
    UsageError,
    Utterance,
    nearest,
)
from sertk.core.errors import some
from sertk.core.files import Document, Record, read_json
from sertk.core.forms import Form, fits
from sertk.corpus.folding import Fold, absent, check_rules, make_folds, read_table
from sertk.settings.merge import read

Shares = Mapping[str, list[str]]  # the PAIRS of parts that share it, by "speaker", "session", "text" and "audio"


@dataclass(frozen=True)
class Folds:
    """A protocol as `prepare` writes it: classes, folds and their hash.

    Attributes:
        corpus: Its corpus.
        name: Of the protocol.
        classes: In the order of every logit.
        labels: Class by utterance id.
        folds: By name.
        shares: What the parts of some fold have in common, as the audit found it.
        aux: Auxiliary tasks by name.
    """

    corpus: str
    name: str
    classes: tuple[str, ...]
    labels: Mapping[str, str]
    folds: Mapping[str, Fold]
    shares: Shares = field(default_factory=dict)
    aux: Mapping[str, AuxTask] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """16 hex digits of the content: classes, folds, the label of every id, and the stamp; not of the audio."""
        # `digest` of the whole, put together: as one document of leave-one-out it would take minutes and gigabytes
        pairs = {i: _compact([i, label]) for i, label in self.labels.items()}
        whole = hashlib.sha256(f'{{"classes":{_compact(self.classes)},"folds":{{'.encode())
        for place, (name, fold) in enumerate(sorted(self.folds.items())):
            parts = ",".join(f"[{','.join([pairs[i] for i in sorted(part)])}]" for part in fold)
            whole.update(f"{',' * (place > 0)}{_compact(name)}:[{parts}]".encode())
        whole.update(f'}},"stamp":{_compact(self.stamp)}}}'.encode())
        return whole.hexdigest()[:16]

    @property
    def stamp(self) -> str:
        """What every score is stamped with: whether a speaker, or a recording, of a test is in train or dev too."""
        pairs = {*self.shares.get("speaker", ()), *self.shares.get("audio", ())}
        return "SPEAKER-DEPENDENT" if pairs & {"train+test", "dev+test"} else "speaker-independent"

    def about(self, fold: str) -> Record:
        """What a bundle and its scores say of the fold they come from."""
        own = {"corpus": self.corpus, "name": self.name, "fold": fold, "hash": self.hash}
        return {**own, "stamp": self.stamp, "shares": self.shares}

    def name_of(self, text: str) -> str:
        """The name of a fold that is given by name, or by position as "#1".

        Raises:
            UsageError: Where there is no such fold.
        """
        names = list(self.folds)
        if text in names:
            return text
        if text.startswith("#") and text[1:].isdigit() and 0 < int(text[1:]) <= len(names):
            return names[int(text[1:]) - 1]
        raise UsageError(f"protocol {self.name!r} has no fold {text!r}{nearest(text, names)}")

    def fold(self, text: str) -> Fold:
        """A fold by its name, or by position as "#1"; raises UsageError where there is none."""
        return self.folds[self.name_of(text)]


def _compact(content: object) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


class Made(NamedTuple):
    """A protocol applied to a corpus.

    Attributes:
        folds: Those that have a test here.
        dropped: {"id", "reason"} for each utterance that is in none.
        absent: {"id", "reason"} for each published id and each fold of which nothing is here.
    """

    folds: Folds
    dropped: list[dict[str, str]]
    absent: list[dict[str, str]]


def make(
    corpus: str,
    name: str,
    protocol: Protocol,
    utterances: Iterable[Utterance],
    audio: Mapping[str, str] = MappingProxyType({}),
    unread: Iterable[str] = (),
) -> Made:
    """Applies a protocol to a corpus.

    Args:
        corpus: What it is called.
        name: Of the protocol.
        protocol: It.
        utterances: Of the corpus.
        audio: The recording of each, by id: equal texts are equal recordings.
        unread: Ids that the corpus has and that cannot be read; a protocol may drop them too.

    Raises:
        SertkError: Where nothing is left, the fold rule cannot be met, an id that is to be dropped is unknown, or a
            recording comes under several ids and the protocol says that this is an error.
    """
    whole = list(utterances)
    _check_dropped(protocol, name, corpus, [*(one.id for one in whole), *unread])
    kept, dropped = _filter(protocol, whole)
    missing = absent(protocol, kept)
    if isinstance(protocol.test, FoldTable):
        listed = set(read_table(protocol.test.path).ids)
        dropped += [{"id": i, "reason": f"not in {protocol.test.path.name}"} for i in kept if i not in listed]
        kept = {i: one for i, one in kept.items() if i in listed}
    copies = _copies(protocol, name, corpus, kept, audio)
    dropped += copies.values()
    kept = {i: one for i, one in kept.items() if i not in copies}
    if not kept:
        first = f" ({dropped[0]['id']}: {dropped[0]['reason']})" if dropped else ""
        raise SertkError(
            f"protocol {name!r} keeps no utterance of {corpus}{first}. Check --root, or choose another --protocol."
        )
    labels = {i: _class(protocol, one) for i, one in kept.items()}
    classes = sorted(set(labels.values() if protocol.labels is None else protocol.labels.values()))
    folds = make_folds(protocol, kept, labels)
    used = {i for fold in folds.values() for part in fold for i in part}
    dropped += [{"id": i, "reason": "no fold takes it"} for i in kept if i not in used]
    labels = {i: label for i, label in labels.items() if i in used}
    return Made(Folds(corpus, name, tuple(classes), labels, folds, aux=protocol.aux), dropped, missing)


def _check_dropped(protocol: Protocol, name: str, corpus: str, known: Sequence[str]) -> None:
    unknown = sorted({*protocol.drop} - {*known})
    if unknown:
        close = get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise SertkError(
            f"protocol {name!r} drops {len(unknown)} ids that {corpus} has not, the first {unknown[0]!r}{hint} Correct "
            "its `drop`."
        )


def _copies(
    protocol: Protocol, name: str, corpus: str, kept: Iterable[str], audio: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """{"id", "reason", "copies"} of the utterances that are dropped as copies, by id; "copies" is "FIRST = ID".

    Raises:
        SertkError: Where there are any, and the protocol says that this is an error.
    """
    if protocol.duplicates is None:
        return {}
    groups: dict[str, list[str]] = {}
    for i in kept:
        groups.setdefault(audio.get(i, i), []).append(i)
    found = [own for own in groups.values() if len(own) > 1]
    if found and protocol.duplicates == "error":
        raise SertkError(
            f"protocol {name!r}: {len(found)} recordings of {corpus} come under several ids, the first "
            f"{' = '.join(found[0][:2])}, and it says duplicates: error. Drop all but one of each (drop: [ids]), or "
            "say duplicates: keep_first or drop_all."
        )
    first = 1 if protocol.duplicates == "keep_first" else 0
    reason = COPIES[first]
    return {
        i: {"id": i, "reason": reason, "copies": i if i == own[0] else f"{own[0]} = {i}"}
        for own in found
        for i in own[first:]
    }


def _filter(protocol: Protocol, utterances: Iterable[Utterance]) -> tuple[dict[str, Utterance], list[dict[str, str]]]:
    kept, dropped, named = {}, [], frozenset(protocol.drop)
    for one in sorted(utterances, key=lambda u: u.id):
        reason = NAMED if one.id in named else _reason(protocol, one)
        if reason is None:
            kept[one.id] = one
        else:
            dropped.append({"id": one.id, "reason": reason})
    return kept, dropped


def _reason(protocol: Protocol, one: Utterance) -> str | None:
    """Why a protocol does not keep an utterance; None where it does."""
    for name, allowed in protocol.keep.items():
        value = value_of(one, name)
        if value not in allowed:
            return f"{name} is {value!r}, not one of {list(allowed)}"
    if one.label is None:
        return "it has no label"
    if protocol.labels is not None and one.label not in protocol.labels:
        return f"label {one.label!r} is not in the label map"
    return None


def unmatched(protocol: Protocol, utterances: Sequence[Utterance], published: Collection[str]) -> Iterator[str]:
    """The labels and the `keep` values of a protocol that no utterance has, in sentences; published labels may miss."""
    for what, named in {"label": protocol.labels or (), **protocol.keep}.items():
        known = [one.label if what == "label" else value_of(one, what) for one in utterances]
        lacking = [str(one) for one in named if one not in known and not (what == "label" and one in published)]
        if lacking:
            there = {str(one) for one in known if one is not None}
            yield f"no utterance has {what} {some(lacking)}{nearest(lacking[0], there)}"


def value_of(one: Utterance, name: str) -> object:
    """What a corpus says of an utterance under a name: in its `aux`, or among its own fields; None where nothing."""
    found: object = one.aux.get(name, getattr(one, name, None))
    return found


def _class(protocol: Protocol, one: Utterance) -> str:
    label = one.label or ""
    return label if protocol.labels is None else protocol.labels[label]


def expected(protocol: Protocol, published: Mapping[str, int]) -> dict[str, int]:
    """How many utterances of each class a complete corpus gives; nothing where no source says."""
    if protocol.published or protocol.keep or protocol.labels is None:
        return dict(protocol.published)
    counts: Counter[str] = Counter()
    for label, name in protocol.labels.items():
        counts[name] += published.get(label, 0)
    return dict(counts) if any(counts.values()) else {}


REST: Final = "all others"
NAMED: Final = "the protocol drops it by its id"
COPIES: Final = ("one recording under several ids (drop_all)", "a copy of a recording that is kept (keep_first)")
"""Why a protocol drops a copy: where it keeps none of them, and where it keeps the first."""
YAML: Final = (".yaml", ".yml")  # a protocol that a file states
RULES: Final[Mapping[str, Document]] = {
    "test": {
        "leave_one_out": LeaveOneOut,
        "disjoint": Disjoint,
        "crossed": Crossed,
        "stratified": Stratified,
        "cut": RandomSplit,
        "table": FoldTable,
    },
    "dev": {"share": RandomDev, "half": Half, "next": Next},
}
# type, and in words, of each field
FORMS: Final[Mapping[str, tuple[Any, str]]] = {
    "labels": (Mapping[str, str] | None, "{label: class}, both text, or null for the labels as they are"),
    "test": (Mapping[str, Sequence[str]], "{fold: [group, ...]}, all text, or a rule"),
    "dev": (
        int | Sequence[str] | Mapping[str, Sequence[str]],
        "a number, [group, ...], {fold: [group, ...]}, or a rule",
    ),
    "group": (Literal["speaker", "session"], "speaker or session"),
    "keep": (Mapping[str, Sequence[Any]], "{field: [value, ...]}"),
    "drop": (Sequence[str], "[id, ...], text"),
    "duplicates": (Duplicates, "keep_first, drop_all or error"),
    "overlaps": (
        Mapping[str, Sequence[Literal[PAIRS]]],  # type: ignore[valid-type]
        f"{{what: [pair, ...]}} of {', '.join(OVERLAPS)} and {', '.join(PAIRS)}",
    ),
    "published": (Mapping[str, int], "{class: number}"),
    "aux": (
        Mapping[str, Mapping[str, Sequence[Any]]],
        "{name: {classes: [name, ...]}} or, of a scale, {name: {edges: [number, ...]}} in rising order",
    ),
    "about": (str, "a sentence"),
}


def from_file(path: Path) -> Protocol:
    """Reads a protocol of one's own: the fields of `Protocol`, a rule as {rule: disjoint, k: 5}.

    Raises:
        UsageError: On an unknown field or rule, or a value of the wrong type.
        SertkError: Where the file is not YAML.
    """
    return stated(path, read(path))


def stated(path: Path, fields: Mapping[str, object], name: str = "") -> Protocol:
    """A protocol as a file states it, see `from_file`.

    Args:
        path: The file.
        fields: By name.
        name: What its errors begin with, where the file states several.
    """
    try:
        return _stated(path, fields)
    except UsageError as error:
        raise UsageError(f"{name}{error}") from None


def _stated(path: Path, fields: Mapping[str, object]) -> Protocol:
    for word in ("labels", "test"):
        if word not in fields:
            raise UsageError(f"{path} has no {word!r}. A protocol has labels and test, and maybe {', '.join(FORMS)}.")
    made: Record = {}
    for word, value in fields.items():
        if word not in FORMS:
            raise UsageError(f"{path}: unknown field {word!r}{nearest(word, FORMS)}")
        if isinstance(value, Mapping) and "rule" in value:
            made[word] = _rule(path, word, dict(value))
        elif fits(value, FORMS[word][0]):  # a fold may be called 1
            made[word] = {str(key): one for key, one in value.items()} if isinstance(value, Mapping) else value
        else:
            raise UsageError(f"{path}: {word} is {value!r}; it takes {FORMS[word][1]}.")
    odd = [what for what in made.get("overlaps", ()) if what not in OVERLAPS]
    if odd:
        raise UsageError(f"{path}: overlaps of {odd[0]!r}{nearest(odd[0], OVERLAPS)}")
    if "drop" in made:
        made["drop"] = [unicodedata.normalize("NFC", one) for one in made["drop"]]  # as ids are
    if "aux" in made:
        made["aux"] = {name: _aux(path, name, one) for name, one in made["aux"].items()}
    protocol = Protocol(**made)
    check_rules(protocol)
    return protocol


def _aux(path: Path, name: str, given: Mapping[str, Sequence[Any]]) -> AuxTask:
    """An auxiliary task as a file states it."""
    wanted = {"classes": str, "edges": float}
    kind = next(iter(given), "")
    values = list(given.get(kind, ()))
    if len(given) != 1 or kind not in wanted or not values or not all(fits(one, wanted[kind]) for one in values):
        raise UsageError(f"{path}: aux {name!r} is {given!r}; it takes {FORMS['aux'][1]}.")
    if "." in name:
        raise UsageError(f"{path}: aux {name!r} has a dot in its name. Name it without one.")
    if kind == "edges" and any(one >= other for one, other in pairwise(values)):
        raise UsageError(f"{path}: aux {name!r} has the edges {values}; they rise.")
    return AuxTask(**{kind: tuple(values)})


def _rule(path: Path, word: str, value: Record) -> object:
    """A rule from its name and settings."""
    name, rules = value.pop("rule"), RULES.get(word, {})
    if name not in rules:
        raise UsageError(f"{path}: {word} has no rule {name!r}{nearest(str(name), rules)}")
    hints = get_type_hints(rules[name])
    for setting, given in value.items():
        wanted = str if hints.get(setting) is Path else hints.get(setting, type(None))
        if setting not in hints or not fits(given, wanted):
            known = ", ".join(f"{one}: {hint.__name__}" for one, hint in hints.items()) or "nothing"
            raise UsageError(f"{path}: rule {name!r} of {word} takes no {setting}: {given!r}; it takes {known}.")
    if "path" in value:
        value["path"] = path.parent / value["path"]
    lacking = [one for one in rules[name]._fields if one not in value and one not in rules[name]._field_defaults]
    if lacking:
        raise UsageError(
            f"{path}: rule {name!r} of {word} needs {lacking[0]}, as in {{rule: {name}, {lacking[0]}: ...}}."
        )
    return rules[name](**value)


def to_json(folds: Folds) -> dict[str, object]:
    """The protocol file's content, without the audit."""
    return {
        "corpus": folds.corpus,
        "name": folds.name,
        "hash": folds.hash,
        "stamp": folds.stamp,
        "shares": folds.shares,
        "classes": list(folds.classes),
        "aux": {name: {word: value for word, value in asdict(one).items() if value} for name, one in folds.aux.items()},
        "labels": dict(folds.labels),
        "folds": {name: _spelled(fold, folds.labels) for name, fold in folds.folds.items()},
    }


def _spelled(fold: Fold, labels: Mapping[str, str]) -> dict[str, object]:
    """The ids of the parts; train in two words where it is all that dev and test leave."""
    rest = len(fold.train) + len(fold.dev) + len(fold.test) == len(labels) == len({i for part in fold for i in part})
    return {**fold._asdict(), **({"train": REST} if rest else {})}


def _read_fold(parts: Document, labels: Mapping[str, str]) -> Fold:
    dev, test = tuple(parts["dev"]), tuple(parts["test"])
    if parts["train"] != REST:
        return Fold(tuple(parts["train"]), dev, test)
    held = {*dev, *test}
    return Fold(tuple(i for i in labels if i not in held), dev, test)


FILE = Form(
    {
        **dict.fromkeys(("corpus", "name", "hash"), str),
        "classes": list[str],
        "labels": Mapping[str, str],
        "folds": Mapping[str, Mapping[str, Any]],
    },
    {"shares": Mapping[str, list[str]], "aux": Mapping[str, Mapping[str, list[str | float]]]},
)
FOLD = Form({"train": Literal["all others"] | list[str], "dev": list[str], "test": list[str]})
"""What a protocol file says, and each of its folds."""


def load(path: Path) -> Folds:
    """Reads a protocol file.

    Raises:
        SertkError: Where it is missing, of a newer schema, or its folds are not what its hash says.
    """
    mend = "Run `sertk prepare CORPUS --root FOLDER --out DATA`, with --protocol for one of several."
    content = read_json(path, mend, FILE)
    fault = next((fault for fault in map(FOLD.fault, content["folds"].values()) if fault), "")
    if not fault:
        ids = {i for fold in content["folds"].values() for word in PARTS if fold[word] != REST for i in fold[word]}
        fault = "" if ids <= content["labels"].keys() else "its folds have ids without a label"
    if fault:
        raise SertkError(f"{path}: {fault}. {mend}")
    folds = Folds(
        content["corpus"],
        content["name"],
        tuple(content["classes"]),
        content["labels"],
        {name: _read_fold(fold, content["labels"]) for name, fold in content["folds"].items()},
        content.get("shares", {}),
        {
            name: AuxTask(**{word: tuple(own) for word, own in one.items()})
            for name, one in content.get("aux", {}).items()
        },
    )
    if folds.hash != content["hash"]:
        raise SertkError(f"{path} was edited: its folds hash to {folds.hash}, not {content['hash']}. Prepare again.")
    return folds

"""Protocols made into folds: the label map, the filter and the fold rule of a corpus, applied to its utterances."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sertk.core import Protocol, SertkError, UsageError, Utterance, key, nearest
from sertk.core.paths import digest, read_json

PARTS = ("train", "dev", "test")


class Fold(NamedTuple):
    """Utterance ids of the three parts."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Folds:
    """A protocol as `prepare` writes it: classes, folds and their hash.

    Attributes:
        corpus: Its corpus.
        name: Of the protocol.
        classes: In the order of every logit.
        labels: Class by utterance id.
        folds: By name.
        independent: Whether no fold has a speaker of its test in train or dev.
    """

    corpus: str
    name: str
    classes: tuple[str, ...]
    labels: Mapping[str, str]
    folds: Mapping[str, Fold]
    independent: bool

    @property
    def hash(self) -> str:
        """16 hex digits of the content: classes, folds, the label of every id, and the stamp."""
        folds = {
            name: [[(i, self.labels[i]) for i in sorted(part)] for part in fold] for name, fold in self.folds.items()
        }
        return digest({"classes": self.classes, "folds": folds, "stamp": self.stamp})

    @property
    def stamp(self) -> str:
        """What every score is stamped with."""
        return "speaker-independent" if self.independent else "SPEAKER-DEPENDENT"

    def about(self, fold: str) -> dict[str, str]:
        """What a bundle and its scores say of the fold they come from."""
        return {"corpus": self.corpus, "name": self.name, "fold": fold, "hash": self.hash, "stamp": self.stamp}

    def name_of(self, text: str) -> str:
        """The name of a fold that is given by name, or by position as "#1".

        Raises:
            UsageError: Where there is no such fold.
        """
        names = list(self.folds)
        if text.startswith("#") and text[1:].isdigit() and 0 < int(text[1:]) <= len(names):
            return names[int(text[1:]) - 1]
        if text not in self.folds:
            raise UsageError(f"protocol {self.name!r} has no fold {text!r}{nearest(text, names)}")
        return text

    def fold(self, text: str) -> Fold:
        """A fold by its name, or by position as "#1"; raises UsageError where there is none."""
        return self.folds[self.name_of(text)]


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


def make(corpus: str, name: str, protocol: Protocol, utterances: Iterable[Utterance]) -> Made:
    """Applies a protocol to a corpus.

    Raises:
        SertkError: Where nothing is left, or dev would take every training group.
    """
    kept, dropped = _filter(protocol, utterances)
    absent = _absent(protocol, kept)
    tests = _tests(protocol, kept, dropped)
    if isinstance(protocol.test, Path):  # a table lists every utterance; of groups, those no fold tests are trained on
        inside = {i for ids in tests.values() for i in ids}
        kept = {i: u for i, u in kept.items() if i in inside}
    folds = {fold: _fold(fold, ids, kept, protocol) for fold, ids in tests.items()}
    if not kept:
        raise SertkError(
            f"protocol {name!r} keeps no utterance of {corpus}; the first reasons: {dropped[:3]}. "
            "Check --root, or choose another --protocol."
        )
    classes = tuple(dict.fromkeys(sorted(protocol.labels.values())))
    labels = {i: protocol.labels[u.label or ""] for i, u in kept.items()}
    independent = not any(_speakers(f.test, kept) & _speakers((*f.train, *f.dev), kept) for f in folds.values())
    return Made(Folds(corpus, name, classes, labels, folds, independent), dropped, absent)


def fold_names(protocol: Protocol) -> list[str]:
    """The folds of a protocol, in the order in which "#n" counts them."""
    if isinstance(protocol.test, Path):
        return sorted(set(_read_table(protocol.test).values()))
    return list(protocol.test)


def _filter(protocol: Protocol, utterances: Iterable[Utterance]) -> tuple[dict[str, Utterance], list[dict[str, str]]]:
    kept, dropped = {}, []
    for one in sorted(utterances, key=lambda u: u.id):
        odd = next((f for f, allowed in protocol.keep.items() if one.aux.get(f) not in allowed), None)
        if odd is not None:
            dropped.append(
                {"id": one.id, "reason": f"{odd} is {one.aux.get(odd)!r}, not one of {list(protocol.keep[odd])}"}
            )
        elif one.label not in protocol.labels:
            dropped.append({"id": one.id, "reason": f"label {one.label!r} is not in the label map"})
        else:
            kept[one.id] = one
    return kept, dropped


def _tests(
    protocol: Protocol, kept: Mapping[str, Utterance], dropped: list[dict[str, str]]
) -> dict[str, tuple[str, ...]]:
    """Test ids by fold; what no fold tests is added to `dropped`."""
    if isinstance(protocol.test, Path):
        table = _read_table(protocol.test)
        dropped.extend({"id": i, "reason": f"not in {protocol.test.name}"} for i in kept if i not in table)
        folds = sorted(set(table.values()))
        tests = {fold: tuple(i for i in kept if table.get(i) == fold) for fold in folds}
    else:
        tests = {f: tuple(i for i, u in kept.items() if _group(u, protocol) in g) for f, g in protocol.test.items()}
    return {fold: ids for fold, ids in tests.items() if ids}


def _absent(protocol: Protocol, kept: Mapping[str, Utterance]) -> list[dict[str, str]]:
    """What the fold rule names and the corpus lacks."""
    if isinstance(protocol.test, Path):
        where = f"in {protocol.test.name}, not in this corpus folder"
        return [{"id": i, "reason": where} for i in _read_table(protocol.test) if i not in kept]
    here = {_group(one, protocol) for one in kept.values()}
    return [
        {"id": f"{protocol.group} {group}", "reason": f"tested in fold {fold}, not in this corpus folder"}
        for fold, groups in protocol.test.items()
        for group in groups
        if group not in here
    ]


def _read_table(path: Path) -> dict[str, str]:
    """Test fold by utterance, from a TSV with the columns `utterance` and `test_folds`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["utterance"]: row["test_folds"] for row in csv.DictReader(file, delimiter="\t")}
    except (OSError, KeyError) as error:
        raise SertkError(f"fold table {path}: {error}. It needs the columns utterance and test_folds.") from None


def _group(utterance: Utterance, protocol: Protocol) -> str:
    group: str | None = getattr(utterance, protocol.group)
    return group or ""


def _fold(name: str, test: Sequence[str], kept: Mapping[str, Utterance], protocol: Protocol) -> Fold:
    """Trains on the groups that the test has none of, and carves dev out of them."""
    tested = {_group(kept[i], protocol) for i in test}
    rest = {i: group for i, group in ((i, _group(u, protocol)) for i, u in kept.items()) if group not in tested}
    dev = _carve(name, [kept[i] for i in rest], protocol)
    parts: dict[bool, list[str]] = {False: [], True: []}
    for i, group in rest.items():
        parts[group in dev].append(i)
    return Fold(tuple(parts[False]), tuple(parts[True]), tuple(test))


def _carve(fold: str, utterances: Collection[Utterance], protocol: Protocol) -> set[str]:
    """The dev groups: in an order that only fold and group name decide, genders alternating."""
    if not isinstance(protocol.dev, int):
        return set(protocol.dev)
    found: dict[str, set[str]] = {}
    for one in utterances:
        found.setdefault(_group(one, protocol), set()).add(one.gender or "")
    if 0 < len(found) <= protocol.dev:
        raise SertkError(
            f"fold {fold}: dev takes {protocol.dev} {protocol.group}s of the {len(found)} beside the test, and none is "
            "left for train. Complete the corpus, or take a protocol with a smaller dev."
        )
    genders: dict[str, list[str]] = {}
    for group, sexes in found.items():
        # a session of both has no gender to alternate by
        genders.setdefault(next(iter(sexes)) if len(sexes) == 1 else "", []).append(group)
    for groups in genders.values():
        groups.sort(key=lambda group: key("dev", fold, group))
    ranked = sorted((place, gender, group) for gender, gs in genders.items() for place, group in enumerate(gs))
    return {group for _, _, group in ranked[: protocol.dev]}


def _speakers(ids: Iterable[str], kept: Mapping[str, Utterance]) -> set[str]:
    return {kept[i].speaker for i in ids}


def to_json(folds: Folds) -> dict[str, object]:
    """The protocol file's content, without the audit."""
    return {
        "corpus": folds.corpus,
        "name": folds.name,
        "hash": folds.hash,
        "stamp": folds.stamp,
        "classes": list(folds.classes),
        "labels": dict(folds.labels),
        "folds": {name: fold._asdict() for name, fold in folds.folds.items()},
    }


def load(path: Path) -> Folds:
    """Reads a protocol file.

    Raises:
        SertkError: Where it is missing, of a newer schema, or its folds are not what its hash says.
    """
    content = read_json(
        path, "Run `sertk prepare CORPUS --root FOLDER --out DATA`, with --protocol for one of several."
    )
    folds = Folds(
        content["corpus"],
        content["name"],
        tuple(content["classes"]),
        content["labels"],
        {name: Fold(*(tuple(fold[part]) for part in PARTS)) for name, fold in content["folds"].items()},
        content["stamp"] == "speaker-independent",
    )
    if folds.hash != content["hash"]:
        raise SertkError(f"{path} was edited: its folds hash to {folds.hash}, not {content['hash']}. Prepare again.")
    return folds

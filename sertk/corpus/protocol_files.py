"""The protocol files of a prepared corpus: which are chosen, and what they hold."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sertk.console.progress import say
from sertk.core import Corpus, Protocol, SertkError, UsageError, Utterance, nearest
from sertk.core.files import Document, Record, read_json
from sertk.core.forms import Form
from sertk.corpus.audit import audit_folds, overlap_in_words, recordings, shares, undeclared
from sertk.corpus.protocols import YAML, Folds, expected, from_file, make, to_json, unmatched


class OverlapError(SertkError):
    """Parts of a fold share what their protocol does not declare.

    Args:
        message: A few of them, in words.
        protocol: By name.
        overlaps: All of them, see `undeclared`.
    """

    def __init__(self, message: str, protocol: str, overlaps: Sequence[Document]) -> None:
        super().__init__(message)
        self.protocol, self.overlaps = protocol, overlaps


class Chosen(NamedTuple):
    """A protocol that is to be made.

    Attributes:
        protocol: As it is stated.
        file: The YAML file that states it; empty if the corpus itself does.
    """

    protocol: Protocol
    file: str


def choose(corpus: str, reader: Corpus, asked: Sequence[str]) -> dict[str, Chosen]:
    """The protocols that are asked for, by name.

    Args:
        corpus: What the corpus is called.
        reader: The corpus.
        asked: Names of protocols, or files that state them; empty for all of the corpus.

    Raises:
        UsageError: If there is no such protocol, or two have one name.
    """
    if not asked:
        return {name: Chosen(protocol, "") for name, protocol in reader.protocols.items()}
    chosen: dict[str, Chosen] = {}
    for word in asked:
        name, found = _look_up(corpus, reader, word)
        if chosen.setdefault(name, found) != found:
            raise UsageError(f"two files state a protocol {name!r}: {chosen[name].file} and {found.file}. Rename one.")
    return chosen


def earlier(corpus: str, reader: Corpus, folder: Path, chosen: Collection[str]) -> dict[str, Chosen]:
    """The other protocols that earlier calls wrote, by name: they are made again, to fit the new manifest.

    Args:
        corpus: What the corpus is called.
        reader: The corpus.
        folder: Of the protocol files.
        chosen: Names of the protocols that are made anyway.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(SertkError):  # `prepare` removes it and says so
            old = read_json(path, "", Form({"name": str}, {"file": str}))
            name, one = _look_up(corpus, reader, old.get("file") or old["name"])
            found[name] = one
    return {name: one for name, one in found.items() if name not in chosen}


def _look_up(corpus: str, reader: Corpus, word: str) -> tuple[str, Chosen]:
    """A protocol and its name, found by its name or by the file that states it."""
    path = Path(word)
    if path.suffix in YAML:
        if path.stem in reader.protocols:
            raise UsageError(f"corpus {corpus!r} has a protocol {path.stem!r} of its own; give {path} another name.")
        return path.stem, Chosen(from_file(path), str(path.resolve()))
    if word not in reader.protocols:
        raise UsageError(
            f"corpus {corpus!r} has no protocol {word!r}{nearest(word, reader.protocols)}, or a .yaml file"
        )
    return word, Chosen(reader.protocols[word], "")


def contents(
    corpus: str,
    reader: Corpus,
    chosen: Mapping[str, Chosen],
    asked: Collection[str],
    utterances: Sequence[Utterance],
    audio: Mapping[str, str],
    failed: Sequence[Document],
) -> dict[str, Record]:
    """The contents of the protocol files, by name.

    Args:
        corpus: What the corpus is called.
        reader: The corpus.
        chosen: The protocols to make, by name.
        asked: Names of those that must be made; another one that cannot be made is left out, and the user is told.
        utterances: Of the corpus.
        audio: Hash of the decoded samples by id.
        failed: {"id", "reason"} of what could not be read: it is listed as dropped.

    Raises:
        SertkError: If one that must be made cannot be made, or none can.
        OverlapError: If parts of a fold share what the protocol does not declare.
    """
    lost = [{"id": one["id"], "reason": one["reason"]} for one in failed]
    sounds, unread = recordings(utterances, audio), [one["id"] for one in failed]
    found, reasons = {}, []
    for name, (protocol, file) in chosen.items():
        try:
            made = make(corpus, name, protocol, utterances, sounds, unread)
        except SertkError as error:
            if name in asked:
                raise
            reasons.append(f"protocol {name} is left out: {error}")
            continue
        for odd in unmatched(protocol, utterances, reader.published):
            say(f"protocol {name}: {odd}")
        report = _audited(made.folds, protocol, utterances, sounds)
        found[name] = {
            **to_json(replace(made.folds, shares=shares(report))),
            "about": protocol.about,
            "file": file,
            "expected": expected(protocol, reader.published),
            "dropped": [*lost, *made.dropped],
            "absent": made.absent,
            "audit": report,
        }
    if not found:
        raise SertkError("\n".join(reasons))
    for reason in reasons:
        say(reason)
    return found


def _audited(folds: Folds, protocol: Protocol, utterances: Sequence[Utterance], audio: Mapping[str, str]) -> Record:
    """The audit of a protocol's folds; refuses overlaps that the protocol does not declare."""
    report = audit_folds(folds, {one.id: one for one in utterances}, audio)
    found = undeclared(report, protocol.overlaps)
    if found:
        raise OverlapError(
            f"protocol {folds.name!r} of {folds.corpus} does not declare what its parts share: "
            f"{'; '.join(map(overlap_in_words, found))}. Correct the corpus folder, choose another "
            "with --protocol, or state a protocol of your own: `overlaps` declares it, and `duplicates: keep_first` or "
            "`drop: [ids]` leaves copies of a recording out.",
            folds.name,
            found,
        )
    return report

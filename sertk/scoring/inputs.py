"""What `score` reads: how the utterances of its inputs are found, and which of them a shard has."""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sertk.core import InputError, SertkError, UsageError, Utterance
from sertk.core.errors import some
from sertk.core.files import SCHEMA, Document, Record, kaldi_lines, read_json, read_jsonl
from sertk.core.forms import Form
from sertk.core.rows import Chosen, first_twice
from sertk.core.walk import READ, UNREAD, below
from sertk.corpus.audio import each_facts
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds
from sertk.modeling import bundle
from sertk.scoring.packed import Packed


@dataclass(frozen=True)
class Inputs:
    """What is scored.

    Attributes:
        utterances: In order; labels are classes of the bundle, or None.
        root: Their paths are relative to it.
        stamp: Where they come from, for the metrics; "unaudited" if no protocol says it.
        data: The prepared corpus that they are of, if they are of one.
    """

    utterances: Sequence[Utterance]
    root: Path
    stamp: Document
    data: Data | None = None


def find_inputs(
    names: Sequence[str],
    about: Document,
    failed: list[Record],
    *,
    root: Path | None = None,
    protocol: str | None = None,
    fold: str | None = None,
    part: str = "test",
) -> Inputs:
    """Finds the utterances of inputs.

    Args:
        names: A prepared corpus, a manifest, a wav.scp, folders and audio files, or "-" for paths on standard input.
        about: What the bundle says of itself.
        failed: Gets {"id", "reason"} of each prepared utterance whose file is missing or changed, of folders that
            cannot be looked into, and of lines of a manifest with a field that cannot be.
        root: Where relative paths start.
        protocol: Of a prepared corpus; None takes the bundle's own.
        fold: Likewise.
        part: Of the fold.

    Raises:
        SertkError: If an input cannot be read or is an empty list, or the bundle may have been trained on the
            utterances of the fold.
        UsageError: If the inputs do not go with each other or with the options, or the fold has no such part.
    """
    first = Path(names[0]) if names[0].strip() else Path("?")
    if len(names) == 1 and (first / "corpus.json").exists():
        return of_corpus(Data(first, root), about, failed, protocol=protocol, fold=fold, part=part)
    if protocol or fold or part != "test":
        raise UsageError(
            f"--protocol, --fold and --part go with a prepared corpus (data/NAME), and {names[0]} is not one."
        )
    found = _unaudited(names, first, failed, root, bundle.seen(about))
    if not found.utterances and not failed:  # scores of before must not go for an empty list
        raise SertkError(f"{'standard input' if names == ['-'] else some(names)} lists no utterance. Check the list.")
    return found


def _unaudited(
    names: Sequence[str], first: Path, failed: list[Record], root: Path | None, learned: Collection[str]
) -> Inputs:
    """The utterances of what is no prepared corpus, see `find_inputs`; `learned` as in `_heard`."""
    stamp: Record = {"stamp": "unaudited"}
    if len(names) == 1 and first.suffix == ".jsonl":
        listed = _listed(partial(_of_manifest, first), failed)
        if _met(first, listed, learned):
            stamp = {"stamp": "SPEAKER-DEPENDENT", "shares": {"audio": ["train+test"]}}
        return Inputs(listed, root or _manifest_root(first), stamp)
    base = root or Path()
    if len(names) == 1 and first.suffix == ".scp":
        return Inputs(_listed(lambda _: _of_scp(first), failed), base, stamp)
    places = [str(base / name) for name in names]
    if "-" not in names and not any(map(os.path.exists, places)):  # nor for a wrong path
        raise SertkError(f"no such file or folder: {some(places)}. Check the path and --root.")
    return Inputs(_of_paths(_paths(names, failed, base)), base, stamp)


def check_splittable(names: Sequence[str], shard: str | None) -> None:
    """Refuses standard input where its paths would have to be divided among shards, or come with other inputs.

    Raises:
        UsageError: If "-" is given with a shard or beside another input.
    """
    if "-" in names and (shard or len(names) > 1):
        raise UsageError(
            "standard input ('-') cannot be shared out or mixed with other inputs: give a list file (wav.scp)."
        )


def shard_of(utterances: Sequence[Utterance], shard: str) -> Sequence[Utterance]:
    """The k-th of n contiguous stretches of utterances, for the shard "k/n".

    Raises:
        UsageError: If the shard is not of that form with 1 <= k <= n.
    """
    k, slash, n = shard.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise UsageError(f"--shard {shard!r} is not K/N with 1 <= K <= N, for example 3/32")
    size = len(utterances)
    return Chosen(utterances, range(size * (int(k) - 1) // int(n), size * int(k) // int(n)))


def _paths(names: Sequence[str], failed: list[Record], root: Path) -> Iterator[str]:
    if names == ["-"]:  # bytes: a file name need not be UTF-8
        if sys.stdin is None:  # as `<&-` leaves it
            raise UsageError(
                "'-' is standard input, and there is none: it is closed. Pipe a list into it, a file a line."
            )
        return (path for line in sys.stdin.buffer if (path := os.fsdecode(line).strip()))
    return (path for name in names for path in _files(name, failed, root))


def _of_paths(paths: Iterable[str]) -> Packed:
    ids = array("q")
    found = Packed(Utterance(path, path, "unknown", None) for path in _hashed(paths, ids))
    twice = first_twice(ids, lambda: ((one.id, one.id) for one in found))
    if twice:
        raise UsageError(f"{twice[1]} is given twice, and score lines go by their ids. Give every file once.")
    return found


def _hashed(names: Iterable[str], ids: array[int]) -> Iterator[str]:
    """The names, whose hashes are added to `ids`."""
    for name in names:
        ids.append(hash(name))
        yield name


def _files(name: str, failed: list[Record], root: Path) -> Sequence[str]:
    """A file, or the audio files below a folder, those too that cannot be read: scoring them says why.

    Paths are relative to the root, as the name is.
    """
    if not name.strip():
        raise UsageError(
            "an input is empty text (an unset variable?); give data/NAME, a folder or files, or . for here."
        )
    path = root / name
    if not path.is_dir():
        return [name]
    found = below(path)
    start = "" if Path(name).is_absolute() else f"{root / '_'}"[:-1]  # what the root has put in front
    failed += [
        {"schema": SCHEMA, "id": str(folder).removeprefix(start), "reason": why} for folder, why in found.closed.items()
    ]
    audio = [one.removeprefix(start) for one in found.names_having((*READ, *UNREAD))]
    if not audio:
        raise SertkError(f"folder {path} holds no audio ({', '.join(READ[:2])}, ...). Give another, or the files.")
    return audio


def _listed(read: Callable[[list[Record]], Iterable[tuple[str, Utterance]]], failed: list[Record]) -> Packed:
    """The utterances of a list.

    Args:
        read: Gives ("file:line", utterance) of its lines; its argument gets the others.
        failed: See `find_inputs`.

    Raises:
        SertkError: Where an id comes twice.
    """
    ids = array("q")

    def each() -> Iterator[Utterance]:
        for _, one in read(failed):
            ids.append(hash(one.id))
            yield one

    found = Packed(each())
    twice = first_twice(ids, lambda: ((where, one.id) for where, one in read([])))
    if twice:
        raise SertkError(f"{twice[0]}: id {twice[1]!r} comes twice. Ids must differ; rename one.")
    return found


def _of_manifest(path: Path, failed: list[Record]) -> Iterator[tuple[str, Utterance]]:
    """The utterances of a manifest; lines with an impossible field, such as a start that is NaN, go to `failed`."""
    for where, line in read_jsonl(path, "Give a manifest.jsonl as `sertk prepare` writes it."):
        try:
            one = Utterance.from_json(line, where)
        except InputError as error:
            if not Utterance.is_line(line):
                raise
            failed.append({"schema": SCHEMA, "id": line["id"], "reason": f"{line['id']}: {error}"})
        else:
            yield where, one


def _met(manifest: Path, listed: Iterable[Utterance], learned: Collection[str]) -> bool:
    """Whether one of the recordings is known as one that was learned from: by the hashes beside the manifest."""
    both = map(manifest.with_name, ("corpus.json", "audio.jsonl"))  # then `prepare` wrote them
    if not learned or not all(path.exists() for path in both):
        return False
    each = each_facts(manifest.with_name("audio.jsonl"), "Run `sertk prepare` again.")
    known = {one.id for one in each if one.sha256[:16] in learned}
    return any(one.id in known for one in (listed if known else ()))


def _manifest_root(path: Path) -> Path:
    about = path.with_name("corpus.json")
    mend = "Give --root, the folder where the paths of the manifest start."
    return Path(read_json(about, mend, Form({"root": str}))["root"]) if about.exists() else path.parent


def _of_scp(path: Path) -> Iterator[tuple[str, Utterance]]:
    """The utterances of Kaldi's `ID PATH` lines."""
    for where, name, file in kaldi_lines(path, "Give Kaldi's ID PATH lines in UTF-8."):
        if not name:
            continue
        if not file or file.endswith("|"):
            what = "a pipe, which would run a command" if file else f"no path behind {name!r}"
            raise SertkError(f"{where}: {what}. Write ID and PATH of an audio file on each line.")
        yield where, Utterance(name, file, "unknown", None)


def of_corpus(
    data: Data,
    about: Document,
    failed: list[Record],
    *,
    protocol: str | None = None,
    fold: str | None = None,
    part: str = "test",
) -> Inputs:
    """The utterances of a prepared corpus, see `find_inputs`."""
    own = about["protocol"]
    if data.corpus != own["corpus"] and not (protocol and fold):
        raise UsageError(
            f"the bundle was trained on {own['corpus']}; to score {data.corpus} give --protocol and --fold."
        )
    if data.corpus == own["corpus"] and len(own.get("folds", ())) > 1 and not fold:
        raise UsageError(
            f"the bundles of this ensemble were trained on folds {own['fold']} of {data.corpus}, so together they may "
            "have heard all of its speakers. Score another corpus, or give --fold: the scores are stamped "
            "'seen in training'."
        )
    folds = data.protocol(protocol or own["name"])
    name = folds.name_of(fold or own["fold"])
    ids = getattr(folds.fold(name), part)
    if not ids:  # scores of before must not go for it
        raise UsageError(f"fold {name} of {folds.name} has no {part}. Score another part, or another --fold.")
    chosen = data.select(ids, failed)
    classes = {data.utterances[i].label: label for i, label in folds.labels.items()}
    utterances = [replace(one, label=folds.labels[one.id], votes=_votes(one, classes)) for one in chosen]
    learned = bundle.seen(about)
    met = any(data.facts[one.id].sha256[:16] in learned for one in utterances)
    stamp = _stamp(folds, name, part, own, met=met)
    if stamp["stamp"] == "cross-corpus":
        stamp |= _heard(data, utterances, learned, named=data.corpus in bundle.corpora(about))
    return Inputs(utterances, data.root, stamp, data)


def _heard(data: Data, chosen: Iterable[Utterance], learned: Collection[str], *, named: bool) -> Record:
    """What the stamp says of another corpus than a bundle's own, where it has heard some of it, as in a union.

    Args:
        data: The corpus.
        chosen: The utterances that are scored, none of which the bundle's weights learned from.
        learned: 16 hex digits of each recording that they did learn from.
        named: Whether the bundle names the corpus as a part of what they learned from.
    """
    heard = {one.known_speaker for one in data.utterances.values() if data.facts[one.id].sha256[:16] in learned}
    asked = {one.known_speaker for one in chosen}
    if not heard:  # recordings of a part of that name may have been changed since
        return {"stamp": "seen in training"} if named else {}
    if heard & asked or None in heard | asked:
        return {"stamp": "SPEAKER-DEPENDENT", "shares": {"speaker": ["train+test"]}}
    return {"stamp": "speaker-independent"}


def _votes(one: Utterance, classes: Mapping[str | None, str]) -> Mapping[str, float]:
    """The votes of annotators for each class, with the class of each label of the corpus; others do not count."""
    found: dict[str, float] = {}
    for label, count in one.votes.items():
        if label in classes:
            found[classes[label]] = found.get(classes[label], 0) + count
    return found


def _stamp(folds: Folds, fold: str, part: str, own: Document, *, met: bool) -> Record:
    """Where scores come from.

    Args:
        folds: What is scored.
        fold: By name.
        part: Of the fold.
        own: The protocol that the bundle was trained on.
        met: Whether the bundle's weights learned from one of the recordings.

    Raises:
        SertkError: If the bundle was trained on another fold of the same corpus.
    """
    stamp = {**folds.about(fold), "part": part}
    if part != "test":
        stamp |= {"stamp": "seen in training", "shares": {}}
    elif met:
        stamp |= {"stamp": "SPEAKER-DEPENDENT", "shares": {**folds.shares, "audio": ["train+test"]}}
    corpora = own.get("corpora", [own["corpus"]])  # several: an ensemble's
    if folds.corpus not in corpora:
        return stamp if met else {**stamp, "stamp": "cross-corpus", "shares": {}}
    if len(corpora) > 1 or (folds.hash == own["hash"] and len(own.get("folds", ())) > 1):
        return {**stamp, "stamp": "seen in training", "shares": {}}
    if folds.hash != own["hash"] or fold != own["fold"]:
        raise SertkError(
            f"the bundle was trained on fold {own['fold']} of {own['name']} (hash {own['hash']}), these are fold "
            f"{fold} of {folds.name} (hash {folds.hash}): what it trained on may be in them. Score its own fold."
        )
    return stamp

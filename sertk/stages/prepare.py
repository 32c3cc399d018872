"""Stage 1: a corpus folder -> manifest, audio facts, audited protocols."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from sertk.console.progress import say, track
from sertk.core import Corpus, InputError, Rejected, SertkError, UsageError, Utterance
from sertk.core.errors import without_frames
from sertk.core.files import (
    SCHEMA,
    Document,
    Record,
    document_bytes,
    lines_bytes,
    renew,
    sentence,
    text_bytes,
    write_json,
    write_jsonl,
)
from sertk.core.walk import FFMPEG, READ, below
from sertk.corpus import audio, readers
from sertk.corpus.audit import duplicates, recordings
from sertk.corpus.audit_page import page
from sertk.corpus.journal import Journal
from sertk.corpus.messages import case_messages, corpus_messages, protocol_messages
from sertk.corpus.prepared import OVERLAP, PREPARED, title_of
from sertk.corpus.protocol_files import OverlapError, choose, contents, earlier
from sertk.modeling.borders import inside
from sertk.plugins import Plugins, split

CHUNK = 64  # files that a thread reads at once: a task for each costs more


def prepare(
    corpus: str,
    root: Path,
    out: Path | None,
    protocols: Sequence[str],
    least: float,
    jobs: int,
    files: Sequence[Path] = (),
    *,
    ffmpeg: bool = False,
) -> int:
    """Prepares a corpus.

    Args:
        corpus: The corpus plugin, `NAME[:SETTING=VALUE,...]`, or a corpus as a file of data, see `readers`.
        root: The corpus folder.
        out: The folder to write; data/<corpus> if None.
        protocols: Which to write, by name or as files that state them; if empty, all of the corpus.
        least: `audio.min_seconds`.
        jobs: Files read at once.
        files: Plugin files.
        ffmpeg: `audio.ffmpeg`.

    Returns:
        Files that could not be used; they are in `failed.jsonl`.

    Raises:
        SertkError: If the folder is not the corpus, two utterances have one id, or parts of a protocol share what it
            does not declare.
        UsageError: If there is no such corpus or protocol.
    """
    reader = readers.reader(Plugins(files=files), corpus)
    name = title_of(reader, split("corpus", corpus)[0])
    out = out or Path("data") / name
    chosen = choose(name, reader, protocols)
    others, there = earlier(name, reader, out / "protocols", chosen), [*(out / "protocols").glob("*.json")]
    reader.obtain(root)
    _check_kept(out, reader.reads(root))
    utterances, failed = _read(reader, root)
    journal = Journal(out)  # so that files are read once, though a protocol may fail
    utterances, facts, unusable = _examine(utterances, partial(_look, root, least, ffmpeg, journal), jobs, journal)
    failed += unusable
    # written and said before the protocols are made: what is missing may be why one of them fails
    _write_failed(out / "failed.jsonl", failed)
    for note in [*reader.notes(), *case_messages(utterances)]:
        say(f"{name}: {note}")
    if not utterances:
        first = f" The first of {len(failed)}: {failed[0]['reason']}." if failed else ""
        where = _elsewhere(root) or f"Check --root. The corpus is {reader.about}."
        raise SertkError(f"No audio of {name} was found in {root}.{first} {where}")
    shas = {i: fact.sha256 for i, fact in facts.items()}
    asked = set(chosen if protocols else ())
    with _overlaps_in(out / OVERLAP):
        made = contents(name, reader, {**others, **chosen}, asked, utterances, shas, failed)
    counts, twins = _counts(reader, utterances), duplicates(utterances, recordings(utterances, shas))
    about = {"corpus": name, "root": str(root.resolve()), "counts": counts, "failed": len(failed)}
    silent = [i for i, fact in facts.items() if fact.silent]
    about |= {"duplicates": twins, "silent": silent, "notes": reader.notes()}
    _write(out, utterances, facts, made, there, about)
    journal.clear()
    for message in corpus_messages(name, counts, failed, twins, silent, out):
        say(message)
    say(f"wrote {out}")
    return len(failed)


@contextlib.contextmanager
def _overlaps_in(path: Path) -> Iterator[None]:
    """Writes all that parts share into a file, for the error that ends `prepare` names a few; else there is no file."""
    try:
        yield
    except OverlapError as error:
        write_json(path, {"protocol": error.protocol, "overlaps": error.overlaps})
        raise OverlapError(f"{error} All that they share: {path}.", error.protocol, error.overlaps) from None
    path.unlink(missing_ok=True)


def _check_kept(out: Path, lists: Sequence[Path]) -> None:
    """Refuses to write over what the corpus is read from.

    Raises:
        UsageError: If a file of `out` is one of those.
    """
    made = {(out / name).resolve() for name in PREPARED}
    kept = next((path for path in lists if path.resolve() in made), None)
    if kept is not None:
        raise UsageError(f"{kept} is read, and would be written over. Give another --out, or rename the list.")


def _write(
    out: Path,
    utterances: Sequence[Utterance],
    facts: Mapping[str, audio.Facts],
    made: Mapping[str, Document],
    there: Collection[Path],
    about: Document,
) -> None:
    """Writes a prepared corpus; what is there already stays, for other commands may be reading it.

    Args:
        out: Its folder.
        utterances: Of the manifest.
        facts: Of their audio.
        made: The contents of the protocol files.
        there: The protocol files that there were before.
        about: The content of corpus.json.
    """
    manifest, audios, whole = out / "manifest.jsonl", out / "audio.jsonl", out / "corpus.json"
    unfinished = partial(whole.unlink, missing_ok=True)  # without it the folder is not prepared: it is written last
    renew(manifest, lambda: lines_bytes(manifest, (one.to_json() for one in utterances)), unfinished)
    renew(audios, lambda: lines_bytes(audios, map(audio.to_json, (facts[one.id] for one in utterances))), unfinished)
    _write_protocols(out / "protocols", made, there)  # what another call wrote meanwhile stays
    renew(whole, partial(document_bytes, whole, about))


def _elsewhere(root: Path) -> str:
    """Where the audio below the root lies, if that is one folder further down; as a question."""
    folders = [str(path.parent) for path in below(root).having(READ)]
    base = Path(os.path.commonpath(folders)) if folders else root
    return "" if base == root else f"{len(folders):,} audio files are in {base}: is --root {base}?"


def _read(reader: Corpus, root: Path) -> tuple[list[Utterance], list[Record]]:
    """The utterances of a corpus folder, and {"id", "path", "reason"} of each file that it rejects."""
    utterances, failed, twice = [], [], list[tuple[str, str, str]]()
    seen: dict[str, str] = {}
    with inside(reader.who):
        found = list(reader.read(root))
    for one in found:
        if isinstance(one, Rejected):
            failed.append(_failure(one.id or one.path.stem, str(one.path), one.reason))
            continue
        own = _composed(one)
        if own.id in seen:
            twice.append((own.id, seen[own.id], own.path))
        else:
            seen[own.id] = own.path
            utterances.append(own)
    failed += [_failure(str(folder), str(folder), why) for folder, why in below(root).closed.items()]
    if twice:
        name, first, second = twice[0]
        whole = f" {len(twice)} ids do: is the corpus there twice? Give one of the two folders with --root."
        if unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", second):
            first, second = ascii(first), ascii(second)  # they look the same
        raise SertkError(
            f"id {name!r} comes twice: {first} and {second}. Keep one of the two files.{whole * (len(twice) > 1)}"
        )
    return utterances, failed


def _composed(one: Utterance) -> Utterance:
    """An utterance whose names have composed letters, so that a name is one whatever system wrote it."""
    composed = partial(unicodedata.normalize, "NFC")
    label, session = (name and composed(name) for name in (one.label, one.session))
    return replace(one, id=composed(one.id), speaker=composed(one.speaker), label=label, session=session)


def _failure(name: str, path: str, reason: str) -> Record:
    return {"schema": SCHEMA, "id": name, "path": path, "reason": reason}


def _examine(
    utterances: Sequence[Utterance], look: Callable[[Utterance], audio.Facts | Exception], jobs: int, journal: Journal
) -> tuple[list[Utterance], dict[str, audio.Facts], list[Record]]:
    """Looks at the audio of every utterance; keeps those that can be used."""
    kept, facts, failed = [], {}, []
    chunks = [utterances[start : start + CHUNK] for start in range(0, len(utterances), CHUNK)]
    with contextlib.closing(journal), ThreadPoolExecutor(jobs) as pool:
        looked = pool.map(lambda chunk: [*map(look, chunk)], chunks)
        shown = track(chain.from_iterable(looked), len(utterances), "reading audio")
        for one, found in zip(utterances, shown, strict=True):
            if isinstance(found, Exception):
                said = sentence(found)
                failed.append(_failure(one.id, one.path, said if one.id in said else f"{one.id}: {said}"))
            else:
                kept.append(replace(one, duration=found.seconds))
                facts[one.id] = found
    return kept, facts, failed


def _look(root: Path, least: float, ffmpeg: bool, journal: Journal, one: Utterance) -> audio.Facts | Exception:
    """The facts of an utterance's audio: those of an earlier call if it looks as it did, else what is read now."""
    old = journal.known.get(one.id)
    readable = ffmpeg or Path(one.path).suffix.lower() not in FFMPEG
    try:
        if (
            old
            and readable
            and old.silent is not None
            and (old.path, old.start, old.asked) == (one.path, one.start, one.duration)
            and audio.look(root / one.path, one.id) == (old.size, old.mtime)
        ):
            audio.check_length(old.seconds, one.id, least)
            return old
    except InputError:
        pass  # it changed: it is read again below, and if something is wrong with it, that is said there
    try:
        found = audio.examine(root, one, least, ffmpeg=ffmpeg)
    except Exception as error:  # whatever it is, the rest is prepared
        return without_frames(error)
    journal.add(found)
    return found


def _counts(reader: Corpus, utterances: Sequence[Utterance]) -> dict[str, dict[str, int]]:
    """Utterances by label: here, and as published."""
    here = Counter(one.label or "unlabelled" for one in utterances)
    labels = sorted({*here, *reader.published})
    return {label: {"here": here[label], "published": reader.published.get(label, 0)} for label in labels}


def _write_failed(path: Path, failed: Sequence[Document]) -> None:
    if failed:
        write_jsonl(path, failed)
    else:
        path.unlink(missing_ok=True)


def _write_protocols(folder: Path, files: Mapping[str, Document], there: Collection[Path]) -> None:
    """Writes protocol files and their pages, and removes those that were there and are not among them."""
    for path in there:
        if path.stem not in files:
            say(f"protocol {path.stem} is removed: it is of an earlier state of the corpus")
            path.unlink(missing_ok=True)
            path.with_suffix(".md").unlink(missing_ok=True)
    for name, content in files.items():
        path = folder / f"{name}.json"
        renew(path, partial(document_bytes, path, content))
        renew(path.with_suffix(".md"), partial(text_bytes, page(content)))
        for message in protocol_messages(name, content):
            say(message)

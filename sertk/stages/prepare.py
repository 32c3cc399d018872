"""Stage 1: a corpus folder -> manifest, audio facts, audited protocols."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from sertk.console.progress import say, track
from sertk.core import Corpus, InputError, Rejected, SertkError, UsageError, Utterance
from sertk.core.errors import without_frames
from sertk.core.files import SCHEMA, Document, Record, sentence, write_json, write_jsonl, write_text
from sertk.core.walk import below
from sertk.corpus import audio
from sertk.corpus.audit import duplicates, recordings
from sertk.corpus.audit_page import page
from sertk.corpus.messages import case_messages, corpus_messages, protocol_messages
from sertk.corpus.prepared import PREPARED, title_of
from sertk.corpus.protocol_files import choose, contents, earlier
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
) -> int:
    """Prepares a corpus.

    Args:
        corpus: The corpus plugin, `NAME[:SETTING=VALUE,...]`.
        root: The corpus folder.
        out: The folder to write; data/<corpus> if None.
        protocols: Which to write, by name or as files that state them; if empty, all of the corpus.
        least: `audio.min_seconds`.
        jobs: Files read at once.
        files: Plugin files.

    Returns:
        Files that could not be used; they are in `failed.jsonl`.

    Raises:
        SertkError: If the folder is not the corpus, two utterances have one id, or parts of a protocol share what it
            does not declare.
        UsageError: If there is no such corpus or protocol.
    """
    reader: Corpus = Plugins(files=files).make("corpus", corpus)
    name = title_of(reader, split("corpus", corpus)[0])
    out = out or Path("data") / name
    chosen = choose(name, reader, protocols)
    others = earlier(name, reader, out / "protocols", chosen)
    reader.obtain(root)
    _check_kept(out, reader.reads(root))
    utterances, failed = _read(reader, root)
    utterances, facts, unusable = _examine(root, utterances, least, jobs, out / "audio.jsonl")
    failed += unusable
    if not (out / "corpus.json").exists():  # so that files are read once, though a protocol may fail
        _write_facts(out, utterances, facts)
    # written and said before the protocols are made: what is missing may be why one of them fails
    _write_failed(out / "failed.jsonl", failed)
    for note in [*reader.notes(), *case_messages(utterances)]:
        say(f"{name}: {note}")
    if not utterances:
        first = f"; the first: {failed[0]['reason']}" if failed else ""
        raise SertkError(f"{root} holds no file of {name}{first}. Give the corpus folder with --root: {reader.about}.")
    shas = {i: fact.sha256 for i, fact in facts.items()}
    asked = set(chosen if protocols else ())
    made = contents(name, reader, {**others, **chosen}, asked, utterances, shas, failed)
    counts, twins = _counts(reader, utterances), duplicates(utterances, recordings(utterances, shas))
    (out / "corpus.json").unlink(missing_ok=True)  # written last: without it the folder is not prepared
    write_jsonl(out / "manifest.jsonl", (one.to_json() for one in utterances))
    _write_facts(out, utterances, facts)
    _write_protocols(out / "protocols", made)
    about = {"corpus": name, "root": str(root.resolve()), "counts": counts, "failed": len(failed)}
    silent = [i for i, fact in facts.items() if fact.silent]
    write_json(out / "corpus.json", {**about, "duplicates": twins, "silent": silent, "notes": reader.notes()})
    for message in corpus_messages(name, counts, failed, twins, silent, out):
        say(message)
    return len(failed)


def _check_kept(out: Path, lists: Sequence[Path]) -> None:
    """Refuses to write over what the corpus is read from.

    Raises:
        UsageError: If a file of `out` is one of those.
    """
    made = {(out / name).resolve() for name in PREPARED}
    kept = next((path for path in lists if path.resolve() in made), None)
    if kept is not None:
        raise UsageError(f"{kept} is read, and would be written over. Give another --out, or rename the list.")


def _write_facts(out: Path, utterances: Sequence[Utterance], facts: Mapping[str, audio.Facts]) -> None:
    write_jsonl(out / "audio.jsonl", ({"schema": SCHEMA, **facts[one.id]._asdict()} for one in utterances))


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
    root: Path, utterances: Sequence[Utterance], least: float, jobs: int, old: Path
) -> tuple[list[Utterance], dict[str, audio.Facts], list[Record]]:
    """Reads every file that changed since an earlier call, whose facts are in `old`; keeps those that can be used."""
    known = audio.read_facts(old) if old.exists() else {}
    kept, facts, failed = [], {}, []
    chunks = [utterances[start : start + CHUNK] for start in range(0, len(utterances), CHUNK)]
    with ThreadPoolExecutor(jobs) as pool:
        looked = pool.map(lambda chunk: [_look(root, one, least, known.get(one.id)) for one in chunk], chunks)
        shown = track(chain.from_iterable(looked), len(utterances), "reading audio")
        for one, found in zip(utterances, shown, strict=True):
            if isinstance(found, Exception):
                said = sentence(found)
                failed.append(_failure(one.id, one.path, said if one.id in said else f"{one.id}: {said}"))
            else:
                kept.append(replace(one, duration=found.seconds))
                facts[one.id] = found
    return kept, facts, failed


def _look(root: Path, one: Utterance, least: float, old: audio.Facts | None) -> audio.Facts | Exception:
    """The facts of an utterance's audio: the old ones if the file is as it was, else those that are read now."""
    try:
        if old and old.silent is not None and (old.path, old.start, old.asked) == (one.path, one.start, one.duration):
            audio.check_unchanged(root, one, old)
            audio.check_length(old.seconds, one.id, least)
            return old
    except InputError:
        pass  # it changed: it is read again below, and if something is wrong with it, that is said there
    try:
        return audio.examine(root, one, least)
    except Exception as error:  # whatever it is, the rest is prepared
        return without_frames(error)


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


def _write_protocols(folder: Path, files: Mapping[str, Document]) -> None:
    """Writes protocol files and their pages, and removes those of earlier calls that are not among them."""
    for path in folder.glob("*.json"):
        if path.stem not in files:
            say(f"protocol {path.stem} is removed: it is of an earlier state of the corpus")
            path.unlink()
            path.with_suffix(".md").unlink(missing_ok=True)
    for name, content in files.items():
        write_json(folder / f"{name}.json", content)
        write_text(folder / f"{name}.md", page(content))
        for message in protocol_messages(name, content):
            say(message)

"""Stage 1: a corpus folder -> manifest, audio facts, audited protocols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from sertk import audio
from sertk.audit import audit, lacking
from sertk.console import say, track
from sertk.core import Corpus, InputError, Rejected, SertkError, UsageError, Utterance, nearest
from sertk.core.paths import SCHEMA, write_json, write_jsonl
from sertk.plugins import Plugins
from sertk.protocols import make, to_json


def prepare(corpus: str, root: Path, out: Path, protocols: Sequence[str], least: float, jobs: int) -> int:
    """Prepares a corpus.

    Args:
        corpus: Name of the corpus plugin.
        root: The corpus folder.
        out: data/<corpus>.
        protocols: Which to write; all of the corpus where empty.
        least: `audio.min_seconds`.
        jobs: Files read at once.

    Returns:
        Files that could not be used; they are in `failed.jsonl`.

    Raises:
        SertkError: Where the folder is not the corpus or two utterances have one id.
    """
    reader: Corpus = Plugins().make("corpus", corpus)
    for name in protocols:
        if name not in reader.protocols:
            raise UsageError(f"corpus {corpus!r} has no protocol {name!r}{nearest(name, reader.protocols)}")
    # those of an earlier call are made again too, or they would speak of a manifest that is no more
    earlier = (path.stem for path in (out / "protocols").glob("*.json"))
    chosen = sorted({*protocols, *earlier} & reader.protocols.keys()) if protocols else list(reader.protocols)
    reader.obtain(root)
    utterances, failed = _read(reader, root)
    if not utterances:
        first = f"; the first: {failed[0]['reason']}" if failed else ""
        raise SertkError(
            f"{root} holds no file of {corpus}{first}. Give the corpus folder with --root: {reader.about}."
        )
    utterances, facts, unusable = _examine(root, utterances, least, jobs, out / "audio.jsonl")
    failed += unusable
    (out / "corpus.json").unlink(missing_ok=True)  # written last: without it the folder is not prepared
    write_jsonl(out / "manifest.jsonl", (one.to_json() for one in utterances))
    write_jsonl(out / "audio.jsonl", ({"schema": SCHEMA, **facts[one.id]._asdict()} for one in utterances))
    for name in chosen:
        _write_protocol(corpus, name, reader, utterances, facts, out)
    counts = _counts(reader, utterances)
    write_json(
        out / "corpus.json", {"corpus": corpus, "root": str(root.resolve()), "counts": counts, "failed": len(failed)}
    )
    _write_failed(out, failed)
    _tell(corpus, counts, failed, out)
    return len(failed)


def _read(reader: Corpus, root: Path) -> tuple[list[Utterance], list[dict[str, Any]]]:
    utterances, failed, seen = [], [], dict[str, str]()
    for one in reader.read(root):
        if isinstance(one, Rejected):
            failed.append({"schema": SCHEMA, "id": one.path.stem, "path": str(one.path), "reason": one.reason})
        elif one.id in seen:
            raise SertkError(f"id {one.id!r} comes twice: {seen[one.id]} and {one.path}. Keep one of the two files.")
        else:
            seen[one.id] = one.path
            utterances.append(one)
    return utterances, failed


def _examine(
    root: Path, utterances: Sequence[Utterance], least: float, jobs: int, old: Path
) -> tuple[list[Utterance], dict[str, audio.Facts], list[dict[str, Any]]]:
    """Reads every file once, but for those that are as they were at an earlier run."""
    known = audio.read_facts(old) if old.exists() else {}

    def look(one: Utterance) -> audio.Facts | InputError:
        try:
            old = known.get(one.id)
            if old and (old.path, old.start, old.asked) == (one.path, one.start, one.duration):
                audio.check_unchanged(root, one, old)
                audio.check_length(old.seconds, one.id, least)
                return old
        except InputError:
            pass  # changed since: it is read anew, and what is wrong with it is said then
        try:
            return audio.examine(root, one, least)
        except InputError as error:
            return error

    kept, facts, failed = [], {}, []
    with ThreadPoolExecutor(jobs) as pool:
        for one, found in zip(
            utterances, track(pool.map(look, utterances), len(utterances), "reading audio"), strict=True
        ):
            if isinstance(found, InputError):
                failed.append({"schema": SCHEMA, "id": one.id, "path": one.path, "reason": str(found)})
            else:
                kept.append(replace(one, duration=found.seconds))
                facts[one.id] = found
    return kept, facts, failed


def _write_protocol(
    corpus: str, name: str, reader: Corpus, utterances: Sequence[Utterance], facts: Mapping[str, audio.Facts], out: Path
) -> None:
    folds, dropped, absent = make(corpus, name, reader.protocols[name], utterances)
    by_id = {one.id: one for one in utterances}
    report = audit(folds, by_id, {i: fact.sha256 for i, fact in facts.items()})
    content = {
        **to_json(folds),
        "about": reader.protocols[name].about,
        "dropped": dropped,
        "absent": absent,
        "audit": report,
    }
    write_json(out / "protocols" / f"{name}.json", content)
    say(
        f"protocol {name}: {len(folds.classes)} classes, {len(folds.folds)} folds, {len(folds.labels)} utterances "
        f"kept, {len(dropped)} dropped, {folds.stamp}, hash {folds.hash}"
    )
    if absent:
        say(f"  {len(absent)} that the folds name are not here, the first: {absent[0]['id']} ({absent[0]['reason']})")
    for part, classes, names in lacking(report):
        refused = ": not to be trained" if part == "train" else ""
        say(f"  no {', '.join(classes)} in {part} of {_some(names, list(report))}{refused}")


def _some(folds: Sequence[str], every: Sequence[str]) -> str:
    """Folds in few words: those, or any but the others."""
    others = [name for name in every if name not in folds]
    if len(folds) == 1:
        return f"fold {folds[0]}"
    if len(others) < len(folds):
        return f"any fold but {', '.join(others)}" if others else "any fold"
    return f"folds {', '.join(folds)}"


def _counts(reader: Corpus, utterances: Sequence[Utterance]) -> dict[str, dict[str, int]]:
    here = Counter(one.label or "unlabelled" for one in utterances)
    labels = sorted({*here, *reader.published})
    return {label: {"here": here[label], "published": reader.published.get(label, 0)} for label in labels}


def _write_failed(out: Path, failed: Sequence[Mapping[str, Any]]) -> None:
    path = out / "failed.jsonl"
    if failed:
        write_jsonl(path, failed)
    else:
        path.unlink(missing_ok=True)


def _tell(corpus: str, counts: Mapping[str, Mapping[str, int]], failed: Sequence[Mapping[str, Any]], out: Path) -> None:
    here, published = (sum(count[which] for count in counts.values()) for which in ("here", "published"))
    say(f"{corpus}: {here} utterances here" + (f" of {published} published" if published else ""))
    for label, count in counts.items():
        if published and count["here"] != count["published"]:
            say(f"  {label}: {_compared(count['here'], count['published'])}")
    if failed:
        say(f"{len(failed)} files cannot be used, see {out / 'failed.jsonl'}; the first: {failed[0]['reason']}")


def _compared(here: int, published: int) -> str:
    odd = here - published
    return f"{here} of {published}, " + (f"{-odd} missing" if odd < 0 else f"{odd} more than published")

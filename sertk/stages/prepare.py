"""Stage 1: a corpus folder -> manifest, audio facts, audited protocols."""

from __future__ import annotations

import contextlib
import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from sertk.console.progress import say, track
from sertk.core import Corpus, InputError, Protocol, Rejected, SertkError, UsageError, Utterance, nearest
from sertk.core.files import SCHEMA, write_json, write_jsonl, write_text
from sertk.corpus import audio
from sertk.corpus.audit import audit, duplicates, lacking, recordings, shares, stamped, table, undeclared
from sertk.corpus.protocols import YAML, Made, expected, from_file, make, to_json
from sertk.plugins import Plugins
from sertk.settings.merge import component_of

Chosen = tuple[Protocol, str]


class OverlapError(SertkError):
    """Parts of a fold share what their protocol does not declare."""


def prepare(corpus: str, root: Path, out: Path | None, protocols: Sequence[str], least: float, jobs: int) -> int:
    """Prepares a corpus.

    Args:
        corpus: The corpus plugin, `NAME[:SETTING=VALUE,...]`.
        root: The corpus folder.
        out: data/<corpus> where None.
        protocols: Which to write, by name or as files that state them; all of the corpus where empty.
        least: `audio.min_seconds`.
        jobs: Files read at once.

    Returns:
        Files that could not be used; they are in `failed.jsonl`.

    Raises:
        SertkError: Where the folder is not the corpus, two utterances have one id, or parts of a protocol share what it
            does not declare.
    """
    component = component_of(corpus)
    reader: Corpus = Plugins().make("corpus", component)
    name = title(reader, component["name"])
    out = out or Path("data") / name
    chosen, earlier = _chosen(name, reader, protocols, out / "protocols")
    reader.obtain(root)
    utterances, failed = _read(reader, root)
    utterances, facts, unusable = _examine(root, utterances, least, jobs, out / "audio.jsonl")
    failed += unusable
    # told before the protocols: what is missing may be why one cannot be made
    _write_failed(out, failed)
    for note in [*reader.notes(), *_cases(utterances)]:
        say(f"{name}: {note}")
    if not utterances:
        first = f"; the first: {failed[0]['reason']}" if failed else ""
        raise SertkError(f"{root} holds no file of {name}{first}. Give the corpus folder with --root: {reader.about}.")
    shas = {i: fact.sha256 for i, fact in facts.items()}
    contents = _contents(
        name, reader, {**earlier, **chosen}, utterances, shas, failed, set(chosen if protocols else ())
    )
    counts, twins = _counts(reader, utterances), duplicates(utterances, recordings(utterances, shas))
    (out / "corpus.json").unlink(missing_ok=True)  # written last: without it the folder is not prepared
    write_jsonl(out / "manifest.jsonl", (one.to_json() for one in utterances))
    write_jsonl(out / "audio.jsonl", ({"schema": SCHEMA, **facts[one.id]._asdict()} for one in utterances))
    _write_protocols(out / "protocols", contents)
    about = {"corpus": name, "root": str(root.resolve()), "counts": counts, "failed": len(failed)}
    write_json(out / "corpus.json", {**about, "duplicates": twins, "notes": reader.notes()})
    _tell(name, counts, failed, twins, out)
    return len(failed)


def title(reader: Corpus, plugin: str) -> str:
    """What a corpus is called.

    Raises:
        UsageError: Where its title is no name of a folder.
    """
    name = reader.title or plugin
    if name != Path(name).name or name in (".", ".."):
        raise UsageError(f"title {name!r} names the folder of the corpus: it holds no '/' and is not '.' or '..'.")
    return name


def _chosen(
    corpus: str, reader: Corpus, asked: Sequence[str], folder: Path
) -> tuple[dict[str, Chosen], dict[str, Chosen]]:
    """The protocols asked for, by name, each with the file that states it; and those of earlier calls.

    The earlier ones are made again too, or they would speak of a manifest that is no more.
    """
    chosen = {name: (protocol, "") for name, protocol in reader.protocols.items()} if not asked else {}
    for word in asked:
        name, found = _named(corpus, reader, word)
        if chosen.setdefault(name, found) != found:
            raise UsageError(f"two files state a protocol {name!r}: {chosen[name][1]} and {found[1]}. Rename one.")
    earlier = {}
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(SertkError, ValueError):  # it is removed, and told
            old = json.loads(path.read_text(encoding="utf-8"))
            name, found = _named(corpus, reader, old.get("file") or old["name"])
            earlier[name] = found
    return chosen, {name: found for name, found in earlier.items() if name not in chosen}


def _named(corpus: str, reader: Corpus, word: str) -> tuple[str, Chosen]:
    """A protocol by its name, or by the file that states it."""
    path = Path(word)
    if path.suffix in YAML:
        if path.stem in reader.protocols:
            raise UsageError(f"corpus {corpus!r} has a protocol {path.stem!r} of its own; give {path} another name.")
        return path.stem, (from_file(path), str(path.resolve()))
    if word not in reader.protocols:
        raise UsageError(
            f"corpus {corpus!r} has no protocol {word!r}{nearest(word, reader.protocols)}, or a .yaml file"
        )
    return word, (reader.protocols[word], "")


def _read(reader: Corpus, root: Path) -> tuple[list[Utterance], list[dict[str, Any]]]:
    utterances, failed, twice = [], [], list[tuple[str, str, str]]()
    seen: dict[str, str] = {}
    for one in reader.read(root):
        if isinstance(one, Rejected):
            name = one.id or one.path.stem
            failed.append({"schema": SCHEMA, "id": name, "path": str(one.path), "reason": one.reason})
        elif one.id in seen:
            twice.append((one.id, seen[one.id], one.path))
        else:
            seen[one.id] = one.path
            # composed letters, so that a name is one whatever system wrote it
            utterances.append(replace(one, speaker=unicodedata.normalize("NFC", one.speaker)))
    if twice:
        name, first, second = twice[0]
        whole = f" {len(twice)} ids do: is the corpus there twice? Give one of the two folders with --root."
        raise SertkError(
            f"id {name!r} comes twice: {first} and {second}. Keep one of the two files.{whole * (len(twice) > 1)}"
        )
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
    chunks = [utterances[start : start + 64] for start in range(0, len(utterances), 64)]  # a task each costs more
    with ThreadPoolExecutor(jobs) as pool:
        looked = chain.from_iterable(pool.map(lambda chunk: [look(one) for one in chunk], chunks))
        for one, found in zip(utterances, track(looked, len(utterances), "reading audio"), strict=True):
            if isinstance(found, InputError):
                failed.append({"schema": SCHEMA, "id": one.id, "path": one.path, "reason": str(found)})
            else:
                kept.append(replace(one, duration=found.seconds))
                facts[one.id] = found
    return kept, facts, failed


def _contents(
    corpus: str,
    reader: Corpus,
    chosen: Mapping[str, Chosen],
    utterances: Sequence[Utterance],
    audio: Mapping[str, str],
    failed: Sequence[Mapping[str, Any]],
    asked: Collection[str],
) -> dict[str, dict[str, Any]]:
    """The protocol files to be, by name. One that was not asked for is left out where it cannot be made.

    Raises:
        SertkError: Where one that was asked for cannot be made, or none can; where parts share what is not declared.
    """
    contents, reasons = {}, []
    for name, (protocol, file) in chosen.items():
        try:
            made = make(corpus, name, protocol, utterances)
        except SertkError as error:
            if name in asked:
                raise
            reasons.append(f"protocol {name} is left out: {error}")
            continue
        content = _content(made, protocol, file, expected(protocol, reader.published), utterances, audio)
        lost = [{"id": one["id"], "reason": one["reason"]} for one in failed]
        contents[name] = {**content, "dropped": [*lost, *content["dropped"]]}
    if not contents:
        raise SertkError("\n".join(reasons))
    for reason in reasons:
        say(reason)
    return contents


def _content(
    made: Made,
    protocol: Protocol,
    file: str,
    published: Mapping[str, int],
    utterances: Sequence[Utterance],
    audio: Mapping[str, str],
) -> dict[str, Any]:
    report = audit(made.folds, {one.id: one for one in utterances}, recordings(utterances, audio))
    found = undeclared(report, protocol.overlaps)
    if found:
        raise OverlapError(
            f"protocol {made.folds.name!r} of {made.folds.corpus} does not declare what its parts share: "
            f"{'; '.join(found)}. Mend the corpus folder, choose another "
            "with --protocol, or declare it under `overlaps` in a protocol of your own."
        )
    folds = replace(made.folds, shares=shares(report))
    content = {**to_json(folds), "about": protocol.about, "file": file, "expected": dict(published)}
    return {**content, "dropped": made.dropped, "absent": made.absent, "audit": report}


def _write_protocols(folder: Path, contents: Mapping[str, Mapping[str, Any]]) -> None:
    for path in folder.glob("*.json"):
        if path.stem not in contents:
            say(f"protocol {path.stem} is removed: it is of an earlier state of the corpus")
            path.unlink()
            path.with_suffix(".md").unlink(missing_ok=True)
    for name, content in contents.items():
        write_json(folder / f"{name}.json", content)
        write_text(folder / f"{name}.md", table(content))
        _tell_protocol(name, content)


def _tell_protocol(name: str, content: Mapping[str, Any]) -> None:
    say(
        f"protocol {name}: {len(content['classes'])} classes, {_folds(len(content['folds']))}, "
        f"{len(content['labels'])} utterances kept, {len(content['dropped'])} dropped, {stamped(content)}, "
        f"hash {content['hash']}"
    )
    here = Counter(content["labels"].values())
    for label, published in content["expected"].items():
        if here[label] != published:
            say(f"  {label}: {_compared(here[label], published)}")
    absent = content["absent"]
    if absent:
        say(f"  {len(absent)} that the folds name are not here, the first: {absent[0]['id']} ({absent[0]['reason']})")
    for part, classes, names in lacking(content["audit"]):
        refused = ": not to be trained" if part == "train" else ""
        say(f"  no {', '.join(classes)} in {part} of {_some(names, list(content['audit']))}{refused}")


def _folds(count: int) -> str:
    return f"{count} fold{'s' * (count > 1)}"


def _cases(utterances: Sequence[Utterance]) -> list[str]:
    """Speakers and labels whose names differ in case alone: they count as different."""
    found = []
    for what in ("speaker", "label"):
        names: dict[str, set[str]] = {}
        for one in utterances:
            name = getattr(one, what) or ""
            names.setdefault(name.casefold(), set()).add(name)
        found += [f"the {what}s {', '.join(sorted(own))} count as different" for own in names.values() if len(own) > 1]
    return found


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


def _tell(
    corpus: str,
    counts: Mapping[str, Mapping[str, int]],
    failed: Sequence[Mapping[str, Any]],
    twins: Sequence[Sequence[str]],
    out: Path,
) -> None:
    here, published = (sum(count[which] for count in counts.values()) for which in ("here", "published"))
    say(f"{corpus}: {here} utterances here" + (f" of {published} published" if published else ""))
    for label, count in counts.items():
        if published and count["here"] != count["published"]:
            say(f"  {label}: {_compared(count['here'], count['published'])}")
    if twins:
        more = f", and {len(twins) - 1} more such groups, see corpus.json" if len(twins) > 1 else ""
        say(f"  the same recording under several names: {' = '.join(twins[0])}{more}")
    if failed:
        say(f"{len(failed)} files cannot be used, see {out / 'failed.jsonl'}; the first: {failed[0]['reason']}")


def _compared(here: int, published: int) -> str:
    odd = here - published
    return f"{here} of {published}, " + (f"{-odd} missing" if odd < 0 else f"{odd} more than published")

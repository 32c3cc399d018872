"""The audit of fold lists: a prepared corpus's own, or anybody's."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from sertk.console.progress import say
from sertk.core import PARTS, SertkError, UsageError, nearest
from sertk.core.files import read_json, read_lines, write_json
from sertk.corpus.audit import audit, shares, table
from sertk.corpus.folding import Fold, read_table
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds, to_json

MEND = "Run `sertk prepare` first: it reads the speakers, sessions, texts and audio that an audit compares."
NAMES = ("id", "utterance", "utt", "key", "wav", "path", "file")  # where a JSON object has its utterance
AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".aiff", ".sph")
FORMS = (
    "Give data/NAME; or with --data a TSV or CSV with the column utterance and test_folds or part; or lists as "
    "train=FILE dev=FILE test=FILE."
)


def audit_lists(lists: Sequence[str], data: Path | None, protocols: Sequence[str], out: Path | None) -> int:
    """Prints the audit of folds as Markdown.

    Args:
        lists: Prepared corpora; or a table of folds; or `train=FILE`, `dev=FILE` and `test=FILE`, one fold.
        data: The prepared corpus that the lists are of.
        protocols: Which of a prepared corpus; all where empty.
        out: Where the audit of lists goes as JSON.

    Returns:
        Ids of the lists that the prepared corpus does not have.

    Raises:
        SertkError: Where a list cannot be read, or none of it is in the corpus.
    """
    if data is None:
        if out:
            raise UsageError("--out goes with --data: a prepared corpus has its audits as JSON in protocols/ already.")
        for text in lists:
            _prepared(Path(text), protocols)
        return 0
    corpus = Data(data)
    name, folds = _folds(lists)
    find, unknown, matched = _finder(corpus), list[str](), dict[str, Fold]()
    for fold, parts in folds.items():
        found = [[(text, find(text)) for text in part] for part in parts]
        unknown += [text for part in found for text, i in part if i is None]
        matched[fold] = Fold(*(tuple(dict.fromkeys(i for _, i in part if i is not None)) for part in found))
        for part, given, kept in zip(PARTS, parts, matched[fold], strict=True):
            if given and not kept:
                raise SertkError(
                    f"none of the {len(given)} utterances of {part} in {name} is in {data}, the first {given[0]!r}. "
                    f"{FORMS}"
                )
            if len(set(given)) < len(given):
                say(f"{len(given) - len(set(given))} utterances come twice in {part} of {name}; they count once")
    content = _content(corpus, name, matched)
    if out:
        write_json(out, content)
    sys.stdout.write(table(content))
    if unknown:
        missing = dict.fromkeys(unknown)
        say(f"{len(missing)} utterances of the lists are not in {data}, the first {next(iter(missing))!r}")
    return len(unknown)


def _prepared(folder: Path, protocols: Sequence[str]) -> None:
    if not (folder / "corpus.json").is_file():
        raise SertkError(f"{folder} is no prepared corpus. {FORMS} {MEND}")
    known = {path.stem: path for path in sorted((folder / "protocols").glob("*.json"))}
    for name in protocols or known:
        if name not in known:
            raise UsageError(f"{folder} has no protocol {name!r}{nearest(name, known)}")
        sys.stdout.write(table(read_json(known[name], MEND)) + "\n")


def _folds(lists: Sequence[str]) -> tuple[str, dict[str, Fold]]:
    """What the lists are called, and the ids of each part as they are written there."""
    named = dict(text.partition("=")[::2] for text in lists)
    if set(named) <= set(PARTS) and len(named) == len(lists):
        parts = [_ids(Path(named[part])) if part in named else () for part in PARTS]
        return Path(lists[-1].partition("=")[2]).stem, {"1": Fold(*parts)}
    if len(lists) != 1:
        raise UsageError(f"lists {' '.join(lists)!r} are of no known form. {FORMS}")
    published = read_table(Path(lists[0]))
    found = {}
    for name, ids in published.folds.items():
        tested = set(ids["test"])
        train = ids["train"] if published.whole else [i for i in published.ids if i not in tested]
        found[name] = Fold(tuple(train), ids["dev"], ids["test"])
    return Path(lists[0]).stem, found


def _ids(path: Path) -> tuple[str, ...]:
    """The utterances of a list: one a line (an id, a path, a Kaldi or a JSON line), or a JSON object by id."""
    lines = read_lines(path, f"It is a list of utterances. {FORMS}")
    lines[:1] = [line.removeprefix("\ufeff") for line in lines[:1]]
    if path.suffix == ".json":
        content = _parsed("\n".join(lines), str(path))
        if not isinstance(content, Mapping | list):
            raise SertkError(f"{path} holds a {type(content).__name__}, no utterances. {FORMS}")
        return tuple(content if isinstance(content, Mapping) else [_named(one, str(path)) for one in content])
    found = []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("{"):
            found.append(_named(_parsed(line, f"{path}:{number}"), f"{path}:{number}"))
        elif line.strip():
            found.append(line.split("\t")[0].strip() if "\t" in line else line.split()[0])
    return tuple(found)


def _parsed(text: str, where: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SertkError(f"{where} is not JSON ({error}). {FORMS}") from None


def _named(one: object, where: str) -> str:
    name = next((one[word] for word in NAMES if word in one), None) if isinstance(one, Mapping) else one
    if not isinstance(name, str):
        raise SertkError(f"{where}: the object has none of {', '.join(NAMES)}. {FORMS}")
    return name


def _finder(corpus: Data) -> Callable[[str], str | None]:
    """Finds an utterance by what lists call it: its id, its path, or the end of either where only one ends so."""
    names: dict[str, set[str]] = {}
    for i, one in corpus.utterances.items():
        for name in {i, one.path, str(PurePosixPath(one.path).with_suffix(""))}:
            parts = name.split("/")
            for start in range(len(parts)):
                names.setdefault("/".join(parts[start:]), set()).add(i)

    def find(text: str) -> str | None:
        if text in corpus.utterances:
            return text
        path = PurePosixPath(text.replace("\\", "/"))
        for start in range(len(path.parts)):  # the longest end that is known decides
            end = PurePosixPath(*path.parts[start:])
            for name in (str(end), str(end.with_suffix("")) if end.suffix.lower() in AUDIO else ""):
                found = names.get(name, set())
                if len(found) > 1:
                    raise SertkError(
                        f"{text!r} may be {' or '.join(sorted(found)[:2])}. Write the ids of the manifest."
                    )
                if found:
                    return next(iter(found))
        return None

    return find


def _content(corpus: Data, name: str, parts: Mapping[str, Fold]) -> dict[str, Any]:
    used = {i for fold in parts.values() for part in fold for i in part}
    labels = {i: corpus.utterances[i].label or "unlabelled" for i in sorted(used)}
    folds = Folds(corpus.corpus, name, tuple(sorted(set(labels.values()))), labels, parts)
    report = audit(folds, corpus.utterances, {i: fact.sha256 for i, fact in corpus.facts.items()})
    own = to_json(replace(folds, shares=shares(report)))
    unused = [{"id": i, "reason": "in no list"} for i in corpus.utterances if i not in used]
    return {**own, "about": f"Lists {name}.", "expected": {}, "dropped": unused, "audit": report}

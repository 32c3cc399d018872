"""The audit of fold lists: a prepared corpus's own, or anybody's."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from sertk.audit import audit, shares, table
from sertk.console import say
from sertk.core import PARTS, SertkError, UsageError, nearest
from sertk.core.paths import read_json, read_lines, write_json
from sertk.data import Data
from sertk.folding import Fold, read_table
from sertk.protocols import Folds, to_json

MEND = "Run `sertk prepare` first: it reads the speakers, sessions, texts and audio that an audit compares."
NAMES = ("id", "utterance", "utt", "key", "wav", "path", "file")  # where a JSON object has its utterance
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
    by_name = _by_name(corpus)
    matched = {
        fold: Fold(*(tuple(by_name[i] for i in part if i in by_name) for part in parts))
        for fold, parts in folds.items()
    }
    unknown = [i for parts in folds.values() for part in parts for i in part if i not in by_name]
    if not any(map(any, matched.values())):
        raise SertkError(f"none of the {len(unknown)} utterances of {name} is in {data}, the first {unknown[0]!r}.")
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
        found[name] = Fold(_stems(train), _stems(ids["dev"]), _stems(ids["test"]))
    return Path(lists[0]).stem, found


def _ids(path: Path) -> tuple[str, ...]:
    """The utterances of a list: one a line (an id, a path, a Kaldi or a JSON line), or a JSON object by id."""
    lines = read_lines(path, f"It is a list of utterances. {FORMS}")
    if path.suffix == ".json":
        content = _parsed("\n".join(lines), str(path))
        return _stems(content if isinstance(content, Mapping) else [_named(one, str(path)) for one in content])
    found = []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("{"):
            found.append(_named(_parsed(line, f"{path}:{number}"), f"{path}:{number}"))
        elif line.strip():
            found.append(line.split("\t")[0].strip() if "\t" in line else line.split()[0])
    return _stems(found)


def _parsed(text: str, where: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SertkError(f"{where} is not JSON ({error}). {FORMS}") from None


def _named(one: Mapping[str, Any], where: str) -> str:
    name = next((one[word] for word in NAMES if word in one), None)
    if not isinstance(name, str):
        raise SertkError(f"{where}: the object has none of {', '.join(NAMES)}. {FORMS}")
    return name


def _stems(names: Iterable[str]) -> tuple[str, ...]:
    """Ids, of paths too: their names without folders and a suffix of audio."""
    audio = (".wav", ".flac", ".mp3", ".ogg", ".aiff", ".sph")
    paths = (PurePosixPath(name.replace("\\", "/")) for name in names)
    return tuple(path.stem if path.suffix.lower() in audio else path.name for path in paths)


def _by_name(corpus: Data) -> dict[str, str]:
    """Ids of the corpus by the names that lists give them: the id, or its file's."""
    files = {PurePosixPath(one.path).stem: i for i, one in corpus.utterances.items()}
    return {**files, **{PurePosixPath(i).name: i for i in corpus.utterances}, **{i: i for i in corpus.utterances}}


def _content(corpus: Data, name: str, parts: Mapping[str, Fold]) -> dict[str, Any]:
    used = {i for fold in parts.values() for part in fold for i in part}
    labels = {i: corpus.utterances[i].label or "unlabelled" for i in sorted(used)}
    folds = Folds(corpus.corpus, name, tuple(sorted(set(labels.values()))), labels, parts)
    report = audit(folds, corpus.utterances, {i: fact.sha256 for i, fact in corpus.facts.items()})
    own = to_json(replace(folds, shares=shares(report)))
    unused = [{"id": i, "reason": "in no list"} for i in corpus.utterances if i not in used]
    return {**own, "about": f"Lists {name}.", "expected": {}, "dropped": unused, "audit": report}

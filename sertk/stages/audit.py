"""The audit of fold lists: a prepared corpus's own, or anybody's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sertk.console.progress import say
from sertk.core import PARTS, SertkError, UsageError, nearest
from sertk.core.files import Record, read_json, write_json
from sertk.corpus.audit import audit_folds, shares
from sertk.corpus.audit_page import page
from sertk.corpus.fold_lists import FORMS, finder, read_lists
from sertk.corpus.folding import Fold
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds, to_json

MEND = "Run `sertk prepare` first: it reads the speakers, sessions, texts and audio that an audit compares."


def audit_lists(lists: Sequence[str], data: Path | None, protocols: Sequence[str], out: Path | None) -> int:
    """Prints the audit of folds as Markdown.

    Args:
        lists: Prepared corpora; or a table of folds; or `train=FILE`, `dev=FILE` and `test=FILE`, one fold.
        data: The prepared corpus that the lists are of.
        protocols: Which of a prepared corpus; if empty, all.
        out: Where the audit of lists goes as JSON.

    Returns:
        Ids of the lists that the prepared corpus does not have.

    Raises:
        SertkError: If a list cannot be read, or none of it is in the corpus.
        UsageError: If the lists have no known form, or there is no such protocol.
    """
    if data is None:
        if out:
            raise UsageError("--out goes with --data: a prepared corpus has its audits as JSON in protocols/ already.")
        for text in lists:
            _print_prepared(Path(text), protocols)
        return 0
    return _print_lists(Data(data), lists, out)


def _print_lists(corpus: Data, lists: Sequence[str], out: Path | None) -> int:
    """Prints the audit of lists of a prepared corpus; gives the number of ids that it does not have."""
    name, folds = read_lists(lists)
    find, unknown, matched = finder(corpus), list[str](), dict[str, Fold]()
    for fold, given in folds.items():
        matched[fold], lost = _match(given, find)
        unknown += lost
        _check_matched(corpus, name, given, matched[fold])
    content = _content(corpus, name, matched)
    if out:
        write_json(out, content)
    sys.stdout.write(page(content))
    if unknown:
        missing = len(set(unknown))
        say(f"{missing} utterances of the lists are not in {corpus.folder}, the first {unknown[0]!r}")
    return len(unknown)


def _match(given: Fold, find: Callable[[str], str | None]) -> tuple[Fold, list[str]]:
    """The ids of a fold as the corpus has them, and those that it does not have."""
    found = [[(text, find(text)) for text in part] for part in given]
    ids = (tuple(dict.fromkeys(i for _, i in part if i is not None)) for part in found)
    return Fold(*ids), [text for part in found for text, i in part if i is None]


def _check_matched(corpus: Data, name: str, given: Fold, matched: Fold) -> None:
    """Refuses a part of which nothing is in the corpus, and says how many come twice in a part."""
    for part, texts, ids in zip(PARTS, given, matched, strict=True):
        if texts and not ids:
            raise SertkError(
                f"none of the {len(texts)} utterances of {part} in {name} is in {corpus.folder}, the first "
                f"{texts[0]!r}. {FORMS}"
            )
        twice = len(texts) - len(set(texts))
        if twice:
            say(f"{twice} utterances come twice in {part} of {name}; they count once")


def _print_prepared(folder: Path, protocols: Sequence[str]) -> None:
    """Prints the audits that `prepare` made."""
    if not (folder / "corpus.json").is_file():
        raise SertkError(f"{folder} is no prepared corpus. {FORMS} {MEND}")
    known = {path.stem: path for path in sorted((folder / "protocols").glob("*.json"))}
    for name in protocols or known:
        if name not in known:
            raise UsageError(f"{folder} has no protocol {name!r}{nearest(name, known)}")
        sys.stdout.write(page(read_json(known[name], MEND)) + "\n")


def _content(corpus: Data, name: str, parts: Mapping[str, Fold]) -> Record:
    """The audit of folds as the content of a protocol file."""
    used = {i for fold in parts.values() for part in fold for i in part}
    labels = {i: corpus.utterances[i].label or "unlabelled" for i in sorted(used)}
    folds = Folds(corpus.corpus, name, tuple(sorted(set(labels.values()))), labels, parts)
    report = audit_folds(folds, corpus.utterances, {i: fact.sha256 for i, fact in corpus.facts.items()})
    own = to_json(replace(folds, shares=shares(report)))
    unused = [{"id": i, "reason": "in no list"} for i in corpus.utterances if i not in used]
    return {**own, "about": f"Lists {name}.", "expected": {}, "dropped": unused, "audit": report}

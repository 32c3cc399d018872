"""Anybody's lists of folds: read in several forms, and matched to a prepared corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sertk.core import PARTS, SertkError, UsageError
from sertk.core.files import parse_json, read_lines
from sertk.corpus.folding import Fold, read_table
from sertk.corpus.prepared import Data

NAMES = ("id", "utterance", "utt", "key", "wav", "path", "file")  # where a JSON object has its utterance
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".aiff", ".sph")  # that a list may write and the manifest lack
FORMS = (
    "Give data/NAME; or with --data a TSV or CSV with the column utterance and test_folds or part; or lists as "
    "train=FILE dev=FILE test=FILE."
)


def read_lists(lists: Sequence[str]) -> tuple[str, dict[str, Fold]]:
    """Reads lists of folds.

    Args:
        lists: A table of folds; or `train=FILE`, `dev=FILE` and `test=FILE`, one fold.

    Returns:
        What the lists are called, and by fold the utterances of each part as they are written there.

    Raises:
        SertkError: If a list cannot be read.
        UsageError: If the lists have no known form.
    """
    files = dict(text.partition("=")[::2] for text in lists)
    if set(files) <= set(PARTS) and len(files) == len(lists):
        parts = [_read_list(Path(files[part])) if part in files else () for part in PARTS]
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


def _read_list(path: Path) -> tuple[str, ...]:
    """The utterances of a list: one a line (an id, a path, a Kaldi or a JSON line), or a JSON object by id."""
    lines = read_lines(path, f"It is a list of utterances. {FORMS}")
    lines[:1] = [line.removeprefix("\ufeff") for line in lines[:1]]
    if path.suffix == ".json":
        return _ids_of_json("\n".join(lines), str(path))
    found = []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("{"):
            found.append(_id_of(_parsed(line, f"{path}:{number}"), f"{path}:{number}"))
        elif line.strip():
            found.append(line.split("\t")[0].strip() if "\t" in line else line.split()[0])
    return tuple(found)


def _ids_of_json(text: str, where: str) -> tuple[str, ...]:
    content = _parsed(text, where)
    if not isinstance(content, Mapping | list):
        raise SertkError(f"{where} holds a {type(content).__name__}, no utterances. {FORMS}")
    return tuple(content if isinstance(content, Mapping) else [_id_of(one, where) for one in content])


def _parsed(text: str, where: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return parse_json(text)
    except ValueError as error:
        raise SertkError(f"{where} is not JSON ({error}). {FORMS}") from None


def _id_of(one: object, where: str) -> str:
    """The utterance that a JSON value names: a text, or an object with one of NAMES."""
    name = next((one[word] for word in NAMES if word in one), None) if isinstance(one, Mapping) else one
    if not isinstance(name, str):
        raise SertkError(f"{where}: the object has none of {', '.join(NAMES)}. {FORMS}")
    return name


def finder(corpus: Data) -> Callable[[str], str | None]:
    """Makes a function that gives the id of an utterance from what a list calls it, or None if there is none.

    A list may have the id, the path, or the end of either if only one utterance has that end. The function raises
    SertkError if several have it.

    Args:
        corpus: Whose utterances are looked for.
    """
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
            for name in (str(end), str(end.with_suffix("")) if end.suffix.lower() in SUFFIXES else ""):
                found = names.get(name, set())
                if len(found) > 1:
                    raise SertkError(
                        f"{text!r} may be {' or '.join(sorted(found)[:2])}. Write the ids of the manifest."
                    )
                if found:
                    return next(iter(found))
        return None

    return find

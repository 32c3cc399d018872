"""Score lines made into the scores that metrics read."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sertk.core import InputError, Scores, SertkError
from sertk.core.files import Document, read_jsonl
from sertk.core.forms import Form
from sertk.core.rows import Coded, Texts, first_twice
from sertk.core.scores import Column, Labels, Later

SCORE = "Run `sertk score RUN/model DATA --out RUN/scores.jsonl` again (of a recipe: --stage score --force)."
LINE = Form(
    {
        **{"id": str, "label": str | None, "speaker": str | None, "decision": str},
        **{"posterior": list[float], "logits": list[float]},
    },
    {"seconds": float, **dict.fromkeys(("gender", "session", "intensity"), str | None), "votes": Mapping[str, float]},
)
"""A score line; one without "speaker" is of an older sertk, and statistics need it."""


class _Columns:
    """Score lines as they come, without posterior and logits, in numbers: there may be millions.

    Args:
        path: Of the lines.
        classes: C names.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self._path, self._state, self._classes = path, _state(path), tuple(classes)
        self._place = {name: number for number, name in enumerate(classes)}
        self._ids, self._label, self._decision, self._seconds = Texts(), array("h"), array("q"), array("d")
        self._who = {word: Coded[str | None]() for word in ("speaker", "gender", "session", "intensity")}
        self._votes = array("f")  # nothing until a line has votes

    def add(self, line: Document) -> None:
        """Takes a line whose label and decision are classes; what an older one does not say is unknown."""
        self._ids.append(line["id"])
        self._label.append(self._place[line["label"]])
        self._decision.append(self._place[line["decision"]])
        self._seconds.append(line.get("seconds", math.nan))
        for word, column in self._who.items():
            column.append(line.get(word))
        votes, missing = line.get("votes", {}), (len(self._ids) - 1) * len(self._classes) - len(self._votes)
        if votes or self._votes:
            self._votes.frombytes(bytes(self._votes.itemsize * missing))  # zeros of the lines before
            self._votes.extend(votes.get(name, 0.0) for name in self._classes)

    def scores(self) -> Scores:
        """The scores of the lines, in their order."""
        return Scores(
            ids=self._ids,
            classes=self._classes,
            target=Labels(_tensor(self._label), len(self._classes)),
            prediction=Later(self._read),
            decision=_tensor(self._decision),
            **self._who,
            seconds=_tensor(self._seconds),
            votes=_tensor(self._votes).view(-1, len(self._classes)) if self._votes else None,
        )

    def _read(self, name: Column) -> Tensor:
        """(N, C) posterior or logits, read once more.

        Raises:
            SertkError: If the file has changed meanwhile.
        """
        values = array("d")
        for _, line in read_jsonl(self._path, SCORE):
            if line["label"] in self._place:
                values.extend(line[name])
        if _state(self._path) != self._state:
            raise SertkError(f"{self._path} changed while it was read. Run the command again.")
        return _tensor(values).view(-1, len(self._classes))


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None if it is missing; the error comes when it is read."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def _tensor(values: array[int] | array[float]) -> Tensor:
    return torch.from_numpy(np.asarray(values))


def read_scores(path: Path, classes: Sequence[str]) -> Scores:
    """The scores of a run; as in its metrics.json, only the lines whose label is a class of the bundle.

    Args:
        path: scores.jsonl.
        classes: Of the bundle.

    Raises:
        SertkError: If the file is missing.
        InputError: If a line lacks something, has another number of classes, or an id comes twice.
    """
    return read_counted(path, classes)[0]


def read_counted(path: Path, classes: Sequence[str]) -> tuple[Scores, dict[str, int]]:
    """What `read_scores` gives, and how many lines there are of each other label."""
    columns, others, ids = _Columns(path, classes), Counter[str](), array("q")
    for where, line in read_jsonl(path, SCORE, LINE):
        _check(line, classes, where)
        ids.append(hash(line["id"]))
        if line["label"] in classes:
            columns.add(line)
        else:
            others[str(line["label"])] += 1
    _check_ids(path, ids)
    return columns.scores(), dict(others)


def _check(line: Document, classes: Sequence[str], where: str) -> None:
    for word in ("posterior", "logits"):
        if len(line[word]) != len(classes):
            raise InputError(f"{where}: {word} has {len(line[word])} values for {len(classes)} classes. {SCORE}")
    if line["decision"] not in classes:
        raise InputError(f"{where}: decision {line['decision']!r} is not one of {', '.join(classes)}. {SCORE}")


def _check_ids(path: Path, hashes: array[int]) -> None:
    found = first_twice(hashes, lambda: ((where, line["id"]) for where, line in read_jsonl(path, SCORE)))
    if found:
        raise InputError(
            f"{found[0]}: id {found[1]!r} comes twice, as where shards that overlap are put together. {SCORE}"
        )

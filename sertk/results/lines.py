"""Score lines made into the scores that metrics read."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sertk.core import InputError, Prediction, Scores, Target
from sertk.core.files import Document, read_jsonl
from sertk.core.forms import Form

SCORE = "Run `sertk score RUN/model DATA --out RUN/scores.jsonl` again (of a recipe: --stage score --force)."
LINE = Form(
    {"id": str, "label": str | None, "decision": str, "posterior": list[float], "logits": list[float]},
    {"seconds": float, **dict.fromkeys(("speaker", "gender", "session"), str | None)},
)
"""A score line."""


class Columns:
    """Score lines as they come, each kept in numbers: there may be millions.

    Args:
        classes: C names.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        self._place = {name: number for number, name in enumerate(classes)}
        self._ids = list[str]()
        self._label, self._decision = array("q"), array("q")
        self._posterior, self._logits, self._seconds = array("d"), array("d"), array("d")
        self._who: dict[str, list[str | None]] = {"speaker": [], "gender": [], "session": []}
        self._same: dict[str | None, str | None] = {}  # one text for all lines that say the same

    def add(self, line: Document) -> None:
        """Takes a line whose label and decision are classes; what an older one does not say is unknown."""
        self._ids.append(line["id"])
        self._label.append(self._place[line["label"]])
        self._decision.append(self._place[line["decision"]])
        self._posterior.extend(line["posterior"])
        self._logits.extend(line["logits"])
        self._seconds.append(line.get("seconds", math.nan))
        for word, column in self._who.items():
            value = line.get(word)
            column.append(self._same.setdefault(value, value))

    def scores(self) -> Scores:
        """The scores of the lines, in their order."""
        size = (len(self._ids), len(self._classes))
        speaker, gender, session = map(tuple, self._who.values())
        return Scores(
            ids=tuple(self._ids),
            classes=self._classes,
            target=Target.of(_tensor(self._label), size[1]),
            prediction=Prediction(_tensor(self._posterior).view(size), _tensor(self._logits).view(size)),
            decision=_tensor(self._decision),
            speaker=speaker,
            gender=gender,
            session=session,
            seconds=_tensor(self._seconds),
        )


def _tensor(values: array[int] | array[float]) -> Tensor:
    return torch.from_numpy(np.asarray(values))


def scores_of(lines: Iterable[Document], classes: Sequence[str]) -> Scores:
    """The scores that lines say whose labels and decisions are classes."""
    columns = Columns(classes)
    for line in lines:
        columns.add(line)
    return columns.scores()


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
    columns, others, ids = Columns(classes), Counter[str](), array("q")
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
        raise InputError(f"{where}: decision {line['decision']!r} is none of {', '.join(classes)}. {SCORE}")


def _check_ids(path: Path, hashes: array[int]) -> None:
    """Refuses an id that comes twice; only those whose hashes do are looked at again."""
    values, counts = np.unique(np.asarray(hashes), return_counts=True)
    twice, seen = set(values[counts > 1].tolist()), set[str]()
    for where, line in read_jsonl(path, SCORE) if twice else ():
        if line["id"] in seen:
            raise InputError(
                f"{where}: id {line['id']!r} comes twice, as where shards that overlap are put together. {SCORE}"
            )
        if hash(line["id"]) in twice:
            seen.add(line["id"])

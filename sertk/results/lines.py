"""Score lines made into the scores that metrics read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from sertk.core import InputError, Prediction, Scores, Target
from sertk.core.files import Document, read_jsonl

SCORE = "Run `sertk score RUN/model DATA --out RUN/scores.jsonl` again (of a recipe: --stage score --force)."
NEEDED = ("id", "label", "decision", "posterior", "logits")


def labelled(lines: Iterable[Document], classes: Sequence[str]) -> list[Document]:
    """The lines whose label is one of the classes: those that count."""
    return [line for line in lines if line["label"] in classes]


def scores_of(lines: Sequence[Document], classes: Sequence[str]) -> Scores:
    """The scores that labelled lines say; what an older line does not say is unknown.

    Args:
        lines: N score lines; labels and decisions are classes.
        classes: C names.
    """
    place = {name: number for number, name in enumerate(classes)}
    label, decision = (
        torch.tensor([place[line[word]] for line in lines], dtype=torch.int64) for word in ("label", "decision")
    )
    posterior, logits = (
        torch.tensor([line[word] for line in lines], dtype=torch.float64).view(len(lines), len(classes))
        for word in ("posterior", "logits")
    )
    speaker, gender, session = (tuple(line.get(word) for line in lines) for word in ("speaker", "gender", "session"))
    return Scores(
        ids=tuple(line["id"] for line in lines),
        classes=tuple(classes),
        target=Target.of(label, len(classes)),
        prediction=Prediction(posterior, logits),
        decision=decision,
        speaker=speaker,
        gender=gender,
        session=session,
        seconds=torch.tensor([line.get("seconds", math.nan) for line in lines], dtype=torch.float64),
    )


def read_scores(path: Path, classes: Sequence[str]) -> Scores:
    """The scores of a run; as in its metrics.json, only the lines whose label is a class of the bundle.

    Args:
        path: scores.jsonl.
        classes: Of the bundle.

    Raises:
        SertkError: If the file is missing.
        InputError: If a line lacks something, has another number of classes, or an id comes twice.
    """
    lines: dict[str, Document] = {}
    for where, line in read_jsonl(path, SCORE):
        missing = [name for name in NEEDED if name not in line]
        if missing:
            raise InputError(f"{where}: the score line lacks {', '.join(missing)}. {SCORE}")
        if line["id"] in lines:
            raise InputError(
                f"{where}: id {line['id']!r} comes twice, as where shards that overlap are put together. {SCORE}"
            )
        for word in ("posterior", "logits"):
            if len(line[word]) != len(classes):
                raise InputError(f"{where}: {word} has {len(line[word])} values for {len(classes)} classes. {SCORE}")
        if line["decision"] not in classes:
            raise InputError(f"{where}: decision {line['decision']!r} is none of {', '.join(classes)}. {SCORE}")
        lines[line["id"]] = line
    return scores_of(labelled(lines.values(), classes), classes)

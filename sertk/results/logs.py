"""How training went: the loss and the dev score of each epoch of each run, from log.jsonl."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sertk.core.files import Document, read_jsonl
from sertk.core.forms import Form
from sertk.results.runs import Run

NAME = "log.jsonl"
MEND = "Train the run again, or delete the file."
LINE = Form(
    {"epoch": int},
    {**dict.fromkeys(("train_loss", "dev_loss", "dev"), float | None), "curves": Mapping[str, Mapping[str, float]]},
)
Points = Sequence[tuple[int, float]]
"""Epochs and values."""


class Training(NamedTuple):
    """The curves of some runs, by the label of the curve.

    Attributes:
        runs: How many have a log.
        loss: A curve a run.
        score: The same of the dev score, or of the accuracy on train and dev where both were measured.
        measured: Whether both were measured.
    """

    runs: int
    loss: Mapping[str, Sequence[Points]]
    score: Mapping[str, Sequence[Points]]
    measured: bool


def training_of(runs: Sequence[Run]) -> Training | None:
    """The curves of the runs that have a log; None if no run has one.

    With `train.curves` both parts were measured alike after each epoch, and these figures are taken (P1 Figures 3 and
    4); else the loss of train is the objective, the mean of the epoch while the model learned, and that of dev the
    negative log-probability of its labels.

    Args:
        runs: Of one system.

    Raises:
        InputError: If a line is none of a log.
    """
    logs = [list(_log(run)) for run in runs if (run.folder / NAME).exists()]
    logs = [log for log in logs if log]
    if not logs:
        return None
    if all("curves" in line for log in logs for line in log):
        return Training(len(logs), _measured(logs, "loss"), _measured(logs, "wa"), measured=True)
    loss = {name: _curves(logs, word) for name, word in (("train", "train_loss"), ("dev", "dev_loss"))}
    return Training(len(logs), _known(loss), _known({"dev": _curves(logs, "dev")}), measured=False)


def _log(run: Run) -> Iterator[Document]:
    return (line for _, line in read_jsonl(run.folder / NAME, MEND, LINE))


def _measured(logs: Sequence[Sequence[Document]], word: str) -> dict[str, Sequence[Points]]:
    return _known(
        {
            part: [_points((line["epoch"], line["curves"].get(part, {}).get(word)) for line in log) for log in logs]
            for part in ("train", "dev")
        }
    )


def _curves(logs: Sequence[Sequence[Document]], word: str) -> list[Points]:
    return [_points((line["epoch"], line.get(word)) for line in log) for log in logs]


def _points(found: Iterator[tuple[int, float | None]]) -> Points:
    return [(epoch, value) for epoch, value in found if value is not None]


def _known(curves: Mapping[str, Sequence[Points]]) -> dict[str, Sequence[Points]]:
    return {name: own for name, own in curves.items() if any(own)}

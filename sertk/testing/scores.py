"""Contracts of decisions and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from sertk.core import Output, Padded, Rng, View
from sertk.testing.cases import BrokenError, Check, Subject, own_chance, require, require_close, require_same

CLASSES: Final = 4
DECIDED: Final = (5, 3)  # classes of a decision
COUNT: Final = (1, 5, 2, 1, 9, 4)  # windows by utterance
OUTPUTS: Final[tuple[Output, ...]] = ("softmax", "sigmoid", "linear")


def _named(subject: Subject) -> Callable[..., object]:
    """The function behind the name, with its settings."""
    made: Callable[..., object] = subject.make()
    return made


# ---------------------------------------------------------------- decisions


def _view(logits: list[Tensor], output: Output) -> View:
    """The view of utterances whose windows have (K, C) logits each."""
    count = torch.tensor([len(one) for one in logits])
    owner = torch.repeat_interleave(torch.arange(len(logits)), count)
    windows = len(owner)
    frames = Padded(torch.zeros(windows, 1, 1), torch.ones(windows, dtype=torch.int64))
    return View(frames, torch.zeros(windows, 1), {"emotion": torch.cat(logits)}, owner, count[owner], output)


def _decide(subject: Subject, logits: list[Tensor], ids: list[str], output: Output) -> Tensor:
    """(B, C) posterior, a distribution a row."""
    rng, view = Rng.for_rows(0, ids, [0] * len(ids), 0, "decision"), _view(logits, output)
    kept, wanted = view.logits.clone(), (len(ids), logits[0].shape[1])
    with own_chance(subject):
        found = _named(subject)(view, len(ids), rng)
    if not isinstance(found, Tensor) or found.shape != wanted:
        raise BrokenError(f"{subject.what} gives {found!r}; it is a tensor of {wanted}.")
    require(found.dtype == torch.float32, f"{subject.what} gives {found.dtype}; it is torch.float32.")
    require_same(view.logits, kept, f"{subject.what} changes the logits it is given")
    require_close(found.sum(1), torch.ones(len(ids)), f"{subject.what} on {output}: rows sum to something else than 1")
    least = float(found.min())
    require(least >= 0, f"{subject.what} on {output}: a probability is {least:.3g}; at least 0.")
    return found


def _utterances(classes: int) -> tuple[list[Tensor], list[str]]:
    return [3 * torch.randn(count, classes) for count in COUNT], [f"utterance{i}" for i in range(len(COUNT))]


def decision_companions(subject: Subject) -> None:
    """An utterance's posterior sums to 1 and is the same alone and in a batch."""
    for output in OUTPUTS:
        for classes in DECIDED:
            logits, ids = _utterances(classes)
            together = _decide(subject, logits, ids, output)
            for row, (one, name) in enumerate(zip(logits, ids, strict=True)):
                found = _decide(subject, [one], [name], output)
                require_close(together[row], found[0], f"{subject.what} on {output}: companions change the posterior")


def decision_single(subject: Subject) -> None:
    """Of a single window it gives the posterior; where windows are alike, a distribution."""
    for output in OUTPUTS:
        logits = [3 * torch.randn(1, DECIDED[0])]
        found = _decide(subject, logits, ["utterance"], output)
        wanted = _view(logits, output).posterior
        require_close(found, wanted, f"{subject.what} on {output}: a single window's posterior changes")
        _decide(subject, [logits[0].expand(3, -1)], ["utterance"], output)


def decision_repeats(subject: Subject) -> None:
    """The same windows and streams give the same twice, whatever comes between."""
    logits, ids = _utterances(DECIDED[0])
    first = _decide(subject, logits, ids, "softmax")
    _decide(subject, *_utterances(DECIDED[0]), "softmax")
    torch.manual_seed(1234)
    require_same(_decide(subject, logits, ids, "softmax"), first, f"{subject.what}: the second call differs")


DECISION: Final[Mapping[str, Check]] = {
    "companions do not matter": decision_companions,
    "a single window gives its posterior": decision_single,
    "gives the same twice": decision_repeats,
}


# ---------------------------------------------------------------- metrics


def _figure(subject: Subject, counts: Tensor) -> float:
    found = _named(subject)(counts)
    if isinstance(found, float):
        return found
    raise AssertionError(f"{subject.what} gives a {type(found).__name__}; it is a float.")


def metric_range(subject: Subject) -> None:
    """A figure is in [0, 1], where a class never occurs or is never decided too."""
    full = torch.randint(0, 9, (CLASSES, CLASSES)) + 1
    unseen, undecided, neither, wrong = full.clone(), full.clone(), full.clone(), full.clone()
    unseen[1] = 0
    undecided[:, 2] = 0
    neither[3] = neither[:, 3] = 0
    wrong.fill_diagonal_(0)
    for counts in (full, unseen, undecided, neither, wrong, torch.ones(1, 1, dtype=torch.int64)):
        found = _figure(subject, counts)
        require(0 <= found <= 1, f"{subject.what} of {counts.tolist()} is {found:.4g}; it is in [0, 1].")


def metric_perfect(subject: Subject) -> None:
    """Where every decision is right the figure is 1, however many there are of each class."""
    for counts in ([3, 50, 1, 7], [5, 0, 2, 0], [4]):
        found = _figure(subject, torch.diag(torch.tensor(counts)))
        require(
            abs(found - 1) <= 1e-9,
            f"{subject.what} of right decisions alone, {counts} by class, is {found:.4g}; it is 1.",
        )


METRIC: Final[Mapping[str, Check]] = {
    "a figure is in [0, 1]": metric_range,
    "right decisions alone give 1": metric_perfect,
}

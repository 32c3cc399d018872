"""Contracts of decisions and metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from sertk.core import CountMetric, Metric, Output, Padded, Prediction, Rng, Scores, Target, View
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
        shape = tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise BrokenError(f"{subject.what} gives {shape}; it must be a tensor of {wanted}: utterances and classes.")
    require(found.dtype == torch.float32, f"{subject.what} gives {found.dtype}; it must be torch.float32.")
    require_same(view.logits, kept, f"{subject.what} changes the logits it is given")
    require_close(found.sum(1), torch.ones(len(ids)), f"{subject.what} on {output}: rows sum to something else than 1")
    least = float(found.min())
    require(least >= 0, f"{subject.what} on {output}: a probability is {least:.3g}; it must be at least 0.")
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


def _scores(pairs: Tensor, classes: int, sure: float | None = None) -> Scores:
    """Made-up scores of utterances of two speakers.

    Args:
        pairs: (N, 2) label and decision of each.
        classes: C.
        sure: Probability of the decision; None draws one from 0.5 to 1.
    """
    label, decision = pairs.T
    share = torch.rand(len(pairs)) / 2 + 0.5 if sure is None or classes == 1 else torch.full((len(pairs),), sure)
    others = ((1 - share) / max(1, classes - 1))[:, None].expand(-1, classes)
    posterior = others.scatter(1, decision[:, None], share[:, None]).double()
    posterior /= posterior.sum(1, keepdim=True)
    rows = range(len(pairs))
    return Scores(
        ids=tuple(f"utterance{row}" for row in rows),
        classes=tuple(f"class{number}" for number in range(classes)),
        target=Target.of(label, classes),
        prediction=Prediction(posterior, posterior.clamp(min=1e-12).log()),
        decision=decision,
        speaker=tuple(f"speaker{row % 2}" for row in rows),
        gender=tuple(("female", "male")[row % 2] for row in rows),
        session=tuple(None for _ in rows),
        seconds=torch.rand(len(pairs), dtype=torch.float64) + 0.5,
    )


def _pairs(counts: Tensor) -> Tensor:
    """(N, 2) label and decision, of (C, C) confusion counts."""
    return torch.repeat_interleave(counts.nonzero(), counts[counts > 0], 0)


def _metric(subject: Subject) -> Metric:
    made: Metric = subject.make()
    return made


def _figure(subject: Subject, metric: Metric, scores: Scores) -> float:
    found: object = metric(scores)
    if isinstance(found, float):
        return found
    raise BrokenError(f"{subject.what} gives a {type(found).__name__}; it must be a float.")


def metric_declared(subject: Subject) -> None:
    """It says which figures are better, and between which ends they lie."""
    metric = _metric(subject)
    fine = metric.better in ("higher", "lower")
    require(fine, f"{subject.what}: better is {metric.better!r}; it must be 'higher' or 'lower'.")
    least, greatest = metric.range
    require(least < greatest, f"{subject.what}: range is {metric.range!r}; it must be (LEAST, GREATEST).")


def metric_range(subject: Subject) -> None:
    """A figure is in its range and finite, where a class never occurs or is never decided too."""
    metric = _metric(subject)
    full = torch.randint(0, 9, (CLASSES, CLASSES)) + 1
    unseen, undecided, neither, wrong = full.clone(), full.clone(), full.clone(), full.clone()
    unseen[1] = 0
    undecided[:, 2] = 0
    neither[3] = neither[:, 3] = 0
    wrong.fill_diagonal_(0)
    least, greatest = metric.range
    for counts in (full, unseen, undecided, neither, wrong, torch.ones(1, 1, dtype=torch.int64)):
        found = _figure(subject, metric, _scores(_pairs(counts), len(counts)))
        require(
            least <= found <= greatest and abs(found) < math.inf,
            f"{subject.what} of confusion counts {counts.tolist()} is {found:.4g}; it must be finite and "
            f"from {least:g} to {greatest:g}, its `range`.",
        )


def metric_perfect(subject: Subject) -> None:
    """Where every decision is right and sure the figure is the best there is, however many there are of each class."""
    metric = _metric(subject)
    best = metric.range[0] if metric.better == "lower" else metric.range[1]
    for counts in ([3, 50, 1, 7], [5, 0, 2, 0], [4, 3]):
        found = _figure(subject, metric, _scores(_pairs(torch.diag(torch.tensor(counts))), len(counts), sure=1.0))
        require(
            abs(found - best) <= 1e-6 or abs(best) == math.inf,
            f"{subject.what} of right decisions alone, {counts} by class, is {found:.4g}; it must be {best:g}.",
        )


def metric_order(subject: Subject) -> None:
    """The order of the utterances does not matter."""
    metric, scores = _metric(subject), _scores(torch.randint(0, CLASSES, (37, 2)), CLASSES)
    found, other = (_figure(subject, metric, scores.take(rows)) for rows in (torch.arange(37), torch.randperm(37)))
    require(abs(found - other) <= 1e-6, f"{subject.what} is {found:.6g}, and in another order {other:.6g}.")


def metric_reading(subject: Subject) -> None:
    """It gives the same twice, and leaves the scores as they are."""
    scores = _scores(torch.randint(0, CLASSES, (37, 2)), CLASSES)
    kept, copy = (scores.take(torch.arange(37)) for _ in range(2))
    counts, metric = scores.confusion.clone(), _metric(subject)
    found = [_figure(subject, metric, one) for one in (scores, scores, copy)]
    require(found[0] == found[1] == found[2], f"{subject.what} gives {found} for the same scores.")
    for before, after in (
        (kept.prediction.posterior, scores.prediction.posterior),
        (kept.prediction.logits, scores.prediction.logits),
        (kept.target.soft, scores.target.soft),
        (kept.decision, scores.decision),
        (counts, scores.confusion),
    ):
        require(torch.equal(before, after), f"{subject.what} changes the scores that it reads.")


def metric_stack(subject: Subject) -> None:
    """A metric of confusion counts gives each matrix of a stack the figure that it has alone."""
    metric = _metric(subject)
    if not isinstance(metric, CountMetric):
        return
    counts = torch.randint(0, 9, (3, 2, CLASSES, CLASSES)) + 1
    counts[0, 0, 1], counts[1, 1, :, 2] = 0, 0  # a class without a label, one without a decision
    found = metric.counted(counts)
    shape = (3, 2)
    require(found.shape == shape, f"{subject.what} of {shape} confusion counts is {tuple(found.shape)}; it is {shape}.")
    alone = [_figure(subject, metric, _scores(_pairs(one), CLASSES)) for one in counts.flatten(0, 1)]
    off = float((found.flatten() - torch.tensor(alone)).abs().max())
    require(off <= 1e-6, f"{subject.what} of confusion counts in a stack is {off:.3g} off what it is of each alone.")


METRIC: Final[Mapping[str, Check]] = {
    "better and range are stated": metric_declared,
    "a figure is in its range": metric_range,
    "right decisions alone give the best": metric_perfect,
    "order does not matter": metric_order,
    "it reads and does not change": metric_reading,
    "a stack has the figure of each": metric_stack,
}

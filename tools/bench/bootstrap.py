"""An interval of UA over speakers against scikit-learn in a loop, and scipy's bootstrap: bootstrap.py --speakers 24.

A draws counts of speakers, all draws in a matrix product. B is what people write: for each draw the rows of the drawn
speakers are put together and `balanced_accuracy_score` of scikit-learn is taken, or `scipy.stats.bootstrap` is given
the speakers and the same function. All give percentiles at the same level, compared in percent. Reading is not timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np
import numpy.typing as npt
import torch
from harness import Arrays, Way
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from sertk.core import Prediction, Scores
from sertk.core.rows import Coded
from sertk.core.scores import Labels
from sertk.plugins import Plugins
from sertk.results.intervals import DRAWS, _tail, estimates
from sertk.results.measures import Measure
from sertk.results.runs import Run
from sertk.results.systems import System
from sertk.results.units import units_of

CLASSES = 8
TOLERANCE = 1.0  # percent points: the draws are others
Ends = tuple[float, float]


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--speakers", type=int, default=24)
    parser.add_argument("--lines", type=int, default=1440)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--alone", action="store_true", help="ours only, where the others take too long")
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "numpy", "scipy", "scikit-learn"))
    print(harness.HEADER)
    made, ua = system(ask.speakers, ask.lines), Measure(Plugins(), "ua")

    def ours() -> Ends:
        found = estimates(units_of([made]).pooled, {"ua": ua.counted})["ua"]
        return found.low, found.high

    one = _way("counts of speakers, draws at once", ours)
    others = [_way("A again", ours)] if ask.alone else [looped(made), scipys(made)]
    for other in others:
        result = harness.compare(one, other, ask.pairs, TOLERANCE)
        work = f"UA of {ask.lines:,} lines, {ask.speakers:,} speakers, {DRAWS:,} draws"
        print(result.row(work, one.name, other.name), flush=True)


def system(speakers: int, lines: int) -> System:
    """Speakers in turn, of whom each is as good as chance has it."""
    rng = np.random.default_rng(0)
    who, label = np.arange(lines) % speakers, rng.integers(0, CLASSES, lines)
    right = rng.random(lines) < rng.uniform(0.5, 0.9, speakers)[who]
    decision = np.where(right, label, (label + 1) % CLASSES)
    names = Coded[str | None]()
    for number in who.tolist():
        names.append(f"s{number}")
    flat, none = torch.zeros(1, CLASSES).expand(lines, -1), (None,) * lines
    scores = Scores(
        ids=tuple(map(str, range(lines))),
        classes=tuple("abcdefgh"),
        target=Labels(torch.from_numpy(label), CLASSES),
        prediction=Prediction(flat, flat),
        decision=torch.from_numpy(decision),
        speaker=names,
        gender=none,
        session=none,
        seconds=torch.ones(lines),
    )
    run = Run(Path(), {"protocol": {}}, {"corpus": None, "fold": "1", "seed": 0})
    run.__dict__["scores"] = scores  # as if it had been read
    return System("made up", Path(), [run])


def _rows(made: System) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[npt.NDArray[np.int64]]]:
    """Labels, decisions, and the rows of each speaker."""
    scores = made.runs[0].scores
    who = np.array(list(scores.speaker))
    return scores.target.hard.numpy(), scores.decision.numpy(), [np.flatnonzero(who == one) for one in np.unique(who)]


def _level(speakers: int) -> float:
    return _tail(np.array([speakers]))


def looped(made: System) -> Way:
    """scikit-learn, a draw at a time."""
    label, decision, rows = _rows(made)

    def ends() -> Ends:
        rng, tail = np.random.default_rng(1), _level(len(rows))
        found = []
        for _ in range(DRAWS):
            drawn = np.concatenate([rows[one] for one in rng.integers(0, len(rows), len(rows))])
            found.append(balanced_accuracy_score(label[drawn], decision[drawn]))
        low, high = np.quantile(found, [tail, 1 - tail])
        return float(low), float(high)

    return _way("scikit-learn in a loop", ends)


def scipys(made: System) -> Way:
    """scipy, with a function of speakers."""
    label, decision, rows = _rows(made)

    def statistic(speakers: npt.NDArray[np.int64]) -> float:
        drawn = np.concatenate([rows[one] for one in speakers])
        return float(balanced_accuracy_score(label[drawn], decision[drawn]))

    def ends() -> Ends:
        speakers, level = (np.arange(len(rows)),), 1 - 2 * _level(len(rows))
        rng = np.random.default_rng(1)
        found = stats.bootstrap(
            speakers,
            statistic,
            n_resamples=DRAWS,
            confidence_level=level,
            method="percentile",
            vectorized=False,
            rng=rng,
        )
        return float(found.confidence_interval.low), float(found.confidence_interval.high)

    return _way("scipy.stats.bootstrap", ends)


def _way(name: str, work: Callable[[], Ends]) -> Way:
    made: dict[str, Ends] = {}

    def run(folder: Path) -> None:
        made["ends"] = work()

    def read(folder: Path) -> Arrays:
        return {"ends": 100 * np.array(made["ends"])}

    return Way(name, run, read)


if __name__ == "__main__":
    main()

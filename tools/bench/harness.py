"""How many times faster one way of doing a thing is than another: pairs, their median ratio, an exact interval of it.

The speed of a shared machine wanders, so a ratio is only taken of runs that lie side by side. Both ways do the whole
work once as a warm-up, and what they made is compared before anything is timed; then they run in pairs whose order
alternates (A B, B A, A B, ...). The figure is the median of the pairs' ratios. Its interval is that of order statistics
(David and Nagaraja 2003, Order Statistics, section 7.1): the median of n independent draws lies between the k-th
smallest and the k-th largest with probability 1 - 2 P(Binomial(n, 1/2) < k), whatever their distribution. Beside it
stands the ratio of processor time, which other work on the machine disturbs less: where the two ratios disagree, the
machine was busy, or one of the ways uses more cores.
"""

from __future__ import annotations

import math
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sertk.core import SertkError, UsageError
from sertk.stages.prepare import prepare

Arrays = Mapping[str, npt.NDArray[Any]]
COLUMNS = ("work", "A", "B", "pairs", "A, s", "B, s", "B / A", "interval of it", "CPU: B / A", "differ by")
HEADER = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def nothing(folder: Path) -> None:
    """Prepares nothing."""


@dataclass(frozen=True)
class Way:
    """A way to do the work; each of its functions is given the same folder, a new one in every run.

    Attributes:
        name: For the table.
        run: The work: what is timed.
        read: What the work made, by name.
        ready: Puts into the folder what the work starts from.
    """

    name: str
    run: Callable[[Path], object]
    read: Callable[[Path], Arrays]
    ready: Callable[[Path], object] = nothing


class Interval(NamedTuple):
    """An interval of a median, and the probability with which it holds it."""

    low: float
    high: float
    coverage: float


class Cost(NamedTuple):
    """Seconds on the clock, and of processor time in all cores and child processes."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Result:
    """What each pair cost, and how far the two outputs are apart.

    Attributes:
        a: Of A by pair.
        b: Of B by pair.
        difference: The largest absolute difference between two values.
    """

    a: Sequence[Cost]
    b: Sequence[Cost]
    difference: float

    @property
    def ratios(self) -> list[float]:
        """B / A by pair: how many times faster A was."""
        return [b.wall / a.wall for a, b in zip(self.a, self.b, strict=True)]

    def row(self, work: str, a: str, b: str) -> str:
        """A row of the table below `HEADER`."""
        low, high, coverage = interval(self.ratios)
        walls = ([cost.wall for cost in costs] for costs in (self.a, self.b))
        seconds = (f"{statistics.median(x):.2f} ({min(x):.2f}–{max(x):.2f})" for x in walls)
        cpus = [b.cpu / a.cpu for a, b in zip(self.a, self.b, strict=True) if a.cpu]
        cpu = f"{statistics.median(cpus):.2f}" if len(cpus) == len(self.a) else "–"  # too little for the clock
        ratio = f"**{statistics.median(self.ratios):.2f}** | {low:.2f}–{high:.2f} ({100 * coverage:.1f} %) | {cpu}"
        return f"| {work} | {a} | {b} | {len(self.a)} | {' | '.join(seconds)} | {ratio} | {self.difference:.2g} |"


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The narrowest interval between order statistics that holds the median with at least this probability.

    Args:
        values: Independent draws.
        confidence: The probability.

    Raises:
        UsageError: Where even the whole range of so few values does not hold it so surely.
    """
    n, ordered = len(values), sorted(values)
    # outside[k - 1]: the probability that the median lies outside the k-th smallest and the k-th largest
    outside = [2 * sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(1, n // 2 + 1)]
    k = sum(share <= 1 - confidence + 1e-12 for share in outside)
    if not k:
        least = math.ceil(1 - math.log2(1 - confidence))
        raise UsageError(
            f"{n} pairs give no interval that holds the median with probability {confidence}: give at least {least}"
        )
    return Interval(ordered[k - 1], ordered[-k], 1 - outside[k - 1])


def difference(a: Arrays, b: Arrays, tolerance: float) -> float:
    """The largest absolute difference between two outputs.

    Args:
        a: Of A.
        b: Of B.
        tolerance: The largest that is allowed.

    Raises:
        SertkError: Where names or shapes differ, a value is no number, or values differ by more than `tolerance`.
    """
    if a.keys() != b.keys() or not a:
        odd = sorted(a.keys() ^ b.keys())
        raise SertkError(f"the outputs are no two of a kind: {len(a)} of A, {len(b)} of B, not in both: {odd[:3]}.")
    worst = 0.0
    for name, value in a.items():
        other = b[name]
        if value.shape != other.shape:
            raise SertkError(f"{name}: A made {value.shape}, B {other.shape}. Give both the same settings.")
        apart = float(np.abs(value.astype(np.float64) - other).max(initial=0.0))
        if not apart <= tolerance:  # so that a NaN is refused
            raise SertkError(
                f"{name}: A and B differ by {apart:.3g}, allowed are {tolerance:.3g}. Nothing was timed: mend that."
            )
        worst = max(worst, apart)
    return worst


def compare(a: Way, b: Way, pairs: int, tolerance: float) -> Result:
    """Warms both up, compares what they made, then times them in alternated pairs.

    Args:
        a: Usually ours.
        b: Usually the other.
        pairs: Runs of each.
        tolerance: See `difference`.

    Raises:
        UsageError: On too few pairs for an interval.
        SertkError: See `difference`.
    """
    interval(range(pairs))  # refused before an hour of work, not after it
    apart = difference(output(a), output(b), tolerance)
    _tell(f"outputs agree: the largest difference is {apart:.3g}")
    costs: dict[str, list[Cost]] = {"A": [], "B": []}
    for pair in range(pairs):
        order = [("A", a), ("B", b)]
        for which, way in order if pair % 2 == 0 else reversed(order):
            costs[which].append(_cost(way))
        a_last, b_last = costs["A"][-1], costs["B"][-1]
        _tell(f"pair {pair + 1} of {pairs}: A {a_last.wall:.3f} s, B {b_last.wall:.3f} s")
    return Result(costs["A"], costs["B"], apart)


@contextmanager
def _folder(way: Way) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sertk-bench."))
    try:
        way.ready(folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def output(way: Way) -> Arrays:
    """What a way makes, in a folder of its own."""
    with _folder(way) as folder:
        way.run(folder)
        return way.read(folder)


def _cost(way: Way) -> Cost:
    with _folder(way) as folder:
        wall, cpu = time.perf_counter(), _cpu()
        way.run(folder)
        return Cost(time.perf_counter() - wall, _cpu() - cpu)


def _cpu() -> float:
    # this process and the children that ended; `os.times` would count in hundredths of a second
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _tell(message: str) -> None:
    print(message, file=sys.stderr)


def machine(*packages: str) -> str:
    """The machine and the versions that a figure holds for, as a line of text."""
    names = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    model = next((x.partition(":")[2].strip() for x in names.splitlines() if x.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    return (
        f"{os.cpu_count()} cores, {model or platform.machine()}, {memory:.0f} GiB; {platform.system()}, "
        f"Python {platform.python_version()}, {versions}; OMP_NUM_THREADS {threads}"
    )


def prepared(corpus: str, root: Path, out: Path, limit: int | None = None) -> Path:
    """Prepares a corpus for a bench, and keeps its first `limit` utterances."""
    prepare(corpus, root, out, [], 0.1, os.cpu_count() or 1)
    for name in ("manifest.jsonl", "audio.jsonl"):
        lines = (out / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (out / name).write_text("".join(lines[:limit]), encoding="utf-8")
    return out

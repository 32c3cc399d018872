"""Whether the samplers of pairs and of balanced classes are linear in the rows, and what they take: samplers.py.

A row for each sampler: A makes the batches of an epoch of 100,000 rows, B those of ten times as many. Linear is B / A
about 10; a sampler that looks at each row for each row would have 100. "Differ by" is of the classes' shares of the
rows drawn.

The last row is of what a user would take instead of `balanced`: B is torch's WeightedRandomSampler, each row weighted
by one over the size of its class, in batches by torch's BatchSampler.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import harness
import torch
from harness import Arrays, Way
from torch import Tensor
from torch.utils import data

from sertk.builtin.samplers import Balanced, BalancedPairs, Pairs
from sertk.core import BatchSampler

SHARES, BATCH, FEW, MANY = torch.tensor([0.4, 0.3, 0.2, 0.1]), 32, 100_000, 1_000_000
TOLERANCE = 0.02  # of a share


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=9)
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch"))
    print(harness.HEADER)
    for name, make in {"pairs": Pairs, "balanced_pairs": BalancedPairs, "balanced": Balanced}.items():
        result = harness.compare(_way(make, FEW), _way(make, MANY), ask.pairs, TOLERANCE)
        print(result.row(f"batches of `{name}`, an epoch", f"{FEW:,} rows", f"{MANY:,} rows"))
    result = harness.compare(_way(Balanced, MANY), _theirs(MANY), ask.pairs, TOLERANCE)
    print(result.row(f"balanced batches, {MANY:,} rows", "`balanced`", "WeightedRandomSampler"))


def _labels(rows: int) -> Tensor:
    return torch.multinomial(SHARES, rows, replacement=True, generator=torch.Generator().manual_seed(0))


def _way(make: Callable[[Tensor, Tensor, int], BatchSampler], rows: int) -> Way:
    labels = _labels(rows)
    sampler = make(labels, torch.ones(rows), BATCH)
    drawn: list[Tensor] = []

    def run(folder: Path) -> None:
        drawn[:] = [plan.rows for plan in sampler.plans(torch.Generator().manual_seed(1))]

    return Way("sertk", run, lambda folder: _shares(labels, drawn))


def _theirs(rows: int) -> Way:
    labels = _labels(rows)
    weights = (1 / labels.bincount().float())[labels]
    drawn: list[Tensor] = []

    def run(folder: Path) -> None:
        generator = torch.Generator().manual_seed(1)
        sampler = data.WeightedRandomSampler(weights, rows, generator=generator)  # type: ignore[arg-type]
        drawn[:] = map(torch.tensor, data.BatchSampler(sampler, BATCH, drop_last=False))

    return Way("torch", run, lambda folder: _shares(labels, drawn))


def _shares(labels: Tensor, drawn: Iterable[Tensor]) -> Arrays:
    """The share of each class in the rows drawn."""
    count = labels[torch.cat(list(drawn))].bincount(minlength=len(SHARES))
    return {"share of a class": (count / count.sum()).numpy()}


if __name__ == "__main__":
    main()

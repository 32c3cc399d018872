"""Decisions that are wrong in one way each, and right ones; the words are what the contracts must say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sertk.core import Decision, Rng, View
from sertk.hookspecs import hookimpl

PARTS: dict[str, Decision] = {}


def part(says: str) -> Callable[[Decision], Decision]:
    def put(decision: Decision) -> Decision:
        decision.says = says  # type: ignore[attr-defined]
        PARTS[decision.__name__] = decision
        return decision

    return put


@part("")
def first(view: View, rows: int, rng: Rng) -> Tensor:
    """The first window: a right one."""
    return view.posterior[view.position == 0]


@part("")
def product(view: View, rows: int, rng: Rng) -> Tensor:
    """The product of the windows' posteriors: a right one."""
    log = view.posterior.clamp(min=1e-12).log()
    return log.new_zeros(rows, log.shape[1]).index_add(0, view.owner, log).softmax(1)


@part("")
def drawn(view: View, rows: int, rng: Rng) -> Tensor:
    """A window drawn by the utterance's own stream: a right one."""
    count = torch.bincount(view.owner, minlength=rows)
    return view.posterior[count.cumsum(0) - count + rng.integers(count)]


def mean(posterior: Tensor, view: View, rows: int) -> Tensor:
    total = posterior.new_zeros(rows, posterior.shape[1]).index_add(0, view.owner, posterior)
    return total / torch.bincount(view.owner, minlength=rows)[:, None]


@part("companions change the posterior")
def window_of_another(view: View, rows: int, rng: Rng) -> Tensor:
    return view.posterior[torch.zeros(rows).long()]


@part("companions change the posterior")
def row_as_window(view: View, rows: int, rng: Rng) -> Tensor:
    return view.posterior[:rows]


@part("companions change the posterior")
def window_before(view: View, rows: int, rng: Rng) -> Tensor:
    starts = (view.position == 0).nonzero()[:, 0]
    return view.posterior[starts - 1]


@part("companions change the posterior")
def less_the_mean(view: View, rows: int, rng: Rng) -> Tensor:
    return first(view, rows, rng) * 0.5 + view.posterior.mean(0) * 0.5


@part("it must be a tensor of")
def every_window(view: View, rows: int, rng: Rng) -> Tensor:
    return view.posterior


@part("it must be a tensor of")
def decided(view: View, rows: int, rng: Rng) -> Tensor:
    return first(view, rows, rng).argmax(1)


@part("rows sum to something else than 1")
def total(view: View, rows: int, rng: Rng) -> Tensor:
    return view.posterior.new_zeros(rows, view.logits.shape[1]).index_add(0, view.owner, view.posterior)


@part("a probability is")
def logits(view: View, rows: int, rng: Rng) -> Tensor:
    found = mean(view.logits, view, rows)
    return found - (found.sum(1, keepdim=True) - 1) / found.shape[1]


@part("rows sum to something else than 1")
def ties(view: View, rows: int, rng: Rng) -> Tensor:
    """The windows of the highest probability; of equals, all of them."""
    peak = view.posterior.amax(1)
    highest = peak.new_zeros(rows).scatter_reduce(0, view.owner, peak, "amax")
    chosen = (peak == highest[view.owner]).float()[:, None]
    return view.posterior.new_zeros(rows, view.logits.shape[1]).index_add(0, view.owner, view.posterior * chosen)


@part("a single window's posterior changes")
def softmax_always(view: View, rows: int, rng: Rng) -> Tensor:
    return mean(view.logits.softmax(1), view, rows)


@part("a single window's posterior changes")
def uniform(view: View, rows: int, rng: Rng) -> Tensor:
    return torch.full((rows, view.logits.shape[1]), 1 / view.logits.shape[1])


@part("raised RuntimeError")
def four_classes(view: View, rows: int, rng: Rng) -> Tensor:
    weight = torch.tensor([1.0, 1.0, 1.0, 1.0])
    return mean(view.posterior * weight, view, rows)


@part("torch's own random numbers")
def own_generator(view: View, rows: int, rng: Rng) -> Tensor:
    count = torch.bincount(view.owner, minlength=rows)
    place = (torch.rand(rows) * count).long()
    return view.posterior[count.cumsum(0) - count + place]


@part("changes the logits it is given")
def writes(view: View, rows: int, rng: Rng) -> Tensor:
    found = first(view, rows, rng)
    view.logits.mul_(2.0)
    return found


@part("torch.float64")
def doubles(view: View, rows: int, rng: Rng) -> Tensor:
    return first(view, rows, rng).double()


@hookimpl
def sertk_decisions() -> Mapping[str, Decision]:
    return PARTS

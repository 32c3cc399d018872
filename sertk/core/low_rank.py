"""Low-rank adaptation of an encoder's attention (Hu et al. 2021), folded into the weights when a bundle is written."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization, remove_parametrizations

from sertk.core.errors import UsageError


class LowRank(nn.Module):
    """What low-rank adaptation adds to a weight: W + B A, of which A and B are trained (Hu et al. 2021, section 4.1).

    B is zero at first. The paper's factor alpha / r is 1: with Adam it is another learning rate.

    Args:
        out: Rows of W.
        width: Columns of W.
        rank: r, of A and B.
    """

    def __init__(self, out: int, width: int, rank: int) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.empty(rank, width)), nn.Parameter(torch.zeros(out, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))  # as nn.Linear begins

    def forward(self, weight: Tensor) -> Tensor:
        """(out, width) -> the same."""
        return weight + self.b @ self.a


LORA = ".parametrizations.weight."
"""Stands in the names of a weight that is adapted, and of what adapts it."""


def adapt(encoder: nn.Module, layers: Iterable[nn.Module], rank: int) -> None:
    """Freezes an encoder, and adapts the queries and values of those of its layers that were to be trained.

    A bundle has the sums, see `fold`.

    Args:
        encoder: All of it.
        layers: Its layers that count.
        rank: Of the adapters.

    Raises:
        UsageError: Where none of them was to be trained.
    """
    chosen = [layer for layer in layers if any(one.requires_grad for one in layer.parameters())]
    if not chosen:
        raise UsageError(
            f"lora {rank} adapts the layers that are trained, and here none is: all that count are frozen. Freeze "
            "fewer, or leave out lora."
        )
    encoder.requires_grad_(False)
    for layer in chosen:
        for name, part in list(layer.named_modules()):
            if name.endswith(("q_proj", "v_proj")) and isinstance(part, nn.Linear):
                register_parametrization(part, "weight", LowRank(part.out_features, part.in_features, rank))


def fold(model: nn.Module) -> None:
    """Puts the sums in the place of weights that are adapted."""
    for part in list(model.modules()):
        if is_parametrized(part, "weight") and isinstance(part.parametrizations.weight[0], LowRank):  # type: ignore[union-attr, index]
            remove_parametrizations(part, "weight")


def unadapted(names: Iterable[str]) -> dict[str, str]:
    """The names of weights as they are where nothing is adapted, with the names that they have; not of adapters."""
    found = {name: name for name in names if not (LORA in name and name.endswith((".a", ".b")))}
    return {
        name.replace(f"{LORA}original", ".weight") if name.endswith(f"{LORA}original") else name: own
        for name, own in found.items()
    }

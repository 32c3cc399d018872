"""Heads: an embedding made into the values of a task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sertk.core import Head, check_range
from sertk.hookspecs import hookimpl


class Linear(Head):
    """An affine layer.

    Args:
        width: E; given by the run.
        out: Outputs; given by the run.
        dropout: Probability in front of it, at least 0 and below 1.
    """

    def __init__(self, width: int, out: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_range("head 'linear'", "dropout", dropout, at_least=0, below=1)
        self.layer = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, out))

    def forward(self, embedding: Tensor) -> Tensor:
        """(N, E) -> (N, out) logits."""
        values: Tensor = self.layer(embedding)
        return values

    def start(self, weight: Tensor, bias: Tensor) -> None:
        """(out, E) and (out,) become its own."""
        self.layer[1].load_state_dict({"weight": weight, "bias": bias})


class Cosine(Head):
    """Scaled cosines between the embedding and a direction per class: s cos(theta) (P4 eq. 2 without its margin).

    Args:
        width: E; given by the run.
        out: Outputs; given by the run.
        scale: s, above 0.
    """

    def __init__(self, width: int, out: int, scale: float = 10.0) -> None:
        super().__init__()
        check_range("head 'cosine'", "scale", scale, above=0)
        self.weight = nn.Parameter(torch.empty(out, width))
        nn.init.xavier_uniform_(self.weight)
        self._scale = scale

    def forward(self, embedding: Tensor) -> Tensor:
        """(N, E) -> (N, out), each in [-s, s]."""
        # in float32 under autocast too: half-precision cosines are off by a percent near the margin
        with torch.autocast(embedding.device.type, enabled=False):
            unit = nn.functional.normalize(embedding.float(), dim=1)
            return self._scale * unit @ nn.functional.normalize(self.weight.float(), dim=1).T


@hookimpl
def sertk_heads() -> Mapping[str, type[Head]]:
    """The heads by name."""
    return {"linear": Linear, "cosine": Cosine}

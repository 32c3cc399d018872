"""What backbones share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sertk.core import InputSpec, UsageError


def choose(backbone: str, inputs: Mapping[str, InputSpec], reads: str | None) -> str:
    """The input that a backbone of one input reads: the one named, or the only one.

    Raises:
        UsageError: Where it is not offered, or none is named of several.
    """
    if reads is None and len(inputs) == 1:
        return next(iter(inputs))
    if reads is None or reads not in inputs:
        raise UsageError(
            f"backbone {backbone!r} reads {reads!r}, but the inputs are {', '.join(inputs) or 'none'}: "
            f"name one, for example inputs: {{mel: {{name: mel}}}} and backbone: {{name: {backbone}, reads: mel}}."
        )
    return reads


class LayerSum(nn.Module):
    """The learned weighted sum of layers: softmax weights, equal at first (Yang et al. 2021, SUPERB section 3).

    Args:
        layers: Their number.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(layers))

    def forward(self, layers: Tensor) -> Tensor:
        """(B, T, layers, D) -> (B, T, D)."""
        return torch.einsum("btld,l->btd", layers, self.weight.softmax(0))

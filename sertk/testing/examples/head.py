"""A head: two layers."""

from collections.abc import Mapping

from torch import Tensor, nn

from sertk.core import Head
from sertk.hookspecs import hookimpl


class Example(Head):
    """A hidden layer with ReLU, then the outputs.

    Args:
        width: E; given by the run.
        out: Outputs; given by the run.
        hidden: Width of the hidden layer.
    """

    def __init__(self, width: int, out: int, hidden: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))

    def forward(self, embedding: Tensor) -> Tensor:
        """(N, E) -> (N, out) logits."""
        values: Tensor = self.layers(embedding)
        return values


@hookimpl
def sertk_heads() -> Mapping[str, type[Head]]:
    """The name that a loss's `HeadSpec` takes."""
    return {"example": Example}

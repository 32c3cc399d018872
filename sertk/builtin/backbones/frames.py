"""No backbone: an input's frames as they are, for what a feature has computed already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn

from sertk.builtin.backbones.common import LayerSum, choose
from sertk.core import Backbone, InputSpec, Padded


class Frames(Backbone):
    """An input's frames as they are: cached frames of a frozen encoder, or functionals.

    Args:
        inputs: What the run offers; given by the run.
        reads: The input that it reads; the only one when null.
        layers: What becomes of an input that holds several layers side by side: keep them, or take their learned
            weighted sum.
    """

    def __init__(
        self, inputs: Mapping[str, InputSpec], reads: str | None = None, layers: Literal["keep", "weighted"] = "keep"
    ) -> None:
        super().__init__()
        self.inputs = (choose("frames", inputs, reads),)
        source = inputs[self.inputs[0]]
        self.frame_seconds, self.fixed, self.frames = source.frame_seconds, source.frames, source.frames
        self.sum = LayerSum(source.layers) if layers == "weighted" else None
        self.layers = 1 if self.sum else source.layers
        self.width = source.width // source.layers * self.layers

    def groups(self) -> Sequence[Sequence[nn.Parameter]]:
        """None: the weights of the sum learn at the run's own rate, as they do inside an encoder."""
        return []

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{name: (B, T, D)} -> (B, T, D), or D / layers wide."""
        x = inputs[self.inputs[0]]
        if self.sum is None:
            return x
        return Padded(self.sum(x.data.reshape(*x.data.shape[:2], len(self.sum.weight), -1)), x.length)

"""A backbone: one layer on every frame of the mel spectrogram."""

from collections.abc import Mapping

from torch import nn

from sertk.core import Backbone, InputSpec, Padded
from sertk.hookspecs import hookimpl


class Example(Backbone):
    """A linear layer and a ReLU.

    Args:
        inputs: Given by the run: width and frame rate of each input.
        width: Of the result.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], width: int = 64) -> None:
        super().__init__()
        self.inputs, self.width, self.frame_seconds = ("mel",), width, inputs["mel"].frame_seconds
        self.layer = nn.Sequential(nn.Linear(inputs["mel"].width, width), nn.ReLU())

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{"mel": (B, T, bands)} -> (B, T, width)."""
        mel = inputs["mel"]
        return Padded(self.layer(mel.data), mel.length)


@hookimpl
def sertk_backbones() -> Mapping[str, type[Backbone]]:
    """The name that `--backbone` takes."""
    return {"example": Example}

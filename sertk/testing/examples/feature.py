"""A feature: the level of every 10 ms."""

from collections.abc import Mapping

import torch

from sertk.core import Feature, Padded
from sertk.hookspecs import hookimpl


class Example(Feature):
    """Level of a frame in dB.

    Args:
        rate: Given by the run, Hz.
        floor: The least level, dB.
    """

    def __init__(self, rate: int, floor: float = -80.0) -> None:
        self.hop = rate // 100
        self.width, self.frame_seconds, self.silence = 1, self.hop / rate, floor

    def __call__(self, inputs: Padded) -> Padded:
        """(B, S) waves -> (B, T, 1); a row gives the same alone and beside longer rows."""
        wave = inputs.fill(0.0).data
        frames = torch.nn.functional.pad(wave, (0, -wave.shape[1] % self.hop)).reshape(len(wave), -1, self.hop)
        level = 10 * frames.square().mean(2, keepdim=True).clamp(min=1e-10).log10()
        return Padded(level.clamp(min=self.silence), -(-inputs.length // self.hop))


@hookimpl
def sertk_features() -> Mapping[str, type[Feature]]:
    """The name that `inputs` take."""
    return {"example": Example}

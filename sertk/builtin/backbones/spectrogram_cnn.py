"""A CNN on pictures of spectrograms that is small enough for a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from sertk.builtin.backbones.common import choose_crops
from sertk.core import Backbone, InputSpec, Padded, UsageError, check_range

PART = "backbone 'spectrogram_cnn'"


class SpectrogramCNN(Backbone):
    """A convolution of a large stride, then blocks of convolution 3x3, batch norm, max pool 2x2 and ReLU.

    Crops alone, whose padding is signal. Without `lstm` a frame is the mean over frequency, so that the pooling `mean`
    makes it the global average that networks of pictures end with. With it all frequencies, side by side, go through a
    bidirectional LSTM over time, as in the end-to-end network of Satt et al. 2017 that P5 tried (section 4.1).

    Args:
        inputs: What the run offers; given by the run.
        reads: The input that it reads; the only one when null.
        channels: Channels of the first convolution and of each block.
        stem: Stride of the first convolution in time and frequency; it sees 2 stem - 1 by as many values.
        lstm: Units of the LSTM in each direction; 0 leaves it out.
        dropout: Probability behind the blocks, at least 0 and below 1.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        reads: str | None = None,
        channels: Sequence[int] = (16, 32, 64, 128),
        stem: int = 4,
        lstm: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not channels:
            raise UsageError(f"{PART}: channels is []; it is a list of at least the first convolution's, such as [16]")
        for place, width in enumerate(channels):
            check_range(PART, f"channels[{place}]", width, at_least=1)
        check_range(PART, "stem", stem, at_least=1)
        check_range(PART, "lstm", lstm, at_least=0)
        check_range(PART, "dropout", dropout, at_least=0, below=1)
        name, self.fixed = choose_crops("spectrogram_cnn", inputs, reads)
        self.inputs, source = (name,), inputs[name]
        rows, self.frames = source.width, self.fixed
        for stride in (stem, *[2] * (len(channels) - 1)):
            rows, self.frames = -(-rows // stride), -(-self.frames // stride)
        self.frame_seconds = source.frame_seconds * stem * 2 ** (len(channels) - 1)
        first = nn.Conv2d(1, channels[0], 2 * stem - 1, stem, padding=stem - 1)
        self.blocks = nn.Sequential(
            nn.Sequential(first, nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True)),
            *(_block(a, b) for a, b in pairwise(channels)),
            nn.Dropout(dropout),
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # three times as fast on a CPU
        self.lstm = nn.LSTM(rows * channels[-1], lstm, batch_first=True, bidirectional=True) if lstm else None
        self.width = 2 * lstm or channels[-1]

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{name: (B, T, bins)} -> (B, T', channels[-1]), or twice the LSTM's units wide."""
        x = inputs[self.inputs[0]]
        maps = self.blocks(x.data[:, None])  # (B, C, T', rows)
        if self.lstm is None:
            frames = maps.mean(3).transpose(1, 2)
        else:
            frames, _ = self.lstm(maps.transpose(1, 2).flatten(2))
        return Padded(frames, torch.full_like(x.length, frames.shape[1]))


def _block(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.ReLU(inplace=True),  # behind the pool: the same, on a quarter of the values
    )

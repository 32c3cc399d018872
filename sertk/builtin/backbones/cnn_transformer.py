"""The CNN-Transformer of Li 2025 (P1 section 3.2) on a spectrogram-like input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from sertk.builtin.backbones.common import choose
from sertk.core import Backbone, InputSpec, Padded, UsageError, check_range

PART = "backbone 'cnn_transformer'"
Size = TypeVar("Size", int, Tensor)


class CNNTransformer(Backbone):
    """Convolution blocks, a max pool, and a Transformer over the frequency x time tokens (P1 section 3.2).

    A block is convolution 3x3, batch norm, ReLU, max pool. Padded frames are zeroed before every convolution and cannot
    win a max after a ReLU, so the result does not depend on the batch. With `tail: keep` pools count a partial window
    at the end; `drop` leaves it out as the paper's sizes do (64 x 4 x 20 from 128 x 657), an input shorter than one
    token being padded to it.

    Args:
        inputs: What the run offers; given by the run.
        reads: The input that it reads; the only one when null.
        channels: Channels of the blocks.
        pools: (frequency, time) kernel and stride of each block's pool.
        token_pool: (frequency, time) kernel and stride of the pool in front of the Transformer.
        layers: Transformer layers; 0 leaves the Transformer out.
        heads: Attention heads; they divide the last of `channels`.
        ffn: Width of the feed-forward layer.
        dropout: Probability after each pool and inside the Transformer, at least 0 and below 1.
        tail: What pools do with a partial window at the end.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        reads: str | None = None,
        channels: Sequence[int] = (16, 32, 64, 64),
        pools: Sequence[Sequence[int]] = ((2, 2), (2, 2), (2, 2), (4, 4)),
        token_pool: Sequence[int] = (2, 4),
        layers: int = 4,
        heads: int = 4,
        ffn: int = 512,
        dropout: float = 0.3,
        tail: Literal["keep", "drop"] = "keep",
    ) -> None:
        super().__init__()
        self.inputs = (choose("cnn_transformer", inputs, reads),)
        source = inputs[self.inputs[0]]
        _check_sizes(channels, pools, token_pool)
        check_range(PART, "layers", layers, at_least=0)
        check_range(PART, "heads", heads, at_least=1)
        check_range(PART, "ffn", ffn, at_least=1)
        check_range(PART, "dropout", dropout, at_least=0, below=1)
        strides = [*map(tuple, pools), tuple(token_pool)]
        self._stride = math.prod(t for _, t in strides)
        self._strides, self._ceil = strides, tail == "keep"
        rows = source.width
        for f, _ in strides:
            rows = self._shorter(rows, f)
        if not rows:
            raise UsageError(
                f"{PART}: the pools leave none of the {source.width} bands; give them smaller strides in frequency"
            )
        if layers and channels[-1] % heads:
            raise UsageError(f"{PART}: heads is {heads}; it is a divisor of the last of channels, {channels[-1]}")
        self.width, self.frame_seconds = channels[-1], source.frame_seconds * self._stride / rows
        self.fixed = steps = source.frames
        if steps is not None:
            steps = steps if self._ceil else max(steps, self._stride)
            for _, t in strides:
                steps = self._shorter(steps, t)
            self.frames = steps * rows
        sizes = [1, *channels]
        self.blocks = nn.ModuleList(_block(a, b) for a, b in pairwise(sizes))
        self.pools = nn.ModuleList(nn.MaxPool2d(pool, ceil_mode=self._ceil) for pool in strides)
        self.dropout = nn.Dropout(dropout)
        self.encoder = None
        if layers:
            layer = nn.TransformerEncoderLayer(self.width, heads, ffn, dropout, "gelu", batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{name: (B, T, bands)} -> (B, tokens, channels[-1]), tokens ordered by time, then frequency."""
        x = inputs[self.inputs[0]]
        if self.fixed is None:
            data, length = x.fill(0.0).data, x.length
        else:  # a fixed crop's padding is signal
            data, length = x.data, torch.full_like(x.length, x.data.shape[1])
        if not self._ceil:
            data = nn.functional.pad(data, (0, 0, 0, max(0, self._stride - data.shape[1])))
            length = length.clamp(min=self._stride)
        maps = data.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last)  # (B, 1, bands, T)
        for block, pool, (_, stride) in zip(self.blocks, self.pools, self._strides, strict=False):
            maps = block(maps)
            # a window over the end must see zeros where it counts (keep), and leave none where it does not (drop)
            maps = pool(self._silence(maps, length)) if self._ceil else pool(maps)
            length = self._shorter(length, stride)
            maps = self.dropout(maps if self._ceil else self._silence(maps, length))
        maps, length = self.pools[-1](maps), self._shorter(length, self._strides[-1][1])
        rows = maps.shape[2]
        tokens = Padded(maps.permute(0, 3, 2, 1).flatten(1, 2), length * rows)  # (B, T' x rows, D)
        if self.encoder is None:
            return tokens
        return Padded(self.encoder(tokens.data, src_key_padding_mask=~tokens.mask), tokens.length)

    def _silence(self, maps: Tensor, length: Tensor) -> Tensor:
        if self.fixed is not None:
            return maps
        steps = torch.arange(maps.shape[3], device=maps.device)
        return maps.masked_fill((steps >= length[:, None])[:, None, None], 0.0)

    def _shorter(self, length: Size, stride: int) -> Size:
        return (length + stride - 1) // stride if self._ceil else length // stride


def _check_sizes(channels: Sequence[int], pools: Sequence[Sequence[int]], token_pool: Sequence[int]) -> None:
    if not channels:
        raise UsageError(f"{PART}: channels is []; it is a list of at least one block's channels, such as [16, 32]")
    if len(pools) != len(channels):
        raise UsageError(f"{PART}: pools has {len(pools)} entries; it has as many as channels, {len(channels)}")
    for place, width in enumerate(channels):
        check_range(PART, f"channels[{place}]", width, at_least=1)
    for name, pool in (*((f"pools[{place}]", pool) for place, pool in enumerate(pools)), ("token_pool", token_pool)):
        if len(pool) != 2 or min(pool) < 1:
            raise UsageError(f"{PART}: {name} is {list(pool)}; it is [frequency, time], each at least 1")


def _block(width: int, out: int) -> nn.Sequential:
    # channels last: three times as fast forward on a CPU, most of it in the pools
    convolution = nn.Conv2d(width, out, 3, padding=1)
    convolution.weight.data = convolution.weight.data.contiguous(memory_format=torch.channels_last)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True))

"""The CNN-Transformer of Li 2025 (P1 section 3.2) on a spectrogram-like input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from itertools import pairwise
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from sertk.builtin.backbones.common import choose, sinusoids
from sertk.core import Backbone, InputSpec, Padded, UsageError, check_range

PART = "backbone 'cnn_transformer'"
Size = TypeVar("Size", int, Tensor)


class CNNTransformer(Backbone):
    """Convolution blocks and a Transformer, one behind the other (P1 section 3.2) or side by side.

    A block is convolution 3x3, batch norm, max pool, ReLU: P1 has the ReLU in front of the pool, with the same result
    and four times the work. Padded frames are zeroed before every convolution and cannot win a max that a ReLU follows,
    so the result does not depend on the batch. With `tail: keep` pools count a partial window at the end; `drop` leaves
    it out as the paper's sizes do (64 x 4 x 20 from 128 x 657), an input shorter than one token being padded to it.

    serial, as P1's text says: the blocks, `token_pool`, and the Transformer over the frequency x time tokens. parallel,
    as in the public predecessor of P1: the blocks, whose frames have all rows of all channels, and beside them
    `token_pool` on the input itself and the Transformer over its time steps, whose output is averaged to the frames of
    the blocks. The branches are `cnn` and `transformer`.

    Args:
        inputs: What the run offers; given by the run.
        reads: The input that it reads; the only one when null.
        channels: Channels of the blocks.
        pools: (frequency, time) kernel and stride of each block's pool.
        token_pool: (frequency, time) kernel and stride of the pool in front of the Transformer.
        layers: Transformer layers; 0 leaves the Transformer out, of `serial` alone.
        heads: Attention heads; they divide the last of `channels`, the width of the Transformer.
        ffn: Width of the feed-forward layer.
        dropout: Probability after each pool and inside the Transformer, at least 0 and below 1.
        tail: What pools do with a partial window at the end.
        layout: serial, or parallel: a linear layer brings the pooled bands to the Transformer's width, if they are not.
        positions: What is added to the tokens: none, or the sinusoids of Vaswani et al. 2017.
        norm: Layer norm behind each part of a Transformer layer (post), or in front of it and after the last (pre).
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
        layout: Literal["serial", "parallel"] = "serial",
        positions: Literal["none", "sinusoidal"] = "none",
        norm: Literal["post", "pre"] = "post",
    ) -> None:
        super().__init__()
        self.inputs = (choose("cnn_transformer", inputs, reads),)
        self._ceil, self._parallel, self._positions = tail == "keep", layout == "parallel", positions == "sinusoidal"
        _check_sizes(channels, pools, token_pool)
        check_range(PART, "layers", layers, at_least=int(self._parallel))
        check_range(PART, "heads", heads, at_least=1)
        check_range(PART, "ffn", ffn, at_least=1)
        check_range(PART, "dropout", dropout, at_least=0, below=1)
        if layers and channels[-1] % heads:
            raise UsageError(f"{PART}: heads is {heads}; it is a divisor of the last of channels, {channels[-1]}")
        self._strides = [*map(tuple, pools), tuple(token_pool)]
        self._set_sizes(inputs[self.inputs[0]], channels[-1])
        self.blocks = nn.ModuleList(_block(a, b) for a, b in pairwise([1, *channels]))
        self.pools = nn.ModuleList(nn.MaxPool2d(pool, ceil_mode=self._ceil) for pool in self._strides)
        self.dropout = nn.Dropout(dropout)
        self.project: nn.Module = nn.Identity()
        if self._parallel and self._bands != channels[-1]:
            self.project = nn.Linear(self._bands, channels[-1])
        self.encoder = None
        if layers:
            pre = norm == "pre"
            layer = nn.TransformerEncoderLayer(
                channels[-1], heads, ffn, dropout, "gelu", batch_first=True, norm_first=pre
            )
            last = nn.LayerNorm(channels[-1]) if pre else None
            self.encoder = nn.TransformerEncoder(layer, layers, last, enable_nested_tensor=False)

    def _set_sizes(self, source: InputSpec, channels: int) -> None:
        """What comes out: its width, its rate, and how many frames of a fixed input."""
        *pools, (token_bands, token_steps) = self._strides
        through = pools if self._parallel else self._strides  # the pools that what the blocks give goes through
        self._stride = math.prod(steps for _, steps in through)
        rows, self._bands = self._after(source.width, [f for f, _ in through]), self._shorter(source.width, token_bands)
        if not rows or not self._bands:
            raise UsageError(
                f"{PART}: the pools leave none of the {source.width} bands; give them smaller strides in frequency"
            )
        if self._parallel and self._stride % token_steps:
            raise UsageError(
                f"{PART}: token_pool takes {token_steps} steps together, the pools of the blocks {self._stride}; "
                "with layout: parallel the first divides the second"
            )
        tokens = 1 if self._parallel else rows  # of a time step
        self.width, self.frame_seconds = channels, source.frame_seconds * self._stride / tokens
        if self._parallel:
            self.width = (rows + 1) * channels
            self.branches = {"cnn": slice(0, rows * channels), "transformer": slice(rows * channels, self.width)}
        self.fixed = steps = source.frames
        if steps is not None:
            steps = steps if self._ceil else max(steps, self._stride)
            self.frames = self._after(steps, [t for _, t in through]) * tokens

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{name: (B, T, bands)} -> (B, T', D): serial tokens ordered by time, then frequency; or both branches."""
        x = inputs[self.inputs[0]]
        if self.fixed is None:
            data, length = x.fill(0.0).data, x.length
        else:  # a fixed crop's padding is signal
            data, length = x.data, torch.full_like(x.length, x.data.shape[1])
        if not self._ceil:
            data = nn.functional.pad(data, (0, 0, 0, max(0, self._stride - data.shape[1])))
            length = length.clamp(min=self._stride)
        spectrum = data.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last)  # (B, 1, bands, T)
        maps, steps = self._convolve(spectrum, length)
        if self._parallel:
            frames = maps.permute(0, 3, 1, 2).flatten(2)  # (B, T', channels x rows)
            return Padded(torch.cat([frames, self._beside(spectrum, length)], 2), steps)
        maps, steps = self.pools[-1](maps), self._shorter(steps, self._strides[-1][1])
        # (B, T' x rows, D)
        return self._attend(Padded(maps.permute(0, 3, 2, 1).flatten(1, 2), steps * maps.shape[2]))

    def _convolve(self, maps: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, bands, T) and lengths -> (B, channels, rows, T') and theirs, through the blocks."""
        for block, pool, (_, stride) in zip(self.blocks, self.pools, self._strides, strict=False):
            maps = block(maps)
            # a window over the end must see zeros where it counts (keep), and leave none where it does not (drop)
            maps = pool(self._silence(maps, length)) if self._ceil else pool(maps)
            maps, length = nn.functional.relu_(maps), self._shorter(length, stride)
            maps = self.dropout(maps if self._ceil else self._silence(maps, length))
        return maps, length

    def _beside(self, spectrum: Tensor, length: Tensor) -> Tensor:
        """(B, T', D) the Transformer over the time steps of the pooled input, averaged to the frames of the blocks."""
        _, stride = self._strides[-1]
        steps = self._shorter(length, stride)
        # no ReLU follows this pool: zeros would win over what is below them
        pooled = self._silence(self.pools[-1](self._silence(spectrum, length, -torch.inf)), steps)[:, 0]
        seen = self._attend(Padded(self.project(pooled.transpose(1, 2)), steps))
        real = seen.mask[:, None].to(seen.data.dtype)  # (B, 1, T / stride)
        each = self._stride // stride
        mean = partial(nn.functional.avg_pool1d, kernel_size=each, ceil_mode=self._ceil)
        return (mean(seen.data.transpose(1, 2) * real) / mean(real).clamp(min=1 / each)).transpose(1, 2)

    def _attend(self, tokens: Padded) -> Padded:
        """(B, T, D) tokens -> what the Transformer makes of them."""
        if self.encoder is None:
            return tokens
        data = tokens.data + sinusoids(tokens.data) if self._positions else tokens.data
        return Padded(self.encoder(data, src_key_padding_mask=~tokens.mask), tokens.length)

    def _silence(self, maps: Tensor, length: Tensor, value: float = 0.0) -> Tensor:
        if self.fixed is not None:
            return maps
        steps = torch.arange(maps.shape[3], device=maps.device)
        return maps.masked_fill((steps >= length[:, None])[:, None, None], value)

    def _shorter(self, length: Size, stride: int) -> Size:
        return (length + stride - 1) // stride if self._ceil else length // stride

    def _after(self, length: int, strides: Sequence[int]) -> int:
        return reduce(self._shorter, strides, length)


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
    return nn.Sequential(convolution, nn.BatchNorm2d(out))

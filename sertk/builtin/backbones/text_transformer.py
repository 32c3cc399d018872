"""A Transformer over the units of a text, trained from random weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from sertk.builtin.backbones.common import choose, sinusoids
from sertk.core import Backbone, InputSpec, Padded, UsageError, check_range

PART = "backbone 'text_transformer'"


class TextTransformer(Backbone):
    """A Transformer encoder over the units of a text (Vaswani et al. 2017), such as the pieces of `sentencepiece`.

    A unit's vector and the sinusoids of its place go through layers with the norm in front of each part, and one behind
    the last. No frame attends to padding.

    Args:
        inputs: What the run offers; given by the run.
        reads: The input that it reads, numbers of symbols; the only one when null.
        width: Of the frames.
        layers: Transformer layers.
        heads: Attention heads; they divide the width.
        ffn: Width of the feed-forward layer.
        dropout: Probability on what the layers read and inside them, at least 0 and below 1.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        reads: str | None = None,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        ffn: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.inputs = (choose("text_transformer", inputs, reads, symbols="sentencepiece"),)
        for name, value in {"width": width, "layers": layers, "heads": heads, "ffn": ffn}.items():
            check_range(PART, name, value, at_least=1)
        check_range(PART, "dropout", dropout, at_least=0, below=1)
        if width % heads:
            raise UsageError(f"{PART}: heads is {heads}; it is a divisor of the width, {width}")
        source = inputs[self.inputs[0]]
        self.width, self.frame_seconds, self.frames = width, source.frame_seconds, source.frames
        self.embedding = nn.Embedding(source.symbols, width)  # of variance 1, as the sinusoids are of size 1
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(width, heads, ffn, dropout, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{name: (B, T, 1)} numbers of symbols -> (B, T, D)."""
        x = inputs[self.inputs[0]].fill(0)
        units = self.embedding(x.data[..., 0])
        return Padded(self.encoder(self.dropout(units + sinusoids(units)), src_key_padding_mask=~x.mask), x.length)

"""The model: inputs -> backbone -> windows -> pooling -> heads, as `model(inputs, spans) -> Views`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sertk.core import Backbone, Head, HeadSpec, Padded, Pooling, Span, View, Views


class Normalize(nn.Module):
    """Standardises an input with the statistics of the training fold, which travel in the bundle.

    Args:
        width: D of the input.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def fit(self, batches: Iterable[Padded], *, scalar: bool) -> None:
        """Sets mean and standard deviation over the real frames of the training fold.

        Args:
            batches: The training inputs, (B, T, D) each.
            scalar: One mean and deviation for all dimensions, as image-like inputs want it.
        """
        count, total, square = 0, torch.zeros(0), torch.zeros(0)
        for batch in batches:
            frames = batch.data[batch.mask].double()
            count += len(frames)
            total = frames.sum(0) if not len(total) else total + frames.sum(0)
            square = frames.pow(2).sum(0) if not len(square) else square + frames.pow(2).sum(0)
        mean, power = total / count, square / count
        if scalar:
            mean, power = mean.mean().expand_as(mean), power.mean().expand_as(power)
        self.mean.copy_(mean)
        # a dimension that never varies (an empty mel band) would otherwise be divided by rounding error
        self.scale.copy_((power - mean.pow(2)).clamp(min=1e-8).sqrt())

    def forward(self, inputs: Padded) -> Padded:
        """(B, T, D) -> the same, standardised, padding zero."""
        return Padded((inputs.data - self.mean) / self.scale, inputs.length).fill(0.0)


class Model(nn.Module):
    """A backbone, a pooling and heads.

    Args:
        normalize: One for each input that is standardised.
        backbone: Inputs to frames.
        pooling: Frames to an embedding.
        heads: Head plugins by name; "emotion" is the one that decides.
        specs: What each head is: its output map and the branches that it reads.
        branches: Slices of the embedding by branch.
    """

    def __init__(
        self,
        normalize: Mapping[str, Normalize],
        backbone: Backbone,
        pooling: Pooling,
        heads: Mapping[str, Head],
        specs: Mapping[str, HeadSpec],
        branches: Mapping[str, slice],
    ) -> None:
        super().__init__()
        self.normalize: Mapping[str, Normalize] = nn.ModuleDict(normalize)  # type: ignore[assignment]
        self.backbone, self.pooling, self.heads = backbone, pooling, nn.ModuleDict(heads)
        self.specs, self._branches = specs, branches

    def forward(self, inputs: Mapping[str, Padded], spans: Iterable[Span]) -> Views:
        """Runs the backbone once and looks at its frames through every span.

        Args:
            inputs: {name: (B, T, ·)}.
            spans: The views wanted.

        Returns:
            A view of (N, ·) windows for each span.
        """
        ready = {name: self.normalize[name](x) if name in self.normalize else x for name, x in inputs.items()}
        frames = self.backbone(ready)
        return {span: self._view(frames, span) for span in spans}

    def _view(self, frames: Padded, span: Span) -> View:
        windows, owner, count = cut(frames, span)
        embedding, refined = self.pooling(windows.data, windows.mask)
        heads = {name: head(self._read(embedding, name)) for name, head in self.heads.items()}
        spec = self.specs.get("emotion")
        output = spec.output if spec else "softmax"
        return View(Padded(refined, windows.length), embedding, heads, owner, count, output)

    def _read(self, embedding: Tensor, head: str) -> Tensor:
        reads = self.specs[head].reads
        return embedding if reads is None else torch.cat([embedding[:, self._branches[name]] for name in reads], 1)


def cut(frames: Padded, span: Span) -> tuple[Padded, Tensor, Tensor]:
    """Cuts (B, T, D) into the (N, L, D) windows of a span.

    Returns:
        The windows, their owner (N,) and how many windows that owner has (N,).
    """
    owner, start, size = span.cut(frames.length)
    count = torch.bincount(owner, minlength=len(frames.length))[owner]
    if not span.length:
        return frames, owner, count
    steps = torch.arange(min(span.length, frames.data.shape[1]), device=start.device)
    at = (start[:, None] + steps).clamp(max=frames.data.shape[1] - 1)
    return Padded(frames.data[owner[:, None], at], size).fill(0.0), owner, count

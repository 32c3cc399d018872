"""The model: inputs -> backbone -> windows -> pooling -> heads, as `model(inputs, spans) -> Views`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from types import MappingProxyType

import torch
from torch import Tensor, nn

from sertk.core import Backbone, Head, HeadSpec, Padded, Pooled, Pooling, SertkError, Span, View, Views
from sertk.modeling.borders import NEXT, check_finite, check_padded, check_shape, inside
from sertk.modeling.speakers import moments, of_windows
from sertk.settings.schema import EMBEDDING


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

    def forward(self, inputs: Padded, speakers: Tensor | None = None) -> Padded:
        """(B, T, D) -> the same, standardised, padding zero.

        Args:
            inputs: As they are.
            speakers: (B, 2, D) mean and deviation of what is standardised already, of each row's speaker; see `shrunk`.
        """
        data = (inputs.data - self.mean) / self.scale
        if speakers is not None:
            mean, deviation = speakers[:, None].unbind(2)  # (B, 1, D) each
            data = (data - mean) / deviation
        return Padded(data, inputs.length).fill(0.0)


class Model(nn.Module):
    """A backbone, a pooling and heads.

    Args:
        normalize: One for each input that is standardised; of `EMBEDDING` one for what the pooling gives.
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
        self.backbone, self.pooling = backbone, pooling
        self.heads: Mapping[str, Head] = nn.ModuleDict(heads)  # type: ignore[assignment]
        self.specs, self._branches = specs, branches

    def forward(
        self,
        inputs: Mapping[str, Padded],
        spans: Iterable[Span],
        speakers: Mapping[str, Tensor] = MappingProxyType({}),
        *,
        finite: bool = False,
    ) -> Views:
        """Runs the backbone once and looks at its frames through every span.

        Args:
            inputs: {name: (B, T, ·)}.
            spans: The views wanted.
            speakers: Statistics of the rows' speakers by input, see `Batch`; without them those of training alone.
            finite: Whether to refuse values that are not finite, which a GPU would have to wait for.

        Returns:
            A view of (N, ·) windows for each span.

        Raises:
            SertkError: Where a part fails, or returns what it did not promise.
        """
        frames = self._frames(inputs, speakers)
        if finite:
            check_finite(self.backbone.who, frames.data[frames.mask])
        return {span: self._view(frames, span, speakers.get(EMBEDDING), finite=finite) for span in spans}

    @torch.no_grad()
    def moments(self, inputs: Mapping[str, Padded], names: Sequence[str], span: Span) -> dict[str, Tensor]:
        """(B, 2 D + 1) of B utterances by name, as training's statistics standardise them; see `speakers`.

        Args:
            inputs: {name: (B, T, D)}.
            names: Of inputs, or `EMBEDDING`, of which the windows of the span count.
            span: The windows that are decided on.
        """
        known = [name for name in names if name in self.normalize]
        found = {name: moments(self.normalize[name](inputs[name])) for name in known if name != EMBEDDING}
        if EMBEDDING in known:
            raw, owner = self.raw(inputs, span)
            found[EMBEDDING] = of_windows(self.standardised(raw), owner, len(next(iter(inputs.values())).length))
        return found

    def raw(self, inputs: Mapping[str, Padded], span: Span) -> tuple[Tensor, Tensor]:
        """(N, E) what the pooling gives of the windows of B utterances, and (N,) whose each is."""
        windows, owner, _ = cut(self._frames(inputs, {}), span)
        return pool(self.pooling, windows.data, windows.mask).embedding, owner

    def standardised(self, embedding: Tensor, speakers: Tensor | None = None) -> Tensor:
        """(N, E) what the pooling gives, with `Normalize` of `EMBEDDING`; speakers (N, 2, E) are those of each row."""
        one = torch.ones(len(embedding), dtype=torch.int64, device=embedding.device)
        found: Padded = self.normalize[EMBEDDING](Padded(embedding[:, None], one), speakers)
        return found.data[:, 0]

    def _frames(self, inputs: Mapping[str, Padded], speakers: Mapping[str, Tensor]) -> Padded:
        """(B, L, D) what the backbone makes of the inputs, after `normalize`."""
        ready = {n: self.normalize[n](x, speakers.get(n)) if n in self.normalize else x for n, x in inputs.items()}
        with inside(self.backbone.who):
            found = self.backbone(ready)
        return check_padded(self.backbone.who, found, len(next(iter(ready.values())).length), self.backbone.width)

    def _view(self, frames: Padded, span: Span, speakers: Tensor | None, *, finite: bool) -> View:
        windows, owner, count = cut(frames, span)
        embedding, refined = pool(self.pooling, windows.data, windows.mask)
        if EMBEDDING in self.normalize:
            embedding = self.standardised(embedding, None if speakers is None else speakers[owner])
        heads = {name: self._head(name, embedding) for name in self.heads}
        if finite:
            check_finite(self.pooling.who, embedding)
            for name, values in heads.items():
                check_finite(self.heads[name].who, values, name)
        spec = self.specs.get("emotion")
        output = spec.output if spec else "softmax"
        return View(Padded(refined, windows.length), embedding, heads, owner, count, output)

    def mixed(self, view: View, other: Tensor, share: Tensor) -> View:
        """A view whose embeddings are mixed, and what the heads make of them; the frames stay.

        Args:
            view: Of N windows.
            other: (N,) the window that each is mixed with.
            share: (N,) of that window.
        """
        embedding = torch.lerp(view.embedding, view.embedding[other], share[:, None])
        return replace(view, embedding=embedding, heads={name: self._head(name, embedding) for name in view.heads})

    def _head(self, name: str, embedding: Tensor) -> Tensor:
        """(N, out) of a head, from the branches that it reads."""
        head, spec = self.heads[name], self.specs[name]
        with inside(head.who):
            values = head(self.read_by(name, embedding))
        return check_shape(head.who, values, (len(embedding), spec.out))

    def read_by(self, name: str, embedding: Tensor) -> Tensor:
        """(N, E) -> (N, ·) what a head reads of it: the branches that it names, or all."""
        reads = self.specs[name].reads
        return embedding if reads is None else torch.cat([embedding[:, self._branches[one]] for one in reads], 1)


class Branches(Pooling):
    """The branches of a fusion, each pooled by itself; their embeddings side by side.

    Args:
        parts: A pooling for each branch.
        columns: Of the frames, by branch, in the same order.
    """

    def __init__(self, parts: Sequence[Pooling], columns: Mapping[str, slice]) -> None:
        super().__init__()
        self.parts: Sequence[Pooling] = nn.ModuleList(parts)  # type: ignore[assignment]
        self.out, self.who, self._columns = sum(part.out for part in parts), parts[0].who, columns

    @property
    def slices(self) -> dict[str, slice]:
        """The columns of the embedding by branch."""
        ends = accumulate(part.out for part in self.parts)
        return {
            name: slice(end - part.out, end) for name, part, end in zip(self._columns, self.parts, ends, strict=True)
        }

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, L, D), (N, L) -> (N, E), (N, L, D)."""
        own = zip(self.parts, self._columns.values(), strict=True)
        each = [pool(part, frames[..., columns], mask) for part, columns in own]
        return Pooled(torch.cat([one.embedding for one in each], 1), torch.cat([one.frames for one in each], 2))


def pool(pooling: Pooling, frames: Tensor, mask: Tensor) -> Pooled:
    """What a pooling makes of (N, L, D) windows, of the shapes that it promised.

    Raises:
        SertkError: Where it fails, or returns something else.
    """
    with inside(pooling.who):
        found = pooling(frames, mask)
    if not isinstance(found, Pooled):
        raise SertkError(f"{pooling.who} returned {type(found).__name__}; expected Pooled(embedding, frames). {NEXT}")
    check_shape(pooling.who, found.embedding, (len(frames), pooling.out))
    check_shape(pooling.who, found.frames, tuple(frames.shape), "frames")
    return found


def cut(frames: Padded, span: Span) -> tuple[Padded, Tensor, Tensor]:
    """Cuts (B, T, D) into the (N, L, D) windows of a span.

    Returns:
        The windows, their owner (N,) and how many windows that owner has (N,).
    """
    owner, start, size = span.cut(frames.length)
    if not span.length:
        return frames, owner, torch.ones_like(owner)
    count = torch.bincount(owner, minlength=len(frames.length))[owner]
    steps = torch.arange(min(span.length, frames.data.shape[1]), device=start.device)
    at = (start[:, None] + steps).clamp(max=frames.data.shape[1] - 1)
    return Padded(frames.data[owner[:, None], at], size).fill(0.0), owner, count

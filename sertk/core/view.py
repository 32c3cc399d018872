"""What the model hands to losses and decisions: windows of frames, their embeddings and their heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self, get_args

import torch
from torch import Tensor

from sertk.core.batch import Padded
from sertk.core.errors import UsageError

Tail = Literal["keep", "drop", "align"]
At = Literal["auto", "whole", "segments", "both"]
Output = Literal["softmax", "sigmoid", "linear"]


class Span(NamedTuple):
    """Windows over the backbone's frames (P3 section 3.1); `WHOLE` is the utterance itself.

    Attributes:
        length: Frames of a window, 0 for the whole.
        hop: Frames between the starts of two windows.
        tail: The ragged end: "keep" one shorter last window, "drop" it, or "align" a full one to the end.
            An utterance not longer than a window is one window, itself.
    """

    length: int = 0
    hop: int = 0
    tail: Tail = "keep"

    @classmethod
    def parse(cls, text: str, frame_seconds: float) -> Self:
        """Reads "140:70" (frames), "2.8s:1.4s" (seconds) or either with ":drop" or ":align" behind.

        Args:
            text: What the user gave.
            frame_seconds: Duration of one frame of the backbone, seconds.

        Raises:
            UsageError: Where the text is not of that form or a size is under one frame.
        """
        length, hop, end = (*text.split(":"), "keep")[:3] if text.count(":") in (1, 2) else ("", "", "")
        tail = next((known for known in get_args(Tail) if known == end), None)
        try:
            sizes = [round(float(s[:-1]) / frame_seconds) if s.endswith("s") else int(s) for s in (length, hop)]
        except (ValueError, OverflowError):
            sizes = [0, 0]
        if min(sizes) < 1 or tail is None:
            raise UsageError(
                f"segments {text!r} is not LENGTH:HOP[:keep|drop|align] with sizes of at least one frame, "
                f"in frames (140:70) or seconds (2.8s:1.4s); one frame here is {frame_seconds:.4g} s."
            )
        return cls(sizes[0], sizes[1], tail)

    def cut(self, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where the windows of B sequences lie.

        Args:
            length: (B,) frames of each.

        Returns:
            owner (N,), start (N,) and size (N,), sorted by owner, then position.
        """
        if not self.length:
            rows = torch.arange(len(length), device=length.device)
            return rows, torch.zeros_like(length), length
        beyond = (length - self.length).clamp(min=0)
        extra = beyond // self.hop if self.tail == "drop" else (beyond + self.hop - 1) // self.hop
        if self.tail != "align":  # a hop beyond the length may step over the end; what aligns is moved back to it
            extra = torch.minimum(extra, (length - 1).clamp(min=0) // self.hop)
        count = 1 + extra
        owner = torch.repeat_interleave(torch.arange(len(length), device=length.device), count)
        first = torch.repeat_interleave(count.cumsum(0) - count, count)
        start = (torch.arange(len(owner), device=length.device) - first) * self.hop
        if self.tail == "align":
            start = torch.minimum(start, beyond[owner])
        return owner, start, (length[owner] - start).clamp(max=self.length)


WHOLE = Span()


@dataclass(frozen=True)
class Crop:
    """Fixed-length pieces of an input, cut before the backbone.

    Attributes:
        length: Seconds of a piece.
        hop: Seconds between the starts of two pieces; the length when None.
        train: Which pieces are trained on; of "all" the last one is padded, and is none where it has one frame alone.
        score: Which pieces are scored, likewise; the decision merges them.
        pad: What fills a shorter input: "silence" (the feature of digital silence) or "mean" (zero after
            normalisation).
        inputs: Those that are cut, by name; None for all that run in time. The others stay whole.
    """

    length: float
    hop: float | None = None
    train: Literal["first", "all", "center", "random"] = "first"
    score: Literal["first", "all", "center", "random"] = "first"
    pad: Literal["silence", "mean"] = "silence"
    inputs: tuple[str, ...] | None = None


@dataclass(frozen=True)
class View:
    """The N windows of a batch for one span, sorted by owner, then position.

    Attributes:
        frames: (N, L, D) as the pooling refined them.
        embedding: (N, E).
        heads: (N, ·) by head name; "emotion" holds the C logits.
        owner: (N,) the batch row of a window.
        count: (N,) windows of its row.
        output: How the emotion head's values become probabilities.
    """

    frames: Padded
    embedding: Tensor
    heads: Mapping[str, Tensor]
    owner: Tensor
    count: Tensor
    output: Output = "softmax"

    @property
    def logits(self) -> Tensor:
        """(N, C) values of the emotion head."""
        return self.heads["emotion"]

    @property
    def posterior(self) -> Tensor:
        """(N, C) rows sum to 1, by the output map of the emotion head.

        softmax: of the logits. sigmoid: the sigmoids over their sum. linear: the distribution nearest to the values.
        """
        if self.output == "sigmoid":
            # the sigmoids over their sum, which a sum of sigmoids cannot tell where all are next to 0
            return torch.nn.functional.logsigmoid(self.logits).softmax(1)
        return nearest_distribution(self.logits) if self.output == "linear" else self.logits.softmax(1)

    @property
    def position(self) -> Tensor:
        """(N,) the number of a window within its row, from 0."""
        steps = torch.arange(len(self.owner), device=self.owner.device)
        return steps - torch.searchsorted(self.owner, self.owner)

    def mean(self, values: Tensor, rows: int) -> Tensor:
        """(N, ·) values of the windows -> (rows, ·), the mean over the windows of each row."""
        count = torch.bincount(self.owner, minlength=rows)
        return values.new_zeros(rows, values.shape[1]).index_add(0, self.owner, values) / count[:, None]

    def float(self) -> View:
        """The same in float32, as losses want it."""
        frames = Padded(self.frames.data.float(), self.frames.length)
        heads = {name: value.float() for name, value in self.heads.items()}
        return View(frames, self.embedding.float(), heads, self.owner, self.count, self.output)


def nearest_distribution(values: Tensor) -> Tensor:
    """The distribution with the least squared distance to each row (Duchi et al. 2008, figure 1).

    A head that is trained to give one-hot labels as they are has values near a distribution already. The order of the
    values stays: the largest value has the largest probability.

    Args:
        values: (N, C).

    Returns:
        (N, C), rows sum to 1.
    """
    ordered = values.sort(1, descending=True).values
    beyond = ordered.cumsum(1) - 1  # by how much the k largest sum to more than 1
    size = torch.arange(1, values.shape[1] + 1, device=values.device)
    count = (ordered * size > beyond).sum(1, keepdim=True).clamp(min=1)  # how many stay above 0; NaN stays NaN
    return (values - beyond.gather(1, count - 1) / count).clamp(min=0)


Views = Mapping[Span, View]


@dataclass(frozen=True)
class Dims:
    """Sizes that a loss may need, and the one setting `segments`.

    Attributes:
        frame: D, width of a frame.
        embedding: E, width of an embedding.
        frames: T where the backbone's output length is fixed, else None.
        branches: Slices of E by branch of a fusion.
        segments: The windows that `at: segments` means, None when the run has none.
    """

    frame: int
    embedding: int
    frames: int | None = None
    branches: Mapping[str, slice] = field(default_factory=dict)
    segments: Span | None = None

    def spans(self, at: At, auto: At = "both") -> tuple[Span, ...]:
        """The spans that an `at` setting means.

        Args:
            at: "whole", "segments", "both", or "auto": `auto` where the run has segments, else the whole.
            auto: See above.

        Raises:
            UsageError: If `at` names segments and the run has none.
        """
        if at == "auto":
            at = auto if self.segments else "whole"
        if at == "whole":
            return (WHOLE,)
        if self.segments is None:
            raise UsageError(f"at: {at} needs windows, and the run has none; set them, for example --segments 140:70.")
        return (self.segments,) if at == "segments" else (self.segments, WHOLE)

"""Poolings that are wrong in one way each, and some that are right; `says` is what the contracts must say of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sertk.core import FrameSpec, Pooled, Pooling, UsageError, mean_std
from sertk.hookspecs import hookimpl


class Average(Pooling):
    """The mean of the real frames: a right one. The others have its constructor."""

    says = ""

    def __init__(self, frames: FrameSpec, project: int | None = None) -> None:
        super().__init__()
        width = frames.width
        self.out = project or width
        self.projection = nn.Linear(width, project) if project else nn.Identity()
        self.prepare(width)

    def prepare(self, width: int) -> None:
        """Makes what it needs."""

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        return Pooled(self.projection(self.pool(frames, mask)), frames)

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(N, L, D), (N, L) -> (N, D)."""
        return frames.masked_fill(~mask[..., None], 0.0).sum(1) / mask.sum(1, keepdim=True)


class FirstFrame(Pooling):
    """The first frame: a right one, without parameters, which leaves the others out."""

    says = ""

    def __init__(self, frames: FrameSpec, project: int | None = None) -> None:
        super().__init__()
        self.out = project or frames.width
        self.projection = nn.Linear(frames.width, project) if project else nn.Identity()

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        return Pooled(self.projection(frames[:, 0]), frames)


class Deviation(Average):
    """The deviation alone, which has no gradient where frames are alike: a right one."""

    says = ""

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return mean_std(frames, mask)[1]


class Flat(Pooling):
    """All frames side by side: a right one, where every window has as many."""

    says = ""

    def __init__(self, frames: FrameSpec, project: int | None = None) -> None:
        super().__init__()
        if frames.frames is None:
            raise UsageError("pooling 'Flat' takes windows of one length. Set crop: {length: SECONDS}.")
        self.out = project or frames.frames * frames.width
        self.projection = nn.Linear(frames.frames * frames.width, project) if project else nn.Identity()

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        return Pooled(self.projection(frames.flatten(1)), frames)


class ReadsPadding(Average):
    """The mean of all frames."""

    says = "changes the embedding"

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return frames.mean(1)


class PaddedLength(Average):
    """The sum of the real frames over the padded length."""

    says = "change the embedding"

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return frames.masked_fill(~mask[..., None], 0.0).mean(1)


class LastFrame(Average):
    """The last frame, though it be padding."""

    says = "the embedding"

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return frames[:, -1]


class RefinesPadding(Average):
    """The refined frames of a window depend on its padding."""

    says = "the refined frames"

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        return Pooled(super().forward(frames, mask).embedding, frames - frames.mean(1, keepdim=True))


class OverBatch(Average):
    """Takes the mean of the batch away."""

    says = "companions change the embedding"

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        found = super().pool(frames, mask)
        return found - found.mean(0)


class BatchNormInTraining(Average):
    """Its batch norm stays in training mode."""

    says = "raised ValueError"

    def prepare(self, width: int) -> None:
        self.norm = nn.BatchNorm1d(width)

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return self.norm.train()(super().pool(frames, mask))


class Constant(Average):
    """Does not look at the frames."""

    says = "the frames do not matter"

    def prepare(self, width: int) -> None:
        self.answer = nn.Parameter(torch.randn(width))

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return self.answer.expand(len(frames), -1)


class ConstantFrames(Average):
    """Gives refined frames that say nothing."""

    says = "the refined frames"

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        return Pooled(super().forward(frames, mask).embedding, torch.zeros_like(frames))


class Swaps(Average):
    """The mean over the wrong axis."""

    says = "the embedding is ("

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return frames.mean(2)


class Squeezes(Average):
    """Drops the batch where it is of one window."""

    says = "the embedding is (8,)"

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return super().pool(frames, mask).squeeze(0)


class WrongOut(Average):
    """Says another width than it gives."""

    says = "by its `out` it must be"

    def prepare(self, width: int) -> None:
        self.out += 1


class NoProjection(Average):
    """Forgets `project`."""

    says = "with project: 3"

    def prepare(self, width: int) -> None:
        self.out, self.projection = width, nn.Identity()


class HardWidth(Average):
    """Takes frames that are 8 wide, whatever it is offered."""

    says = "raised RuntimeError"

    def prepare(self, width: int) -> None:
        self.score = nn.Linear(8, 1)

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        share = self.score(frames).masked_fill(~mask[..., None], -torch.inf).softmax(1)
        return (share * frames.masked_fill(~mask[..., None], 0.0)).sum(1)


class NarrowFrames(Average):
    """Refined frames are not as wide as they were."""

    says = "the frames are"

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        return Pooled(super().forward(frames, mask).embedding, frames[..., :3])


class Doubles(Average):
    """Gives float64."""

    says = "torch.float64"

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        return Pooled(super().forward(frames, mask).embedding.double(), frames)


class Writes(Average):
    """Zeroes the padding of the frames that it is given."""

    says = "changes the frames it is given"

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return frames.data.masked_fill_(~mask[..., None], 0.0).sum(1) / mask.sum(1, keepdim=True) + 0 * frames.sum(1)


class DropsAlways(Average):
    """Its dropout does not heed eval mode."""

    says = "torch's own random numbers"

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return nn.functional.dropout(super().pool(frames, mask), 0.5, training=True)


class Detaches(Average):
    """The backbone below it learns nothing."""

    says = "no gradient"

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return super().pool(frames.detach(), mask)


class DetachesFrames(Average):
    """The refined frames have no gradient."""

    says = "no gradient"

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        return Pooled(super().forward(frames, mask).embedding, frames.detach())


class DetachesWeight(Average):
    """Its own scores learn nothing."""

    says = "score.weight"

    def prepare(self, width: int) -> None:
        self.score = nn.Linear(width, 1)

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        share = self.score(frames).masked_fill(~mask[..., None], -torch.inf).softmax(1).detach()
        return (share * frames.masked_fill(~mask[..., None], 0.0)).sum(1)


class RootOfNothing(Average):
    """The deviation over time, whose root has no slope where there is none."""

    says = "the gradient of"

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        mean = super().pool(frames, mask)
        left = (frames - mean[:, None]).masked_fill(~mask[..., None], 0.0)
        return (left.square().sum(1) / mask.sum(1, keepdim=True)).sqrt() + mean


class Remembers(Average):
    """Compares with what it has seen, which it keeps in a list."""

    says = "differ"

    def prepare(self, width: int) -> None:
        self.seen: list[Tensor] = []

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        found = super().pool(frames, mask)
        self.seen.append(found.detach().mean())
        return found - torch.stack(self.seen).mean()


class LearnsInList(Average):
    """What it gathers in training lies in a list, which no state_dict knows."""

    says = "saved and loaded"

    def prepare(self, width: int) -> None:
        self.seen = [torch.zeros(width)]

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        found = super().pool(frames, mask)
        if self.training:
            self.seen.append(found.detach().mean(0))
        return found - torch.stack(self.seen).mean(0)


class HiddenWeight(Average):
    """A weight that no state_dict knows."""

    says = "saved and loaded"

    def prepare(self, width: int) -> None:
        self.shift = torch.randn(width)

    def pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        return super().pool(frames, mask) + self.shift


@hookimpl
def sertk_poolings() -> Mapping[str, type[Pooling]]:
    return {name: one for name, one in globals().items() if hasattr(one, "says")}

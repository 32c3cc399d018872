"""Backbones that are wrong in one way each, and some that are right; `says` is what the contracts must say of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from sertk.core import Backbone, InputSpec, Padded, UsageError
from sertk.hookspecs import hookimpl


class Halved(Backbone):
    """A layer on every second frame: a right one."""

    says = ""

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__()
        source = inputs["mel"]
        self.inputs, self.width, self.frame_seconds = ("mel",), 6, 2 * source.frame_seconds
        self.layer = nn.Linear(source.width, 6)

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        x = inputs["mel"]
        return Padded(self.change(self.layer(x.data[:, ::2])), (x.length + 1) // 2)

    def change(self, frames: Tensor) -> Tensor:
        """(B, T, 6) -> the same, with something wrong."""
        return frames


class Nothing(Halved):
    """Every second frame as it is: a right one, without parameters."""

    says = ""

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.width, self.layer = inputs["mel"].width, nn.Identity()  # type: ignore[assignment]


class Joined(Halved):
    """Two branches of two inputs, one of them frozen: a right one."""

    says = ""
    offered: ClassVar = {"mel": InputSpec(40, 0.01), "pitch": InputSpec(3, 0.01)}

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.inputs, self.width = ("mel", "pitch"), 6 + inputs["pitch"].width
        self.branches = {"mel": slice(0, 6), "pitch": slice(6, self.width)}
        self.layer.requires_grad_(False)

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        found = super().forward(inputs)
        return Padded(torch.cat([found.data, inputs["pitch"].data[:, ::2]], 2), found.length)


class Refuses(Halved):
    """Takes 40 bands, and says so: a right one."""

    says = ""

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        if inputs["mel"].width != 40:
            raise UsageError("backbone 'Refuses' reads 40 bands. Set inputs: {mel: {name: mel, n_mels: 40}}.")
        super().__init__(inputs)


class Hundred(Halved):
    """Takes crops of 100 frames, and says so: a right one."""

    says = ""

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.time = nn.Linear(50, 50)
        self.fixed, self.frames = 100, 50

    def change(self, frames: Tensor) -> Tensor:
        return self.time(frames.transpose(1, 2)).transpose(1, 2)


# ---------------------------------------------------------------- inputs, sizes and times


class WrongFrames(Hundred):
    """Says that 60 frames come of 100."""

    says = "`frames` is 60"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.frames = 60


class IgnoresInput(Halved):
    """Reads two inputs, and one of them for nothing."""

    says = "the input 'pitch' does not matter"
    offered: ClassVar = {"mel": InputSpec(40, 0.01), "pitch": InputSpec(3, 0.01)}

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.inputs = ("mel", "pitch")


class Constant(Halved):
    """Gives its bias."""

    says = "the input 'mel' does not matter"

    def change(self, frames: Tensor) -> Tensor:
        return frames * 0.0 + self.layer.bias


class HardBands(Halved):
    """Takes 40 bands, whatever it is offered."""

    says = "raised RuntimeError"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.layer = nn.Linear(40, 6)


class HardSeconds(Halved):
    """Takes 100 frames a second, whatever it is offered."""

    says = "frame_seconds 0.02"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.frame_seconds = 0.02


class WrongSeconds(Halved):
    """Forgets that it leaves every second frame out."""

    says = "frame_seconds 0.01"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.frame_seconds = inputs["mel"].frame_seconds


class NoSeconds(Halved):
    """Says that its frames come all at once."""

    says = "frame_seconds is 0.0"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.frame_seconds = 0.0


class WrongLength(Halved):
    """Says that all frames are left."""

    says = "by its width and lengths it must be"

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        return Padded(super().forward(inputs).data, inputs["mel"].length)


class LongestLength(Halved):
    """Says that every row is as long as the longest."""

    says = "changes its 30 frames to 39"

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        found = super().forward(inputs)
        return Padded(found.data, torch.full_like(found.length, found.data.shape[1]))


class Floors(Halved):
    """A row of one frame has none."""

    says = "no frames"

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        return Padded(super().forward(inputs).data, inputs["mel"].length // 2)


class NeedsHundred(Hundred):
    """Takes 100 frames, and does not say so with `fixed`."""

    says = "raised RuntimeError"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.fixed = self.frames = None


class WrongFixed(Hundred):
    """Says that it takes 80 frames, where it takes 100."""

    says = "raised RuntimeError"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.fixed = 80


class Squeezes(Halved):
    """Drops the batch where it is of one row."""

    says = "gives ("

    def change(self, frames: Tensor) -> Tensor:
        return frames.squeeze(0)


class Swaps(Halved):
    """Gives (B, D, T)."""

    says = "gives ("

    def change(self, frames: Tensor) -> Tensor:
        return frames.transpose(1, 2)


class OneName(Halved):
    """Its inputs are a text and no tuple."""

    says = "reads ['m', 'e', 'l']"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.inputs = "mel"  # type: ignore[assignment]


class Layers(Halved):
    """Six wide, of four layers."""

    says = "4 layers"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.layers = 4


class Branches(Halved):
    """Has a branch beyond its width."""

    says = "branch 'high'"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.branches = {"low": slice(0, 4), "high": slice(4, 7)}


class GroupsTwice(Halved):
    """Two groups hold one parameter, and an optimizer would step it twice."""

    says = "groups"

    def groups(self) -> Sequence[Sequence[nn.Parameter]]:
        return [list(self.parameters()), [self.layer.bias]]


class GroupsOfOthers(Halved):
    """A group holds what is no parameter of its own."""

    says = "groups"

    def groups(self) -> Sequence[Sequence[nn.Parameter]]:
        return [[*self.parameters(), nn.Parameter(torch.zeros(1))]]


# ---------------------------------------------------------------- values


class OverPadding(Halved):
    """Takes the mean of all frames away, those of padding too."""

    says = "changes its frames"

    def change(self, frames: Tensor) -> Tensor:
        return frames - frames.mean(1, keepdim=True)


class ConvolvesPadding(Halved):
    """The last frame sees what lies behind it."""

    says = "padding changes its frames"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.convolution = nn.Conv1d(6, 6, 3, padding=1)

    def change(self, frames: Tensor) -> Tensor:
        return self.convolution(frames.transpose(1, 2)).transpose(1, 2)


class OverBatch(Halved):
    """Takes the mean of the batch's first frames away."""

    says = "companions change its frames"

    def change(self, frames: Tensor) -> Tensor:
        return frames - frames[:, :1].mean(0)


class BatchNormInTraining(Halved):
    """Its batch norm stays in training mode."""

    says = "changes its frames"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.norm = nn.BatchNorm1d(6)

    def change(self, frames: Tensor) -> Tensor:
        return self.norm.train()(frames.transpose(1, 2)).transpose(1, 2)


class CountsInEval(Halved):
    """Changes its state where it only scores; its frames do not show it yet."""

    says = "changes 'norm.running_mean'"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.norm = nn.BatchNorm1d(6)

    def change(self, frames: Tensor) -> Tensor:
        with torch.no_grad():
            self.norm.train()(frames.transpose(1, 2))
        return frames


class BatchNormOfBatch(Halved):
    """Its batch norm keeps no statistics, so that it takes those of the batch in eval mode too."""

    says = "changes its frames"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.norm = nn.BatchNorm1d(6, track_running_stats=False)

    def change(self, frames: Tensor) -> Tensor:
        return self.norm(frames.transpose(1, 2)).transpose(1, 2)


class TrainingOnly(Halved):
    """Fails as soon as it is trained."""

    says = "raised RuntimeError"

    def change(self, frames: Tensor) -> Tensor:
        return frames @ torch.ones(5, 6) if self.training else frames


class DropsAlways(Halved):
    """Its dropout does not heed eval mode."""

    says = "torch's own random numbers"

    def change(self, frames: Tensor) -> Tensor:
        return nn.functional.dropout(frames, 0.5, training=True)


class Writes(Halved):
    """Scales the input that it is given."""

    says = "changes the input 'mel'"

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        inputs["mel"].data.mul_(0.5)
        return super().forward(inputs)


class Doubles(Halved):
    """Gives float64."""

    says = "torch.float64"

    def change(self, frames: Tensor) -> Tensor:
        return frames.double()


class NoNumbers(Halved):
    """The root of what may be negative."""

    says = "not finite"

    def change(self, frames: Tensor) -> Tensor:
        return frames.sqrt()


# ---------------------------------------------------------------- learning


class Detaches(Halved):
    """Cuts the gradient of its layer."""

    says = "layer.weight"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.last = nn.Linear(6, 6)

    def change(self, frames: Tensor) -> Tensor:
        return self.last(frames.detach())


class NoGradient(Halved):
    """Learns nothing at all."""

    says = "no gradient"

    @torch.no_grad()
    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        return super().forward(inputs)


class RootOfNothing(Halved):
    """The deviation over time, whose root has no slope where there is none."""

    says = "the gradient of layer"

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        found = super().forward(inputs)
        mean = found.fill(0.0).data.sum(1, keepdim=True) / found.length[:, None, None]
        left = Padded(found.data - mean, found.length).fill(0.0)
        spread = (left.data.square().sum(1, keepdim=True) / found.length[:, None, None]).sqrt()
        return Padded(found.data + spread, found.length)


# ---------------------------------------------------------------- what is kept


class Remembers(Halved):
    """Compares with the rows that it has seen, which it keeps in a list."""

    says = "differ"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.seen: list[Tensor] = []

    def change(self, frames: Tensor) -> Tensor:
        self.seen.append(frames[:, 0].detach().mean())
        return frames - torch.stack(self.seen).mean()


class LearnsInList(Halved):
    """What it gathers in training lies in a list, which no state_dict knows."""

    says = "saved and loaded"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.seen: list[Tensor] = [torch.zeros(6)]

    def change(self, frames: Tensor) -> Tensor:
        if self.training:
            self.seen.append(frames[:, 0].detach().mean(0))
        return frames - torch.stack(self.seen).mean(0)


class HiddenWeight(Halved):
    """A weight that no state_dict knows."""

    says = "saved and loaded"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.shift = torch.randn(6)

    def change(self, frames: Tensor) -> Tensor:
        return frames + self.shift


class HiddenBuffer(Halved):
    """A buffer that matters, and is not kept."""

    says = "saved and loaded"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.register_buffer("shift", torch.randn(6), persistent=False)

    def change(self, frames: Tensor) -> Tensor:
        return frames + self.shift


class Shared(Halved):
    """Two names of one tensor, which safetensors does not take."""

    says = "cannot be saved"

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__(inputs)
        self.other = nn.Linear(self.layer.in_features, 6)
        self.other.weight = self.layer.weight


class LeavesPlace(Halved):
    """A bundle would name the folder that it was loaded from."""

    says = "'/checkpoints/mine'"
    places = ("source",)
    settings: ClassVar = {"source": "/checkpoints/mine"}

    def __init__(self, inputs: Mapping[str, InputSpec], source: str | None = None) -> None:
        super().__init__(inputs)


class ForgetsSetting(Halved):
    """A bundle has another setting than the run."""

    says = "saved and loaded"
    places = ("source",)
    settings: ClassVar = {"source": "/checkpoints/mine", "scale": 3.0}

    def __init__(self, inputs: Mapping[str, InputSpec], source: str | None = None, scale: float = 1.0) -> None:
        super().__init__(inputs)
        self.scale = scale

    def change(self, frames: Tensor) -> Tensor:
        return frames * self.scale

    def portable(self) -> Mapping[str, object]:
        return {"source": None, "scale": 1.0}


class Letters(Backbone):
    """A vector for each symbol: a right one."""

    says = ""
    offered: ClassVar = {"units": InputSpec(1, math.inf, symbols=11, optional=True)}

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        super().__init__()
        self.inputs, self.width, self.frame_seconds = ("units",), 6, math.inf
        self.layer = nn.Embedding(inputs["units"].symbols, 6)

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        x = inputs["units"].fill(0)
        return Padded(self.layer(x.data[..., 0]), x.length)


class SeesPadding(Letters):
    """A symbol comes with that of the batch's last place."""

    says = "changes its frames"

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        found = super().forward(inputs)
        return Padded(found.data + found.data[:, -1:], found.length)


@hookimpl
def sertk_backbones() -> Mapping[str, type[Backbone]]:
    return {name: one for name, one in globals().items() if hasattr(one, "says")}

"""Several backbones side by side: speech and text, two encoders, frames and functionals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor, nn

from sertk.core import (
    Backbone,
    FrameSpec,
    InputSpec,
    Padded,
    Pooled,
    Pooling,
    UsageError,
    check_range,
    mean_std,
    nearest,
)


class Fusion(Backbone):
    """Named branches, each a backbone that reads its own input and is pooled by itself; an utterance is one frame.

    The frame is the embeddings of the branches side by side, in their order (P4 section 4, F = Concat(...)). A head may
    read some of them by name. Where an utterance lacks the input of a branch, as a transcript, that branch is not run
    for it: a learned vector stands for its embedding.

    A branch that is frozen whole is computed once and cached, where it reads a wave or a text that no crop cuts: give
    `crop` the `inputs` that it cuts.

    Args:
        inputs: What the run offers; given by the run.
        branches: Backbones by name, each with the input that it `reads`.
        poolings: The pooling of a branch, by its name; the mean over its frames where none is named.
        drop: Probability that a branch of a training row is taken for lacking; one branch at least stays.
    """

    joins: ClassVar[str] = "branches"

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        branches: Mapping[str, Backbone],
        poolings: Mapping[str, Callable[[FrameSpec], Pooling]] | None = None,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        _check_names(branches, poolings or {})
        check_range("backbone 'fusion'", "drop", drop, at_least=0, below=1)
        self._drop = drop
        self.parts: Mapping[str, Backbone] = nn.ModuleDict(branches)  # type: ignore[assignment]
        made = {
            name: make(FrameSpec(branches[name].width, branches[name].frames))
            for name, make in (poolings or {}).items()
        }
        self.poolings: Mapping[str, Pooling] = nn.ModuleDict(made)  # type: ignore[assignment]
        widths = {name: made[name].out if name in made else one.width for name, one in branches.items()}
        ends = dict(zip(widths, accumulate(widths.values()), strict=True))
        self.branches = {name: slice(ends[name] - width, ends[name]) for name, width in widths.items()}
        self.inputs = tuple(dict.fromkeys(name for one in branches.values() for name in one.inputs))
        self._optional = {name for name, one in branches.items() if any(inputs[i].optional for i in one.inputs)}
        lacking = widths if drop else self._optional
        self.lacking = nn.ParameterDict({name: nn.Parameter(torch.zeros(widths[name])) for name in lacking})
        self.weights = ", ".join(f"{name} {one.weights}" for name, one in branches.items() if one.weights)
        self.width, self.frame_seconds, self.frames = sum(widths.values()), math.inf, 1
        self.longest = min(one.longest for one in branches.values())
        self.fixed = next((one.fixed for one in branches.values() if one.fixed is not None), None)

    def groups(self) -> Sequence[Sequence[nn.Parameter]]:
        """Those of the branches, the last groups of all side by side; poolings and vectors learn at the run's rate."""
        own = [part.groups() for part in self.parts.values()]
        depth = max(map(len, own))
        padded: list[list[Sequence[nn.Parameter]]] = [[[]] * (depth - len(groups)) + list(groups) for groups in own]
        return [[one for group in level for one in group] for level in zip(*padded, strict=True)]

    def portable(self) -> Mapping[str, object]:
        """What each branch has instead of the place of its weights."""
        return {"branches": {name: part.portable() for name, part in self.parts.items()}}

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{name: (B, T, ·)} -> (B, 1, D)."""
        present = {
            name: torch.stack([inputs[i].present for i in one.inputs]).all(0) for name, one in self.parts.items()
        }
        kept = self._kept(present)
        found = [self._embedding(name, inputs, present[name], kept[name]) for name in self.parts]
        joined = torch.cat(found, 1)
        return Padded(joined[:, None], torch.ones_like(present[next(iter(present))], dtype=torch.int64))

    def _kept(self, present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """(B,) by branch, whether it counts: in training a random choice of what there is, never none of it."""
        if not self.training or not self._drop:
            return dict(present)
        there = torch.stack([*present.values()])  # (branches, B)
        kept = there & (torch.rand(there.shape, device=there.device) >= self._drop)
        return dict(zip(present, torch.where(kept.any(0), kept, there), strict=True))

    def _embedding(self, name: str, inputs: Mapping[str, Padded], present: Tensor, kept: Tensor) -> Tensor:
        """(B, E) of a branch, its learned vector where it does not count."""
        read = {i: inputs[i] for i in self.parts[name].inputs}
        if name not in self._optional:
            found = self._pooled(name, read)
        else:
            rows = present.nonzero()[:, 0]
            some = self._pooled(name, {i: x.take(rows) for i, x in read.items()}) if len(rows) else self._nothing(name)
            found = some.new_zeros(len(present), some.shape[1]).index_copy(0, rows, some)
        if name not in self.lacking:
            return found
        return torch.where(kept[:, None], found, self.lacking[name].to(found.dtype))

    def _pooled(self, name: str, read: Mapping[str, Padded]) -> Tensor:
        """(B, E) of a branch."""
        frames: Padded = self.parts[name](read)
        if name not in self.poolings:
            return mean_std(frames.data, frames.mask)[0]
        pooled: Pooled = self.poolings[name](frames.data, frames.mask)
        return pooled.embedding

    def _nothing(self, name: str) -> Tensor:
        """(0, E) of a branch that no row has; with a gradient of zero, for ranks must agree on what has one."""
        parts = [*self.parts[name].parameters(), *(self.poolings[name].parameters() if name in self.poolings else ())]
        parts.append(self.lacking[name])
        anchor = torch.stack([one.sum() for one in parts if one.requires_grad]).sum() * 0
        return anchor.expand(0, len(self.lacking[name]))


def _check_names(branches: Mapping[str, Backbone], poolings: Mapping[str, object]) -> None:
    """Refuses no branches, names that weights cannot have, and poolings of no branch.

    Raises:
        UsageError: There.
    """
    if not branches:
        raise UsageError("backbone 'fusion' has no branches; give {NAME: {name: BACKBONE, reads: INPUT}, ...}")
    for name in branches:
        if not name.isidentifier() or any(hasattr(kind, name) for kind in (nn.ModuleDict, nn.ParameterDict)):
            what = "use letters, digits and _" if not name.isidentifier() else "torch has something else of that name"
            raise UsageError(f"backbone 'fusion': {name!r} is no name of a branch; {what}")
    odd = next((name for name in poolings if name not in branches), None)
    if odd is not None:
        raise UsageError(f"backbone 'fusion': poolings has the branch {odd!r}{nearest(odd, branches)}")

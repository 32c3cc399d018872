"""Heads that are wrong in one way each, and some that are right; `says` is what the contracts must say of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sertk.core import Head
from sertk.hookspecs import hookimpl


class Affine(Head):
    """An affine layer: a right one."""

    says = ""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, out)

    def forward(self, embedding: Tensor) -> Tensor:
        return self.layer(embedding)


class FourClasses(Affine):
    """Gives four values, whatever is asked."""

    says = "gives (6, 4)"

    def __init__(self, width: int, out: int) -> None:
        super().__init__(width, 4)


class FiveClasses(Affine):
    """Gives five."""

    says = "5)"

    def __init__(self, width: int, out: int) -> None:
        super().__init__(width, 5)


class HardWidth(Affine):
    """Takes embeddings that are 8 wide."""

    says = "raised RuntimeError"

    def __init__(self, width: int, out: int) -> None:
        super().__init__(8, out)


class Constant(Affine):
    """Gives its bias."""

    says = "the embedding does not matter"

    def forward(self, embedding: Tensor) -> Tensor:
        return self.layer(embedding * 0.0)


class Swaps(Affine):
    """Gives (out, N)."""

    says = "gives (5, 6)"

    def forward(self, embedding: Tensor) -> Tensor:
        return super().forward(embedding).T


class Squeezes(Affine):
    """Drops the batch where it is of one row."""

    says = "gives (5,)"

    def forward(self, embedding: Tensor) -> Tensor:
        return super().forward(embedding).squeeze(0)


class BatchNormInTraining(Affine):
    """Its batch norm stays in training mode, and one row has no deviation."""

    says = "raised ValueError"

    def __init__(self, width: int, out: int) -> None:
        super().__init__(width, out)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, embedding: Tensor) -> Tensor:
        return super().forward(self.norm.train()(embedding))


class OverBatch(Affine):
    """Takes the mean of the batch away."""

    says = "companions change its values"

    def forward(self, embedding: Tensor) -> Tensor:
        return super().forward(embedding - embedding.mean(0))


class UnitLength(Affine):
    """Divides by a length that may be zero."""

    says = "not finite"

    def forward(self, embedding: Tensor) -> Tensor:
        return super().forward(embedding / embedding.norm(dim=1, keepdim=True))


class Detaches(Affine):
    """What lies below it learns nothing."""

    says = "no gradient"

    def forward(self, embedding: Tensor) -> Tensor:
        return super().forward(embedding.detach())


class LearnsNothing(Affine):
    """Its own weights learn nothing."""

    says = "layer.weight"

    def forward(self, embedding: Tensor) -> Tensor:
        return nn.functional.linear(embedding, self.layer.weight.detach(), self.layer.bias)


class DropsAlways(Affine):
    """Its dropout does not heed eval mode."""

    says = "torch's own random numbers"

    def forward(self, embedding: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(embedding, 0.5, training=True))


class Writes(Affine):
    """Scales the embedding that it is given."""

    says = "changes the embedding it is given"

    def forward(self, embedding: Tensor) -> Tensor:
        embedding.data.mul_(0.5)
        return super().forward(embedding)


class Doubles(Affine):
    """Gives float64."""

    says = "torch.float64"

    def forward(self, embedding: Tensor) -> Tensor:
        return super().forward(embedding).double()


class Remembers(Affine):
    """Compares with what it has seen, which it keeps in a list."""

    says = "differ"

    def __init__(self, width: int, out: int) -> None:
        super().__init__(width, out)
        self.seen: list[Tensor] = []

    def forward(self, embedding: Tensor) -> Tensor:
        self.seen.append(embedding.detach().mean())
        return super().forward(embedding - torch.stack(self.seen).mean())


class LearnsInList(Affine):
    """What it gathers in training lies in a list, which no state_dict knows."""

    says = "saved and loaded"

    def __init__(self, width: int, out: int) -> None:
        super().__init__(width, out)
        self.seen = [torch.zeros(width)]

    def forward(self, embedding: Tensor) -> Tensor:
        if self.training:
            self.seen.append(embedding.detach().mean(0))
        return super().forward(embedding - torch.stack(self.seen).mean(0))


class HiddenWeight(Affine):
    """A weight that no state_dict knows."""

    says = "saved and loaded"

    def __init__(self, width: int, out: int) -> None:
        super().__init__(width, out)
        self.shift = torch.randn(out)

    def forward(self, embedding: Tensor) -> Tensor:
        return super().forward(embedding) + self.shift


@hookimpl
def sertk_heads() -> Mapping[str, type[Head]]:
    return {name: one for name, one in globals().items() if hasattr(one, "says")}

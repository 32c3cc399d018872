"""Centre loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sertk.core import WHOLE, Dims, Loss, Target, Task, Views, check_range


class Center(Loss):
    """(1/B) sum_b |z_b - c_{y_b}|^2, without Wen et al.'s 1/2 (P2 eq. 8).

    z is the embedding of the whole. P2 has 64 dimensions and does not say whether its classifier reads them too: with
    `pooling: {name: flam, project: 64}` it does, with `width: 64` here it reads what was pooled. The class of a mixed
    row is its dominant one. The centres are learned at a rate of their own and begin as standard normal numbers (the
    paper does not say).

    Args:
        task: Given by the run.
        dims: Given by the run.
        rate: Learning rate of the centres, above 0.
        width: Of a linear projection of the embedding that this loss alone reads; null takes the embedding as it is.
    """

    def __init__(self, task: Task, dims: Dims, rate: float = 5e-3, width: int | None = None) -> None:
        super().__init__()
        check_range("loss 'center'", "rate", rate, above=0)
        check_range("loss 'center'", "width", width, at_least=1, null=True)
        self._rate = rate
        self.projection = nn.Linear(dims.embedding, width) if width else nn.Identity()
        self.centers = nn.Parameter(torch.randn(len(task.classes), width or dims.embedding))

    def own_rate(self) -> Mapping[float, Sequence[nn.Parameter]]:
        """The centres have their own."""
        return {self._rate: [self.centers]}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows -> a scalar."""
        points: Tensor = self.projection(views[WHOLE].embedding)
        distance = (points - self.centers[target.hard]).pow(2).sum(1)
        return (distance * target.weight).sum() / target.weight.sum().clamp(min=1e-6)

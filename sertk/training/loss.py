"""The training objective: a weighted sum of losses."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sertk.core import HeadSpec, Loss, SertkError, Span, Target, Terms, UsageError, Views


class Mixture(nn.Module):
    """sum_k weight_k L_k (P2 eq. 11; P3 eqs. 1 and 4 are sums of two).

    Args:
        losses: By the name they are reported under.
        weights: By the same names; a checkpoint holds them, for `normalize` may have changed them.

    Raises:
        UsageError: Where two losses ask for different batches or different heads of one name.
    """

    def __init__(self, losses: Mapping[str, Loss], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.losses: Mapping[str, Loss] = nn.ModuleDict(losses)  # type: ignore[assignment]
        self.weight: Tensor
        self.register_buffer("weight", torch.tensor([weights[name] for name in losses], dtype=torch.float64))
        self.spans: tuple[Span, ...] = tuple(dict.fromkeys(span for loss in losses.values() for span in loss.spans))
        self.sampler = _sampler(losses)
        self.heads = _heads(losses)

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Terms:
        """Views of B rows, their labels and groups -> the total and its unweighted terms."""
        values = {name: loss(views, target, groups) for name, loss in self.losses.items()}
        each = torch.stack(list(values.values()))
        return Terms((self.weight.to(each) * each).sum(), {name: value.detach() for name, value in values.items()})

    @property
    def weights(self) -> dict[str, float]:
        """The weights by the names of the losses."""
        return dict(zip(self.losses, self.weight.tolist(), strict=True))

    def normalize(self, largest: Mapping[str, float]) -> None:
        """Divides each weight by the largest value that was seen of its term (P2 eq. 11: terms in [0, 1]).

        Args:
            largest: By the names of the losses.

        Raises:
            SertkError: Where a term was never above 0, or no number.
        """
        for name, value in largest.items():
            if not 0 < value < math.inf:
                raise SertkError(
                    f"loss {name!r} was at most {value} in the pilot, which gives it no weight. Raise `pilot`, so that "
                    "some batch has what the loss compares, or set pilot: null and give each loss its `weight`."
                )
        self.weight /= self.weight.new_tensor([largest[name] for name in self.losses])

    def rates(self) -> tuple[dict[float, list[nn.Parameter]], list[nn.Parameter]]:
        """Parameters with a rate of their own, by rate, and the others."""
        own: dict[float, list[nn.Parameter]] = {}
        for loss in self.losses.values():
            for rate, parameters in loss.own_rate().items():
                own.setdefault(rate, []).extend(parameters)
        apart = {id(p) for parameters in own.values() for p in parameters}
        return own, [p for p in self.parameters() if id(p) not in apart]


def _sampler(losses: Mapping[str, Loss]) -> str:
    special = {name: loss.sampler for name, loss in losses.items() if loss.sampler != "shuffle"}
    if len(set(special.values())) > 1:
        wants = ", ".join(f"{name} wants {sampler!r}" for name, sampler in special.items())
        raise UsageError(
            f"these losses cannot share a batch: {wants}. Train with one of them, or change their settings."
        )
    return next(iter(special.values()), "shuffle")


def _heads(losses: Mapping[str, Loss]) -> dict[str, HeadSpec]:
    heads: dict[str, HeadSpec] = {}
    for name, loss in losses.items():
        for head, spec in loss.heads().items():
            if heads.setdefault(head, spec) != spec:
                raise UsageError(
                    f"loss {name!r} wants the head {head!r} as {spec}, another as {heads[head]}. Choose one."
                )
    return heads

"""The training objective: a weighted sum of losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sertk.core import HeadSpec, Loss, Span, Target, Terms, UsageError, Views


class Mixture(nn.Module):
    """sum_k weight_k L_k.

    Args:
        losses: By the name they are reported under.
        weights: By the same names.

    Raises:
        UsageError: Where two losses ask for different batches or different heads of one name.
    """

    def __init__(self, losses: Mapping[str, Loss], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.losses: Mapping[str, Loss] = nn.ModuleDict(losses)  # type: ignore[assignment]
        self.weights = dict(weights)
        self.spans: tuple[Span, ...] = tuple(dict.fromkeys(span for loss in losses.values() for span in loss.spans))
        self.sampler = _sampler(losses)
        self.heads = _heads(losses)

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Terms:
        """Views of B rows, their labels and groups -> the total and its unweighted terms."""
        values = {name: loss(views, target, groups) for name, loss in self.losses.items()}
        total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return Terms(total, {name: value.detach() for name, value in values.items()})

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

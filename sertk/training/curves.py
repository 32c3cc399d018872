"""The curves of a run: the objective and the accuracy on train and dev after each epoch, measured alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from sertk.core.files import Record
from sertk.training import distributed
from sertk.training.dev import Dev
from sertk.training.loading import Item, Loader

if TYPE_CHECKING:
    from sertk.training.loop import EmotionBrain


class Curves:
    """Measures each part after an epoch: rows as they are, not augmented, in eval mode.

    So a figure of train is one of the model at the end of the epoch, not the mean of a model that learned meanwhile
    on augmented rows, and it can be compared with the one of dev. The loss is the objective as a mean over rows, which
    count alike whatever their classes weigh, without the terms that compare rows chosen for each other.

    Args:
        parts: The rows of this rank and the utterances of each part, by its name.
    """

    def __init__(self, parts: Mapping[str, tuple[Loader, Dev]]) -> None:
        self._parts = parts

    @torch.no_grad()
    def measure(self, brain: EmotionBrain) -> dict[str, Record]:
        """{"train": {"loss", "wa"}, "dev": ...}."""
        brain.modules.eval()
        return {name: self._part(brain, *part) for name, part in self._parts.items()}

    def _part(self, brain: EmotionBrain, loader: Loader, part: Dev) -> Record:
        sums = torch.zeros(len(brain.training.mixture.losses), 2, dtype=torch.float64)
        for item in loader:
            sums += _batch(brain, item, part)
        loss, rows = distributed.sum_over_ranks(sums).unbind(1)
        confusion = part.scores().confusion
        mean = (loss / rows.clamp(min=1)).sum().item()
        return {"loss": mean, "wa": confusion.diagonal().sum().item() / confusion.sum().item()}


def _batch(brain: EmotionBrain, item: Item, part: Dev) -> torch.Tensor:
    """(K, 2) float64: the terms of the objective over the rows, and their rows; keeps what is decided."""
    training = brain.training
    with brain.evaluation_ctx:
        views, batch = brain.views(item, train=False)
    with torch.autocast(brain.device_type, enabled=False):
        terms = training.plain_loss(views, batch)
        part.add(item.batch.ids, *training.decide(views, batch, item))
    return terms.double().cpu()

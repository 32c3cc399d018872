"""Loss weights by a pilot: each term divided by its largest value in batches that nothing is learned from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from sertk.console.progress import say
from sertk.core import key
from sertk.core.files import write_json
from sertk.training import distributed
from sertk.training.loading import Item, Loader
from sertk.training.loop import EmotionBrain


def weigh(brain: EmotionBrain, batches: Loader, path: Path) -> None:
    """Weighs the terms of the objective by their largest value in some batches.

    Args:
        brain: Ready to train; its objective gets the weights.
        batches: The same ones on all ranks.
        path: Where the values and weights are written.

    Raises:
        SertkError: Where a term was never above 0, or no number.
    """
    mixture, largest = brain.training.mixture, _largest_terms(brain, batches)
    mixture.normalize(largest)
    about = {"batches": len(batches), "largest": largest, "weights": mixture.weights}
    distributed.rank_zero(lambda: write_json(path, about))
    weights = ", ".join(f"{name} {weight:.4g}" for name, weight in mixture.weights.items())
    say(f"weights of the losses, by a pilot of {len(batches)} batches: {weights}")


@torch.no_grad()
def _largest_terms(brain: EmotionBrain, items: Iterable[Item]) -> dict[str, float]:
    """The largest value of each term of the objective on some training batches, of which nothing remains.

    Dropout is on, a function of the seed and the batch; batch statistics and generators are put back.
    """
    kept = [(buffer, buffer.clone()) for buffer in brain.modules.buffers()]
    found: list[dict[str, float]] = []
    brain.modules.train()
    with torch.random.fork_rng([brain.device] if brain.device_type == "cuda" else []):
        for item in items:
            torch.manual_seed(key(brain.training.seed, "pilot", len(found)) & (2**63 - 1))
            with brain.training_ctx:
                views, batch = brain.views(item, train=True)
            with torch.autocast(brain.device_type, enabled=False):
                terms = brain.training.terms(views, batch).terms
            found.append({name: value.item() for name, value in terms.items()})
    for buffer, value in kept:
        buffer.copy_(value)
    # a value that is no number stays one: max() would pass over it
    return {name: torch.tensor([one[name] for one in found]).max().item() for name in found[0]}

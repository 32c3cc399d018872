"""An augmentation: the wave upside down."""

from collections.abc import Mapping
from dataclasses import replace

from sertk.core import Augmentation, Batch, Padded, Rng
from sertk.hookspecs import hookimpl


class Example(Augmentation):
    """Turns the sign of some rows.

    Args:
        share: Probability of a row to be turned.
    """

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        """B rows with "wave" (B, S) -> B rows. Each row has its own random stream, so it is the same in any batch."""
        wave = batch.inputs["wave"]
        sign = 1 - 2 * (rng.uniform() < self.share).float()  # (B, 1)
        return replace(batch, inputs={**batch.inputs, "wave": Padded(wave.data * sign, wave.length)})


@hookimpl
def sertk_augmentations() -> Mapping[str, type[Augmentation]]:
    """The name that `--augment` takes."""
    return {"example": Example}

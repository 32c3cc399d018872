"""A sampler: random batches, whatever the lengths."""

from collections.abc import Mapping

import torch

from sertk.core import BatchSampler, Plan
from sertk.hookspecs import hookimpl


class Example(BatchSampler):
    """Each row once an epoch, in random batches of equal size."""

    def plans(self, generator: torch.Generator) -> list[Plan]:
        """The batches of one epoch: rows, groups that a loss asks for, and weights."""
        rows = torch.randperm(len(self.labels), generator=generator)
        parts = torch.tensor_split(rows, -(-len(rows) // self.batch))
        return [Plan(part, {}, torch.ones(len(part))) for part in parts]


@hookimpl
def sertk_samplers() -> Mapping[str, type[BatchSampler]]:
    """The name that the setting `sampler` takes."""
    return {"example": Example}

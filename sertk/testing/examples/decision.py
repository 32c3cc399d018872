"""A decision: the geometric mean of the windows' posteriors."""

from collections.abc import Mapping

from torch import Tensor

from sertk.core import Decision, Rng, View
from sertk.hookspecs import hookimpl


def example(view: View, rows: int, rng: Rng) -> Tensor:
    """Windows of B utterances -> (B, C): the product of an utterance's posteriors, to the power 1 / their number."""
    log = view.posterior.clamp(min=1e-12).log()  # (N, C)
    total = log.new_zeros(rows, log.shape[1]).index_add(0, view.owner, log)
    return (total / view.owner.bincount(minlength=rows)[:, None]).softmax(1)


@hookimpl
def sertk_decisions() -> Mapping[str, Decision]:
    """The name that the setting `decision` takes."""
    return {"example": example}

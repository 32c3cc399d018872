"""A metric: the recall of the class that is recognised worst."""

from collections.abc import Mapping

from sertk.core import Metric, Scores
from sertk.hookspecs import hookimpl


class Example(Metric):
    """The least recall of a class that occurs; a share, higher is better."""

    def __call__(self, scores: Scores) -> float:
        """N utterances -> from 0 to 1."""
        count = scores.confusion.sum(1)  # (C,) utterances of each class
        recall = scores.confusion.diagonal().double() / count.clamp(min=1)
        return float(recall[count > 0].min())


@hookimpl
def sertk_metrics() -> Mapping[str, type[Metric]]:
    """The name that `train.metric` takes; every report shows it."""
    return {"example": Example}

"""sertk: a speech emotion recognition toolkit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sertk.scoring.scorer import Scorer

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(bundle: str | Path, device: str = "cpu", plugins: Sequence[str | Path] = ()) -> Scorer:
    """Loads a model bundle; call the result with an audio file to get its posterior.

    Args:
        bundle: The `model` folder of a run, or an ensemble.
        device: cpu, cuda, cuda:N.
        plugins: The plugin files that the bundle was trained with, where there are any; they are run.

    Examples:
        >>> sertk.load("model/")("a.wav")  # doctest: +SKIP
        {'anger': 0.91, 'happiness': 0.05, 'neutral': 0.03, 'sadness': 0.01}
    """
    from sertk.scoring import ensemble  # here, so that `sertk --help` does not pay for torch

    return ensemble.load(bundle, device, plugins)

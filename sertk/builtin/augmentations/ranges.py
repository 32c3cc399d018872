"""Settings that several augmentations have."""

from __future__ import annotations

from collections.abc import Sequence

from sertk.core import UsageError, check_range


def chance_of(name: str, probability: float) -> float:
    """The probability of changing a row.

    Raises:
        UsageError: If it is not from 0 to 1.
    """
    check_range(f"augmentation {name!r}", "probability", probability, at_least=0, at_most=1)
    return probability


def ordered(name: str, setting: str, decibel: Sequence[float]) -> tuple[float, float]:
    """A range in dB, lowest and highest.

    Raises:
        UsageError: If it is not such a range.
    """
    # beyond 100 dB one of the two is below the last bit of 16; far beyond, powers of ten overflow
    if len(decibel) != 2 or not -100 <= decibel[0] <= decibel[1] <= 100:
        said = f"{setting} is {list(decibel)}; it is [lowest, highest], from -100 to 100 dB"
        raise UsageError(f"augmentation {name!r}: {said}")
    return float(decibel[0]), float(decibel[1])

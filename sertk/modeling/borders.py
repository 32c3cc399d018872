"""What is checked where a part hands something over, so that an error names the part.

Shapes cost nothing to look at. Values are looked at only where the computer waits for them anyway: at the loss and at
the posteriors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from sertk.core import Batch, Padded, Plan, SertkError

NEXT = "Run again with `sertk --debug ...` to see where."


@contextmanager
def inside(who: str) -> Iterator[None]:
    """Runs a part's own code: whatever it raises is an error that names the part.

    Raises:
        SertkError: For any exception but those that say what to do already.
    """
    try:
        yield
    except (SertkError, OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a guest can fail in any way
        raise SertkError(f"{who} failed: {type(error).__name__}: {error}. {NEXT}") from error


def check_shape(who: str, found: object, expected: tuple[int, ...], what: str = "") -> Tensor:
    """Gives a tensor of the shape that a part promised; refuses anything else.

    Args:
        who: The part.
        found: What it returned.
        expected: The shape; -1 stands for any size.
        what: Which of its results, where there are several.

    Raises:
        SertkError: With both shapes.
    """
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if isinstance(found, Tensor) and len(shape) == len(expected):
        wrong = [size for own, size in zip(shape, expected, strict=True) if size not in (-1, own)]
        if not wrong:
            return found
    wanted = str(expected).replace("-1", "any")
    raise SertkError(f"{who} returned {shape}{what and f' as {what}'}; expected {wanted}. {NEXT}")


def check_padded(who: str, found: object, rows: int, width: int) -> Padded:
    """Refuses what is no `Padded` of (rows, T, width) with a length for each row.

    Raises:
        SertkError: With both shapes.
    """
    if not isinstance(found, Padded):
        raise SertkError(f"{who} returned {type(found).__name__}; expected Padded(data, length). {NEXT}")
    check_shape(who, found.data, (rows, -1, width))
    check_shape(who, found.length, (rows,), "lengths")
    return found


def check_augmented(who: str, found: object, given: Batch) -> Batch:
    """Refuses a batch that has other rows, inputs or classes than the one that was given.

    Raises:
        SertkError: With what differs.
    """
    if not isinstance(found, Batch):
        raise SertkError(f"{who} returned {type(found).__name__}; expected Batch. {NEXT}")
    if found.ids != given.ids:
        raise SertkError(
            f"{who} returned {len(found.ids)} rows ({', '.join(found.ids[:3])}, ...); expected the {len(given.ids)} "
            f"rows that it was given ({', '.join(given.ids[:3])}, ...), in their order. {NEXT}"
        )
    if found.inputs.keys() != given.inputs.keys():
        raise SertkError(f"{who} returned the inputs {[*found.inputs]}; expected {[*given.inputs]}. {NEXT}")
    for name, one in found.inputs.items():
        check_shape(who, one.data, (len(given.ids), -1, *given.inputs[name].data.shape[2:]), name)
        check_shape(who, one.length, (len(given.ids),), f"lengths of {name}")
    if given.target is not None:
        check_shape(who, found.target and found.target.soft, tuple(given.target.soft.shape), "labels")
    return found


def check_loss(who: str, found: object) -> Tensor:
    """Refuses a loss that is no scalar.

    Raises:
        SertkError: With its shape.
    """
    value = check_shape(who, found, ())
    if not value.is_floating_point():
        raise SertkError(f"{who} returned {value.dtype}; expected a floating-point number. {NEXT}")
    return value


def check_posterior(who: str, found: object, rows: int, classes: int) -> Tensor:
    """Refuses what is no distribution a row; a row that is not finite is left to the caller, who knows its utterance.

    Raises:
        SertkError: With the shape, or the sum.
    """
    posterior = check_shape(who, found, (rows, classes))
    bad = ((posterior.sum(1) - 1).abs() > 1e-3) | (posterior < -1e-6).any(1)
    if bad.any():
        first = posterior[int(bad.nonzero()[0])].tolist()
        raise SertkError(f"{who} returned the posterior {first}; expected numbers of at least 0 that sum to 1. {NEXT}")
    return posterior


def check_plans(who: str, plans: Sequence[Plan], rows: int) -> None:
    """Refuses batches with rows that do not exist, or with weights and groups that do not go with their rows.

    Raises:
        SertkError: With the first number that is wrong.
    """
    for plan in plans:
        check_shape(who, plan.weight, (len(plan.rows),), "weights")
        for name, members in plan.groups.items():
            check_shape(who, members, (-1, -1), f"group {name!r}")
    _check_below(f"{who} returned rows", [plan.rows for plan in plans], [rows] * len(plans))
    groups = [(members.flatten(), len(plan.rows)) for plan in plans for members in plan.groups.values()]
    _check_below(f"{who} returned groups of rows", [one for one, _ in groups], [size for _, size in groups])


def _check_below(what: str, numbers: Sequence[Tensor], limits: Sequence[int]) -> None:
    """Refuses numbers outside of 0 to its limit - 1."""
    if not numbers:
        return
    sizes = torch.tensor([len(one) for one in numbers])
    every, limit = torch.cat(list(numbers)), torch.tensor(limits).repeat_interleave(sizes)
    bad = (every < 0) | (every >= limit)
    if bad.any():
        place = int(bad.nonzero()[0])
        raise SertkError(f"{what} with the number {int(every[place])}; expected 0 to {int(limit[place]) - 1}. {NEXT}")


def check_finite(who: str, found: Tensor, what: str = "") -> None:
    """Refuses values that are not finite. A GPU has to wait for this, so it is for cases where something is wrong.

    Raises:
        SertkError: With their number.
    """
    bad = int((~found.isfinite()).sum())
    if bad:
        raise SertkError(f"{who} returned {bad} of {found.numel()} values{what and f' of {what}'} that are not finite.")

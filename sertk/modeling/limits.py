"""How large the model of a bundle may be: no larger than its files, which is found before memory is asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sertk.core import Feature, SertkError, UsageError

LEAST = (8_000, 20_000_000)
"""Calls of torch and values that any model may be made of: its filters and positions are not among its weights."""
PER_CALL = 10_000
"""Bytes of weights for one more call: Whisper-tiny takes 2,000 calls and has 33 MB."""


class _Counted(TorchFunctionMode):
    """Ends what makes more tensors, or larger ones, than weights of so many bytes can fill."""

    def __init__(self, size: int) -> None:
        self.calls = 0
        self.most, self.values = LEAST[0] + size // PER_CALL, max(LEAST[1], size)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Any:  # noqa: ANN401
        self.calls += 1
        made = func(*args, **(kwargs or {}))
        self.check(made.numel() if func is not Tensor.numel and isinstance(made, Tensor) else 0)
        return made

    def check(self, values: int) -> None:
        """Refuses too many calls, or so many values.

        Raises:
            UsageError: There.
        """
        if self.calls > self.most or values > self.values:
            raise UsageError(
                f"its components make a model far larger than its weights, of {self.values} values at most"
            )


def asks_for_values(error: Exception) -> Exception | None:
    """What torch says where a part that is made on its meta device looks at values, of which there are none there."""
    cause = error.__cause__ or error
    told = isinstance(cause, NotImplementedError | RuntimeError) and "meta" in str(cause)
    return cause if told and isinstance(cause, Exception) else None


def check_size(make: Callable[[], Iterable[nn.Module | Feature]], size: int) -> None:
    """Makes modules on torch's meta device, without memory, and compares them with the weights that they will get.

    Args:
        make: Makes them.
        size: Bytes of the weights.

    Raises:
        UsageError: Where they are too large; where `make` raises it.
    """
    counted = _Counted(size)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), counted:
            modules = list(make())
    except (SertkError, NotImplementedError, RuntimeError) as error:
        if asks_for_values(error):  # a guest's part is code, which is trusted
            return
        raise
    counted.check(sum(one.numel() for part in modules for one in part.parameters()))

"""The processes that torchrun starts to train one run, by their rank; a process alone is rank 0 of 1."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous

from sertk.console.progress import console
from sertk.core import SertkError, UsageError

T = TypeVar("T")
_times = itertools.count()


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this one; rank 0 alone writes and speaks."""
    return distributed.get_rank() if world_size() > 1 else 0


def local_rank() -> int:
    """The number of this one on its machine, which is that of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if world_size() > 1 else 0


def launched() -> int:
    """How many processes torchrun started, whether or not they joined."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes for a while. Where they fail, the first to fail says why, and the others end in silence."""
    if launched() == 1 or world_size() > 1:
        yield
        return
    # the optimizers import it late; its defaults would then keep this group, with threads that outlive the interpreter
    import torch.distributed.nn

    whole, number, count = next(rendezvous("env://"))
    # a second time would find the addresses of the first
    store = distributed.PrefixStore(f"sertk {next(_times)}", whole)  # type: ignore[attr-defined]
    # small sums go by gloo on GPUs too: it sees at once when another process ends
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=number, world_size=count)
    console.quiet = number > 0
    try:
        yield
    except BaseException as error:
        if store.add("failed", 1) > 1:
            sys.exit(getattr(error, "exit_code", 1))
        console.quiet = False
        raise
    distributed.destroy_process_group()


def rank_zero(act: Callable[[], T]) -> T | None:
    """Lets rank 0 act while the others wait; gives them None."""
    done = None if rank() else act()
    sum_over_ranks(torch.zeros(1))
    return done


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum over ranks, the same on all of them; on the CPU."""
    values = values.cpu()
    if world_size() > 1:
        _tell(distributed.all_reduce, values)
    return values


def broadcast(module: nn.Module) -> None:
    """Gives all ranks the parameters and buffers of rank 0."""
    if world_size() > 1:
        for tensor in module.state_dict().values():
            _tell(distributed.broadcast, tensor, 0)


def average_gradients(parameters: Iterable[nn.Parameter], times: float) -> None:
    """Makes every gradient its mean over ranks, times a factor.

    A gradient that a rank lacks counts as zero, for not every batch need reach every parameter; what all lack stays so.
    """
    if world_size() == 1 and times == 1:
        return
    held = [one for one in parameters if one.requires_grad]
    if world_size() > 1:
        here = torch.tensor([float(one.grad is not None) for one in held], device=held[0].device)
        grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in held]
        flat = torch.cat([*(grad.flatten() for grad in grads), here])
        _tell(distributed.all_reduce, flat)
        *means, found = torch.split(flat / world_size(), [*(one.numel() for one in held), len(held)])
        for one, grad, mean, anywhere in zip(held, grads, means, found.tolist(), strict=True):
            # in the layout of the parameter, which fused optimizers take for granted (channels last, say)
            one.grad = grad.copy_(mean.view_as(one)) if anywhere else None
    for one in held:
        if one.grad is not None and times != 1:
            one.grad.mul_(times)


def known_device(name: str) -> torch.device:
    """What torch understands by the name of a device, whether or not this machine has one.

    Raises:
        UsageError: Where it is the name of none.
    """
    try:
        return torch.device(name)
    except RuntimeError:
        raise UsageError(f"Unknown device {name!r}. Use auto, cpu, cuda or cuda:N.") from None


def device(name: str) -> str:
    """The device that a setting means: "auto" is the GPU where there is one; each of several ranks has its own.

    Raises:
        UsageError: Where it is no device, or torch sees no such GPU.
    """
    if name == "auto":
        name = f"cuda:{local_rank()}" if torch.cuda.is_available() else "cpu"
    elif world_size() > 1 and name.startswith("cuda"):
        if name != "cuda":
            raise UsageError(f"device {name!r} is one GPU, and {world_size()} processes need one each; take cuda.")
        name = f"cuda:{local_rank()}"
    asked = known_device(name)
    here = torch.cuda.device_count()
    if asked.type == "cuda" and (asked.index or 0) >= here:
        raise UsageError(f"device {name!r}: torch sees {here} CUDA devices. Run `sertk doctor`, or take --device cpu.")
    return name


def _tell(collective: Callable[..., object], *arguments: object) -> None:
    try:
        collective(*arguments)
    except RuntimeError as error:
        raise SertkError(
            "another process of this run ended without saying why (killed, or out of memory). "
            "Run the same command again: it goes on from the last checkpoint."
        ) from error

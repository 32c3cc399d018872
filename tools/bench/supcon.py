"""The supervised contrast of frames without a matrix of all pairs, against P2's eq. 10 as it is printed: supcon.py.

A is `supcon` of the loss `frame_supcon`, B the formulation that people write: all scores at once, masked, a log-softmax
and the mean over the positives. Both give the value and the gradient, which are compared. Below the row stands the peak
of memory that each adds, in a process of its own that does nothing else: what Linux says is resident on the CPU, what
torch allocates on a GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np
import torch
from harness import Arrays, Way
from torch import Tensor

from sertk.builtin.losses.frame_supcon import supcon

TAU, CLASSES = 0.07, 4
TOLERANCE = 1e-4  # of the loss, and of the gradient in units of its largest value

Formulation = Callable[[Tensor, Tensor, float], Tensor]


def plain(points: Tensor, classes: Tensor, tau: float) -> Tensor:
    """P2 eq. 10 over (N, N) scores."""
    itself = torch.eye(len(points), dtype=torch.bool, device=points.device)
    log = (points @ points.T / tau).masked_fill(itself, -torch.inf).log_softmax(1)
    positive = (classes[:, None] == classes) & ~itself
    inner = log.masked_fill(~positive, 0.0).sum(1) / positive.sum(1).clamp(min=1)
    return -inner.mean()


def main() -> None:
    """Prints a row, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=16, help="utterances")
    parser.add_argument("--frames", type=int, default=500, help="of each")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--alone", action="store_true", help="ours only, where the plain one has no room")
    ask = parser.parse_args()
    sizes = (ask.rows, ask.frames, ask.width, ask.device)
    print(harness.machine("sertk", "torch", "numpy"))
    if not ask.alone:
        result = harness.compare(_way(supcon, sizes), _way(plain, sizes), ask.pairs, TOLERANCE)
        work = f"frame SupCon, value and gradient, {ask.rows} x {ask.frames} frames x {ask.width}, {ask.device}"
        print(harness.HEADER)
        print(result.row(work, "class sums and mirrored blocks", "all pairs at once"))
    for formulation in (supcon,) if ask.alone else (supcon, plain):
        print(f"{formulation.__name__}: {_peak(formulation, sizes) / 2**20:.0f} MiB at the peak")


def _points(rows: int, frames: int, width: int, device: str) -> tuple[Tensor, Tensor]:
    """Frames of random utterances, classes taking turns."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(rows * frames, width, generator=generator)
    classes = (torch.arange(rows) % CLASSES).repeat_interleave(frames)
    return torch.nn.functional.normalize(points, dim=1).to(device).requires_grad_(), classes.to(device)


def _step(formulation: Formulation, points: Tensor, classes: Tensor) -> tuple[float, Tensor]:
    """The value and the gradient."""
    value = formulation(points, classes, TAU)
    (gradient,) = torch.autograd.grad(value, points)
    return value.item(), gradient  # .item() waits for a GPU


def _way(formulation: Formulation, sizes: tuple[int, int, int, str]) -> Way:
    points, classes = _points(*sizes)
    made: dict[str, Tensor | float] = {}

    def run(folder: Path) -> None:
        made["value"], made["gradient"] = _step(formulation, points, classes)

    def read(folder: Path) -> Arrays:
        gradient = torch.as_tensor(made["gradient"]).cpu()
        return {"value": np.array([made["value"]]), "gradient": (gradient / gradient.abs().max()).numpy()}

    return Way(formulation.__name__, run, read)


def _peak(formulation: Formulation, sizes: tuple[int, int, int, str]) -> int:
    """Bytes at the peak of a step, above what was there before it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (formulation, sizes))


def _measure(formulation: Formulation, sizes: tuple[int, int, int, str]) -> int:
    _step(formulation, *_points(2, 8, *sizes[2:]))  # what the first call loads is not the step's
    points, classes = _points(*sizes)
    if points.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _step(formulation, points, classes)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far was the imports'
    before = _resident()
    _step(formulation, points, classes)
    return _resident() - before


def _resident() -> int:
    """Bytes of this process at its peak."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()

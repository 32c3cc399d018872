"""Contracts of poolings and heads, in eval mode and float32; and what backbones share with them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from sertk.core import FrameSpec, Head, Padded, Pooled, Pooling, SertkError
from sertk.testing.cases import (
    BrokenError,
    Check,
    Subject,
    alone,
    own_chance,
    require,
    require_close,
    require_finite,
    require_other,
    require_same,
    stretch,
)

LENGTHS: Final = (5, 12, 1, 9)  # frames of the windows that a pooling gets
WIDTH: Final = 8
WIDER: Final = 10  # which many heads of an attention divide too


Net = TypeVar("Net", bound=nn.Module)


# ---------------------------------------------------------------- what they share


def keeps_weights(
    subject: Subject,
    make: Callable[[], Net],
    run: Callable[[Net], list[Tensor]],
    again: Callable[[], Net] | None = None,
) -> None:
    """Trains one for a step, saves it to safetensors, loads it into another; requires the same bits from both.

    Args:
        subject: The component.
        make: Makes it.
        run: Its results.
        again: Makes the other; `make` where None.
    """
    first, second = make(), (again or make)().eval()  # made one after the other, so their random weights differ
    train_a_step(subject, first, run)
    kept = {name: value.contiguous() for name, value in first.state_dict().items()}
    try:
        content = save(kept)
    except RuntimeError as error:
        raise BrokenError(f"{subject.what} cannot be saved ({' '.join(str(error).split())}).") from error
    second.load_state_dict(load(content))
    for name, value in second.state_dict().items():
        require_same(value, kept[name], f"{subject.what}: {name} changes on its way through a file")
    with torch.no_grad():
        for found, wanted in zip(run(second), run(first), strict=True):
            require_same(found, wanted, f"{subject.what}, saved and loaded, gives another result")


def train_a_step(subject: Subject, module: Net, run: Callable[[Net], list[Tensor]]) -> None:
    """One step in training mode: finite results and gradients, and parameters that moved; then eval mode again."""
    module.train()
    _gradients(subject, module, run(module))
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01 * torch.randn_like(parameter))
    module.zero_grad()
    module.eval()


def _gradients(subject: Subject, module: nn.Module, results: list[Tensor]) -> None:
    """Computes gradients of a random sum of the results; requires finite ones."""
    total = torch.stack([(value * torch.randn_like(value)).sum() for value in results]).sum()
    require_finite(total, f"{subject.what}: its result")
    if not total.requires_grad:  # nothing to learn, such as a mean or a frozen backbone
        return
    total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            require_finite(parameter.grad, f"{subject.what}: the gradient of {name}")


def learns(subject: Subject, module: Net, run: Callable[[Net], list[Tensor]]) -> None:
    """Requires a finite gradient for every trainable parameter that changes a result."""
    module.zero_grad()
    _gradients(subject, module, run(module))
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad or parameter.grad is not None:
            continue
        with torch.no_grad():
            before, kept = run(module), parameter.clone()
            parameter.add_(torch.randn_like(parameter))
            moved = any(not torch.equal(a, b) for a, b in zip(run(module), before, strict=True))
            parameter.copy_(kept)
        said = f"{subject.what}: {name} gets no gradient, though it changes the results"
        require(not moved, f"{said}; do not cut its graph.")


def reaches(subject: Subject, results: Mapping[str, Tensor], source: Tensor, what: str, *, some: bool) -> None:
    """Requires a finite gradient from each result to what it is made of.

    Args:
        subject: The component.
        results: By name.
        source: What they are made of.
        what: Its name in the sentence.
        some: Whether some gradient must differ from 0. The deviation of equal frames has only zeros.
    """
    for name, value in results.items():
        graph, total = value.requires_grad, (value * torch.randn_like(value)).sum()
        (found,) = torch.autograd.grad(total, source, retain_graph=True, allow_unused=True) if graph else (None,)
        if found is None or (some and not bool(found.any())):
            raise BrokenError(f"{subject.what}: no gradient goes from {name} to {what}; do not cut the graph.")
        require_finite(found, f"{subject.what}: the gradient of {what}")


@contextlib.contextmanager
def same_state(subject: Subject, module: nn.Module) -> Iterator[None]:
    """What is done inside must not change the state of the module, which is in eval mode."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    yield
    for name, value in module.state_dict().items():
        require_same(value, before[name], f"{subject.what} in eval mode changes {name!r}")


def is_float32(subject: Subject, module: nn.Module, results: Mapping[str, Tensor]) -> None:
    """Requires parameters, buffers and results in float32."""
    values = {**module.state_dict(), **results}
    for name, value in values.items():
        fine = value.dtype == torch.float32 or not value.is_floating_point()
        require(fine, f"{subject.what}: {name} is {value.dtype}; with float32 inputs it must be torch.float32.")


# ---------------------------------------------------------------- poolings


def _spec(subject: Subject, width: int = WIDTH) -> FrameSpec:
    """What the pooling is made for: windows of any length, or of one length if it refuses others.

    Raises:
        UsageError: Where it refuses the width.
    """
    try:
        subject.make(FrameSpec(width))
    except SertkError:
        subject.make(FrameSpec(width, max(LENGTHS)))
        return FrameSpec(width, max(LENGTHS))
    return FrameSpec(width)


def _windows(spec: FrameSpec) -> Padded:
    """(N, L, D) random windows."""
    return Padded.stack([torch.randn(spec.frames or size, spec.width) for size in LENGTHS])


def _pooling(subject: Subject, spec: FrameSpec, **settings: object) -> Pooling:
    made: Pooling = subject.make(spec, **settings).eval()
    return made


@torch.no_grad()
def _pooled(subject: Subject, pooling: Pooling, rows: Padded) -> Pooled:
    """What a pooling gives; its shapes are checked against its `out`."""
    found: Pooled = pooling(rows.data, rows.mask)
    wanted = (len(rows.length), pooling.out)
    require(
        tuple(found.embedding.shape) == wanted,
        f"{subject.what}: the embedding is {tuple(found.embedding.shape)}; for {wanted[0]} rows and its `out` of "
        f"{wanted[1]} it must be {wanted}.",
    )
    same = found.frames.shape == rows.data.shape
    require(same, f"{subject.what}: the frames are {tuple(found.frames.shape)}; they stay {tuple(rows.data.shape)}.")
    require_finite(found.embedding, f"{subject.what}: its embedding")
    require_finite(found.frames[rows.mask], f"{subject.what}: its frames")
    is_float32(subject, pooling, {"its embedding": found.embedding, "its refined frames": found.frames})
    return found


def _same_window(subject: Subject, found: Pooled, rows: Padded, row: int, wanted: Pooled, because: str) -> None:
    size = int(rows.length[row])
    require_close(found.embedding[row], wanted.embedding[0], f"{subject.what}: {because} the embedding")
    require_close(found.frames[row, :size], wanted.frames[0, :size], f"{subject.what}: {because} the refined frames")


def pooling_padding(subject: Subject) -> None:
    """A window gives the same embedding and frames with any padding; windows of one length have none."""
    spec = _spec(subject)
    if spec.frames is not None:
        return
    pooling, rows = _pooling(subject, spec), _windows(spec)
    for row in range(len(LENGTHS)):
        one = alone(rows, row)
        padded = stretch(one)
        found, wanted = _pooled(subject, pooling, padded), _pooled(subject, pooling, one)
        _same_window(subject, found, padded, 0, wanted, "padding changes")


def pooling_companions(subject: Subject) -> None:
    """A window gives the same embedding and frames alone and in a batch."""
    spec = _spec(subject)
    pooling, rows = _pooling(subject, spec), _windows(spec)
    together = _pooled(subject, pooling, rows)
    for row in range(len(LENGTHS)):
        wanted = _pooled(subject, pooling, alone(rows, row))
        _same_window(subject, together, rows, row, wanted, "companions change")


def pooling_reads(subject: Subject) -> None:
    """The embedding and the refined frames depend on the frames, at any width that it does not refuse."""
    for width in (WIDTH, WIDER):
        try:
            spec = _spec(subject, width)
        except SertkError:
            if width == WIDTH:
                raise
            continue
        pooling = _pooling(subject, spec)
        found, other = (_pooled(subject, pooling, _windows(spec)) for _ in range(2))
        require_other(found.embedding, other.embedding, f"{subject.what}: the frames do not matter to the embedding.")
        require_other(found.frames, other.frames, f"{subject.what}: the frames do not matter to the refined frames.")


def pooling_repeats(subject: Subject) -> None:
    """The same windows give the same result twice, whatever comes between; the input is not changed."""
    spec = _spec(subject)
    pooling, rows, others = _pooling(subject, spec), _windows(spec), _windows(spec)
    rows = rows if spec.frames else stretch(rows)
    kept = rows.data.clone()
    with same_state(subject, pooling), own_chance(subject):
        first = _pooled(subject, pooling, rows)
        require_same(rows.data, kept, f"{subject.what} changes the frames it is given")
        _pooled(subject, pooling, others)
        third = _pooled(subject, pooling, rows)
    require_same(third.embedding, first.embedding, f"{subject.what}: after other windows the embedding differs")
    require_same(
        third.frames[rows.mask],
        first.frames[rows.mask],
        f"{subject.what}: after other windows the refined frames differ",
    )


def pooling_learning(subject: Subject) -> None:
    """Gradients are finite and reach the frames and its own parameters; one frame works, and equal frames do."""
    spec = _spec(subject)
    alike = [Padded(torch.ones(1, size, WIDTH), torch.tensor([size])) for size in (spec.frames or 1, spec.frames or 4)]
    for rows in (*alike, _windows(spec)):
        pooling, frames = _pooling(subject, spec), rows.data.clone().requires_grad_()
        _pooled(subject, pooling, rows)
        found = pooling(frames, rows.mask)
        results = {"the embedding": found.embedding, "the refined frames": found.frames}
        reaches(subject, results, frames, "the frames", some=len(frames) > 1)
        learns(subject, pooling, lambda made, rows=rows: list(made(rows.data, rows.mask)))  # type: ignore[misc]


def pooling_projects(subject: Subject) -> None:
    """`project` sets the width of the embedding."""
    spec = _spec(subject)
    pooling = _pooling(subject, spec, project=3)
    require(pooling.out == 3, f"{subject.what} with project: 3 says that its width is {pooling.out}; it must be 3.")
    _pooled(subject, pooling, _windows(spec))


def pooling_weights(subject: Subject) -> None:
    """Saving and loading change nothing."""
    spec = _spec(subject)
    rows = _windows(spec)

    def run(pooling: Pooling) -> list[Tensor]:
        found = pooling(rows.data, rows.mask)
        return [found.embedding, found.frames[rows.mask]]

    keeps_weights(subject, lambda: _pooling(subject, spec), run)
    keeps_weights(subject, lambda: _pooling(subject, spec, project=3), run)


POOLING: Final[Mapping[str, Check]] = {
    "padding does not matter": pooling_padding,
    "companions do not matter": pooling_companions,
    "its frames matter": pooling_reads,
    "gives the same twice": pooling_repeats,
    "gradients reach what it reads and learns": pooling_learning,
    "project sets its width": pooling_projects,
    "saved and loaded it gives the same bits": pooling_weights,
}


# ---------------------------------------------------------------- heads

OUTS: Final = (5, 3)
ROWS: Final = 6


def _head(subject: Subject, width: int = WIDTH, out: int = OUTS[0]) -> Head:
    made: Head = subject.make(width, out).eval()
    return made


@torch.no_grad()
def _values(subject: Subject, head: Head, embedding: Tensor, out: int = OUTS[0]) -> Tensor:
    found: Tensor = head(embedding)
    wanted = (len(embedding), out)
    require(tuple(found.shape) == wanted, f"{subject.what} gives {tuple(found.shape)}; it must be {wanted}.")
    require_finite(found, f"{subject.what}: its values")
    is_float32(subject, head, {"its result": found})
    return found


def head_companions(subject: Subject) -> None:
    """A row gives the same values alone and in a batch."""
    head, embedding = _head(subject), torch.randn(ROWS, WIDTH)
    together = _values(subject, head, embedding)
    for row in range(len(embedding)):
        one = _values(subject, head, embedding[row : row + 1])
        require_close(together[row], one[0], f"{subject.what}: companions change its values")


def head_reads(subject: Subject) -> None:
    """Values depend on the embedding, whatever its width and the number of values."""
    for width, out in zip((WIDTH, WIDER), OUTS, strict=True):
        head = _head(subject, width, out)
        found, other = (_values(subject, head, torch.randn(ROWS, width), out) for _ in range(2))
        require_other(found, other, f"{subject.what}: the embedding does not matter to its values.")


def head_repeats(subject: Subject) -> None:
    """The same rows give the same result twice, whatever comes between; the input is not changed."""
    head, embedding, others = _head(subject), torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)
    kept = embedding.clone()
    with same_state(subject, head), own_chance(subject):
        first = _values(subject, head, embedding)
        require_same(embedding, kept, f"{subject.what} changes the embedding it is given")
        _values(subject, head, others)
        third = _values(subject, head, embedding)
    require_same(third, first, f"{subject.what}: after other rows its values differ")


def head_learning(subject: Subject) -> None:
    """Gradients are finite and reach the embedding and its own parameters; one row works, and of zeros."""
    for embedding in (torch.randn(ROWS, WIDTH), torch.randn(1, WIDTH), torch.zeros(1, WIDTH)):
        head = _head(subject)
        _values(subject, head, embedding)
        learns(subject, head, lambda made, rows=embedding: [made(rows)])  # type: ignore[misc]
        embedding.requires_grad_()
        reaches(subject, {"its values": head(embedding)}, embedding, "the embedding", some=len(embedding) > 1)


def head_weights(subject: Subject) -> None:
    """Saving and loading change nothing."""
    embedding = torch.randn(ROWS, WIDTH)
    keeps_weights(subject, lambda: _head(subject), lambda head: [head(embedding)])


HEAD: Final[Mapping[str, Check]] = {
    "companions do not matter": head_companions,
    "its embedding matters": head_reads,
    "gives the same twice": head_repeats,
    "gradients reach what it reads and learns": head_learning,
    "saved and loaded it gives the same bits": head_weights,
}

"""Contracts of backbones, poolings and heads: in eval mode and float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from sertk.core import Backbone, FrameSpec, Head, InputSpec, Padded, Pooled, Pooling
from sertk.testing.cases import (
    Check,
    Subject,
    alone,
    real,
    require,
    require_close,
    require_finite,
    require_same,
    stretch,
)

SECONDS: Final = (0.6, 1.2, 0.15, 0.97)  # of the rows of a batch
CROP: Final = 1.0  # seconds of a fixed crop
LENGTHS: Final = (5, 12, 1, 9)  # frames of the windows that a pooling gets
WIDTH: Final = 8


Net = TypeVar("Net", bound=nn.Module)


# ---------------------------------------------------------------- what they share


def _keeps_weights(subject: Subject, make: Callable[[], Net], run: Callable[[Net], list[Tensor]]) -> None:
    """Saves one's state to safetensors, loads it into another, and wants both to give the same bits."""
    first, second = make().eval(), make().eval()  # made one after the other, so their weights differ
    kept = {name: value.contiguous() for name, value in first.state_dict().items()}
    try:
        content = save(kept)
    except RuntimeError as error:
        raise AssertionError(f"{subject.what} cannot be saved: {error}") from error
    second.load_state_dict(load(content))
    for name, value in second.state_dict().items():
        require_same(value, kept[name], f"{subject.what}: {name} changes on its way through a file")
    for found, wanted in zip(run(second), run(first), strict=True):
        require_same(found, wanted, f"{subject.what}, saved and loaded, gives another result")


def _is_float32(subject: Subject, module: nn.Module, results: Mapping[str, Tensor]) -> None:
    values = {**module.state_dict(), **results}
    for name, value in values.items():
        fine = value.dtype == torch.float32 or not value.is_floating_point()
        require(fine, f"{subject.what}: {name} is {value.dtype}; with float32 inputs it is torch.float32.")


def _learns(subject: Subject, module: nn.Module, results: list[Tensor]) -> None:
    """Wants finite gradients of anything made of the results."""
    total = torch.stack([(value * torch.randn_like(value)).sum() for value in results]).sum()
    require_finite(total, f"{subject.what}: its result")
    if not total.requires_grad:  # nothing to learn, such as a mean or a frozen backbone
        return
    total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            require_finite(parameter.grad, f"{subject.what}: the gradient of {name}")


# ---------------------------------------------------------------- backbones


def _backbone(subject: Subject, *, fixed: bool = False) -> tuple[Backbone, Mapping[str, InputSpec]]:
    """A backbone and what it was told of the inputs that it reads."""
    specs = dict(subject.inputs)
    if fixed:
        specs = {
            name: spec._replace(frames=spec.frames or round(CROP / spec.frame_seconds)) for name, spec in specs.items()
        }
    made: Backbone = subject.make(specs).eval()
    missing = [name for name in made.inputs if name not in specs]
    require(not missing, f"{subject.what} reads {missing}; it is offered {list(specs)}.")
    return made, {name: specs[name] for name in made.inputs}


def _inputs(backbone: Backbone, specs: Mapping[str, InputSpec], seconds: tuple[float, ...]) -> dict[str, Padded]:
    """{name: (B, T, D)} rows of random frames; all of one length where the backbone's is fixed."""
    fixed = {name: spec.frames or backbone.fixed for name, spec in specs.items()}
    return {
        name: Padded.stack([torch.randn(_frames(spec, s, fixed[name]), spec.width) for s in seconds])
        for name, spec in specs.items()
    }


def _frames(spec: InputSpec, seconds: float, fixed: int | None) -> int:
    # frames as short as samples: no corpus has an utterance of one, and no backbone of waves takes it
    least = 0.1 if spec.frame_seconds < 1e-3 else 0.0
    return fixed or max(1, round(max(seconds, least) / spec.frame_seconds))


@torch.no_grad()
def _frames_of(subject: Subject, backbone: Backbone, inputs: Mapping[str, Padded]) -> Padded:
    """(B, T, D) of a backbone, of the shape that it promises."""
    found: Padded = backbone(inputs)
    rows = len(next(iter(inputs.values())).length)
    longest = int(found.length.max())
    promised = (rows, max(longest, found.data.shape[1]), backbone.width)
    require(
        tuple(found.data.shape) == promised,
        f"{subject.what} gives {tuple(found.data.shape)}; with its width and lengths it is {promised}.",
    )
    require(int(found.length.min()) > 0, f"{subject.what} gives a row of no frames; each has at least one.")
    _is_float32(subject, backbone, {"its result": found.data})
    require_finite(found.data[found.mask], f"{subject.what}: its frames")
    return found


def _same_row(subject: Subject, found: Padded, row: int, wanted: Padded, because: str) -> None:
    """Wants a row of a batch to be the one row of `wanted`."""
    sizes = int(found.length[row]), int(wanted.length[0])
    require(sizes[0] == sizes[1], f"{subject.what}: {because} its {sizes[1]} frames to {sizes[0]}.")
    require_close(real(found, row), real(wanted, 0), f"{subject.what}: {because} its frames")


def backbone_padding(subject: Subject) -> None:
    """A row gives the same frames with any padding; a backbone of fixed crops reads it as signal and is let off."""
    backbone, specs = _backbone(subject)
    if backbone.fixed is not None:
        return
    inputs = _inputs(backbone, specs, SECONDS)
    for row in range(len(SECONDS)):
        wanted = {name: alone(rows, row) for name, rows in inputs.items()}
        padded = {name: stretch(rows) for name, rows in wanted.items()}
        found = _frames_of(subject, backbone, padded)
        _same_row(subject, found, 0, _frames_of(subject, backbone, wanted), "padding changes")


def backbone_companions(subject: Subject) -> None:
    """A row gives the same frames alone and in a batch."""
    _companions(subject, fixed=False)


def backbone_crops(subject: Subject) -> None:
    """The same with inputs of a fixed length, which some backbones need."""
    _companions(subject, fixed=True)


def _companions(subject: Subject, *, fixed: bool) -> None:
    backbone, specs = _backbone(subject, fixed=fixed)
    inputs = _inputs(backbone, specs, SECONDS)
    together = _frames_of(subject, backbone, inputs)
    for row in range(len(SECONDS)):
        one = {name: alone(rows, row) for name, rows in inputs.items()}
        _same_row(subject, together, row, _frames_of(subject, backbone, one), "companions change")


def backbone_one_frame(subject: Subject) -> None:
    """One row of one frame works, and its gradients are finite."""
    backbone, specs = _backbone(subject)
    inputs = _inputs(backbone, specs, (0.0,))
    _frames_of(subject, backbone, inputs)
    found = backbone(inputs)
    _learns(subject, backbone, [found.data[found.mask]])


def backbone_weights(subject: Subject) -> None:
    """Saving and loading change nothing."""
    _, specs = _backbone(subject)

    def run(backbone: Backbone) -> list[Tensor]:
        torch.manual_seed(1)
        inputs = _inputs(backbone, specs, SECONDS)
        found = _frames_of(subject, backbone, inputs)
        return [found.data[found.mask], found.length]

    _keeps_weights(subject, lambda: _backbone(subject)[0], run)


def backbone_says(subject: Subject) -> None:
    """What it says of itself is well-formed."""
    backbone, _ = _backbone(subject)
    require(
        backbone.frame_seconds > 0, f"{subject.what}: frame_seconds is {backbone.frame_seconds}; it is positive, s."
    )
    for name, branch in backbone.branches.items():
        fine = 0 <= branch.start < branch.stop <= backbone.width
        require(fine, f"{subject.what}: branch {name!r} is {branch}; it is a slice of its width {backbone.width}.")


BACKBONE: Final[Mapping[str, Check]] = {
    "padding does not matter": backbone_padding,
    "companions do not matter": backbone_companions,
    "companions do not matter to fixed crops": backbone_crops,
    "one row of one frame works": backbone_one_frame,
    "saved and loaded it gives the same bits": backbone_weights,
    "it says what it is": backbone_says,
}


# ---------------------------------------------------------------- poolings


def _windows() -> Padded:
    """(N, L, D) random windows."""
    return Padded.stack([torch.randn(size, WIDTH) for size in LENGTHS])


def _pooling(subject: Subject, **settings: object) -> Pooling:
    made: Pooling = subject.make(FrameSpec(WIDTH), **settings).eval()
    return made


@torch.no_grad()
def _pooled(subject: Subject, pooling: Pooling, rows: Padded) -> Pooled:
    """What a pooling gives, of the shape that it promises."""
    found: Pooled = pooling(rows.data, rows.mask)
    wanted = (len(rows.length), pooling.out)
    require(
        tuple(found.embedding.shape) == wanted,
        f"{subject.what}: the embedding is {tuple(found.embedding.shape)}; with its `out` it is {wanted}.",
    )
    require(
        found.frames.shape[:2] == rows.data.shape[:2],
        f"{subject.what}: the frames are {tuple(found.frames.shape)}; N and L stay {tuple(rows.data.shape[:2])}.",
    )
    require_finite(found.embedding, f"{subject.what}: its embedding")
    require_finite(found.frames[rows.mask], f"{subject.what}: its frames")
    _is_float32(subject, pooling, {"its embedding": found.embedding})
    return found


def _same_window(subject: Subject, found: Pooled, rows: Padded, row: int, wanted: Pooled, because: str) -> None:
    size = int(rows.length[row])
    require_close(found.embedding[row], wanted.embedding[0], f"{subject.what}: {because} the embedding")
    require_close(found.frames[row, :size], wanted.frames[0, :size], f"{subject.what}: {because} the refined frames")


def pooling_padding(subject: Subject) -> None:
    """A window gives the same embedding and frames with any padding."""
    pooling, rows = _pooling(subject), _windows()
    for row in range(len(LENGTHS)):
        one = alone(rows, row)
        padded = stretch(one)
        found, wanted = _pooled(subject, pooling, padded), _pooled(subject, pooling, one)
        _same_window(subject, found, padded, 0, wanted, "padding changes")


def pooling_companions(subject: Subject) -> None:
    """A window gives the same embedding and frames alone and in a batch."""
    pooling, rows = _pooling(subject), _windows()
    together = _pooled(subject, pooling, rows)
    for row in range(len(LENGTHS)):
        wanted = _pooled(subject, pooling, alone(rows, row))
        _same_window(subject, together, rows, row, wanted, "companions change")


def pooling_one_frame(subject: Subject) -> None:
    """One window of one frame works, and so do equal frames; gradients are finite."""
    for size in (1, 4):
        pooling = _pooling(subject)
        rows = Padded(torch.ones(1, size, WIDTH, requires_grad=True), torch.tensor([size]))
        _pooled(subject, pooling, rows)
        found = pooling(rows.data, rows.mask)
        _learns(subject, pooling, [found.embedding, found.frames])
        if rows.data.grad is not None:
            require_finite(rows.data.grad, f"{subject.what}: the gradient of {size} equal frames")


def pooling_projects(subject: Subject) -> None:
    """`project` sets the width of the embedding."""
    pooling = _pooling(subject, project=3)
    require(pooling.out == 3, f"{subject.what} with project: 3 says that its width is {pooling.out}; it is 3.")
    _pooled(subject, pooling, _windows())


def pooling_weights(subject: Subject) -> None:
    """Saving and loading change nothing."""
    rows = _windows()

    def run(pooling: Pooling) -> list[Tensor]:
        found = _pooled(subject, pooling, rows)
        return [found.embedding, found.frames[rows.mask]]

    _keeps_weights(subject, lambda: _pooling(subject), run)
    _keeps_weights(subject, lambda: _pooling(subject, project=3), run)


POOLING: Final[Mapping[str, Check]] = {
    "padding does not matter": pooling_padding,
    "companions do not matter": pooling_companions,
    "one window of one frame works": pooling_one_frame,
    "project sets its width": pooling_projects,
    "saved and loaded it gives the same bits": pooling_weights,
}


# ---------------------------------------------------------------- heads

OUT: Final = 5


def _head(subject: Subject) -> Head:
    made: Head = subject.make(WIDTH, OUT).eval()
    return made


@torch.no_grad()
def _values(subject: Subject, head: Head, embedding: Tensor) -> Tensor:
    found: Tensor = head(embedding)
    wanted = (len(embedding), OUT)
    require(tuple(found.shape) == wanted, f"{subject.what} gives {tuple(found.shape)}; wanted is {wanted}.")
    require_finite(found, f"{subject.what}: its values")
    _is_float32(subject, head, {"its result": found})
    return found


def head_companions(subject: Subject) -> None:
    """A row gives the same values alone and in a batch."""
    head, embedding = _head(subject), torch.randn(6, WIDTH)
    together = _values(subject, head, embedding)
    for row in range(len(embedding)):
        one = _values(subject, head, embedding[row : row + 1])
        require_close(together[row], one[0], f"{subject.what}: companions change its values")


def head_one_row(subject: Subject) -> None:
    """One row works, of zeros too, and its gradients are finite."""
    for embedding in (torch.randn(1, WIDTH), torch.zeros(1, WIDTH)):
        head = _head(subject)
        _values(subject, head, embedding)
        embedding.requires_grad_()
        _learns(subject, head, [head(embedding)])
        if embedding.grad is not None:
            require_finite(embedding.grad, f"{subject.what}: the gradient of the embedding")


def head_weights(subject: Subject) -> None:
    """Saving and loading change nothing."""
    embedding = torch.randn(6, WIDTH)
    _keeps_weights(subject, lambda: _head(subject), lambda head: [_values(subject, head, embedding)])


HEAD: Final[Mapping[str, Check]] = {
    "companions do not matter": head_companions,
    "one row works": head_one_row,
    "saved and loaded it gives the same bits": head_weights,
}

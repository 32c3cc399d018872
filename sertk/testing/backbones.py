"""Contracts of backbones, in eval mode and float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

from sertk.core import Backbone, InputSpec, Padded, SertkError
from sertk.testing.cases import (
    Check,
    Subject,
    alone,
    in_bundle,
    own_chance,
    real,
    require,
    require_close,
    require_finite,
    require_other,
    require_same,
    require_sizes,
    stretch,
)
from sertk.testing.nets import is_float32, keeps_weights, learns, same_state

SECONDS: Final = (0.6, 1.2, 0.15, 0.97)  # of the rows of a batch
FEW: Final = SECONDS[::2]  # where it does not matter how many rows there are
CROP: Final = 1.0  # seconds of a fixed crop
SYMBOL: Final = 0.1  # seconds that a symbol is taken to last, for a text has no time
FRAMES: Final = 40  # of the row that time is measured with
Specs = Mapping[str, InputSpec]
Inputs = Mapping[str, Padded]


def _backbone(subject: Subject, *, fixed: bool = False) -> tuple[Backbone, Specs]:
    """A backbone, and the specs of the inputs that it reads."""
    specs = dict(subject.inputs)
    if fixed:
        specs = {
            name: spec if spec.symbols else spec._replace(frames=spec.frames or round(CROP / spec.frame_seconds))
            for name, spec in specs.items()
        }
    return _made(subject, specs)


def _made(subject: Subject, specs: Specs) -> tuple[Backbone, Specs]:
    made: Backbone = subject.make(specs).eval()
    missing = [name for name in made.inputs if name not in specs]
    require(not missing, f"{subject.what} reads {missing}; the run has {list(specs)}.")
    return made, {name: specs[name] for name in made.inputs}


def _wave(spec: InputSpec) -> bool:
    return spec.frame_seconds < 1e-3


def _inputs(backbone: Backbone, specs: Specs, seconds: tuple[float, ...]) -> dict[str, Padded]:
    """{name: (B, T, D)} rows of random frames or symbols; all of one length where the backbone's is fixed."""
    fixed = {name: spec.frames or backbone.fixed for name, spec in specs.items()}
    return {
        name: Padded.stack([_noise(spec, _frames(spec, s, fixed[name]), spec.width) for s in seconds])
        for name, spec in specs.items()
    }


def _noise(spec: InputSpec, *shape: int) -> Tensor:
    return torch.randint(spec.symbols, shape) if spec.symbols else torch.randn(shape)


def _frames(spec: InputSpec, seconds: float, fixed: int | None) -> int:
    # frames as short as samples: no corpus has an utterance of one, and no backbone of waves takes it
    least = 0.1 if _wave(spec) else 0.0
    return fixed or max(1, round(max(seconds, least) / (SYMBOL if spec.symbols else spec.frame_seconds)))


@torch.no_grad()
def _frames_of(subject: Subject, backbone: Backbone, inputs: Inputs) -> Padded:
    """(B, T, D) of a backbone, of the shape that it promises."""
    found: Padded = backbone(inputs)
    rows = len(next(iter(inputs.values())).length)
    longest = int(found.length.max())
    promised = (rows, max(longest, found.data.shape[1]), backbone.width)
    require(
        tuple(found.data.shape) == promised,
        f"{subject.what} gives {tuple(found.data.shape)}; by its width and lengths it must be {promised}.",
    )
    require(int(found.length.min()) > 0, f"{subject.what} gives a row of no frames; each has at least one.")
    is_float32(subject, backbone, {"its result": found.data})
    require_finite(found.data[found.mask], f"{subject.what}: its frames")
    return found


def _same_row(subject: Subject, found: Padded, row: int, wanted: Padded, because: str) -> None:
    """Wants a row of a batch to be the one row of `wanted`."""
    sizes = int(found.length[row]), int(wanted.length[0])
    require(sizes[0] == sizes[1], f"{subject.what}: {because} its {sizes[1]} frames to {sizes[0]}.")
    require_close(real(found, row), real(wanted, 0), f"{subject.what}: {because} its frames")


def padding(subject: Subject) -> None:
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


def companions(subject: Subject) -> None:
    """A row gives the same frames alone and in a batch."""
    _companions(subject, fixed=False)


def crops(subject: Subject) -> None:
    """The same with inputs of a fixed length, which some backbones need."""
    _companions(subject, fixed=True)


def _companions(subject: Subject, *, fixed: bool) -> None:
    backbone, specs = _backbone(subject, fixed=fixed)
    inputs = _inputs(backbone, specs, SECONDS)
    together = _frames_of(subject, backbone, inputs)
    said, steps = backbone.frames, set(together.length.tolist())
    require(said is None or steps == {said}, f"{subject.what}: `frames` is {said}; of a fixed input it gives {steps}.")
    for row in range(len(SECONDS)):
        one = {name: alone(rows, row) for name, rows in inputs.items()}
        _same_row(subject, together, row, _frames_of(subject, backbone, one), "companions change")


def _offers(subject: Subject) -> Iterator[tuple[Backbone, Specs]]:
    """The backbone with what it is offered, and with wider and slower inputs, where it does not refuse them."""
    yield _backbone(subject)
    others = {
        name: spec
        if spec.symbols or _wave(spec)
        else spec._replace(width=spec.width + 3 * spec.layers, frame_seconds=seconds)
        for name, spec in subject.inputs.items()
        for seconds in [1.25 * spec.frame_seconds]
    }
    try:
        yield _made(subject, others)
    except SertkError:  # it says that it is of other inputs
        return


def times(subject: Subject) -> None:
    """`frame_seconds` predicts the number of frames to a tenth, whatever inputs it is offered."""
    for backbone, specs in _offers(subject):
        first = next(iter(specs.values()))
        if backbone.fixed is not None or not 0 < backbone.frame_seconds < float("inf"):
            continue
        inputs = _inputs(backbone, specs, (min(FRAMES * backbone.frame_seconds, 20.0 if _wave(first) else 200.0),))
        seconds = next(iter(inputs.values())).data.shape[1] * first.frame_seconds
        wanted, found = seconds / backbone.frame_seconds, int(_frames_of(subject, backbone, inputs).length)
        allowed = max(2.0, 0.1 * wanted)
        said = (
            f"{subject.what}: with frame_seconds {backbone.frame_seconds:.4g} {seconds:.4g} s are {wanted:.1f} frames"
        )
        require(
            abs(found - wanted) <= allowed, f"{said}, and it gives {found}; allowed are {allowed:.1f} more or less."
        )


def reads(subject: Subject) -> None:
    """Each of its inputs matters."""
    backbone, specs = _backbone(subject)
    inputs = _inputs(backbone, specs, FEW)
    wanted = _frames_of(subject, backbone, inputs)
    for name, rows in inputs.items():
        changed = {**inputs, name: Padded(_noise(specs[name], *rows.data.shape), rows.length)}
        found = _frames_of(subject, backbone, changed)
        sentence = f"{subject.what}: the input {name!r} does not matter; its frames follow from each that it reads."
        require_other(found.data[found.mask], wanted.data[wanted.mask], sentence)


def repeats(subject: Subject) -> None:
    """The same inputs give the same frames twice, whatever comes between; nothing is written to."""
    backbone, specs = _backbone(subject)
    inputs, others = (_inputs(backbone, specs, FEW) for _ in range(2))
    kept = {name: rows.data.clone() for name, rows in inputs.items()}
    with same_state(subject, backbone), own_chance(subject):
        first = _frames_of(subject, backbone, inputs)
        for name, data in kept.items():
            require_same(inputs[name].data, data, f"{subject.what} changes the input {name!r} that it is given")
        _frames_of(subject, backbone, others)
        third = _frames_of(subject, backbone, inputs)
    require_same(third.data[third.mask], first.data[first.mask], f"{subject.what}: after other rows its frames differ")


def learning(subject: Subject) -> None:
    """Its parameters learn: gradients are finite and reach all that matters; one row of one frame works."""
    backbone, specs = _backbone(subject)
    short = _inputs(backbone, specs, (0.0,))
    _frames_of(subject, backbone, short)
    alike = {name: rows.take(torch.tensor([0])) for name, rows in _inputs(backbone, specs, FEW).items()}
    alike = {name: Padded(rows.data[:, :1].expand_as(rows.data), rows.length) for name, rows in alike.items()}
    for inputs in (short, alike, _inputs(backbone, specs, FEW)):
        learns(subject, backbone, lambda made, inputs=inputs: _results(made, inputs))  # type: ignore[misc]


def _results(backbone: Backbone, inputs: Inputs) -> list[Tensor]:
    found = backbone(inputs)
    return [found.data[found.mask]]


def weights(subject: Subject) -> None:
    """What it learned comes back from a bundle with the same bits."""
    backbone, specs = _backbone(subject)
    again = in_bundle(subject, backbone)
    inputs = _inputs(backbone, specs, FEW)
    keeps_weights(
        subject, lambda: _backbone(subject)[0], lambda made: _results(made, inputs), lambda: _backbone(again)[0]
    )


def says(subject: Subject) -> None:
    """What it says of itself is well-formed."""
    backbone, _ = _backbone(subject)
    require_sizes(subject, backbone)
    end = 0
    for name, branch in backbone.branches.items():
        fine = branch.start == end < branch.stop <= backbone.width
        require(
            fine, f"{subject.what}: branch {name!r} is {branch}; it must be from {end} to {backbone.width} at most."
        )
        end = branch.stop
    whole = end == backbone.width or not backbone.branches
    require(whole, f"{subject.what}: its branches end at {end}; together they are its width {backbone.width}.")
    grouped = [id(one) for group in backbone.groups() for one in group]
    fine = len(set(grouped)) == len(grouped) and set(grouped) <= {id(one) for one in backbone.parameters()}
    require(fine, f"{subject.what}: its groups hold a parameter twice, or one of others; they hold its own, each once.")


BACKBONE: Final[Mapping[str, Check]] = {
    "padding does not matter": padding,
    "companions do not matter": companions,
    "companions do not matter to fixed crops": crops,
    "its length is right": times,
    "its inputs matter": reads,
    "gives the same twice": repeats,
    "its parameters learn": learning,
    "a bundle brings it back": weights,
    "it says what it is": says,
}

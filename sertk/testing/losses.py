"""Contracts of losses, on the views of a small random model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch
from safetensors.torch import load, save
from torch import Tensor

from sertk.core import (
    AuxTask,
    Backbone,
    BatchSampler,
    Dims,
    FrameSpec,
    HeadSpec,
    Loss,
    Padded,
    Span,
    Target,
    Task,
    UsageError,
    Views,
)
from sertk.modeling.model import Model
from sertk.plugins import Plugins
from sertk.testing.cases import (
    Check,
    Subject,
    own_chance,
    require,
    require_close,
    require_finite,
    require_same,
    stretch,
)
from sertk.testing.nets import learns, train_a_step

_AUX: Final = {
    "gender": AuxTask(classes=("female", "male")),
    **dict.fromkeys(("valence", "activation", "dominance"), AuxTask(edges=(2.5, 3.5))),
}
TASK: Final = Task(("anger", "disgust", "happiness", "neutral", "sadness"), torch.tensor([20, 8, 10, 14, 16]), _AUX)
SMALLER: Final = Task(("negative", "neutral", "positive"), torch.tensor([17, 9, 12]), _AUX)
DIMS: Final = Dims(6, 7, branches={"left": slice(0, 4), "right": slice(4, 7)})
SEGMENTS: Final = Span(4, 2)
LONGEST: Final = 13  # frames; some rows are too short for a segment
BATCH: Final = 12


# ---------------------------------------------------------------- what a loss is shown


class _Identity(Backbone):
    """Frames as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inputs, self.width, self.frame_seconds = ("frames",), width, 0.01

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        return inputs["frames"]


def model_for(loss: Loss, task: Task, dims: Dims, plugins: Plugins | None = None) -> Model:
    """A small random model: no backbone, the mean projected to the embedding, the heads that the loss needs.

    A loss that brings no emotion head gets a linear one, as another loss of its run would bring it.
    """
    registry = plugins or Plugins()
    specs = {"emotion": HeadSpec("linear", len(task.classes)), **loss.heads()}
    heads = {}
    for name, spec in specs.items():
        slices = [dims.branches[branch] for branch in spec.reads] if spec.reads else [slice(0, dims.embedding)]
        width = sum(one.stop - one.start for one in slices)
        heads[name] = registry.make("head", {"name": spec.kind, **spec.settings}, width, spec.out)
    pooling = registry.make("pooling", {"name": "mean", "project": dims.embedding}, FrameSpec(dims.frame))
    return Model({}, _Identity(dims.frame), pooling, heads, specs, dims.branches)


def views(loss: Loss, task: Task, dims: Dims, frames: Padded, plugins: Plugins | None = None) -> Views:
    """The views that a loss asks for, of frames seen by a small random model.

    Args:
        loss: Says which spans and heads.
        task: That it was made with.
        dims: That it was made with.
        frames: (B, T, D) with the D of `dims`.
        plugins: The registry; every installed plugin where None.
    """
    seen: Views = model_for(loss, task, dims, plugins)({"frames": frames}, loss.spans)
    return seen


@dataclass(frozen=True)
class Scene:
    """What a loss sees in a batch, before the model: so that rows can be padded, permuted and added.

    Attributes:
        loss: In eval mode.
        model: See `model_for`.
        frames: (B, T, D).
        target: Of the B rows.
        groups: As the loss's sampler gives them.
    """

    loss: Loss
    model: Model
    frames: Padded
    target: Target
    groups: Mapping[str, Tensor]

    def views(self) -> Views:
        """What the model makes of the frames."""
        seen: Views = self.model({"frames": self.frames}, self.loss.spans)
        return seen

    def __call__(self) -> Tensor:
        """The loss, a scalar."""
        value: Tensor = self.loss(self.views(), self.target, self.groups)
        return value

    def permuted(self) -> Scene:
        """The same rows in another order, their groups in another order too."""
        order = torch.randperm(len(self.target.weight))
        place = order.argsort()
        groups = {name: place[rows[torch.randperm(len(rows))]] for name, rows in self.groups.items()}
        return replace(self, frames=self.frames.take(order), target=self.target.take(order), groups=groups)


def scene(subject: Subject, dims: Dims, rows: int | None = None, task: Task = TASK) -> Scene:
    """A loss, and a batch as its own sampler composes it from a small random training set.

    Args:
        subject: The loss.
        dims: What it is made with.
        rows: As many rows without companions and with empty groups; a whole batch of the sampler where None.
        task: What it is made with.

    Raises:
        UsageError: Where the loss refuses the dims.
    """
    loss: Loss = subject.make(task, dims).eval()
    size = int(task.counts.sum())
    labels = torch.repeat_interleave(torch.arange(len(task.classes)), task.counts)
    lengths = torch.randint(1, LONGEST + 1, (size,))
    sampler: BatchSampler = subject.plugins.make("sampler", loss.sampler, labels, lengths * 0.01, BATCH)
    plan = sampler.epoch(1, 0)[0]
    chosen, groups, weight = plan.rows, plan.groups, plan.weight
    if rows is not None:
        chosen, weight = chosen[:rows], torch.ones(rows)
        groups = {"pair": torch.zeros(0, 2, dtype=torch.int64), "triplet": torch.zeros(0, 3, dtype=torch.int64)}
    corpus = Padded(torch.randn(size, LONGEST, dims.frame), lengths)
    soft = torch.nn.functional.one_hot(labels[chosen], len(task.classes)).float()
    model = model_for(loss, task, dims, subject.plugins).eval()
    return Scene(loss, model, corpus.take(chosen), Target(soft, weight, _aux(len(chosen))), groups)


def _aux(rows: int) -> dict[str, Tensor]:
    """(B,) auxiliary class numbers by name, every third NaN: unlabelled."""
    missing = torch.arange(rows) % 3 == 2
    found = {name: torch.randint(0, one.size, (rows,)).float() for name, one in TASK.aux.items()}
    return {name: value.masked_fill(missing, torch.nan) for name, value in found.items()}


# ---------------------------------------------------------------- the contracts


def _same(subject: Subject, found: Tensor, wanted: Tensor, what: str) -> None:
    """Wants two losses to be equal, relatively where they are above one."""
    size = wanted.detach().abs().clamp(min=1)
    require_close(found.detach() / size, wanted.detach() / size, f"{subject.what}: {what} changes it")


def _trains(subject: Subject, seen: Scene, what: str) -> dict[str, Tensor]:
    """Wants a finite scalar with finite gradients; gives the gradients of the model and of the frames by name."""
    frames = seen.frames.data.clone().requires_grad_()
    value = replace(seen, frames=Padded(frames, seen.frames.length))()
    require(value.shape == (), f"{subject.what}, {what}: the shape is {tuple(value.shape)}; it must be a scalar, ().")
    require_finite(value, f"{subject.what}, {what}")
    require(value.dtype == torch.float32, f"{subject.what}, {what}: it is {value.dtype}; it must be torch.float32.")
    require(value.requires_grad, f"{subject.what}, {what}: it has no gradient; return 0 x something of the views.")
    for module in (seen.model, seen.loss):
        module.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    found = {name: one.grad for name, one in seen.model.named_parameters() if one.grad is not None}
    found |= {"the frames": frames.grad} if frames.grad is not None else {}
    own = {name: one.grad for name, one in seen.loss.named_parameters() if one.grad is not None}
    for name, gradient in (*found.items(), *own.items()):
        require_finite(gradient, f"{subject.what}, {what}: the gradient of {name}")
    return found


def finite(subject: Subject, dims: Dims) -> None:
    """A finite scalar with finite gradients, where rows are alike, decisions sure or companions alone too."""
    seen = scene(subject, dims)
    _trains(subject, seen, "on a batch")
    alike = Padded(seen.frames.data[:1].expand_as(seen.frames.data), torch.full_like(seen.frames.length, 3))
    _trains(subject, replace(seen, frames=alike), "with rows that are alike")
    _trains(subject, replace(seen, frames=Padded(seen.frames.data * 1e3, seen.frames.length)), "with sure decisions")
    rest = scene(subject, dims, rows=5)
    idle = replace(rest.target, weight=torch.zeros(5))
    _trains(subject, replace(rest, target=idle), "with companions alone")


def learning(subject: Subject, dims: Dims) -> None:
    """Its gradient reaches the model, each head that it asks for and its own parameters, for any number of classes."""
    for task in (TASK, SMALLER):
        seen = scene(subject, dims, task=task)
        gradients = _trains(subject, seen, f"of {len(task.classes)} classes")
        some = any(bool(one.any()) for one in gradients.values())
        require(some, f"{subject.what}: it gives the model no gradient but zeros; do not cut the graph.")
        for name in {*seen.loss.trains, *seen.loss.heads()}:
            reached = any(bool(g.any()) for word, g in gradients.items() if word.startswith(f"heads.{name}."))
            require(reached, f"{subject.what} trains or asks for the head {name!r}, which gets no gradient.")
        learns(subject, seen.loss, lambda loss, seen=seen: [replace(seen, loss=loss)()])  # type: ignore[misc]


def padding(subject: Subject, dims: Dims) -> None:
    """What lies in the padding does not matter, of the utterances or of their windows."""
    seen = scene(subject, dims)
    wanted = seen()
    _same(subject, replace(seen, frames=stretch(seen.frames))(), wanted, "padding of the utterances")
    shown = {span: replace(view, frames=stretch(view.frames)) for span, view in seen.views().items()}
    _same(subject, seen.loss(shown, seen.target, seen.groups), wanted, "padding of the windows")


def order(subject: Subject, dims: Dims) -> None:
    """The order of rows and of groups does not matter."""
    seen = scene(subject, dims)
    wanted = seen()
    for _ in range(3):
        _same(subject, seen.permuted()(), wanted, "the order of rows and groups")


def soft(subject: Subject, dims: Dims) -> None:
    """Soft labels beside hard ones are taken; where it trains the emotion head, their shares and all classes matter."""
    seen = scene(subject, dims)
    label = torch.rand_like(seen.target.soft).softmax(1)
    label = torch.where(torch.arange(len(label))[:, None] % 2 == 0, label, seen.target.soft)
    mixed = replace(seen, target=replace(seen.target, soft=label))
    _trains(subject, mixed, "with soft labels")
    _same(subject, mixed.permuted()(), mixed(), "with soft labels, the order of rows and groups")
    if "emotion" not in seen.loss.trains:
        return
    surer = replace(seen.target, soft=0.6 * seen.target.soft + 0.4 * label)  # the same classes dominate
    moved = not torch.equal(replace(seen, target=surer)(), seen())
    require(moved, f"{subject.what}: the shares of a soft label do not matter, only its dominant class; they do.")
    for place, name in enumerate(TASK.classes):
        one = torch.zeros_like(label).index_fill(1, torch.tensor(place), 1.0)
        gradients = _trains(subject, replace(seen, target=replace(seen.target, soft=one)), f"with the label {name!r}")
        learned = any(bool(g.any()) for word, g in gradients.items() if word.startswith("heads.emotion."))
        require(learned, f"{subject.what}: of rows whose soft label is {name!r} nothing is learned; each class counts.")


def one_row(subject: Subject, dims: Dims) -> None:
    """One row works, without groups and of one frame too."""
    seen = scene(subject, dims, rows=1)
    _trains(subject, seen, "with one row and empty groups")
    _trains(subject, replace(seen, frames=Padded(torch.randn(1, 1, dims.frame), torch.ones(1).long())), "on one frame")


def companions(subject: Subject, dims: Dims) -> None:
    """A row of weight 0 does not change a loss that trains the emotion head."""
    seen = scene(subject, dims)
    if "emotion" not in seen.loss.trains:
        return
    wanted, rows = seen(), torch.arange(len(seen.target.weight))
    more = torch.cat([rows, rows[:3]])
    weight = torch.cat([seen.target.weight, torch.zeros(3)])
    frames = Padded(seen.frames.data[more].clone(), seen.frames.length[more])
    frames.data[len(rows) :] = torch.randn_like(frames.data[len(rows) :])
    target = replace(seen.target.take(more), weight=weight)
    _same(subject, replace(seen, frames=frames, target=target)(), wanted, "a row of weight 0")


def repeats(subject: Subject, dims: Dims) -> None:
    """The same batch gives the same loss twice, whatever comes between, and is not written to."""
    seen = scene(subject, dims)
    shown = seen.views()
    held = [("labels", seen.target.soft), ("weights", seen.target.weight), *seen.groups.items()]
    for view in shown.values():
        held += [("logits", view.logits), ("embeddings", view.embedding), ("frames", view.frames.data)]
    before = [value.clone() for _, value in held]
    with own_chance(subject):
        first = seen.loss(shown, seen.target, seen.groups)
    for (name, value), kept in zip(held, before, strict=True):
        require_same(value, kept, f"{subject.what} changes the {name} it is given")
    other = replace(seen, frames=Padded(torch.randn_like(seen.frames.data), seen.frames.length))
    other()
    third = seen.loss(shown, seen.target, seen.groups)
    require_same(third, first, f"{subject.what}: after another batch the second call differs")


def others(subject: Subject, dims: Dims) -> None:
    """What the other losses of a run ask for, windows and heads, does not matter."""
    seen = scene(subject, dims)
    wanted = seen()
    spans = (Span(3, 3), *seen.loss.spans, Span(5, 1))
    shown = {
        span: replace(view, heads={**view.heads, "other": torch.randn(len(view.owner), 3)})
        for span, view in seen.model({"frames": seen.frames}, spans).items()
    }
    groups = {**seen.groups, "other": torch.zeros(0, 2, dtype=torch.int64)}
    _same(subject, seen.loss(shown, seen.target, groups), wanted, "what other losses ask for")


def says(subject: Subject, dims: Dims) -> None:
    """What it asks for exists: its views, its sampler, its heads, the parameters with a rate of their own."""
    for task in (TASK, SMALLER):
        loss: Loss = subject.make(task, dims)
        heads, wanted = loss.heads(), len(task.classes)
        known = subject.plugins.names("head")
        for name, spec in heads.items():
            require(spec.kind in known, f"{subject.what}: the head {name!r} is of kind {spec.kind!r}; known: {known}.")
            odd = [branch for branch in spec.reads or () if branch not in dims.branches]
            require(not odd, f"{subject.what}: the head {name!r} reads the branches {odd}; known: {[*dims.branches]}.")
        absent = sorted(loss.trains - set(heads))
        require(not absent, f"{subject.what} trains the heads {absent}, which are not among its heads {list(heads)}.")
        out = heads["emotion"].out if "emotion" in heads else wanted
        require(out == wanted, f"{subject.what}: its emotion head has {out} outputs; the task has {wanted} classes.")
    fine = len(loss.spans) > 0 and all(isinstance(span, Span) for span in loss.spans)
    require(fine, f"{subject.what}: its spans are {list(loss.spans)}; at least one Span, such as WHOLE.")
    samplers = subject.plugins.names("sampler")
    require(loss.sampler in samplers, f"{subject.what}: its sampler is {loss.sampler!r}; known: {samplers}.")
    own = {id(parameter) for parameter in loss.parameters()}
    for rate, parameters in loss.own_rate().items():
        fine = rate > 0 and all(id(parameter) in own for parameter in parameters)
        require(fine, f"{subject.what}: own_rate {rate} is not above 0, or names parameters that are not its own.")


def weights(subject: Subject, dims: Dims) -> None:
    """What it learns survives saving and loading."""
    first, second = scene(subject, dims), scene(subject, dims)
    train_a_step(subject, first.loss, lambda loss: [replace(first, loss=loss)()])
    content = save({name: value.contiguous() for name, value in first.loss.state_dict().items()})
    second.loss.load_state_dict(load(content))
    found = replace(first, loss=second.loss)()
    require_same(found, first(), f"{subject.what}, saved and loaded, gives another result")


def _with(dims: Dims, check: Callable[[Subject, Dims], None]) -> Check:
    """The check of a loss that is made with these dims.

    A loss may refuse a run without segments; then it is checked with them only.
    """

    def run(subject: Subject) -> None:
        if dims.segments is None:
            try:
                subject.make(TASK, dims)
            except UsageError:
                subject.make(TASK, replace(dims, segments=SEGMENTS))
                return
        check(subject, dims)

    return run


_CONTRACTS: Final[Mapping[str, Callable[[Subject, Dims], None]]] = {
    "gives a finite scalar with finite gradients": finite,
    "its gradient reaches what it trains": learning,
    "padding does not matter": padding,
    "order does not matter": order,
    "soft labels are taken": soft,
    "one row works": one_row,
    "rows of weight 0 do not matter": companions,
    "gives the same twice": repeats,
    "what other losses ask for does not matter": others,
    "what it asks for exists": says,
    "saved and loaded it gives the same bits": weights,
}

LOSS: Final[Mapping[str, Check]] = {
    **{name: _with(DIMS, check) for name, check in _CONTRACTS.items()},
    **{f"on segments, {name}": _with(replace(DIMS, segments=SEGMENTS), check) for name, check in _CONTRACTS.items()},
}

"""Losses that are wrong in one way each, and some that are right; `says` is what the contracts must say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sertk.core import WHOLE, Dims, HeadSpec, Loss, Span, Target, Task, Views, over_rows
from sertk.hookspecs import hookimpl


class Plain(Loss):
    """Cross-entropy of the whole: a right one."""

    says = ""

    trains = frozenset({"emotion"})

    def __init__(self, task: Task, dims: Dims) -> None:
        super().__init__()
        self.classes, self.width = len(task.classes), dims.embedding

    def heads(self) -> Mapping[str, HeadSpec]:
        return {"emotion": HeadSpec("linear", self.classes)}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        each = self.each(views, target)
        return (each * target.weight).sum() / target.weight.sum().clamp(min=1)

    def each(self, views: Views, target: Target) -> Tensor:
        """(B,)."""
        return -(target.soft * views[WHOLE].logits.log_softmax(1)).sum(1)


class Spread(Loss):
    """The mean size of the embeddings, of no head: a right one."""

    says = ""

    def __init__(self, task: Task, dims: Dims) -> None:
        super().__init__()

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        each = views[WHOLE].embedding.square().sum(1)
        return (each * target.weight).sum() / target.weight.sum().clamp(min=1)


class Gender(Plain):
    """Cross-entropy, and the gender where it is known: a right one."""

    says = ""
    trains = frozenset({"emotion", "gender"})

    def heads(self) -> Mapping[str, HeadSpec]:
        return {**super().heads(), "gender": HeadSpec("linear", 1, reads=("left",))}

    def each(self, views: Views, target: Target) -> Tensor:
        gap = views[WHOLE].heads["gender"][:, 0] - target.aux["gender"].nan_to_num()
        return super().each(views, target) + gap.square() * target.aux["gender"].isfinite()


class Segments(Plain):
    """Cross-entropy of the segments alone, which refuses a run without: a right one."""

    says = ""

    def __init__(self, task: Task, dims: Dims) -> None:
        super().__init__(task, dims)
        self.spans = dims.spans("segments")

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        view = views[self.spans[0]]
        each = -(target.soft[view.owner] * view.logits.log_softmax(1)).sum(1)
        return over_rows({self.spans[0]: each}, views, target, "mean")


class Anchors(Spread):
    """Pairs closer together, of anchors that learn at a rate of their own: a right one."""

    says = ""
    sampler = "pairs"

    def __init__(self, task: Task, dims: Dims) -> None:
        super().__init__(task, dims)
        self.anchor = nn.Parameter(torch.randn(dims.embedding))

    def own_rate(self) -> Mapping[float, Sequence[nn.Parameter]]:
        return {0.1: [self.anchor]}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        points = views[WHOLE].embedding
        apart = points[groups["pair"][:, 0]] - points[groups["pair"][:, 1]]
        return (points - self.anchor).square().mean() + apart.square().sum() / max(1, len(apart))


# ---------------------------------------------------------------- classes, heads, sizes


class FourClasses(Plain):
    """Asks for four classes, whatever the task has."""

    says = "its emotion head has 4 outputs"

    def heads(self) -> Mapping[str, HeadSpec]:
        return {"emotion": HeadSpec("linear", 4)}

    def each(self, views: Views, target: Target) -> Tensor:
        return -(target.soft[:, :3] * views[WHOLE].logits.log_softmax(1)[:, :3]).sum(1)


class WeighsFourClasses(Plain):
    """Has a weight for each of four classes."""

    says = "raised RuntimeError"

    def each(self, views: Views, target: Target) -> Tensor:
        weight = torch.tensor([1.0, 2.0, 1.0, 1.0])
        return -(weight * target.soft * views[WHOLE].logits.log_softmax(1)).sum(1)


class ForgetsClasses(Plain):
    """Looks at the first four classes alone."""

    says = "soft label"

    def each(self, views: Views, target: Target) -> Tensor:
        return -(target.soft[:, :4] * views[WHOLE].logits.log_softmax(1)[:, :4]).sum(1)


class SwapsWidths(Plain):
    """Takes an embedding to be as wide as a frame."""

    says = "raised RuntimeError"

    def __init__(self, task: Task, dims: Dims) -> None:
        super().__init__(task, dims)
        self.projection = nn.Linear(dims.frame, 2)

    def each(self, views: Views, target: Target) -> Tensor:
        return super().each(views, target) + self.projection(views[WHOLE].embedding).square().sum(1)


class NoHead(Plain):
    """Trains a head that it does not ask for."""

    says = "trains the heads ['emotion']"

    def heads(self) -> Mapping[str, HeadSpec]:
        return {}


class UnknownHead(Plain):
    """Asks for a head that nobody offers."""

    says = "'linaer'"

    def heads(self) -> Mapping[str, HeadSpec]:
        return {"emotion": HeadSpec("linaer", self.classes)}


class UnknownBranch(Plain):
    """A head reads a branch that there is not."""

    says = "'middle'"

    def heads(self) -> Mapping[str, HeadSpec]:
        return {"emotion": HeadSpec("linear", self.classes, reads=("middle",))}


class IdleHead(Plain):
    """Trains two heads, and one of them gets no gradient."""

    says = "the head 'gender'"
    trains = frozenset({"emotion", "gender"})

    def heads(self) -> Mapping[str, HeadSpec]:
        return {**super().heads(), "gender": HeadSpec("linear", 2)}


class UntrainedHead(Plain):
    """Asks for a head, and does nothing with it."""

    says = "the head 'gender'"

    def heads(self) -> Mapping[str, HeadSpec]:
        return {**super().heads(), "gender": HeadSpec("linear", 2)}


class UnknownSampler(Plain):
    """Asks for a sampler that nobody offers."""

    says = "'tripelts'"
    sampler = "tripelts"


class NoSpans(Plain):
    """Asks for no view and reads one."""

    says = "spans"
    spans = ()


class SpansOfText(Plain):
    """Asks for a view by the name that a user types."""

    says = "spans"
    spans = ("140:70",)  # type: ignore[assignment]


class ReadsOtherSpan(Plain):
    """Reads a view that it did not ask for."""

    says = "raised KeyError"

    def each(self, views: Views, target: Target) -> Tensor:
        return super().each({WHOLE: views[Span(140, 70)]}, target)


class ReadsNoGroups(Plain):
    """Reads pairs, which its sampler does not give."""

    says = "raised KeyError"

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        return super().forward(views, target, groups) + 0 * groups["pair"].sum()


class RateOfOthers(Plain):
    """Gives a rate to what is not its own."""

    says = "own_rate"

    def own_rate(self) -> Mapping[float, Sequence[nn.Parameter]]:
        return {0.1: [nn.Parameter(torch.zeros(1))]}


class NoRate(Plain):
    """Gives its parameters a rate at which they go the wrong way."""

    says = "own_rate"

    def __init__(self, task: Task, dims: Dims) -> None:
        super().__init__(task, dims)
        self.shift = nn.Parameter(torch.zeros(self.classes))

    def own_rate(self) -> Mapping[float, Sequence[nn.Parameter]]:
        return {-0.1: [self.shift]}

    def each(self, views: Views, target: Target) -> Tensor:
        return -(target.soft * (views[WHOLE].logits + self.shift).log_softmax(1)).sum(1)


# ---------------------------------------------------------------- values


class Vector(Plain):
    """Gives a loss a row."""

    says = "the shape is (12,)"

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        return self.each(views, target)


class Doubles(Plain):
    """Gives float64."""

    says = "torch.float64"

    def each(self, views: Views, target: Target) -> Tensor:
        return super().each(views, target).double()


class Naive(Plain):
    """The logarithm of a posterior that may be zero."""

    says = "with sure decisions"

    def each(self, views: Views, target: Target) -> Tensor:
        return -(target.soft * views[WHOLE].posterior.log()).sum(1)


class OneRow(Plain):
    """The deviation over rows, which one row has none of."""

    says = "with one row"

    def each(self, views: Views, target: Target) -> Tensor:
        return super().each(views, target) / views[WHOLE].embedding.std(0).sum()


class CompanionsAlone(Plain):
    """Divides by the number of rows that count, which may be none."""

    says = "companions alone"

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        return (self.each(views, target) * target.weight).sum() / target.weight.sum()


class ReadsPadding(Plain):
    """Takes the mean of all frames."""

    says = "padding of the utterances changes it"

    def each(self, views: Views, target: Target) -> Tensor:
        return super().each(views, target) + views[WHOLE].frames.data.mean((1, 2)).square()


class Ordered(Plain):
    """Weighs the rows by their place."""

    says = "the order of rows"

    def each(self, views: Views, target: Target) -> Tensor:
        return super().each(views, target) * torch.arange(1.0, 1 + len(target.weight))


class HardOnly(Plain):
    """Refuses soft labels."""

    says = "raised ValueError"

    def each(self, views: Views, target: Target) -> Tensor:
        if not target.pure.all():
            raise ValueError("soft labels")
        return super().each(views, target)


class Hardens(Plain):
    """Takes the dominant class of a soft label and says nothing."""

    says = "soft label"

    def each(self, views: Views, target: Target) -> Tensor:
        return nn.functional.cross_entropy(views[WHOLE].logits, target.hard, reduction="none")


class IgnoresLabels(Plain):
    """Trains the emotion head to be sure, of whatever it likes."""

    says = "soft label"

    def each(self, views: Views, target: Target) -> Tensor:
        return -(views[WHOLE].posterior * views[WHOLE].logits.log_softmax(1)).sum(1)


class CountsCompanions(Plain):
    """The mean over all rows, companions too."""

    says = "a row of weight 0 changes it"

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        return self.each(views, target).mean()


class DividesByAll(Plain):
    """The sum over rows that count, divided by the number of all."""

    says = "a row of weight 0 changes it"

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        return (self.each(views, target) * target.weight).mean()


class Greedy(Plain):
    """Sums over all views that there are, those of others too."""

    says = "what other losses ask for changes it"

    def each(self, views: Views, target: Target) -> Tensor:
        own = [super(Greedy, self).each({WHOLE: view}, target.take(view.owner)) for view in views.values()]
        return sum((one.mean() for one in own), torch.zeros(())).expand(len(target.weight))


class Unlabelled(Plain):
    """Does not leave out the rows that have no auxiliary label."""

    says = "not finite"

    def heads(self) -> Mapping[str, HeadSpec]:
        return {**super().heads(), "gender": HeadSpec("linear", 1)}

    def each(self, views: Views, target: Target) -> Tensor:
        gender = views[WHOLE].heads["gender"][:, 0]
        return super().each(views, target) + (gender - target.aux["gender"]).square()


class WritesWeights(Plain):
    """Halves the weights that it is given."""

    says = "changes the weights it is given"

    def each(self, views: Views, target: Target) -> Tensor:
        found = super().each(views, target)
        target.weight.mul_(0.5)
        return found


class WritesFrames(Plain):
    """Zeroes the padding of the frames that it is given."""

    says = "changes the frames it is given"

    def each(self, views: Views, target: Target) -> Tensor:
        view = views[WHOLE]
        view.frames.data.data.mul_(0.5)
        return super().each(views, target)


class Noisy(Plain):
    """Adds noise of torch's own generator to the logits."""

    says = "torch's own random numbers"

    def each(self, views: Views, target: Target) -> Tensor:
        logits = views[WHOLE].logits
        return -(target.soft * (logits + torch.randn_like(logits)).log_softmax(1)).sum(1)


# ---------------------------------------------------------------- learning


class Detached(Plain):
    """Has no gradient."""

    says = "it has no gradient"

    def each(self, views: Views, target: Target) -> Tensor:
        return super().each(views, target).detach()


class DetachesHead(Plain):
    """Its gradient does not reach the head that it trains."""

    says = "which gets no gradient"

    def each(self, views: Views, target: Target) -> Tensor:
        found = super().each(views, target).detach()
        return found + 0.1 * views[WHOLE].embedding.square().sum(1)


class DetachesEmbedding(Spread):
    """Its gradient reaches nothing."""

    says = "no gradient"

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        view = views[WHOLE]
        return view.embedding.detach().square().mean() + 0.0 * view.embedding.sum()


class OwnWeightIdle(Plain):
    """Its own parameters learn nothing."""

    says = "scale"

    def __init__(self, task: Task, dims: Dims) -> None:
        super().__init__(task, dims)
        self.scale = nn.Parameter(torch.ones(1))

    def each(self, views: Views, target: Target) -> Tensor:
        return super().each(views, target) * self.scale.detach()


class RootOfNothing(Plain):
    """The distance to the first row, whose root has no slope where rows are alike."""

    says = "the gradient of"

    def each(self, views: Views, target: Target) -> Tensor:
        points = views[WHOLE].embedding
        return super().each(views, target) + (points[:, None] - points).square().sum(2).sqrt().mean()


# ---------------------------------------------------------------- what is kept


class Remembers(Plain):
    """Compares with the batches that it has seen, which it keeps in a list."""

    says = "differ"

    def __init__(self, task: Task, dims: Dims) -> None:
        super().__init__(task, dims)
        self.seen: list[Tensor] = []

    def each(self, views: Views, target: Target) -> Tensor:
        found = super().each(views, target)
        self.seen.append(found.detach().mean())
        return found - torch.stack(self.seen).mean() / 2


class LearnsInList(Plain):
    """The running mean of training lies in a list, which no checkpoint knows."""

    says = "saved and loaded"

    def __init__(self, task: Task, dims: Dims) -> None:
        super().__init__(task, dims)
        self.seen = [torch.zeros(())]

    def each(self, views: Views, target: Target) -> Tensor:
        found = super().each(views, target)
        if self.training:
            self.seen.append(found.detach().mean())
        return found - torch.stack(self.seen).mean() / 2


class HiddenWeight(Plain):
    """A weight that no state_dict knows."""

    says = "saved and loaded"

    def __init__(self, task: Task, dims: Dims) -> None:
        super().__init__(task, dims)
        self.weight = torch.rand(self.classes)

    def each(self, views: Views, target: Target) -> Tensor:
        return -(self.weight * target.soft * views[WHOLE].logits.log_softmax(1)).sum(1)


@hookimpl
def sertk_losses() -> Mapping[str, type[Loss]]:
    return {name: one for name, one in globals().items() if hasattr(one, "says")}

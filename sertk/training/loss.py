"""The training objective: a weighted sum of losses, and what it asks of heads and sampler."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from sertk.core import Dims, HeadSpec, Loss, SertkError, Span, Target, Task, Terms, UsageError, Views
from sertk.modeling.borders import check_loss, inside
from sertk.plugins import Plugins
from sertk.settings.schema import COMMAND_LINE, Component, LossTerm, Settings
from sertk.settings.values import component_text


class Mixture(nn.Module):
    """sum_k weight_k L_k (P2 eq. 11; P3 eqs. 1 and 4, and P5 eqs. 1 and 9, are sums of two).

    With a learned alpha (P3 section 4 tried one) the weights are multiplied by alpha = sigmoid(w), or 1 - alpha. The
    gradient of w is alpha (1 - alpha) times (the sum of those with alpha less the sum of the others), so alpha moves to
    whichever sum is smaller, to 0 or 1 in the end: it says which term is easier and not which one helps.

    Args:
        losses: By the name they are reported under.
        weights: By the same names; a checkpoint holds them, for `normalize` may have changed them.
        learned: Names of the losses that are weighed by a learned alpha, which begins as 0.5, the others by 1 - alpha;
            empty for weights that stay.
        class_weight: (C,) weight of a row by its class, of a soft label their mean; None weighs all rows alike.

    Raises:
        UsageError: Where two losses ask for different batches or different heads of one name.
    """

    def __init__(
        self,
        losses: Mapping[str, Loss],
        weights: Mapping[str, float],
        learned: Collection[str] = (),
        class_weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.losses: Mapping[str, Loss] = nn.ModuleDict(losses)  # type: ignore[assignment]
        self.weight: Tensor
        self.register_buffer("weight", torch.tensor([weights[name] for name in losses], dtype=torch.float64))
        self.logit = nn.Parameter(torch.zeros(())) if learned else None
        self._learned: Tensor
        self.register_buffer("_learned", torch.tensor([name in learned for name in losses]), persistent=False)
        self.class_weight: Tensor | None
        self.register_buffer("class_weight", class_weight, persistent=False)
        self.spans: tuple[Span, ...] = tuple(dict.fromkeys(span for loss in losses.values() for span in loss.spans))
        self.sampler, self.aux = _sampler(losses), frozenset().union(*(loss.aux for loss in losses.values()))
        self.heads = _heads(losses)

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Terms:
        """Views of B rows, their labels and groups -> the total and its unweighted terms."""
        target = self._weighed(target)
        values = {name: _value(loss, views, target, groups) for name, loss in self.losses.items()}
        each = torch.stack(list(values.values()))
        return Terms((self._now.to(each) * each).sum(), {name: value.detach() for name, value in values.items()})

    def plain(self, views: Views, target: Target) -> Tensor:
        """(K, 2) the weighted sum of each loss over rows, and how many rows it is of.

        Both are 0 of losses that compare rows which a sampler puts together, for no sampler chose these. A loss of a
        task is of the rows that have a label of it.
        """
        # rows count alike, whatever the weights of their classes, and a sum over them is divided by their number
        target = replace(target, weight=torch.full_like(target.weight, 1 / len(target.weight)))
        found = self._now.new_zeros(len(self.losses), 2)
        for place, (loss, weight) in enumerate(zip(self.losses.values(), self._now, strict=True)):
            if loss.sampler == "shuffle":
                known = [~target.aux[task].isnan() for task in loss.aux]
                rows = torch.stack(known).all(0).sum() if known else len(target.weight)
                found[place, 0] = weight * _value(loss, views, target, {}) * rows
                found[place, 1] = rows
        return found

    def _weighed(self, target: Target) -> Target:
        """The labels with the weights of their classes."""
        if self.class_weight is None:
            return target
        return replace(target, weight=target.weight * (target.soft @ self.class_weight))

    @property
    def _now(self) -> Tensor:
        """(K,) the weights, those of a learned alpha as it is now."""
        if self.alpha is None:
            return self.weight
        return self.weight * torch.where(self._learned, self.alpha, 1 - self.alpha)

    @property
    def alpha(self) -> Tensor | None:
        """() the learned alpha; None where there is none."""
        return None if self.logit is None else self.logit.sigmoid()

    @property
    def weights(self) -> dict[str, float]:
        """The weights by the names of the losses, those of a learned alpha as it is now."""
        return dict(zip(self.losses, self._now.tolist(), strict=True))

    def normalize(self, largest: Mapping[str, float]) -> None:
        """Divides each weight by the largest value that was seen of its term (P2 eq. 11: terms in [0, 1]).

        Args:
            largest: By the names of the losses.

        Raises:
            SertkError: Where a term was never above 0, or no number.
        """
        for name, value in largest.items():
            if not 0 < value < math.inf:
                raise SertkError(
                    f"loss {name!r} was at most {value} in the pilot, which gives it no weight. Raise `pilot`, so that "
                    "some batch has what the loss compares, or set pilot: null and give each loss its `weight`."
                )
        self.weight /= self.weight.new_tensor([largest[name] for name in self.losses])

    def rates(self) -> tuple[dict[float, list[nn.Parameter]], list[nn.Parameter]]:
        """Parameters with a rate of their own, by rate, and the others."""
        own: dict[float, list[nn.Parameter]] = {}
        for loss in self.losses.values():
            for rate, parameters in loss.own_rate().items():
                own.setdefault(rate, []).extend(parameters)
        apart = {id(p) for parameters in own.values() for p in parameters}
        return own, [p for p in self.parameters() if id(p) not in apart]


def _value(loss: Loss, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
    with inside(loss.who):
        found = loss(views, target, groups)
    return check_loss(loss.who, found)


def resolve_losses(
    plugins: Plugins, own: Sequence[LossTerm], named: Sequence[LossTerm]
) -> tuple[tuple[LossTerm, ...], list[str]]:
    """The terms that a run trains with, and which of them the system adds.

    Args:
        plugins: The registry.
        own: `losses` of the settings.
        named: What the command line's `--loss` named; empty for none.

    Returns:
        The named terms; where none of them trains the emotion head, the system's own that do come first.
    """
    if not named:
        return tuple(own), []
    if any(_classifies(plugins, spec) for spec in named):
        return tuple(named), []
    kept = [spec for spec in own if _classifies(plugins, spec)]
    return (*kept, *named), [spec.name for spec in kept]


def _said(own: Settings, named: Sequence[LossTerm], added: Sequence[str], gone: Sequence[str]) -> list[str]:
    """What stays beside losses that the command line names, and what is gone that its user may not expect to be."""
    said = []
    if added:
        terms = ", ".join(added)
        said.append(f"none of the named losses trains the emotion head: the system's own {terms} stays beside them")
    if gone:
        terms = ", ".join(gone)
        said.append(f"the named losses take the place of the system's: {terms} is left out. Name it too to keep it")
        if own.alpha is not None and own.places.get("alpha") != COMMAND_LINE:
            said.append(f"alpha {own.alpha} is the system's, and weighs {', '.join(spec.name for spec in named)} now")
    return said


def _classifies(plugins: Plugins, spec: LossTerm) -> bool:
    trains: frozenset[str] = getattr(plugins.factory("loss", spec.name), "trains", frozenset())
    return "emotion" in trains


def with_losses(plugins: Plugins, settings: Settings, named: Sequence[LossTerm] = ()) -> tuple[Settings, list[str]]:
    """The settings with the terms that the run trains with, and what to say of them; see `resolve_losses`.

    Raises:
        UsageError: On an unknown loss.
    """
    own = settings
    if named:
        settings = replace(settings, places={**settings.places, "losses": COMMAND_LINE})
    with settings.located("losses"):
        losses, added = resolve_losses(plugins, settings.losses, named)
        names = {spec.name for spec in losses}
        gone = [one.name for one in own.losses if one.name not in names and not _classifies(plugins, one)]
    return replace(settings, losses=losses), _said(own, named, added, gone)


def make_mixture(plugins: Plugins, settings: Settings, task: Task, dims: Dims) -> Mixture:
    """The training objective.

    Raises:
        UsageError: On an unknown loss or setting, two of one name, none that trains the emotion head, an alpha that has
            nothing to weigh, or losses that want different batches or heads.
    """
    with settings.located("losses"):
        losses = _make_losses(plugins, settings, task, dims)
        for loss in losses.values():
            spec = loss.heads().get("emotion")
            if spec and spec.out != len(task.classes):
                raise UsageError(
                    f"{loss.who} asks for {spec.out} emotion outputs; the classes are {len(task.classes)}."
                )
        deciding = [name for name, loss in losses.items() if "emotion" in loss.trains]
        if not deciding:
            raise UsageError(f"no loss of {', '.join(losses)} trains the emotion head. Add one that does, such as ce.")
    weights = {spec.name: spec.weight for spec in settings.losses}
    if settings.alpha is not None:
        with settings.located("alpha"):
            own = next((name for name, weight in weights.items() if weight != 1), None)
            if own is not None:
                raise UsageError(f"alpha sets the weights of the losses, and {own!r} has its own. Give one of the two.")
            if len(losses) == len(deciding):
                raise UsageError("alpha needs a second loss. Add one, for example --loss triplet.")
    if isinstance(settings.alpha, float):
        weights = {name: 1 - settings.alpha if name in deciding else settings.alpha for name in losses}
    learned = losses.keys() - deciding if settings.alpha == "learned" else ()
    with settings.located("losses"):
        return Mixture(losses, weights, learned, _class_weight(settings, task))


def _class_weight(settings: Settings, task: Task) -> Tensor | None:
    """(C,) R / (C n_c) where classes are to count alike, n_c of the R training utterances being of class c."""
    if settings.class_weights == "none":
        return None
    return task.counts.sum() / (len(task.classes) * task.counts.clamp(min=1))


def _make_losses(plugins: Plugins, settings: Settings, task: Task, dims: Dims) -> dict[str, Loss]:
    losses: dict[str, Loss] = {}
    for spec in settings.losses:
        if spec.name in losses:
            raise UsageError(f"loss {spec.name!r} is named twice; a run has one term of each. Give it once.")
        losses[spec.name] = plugins.make("loss", spec, task, dims)
    return losses


def chosen_heads(settings: Settings, wanted: Mapping[str, HeadSpec]) -> dict[str, HeadSpec]:
    """The heads that losses want, with the run's own `head` where they want none in particular.

    Raises:
        UsageError: Where a head was chosen and a loss wants another.
    """
    plain, own = Settings().head, settings.head
    if own == plain and not settings.at("head"):
        return dict(wanted)
    found: dict[str, HeadSpec] = {}
    for name, spec in wanted.items():
        free = spec.kind == plain.name and not spec.settings
        if not free and (spec.kind != own.name or (own.settings and own.settings != spec.settings)):
            raise UsageError(
                f"{settings.at('head')}head is {_shown(own.name, own.settings)}, and a loss wants head "
                f"{_shown(spec.kind, spec.settings)} for {name!r}. Take another loss, or leave the head to it."
            )
        found[name] = spec._replace(kind=own.name, settings=own.settings) if free else spec
    return found


def _whole(spec: HeadSpec) -> str:
    reads = "" if spec.reads is None else f" that reads {', '.join(spec.reads)}"
    return f"{_shown(spec.kind, spec.settings)} of {spec.out} outputs ({spec.output}){reads}"


def _shown(name: str, settings: Mapping[str, object]) -> str:
    return repr(component_text(name, settings))


def chosen_sampler(settings: Settings, wanted: str) -> Component:
    """The sampler that losses want, or the run's own where they want none in particular.

    Raises:
        UsageError: Where a sampler was chosen and a loss wants another.
    """
    plain, own = Settings().sampler, settings.sampler
    if wanted in (plain.name, own.name):
        return own
    if own == plain and not settings.at("sampler"):
        return Component(wanted)
    raise UsageError(
        f"{settings.at('sampler')}sampler is {own.name!r}, and a loss wants sampler {wanted!r}. Take another loss, "
        "change its settings, or leave the sampler to it."
    )


def _sampler(losses: Mapping[str, Loss]) -> str:
    special = {name: loss.sampler for name, loss in losses.items() if loss.sampler != "shuffle"}
    if len(set(special.values())) > 1:
        wants = ", ".join(f"{name} wants {sampler!r}" for name, sampler in special.items())
        raise UsageError(
            f"these losses cannot share a batch: {wants}. Train with one of them, or change their settings."
        )
    return next(iter(special.values()), "shuffle")


def _heads(losses: Mapping[str, Loss]) -> dict[str, HeadSpec]:
    heads: dict[str, HeadSpec] = {}
    for name, loss in losses.items():
        for head, spec in loss.heads().items():
            if heads.setdefault(head, spec) != spec:
                one, other = (_whole(x) for x in (spec, heads[head]))
                raise UsageError(f"loss {name!r} wants the head {head!r} as {one}, another as {other}. Choose one.")
    return heads

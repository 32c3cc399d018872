"""How the windows and crops of an utterance become its posterior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sertk.core import WHOLE, Batch, Decision, Dims, HeadSpec, Output, Padded, Rng, Span, UsageError, View, Views
from sertk.modeling.borders import check_posterior, inside
from sertk.plugins import Plugins
from sertk.settings.schema import DecisionSpec, Settings


@dataclass(frozen=True)
class Decider:
    """A decision and the windows that it is made of.

    Attributes:
        span: The windows that are looked at.
        decision: What is made of them.
        who: What errors call the decision.
        temperature: What divides the logits of each window before the decision sees them (Guo et al. 2017).
    """

    span: Span
    decision: Decision
    who: str = "a decision that is not registered"
    temperature: float = 1.0

    def __call__(self, views: Views, batch: Batch, utterances: int, rng: Rng) -> tuple[Tensor, Tensor]:
        """(U, C) posterior and (U, C) logits of U utterances; logits are the mean over windows, not divided."""
        return self.decide(self.merged(views, batch, utterances), utterances, rng)

    def merged(self, views: Views, batch: Batch, utterances: int) -> View:
        """The windows of all crops of each of U utterances, in one view whose rows are the utterances."""
        view = views[self.span].float()
        owner = batch.owner[view.owner]
        count = torch.bincount(owner, minlength=utterances)
        return View(view.frames, view.embedding, view.heads, owner, count[owner], view.output)

    def decide(self, view: View, utterances: int, rng: Rng) -> tuple[Tensor, Tensor]:
        """See `__call__`; of windows that are merged."""
        logits = view.mean(view.logits, utterances)
        tempered = replace(view, heads={**view.heads, "emotion": view.logits / self.temperature})
        with inside(self.who):
            found = self.decision(tempered, utterances, rng)
        return check_posterior(self.who, found, utterances, logits.shape[1]), logits

    def together(self, logits: Tensor, output: Output, rng: Rng) -> tuple[Tensor, Tensor]:
        """(C,) posterior and logits of one utterance from the (N, C) values of its windows, in their order.

        It is for recordings of any length, see `of_logits`.
        """
        owner = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        posterior, mean = self.decide(of_logits(logits, owner, output), 1, rng)
        return posterior[0], mean[0]


def of_logits(logits: Tensor, owner: Tensor, output: Output) -> View:
    """Windows of which the logits alone were kept: a decision gets no frames and no embeddings.

    Args:
        logits: (N, C).
        owner: (N,) their utterances, sorted.
        output: How they become probabilities.
    """
    nothing = logits[:, :0]
    frames = Padded(nothing[:, None], torch.zeros_like(owner))
    return View(frames, nothing, {"emotion": logits}, owner, torch.bincount(owner)[owner], output)


def resolve_decision(settings: Settings) -> DecisionSpec:
    """The decision with its name and windows spelled out.

    Raises:
        UsageError: On segments that the run does not have.
    """
    spec = settings.decision
    at = spec.at if spec.at != "auto" else "segments" if settings.segments else "whole"
    if at == "segments" and not settings.segments:
        raise UsageError(
            f"{settings.at('decision')}decision: at: segments needs windows, and the run has none. Set them, "
            "for example --segments 140:70, or take at: whole."
        )
    name = spec.name if spec.name != "auto" else "max_probability" if at == "segments" else "mean"
    return replace(spec, name=name, at=at)


def check_temperature(settings: Settings, specs: Mapping[str, HeadSpec]) -> None:
    """Refuses to divide what are no logits.

    Raises:
        UsageError: There.
    """
    given, head = settings.decision.temperature, specs.get("emotion")
    if given != 1 and head is not None and head.output == "linear":
        raise UsageError(
            f"{settings.at('decision')}decision.temperature is {given}, and a temperature divides logits. The emotion "
            "head of this run gives probabilities as they are (output: linear). Take a loss with output softmax or "
            "sigmoid, or leave the temperature out."
        )


def make_decider(plugins: Plugins, settings: Settings, dims: Dims) -> Decider:
    """The decision over its windows.

    Raises:
        UsageError: On an unknown name or setting.
    """
    spec = resolve_decision(settings)
    span = dims.segments if spec.at == "segments" and dims.segments else WHOLE
    temperature = 1.0 if isinstance(spec.temperature, str) else spec.temperature  # fitted when the epoch is selected
    return Decider(span, plugins.make("decision", spec), plugins.who("decision", spec.name), temperature)

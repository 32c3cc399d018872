"""How the windows and crops of an utterance become its posterior."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sertk.core import WHOLE, Batch, Decision, Dims, Output, Padded, Rng, Span, UsageError, View, Views
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
    """

    span: Span
    decision: Decision
    who: str = "a decision that is not registered"

    def __call__(self, views: Views, batch: Batch, utterances: int, rng: Rng) -> tuple[Tensor, Tensor]:
        """(U, C) posterior and (U, C) logits, the mean over windows, of U utterances."""
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
        with inside(self.who):
            found = self.decision(view, utterances, rng)
        return check_posterior(self.who, found, utterances, logits.shape[1]), logits

    def together(self, logits: Tensor, output: Output, rng: Rng) -> tuple[Tensor, Tensor]:
        """(C,) posterior and logits of one utterance from the (N, C) values of its windows, in their order.

        It is for recordings of any length: a decision gets no frames and no embeddings there, for they were not kept.
        """
        owner, nothing = torch.zeros(len(logits), dtype=torch.int64, device=logits.device), logits[:, :0]
        frames = Padded(nothing[:, None], owner)
        view = View(frames, nothing, {"emotion": logits}, owner, owner + len(owner), output)
        posterior, mean = self.decide(view, 1, rng)
        return posterior[0], mean[0]


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


def make_decider(plugins: Plugins, settings: Settings, dims: Dims) -> Decider:
    """The decision over its windows.

    Raises:
        UsageError: On an unknown name or setting.
    """
    spec = resolve_decision(settings)
    span = dims.segments if spec.at == "segments" and dims.segments else WHOLE
    return Decider(span, plugins.make("decision", spec), plugins.who("decision", spec.name))

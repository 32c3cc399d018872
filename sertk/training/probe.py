"""Linear probing before fine-tuning: the emotion head begins as a linear classifier of what the untrained model gives.

Source: Kumar, Raghunathan, Jones, Ma, Liang 2022, Fine-tuning can distort pretrained features and underperform
out-of-distribution, ICLR, section 4 (LP-FT).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sertk.console.progress import say
from sertk.core import Head, HeadSpec, UsageError, check_range
from sertk.modeling.model import Model
from sertk.plugins import Plugins
from sertk.settings.schema import Component
from sertk.training.loading import Loader
from sertk.training.state import Training

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Probe:
    """Logistic regression on standardised embeddings.

    Args:
        c: Inverse of the weight of the squared penalty, as scikit-learn's LogisticRegression counts it.
    """

    c: float = 1e-2

    def __post_init__(self) -> None:
        check_range("warm start 'probe'", "c", self.c, above=0)


def make(plugins: Plugins, spec: Component) -> Probe | None:
    """What `train.warm_start` asks for; None for nothing.

    Raises:
        UsageError: On another name, or a setting that it does not take.
    """
    if spec.name not in ("none", "probe"):
        raise UsageError(f"no warm start is named {spec.name!r}; there are none and probe.")
    made: Probe | None = plugins.build("warm start", Probe if spec.name == "probe" else _none, spec)
    return made


def _none() -> None:
    """Random weights of the head."""


def check(model: Model) -> None:
    """Refuses a model whose emotion head cannot begin as a linear classifier.

    Raises:
        UsageError: There.
    """
    head, spec = model.heads["emotion"], model.specs["emotion"]
    if spec.output != "softmax" or type(head).start is Head.start:
        raise UsageError(
            f"train.warm_start: probe gives the emotion head the weights of a softmax classifier, and this one is "
            f"{head.who} ({_output(spec)}). Take a loss with a linear head and softmax, such as ce, or "
            "train.warm_start: none."
        )


def _output(spec: HeadSpec) -> str:
    return f"its output map is {spec.output}"


def start(probe: Probe, training: Training, rows: Loader, *, balanced: bool) -> None:
    """Gives the emotion head the weights of a classifier of the embeddings that the model gives now.

    The windows are those that are decided on. Each utterance weighs 1, whatever the number of its windows. The
    standardisation is folded into the weights, so the model has no more parts than before.

    Args:
        probe: The classifier.
        training: Its model is at its beginning.
        rows: The training utterances as they are, all of them on each rank.
        balanced: Whether the classes count alike.
    """
    if any(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in training.model.modules()):
        say("warm start: the model has batch normalisation; training moves its statistics away from those of the fit")
    embedding, weight, label = _embeddings(training, rows)
    slope, offset, right = classified(probe, embedding, label, weight, balanced=balanced)
    training.model.heads["emotion"].start(slope, offset)
    width = embedding.shape[1]
    say(f"warm start: a linear classifier of {width} values, right on {right:.1%} of what it was fitted to")


def classified(
    probe: Probe, embedding: Array, label: NDArray[np.int64], weight: Array, *, balanced: bool
) -> tuple[Tensor, Tensor, float]:
    """Fits the classifier.

    Args:
        probe: The classifier.
        embedding: (N, E).
        label: (N,) of C classes, each there.
        weight: (N,).
        balanced: Whether the classes count alike.

    Returns:
        (C, E) weights and (C,) bias on embeddings that are not standardised, and the share that they decide right.
    """
    from sklearn.linear_model import LogisticRegression  # a second that other runs need not pay
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(embedding, sample_weight=weight)
    scaled = scaler.transform(embedding)
    classifier = LogisticRegression(C=probe.c, class_weight="balanced" if balanced else None, max_iter=2000)
    classifier.fit(scaled, label, sample_weight=weight)
    slope, offset = classifier.coef_, classifier.intercept_
    if len(slope) == 1:  # of two classes: one logit, which is the difference of theirs
        slope, offset = np.concatenate([-slope, slope]) / 2, np.concatenate([-offset, offset]) / 2
    slope = slope / scaler.scale_
    right = float(classifier.score(scaled, label, sample_weight=weight))
    return torch.from_numpy(slope), torch.from_numpy(offset - slope @ scaler.mean_), right


@torch.no_grad()
def _embeddings(training: Training, rows: Loader) -> tuple[Array, Array, NDArray[np.int64]]:
    """(N, E) embeddings of the windows, (N,) their weights and (N,) their labels."""
    model, span = training.model.eval(), training.decider.span
    device = next(model.parameters()).device
    found, weight, label = list[Tensor](), list[Tensor](), list[Tensor]()
    for item in rows:
        batch, partners, epoch = item.to(device)
        ready = training.frontend(batch, epoch, partners, train=False)
        view = training.decider.merged(model(ready.inputs, [span], ready.speakers), ready, len(batch.ids))
        if item.batch.target is None:
            raise ValueError("training rows have labels")
        owner = view.owner.cpu()
        found.append(model.read_by("emotion", view.embedding).double().cpu())
        weight.append(1.0 / owner.bincount(minlength=len(batch.ids))[owner].double())
        label.append(item.batch.target.hard.cpu()[owner])
    return torch.cat(found).numpy(), torch.cat(weight).numpy(), torch.cat(label).numpy()

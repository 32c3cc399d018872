"""Temperature scaling: the one number that divides the logits, fitted on dev (Guo et al. 2017).

Source: Guo, Pleiss, Sun, Weinberger 2017, On calibration of modern neural networks, ICML, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sertk.console.progress import say
from sertk.core import Output, Rng, View
from sertk.modeling.decide import Decider, of_logits
from sertk.training import distributed
from sertk.training.loading import Loader
from sertk.training.state import Training

LOW, HIGH = 0.01, 100.0
"""Between these T is looked for."""
STEPS = 80
"""Of equal size in ln T. Under a decision that chooses among windows there may be several minima: the best step says
where to look closely."""
CLOSE = 1e-6
"""How exactly ln T is found."""


@dataclass(frozen=True)
class DevWindows:
    """What a decision sees of U utterances, and their labels.

    Attributes:
        view: (N, C) float64 logits of their windows, on the CPU.
        ids: U.
        label: (U,) int64.
        decider: Makes posteriors of them.
        seed: Random decisions follow from it.
    """

    view: View
    ids: Sequence[str]
    label: Tensor
    decider: Decider
    seed: int

    def nll(self, temperature: float) -> float:
        """The sum of the negative log-probabilities of the labels, if T divides the logits."""
        rng = Rng.for_rows(self.seed, self.ids, [0] * len(self.ids), 0, "decision")
        posterior, _ = replace(self.decider, temperature=temperature).decide(self.view, len(self.ids), rng)
        # the least number above 0: a certain mistake has a price, and a higher T a lower one
        least = torch.finfo(torch.float64).tiny
        return -float(posterior.gather(1, self.label[:, None]).clamp(min=least).log().sum())


def fit(training: Training, dev: Loader) -> float:
    """Fits T to the model as it is now: the least negative log-likelihood of the labels of dev.

    Features and decisions are those that the bundle will have: full precision, no augmentation. All ranks get the same.

    Args:
        training: Of the selected epoch.
        dev: The dev rows of this rank.

    Returns:
        T; 1 where no number between 0.01 and 100 is best, for example if dev has no wrong decision.
    """
    own = _windows(training, dev)

    def nll(temperature: float) -> float:
        mine = [own.nll(temperature), len(own.ids)] if own else [0.0, 0]
        total, size = distributed.sum_over_ranks(torch.tensor(mine, dtype=torch.float64)).tolist()
        return float(total / size)

    found = least(nll)
    if found is None:
        say(
            f"no temperature between {LOW:g} and {HIGH:g} is the best on dev, so it stays 1: the model makes no "
            "mistake there, or is no better than chance"
        )
        return 1.0
    say(f"temperature {found:.4f}: dev negative log-likelihood {nll(1.0):.4f} before, {nll(found):.4f} with it")
    return found


def least(nll: Callable[[float], float]) -> float | None:
    """Where a function of T is least between 0.01 and 100; None where it is least at an end."""
    from scipy.optimize import minimize_scalar  # it takes a quarter of a second, and few ask for it

    ends = math.log(LOW), math.log(HIGH)
    steps = torch.linspace(*ends, STEPS + 1, dtype=torch.float64).tolist()
    values = [nll(math.exp(step)) for step in steps]
    best = values.index(min(values))
    if best in (0, STEPS):
        return None
    around = (steps[best - 1], steps[best + 1])
    found = minimize_scalar(lambda x: nll(math.exp(x)), bounds=around, method="bounded", options={"xatol": CLOSE})
    # where it jumps the close look may miss what the steps have seen
    return math.exp(min((values[best], steps[best]), (float(found.fun), float(found.x)))[1])


@torch.no_grad()
def _windows(training: Training, dev: Loader) -> DevWindows | None:
    """What the decision sees of dev; None on a rank without an utterance."""
    training.model.eval()
    device = next(training.model.parameters()).device
    logits, owner, label, ids = list[Tensor](), list[Tensor](), list[Tensor](), list[str]()
    output: Output = "softmax"
    for item in dev:
        batch, partners, epoch = item.to(device)
        ready = training.frontend(batch, epoch, partners, train=False)
        views = training.model(ready.inputs, [training.decider.span], ready.speakers)
        view = training.decider.merged(views, ready, len(batch.ids))
        if item.batch.target is None:
            raise ValueError("a dev batch has labels")
        logits.append(view.logits.double().cpu())
        owner.append(view.owner.cpu() + len(ids))
        label.append(item.batch.target.hard.cpu())
        ids += batch.ids
        output = view.output
    if not ids:
        return None
    merged = of_logits(torch.cat(logits), torch.cat(owner), output)
    return DevWindows(merged, ids, torch.cat(label), training.decider, training.seed)

"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau
from torch.optim.optimizer import Optimizer

from sertk.core import UsageError, check_range, nearest
from sertk.plugins import Plugins
from sertk.settings.schema import Component, OptimizerSpec, TrainSettings

OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": optim.Adam, "adamw": optim.AdamW, "sgd": optim.SGD}
UNFUSED = {"foreach", "differentiable"}
"""Settings that torch refuses beside `fused`."""

Rate = Callable[[int], float]
"""Optimizer step -> factor of the learning rate."""


def constant(per_epoch: int, total: int) -> Rate:
    """The same rate throughout."""
    return lambda step: 1.0


def exponential(per_epoch: int, total: int, gamma: float = 0.875, until: int = 20) -> Rate:
    """gamma^min(finished epochs, until), constant within an epoch (P2 section 3.2).

    Args:
        per_epoch: Optimizer steps of an epoch.
        total: Optimizer steps of the run.
        gamma: Factor after each epoch.
        until: Epochs after which it stays.
    """
    check_range("schedule 'exponential'", "gamma", gamma, above=0)
    check_range("schedule 'exponential'", "until", until, at_least=0)
    return lambda step: gamma ** min(step // per_epoch, until)


def linear(per_epoch: int, total: int, warmup: float = 0.1) -> Rate:
    """Rises from 0 over the warm-up, then falls to 0 at the end.

    Args:
        per_epoch: Optimizer steps of an epoch.
        total: Optimizer steps of the run.
        warmup: Share of the run.
    """
    check_range("schedule 'linear'", "warmup", warmup, at_least=0, at_most=1)
    rise = max(1, round(warmup * total))
    return lambda step: min((step + 1) / rise, (total - step) / max(1, total - rise), 1.0) if step < total else 0.0


def cosine(per_epoch: int, total: int, warmup: float = 0.1) -> Rate:
    """Rises from 0 over the warm-up, then falls to 0 along half a cosine.

    Args:
        per_epoch: Optimizer steps of an epoch.
        total: Optimizer steps of the run.
        warmup: Share of the run.
    """
    check_range("schedule 'cosine'", "warmup", warmup, at_least=0, at_most=1)
    rise = max(1, round(warmup * total))
    return lambda step: (
        (step + 1) / rise
        if step < rise
        else 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total - rise))))
    )


RATES: dict[str, Callable[..., Rate]] = {
    "constant": constant,
    "cosine": cosine,
    "exponential": exponential,
    "linear": linear,
}


def plateau(optimizer: Optimizer, factor: float = 0.5, patience: int = 0) -> ReduceLROnPlateau:
    """Multiplies the rate when the loss on dev, its cross-entropy, is no new least (P5 section 4.3: halved at once).

    Args:
        optimizer: Given by the run.
        factor: Of the rate.
        patience: Epochs without a new least loss that are borne.
    """
    check_range("schedule 'plateau'", "factor", factor, above=0, below=1)
    check_range("schedule 'plateau'", "patience", patience, at_least=0)
    # torch's default asks for a fall of 1e-4 of the loss; any new least counts here
    return ReduceLROnPlateau(optimizer, factor=factor, patience=patience, threshold=0.0)


class Average(nn.Module):
    """The exponential moving average of the weights of a model that are trained.

    It is no second model, as torch's AveragedModel is: parts of guests need not be made to be copied.

    Args:
        model: Whose weights.
        decay: Of the average at each step, at most (1 + n) / (10 + n) at step n, so that a short run forgets what it
            began with (as TensorFlow's ExponentialMovingAverage with `num_updates`).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self._decay = decay
        # a list, so that they stay the model's own
        self._now: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.mean = nn.ParameterList(nn.Parameter(p.detach().clone(), requires_grad=False) for p in self._now)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def begin(self) -> None:
        """Before the first step: begins with the weights as they are now, such as those of `train.init`."""
        torch._foreach_copy_([*self.mean.parameters()], self._now)

    @torch.no_grad()
    def move(self) -> None:
        """Moves it after an optimizer step."""
        n = int(self.steps)
        torch._foreach_lerp_([*self.mean.parameters()], self._now, 1 - min(self._decay, (1 + n) / (10 + n)))
        self.steps += 1

    @torch.no_grad()
    def swap(self) -> None:
        """The model's weights become the average, and the average holds theirs; a second time undoes it."""
        for mean, now in zip(self.mean, self._now, strict=True):
            kept = now.clone()
            now.copy_(mean)
            mean.copy_(kept)


def layer_rates(groups: Sequence[Sequence[nn.Parameter]], t: TrainSettings) -> dict[float, list[nn.Parameter]]:
    """The trained parameters of a backbone's layers by learning rate (Howard and Ruder 2018, section 3.2).

    Args:
        groups: From the input to the output.
        t: Their factors, and the optimizer's rate.

    Returns:
        Nothing where they all have the run's own rate.

    Raises:
        UsageError: Where the optimizer has no `lr` that the rates could be factors of.
    """
    factor, decay, lr = t.backbone_rate, t.layer_decay, t.optimizer.lr
    if factor == decay == 1:
        return {}
    if lr is None:
        raise UsageError("train.backbone_rate and train.layer_decay are factors of the optimizer's lr; give it one.")
    made: dict[float, list[nn.Parameter]] = {}
    for depth, group in enumerate(reversed(groups)):
        own = [parameter for parameter in group if parameter.requires_grad]
        if own:
            made.setdefault(lr * factor * decay**depth, []).extend(own)
    return made


def gradually(groups: Sequence[Sequence[nn.Parameter]], every: int) -> list[tuple[int, list[nn.Parameter]]]:
    """The trained parameters of a backbone's layers with the optimizer steps after which each is trained, from the top.

    Args:
        groups: From the input to the output.
        every: Optimizer steps from one layer to the next; nothing for 0.
    """
    own = [[parameter for parameter in group if parameter.requires_grad] for group in reversed(groups)] if every else []
    return [(every * depth, group) for depth, group in enumerate(filter(None, own), 1)]


def make_optimizers(
    plugins: Plugins, spec: OptimizerSpec, own: Mapping[float, Sequence[nn.Parameter]], rest: list[nn.Parameter]
) -> dict[str, Optimizer]:
    """The main optimizer, and one of the same kind for each learning rate that a loss asks for.

    One each, because SpeechBrain clips the gradients of the first parameter group of an optimizer only.

    Args:
        plugins: Checks the settings.
        spec: `train.optimizer`.
        own: Parameters by their own rate.
        rest: All others that are trained.
    """
    if spec.name not in OPTIMIZERS:
        raise UsageError(f"no optimizer named {spec.name!r}{nearest(spec.name, OPTIMIZERS)}")
    factory = OPTIMIZERS[spec.name]
    rate = {} if spec.lr is None else {"lr": spec.lr}
    # one pass over the memory of weights and moments; torch's default takes one for each operation of the update
    fused = {} if spec.settings.keys() & UNFUSED else {"fused": True}
    settings = {**fused, **rate, **spec.settings}
    try:
        made = {"main": plugins.build("optimizer", factory, Component(spec.name, settings), rest)}
    except (IndexError, RuntimeError, TypeError) as error:  # torch looks at few of its settings
        raise UsageError(f"optimizer {spec.name!r}: {error}") from error
    for own_rate, parameters in own.items():
        apart = Component(spec.name, {**settings, "lr": own_rate})
        made[f"rate={own_rate}"] = plugins.build("optimizer", factory, apart, list(parameters))
    return made


def make_schedules(
    plugins: Plugins, spec: Component, optimizers: Mapping[str, Optimizer], per_epoch: int, total: int
) -> dict[str, LRScheduler]:
    """The schedule of each optimizer.

    Args:
        plugins: Checks the settings.
        spec: `train.schedule`.
        optimizers: By name.
        per_epoch: Optimizer steps of an epoch.
        total: Optimizer steps of the run.
    """
    name = spec.name
    if name == "plateau":
        return {key: plugins.build("schedule", plateau, spec, one) for key, one in optimizers.items()}
    if name not in RATES:
        raise UsageError(f"no schedule named {name!r}{nearest(name, [*RATES, 'plateau'])}")
    rate: Rate = plugins.build("schedule", RATES[name], spec, per_epoch, total)
    return {key: LambdaLR(one, rate) for key, one in optimizers.items()}

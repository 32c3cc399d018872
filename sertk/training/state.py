"""What a run trains with, and what of it a checkpoint must hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.optimizer import Optimizer

from sertk.core import Batch, Rng, SertkError, Span, Terms, Views
from sertk.core.files import Record
from sertk.modeling.borders import check_finite
from sertk.modeling.decide import Decider
from sertk.modeling.frontend import Frontend
from sertk.modeling.model import Model
from sertk.results.measures import Measure
from sertk.settings.schema import Settings
from sertk.training import distributed
from sertk.training.checkpoint import Checkpoints, State
from sertk.training.dev import Dev
from sertk.training.hearing import Hearing
from sertk.training.history import History
from sertk.training.loading import Item, Order
from sertk.training.loss import Mixture
from sertk.training.optim import Average

Watch = Callable[[int, float], None]
"""Gets the number of an epoch, from 1, and its dev score."""


@dataclass
class Training:
    """A run's parts; the brain drives them.

    Attributes:
        model: What is trained.
        mixture: Its objective.
        frontend: Augmentations, features, crops.
        decider: How dev utterances are decided.
        metric: What selects the epoch.
        dev: The dev utterances; None in a refit, which has none.
        optimizers: By name, one for each learning rate.
        schedules: By the optimizers' names.
        order: The batches of each epoch.
        checkpoints: Of this run.
        history: Epochs, selection, log.
        seed: Everything random follows from it.
        save_every: Optimizer steps between checkpoints inside an epoch, 0 for none.
        save_seconds: Between two checkpoints, at least.
        settings: As the bundle will have them.
        weights: Hashes of the pretrained weights that the run began with, by input, or "backbone".
        options: SpeechBrain's run options.
        nll: Sum of the dev negative log-probabilities of the epoch.
        layers: Groups of parameters from the backbone's output to its input, with the steps that each is trained after.
        average: The moving average of the model's weights, where `train.ema` asks for it.
        rates: Learning rates of the latest step, by the optimizers' names.
        watch: Told of each epoch and its dev score; it may end the run.
        hearing: Hears the speakers again, where the embedding is standardised with their statistics.
    """

    model: Model
    mixture: Mixture
    frontend: Frontend
    decider: Decider
    metric: Measure
    dev: Dev | None
    optimizers: Mapping[str, Optimizer]
    schedules: Mapping[str, LRScheduler]
    order: Order
    checkpoints: Checkpoints
    history: History
    seed: int
    save_every: int
    save_seconds: float
    settings: Settings
    weights: dict[str, str]
    options: dict[str, object]
    layers: Sequence[tuple[int, Sequence[nn.Parameter]]] = ()
    average: Average | None = None
    nll: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)
    watch: Watch | None = None
    hearing: Hearing | None = None

    @property
    def spans(self) -> tuple[Span, ...]:
        """The views that the objective and the decision look at."""
        return tuple(dict.fromkeys((*self.mixture.spans, self.decider.span)))

    def terms(self, views: Views, batch: Batch) -> Terms:
        """The objective of a training batch, in float32."""
        terms: Terms = self.mixture({span: view.float() for span, view in views.items()}, batch.target, batch.groups)
        return terms

    def train_loss(self, views: Views, batch: Batch) -> Tensor:
        """The objective of a training batch, which the history counts."""
        terms = self.terms(*self._mixed(views, batch))
        # SpeechBrain's own mean lags one batch behind at a checkpoint
        self.history.add(terms, lambda: self._culprit(batch, terms))
        return terms.total

    def _mixed(self, views: Views, batch: Batch) -> tuple[Views, Batch]:
        """Mixes the embeddings and labels of rows with those of others, where `train.mixup` asks for it."""
        alpha, target = self.settings.train.mixup, batch.target
        if not alpha or target is None:
            return views, batch
        device, one = target.soft.device, torch.full((len(target.soft),), alpha)
        drawn = torch.distributions.Beta(one, one).sample()
        share, other = torch.minimum(drawn, 1 - drawn).to(device), torch.randperm(len(one)).to(device)
        # the views of the objective alone: the decision's may be of windows
        mixed = {span: self.model.mixed(views[span].float(), other, share) for span in self.mixture.spans}
        return mixed, replace(batch, target=target.blend(target.take(other), share))

    def _culprit(self, batch: Batch, terms: Terms) -> str:
        """Which part gave the first values that are not finite, as a sentence; empty where another rank has them."""
        try:
            for name, x in batch.inputs.items():
                check_finite(f"input {name!r}", x.data[x.mask])
            self.model(batch.inputs, self.spans, batch.speakers, finite=True)
            for name, value in terms.terms.items():
                check_finite(self.mixture.losses[name].who, value)
        except SertkError as error:
            return f" {error}"
        return ""

    def decide(self, views: Views, batch: Batch, item: Item) -> tuple[Tensor, Tensor]:
        """(B, C) posterior and logits of the B utterances of a batch that is not trained on."""
        ids = item.batch.ids
        rng = Rng.for_rows(self.seed, ids, [0] * len(ids), 0, "decision").to(batch.owner.device)
        posterior, logits = self.decider(views, batch, len(ids), rng)
        check_finite(self.decider.who, posterior)
        return posterior, logits

    def plain_loss(self, views: Views, batch: Batch) -> Tensor:
        """(K, 2) the terms of rows that no sampler chose for each other, and their rows; see `Mixture.plain`."""
        if batch.target is None:
            raise ValueError("rows whose objective is measured have labels")
        return self.mixture.plain({span: view.float() for span, view in views.items()}, batch.target)

    def dev_loss(self, views: Views, batch: Batch, item: Item) -> Tensor:
        """Keeps what is decided of a dev batch; gives the negative log-probability of its labels."""
        posterior, logits = self.decide(views, batch, item)
        if item.batch.target is None or self.dev is None:
            raise ValueError("a dev batch has labels, and is of a run that selects")
        self.dev.add(item.batch.ids, posterior, logits)
        hard = item.batch.target.hard.to(posterior.device)
        each = -posterior.gather(1, hard[:, None]).clamp(min=1e-12).log()
        self.nll += each.double().sum().item()
        return each.mean()

    def unfreeze(self, step: int) -> None:
        """Lets those layers of the backbone be trained whose turn has come, after so many optimizer steps."""
        for first, group in self.layers:
            for parameter in group:
                parameter.requires_grad_(step >= first)

    def stepped(self) -> None:
        """After an optimizer step: moves the average, steps the rates."""
        if self.hearing is not None:
            self.hearing.fresh = False
        if self.average is not None:
            self.average.move()
        self.step_rates()

    def step_rates(self, dev_loss: float | None = None) -> None:
        """Steps the schedules: those of the dev loss when there is one, the others after an optimizer step."""
        if dev_loss is None:
            self.rates = {name: one.param_groups[0]["lr"] for name, one in self.optimizers.items()}
        for schedule in self.schedules.values():
            if isinstance(schedule, ReduceLROnPlateau):
                if dev_loss is not None:
                    schedule.step(dev_loss)
            elif dev_loss is None:
                schedule.step()

    def close_epoch(self, curves: Mapping[str, Record] | None = None) -> None:
        """Ends an epoch; with a dev set its scores select.

        Args:
            curves: What was measured of train and dev, see `training.curves`.

        Raises:
            SertkError: If the metric that selects fails.
        """
        alpha = None if self.mixture.alpha is None else self.mixture.alpha.item()
        if self.dev is None:
            self.history.close(None, None, None, self.rates, alpha)
            return
        scores, nll = self.dev.scores(), distributed.sum_over_ranks(torch.tensor(self.nll, dtype=torch.float64))
        # of the utterances; SpeechBrain's mean of batches would depend on their size
        dev_loss = nll.item() / len(self.dev)
        try:
            figure = self.metric(scores)
        except SertkError as error:
            raise SertkError(f"{error} It selects the epoch; another one would be --set train.metric=ua.") from error
        self.history.close(figure, dev_loss, self.model, self.rates, alpha, curves)
        self.nll = 0.0
        self.step_rates(dev_loss)
        if self.watch is not None:
            self.watch(self.history.epoch - 1, figure)

    def save(self, scaler: torch.GradScaler, counters: State) -> None:
        """Writes a checkpoint; only ever called between optimizer steps."""
        parts = {name: part.state_dict() for name, part in {**self._parts(), "scaler": scaler}.items()}
        parts["model"] = {name: value.cpu() for name, value in parts["model"].items()}  # where the best weights are
        self.checkpoints.save(
            {
                **parts,
                "history": self.history.state(parts["model"]),
                "counters": counters,
                "ranks": distributed.world_size(),
                # the weights that it was heard with are gone
                **({"heard": self.hearing.state()} if self.hearing is not None and counters["step"] else {}),
            }
        )

    def restore(self, scaler: torch.GradScaler) -> State | None:
        """Goes back to the newest checkpoint; gives its counters, None where there is none.

        Raises:
            SertkError: Where another number of processes wrote it, for their shares of an epoch were others.
        """
        state = self.checkpoints.latest()
        if state is None:
            return None
        were = state.get("ranks", 1)
        if were != distributed.world_size():
            raise SertkError(
                f"the checkpoints are of a run of {were} processes, and now there are {distributed.world_size()}. "
                f"Start {were} (torchrun --nproc-per-node), or use --force to begin again."
            )
        for name, part in {**self._parts(), "scaler": scaler}.items():
            part.load_state_dict(state[name])
        self.history.load(state["history"])
        if self.hearing is not None and "heard" in state:
            self.hearing.load(state["heard"])
        counters: State = state["counters"]
        self.order.start = counters["step"]
        return counters

    def _parts(self) -> dict[str, nn.Module | Optimizer | LRScheduler]:
        optimizers = {f"optimizer {name}": one for name, one in self.optimizers.items()}
        schedules = {f"schedule {name}": one for name, one in self.schedules.items()}
        average = {} if self.average is None else {"average": self.average}
        return {"model": self.model, "mixture": self.mixture, **average, **optimizers, **schedules}

"""The training loop: a SpeechBrain Brain."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from speechbrain.core import Brain, Stage
from torch import Tensor

from sertk.core import Batch, Views, key
from sertk.core.processes import keep_memory
from sertk.training import distributed
from sertk.training.curves import Curves
from sertk.training.loading import Item, Loader
from sertk.training.state import Training

logging.getLogger("speechbrain").setLevel(logging.WARNING)


class EmotionBrain(Brain):  # type: ignore[misc] # SpeechBrain has no types
    """Trains until the history says stop, and resumes from any checkpoint to the same bits.

    Args:
        training: The run's parts.
        curves: Measures train and dev after each epoch; None where nobody asked.
    """

    def __init__(self, training: Training, curves: Curves | None = None) -> None:
        keep_memory()
        torch.backends.cudnn.deterministic = True
        average = {} if training.average is None else {"average": training.average}
        super().__init__({"model": training.model, "loss": training.mixture, **average}, run_opts=training.options)
        self.training, self.train_sampler = training, training.order
        self.since_save, self.saved = 0, time.monotonic()
        self._curves = curves

    def train_on(self, train: Loader, dev: Loader | None) -> None:
        """Trains to the end, from the newest checkpoint where there is one."""
        try:
            self.fit(self._epochs(), train, dev, progressbar=False)
        finally:
            self.training.history.end()

    def _epochs(self) -> Iterator[int]:
        while not self.training.history.finished:
            yield self.training.history.epoch

    def compute_forward(self, item: Item, stage: Stage) -> tuple[Views, Batch]:
        """The model's views of a batch, as SpeechBrain asks for them."""
        return self.views(item, train=stage == Stage.TRAIN)

    def views(self, item: Item, *, train: bool) -> tuple[Views, Batch]:
        """Augments, computes features and runs the model."""
        batch, partners, epoch = item.to(self.device)
        with self._exact():  # features as the statistics and the scorer compute them
            ready = self.training.frontend(batch, epoch, partners, train=train)
        return self.modules.model(ready.inputs, self.training.spans, ready.speakers), ready

    def _exact(self) -> AbstractContextManager[object]:
        """Full precision, where the model has another."""
        return nullcontext() if self.precision == "fp32" else torch.autocast(self.device_type, enabled=False)

    def compute_objectives(self, outputs: tuple[Views, Batch], item: Item, stage: Stage) -> Tensor:
        """The objective on training batches; on dev the negative log-probability of the labels."""
        (views, batch), training = outputs, self.training
        # float32 whatever the precision: half-precision contrasts and angles are off by a percent
        with self._exact():
            return training.train_loss(views, batch) if stage == Stage.TRAIN else training.dev_loss(views, batch, item)

    def init_optimizers(self) -> None:
        """Hands over the optimizers and, where there is a checkpoint, goes back to it."""
        self.optimizers_dict = dict(self.training.optimizers)
        counters = self.training.restore(self.scaler)
        if counters:
            self.step, self.optimizer_step = counters["step"], counters["optimizer_step"]
        distributed.broadcast(self.modules)

    def _wrap_distributed(self) -> None:
        """Wraps nothing in DDP: the rest of an accumulation, which it would not send, is averaged by ourselves too."""

    def optimizers_step(self) -> None:
        """Steps by the mean gradient of all distributed, over the batches that there were."""
        whole = self.grad_accumulation_factor
        distributed.average_gradients(self.modules.parameters(), whole / (self.step % whole or whole))
        super().optimizers_step()

    def check_loss_isfinite(self, loss: Tensor) -> None:
        """Nothing: the history has looked at it, and says which part is to blame."""

    def update_average(self, loss: Tensor, avg_loss: float) -> float:
        """Nothing: the history has the means that are shown."""
        return avg_loss

    def on_fit_batch_start(self, item: Item, should_step: bool) -> None:
        """Unfreezes; makes dropout a function of (seed, epoch, step, rank), so resuming needs no generator state."""
        self.training.unfreeze(self.optimizer_step)
        seed = key(self.training.seed, "step", self.training.history.epoch, self.step) + distributed.rank()
        # torch.manual_seed would also format a traceback for each kind of device that is not there
        torch.default_generator.manual_seed(seed & (2**63 - 1))
        if self.device_type == "cuda":
            torch.cuda.manual_seed_all(seed & (2**63 - 1))

    def on_fit_batch_end(self, item: Item, outputs: object, loss: Tensor, should_step: bool) -> None:
        """Flushes what is left of an accumulation when the epoch ends, steps the rates, saves now and then."""
        left, last = self.step % self.grad_accumulation_factor, self.step == len(self.training.order)
        if left and not last:
            return
        if left:  # SpeechBrain would drop these
            self.optimizers_step()
        self.training.stepped()
        self.since_save += 1
        if 0 < self.training.save_every <= self.since_save and not last:
            self._save()

    def on_stage_start(self, stage: Stage, epoch: int) -> None:
        """Measures dev with the average of the weights, where there is one; hears the speakers where that changes."""
        hearing = self.training.hearing
        if stage == Stage.VALID:
            self._swap()
        if hearing is not None and (stage == Stage.VALID or not hearing.fresh):
            hearing.refresh(others=stage == Stage.VALID)

    def _swap(self) -> None:
        """Takes the average of the weights, where there is one, or goes back."""
        if self.training.average is not None:
            self.training.average.swap()
            if self.training.hearing is not None:
                self.training.hearing.fresh = False

    def on_stage_end(self, stage: Stage, loss: float, epoch: int) -> None:
        """Closes the epoch after dev, or after training where there is no dev set."""
        distributed.broadcast(self.modules)  # batch statistics are each rank's own while it trains
        if self.training.history.dev == (stage == Stage.VALID):
            self.training.close_epoch(self._curves.measure(self) if self._curves else None)
            if stage == Stage.VALID:
                self._swap()
            self.step = 0
            self._save()

    def _save(self) -> None:
        """Writes a checkpoint, where a kill would cost more than `train.checkpoint_seconds`."""
        if time.monotonic() - self.saved < self.training.save_seconds:
            return
        if not distributed.rank():
            self.training.save(self.scaler, {"step": self.step, "optimizer_step": self.optimizer_step})
        self.since_save, self.saved = 0, time.monotonic()

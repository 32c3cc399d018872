"""How a run went so far: epochs, the best of them, patience, the lines of log.jsonl and TensorBoard's curves."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from sertk.console.progress import say
from sertk.core import SertkError, Terms
from sertk.core.files import SCHEMA, Document, Record, write_jsonl
from sertk.training import distributed
from sertk.training.checkpoint import State

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TOTAL = "total"
LOG_SECONDS = 1.0
"""Between two writings of log.jsonl, which is written whole and waits for the disk: epochs may last milliseconds."""


class History:
    """Counts epochs, selects on dev alone, and says when to stop.

    Args:
        log: log.jsonl of the run.
        epochs: At most.
        patience: Epochs without a better dev metric before training stops; 0 never stops early.
        per_epoch: Optimizer steps of an epoch.
        dev: Whether there is a dev set to select on.
        better: Which dev scores are better.
        text: A dev score as it is shown.
        newest: Whether every epoch is taken, in the place of the best.
        by_loss: Whether of equal dev scores the one with the lower dev loss is better.
        last_step: The optimizer step to stop after; None for the end of the epochs.
        curves: Folder for TensorBoard; None for none.
    """

    def __init__(
        self,
        log: Path,
        epochs: int,
        patience: int,
        per_epoch: int,
        *,
        dev: bool,
        better: Literal["higher", "lower"] = "higher",
        text: Callable[[float], str] = str,
        newest: bool = False,
        by_loss: bool = False,
        last_step: int | None = None,
        curves: Path | None = None,
    ) -> None:
        self._log, self._epochs, self._patience, self.per_epoch = log, epochs, patience, per_epoch
        self._curves, self._better, self._text = curves, better, text
        self._writer: SummaryWriter | None = None
        self.dev, self._newest, self._last_step, self._by_loss = dev, newest, last_step, by_loss
        self.epoch, self._bad = 1, 0
        self.best: Record = {"score": None, "epoch": 0, "steps": 0, "weights": {}}
        self._terms: dict[str, float] = {}
        self._batches = 0
        self._lines: list[Record] = []
        self._written = -math.inf

    @property
    def finished(self) -> bool:
        """Whether the epochs, the patience or the steps are used up."""
        tired = self.dev and 0 < self._patience <= self._bad
        return tired or self.epoch > self._epochs or self._done(self.epoch - 1)

    def _done(self, epochs: int) -> bool:
        return self._last_step is not None and epochs * self.per_epoch >= self._last_step

    def add(self, terms: Terms, culprit: Callable[[], str] = str) -> None:
        """Counts a batch's loss and its terms, those of all distributed.

        Args:
            terms: Of the batch.
            culprit: Says which part is to blame for a loss that is no number.

        Raises:
            SertkError: On a loss that is no number, on all distributed.
        """
        named = {TOTAL: terms.total.detach(), **terms.terms}
        values = dict(zip(named, distributed.sum_over_ranks(torch.stack(list(named.values()))).tolist(), strict=True))
        self._batches += distributed.world_size()
        if not math.isfinite(values[TOTAL]):
            raise SertkError(
                f"the loss became {values[TOTAL]} in epoch {self.epoch}, "
                f"step {self._batches // distributed.world_size()}.{culprit()} "
                "Lower train.optimizer.lr or train.clip, or use train.precision fp32; earlier checkpoints are intact."
            )
        for name, value in values.items():
            self._terms[name] = self._terms.get(name, 0.0) + value

    def close(
        self,
        score: float | None,
        dev_loss: float | None,
        model: nn.Module | None,
        rates: Mapping[str, float],
        alpha: float | None = None,
        curves: Mapping[str, Record] | None = None,
    ) -> None:
        """Ends an epoch: keeps the weights where the dev score is the best yet, writes the log now and then.

        Args:
            score: Dev metric; None without a dev set.
            dev_loss: Mean dev loss; None without a dev set.
            model: Whose weights to keep.
            rates: Learning rates of its last step, by optimizer.
            alpha: At its end, where it is learned.
            curves: What was measured of train and dev at its end, where it was asked for.
        """
        terms = {name: value / max(1, self._batches) for name, value in self._terms.items()}
        loss = terms.pop(TOTAL, None)  # none where a run went on behind the last step of an epoch
        line = {
            "epoch": self.epoch,
            "train_loss": loss,
            "terms": terms,
            "dev_loss": dev_loss,
            "dev": score,
            "rates": rates,
            **({} if alpha is None else {"alpha": alpha}),
            **({} if curves is None else {"curves": curves}),
        }
        self._lines.append({"schema": SCHEMA, **line})
        self._bad += 1
        if score is not None and model is not None and self._selects(score, dev_loss):
            weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            steps = self.epoch * self.per_epoch
            best = {"score": score, "loss": dev_loss, "epoch": self.epoch, "steps": steps}
            self.best, self._bad = {**best, "weights": weights}, 0
        weighs = "" if alpha is None else f", alpha {alpha:.3f}"
        mark = " *" if score is not None and not self._bad else ""
        tail = "" if score is None else f", dev {self._text(score)}{mark}"
        trained = "no loss" if loss is None else f"loss {loss:.4f}"
        say(f"epoch {self.epoch} of at most {self._epochs}: train {trained}{weighs}{tail}")
        self.epoch, self._terms, self._batches = self.epoch + 1, {}, 0
        if not distributed.rank():
            self._draw()
        if self.finished or time.monotonic() - self._written >= LOG_SECONDS:
            self.write()

    def write(self) -> None:
        """Writes log.jsonl."""
        self._written = time.monotonic()
        if self._lines and not distributed.rank():
            write_jsonl(self._log, self._lines)

    def end(self) -> None:
        """Writes what is not written yet, and lets go of TensorBoard's files and of the thread that writes them."""
        self.write()
        if self._writer is not None:
            self._writer.close()

    def _selects(self, score: float, loss: float | None) -> bool:
        """Whether the epoch of a dev score is taken: the first one, every one, or one that is better than the best."""
        if self._newest or not self.best["epoch"]:
            return True
        best: float = self.best["score"]
        least: float | None = self.best.get("loss")
        if self._by_loss and score == best and loss is not None and least is not None:
            return loss < least
        return score > best if self._better == "higher" else score < best

    def _draw(self) -> None:
        """Adds the epoch to TensorBoard's files. A resumed run writes them again, so no epoch is there twice."""
        if self._curves is None:
            return
        new = self._lines[-1:]
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            shutil.rmtree(self._curves, ignore_errors=True)
            self._writer, new = SummaryWriter(str(self._curves), purge_step=0), self._lines
        for line in new:
            for tag, value in _scalars(line).items():
                self._writer.add_scalar(tag, value, line["epoch"])
        self._writer.flush()

    def state(self, weights: Mapping[str, Tensor]) -> State:
        """What a checkpoint holds of it.

        Args:
            weights: Of the model now, on the CPU. Where a best weight equals the one of now, the same tensor is given
                for both, and the checkpoint holds it once.
        """
        best = self.best["weights"]
        kept = {name: weights[name] if torch.equal(value, weights[name]) else value for name, value in best.items()}
        return {
            "epoch": self.epoch,
            "bad": self._bad,
            "best": {**self.best, "weights": kept},
            "terms": self._terms,
            "batches": self._batches,
            "lines": self._lines,
        }

    def load(self, state: State) -> None:
        """Goes back to a checkpoint."""
        self.epoch, self._bad, self.best = state["epoch"], state["bad"], state["best"]
        self._terms, self._batches, self._lines = state["terms"], state["batches"], state["lines"]


def _scalars(line: Document) -> dict[str, float]:
    """The figures of a line of the log, by TensorBoard's tags."""
    figures = {name: line[name] for name in ("train_loss", "dev_loss", "dev", "alpha") if line.get(name) is not None}
    for group in ("terms", "rates"):
        figures |= {f"{group}/{name}": value for name, value in line[group].items()}
    for part, measured in line.get("curves", {}).items():
        figures |= {f"{part}/{name}": value for name, value in measured.items()}
    return figures

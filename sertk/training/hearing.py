"""How a run hears its speakers: the statistics of what is standardised with those of the training fold and a speaker's.

Inputs do not change while a run trains, so they are heard once. The embedding of a model that is trained does: it is
heard again before each epoch and before dev, in a pass that nothing is learned from, and is constant in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sertk.console.progress import say
from sertk.core import Padded, Span, Utterance
from sertk.modeling.frontend import Frontend
from sertk.modeling.model import Model
from sertk.modeling.speakers import Draw, Speakers, of_windows
from sertk.settings.schema import EMBEDDING, Settings
from sertk.training.loading import Loader, Rows


def fit_inputs(model: Model, frontend: Frontend, rows: Rows, s: Settings) -> None:
    """Fits the statistics of the inputs on the training utterances as they are, not augmented.

    Args:
        model: Its inputs are standardised then.
        frontend: Without crop: statistics are of real frames, not of what a crop pads.
        rows: Each training utterance once.
        s: Of the run.
    """
    for name in (name for name in model.normalize if name != EMBEDDING):
        batches = (frontend(item.batch).inputs[name] for item in _loader(rows, s, "statistics"))
        model.normalize[name].fit(batches, scalar=s.statistics(name) == "scalar")


@torch.no_grad()
def speakers_of(
    model: Model, frontend: Frontend, span: Span, rows: Rows, s: Settings, draws: Sequence[Draw] = ()
) -> Speakers | None:
    """The statistics of the speakers of some rows with the model as it is; None where nothing is standardised with any.

    Args:
        model: The statistics of training are fitted already.
        frontend: Without augmentations.
        span: The windows that are decided on.
        rows: Each utterance once, as it is.
        s: Of the run.
        draws: See `Speakers`.
    """
    if not s.by_speaker:
        return None
    model.eval()
    device, plans = next(model.parameters()).device, rows.in_order(s.score.batch)
    every = (frontend(item.batch.to(device)).inputs for item in _loader(rows, s, "speakers"))
    found = [{name: own.cpu() for name, own in model.moments(one, s.by_speaker, span).items()} for one in every]
    order = torch.cat([plan.rows for _, plan in plans]).argsort()
    whole = {name: torch.cat([one[name] for one in found])[order] for name in found[0]}  # those that are read
    return Speakers(_names(rows.utterances), whole, s.speakers.shrink, draws)


def say_unknown(utterances: Sequence[Utterance]) -> None:
    """Says how many utterances have no known speaker."""
    names = _names(utterances)
    if unknown := names.count(None):
        say(f"{unknown} of {len(names)} utterances have no known speaker: they have the statistics of training alone")


def _names(utterances: Sequence[Utterance]) -> list[str | None]:
    return [one.known_speaker for one in utterances]


def _loader(rows: Rows, s: Settings, what: str) -> Loader:
    return Loader(rows, rows.in_order(s.score.batch), s.train.workers, what)


class Hearing:
    """The speakers of a run whose embedding is standardised with their statistics.

    Args:
        model: It is trained.
        frontend: Without augmentations.
        span: The windows that are decided on.
        rows: The training rows; they get the statistics of their speakers, of utterances that are drawn.
        plain: Each training utterance once, as it is; the same, of all utterances.
        s: Of the run.
    """

    def __init__(self, model: Model, frontend: Frontend, span: Span, rows: Rows, plain: Rows, s: Settings) -> None:
        self._model, self._frontend, self._span = model, frontend, span
        self._rows, self._plain, self._s = rows, plain, s
        self._others, self._found = list[Rows](), torch.zeros(0)
        self.fresh = False
        """Whether the statistics are of the weights as they are."""

    def add(self, rows: Rows) -> None:
        """Lets `refresh` hear the speakers of rows that are decided on, each utterance once, too."""
        self._others.append(rows)

    @torch.no_grad()
    def refresh(self, *, others: bool = False) -> None:
        """Hears the training utterances with the weights as they are; with `others` those that are decided on too."""
        self._model.eval()
        device, size = next(self._model.parameters()).device, 0
        raw, owner = list[Tensor](), list[Tensor]()
        for item in _loader(self._plain, self._s, "speakers"):
            one, own = self._model.raw(self._frontend(item.batch.to(device)).inputs, self._span)
            raw.append(one.float())
            owner.append(own.cpu() + size)
            size += len(item.batch.ids)
        every = torch.cat(raw)
        ones = torch.ones(len(every), dtype=torch.int64)
        self._model.normalize[EMBEDDING].fit([Padded(every[:, None].cpu(), ones)], scalar=False)
        place = torch.cat([plan.rows for _, plan in self._plain.in_order(self._s.score.batch)])
        # in the precision of a checkpoint, so that a run that goes on has the same
        self._take(of_windows(self._model.standardised(every).cpu(), place[torch.cat(owner)], size).float())
        for rows in self._others if others else ():
            rows.speakers = speakers_of(self._model, self._frontend, self._span, rows, self._s)
        self.fresh = True

    def state(self) -> Tensor:
        """(U, 2 E + 1) what was heard of the training utterances, for a checkpoint inside an epoch."""
        return self._found

    def load(self, found: Tensor) -> None:
        """Goes back to what was heard; the statistics of training are in the model."""
        self._take(found)
        self.fresh = True

    def _take(self, found: Tensor) -> None:
        self._found, names, shrink = found, _names(self._plain.utterances), self._s.speakers.shrink
        self._plain.speakers = Speakers(names, {EMBEDDING: found.double()}, shrink)
        self._rows.speakers = Speakers(names, {EMBEDDING: found.double()}, shrink, self._s.speakers.draws)

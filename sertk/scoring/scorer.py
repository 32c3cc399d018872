"""Scores audio with a bundle: one file, or thousands in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sertk.core import Batch, InputError, Padded, Rng, Utterance
from sertk.core.files import SCHEMA, Record
from sertk.corpus import audio
from sertk.modeling import bundle
from sertk.plugins import Plugins

WINDOW = 256


class Scorer:
    """A model read from a bundle.

    Args:
        folder: The bundle.
        device: cpu, cuda, cuda:N.
        plugins: The registry; a new one by default.

    Raises:
        SertkError: Where the bundle cannot be read.
    """

    def __init__(self, folder: Path, device: str = "cpu", plugins: Plugins | None = None) -> None:
        self.bundle = bundle.read(folder, plugins or Plugins(), device)
        self._device = device

    def __call__(self, path: str | Path) -> dict[str, float]:
        """The posterior of an audio file, by class.

        Raises:
            InputError: Where the file cannot be read.
        """
        wave = audio.read(Path(path), str(path), self.bundle.settings.audio)
        posterior, _ = self._forward([str(path)], [wave])
        return dict(zip(self.bundle.classes, posterior[0].tolist(), strict=True))

    @torch.inference_mode()
    def _forward(self, ids: Sequence[str], waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, C) posterior and logits."""
        rows = torch.arange(len(ids))
        batch = Batch(tuple(ids), {"wave": Padded.stack(waves)}, None, torch.zeros_like(rows), rows).to(self._device)
        ready = self.bundle.frontend(batch)
        views = self.bundle.model(ready.inputs, [self.bundle.decider.span])
        rng = Rng.for_rows(self.bundle.settings.seed, ids, [0] * len(ids), 0, "decision").to(self._device)
        posterior, logits = self.bundle.decider(views, ready, len(ids), rng)
        return posterior.cpu(), logits.cpu()

    def lines(self, utterances: Sequence[Utterance], root: Path, batch: int, failed: list[Record]) -> Iterator[Record]:
        """The score line of each utterance, in order.

        Args:
            utterances: What to score; labels are those of the bundle's classes or None.
            root: Their paths are relative to it.
            batch: Utterances at once.
            failed: Gets {"id", "reason"} of each that cannot be read.
        """
        for first in range(0, len(utterances), WINDOW):
            yield from self._window(utterances[first : first + WINDOW], root, batch, failed)

    def _window(
        self, utterances: Sequence[Utterance], root: Path, batch: int, failed: list[Record]
    ) -> Iterator[Record]:
        """A stretch of utterances: batched by length, given back in their order."""
        waves: dict[str, Tensor] = {}
        seconds: dict[str, float] = {}
        for one in utterances:
            try:
                samples, rate = audio.decode(root / one.path, one.id, one.start, one.duration)
                waves[one.id] = audio.wave_of(samples, rate, one.id, self.bundle.settings.audio)
                seconds[one.id] = len(samples) / rate  # before trimming: the same for every system
            except InputError as error:
                failed.append({"schema": SCHEMA, "id": one.id, "reason": str(error)})
        ids = sorted(waves, key=lambda i: len(waves[i]))
        scores: dict[str, tuple[Tensor, Tensor]] = {}
        for first in range(0, len(ids), batch):
            part = ids[first : first + batch]
            posterior, logits = self._forward(part, [waves[i] for i in part])
            fine = (posterior.isfinite() & logits.isfinite()).all(1).tolist()
            for row, name in enumerate(part):
                if fine[row]:
                    scores[name] = posterior[row], logits[row]
                else:
                    reason = f"{name}: the model gives it values that are not finite. Look at its audio."
                    failed.append({"schema": SCHEMA, "id": name, "reason": reason})
        return (self._line(one, seconds[one.id], *scores[one.id]) for one in utterances if one.id in scores)

    def _line(self, one: Utterance, seconds: float, posterior: Tensor, logits: Tensor) -> Record:
        return {
            "schema": SCHEMA,
            "id": one.id,
            "label": one.label,
            "speaker": one.known_speaker,
            "gender": one.gender,
            "session": one.session,
            "seconds": round(seconds, 6),
            "decision": self.bundle.classes[int(posterior.argmax())],
            "posterior": [round(value, 6) for value in posterior.tolist()],
            "logits": [round(value, 6) for value in logits.tolist()],
        }

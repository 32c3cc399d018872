"""Scores audio with a bundle: one file, or thousands in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from sertk.core import Batch, InputError, Padded, Rng, Utterance, code_points
from sertk.core.files import SCHEMA, Record, json_bytes, sentence
from sertk.corpus import audio
from sertk.modeling import bundle
from sertk.plugins import Plugins
from sertk.scoring.ahead import ahead
from sertk.scoring.stored import Stored
from sertk.settings.schema import AudioSettings

WINDOW = 256
T = TypeVar("T")
Inputs = Mapping[str, Tensor]
"""Of an utterance: {name: (T, D)} features, or {"wave": (S,)}; with {"text": (S,)} code points, where they are read."""


class Read(NamedTuple):
    """An utterance that is ready to be scored.

    Attributes:
        seconds: Of its audio, before trimming: the same for every system.
        size: By which it is batched with others of its length.
        inputs: Gives its inputs.
    """

    seconds: float
    size: float
    inputs: Callable[[], Inputs]


class Sound(NamedTuple):
    """The audio of an utterance.

    Attributes:
        seconds: Before trimming.
        wave: (S,) samples at the run's rate.
    """

    seconds: float
    wave: Tensor


Sounds = Mapping[str, Sound | str]
"""Of a window by id; why there is none, where there is none."""


class Scorer:
    """A model read from a bundle.

    Args:
        folder: The bundle.
        device: cpu, cuda, cuda:N.
        plugins: The registry; a new one by default.
        stored: The features of the utterances; None computes them from audio.

    Raises:
        SertkError: Where the bundle cannot be read.
    """

    def __init__(
        self, folder: Path, device: str = "cpu", plugins: Plugins | None = None, stored: Stored | None = None
    ) -> None:
        self.bundle = bundle.read(folder, plugins or Plugins(), device, stored=stored is not None)
        self._device, self._stored = device, stored
        features = self.bundle.frontend.features
        reads = {features[name].reads for name in self.bundle.model.backbone.inputs}
        self.reads_text, self._text_alone = "text" in reads, reads == {"text"}

    def __call__(self, path: str | Path, text: str | None = None) -> dict[str, float]:
        """The posterior of an audio file, by class.

        Args:
            path: Of the file.
            text: What is said in it, for a model that reads transcripts.

        Raises:
            InputError: Where the file cannot be read, or the model reads nothing but a transcript that is lacking.
        """
        wave = audio.read(Path(path), str(path), self.bundle.settings.audio)
        one = Utterance(str(path), str(path), "unknown", None, text=text)
        posterior, _ = self._forward([str(path)], [{"wave": wave, **self._text(one)}])
        return dict(zip(self.bundle.classes, posterior[0].tolist(), strict=True))

    @torch.inference_mode()
    def _forward(self, ids: Sequence[str], inputs: Sequence[Inputs]) -> tuple[Tensor, Tensor]:
        """(B, C) posterior and logits."""
        rows = torch.arange(len(ids))
        stacked = {name: Padded.stack([one[name] for one in inputs]) for name in inputs[0]}
        batch = Batch(tuple(ids), stacked, None, torch.zeros_like(rows), rows).to(self._device)
        ready = self.bundle.frontend(batch)
        views = self.bundle.model(ready.inputs, [self.bundle.decider.span])
        rng = Rng.for_rows(self.bundle.settings.seed, ids, [0] * len(ids), 0, "decision").to(self._device)
        posterior, logits = self.bundle.decider(views, ready, len(ids), rng)
        return posterior.cpu(), logits.cpu()

    def _text(self, one: Utterance) -> Inputs:
        """The code points of the transcript, where the model reads it.

        Raises:
            InputError: Where it is lacking and nothing else is read.
        """
        if self._text_alone and not one.transcript:
            raise InputError(
                f"{one.id}: it has no transcript, and the model reads nothing else. Give one: --text FILE, or `text` "
                "in the manifest."
            )
        return {"text": code_points(one.transcript)} if self.reads_text else {}

    def lines(self, utterances: Sequence[Utterance], root: Path, batch: int, failed: list[Record]) -> Iterator[Record]:
        """The score line of each utterance, in order.

        Args:
            utterances: What to score; labels are those of the bundle's classes or None.
            root: Their paths are relative to it.
            batch: Utterances at once.
            failed: Gets {"id", "reason"} of each that cannot be read, or that the model fails on.
        """
        for first in range(0, len(utterances), WINDOW):
            window = utterances[first : first + WINDOW]
            (sounds,) = self.sounds([window], root)
            yield from self.window(window, sounds, batch, failed)

    def sounds(self, windows: Iterable[Sequence[Utterance]], root: Path, workers: int = 0) -> Iterator[Sounds]:
        """The audio of windows of utterances, none where features are read from the store; see `ahead`.

        Args:
            windows: They are asked for as they are wanted.
            root: Paths are relative to it.
            workers: Threads that read ahead.
        """
        if self._stored is not None:
            return ({} for _ in windows)
        return ahead(partial(_sounds, root, self.bundle.settings.audio), windows, workers)

    def window(
        self, utterances: Sequence[Utterance], sounds: Sounds, batch: int, failed: list[Record]
    ) -> Iterator[Record]:
        """A stretch of utterances, batched by length, given back in their order; see `lines`."""
        ready = _each({one.id: partial(self._read, one, sounds) for one in utterances}, failed)
        ids = sorted(ready, key=lambda i: ready[i].size)
        scores: dict[str, tuple[Tensor, Tensor]] = {}
        for first in range(0, len(ids), batch):
            part = _each({i: ready[i].inputs for i in ids[first : first + batch]}, failed)
            if part:
                scores |= self._scores(part, failed)
        scored = (one for one in utterances if one.id in scores)
        yield from _each(
            {one.id: partial(self._line, one, ready[one.id].seconds, *scores[one.id]) for one in scored}, failed
        ).values()

    def _read(self, one: Utterance, sounds: Sounds) -> Read:
        """An utterance; a feature is read when it is wanted, for those of a window may fill the memory."""
        text = self._text(one)
        if self._stored is not None:
            seconds = self._stored.facts[one.id].seconds
            return Read(seconds, seconds, partial(self._stored.inputs, one))
        sound = sounds[one.id]
        if isinstance(sound, str):
            raise InputError(sound)
        return Read(sound.seconds, len(sound.wave), lambda: {"wave": sound.wave, **text})

    def _scores(self, inputs: Mapping[str, Inputs], failed: list[Record]) -> dict[str, tuple[Tensor, Tensor]]:
        """(C,) posterior and logits of each utterance of a batch, by id; where the batch fails, of each alone."""
        try:
            posterior, logits = self._forward([*inputs], [*inputs.values()])
        except Exception as error:  # memory, an encoder's limit, a guest's fault: only the guilty one is lost
            if _lost(error):
                raise
            failure = None if len(inputs) > 1 else error
        else:
            fine = (posterior.isfinite() & logits.isfinite()).all(1).tolist()
            for row, name in enumerate(inputs):
                if not fine[row]:
                    _fail(failed, name, f"{name}: the model gives it values that are not finite. Look at its audio.")
            return {name: (posterior[row], logits[row]) for row, name in enumerate(inputs) if fine[row]}
        # here the error is let go, and the memory that its frames held
        if failure is not None:
            _fail(failed, next(iter(inputs)), failure)
            return {}
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for name, one in inputs.items():
            found |= self._scores({name: one}, failed)
        return found

    def _line(self, one: Utterance, seconds: float, posterior: Tensor, logits: Tensor) -> Record:
        """The score line; SertkError where what is told of the utterance is no JSON, such as a label that is NaN."""
        line = {
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
        json_bytes(line, one.id)
        return line


def _sounds(root: Path, settings: AudioSettings, window: Sequence[Utterance]) -> Sounds:
    """The audio of a window; a thread of its own may run it."""
    failed: list[Record] = []
    found = _each({one.id: partial(_sound, one, root, settings) for one in window}, failed)
    return {**found, **{one["id"]: one["reason"] for one in failed}}


def _sound(one: Utterance, root: Path, settings: AudioSettings) -> Sound:
    samples, rate = audio.decode(root / one.path, one.id, one.start, one.duration)
    wave = audio.wave_of(samples, rate, one.id, settings)
    return Sound(len(samples) / rate, wave)


def _each(made: Mapping[str, Callable[[], T]], failed: list[Record]) -> dict[str, T]:
    """What each function makes, by id, without those that fail, in whatever way."""
    found: dict[str, T] = {}
    for name, make in made.items():
        try:
            found[name] = make()
        except Exception as error:  # a decoder or a guest can fail in any way, and it costs this input alone
            if _lost(error):
                raise
            _fail(failed, name, error)
    return found


def _lost(error: Exception) -> bool:
    """Whether the device is lost: nothing that comes after can be scored by this process, and nobody is guilty."""
    return isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError)


def _fail(failed: list[Record], name: str, why: str | Exception) -> None:
    if isinstance(why, MemoryError):
        why = (
            f"there is not enough memory for it ({str(why) or 'MemoryError'}). Cut it into shorter ones, or remove it."
        )
    reason = sentence(why) if isinstance(why, Exception) else why
    failed.append({"schema": SCHEMA, "id": name, "reason": reason if name in reason else f"{name}: {reason}"})

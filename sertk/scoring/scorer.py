"""Scores audio with a bundle: one file, or thousands in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from sertk.core import Batch, InputError, Padded, Rng, UsageError, Utterance, View, code_points
from sertk.core.files import SCHEMA, Record, json_bytes, sentence
from sertk.corpus import audio
from sertk.modeling import bundle
from sertk.modeling.frontend import Frontend
from sertk.modeling.speakers import Totals
from sertk.plugins import Plugins
from sertk.scoring import embeddings, over_time
from sertk.scoring.ahead import ahead
from sertk.scoring.over_time import Window
from sertk.scoring.stored import Stored
from sertk.scoring.windows import AT_ONCE, WHOLE, Cutting, Piece, are_loud, cut, limit, own_windows

WINDOW = 256
KEPT = 2**26
"""Samples of a window that are kept between reading and scoring: 268 MB, 70 minutes of 16 kHz."""
T = TypeVar("T")
Inputs = Mapping[str, Tensor]
"""Of an utterance: {name: (T, D)} features, or {"wave": (S,)}; with {"text": (S,)} code points, where they are read."""


class Read(NamedTuple):
    """An utterance that is ready to be scored.

    Attributes:
        seconds: Of its audio, before trimming: the same for every system.
        size: By which it is batched with others of its length.
        inputs: Gives its inputs; None where it is cut into windows, which are read as they come.
    """

    seconds: float
    size: float
    inputs: Callable[[], Inputs] | None


class Scored(NamedTuple):
    """What an utterance came to.

    Attributes:
        posterior: (C,).
        logits: (C,).
        embedding: (E,) the mean over what the decision is made of: crops or segments, of a recording those of all
            windows.
        windows: Those that it was cut into and scored in; None where it was scored whole.
        silent: Windows that were left out.
    """

    posterior: Tensor
    logits: Tensor
    embedding: Tensor
    windows: Sequence[Window] | None = None
    silent: int = 0


class Sound(NamedTuple):
    """The audio of an utterance.

    Attributes:
        seconds: Before trimming.
        wave: (S,) samples at the run's rate; None of a recording that is read in blocks, or where they are read later.
        size: S, where they are read later.
        later: Reads them.
    """

    seconds: float
    wave: Tensor | None
    size: int = 0
    later: Callable[[], Tensor] | None = None


Sounds = Mapping[str, Sound | str]
"""The audio of each utterance of a window by id, or the reason why it cannot be read."""


class Scorer:
    """A model read from a bundle.

    Args:
        folder: The bundle.
        device: cpu, cuda, cuda:N.
        plugins: The registry; a new one by default.
        stored: The features of the utterances; None computes them from audio.
        cutting: How recordings are cut into windows.
        ffmpeg: Whether ffmpeg is run for what libsndfile does not read, though the bundle does not say so.
        embeddings: Whether score lines carry their embeddings, see `sertk.scoring.embeddings`.

    Attributes:
        folder: The bundle.
        speakers: The statistics of speakers, of a system that is normalised by them; None leaves those of training.

    Raises:
        SertkError: Where the bundle cannot be read.
        UsageError: On windows that the model cannot take.
    """

    speakers: Totals | None = None

    def __init__(
        self,
        folder: Path,
        device: str = "cpu",
        plugins: Plugins | None = None,
        stored: Stored | None = None,
        cutting: Cutting = Cutting(),  # noqa: B008 - it is never changed
        *,
        ffmpeg: bool = False,
        embeddings: bool = False,
    ) -> None:
        self.bundle = bundle.read(folder, plugins or Plugins(), device, stored=stored is not None)
        self.folder, self._device, self._stored, self._cutting = folder, device, stored, cutting
        self._embeddings = embeddings
        own = self.bundle.settings.audio
        self._audio = replace(own, ffmpeg=own.ffmpeg or ffmpeg)
        features = self.bundle.frontend.features
        reads = {features[name].reads for name in self.bundle.model.backbone.inputs}
        self.reads_text, self.text_alone = "text" in reads, reads == {"text"}
        self.windows = cutting.windows or own_windows(self.bundle)
        least, most = self.bundle.settings.audio.min_seconds, limit(self.bundle)
        self._whole = min(WHOLE, most)
        if cutting.windows and not least <= self.windows.length <= most:
            raise UsageError(
                f"--windows has windows of {self.windows.length:g} s; this model takes {least:g} to {self._whole:g} s."
            )

    def __call__(self, path: str | Path, text: str | None = None) -> dict[str, float]:
        """The posterior of an audio file, by class.

        Args:
            path: Of the file.
            text: What is said in it, for a model that reads transcripts.

        Raises:
            InputError: Where the file cannot be read, or the model reads nothing but a transcript that is lacking.
        """
        name = str(path)
        one = Utterance(name, name, "unknown", None, text=text)
        read = self._read(one, {name: self._sound(Path(), one)})
        if read.inputs is None:
            posterior = self._recording(one, Path(), 1).posterior
        else:
            posterior = self._forward([name], [read.inputs()])[0][0]
        return dict(zip(self.bundle.classes, posterior.tolist(), strict=True))

    def _forward(
        self, ids: Sequence[str], inputs: Sequence[Inputs], speakers: Sequence[str | None] = ()
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C) posterior and logits, and (B, E) embeddings."""
        posterior, logits, view = self._seen(ids, [0] * len(ids), inputs, speakers)
        return posterior, logits, view.mean(view.embedding, len(ids)).cpu()

    def _batch(
        self, ids: Sequence[str], copies: Sequence[int], inputs: Sequence[Inputs], speakers: Sequence[str | None] = ()
    ) -> Batch:
        """Rows as they were read, with the statistics of their speakers where these are known."""
        stacked = {name: Padded.stack([one[name] for one in inputs]) for name in inputs[0]}
        own = self.speakers.of(self.speakers.numbers(speakers)) if self.speakers is not None and speakers else {}
        rows = torch.arange(len(ids))
        return Batch(tuple(ids), stacked, None, torch.tensor(copies), rows, speakers=own).to(self._device)

    @torch.inference_mode()
    def _seen(
        self, ids: Sequence[str], copies: Sequence[int], inputs: Sequence[Inputs], speakers: Sequence[str | None] = ()
    ) -> tuple[Tensor, Tensor, View]:
        """(B, C) posterior and logits, and what they were made of; `copies` tells rows of one utterance apart."""
        ready = self.bundle.frontend(self._batch(ids, copies, inputs, speakers))
        views = self.bundle.model(ready.inputs, [self.bundle.decider.span], ready.speakers)
        view = self.bundle.decider.merged(views, ready, len(ids))
        posterior, logits = self.bundle.decider.decide(view, len(ids), self._rng(ids, copies))
        return posterior.cpu(), logits.cpu(), view

    def _rng(self, ids: Sequence[str], copies: Sequence[int]) -> Rng:
        return Rng.for_rows(self.bundle.settings.seed, ids, copies, 0, "decision").to(self._device)

    def _recording(self, one: Utterance, root: Path, batch: int) -> Scored:
        """A recording in windows, and the one decision that is made of them.

        Raises:
            InputError: Where it cannot be read, or a window has values that are not finite.
        """
        read = audio.blocks(root / one.path, one.id, one.start, one.duration, ffmpeg=self._audio.ffmpeg)
        blocks = audio.resampled(read, self.bundle.settings.audio.rate)
        windows, values, silent, first = list[Window](), list[list[float]](), 0, None
        total = torch.zeros((), dtype=torch.float64)
        for piece in self.cut(blocks, batch):
            first = first or piece.take(slice(1))
            loud = are_loud(piece.samples, self._cutting.silence)
            silent += int((~loud).sum())
            if loud.any():
                total = total + self.score_windows(one, piece.take(loud), windows, values)
        if not windows and first is not None:  # all are silent, and every recording has its line
            silent -= 1
            total = self.score_windows(one, first, windows, values)
        with torch.inference_mode():
            output = self.bundle.model.specs["emotion"].output
            posterior, logits = self.bundle.decider.together(
                torch.tensor(values).to(self._device), output, self._rng([one.id], [0])
            )
        return Scored(posterior.cpu(), logits.cpu(), (total / len(values)).float(), windows, silent)

    def cut(self, blocks: Iterable[audio.Samples], batch: int) -> Iterator[Piece]:
        """The windows of a recording at the run's rate, so many at once at most."""
        rate, windows = self.bundle.settings.audio.rate, self.windows
        length, hop = round(windows.length * rate), round(windows.hop * rate)
        return cut(blocks, length, hop, max(1, min(batch, int(AT_ONCE / max(windows)))))

    def score_windows(self, one: Utterance, piece: Piece, windows: list[Window], values: list[list[float]]) -> Tensor:
        """Scores windows of a recording, each as a file of its length is.

        Args:
            one: The recording.
            piece: Some of its windows.
            windows: Gets them.
            values: Gets the C logits of each of what the decision is made of: their crops or segments, in order. As
                tensors they would lie scattered over the memory that the next windows need.

        Returns:
            (E,) float64 sum of the embeddings of what was added to `values`.

        Raises:
            InputError: Where one has values that are not finite.
        """
        settings, text = self.bundle.settings.audio, self._text(one)
        audio.check_length(piece.size / settings.rate, one.id, settings.min_seconds)
        settings = replace(settings, min_seconds=0.0)  # a window is given without its last sample
        waves = (audio.wave_of(samples[:, None], settings.rate, one.id, settings) for samples in piece.samples)
        inputs = [{"wave": wave, **text} for wave in waves]
        posterior, logits, view = self._seen([one.id] * len(inputs), piece.start.tolist(), inputs)
        starts = (one.start + piece.start / settings.rate).tolist()
        fine = _are_finite(posterior, logits)
        if not all(fine):
            raise InputError(
                f"{one.id}: the model gives its window at {starts[fine.index(False)]:g} s values that are not finite. "
                "Look at its audio."
            )
        ends = [start + piece.size / settings.rate for start in starts]
        values += view.logits.tolist()
        windows += map(Window, starts, ends, posterior.argmax(1).tolist(), posterior.tolist())
        return view.embedding.double().sum(0).cpu()

    def _text(self, one: Utterance) -> Inputs:
        """The code points of the transcript, where the model reads it.

        Raises:
            InputError: Where it is lacking and nothing else is read.
        """
        if self.text_alone and not one.transcript:
            raise InputError(
                f"{one.id}: it has no transcript, and the model reads nothing else. Give one: --text FILE, or `text` "
                "in the manifest."
            )
        return {"text": code_points(one.transcript)} if self.reads_text else {}

    def lines(self, utterances: Sequence[Utterance], root: Path, batch: int, failed: list[Record]) -> Iterator[Record]:
        """The score line of each utterance, in order.

        Args:
            utterances: What to score; labels and votes are for the bundle's classes.
            root: Their paths are relative to it.
            batch: Utterances at once.
            failed: Gets {"id", "reason"} of each that cannot be read, or that the model fails on.
        """
        for first in range(0, len(utterances), WINDOW):
            window = utterances[first : first + WINDOW]
            (sounds,) = self.sounds([window], root)
            yield from self.window(window, sounds, root, batch, failed)

    def sounds(
        self, windows: Iterable[Sequence[Utterance]], root: Path, workers: int = 0, kept: float = KEPT
    ) -> Iterator[Sounds]:
        """The audio of windows of utterances, none where features are read from the store; see `ahead`.

        Args:
            windows: They are asked for as they are wanted.
            root: Paths are relative to it.
            workers: Threads that read ahead.
            kept: Samples of a window that are kept. What comes behind them is read again with its batch, so that long
                files take time and no memory, and batches are the same.
        """
        if self._stored is not None:
            return ({} for _ in windows)
        return ahead(partial(self._sounds, root, kept), windows, workers)

    def _sounds(self, root: Path, kept: float, window: Sequence[Utterance]) -> Sounds:
        """The audio of a window; a thread of its own may run it."""
        failed: list[Record] = []

        def sound(one: Utterance) -> Sound:
            nonlocal kept
            found = self._sound(root, one)
            if found.wave is None or (kept := kept - len(found.wave)) >= 0:
                return found
            return Sound(found.seconds, None, len(found.wave), partial(self._later, root, one))

        found = _each({one.id: partial(sound, one) for one in window}, failed)
        return {**found, **{one["id"]: one["reason"] for one in failed}}

    def _later(self, root: Path, one: Utterance) -> Tensor:
        return audio.read(root / one.path, one.id, self._audio, one.start, one.duration)

    def _sound(self, root: Path, one: Utterance) -> Sound:
        most = -1.0 if self._cutting.windows else self._whole  # all are cut
        samples, rate, frames = audio.decode_up_to(
            most, root / one.path, one.id, one.start, one.duration, ffmpeg=self._audio.ffmpeg
        )
        wave = None if samples is None else audio.wave_of(samples, rate, one.id, self._audio)
        return Sound(frames / rate, wave)

    def window(
        self, utterances: Sequence[Utterance], sounds: Sounds, root: Path, batch: int, failed: list[Record]
    ) -> Iterator[Record]:
        """A stretch of utterances, batched by length, given back in their order; see `lines`."""
        scores = self.scored(utterances, sounds, root, batch, failed)
        scored = (one for one in utterances if one.id in scores)
        yield from _each({one.id: partial(self._line, one, *scores[one.id]) for one in scored}, failed).values()

    def scored(
        self, utterances: Sequence[Utterance], sounds: Sounds, root: Path, batch: int, failed: list[Record]
    ) -> dict[str, tuple[float, Scored]]:
        """The seconds of each utterance of a stretch and what it came to, by id; see `lines`."""
        ready = _each({one.id: partial(self._read, one, sounds) for one in utterances}, failed)
        speakers = {one.id: one.known_speaker for one in utterances}
        scores: dict[str, Scored] = {}
        for part in _by_length(ready, batch, failed):
            scores |= _tried(part, lambda inputs: self._scores(inputs, speakers, failed), failed)
        rest = [one for one in utterances if one.id in ready and ready[one.id].inputs is None]
        scores |= _each({one.id: partial(self._recording, one, root, batch) for one in rest}, failed)
        return {name: (ready[name].seconds, one) for name, one in scores.items()}

    def moments(
        self, utterances: Sequence[Utterance], root: Path, batch: int, failed: list[Record], workers: int = 0
    ) -> Iterator[tuple[list[Utterance], dict[str, Tensor]]]:
        """B utterances and their (B, 2 D + 1) moments by input, window by window.

        Those that cannot be read are in none; see `lines` for the arguments, and `sertk.modeling.speakers`.
        """
        starts = range(0, len(utterances), WINDOW)
        windows = (utterances[first : first + WINDOW] for first in starts)
        for first, sounds in zip(starts, self.sounds(windows, root, workers), strict=True):
            window = utterances[first : first + WINDOW]
            ready = _each({one.id: partial(self._read, one, sounds) for one in window}, failed)
            known = {one.id: one for one in window}
            found: dict[str, Mapping[str, Tensor]] = {}
            for part in _by_length(ready, batch, failed):
                found |= _tried(part, lambda inputs: self._moments(inputs, failed), failed)
            names = next(iter(found.values()), {})  # the inputs that are read
            stacked = {name: torch.stack([own[name] for own in found.values()]) for name in names}
            yield [known[name] for name in found], stacked

    @torch.inference_mode()
    def _moments(self, inputs: Mapping[str, Inputs], failed: list[Record]) -> dict[str, Mapping[str, Tensor]]:
        """The moments of each utterance of a batch, by id and input."""
        batch = self._batch([*inputs], [0] * len(inputs), [*inputs.values()])
        ready = Frontend(self.bundle.frontend.features, None)(batch)  # of whole utterances, and not of crops
        bundle = self.bundle
        made = bundle.model.moments(ready.inputs, bundle.settings.by_speaker, bundle.decider.span)
        every = {name: own.cpu() for name, own in made.items()}
        found: dict[str, Mapping[str, Tensor]] = {}
        for row, name in enumerate(inputs):
            own = {word: values[row] for word, values in every.items()}
            if all(values.isfinite().all() for values in own.values()):
                found[name] = own
            else:
                _fail(failed, name, f"{name}: its features have values that are not finite. Look at its audio.")
        return found

    def _read(self, one: Utterance, sounds: Sounds) -> Read:
        """An utterance. Its features are read when they are needed: those of a whole window may fill the memory."""
        text = self._text(one)
        if self._stored is not None:
            seconds = self._stored.facts[one.id].seconds
            return Read(seconds, seconds, partial(self._stored.inputs, one))
        sound = sounds[one.id]
        if isinstance(sound, str):
            raise InputError(sound)
        if (later := sound.later) is not None:
            return Read(sound.seconds, sound.size, lambda: {"wave": later(), **text})
        if sound.wave is None and self.bundle.settings.by_speaker:
            raise InputError(
                f"{one.id}: it has {sound.seconds:.0f} s, and a model that is normalised by speaker takes recordings "
                f"of {self._whole:g} s at most. Cut it into utterances."
            )
        if sound.wave is None:
            # of a model of texts alone there is nothing to cut
            unread = {"wave": torch.zeros(1), **text}
            return Read(sound.seconds, sound.seconds, (lambda: unread) if self.text_alone else None)
        whole = {"wave": sound.wave, **text}
        return Read(sound.seconds, len(sound.wave), lambda: whole)

    def _scores(
        self, inputs: Mapping[str, Inputs], speakers: Mapping[str, str | None], failed: list[Record]
    ) -> dict[str, Scored]:
        """What each utterance of a batch comes to, by id."""
        own = [speakers[name] for name in inputs]
        posterior, logits, embedding = self._forward([*inputs], [*inputs.values()], own)
        fine = _are_finite(posterior, logits)
        for row, name in enumerate(inputs):
            if not fine[row]:
                _fail(failed, name, f"{name}: the model gives it values that are not finite. Look at its audio.")
        return {
            name: Scored(posterior[row], logits[row], embedding[row]) for row, name in enumerate(inputs) if fine[row]
        }

    def _line(self, one: Utterance, seconds: float, scored: Scored) -> Record:
        """The score line; SertkError if a value of it cannot be JSON, such as a label or an embedding that is NaN."""
        decision = int(scored.posterior.argmax())
        line: Record = {
            "schema": SCHEMA,
            "id": one.id,
            "label": one.label,
            "speaker": one.known_speaker,
            "gender": one.gender,
            "session": one.session,
            "seconds": round(seconds, 6),
            **self._more(one),
            "decision": self.bundle.classes[decision],
            "posterior": [round(value, 6) for value in scored.posterior.tolist()],
            "logits": [round(value, 6) for value in scored.logits.tolist()],
        }
        if scored.windows is not None:
            line["windows"] = len(scored.windows)
        if scored.windows is not None and self._cutting.silence is not None:
            line["silent"] = scored.silent
        if self._cutting.keep:
            end = one.start + seconds
            windows = scored.windows or [Window(one.start, end, decision, scored.posterior.tolist())]
            line |= over_time.carried(one.start, end, windows)
        if self._embeddings:
            line |= embeddings.carried(one.id, scored.embedding)
        json_bytes(line, one.id)
        return line

    def _more(self, one: Utterance) -> Record:
        """What few corpora know of an utterance: its intensity, and the votes of annotators for the classes."""
        votes = {name: one.votes[name] for name in self.bundle.classes if name in one.votes}
        found = {"intensity": one.intensity, "votes": votes}
        return {word: value for word, value in found.items() if value}


def _each(made: Mapping[str, Callable[[], T]], failed: list[Record]) -> dict[str, T]:
    """What each function makes, by id, without those that fail, in whatever way."""
    found: dict[str, T] = {}
    for name, make in made.items():
        try:
            found[name] = make()
        except Exception as error:  # a decoder or a guest can fail in any way, and it costs this input alone
            if is_lost(error):
                raise
            _fail(failed, name, error)
    return found


def _by_length(ready: Mapping[str, Read], batch: int, failed: list[Record]) -> Iterator[dict[str, Inputs]]:
    """The inputs of utterances that are not cut, by id, so many at once, batched by length."""
    whole = {name: read.inputs for name, read in ready.items() if read.inputs is not None}
    ids = sorted(whole, key=lambda i: ready[i].size)
    for first in range(0, len(ids), batch):
        part = _each({i: whole[i] for i in ids[first : first + batch]}, failed)
        if part:
            yield part


def _tried(
    inputs: Mapping[str, Inputs], make: Callable[[Mapping[str, Inputs]], dict[str, T]], failed: list[Record]
) -> dict[str, T]:
    """What is made of a batch, by id; where the batch fails, of each utterance alone."""
    try:
        return make(inputs)
    except Exception as error:  # memory, an encoder's limit, a guest's fault: only the guilty one is lost
        if is_lost(error):
            raise
        failure = None if len(inputs) > 1 else error
    # here the error is let go, and the memory that its frames held
    if failure is not None:
        _fail(failed, next(iter(inputs)), failure)
        return {}
    found: dict[str, T] = {}
    for name, one in inputs.items():
        found |= _tried({name: one}, make, failed)
    return found


def _are_finite(posterior: Tensor, logits: Tensor) -> list[bool]:
    """Of each row, whether both are."""
    found: list[bool] = (posterior.isfinite() & logits.isfinite()).all(1).tolist()
    return found


def is_lost(error: Exception) -> bool:
    """Whether the device is lost: nothing that comes after can be scored by this process, and nobody is guilty."""
    return isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError)


def _fail(failed: list[Record], name: str, why: str | Exception) -> None:
    if isinstance(why, MemoryError):
        why = (
            f"there is not enough memory for it ({str(why) or 'MemoryError'}). Cut it into shorter ones, or remove it."
        )
    reason = sentence(why) if isinstance(why, Exception) else why
    failed.append({"schema": SCHEMA, "id": name, "reason": reason if name in reason else f"{name}: {reason}"})

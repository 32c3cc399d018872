"""Changes of the audio that a system is stressed with, such as noise and a telephone band; see docs/robustness.md."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from scipy.signal import firwin, oaconvolve
from torch import Tensor

from sertk.core import Augmentation, Batch, Padded, Rng
from sertk.plugins import Plugins, Spec
from sertk.scoring.scorer import Sound, Sounds

CLEAN = "clean"
SEED = 0
SNRS = (20, 10, 5, 0)
SPEEDS = (0.9, 1.1)
LOW, LOUD = -30.0, 20.0
BAND, LINE_RATE = (300.0, 3400.0), 8000
"""Hz; of a telephone line."""
TAPS = 0.04
"""Seconds of the filter of the band: it falls within 82 Hz of each edge (Hamming window)."""
MP3, OPUS = 16, 8
"""kbit/s."""
OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Hz that Opus knows."""

Change = Callable[[Batch], Padded]
"""Rows with "wave" (B, S) -> their changed waves."""


class Condition(NamedTuple):
    """A change of the audio.

    Attributes:
        about: In words, as the table has it.
        change: None of the clean condition.
        lacking: Why this machine cannot make it; "" where it can.
    """

    about: str
    change: Change | None
    lacking: str = ""


def conditions(plugins: Plugins, rate: int) -> dict[str, Condition]:
    """The conditions by name, clean first.

    Args:
        plugins: Noise, gain and speed are its augmentations.
        rate: Of the waves, Hz.
    """
    made = {CLEAN: Condition("as it is", None)}
    for snr in SNRS:
        noise = _augmented(plugins, {"name": "noise", "copies": 2, "snr": [float(snr)] * 2})
        made[f"noise-{snr}"] = Condition(f"white noise at a signal-to-noise ratio of {snr} dB", noise)
    band = f"{BAND[0]:g} to {BAND[1]:g} Hz, {LINE_RATE / 1000:g} kHz"
    made["telephone"] = Condition(f"telephone band: {band}", lambda batch: telephone(batch.inputs["wave"], rate))
    low, loud = (_augmented(plugins, {"name": "gain", "gain": [gain] * 2}) for gain in (LOW, LOUD))
    made["low-level"] = Condition(f"low level: {LOW:g} dB", low)
    made["clipped"] = Condition(f"clipping: {LOUD:+g} dB, then cut at full scale", lambda batch: clipped(loud(batch)))
    for speed in SPEEDS:
        changed = _augmented(plugins, {"name": "speed", "factors": [speed]})
        made[f"speed-{speed}"] = Condition(f"speed x {speed}, pitch with it", changed)
    for codec in (Codec("MP3", "MPEG_LAYER_III", MP3, _mp3_level(rate)), Codec("OGG", "OPUS", OPUS, _opus_level())):
        name = codec.title
        made[name.lower()] = Condition(f"{name} at {codec.kilobits} kbit/s", codec.at(rate), codec.lacking(rate))
    return made


def changed(sounds: Sounds, condition: Condition, batch: int) -> Sounds:
    """The audio of a window of utterances, changed; what is no wave stays as it is, see `readable`.

    Args:
        sounds: By id.
        condition: How they are changed.
        batch: Utterances at once.
    """
    change = condition.change
    if change is None:
        return sounds
    waves = {
        name: (one.seconds, one.wave) for name, one in sounds.items() if isinstance(one, Sound) and one.wave is not None
    }
    ids = sorted(waves, key=lambda name: len(waves[name][1]))
    made: dict[str, Sound | str] = dict(sounds)
    for first in range(0, len(ids), batch):
        part = ids[first : first + batch]
        stacked = Padded.stack([waves[name][1] for name in part])
        rows = torch.arange(len(part))
        found = change(Batch(tuple(part), {"wave": stacked}, None, torch.ones_like(rows), rows))
        for name, wave, size in zip(part, found.data, found.length.tolist(), strict=True):
            made[name] = Sound(waves[name][0], wave[:size].clone())
    return made


def readable(sounds: Sounds) -> Sounds:
    """The same, with a reason in the place of a recording that is too long to be read whole, and so to be changed."""
    why = "it is longer than the model takes at once, and only what is scored whole can be changed. Cut it first."
    return {
        name: f"{name}: {why}" if isinstance(one, Sound) and one.wave is None else one for name, one in sounds.items()
    }


def _augmented(plugins: Plugins, spec: Spec) -> Change:
    """An augmentation that leaves nothing to chance but its noise, which goes by the id of an utterance."""
    augmentation: Augmentation = plugins.make("augmentation", spec)

    def change(batch: Batch) -> Padded:
        rng = Rng.for_rows(SEED, batch.ids, batch.copy.tolist(), 0, "stress")
        return augmentation(batch, rng, None).inputs["wave"]

    return change


def telephone(wave: Padded, rate: int) -> Padded:
    """(B, S) -> (B, S) as a telephone line gives it: the band, at its rate and back."""
    from torchaudio.functional import resample  # late: two seconds that other commands need not pay

    edges = [edge for edge in BAND if edge < rate / 2]
    taps = firwin(
        2 * round(TAPS * rate / 2) + 1, edges, pass_zero="bandpass" if len(edges) > 1 else "highpass", fs=rate
    )
    banded = torch.from_numpy(oaconvolve(wave.fill(0.0).data.numpy(), taps.astype(np.float32)[None], "same", axes=1))
    there = resample(banded.float(), rate, LINE_RATE)
    back = resample(there, LINE_RATE, rate)[:, : wave.data.shape[1]]
    return Padded(torch.nn.functional.pad(back, (0, wave.data.shape[1] - back.shape[1])), wave.length).fill(0.0)


def clipped(wave: Padded) -> Padded:
    """(B, S) -> (B, S), every sample from -1 to 1."""
    return Padded(wave.data.clamp(-1, 1), wave.length)


@dataclass(frozen=True)
class Codec:
    """A lossy file format that libsndfile writes and reads.

    Attributes:
        format: As libsndfile calls it.
        subtype: Likewise.
        kilobits: A second.
        level: libsndfile's compression level for it, 0 to 1.
    """

    format: str
    subtype: str
    kilobits: int
    level: float

    @property
    def title(self) -> str:
        """As it is known."""
        return "Opus" if self.subtype == "OPUS" else self.format

    def lacking(self, rate: int) -> str:
        """Why waves of a rate cannot be written; "" where they can."""
        if self.subtype not in soundfile.available_subtypes(self.format):
            return f"libsndfile {soundfile.__libsndfile_version__} does not write it"
        if self.subtype == "OPUS" and rate not in OPUS_RATES:
            return f"it does not know {rate} Hz, the rate of this model"
        return "" if 0 <= self.level <= 1 else f"it has no {self.kilobits} kbit/s at {rate} Hz, the rate of this model"

    def at(self, rate: int) -> Change:
        """The change for waves of a rate."""

        def change(batch: Batch) -> Padded:
            wave = batch.inputs["wave"]
            # libsndfile takes a file at a time
            rows = [self.through(row[:size], rate) for row, size in zip(wave.data, wave.length.tolist(), strict=True)]
            return Padded.stack(rows)

        return change

    def through(self, wave: Tensor, rate: int) -> Tensor:
        """(S,) -> (S',) as it comes out of a file: MP3 begins later, by the delay of its coder."""
        file, how = io.BytesIO(), {"format": self.format, "subtype": self.subtype, "compression_level": self.level}
        if self.format == "MP3":
            how["bitrate_mode"] = "CONSTANT"
        soundfile.write(file, wave.numpy(), rate, **how)
        file.seek(0)
        samples, _ = soundfile.read(file, dtype="float32")
        return torch.from_numpy(samples)


def _mp3_level(rate: int) -> float:
    """The compression level of `MP3` kbit/s: libsndfile goes evenly from the highest rate of bits to the lowest."""
    low, high = (32, 320) if rate >= 32_000 else (8, 160) if rate >= 16_000 else (8, 64)
    return (high - MP3) / (high - low)


def _opus_level() -> float:
    """The compression level of `OPUS` kbit/s: libsndfile goes evenly from 256 to 6."""
    return (256 - OPUS) / (256 - 6)

"""Audio files: read, checked, averaged over channels, trimmed, resampled. Never through torchaudio's own loaders."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from sertk.core import InputError, Utterance
from sertk.core.files import read_jsonl
from sertk.settings.schema import AudioSettings

Samples = npt.NDArray[np.float32]

OVERSHOOT = 0.5
"""Seconds by which a cut may end behind its file, as Kaldi's extract-segments allows."""


class Facts(NamedTuple):
    """What `prepare` writes down of an utterance's audio, in `audio.jsonl`.

    Attributes:
        id: Of the utterance.
        sha256: Of its decoded samples, so that a renamed or re-encoded copy is found.
        seconds: Its duration.
        rate: Of the file, Hz.
        channels: Of the file.
        size: Of the file, bytes.
        mtime: Of the file, ns; with `size` it tells whether the file changed.
        path: Of the file, relative to the corpus root.
        start: Of the cut in the file, s.
        asked: Duration of the cut, s; None to the end of the file.
    """

    id: str
    sha256: str
    seconds: float
    rate: int
    channels: int
    size: int
    mtime: int
    path: str
    start: float
    asked: float | None


def read_facts(path: Path) -> dict[str, Facts]:
    """What an earlier `prepare` wrote down, by utterance id; lines of another version of sertk are left out."""
    lines = (line for _, line in read_jsonl(path, "Run `sertk prepare`."))
    return {x["id"]: Facts(**{f: x[f] for f in Facts._fields}) for x in lines if x.keys() >= set(Facts._fields)}


def decode(path: Path, who: str, start: float = 0.0, duration: float | None = None) -> tuple[Samples, int]:
    """Reads (S, channels) float32 samples and the rate.

    Args:
        path: The file, any format that libsndfile reads.
        who: The utterance, for errors.
        start: Seconds to skip.
        duration: Seconds to read; to the end when None.

    Raises:
        InputError: On a file that is missing, empty, not audio, without samples, or with samples that are no numbers.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            if start:
                file.seek(min(round(start * rate), file.frames))
            frames = -1 if duration is None else round(duration * rate)
            samples: Samples = file.read(frames, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise InputError(f"{who}: {_why(path, error)}") from None
    if not len(samples):
        raise InputError(f"{who}: {path} holds no samples. Remove it or obtain it again.")
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).any(1).argmax())
        raise InputError(f"{who}: {path} has samples that are no numbers (first at {bad}). Encode it again.")
    return samples, rate


def _why(path: Path, error: Exception) -> str:
    if not path.exists():
        return f"{path} is missing. Check the path and --root."
    if not path.stat().st_size:
        return f"{path} is an empty file (0 bytes). Obtain it again."
    return f"{path} is not audio that libsndfile reads, such as WAV or FLAC ({error}). Convert it, or remove it."


def read(path: Path, who: str, settings: AudioSettings, start: float = 0.0, duration: float | None = None) -> Tensor:
    """Reads (S,) samples at the run's rate.

    Args:
        path: The file.
        who: The utterance, for errors.
        settings: Of the run.
        start: Seconds to skip.
        duration: Seconds to read; to the end when None.

    Raises:
        InputError: See `decode`; also on audio shorter than `min_seconds`.
    """
    return wave_of(*decode(path, who, start, duration), who, settings)


def wave_of(samples: Samples, rate: int, who: str, settings: AudioSettings) -> Tensor:
    """(S, channels) decoded samples -> (S,) samples at the run's rate.

    Args:
        samples: As `decode` gives them.
        rate: Theirs, Hz.
        who: The utterance, for errors.
        settings: See `read`.

    Raises:
        InputError: On audio shorter than `min_seconds`.
    """
    check_length(len(samples) / rate, who, settings.min_seconds)
    mono = samples.mean(1) if samples.shape[1] > 1 else samples[:, 0]
    if settings.trim_db is not None:
        mono = trim(mono, settings.trim_db)
    wave = torch.from_numpy(np.ascontiguousarray(mono))
    if rate == settings.rate:
        return wave
    import torchaudio  # late: two seconds that a run at the files' own rate need not pay

    resampled: Tensor = torchaudio.functional.resample(wave, rate, settings.rate)
    return resampled


def check_length(seconds: float, who: str, least: float) -> None:
    """Refuses audio that is too short to carry an emotion.

    Raises:
        InputError: Where it is shorter than `least` seconds.
    """
    if seconds < least:
        raise InputError(
            f"{who}: {seconds:.3f} s of audio, less than audio.min_seconds ({least} s). "
            "Remove the utterance, or lower the setting."
        )


def trim(wave: Samples, top_db: float, frame: int = 2048, hop: int = 512) -> Samples:
    """Cuts leading and trailing frames whose power is `top_db` below the loudest, as librosa.effects.trim does.

    Args:
        wave: (S,) samples.
        top_db: dB.
        frame: Samples of a frame, centred on multiples of `hop`.
        hop: Samples between frames.
    """
    padded = np.pad(wave.astype(np.float64), frame // 2)
    power = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop]
    power = np.square(power).mean(1)
    level = 10 * np.log10(np.maximum(power, 1e-10) / max(power.max(), 1e-10))
    loud = np.flatnonzero((level > -top_db) | (power == power.max()))
    return wave[loud[0] * hop : min(len(wave), (loud[-1] + 1) * hop)]


def examine(root: Path, utterance: Utterance, least: float) -> Facts:
    """Reads an utterance once and writes down what must not change afterwards.

    Raises:
        InputError: See `read`; also on a cut that ends behind the file.
    """
    path = root / utterance.path
    samples, rate = decode(path, utterance.id, utterance.start, utterance.duration)
    check_length(len(samples) / rate, utterance.id, least)
    lacking = (utterance.duration or 0.0) - len(samples) / rate
    if lacking > OVERSHOOT:
        raise InputError(
            f"{utterance.id}: its cut of {path} ends {lacking:.2f} s behind the end of the file. "
            "Mend its start and duration."
        )
    stat = path.stat()
    # equal samples at another rate, or dealt to other channels, are another sound
    form = f"{rate} Hz, {samples.shape[1]} channels\n".encode()
    sha = hashlib.sha256(form)
    sha.update(np.ascontiguousarray(samples).data)  # as it lies there, uncopied
    cut = (utterance.path, utterance.start, utterance.duration)
    return Facts(
        utterance.id, sha.hexdigest(), len(samples) / rate, rate, samples.shape[1], stat.st_size, stat.st_mtime_ns, *cut
    )


def check_unchanged(root: Path, utterance: Utterance, facts: Facts) -> None:
    """Makes sure that the file is the one that was prepared.

    Raises:
        InputError: Where it is missing or has another size or time.
    """
    path = root / utterance.path
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{utterance.id}: {_why(path, error)}") from None
    if (stat.st_size, stat.st_mtime_ns) != (facts.size, facts.mtime):
        raise InputError(f"{utterance.id}: {path} changed since it was prepared. Run `sertk prepare` again.")

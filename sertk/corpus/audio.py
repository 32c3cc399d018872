"""Audio files: read, checked, averaged over channels, trimmed, resampled. Never through torchaudio's own loaders."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, get_type_hints

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import torch
from torch import Tensor

from sertk.core import InputError, Utterance
from sertk.core.files import SCHEMA, Record, read_jsonl
from sertk.core.forms import Form
from sertk.core.walk import FFMPEG
from sertk.corpus import joined
from sertk.corpus.ffmpeg import decoded
from sertk.settings.schema import AudioSettings

Samples = npt.NDArray[np.float32]

OVERSHOOT = 0.5
"""Seconds by which a cut may end behind its file, as Kaldi's extract-segments allows."""
LACKING = 0.01
"""Seconds that a file may be shorter than its header states: a header that was rounded, and no broken download."""
PEAK = 10.0
"""The largest sample that is taken for sound, 20 dB above full scale; more are integers as floats, or damage."""
MOST = 2**29
"""Samples of all channels that are read at once: 2 GB, 9 hours of 16 kHz in one channel."""
LONGEST = 24 * 3600.0
"""Seconds that are read in blocks: a day."""
DECODED = 2**35
"""Bytes that ffmpeg may write: a day of two channels of floats at 48 kHz."""
BLOCK = 10
"""Seconds of a block."""
CHUNK = 2**16
"""Bytes of a stream that are read at most before they are looked at."""
QUALITY = "VHQ"
"""Of soxr."""
RATES = (1_000, 1_000_000)
"""Sampling rates that are believed, Hz."""
CUT_SHORT = re.compile(r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""How libsndfile's log says of WAV, AIFF, AU and W64 that fewer bytes are there than are stated."""
COUNTED = {
    "RF64": re.compile(r"^ *Frames *: (\d+)", re.MULTILINE),
    "NIST": re.compile(r"^sample_count -i (\d+)", re.MULTILINE),
}
"""How many frames a header states, in libsndfile's log (RF64) or in the header itself (NIST)."""
STREAMED = 0x7F000000
"""The least of the sizes that sox, ffmpeg and others write into a header when they cannot know the true one."""
UNKNOWN = 2**63 - 1
"""Frames that libsndfile says of a FLAC whose header does not state them, for it was written to a pipe."""
HEADER = 4096
"""Bytes that a file may have and no samples; larger ones have a header that does not state their samples."""
MALFORMED = 3
"""libsndfile's number for a file of a known format that it cannot make sense of."""
LISTS = (".txt", ".lst", ".list")
"""Suffixes of texts that list files, given in the place of what they list."""
COUNTING = 2**20
"""Frames that are read at once where they are only counted."""


class Facts(NamedTuple):
    """What `prepare` writes down of an utterance's audio, in `audio.jsonl`.

    Attributes:
        id: Of the utterance.
        sha256: Of its decoded samples, so that a renamed or re-encoded copy is found; of silence with the id, for two
            silences are no copies.
        seconds: Its duration.
        rate: Of the file, Hz.
        channels: Of the file.
        size: Of the file, bytes.
        mtime: Of the file, ns; where it and `size` are the same, the file is not read to know whether it changed.
        path: Of the file, relative to the corpus root.
        start: Of the cut in the file, s.
        asked: Duration of the cut, s; None to the end of the file.
        silent: Whether its channels average to digital silence; None in files of an older sertk, which did not look.
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
    silent: bool | None = None


def to_json(facts: Facts) -> Record:
    """The line of `audio.jsonl`."""
    return {"schema": SCHEMA, **facts._asdict()}


def read_facts(path: Path, mend: str = "Run `sertk prepare`.") -> dict[str, Facts]:
    """What an earlier `prepare` wrote down, by utterance id."""
    return {one.id: one for one in each_facts(path, mend)}


def each_facts(path: Path, mend: str) -> Iterator[Facts]:
    """What `read_facts` gives, one at a time; lines of another version of sertk are left out."""
    needed = set(Facts._fields) - set(Facts._field_defaults)
    for _, line in read_jsonl(path, mend, Form({}, get_type_hints(Facts))):
        if line.keys() >= needed:
            yield Facts(**{name: line[name] for name in Facts._fields if name in line})


class Sound(soundfile.SoundFile):  # type: ignore[misc] # soundfile has no types
    """An audio file whose length is known: where its header does not state it, frames are counted.

    Args:
        name: Of the file; or a descriptor, which stays open.
    """

    def __init__(self, name: bytes | int) -> None:
        super().__init__(name, closefd=False)
        self._counted: int | None = None
        if super().frames == UNKNOWN:
            self._counted = 0
            most = LONGEST * self.samplerate
            while self._counted <= most and (block := self.read(COUNTING, "int16", always_2d=True)).size:
                self._counted += len(block)
            self.close()
            super().__init__(name, closefd=False)

    @property
    def frames(self) -> int:
        """Of the file, in each channel."""
        return int(super().frames if self._counted is None else self._counted)

    def seekable(self) -> bool:
        """Whether another place can be gone to: not where the length is not stated."""
        return self._counted is None and bool(super().seekable())


def decode(
    path: Path, who: str, start: float = 0.0, duration: float | None = None, *, ffmpeg: bool = False
) -> tuple[Samples, int]:
    """Reads (S, channels) float32 samples and the rate.

    Args:
        path: The file, any format that libsndfile reads.
        who: The utterance, for errors.
        start: Seconds to skip.
        duration: Seconds to read; to the end when None.
        ffmpeg: Whether ffmpeg is run for what libsndfile does not read, see `FFMPEG`.

    Raises:
        InputError: On a file that is missing, empty, cut short, not audio, without samples, or too long; on a cut that
            ends behind the file; and on samples that are no numbers or absurdly large.
    """
    with _opened(path, who, ffmpeg=ffmpeg) as file:
        return _decoded(file, path, who, start, duration), file.samplerate


def decode_up_to(
    seconds: float, path: Path, who: str, start: float = 0.0, duration: float | None = None, *, ffmpeg: bool = False
) -> tuple[Samples | None, int, int]:
    """(S, channels) float32 samples, their rate and their number; no samples where they would take longer.

    Args:
        seconds: What is read at most.
        path: See `decode`.
        who: Likewise.
        start: Likewise.
        duration: Likewise.
        ffmpeg: Likewise.

    Raises:
        InputError: See `decode`.
    """
    with _opened(path, who, ffmpeg=ffmpeg) as file:
        _check_header(file, 0, path)
        stated = _cut(file, start, duration)[1]
        if stated > seconds * file.samplerate:
            return None, file.samplerate, stated
        samples = _decoded(file, path, who, start, duration)
        return samples, file.samplerate, len(samples)


def _decoded(file: Sound, path: Path, who: str, start: float, duration: float | None) -> Samples:
    first, frames = _cut(file, start, duration)
    _check_header(file, frames, path)
    samples = _samples(file, first, frames)
    _check_whole(file, first + len(samples), start, duration, path)
    _check_samples(samples, who, path)
    return samples


def form(path: Path, who: str, *, ffmpeg: bool = False) -> tuple[int, int]:
    """The rate of a file and its frames, as its header states them; see `decode`."""
    with _opened(path, who, ffmpeg=ffmpeg) as file:
        _check_header(file, 0, path)
        return file.samplerate, file.frames


def blocks(
    path: Path,
    who: str,
    start: float = 0.0,
    duration: float | None = None,
    frames: int | None = None,
    *,
    ffmpeg: bool = False,
) -> Iterator[tuple[Samples, int]]:
    """(S,) samples of a file of any length and their rate, a block at a time, averaged over channels.

    Args:
        path: See `decode`.
        who: Likewise.
        start: Likewise.
        duration: Likewise.
        frames: Samples of a block; 10 s when None.
        ffmpeg: See `decode`.

    Raises:
        InputError: See `decode`.
    """
    with _opened(path, who, ffmpeg=ffmpeg) as file:
        first, left = _cut(file, start, duration)
        begin = end = first
        size = frames or BLOCK * file.samplerate
        _check_header(file, 0, path)
        if left / file.samplerate > LONGEST:
            raise InputError(
                f"{path} states {left / file.samplerate / 3600:.4g} hours, and {LONGEST / 3600:g} hours are read. "
                "Cut it, or, if it is shorter, write it again: its header is wrong."
            )
        while left > 0:
            samples = _samples(file, first, min(size, left))
            first, left = 0, left - len(samples) if len(samples) else 0  # it is read on; at its end no more
            end += len(samples)
            if len(samples):
                _check_samples(samples, who, path)
                yield _mono(samples), file.samplerate
        _check_whole(file, end, start, duration, path)
        if end == begin:
            _check_samples(np.zeros((0, 1), np.float32), who, path)


def pcm(read: Callable[[int], bytes], rate: int) -> Iterator[tuple[Samples, int]]:
    """(S,) samples of raw signed 16-bit little-endian audio of one channel and their rate, as they come.

    Args:
        read: Gives at most so many bytes, those that are there by now; none at the end.
        rate: Hz.
    """
    odd = b""
    while data := read(CHUNK):
        data = odd + data
        even = len(data) // 2 * 2
        odd = data[even:]
        yield np.frombuffer(data[:even], "<i2").astype(np.float32) / np.float32(2**15), rate


def resampled(found: Iterable[tuple[Samples, int]], rate: int) -> Iterator[Samples]:
    """Blocks of (S,) samples with their rate -> blocks at another rate, as if they were resampled in one piece."""
    stream = None
    for samples, own in found:
        if own == rate:
            yield samples
            continue
        stream = stream or soxr.ResampleStream(own, rate, 1, dtype="float32", quality=QUALITY)
        yield stream.resample_chunk(samples)
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


@contextlib.contextmanager
def _opened(path: Path, who: str, *, ffmpeg: bool) -> Iterator[Sound]:
    """A file, or what ffmpeg makes of it; whatever fails in it, or while it is read, is an error of this file."""
    try:
        name = _openable(path)
        if ffmpeg and path.suffix.lower() in FFMPEG:
            with decoded(path, DECODED) as wav, Sound(wav.fileno()) as file:
                yield file
        else:
            with Sound(name) as file:
                yield file
    except InputError as error:
        raise InputError(_told(str(error), who)) from None
    except Exception as error:  # whatever a decoder raises, MemoryError too, is about this file
        raise InputError(_told(_why(path, error), who)) from None


def _told(why: str, who: str) -> str:
    """Why an utterance cannot be used, with its id in front once: the id of a file that is scored is its path."""
    return why if why.startswith((f"{who}: ", f"{who} ")) else f"{who}: {why}"


def _cut(file: Sound, start: float, duration: float | None) -> tuple[int, int]:
    """The first frame of a cut, and how many there are."""
    if not (0 <= start < math.inf and (duration is None or 0 < duration < math.inf)):
        raise InputError(f"start {start} and duration {duration} are no seconds of a cut. Correct them.")
    first = min(round(start * file.samplerate), file.frames)
    rest = file.frames - first
    return first, rest if duration is None else min(round(duration * file.samplerate), rest)


def _openable(path: Path) -> bytes:
    """The name of a file for libsndfile.

    Raises:
        InputError: Where it is not UTF-8, as all that is written about it will be; or no regular file.
    """
    name = os.fsencode(path)
    try:
        name.decode()
    except UnicodeDecodeError:
        raise InputError(f"{str(path)!a} is a name that is not UTF-8. Rename the file.") from None
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device would be waited for
        raise InputError(f"{path} is a folder, a pipe or a device. Give a file in its place, or remove it.")
    return name


def _check_header(file: Sound, frames: int, path: Path) -> None:
    """Refuses what a header claims and nobody recorded, before memory is asked for it."""
    rate = file.samplerate
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(
            f"{path} states a rate of {rate} Hz; {RATES[0]} to {RATES[1]} Hz are read. Correct its header."
        )
    size = path.stat().st_size
    if not file.frames and size > HEADER:
        raise InputError(
            f"{path} states that it has no samples, and is {size} bytes long: it is cut short, or was written to "
            "a pipe. Obtain it again, or write a WAV again: sox --ignore-length IN.wav OUT.wav."
        )
    if frames * file.channels > MOST:
        raise InputError(
            f"{path} states {frames / rate / 3600:.4g} hours of {file.channels} channels, and {MOST} samples are read "
            "at once. Cut it, give start and duration, or, if it is shorter, write it again: its header is wrong."
        )


def _samples(file: Sound, first: int, frames: int) -> Samples:
    """(S, channels) samples from a place on."""
    ahead = 0 if file.seekable() else first  # GSM in WAV, and FLAC from a pipe, are read from their starts
    if first and not ahead:
        file.seek(first)
    samples: Samples = file.read(ahead + frames, dtype="float32", always_2d=True)
    return samples[ahead:]


def _check_whole(file: Sound, end: int, start: float, duration: float | None, path: Path) -> None:
    """Refuses a file that was cut short where more would be read, and a cut that ends behind the file.

    Args:
        file: It, read.
        end: Frames up to the end of what was read.
        start: Of what was asked for, s.
        duration: Likewise; None to the end.
        path: The file.
    """
    stated, real = _stated(file, path) / file.samplerate, end / file.samplerate
    wanted = stated if duration is None else min(stated, start + duration)
    if duration is None or start + duration > file.frames / file.samplerate:
        _check_rest(file, path)
    if wanted - real > LACKING and (file.format != "MP3" or joined.stated_frames(path) is not None):
        raise InputError(
            f"{path} is cut short: its header states {stated:.2f} s, and {real:.2f} s are there. Obtain it again."
        )
    lacking = start + (duration or 0.0) - real
    if lacking > OVERSHOOT:
        raise InputError(
            f"its cut of {path} ends {lacking:.2f} s behind the end of the file. Correct its start and duration."
        )


def _stated(file: Sound, path: Path) -> float:
    """How many frames the header states; at least those that are there."""
    log = file.extra_info
    if file.format in COUNTED:
        with path.open("rb") as raw:
            counted = COUNTED[file.format].search(log if file.format == "RF64" else raw.read(1024).decode("latin-1"))
        return max(file.frames, int(counted[1]) if counted else 0)
    found = CUT_SHORT.search(log)
    if not found or int(found[1]) >= STREAMED:
        return file.frames
    return file.frames * int(found[1]) / max(1, int(found[2]))


def _check_rest(file: Sound, path: Path) -> None:
    """Refuses a file that goes on behind the end that libsndfile knows: it stops there, and says nothing."""
    known = file.frames / file.samplerate
    if file.format == "MP3":
        count, seconds = joined.mp3_frames(path)
        stated = joined.stated_frames(path)
        lacking = seconds - known if stated is None else (count - 1 - stated) * seconds / max(1, count)
        if lacking > 2 * seconds / max(1, count):  # some encoders count the frame that says how many there are
            raise InputError(
                f"{path} has {seconds:.2f} s, and libsndfile reads {known:.2f} s of it: it was joined of several, or "
                "does not say how long it is. Write it again: ffmpeg -i IN.mp3 -c copy OUT.mp3."
            )
    elif file.format == "OGG" and (streams := joined.ogg_streams(path)) > 1:
        raise InputError(
            f"{path} was joined of {streams} recordings, and libsndfile reads the first one, {known:.2f} s. "
            "Write it again: ffmpeg -i IN OUT.wav."
        )


def _check_samples(samples: Samples, who: str, path: Path) -> None:
    if not len(samples):
        raise InputError(f"{who}: {path} holds no samples. Remove it or obtain it again.")
    fine = np.abs(samples) <= PEAK  # False for what is no number too
    if fine.all():
        return
    bad = int((~fine).any(1).argmax())
    worst = samples[bad][~fine[bad]][0]
    if not np.isfinite(worst):
        raise InputError(f"{who}: {path} has samples that are no numbers (first at {bad}). Encode it again.")
    raise InputError(
        f"{who}: {path} has samples far above full scale, which is 1 (first {worst:g} at {bad}; {PEAK:g} is allowed): "
        "integers that were written as floats, or damage. Write it again as 16-bit PCM, or divide it by 32768."
    )


def _why(path: Path, error: Exception) -> str:
    """Why a file cannot be read, as a sentence with the next step."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return f"{path} is missing. Check the path and --root."
    except (OSError, ValueError) as found:
        return f"{path} cannot be looked at ({found}). Check the path, and the rights of its folders."
    if not os.access(path, os.R_OK):
        return f"{path} cannot be read: you have no right to. Change its rights: chmod +r FILE."
    if not size:
        return f"{path} is an empty file (0 bytes). Obtain it again."
    if isinstance(error, MemoryError):
        return f"{path} does not fit into memory ({error}). Cut it, or give start and duration."
    return _unread(path, error)


def _unread(path: Path, error: Exception) -> str:
    """What is wrong with a file that libsndfile does not read, as a sentence with the next step."""
    if isinstance(error, soundfile.LibsndfileError) and (not error.prefix or error.code == MALFORMED):
        return f"{path} is damaged or cut short: its format is known, and its samples cannot be read. Obtain it again."
    if path.suffix.lower() in LISTS:
        return (
            f"{path} is a text by its name, and no audio. To score the files that it lists, a path a line: "
            f"`sertk score MODEL - < {path}`. A list of ID and PATH is given as FILE.scp."
        )
    how = "ffmpeg -i IN OUT.wav"
    if path.suffix.lower() in (".raw", ".pcm"):
        how = "it has no header that says its rate: sox -r RATE -e signed -b 16 -c 1 IN.raw OUT.wav"
    elif path.suffix.lower() in FFMPEG:
        how += ", or have ffmpeg run for such files: --ffmpeg, or audio.ffmpeg: true in a recipe"
    said = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)  # without the path again
    why = said.strip(". ")
    return f"{path} is not audio that libsndfile reads, such as WAV, FLAC or MP3 ({why}). Convert it ({how})."


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
    return wave_of(*decode(path, who, start, duration, ffmpeg=settings.ffmpeg), who, settings)


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
    mono = _mono(samples)
    if settings.trim_db is not None:
        mono = trim(mono, settings.trim_db)
    if rate != settings.rate:
        mono = soxr.resample(mono, rate, settings.rate, quality=QUALITY)
    return torch.from_numpy(np.ascontiguousarray(mono))


def _mono(samples: Samples) -> Samples:
    mono: Samples = samples.mean(1) if samples.shape[1] > 1 else samples[:, 0]
    return mono


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


def examine(root: Path, utterance: Utterance, least: float, *, ffmpeg: bool = False) -> Facts:
    """Reads an utterance once and writes down what must not change afterwards.

    Args:
        root: Its path is relative to it.
        utterance: It.
        least: Seconds that it has at least.
        ffmpeg: See `decode`.

    Raises:
        InputError: See `read`.
    """
    path = root / utterance.path
    samples, rate = decode(path, utterance.id, utterance.start, utterance.duration, ffmpeg=ffmpeg)
    check_length(len(samples) / rate, utterance.id, least)
    file = path.stat()
    # equal samples at another rate, or dealt to other channels, are another sound
    sha = hashlib.sha256(f"{rate} Hz, {samples.shape[1]} channels\n".encode())
    sha.update(np.ascontiguousarray(samples).data)  # as it lies there, uncopied
    cut = (utterance.path, utterance.start, utterance.duration)
    silent = _silent(samples)
    if silent:
        sha.update(utterance.id.encode())
    form = (len(samples) / rate, rate, samples.shape[1])
    return Facts(utterance.id, sha.hexdigest(), *form, file.st_size, file.st_mtime_ns, *cut, silent)


def _silent(samples: Samples) -> bool:
    """Whether (S, channels) samples average to less than half a step of 16 bits; opposite channels cancel."""
    return bool(np.abs(_mono(samples)).max() < 2.0**-16)


def look(path: Path, who: str) -> tuple[int, int]:
    """Bytes of a file and its time in ns, which tell whether it has to be read to know if it changed.

    Raises:
        InputError: Where it is missing.
    """
    try:
        now = path.stat()
    except (OSError, ValueError) as error:  # a root with a NUL
        raise InputError(f"{who}: {_why(path, error)}") from None
    return now.st_size, now.st_mtime_ns


def check_unchanged(root: Path, utterance: Utterance, facts: Facts) -> bool:
    """Makes sure that the file is the one that was prepared; says whether it was read, for its time alone is another.

    Raises:
        InputError: Where it is missing, cannot be read, or has another size or other samples.
    """
    path, cut = root / utterance.path, replace(utterance, start=facts.start, duration=facts.asked)
    size, mtime = look(path, utterance.id)
    same, other = size == facts.size, mtime != facts.mtime
    if same and other:  # as of a copy
        same = examine(root, cut, 0.0, ffmpeg=True).sha256 == facts.sha256
    if not same:
        raise InputError(f"{utterance.id}: {path} changed since it was prepared. Run `sertk prepare` again.")
    return other

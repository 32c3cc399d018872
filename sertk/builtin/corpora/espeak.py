"""Writes the embedded "mini" corpus: emotions acted by the eSpeak NG synthesiser, for tests and first steps."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from sertk.core import SertkError


class _Speaker(NamedTuple):
    voice: str  # an eSpeak language, "+", a voice variant
    gender: str
    rate: float  # words per minute, when neutral
    pitch: float  # 0 to 99 in steps of 1/50 octave, when neutral


class _Style(NamedTuple):
    """How an emotion is spoken: mean and standard deviation of each parameter."""

    rate: tuple[float, float]  # words per minute, added to the speaker's own
    pitch: tuple[float, float]  # steps of 1/50 octave, added to the speaker's own
    span: tuple[float, float]  # pitch range, 0 to 99
    volume: tuple[float, float]  # percent of eSpeak's normal volume


_VOICES: Final[Mapping[str, _Speaker]] = {
    "f1": _Speaker("en-us+f1", "female", 172, 46),
    "f2": _Speaker("en+f2", "female", 184, 50),
    "f3": _Speaker("en-gb-scotland+f3", "female", 178, 44),
    "f4": _Speaker("en-us-nyc+f4", "female", 190, 54),
    "m1": _Speaker("en-us+m1", "male", 170, 48),
    "m2": _Speaker("en-gb-x-rp+m2", "male", 180, 52),
    "m3": _Speaker("en-gb-scotland+m3", "male", 188, 45),
    "m4": _Speaker("en-us-nyc+m7", "male", 176, 55),
}
# The spreads overlap on purpose: a corpus on which every system scores 100 % cannot rank systems.
_STYLES: Final[Mapping[str, _Style]] = {
    "anger": _Style((44, 15), (10, 7), (58, 11), (76, 7)),
    "happiness": _Style((14, 15), (34, 7), (92, 10), (57, 7)),
    "neutral": _Style((0, 14), (0, 7), (44, 11), (40, 6)),
    "sadness": _Style((-32, 14), (-14, 7), (12, 9), (25, 6)),
}
SENTENCES: Final = (
    "The bus stops near the library.",
    "She left the letter on the table.",
    "The meeting starts at ten.",
    "There are two chairs in the hall.",
    "They walk to the market on Monday.",
    "The blue box is next to the door.",
)
SPEAKERS: Final[Mapping[str, str]] = {name: speaker.gender for name, speaker in _VOICES.items()}
EMOTIONS: Final = tuple(_STYLES)
TAKES: Final = 2
SAMPLE_RATE: Final = 16_000  # Hz
SEED: Final = 1

# Number, least and most, after eSpeak NG's speak_lib.h. From a volume of 90 its loudest voice clips.
_LIMITS: Final = {"rate": (1, 80, 450), "volume": (2, 10, 85), "pitch": (3, 0, 99), "span": (4, 0, 99)}
_SYNCHRONOUS, _DONT_EXIT, _POS_CHARACTER, _CHARS_UTF8 = 2, 0x8000, 1, 1
_NATIVE_RATE: Final = 22_050  # Hz
_LONGEST_PATH: Final = 150  # bytes; eSpeak NG 1.52 cuts its data path off in a buffer of 160
_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_REINSTALL: Final = 'Reinstall it: pip install --force-reinstall "espeakng-loader>=0.2.4".'
_README: Final = """The mini corpus of sertk. SYNTHETIC: no person speaks here, and no result on it is about people.
Written by sertk.builtin.corpora.espeak with eSpeak NG {version}, seed {seed}. {rate} Hz, mono, 16 bits.
"""


def synthesise(folder: Path, *, progress: Callable[[int, int], None] = lambda *_: None) -> None:
    """Writes the mini corpus into `folder`; does nothing where it is complete.

    An utterance's parameters depend on `SEED` and its id only, and the same versions of eSpeak NG and libsndfile write
    the same bytes at every call. All files appear at once: a stopped run leaves no `folder`.

    Args:
        folder: Absent or empty; gets `<speaker>/<speaker>_<emotion>_<sentence>_<take>.flac` and `README.txt`.
        progress: Called after each utterance with the number done and the number in all.

    Raises:
        SertkError: Where eSpeak NG is missing or fails, or `folder` holds something else or cannot be written.
    """
    if _is_complete(folder):
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SertkError(f"{folder} exists and is not a complete mini corpus. Delete it or name a new folder.")
    # beside the target, so that the rename stays on one file system; random, so that no two jobs share it
    unfinished = folder.absolute().with_name(f".{folder.absolute().name}.{secrets.token_hex(4)}")
    try:
        _write(unfinished, progress)
        if folder.exists():
            folder.rmdir()  # Windows does not rename onto an empty folder
        unfinished.rename(folder)
    except (OSError, soundfile.LibsndfileError) as error:
        if not _is_complete(folder):  # complete: another job was faster, with the same bytes
            raise SertkError(f"Cannot write the mini corpus to {folder}: {error}. Name a writable folder.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _files() -> dict[Path, tuple[str, str, str]]:
    """The relative path of every utterance, with its speaker, emotion and sentence."""
    return {
        Path(speaker) / f"{speaker}_{emotion}_{number:02d}_{take}.flac": (speaker, emotion, sentence)
        for speaker in SPEAKERS
        for emotion in EMOTIONS
        for number, sentence in enumerate(SENTENCES, start=1)
        for take in range(1, TAKES + 1)
    }


def _is_complete(folder: Path) -> bool:
    return all((folder / path).is_file() for path in (*_files(), Path("README.txt")))


def _write(folder: Path, progress: Callable[[int, int], None]) -> None:
    files = _files()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,  # Windows keeps a loaded library locked
        contextlib.closing(_Engine(Path(scratch))) as engine,
    ):
        for done, (path, (speaker, emotion, sentence)) in enumerate(files.items(), start=1):
            wave = engine.say(_VOICES[speaker].voice, sentence, _parameters(path.stem, speaker, emotion))
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / path, _resample(wave), SAMPLE_RATE, subtype="PCM_16")
            progress(done, len(files))
    readme = _README.format(version=engine.version, seed=SEED, rate=SAMPLE_RATE)
    (folder / "README.txt").write_text(readme, encoding="utf-8")


def _parameters(utterance: str, speaker: str, emotion: str) -> dict[int, int]:
    """Draws an utterance's eSpeak parameters, number to value, from its emotion's spreads."""
    draw = random.Random(f"{SEED}:{utterance}")
    own = {"rate": _VOICES[speaker].rate, "pitch": _VOICES[speaker].pitch}
    values = {name: own.get(name, 0) + draw.gauss(*spread) for name, spread in _STYLES[emotion]._asdict().items()}
    return {number: round(min(max(values[name], low), high)) for name, (number, low, high) in _LIMITS.items()}


def _resample(wave: NDArray[np.int16]) -> NDArray[np.int16]:
    """The samples (S,) at `SAMPLE_RATE`."""
    from scipy.signal import resample_poly  # late: it costs half a second that no other corpus should pay

    # in float64, whose rounding errors vanish in 16 bits; not in torch, whose threads wait long where cores are busy
    samples: NDArray[np.float64] = resample_poly(wave.astype(np.float64), SAMPLE_RATE // 50, _NATIVE_RATE // 50)
    rounded: NDArray[np.int16] = np.rint(samples).clip(-32768, 32767).astype(np.int16)
    return rounded


class _Engine:
    """A private instance of eSpeak NG.

    The library keeps state (pitch flutter, gain, voice) in static variables that `espeak_Terminate` does not reset. So
    each engine loads its own copy of the file: a second corpus in one process equals the first, and others who use
    eSpeak in this process are not disturbed.
    """

    def __init__(self, scratch: Path) -> None:
        """Starts the library from a copy in `scratch`, an empty folder that outlives the engine."""
        loader = _loader()
        self._data = Path(loader.get_data_path())
        copy = shutil.copy(loader.get_library_path(), scratch)
        try:
            self._library = ctypes.CDLL(str(copy))
        except OSError as error:
            allow = "If that folder forbids executables, set TMPDIR to one that allows them."
            raise SertkError(f"Cannot load eSpeak NG from {copy}: {error}. {allow} {_REINSTALL}") from error
        path = self._data
        if len(os.fsencode(path)) > _LONGEST_PATH:
            path = scratch / path.name
            path.symlink_to(self._data, target_is_directory=True)
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(path), _DONT_EXIT)
        if rate != _NATIVE_RATE:  # 0 where it does not find its data
            raise SertkError(f"eSpeak NG gave {rate} Hz, not {_NATIVE_RATE}, with its data in {path}. {_REINSTALL}")
        self._chunks: list[NDArray[np.int16]] = []
        self._callback = _CALLBACK(self._receive)  # kept, because the library holds only a bare pointer
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_Info.restype = ctypes.c_char_p
        self.version = self._library.espeak_Info(None).decode()

    def say(self, voice: str, text: str, parameters: Mapping[int, int]) -> NDArray[np.int16]:
        """Speaks `text`; returns its samples (S,) at 22,050 Hz."""
        variant = self._data / "voices" / "!v" / voice.partition("+")[2]
        if not variant.is_file():  # eSpeak would take the plain voice without a word
            raise SertkError(f"eSpeak NG has no voice variant {variant}. {_REINSTALL}")
        _check(self._library.espeak_SetVoiceByName(voice.encode()), f"choosing the voice {voice}")
        for number, value in parameters.items():
            _check(self._library.espeak_SetParameter(number, value, 0), f"setting parameter {number} to {value}")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(SEED))  # of the breath noise, seeded with the clock so far
        self._chunks.clear()
        content, zero = text.encode(), ctypes.c_uint(0)
        size = ctypes.c_size_t(len(content) + 1)
        status = self._library.espeak_Synth(content, size, zero, _POS_CHARACTER, zero, _CHARS_UTF8, None, None)
        _check(status, f"speaking {text!r}")
        if not any(chunk.any() for chunk in self._chunks):
            raise SertkError(f"eSpeak NG was silent for {text!r} with the voice {voice}. {_REINSTALL}")
        return np.concatenate(self._chunks)

    def close(self) -> None:
        """Ends the library's thread and frees its buffers."""
        _check(self._library.espeak_Terminate(), "ending")

    def _receive(self, wave: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
        if count > 0:  # 0 with a null pointer at the end
            self._chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())  # the library reuses its buffer
        return 0


def _check(status: int, action: str) -> None:
    if status != 0:
        raise SertkError(f"eSpeak NG returned {status:#x}, not 0, when {action}. {_REINSTALL}")


def _loader() -> ModuleType:
    """The module `espeakng_loader`, which knows where the library and its data are."""
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError as error:
        need = f"The mini corpus needs the package espeakng-loader, which cannot be imported ({error})."
        raise SertkError(f'{need} Install it: pip install "sertk[mini]"') from error

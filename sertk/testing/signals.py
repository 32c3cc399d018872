"""Contracts of features."""

from __future__ import annotations

import difflib
import io
import math
import pickletools
import zipfile
from collections.abc import Mapping
from functools import partial
from typing import Final

import torch
from torch import Tensor

from sertk.core import Feature, Padded, SertkError, Utterance, code_points
from sertk.testing.cases import (
    BrokenError,
    Check,
    Subject,
    alone,
    in_bundle,
    own_chance,
    real,
    require,
    require_close,
    require_finite,
    require_other,
    require_same,
    require_sizes,
    stretch,
)

RATE: Final = 16_000  # Hz
RATES: Final = (RATE, 8_000, 44_100)
SECONDS: Final = (0.5, 1.0, 0.1, 0.73337)
LEARNS: Final = ("fit", "files", "restore")  # a bundle has what a feature learns
FEW: Final = SECONDS[::2]  # where it does not matter how many rows there are
UTTERANCES: Final = [
    Utterance(
        f"u{i}", f"u{i}.wav", f"speaker{i % 2}", ("anger", "neutral")[i > 1], duration=s, text="one two" * (i + 1)
    )
    for i, s in enumerate(SECONDS[:3])
]


def waves(seconds: tuple[float, ...] = SECONDS, rate: int = RATE) -> Padded:
    """(B, S) waves of noise, a tenth of a second of digital silence in the longer ones."""
    rows = [0.1 * torch.randn(round(rate * s)) for s in seconds]
    for row in rows:
        row[rate // 10 : rate // 5] = 0.0
    return Padded.stack(rows)


def texts(seconds: tuple[float, ...] = SECONDS) -> Padded:
    """(B, S) code points of texts, of ten characters a second, one at least: those that `fit` saw, and others."""
    return Padded.stack([code_points("one two")[torch.randint(7, (round(10 * s),))] for s in seconds])


def _rows(feature: Feature, seconds: tuple[float, ...] = SECONDS, rate: int = RATE) -> Padded:
    """(B, S) what the feature reads."""
    return waves(seconds, rate) if feature.reads == "wave" else texts(seconds)


def _wave(rate: int, one: Utterance) -> Tensor:
    """(S,) of one of `UTTERANCES`, the same at every call."""
    rng = torch.Generator().manual_seed(UTTERANCES.index(one))
    return 0.1 * torch.randn(round(rate * (one.duration or 0.0)), generator=rng)


def _feature(subject: Subject, rate: int = RATE) -> Feature:
    """The feature, fitted."""
    made: Feature = subject.make(rate)
    made.fit(UTTERANCES, partial(_wave, rate))
    return made


@torch.no_grad()
def _frames(subject: Subject, feature: Feature, rows: Padded) -> Padded:
    """(B, T, D) of a feature, of the shape that it promises."""
    found = feature(rows)
    require(found.length.dtype == torch.int64, f"{subject.what}: lengths are {found.length.dtype}; they must be int64.")
    size = (len(rows.length), int(found.length.max()), feature.width)
    require(
        tuple(found.data.shape) == size,
        f"{subject.what} gives {tuple(found.data.shape)}; by its width and lengths it must be {size}.",
    )
    wanted = torch.int64 if feature.symbols else torch.float32
    require(found.data.dtype == wanted, f"{subject.what} gives {found.data.dtype}; it must be {wanted}.")
    require_finite(found.data, f"{subject.what}: its frames")
    if feature.symbols:
        least, most = int(found.data.min()), int(found.data.max())
        fine = least >= 0 and most < feature.symbols
        require(
            fine,
            f"{subject.what} gives numbers from {least} to {most}; its `symbols` allow 0 to {feature.symbols - 1}.",
        )
    return found


def _same_rows(subject: Subject, found: Padded, rows: Padded, feature: Feature, because: str) -> None:
    """Wants every row to be what it is alone."""
    for row in range(len(rows.length)):
        wanted = _frames(subject, feature, alone(rows, row))
        sizes = int(found.length[row]), int(wanted.length[0])
        require(sizes[0] == sizes[1], f"{subject.what}: {because} its {sizes[1]} frames to {sizes[0]}.")
        require_close(real(found, row), real(wanted, 0), f"{subject.what}: {because} its frames")


def companions(subject: Subject) -> None:
    """A batch gives what its rows give one by one."""
    feature = _feature(subject)
    rows = _rows(feature)
    _same_rows(subject, _frames(subject, feature, rows), rows, feature, "companions change")


def padding(subject: Subject) -> None:
    """What lies behind the end of a wave or a text does not matter."""
    feature = _feature(subject)
    rows = _rows(feature)
    # longer padding may well mean more frames of padding: only what is real is looked at
    found = feature(stretch(rows, RATE // 3))
    _same_rows(subject, Padded(found.data.detach(), found.length), rows, feature, "padding changes")


def length(subject: Subject) -> None:
    """At any rate that it takes there are as many frames as `frame_seconds` says, two more or fewer, at least one."""
    for rate in RATES:
        try:
            feature = _feature(subject, rate)
        except SertkError:
            if rate == RATE:
                raise
            continue  # it says that it is of other rates
        rows = _rows(feature, rate=rate)
        found = _frames(subject, feature, rows)
        least = int(found.length.min())
        require(
            least > 0,
            f"{subject.what} gives a {feature.reads} of {min(SECONDS)} s {least} frames; it must give at least one.",
        )
        if feature.reads == "text":  # it has no time
            return
        wanted: Tensor = rows.length / rate / feature.frame_seconds
        gap = float((found.length - wanted).abs().max())
        said = f"{subject.what} at {rate} Hz: with frame_seconds {feature.frame_seconds:g}"
        require(gap <= 2, f"{said} the number of frames is wrong by {gap:.1f}; it may be wrong by 2.")


def repeats(subject: Subject) -> None:
    """The same rows give the same frames twice, whatever comes between; the feature does not change its input."""
    feature = _feature(subject)
    rows, others = (_rows(feature, FEW) for _ in range(2))
    kept = rows.data.clone()
    with own_chance(subject):
        first = _frames(subject, feature, rows)
        require_same(rows.data, kept, f"{subject.what} changes the {feature.reads}s it is given")
        _frames(subject, feature, others)
        third = _frames(subject, feature, rows)
    require_same(third.data, first.data, f"{subject.what}: after others its frames differ")


def silence(subject: Subject) -> None:
    """Noise and silence differ (a text has neither); where all frames of silence are alike, they are `silence`."""
    feature = _feature(subject)
    if feature.reads == "text":
        return
    noise = 0.1 * torch.randn(1, RATE)
    quiet = real(_frames(subject, feature, Padded(torch.zeros(1, RATE), torch.tensor([RATE]))), 0)
    loud = real(_frames(subject, feature, Padded(noise, torch.tensor([RATE]))), 0)
    require_other(loud, quiet, f"{subject.what} gives the same for a wave of noise and for silence; they must differ.")
    said = torch.as_tensor(feature.silence, dtype=torch.float32)
    fine = said.shape in ((), (feature.width,))
    require(
        fine,
        f"{subject.what}: `silence` has the shape {tuple(said.shape)}; it must be a number, or ({feature.width},).",
    )
    # one frame for all, or frames that know their place: padding that is like silence cannot be had
    if math.isfinite(feature.frame_seconds) and float((quiet - quiet[:1]).abs().max()) == 0:
        size = quiet.abs().clamp(min=1)  # relative where values are large, as cepstra are
        require_close(said / size, quiet / size, f"{subject.what}: `silence` differs from its frames of silence")


def bundle(subject: Subject) -> None:
    """What `fit` learned comes back from a bundle with the same bits, and fitting again changes nothing."""
    feature = _feature(subject)
    rows = _rows(feature, FEW)
    wanted = _frames(subject, feature, rows)
    feature.fit(UTTERANCES, partial(_wave, RATE))  # as a run does that goes on
    again = _frames(subject, feature, rows)
    require_same(again.data, wanted.data, f"{subject.what}, fitted again on the same utterances, gives other frames")
    files = feature.files()
    for name, content in files.items():
        _check_file(subject, name, content)
    other: Feature = in_bundle(subject, feature).make(RATE)
    other.restore(files)
    found = _frames(subject, other, rows)
    require_same(
        found.data,
        wanted.data,
        f"{subject.what}, back from a bundle, gives other frames; `files` must return all that `fit` learned, and "
        "`restore` must set it again. They differ",
    )
    fine = feature.frame_seconds == other.frame_seconds and torch.equal(
        torch.as_tensor(feature.silence), torch.as_tensor(other.silence)
    )
    require(fine, f"{subject.what}, back from a bundle, has another `silence` or frame_seconds; they must be the same.")


def _check_file(subject: Subject, name: object, content: object) -> None:
    what = f"{subject.what}: its file {name!r}"
    fine = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\")
    require(fine, f"{what} lies in a folder or has no name; it must be one name, for a bundle has no folders for it.")
    if not isinstance(content, bytes):
        raise BrokenError(f"{what} is a {type(content).__name__}; it must be bytes.")
    require(not _is_pickle(content), f"{what} is a pickle, which can run code; write JSON or safetensors.")


def _is_pickle(content: bytes) -> bool:
    """Whether it is a pickle of a binary protocol, or an archive with one in it, as torch.save writes it."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        return any(name.endswith(".pkl") for name in zipfile.ZipFile(io.BytesIO(content)).namelist())
    try:
        return content[:1] == b"\x80" and bool([*pickletools.genops(content)])
    except ValueError:
        return False


def _check_methods(subject: Subject, kind: type[Feature]) -> None:
    """Says that one of the methods that go together is lacking or misspelt: it would never be called."""
    own = [name for name in LEARNS if getattr(kind, name) is not getattr(Feature, name)]
    for name in (one for one in dir(kind) if not hasattr(Feature, one)):
        near = difflib.get_close_matches(name, set(LEARNS) - set(own), n=1, cutoff=0.8)
        if near:
            raise BrokenError(
                f"{subject.what} has a method {name}, which is never called; did you mean {near[0]}? Rename it."
            )
    lacking = [name for name in ("files", "restore") if own and name not in own]
    require(not lacking, f"{subject.what} has {', '.join(own)} but lacks {', '.join(lacking)}; write all of them.")


def says(subject: Subject) -> None:
    """What it says of itself is well-formed, and a feature that is fitted has all three methods for it."""
    feature: Feature = subject.make(RATE)
    reads: object = feature.reads
    require(reads in ("wave", "text"), f"{subject.what} reads {reads!r}; it must be 'wave' or 'text'.")
    _check_methods(subject, type(feature))
    require_sizes(subject, feature)


FEATURE: Final[Mapping[str, Check]] = {
    "companions do not matter": companions,
    "padding does not matter": padding,
    "its length is right": length,
    "gives the same twice": repeats,
    "silence is what it says": silence,
    "a bundle brings it back": bundle,
    "reads, width, places and fit are stated right": says,
}

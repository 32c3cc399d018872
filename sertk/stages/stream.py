"""Audio as it comes, from standard input -> a line for each window as soon as it is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sertk.console.progress import say
from sertk.core import InputError, UsageError, Utterance
from sertk.core.files import Record, explain, json_bytes, sentence
from sertk.corpus import audio
from sertk.modeling import bundle
from sertk.modeling.ensemble import is_ensemble
from sertk.plugins import Plugins
from sertk.scoring.outputs import check_out
from sertk.scoring.over_time import Window, line_of
from sertk.scoring.scorer import Scorer, is_lost
from sertk.scoring.speakers import refuse_for
from sertk.scoring.windows import Cutting, are_loud
from sertk.training import distributed

NAME = "-"


def stream(
    model: Path,
    rate: int,
    out: Path | None,
    *,
    windows: str | None = None,
    skip_silence: float | None = None,
    device: str = "auto",
    files: Sequence[Path] = (),
) -> int:
    """Scores raw audio, 16-bit little-endian of one channel, until it ends or Ctrl-C is pressed.

    Args:
        model: The bundle.
        rate: Of the audio, Hz.
        out: Lines go there; None prints them.
        windows: "4s:2s"; None takes the model's own.
        skip_silence: Windows below this power have no line, dB relative to full scale.
        device: auto, cpu, cuda, cuda:N.
        files: Plugin files.

    Returns:
        Windows that could not be scored.

    Raises:
        UsageError: On a rate that nothing has, an ensemble, or a model that reads nothing but transcripts.
        InputError: Where nothing came, or nothing can come.
    """
    low, high = audio.RATES
    if not low <= rate <= high:
        raise UsageError(f"--stream {rate} is no rate; it is from {low} to {high} Hz, for example 16000.")
    if is_ensemble(model):
        raise UsageError(f"{model} is an ensemble, and a stream is scored by one bundle. Give one of {model}/members.")
    if out is not None:
        check_out(out, [*bundle.files(model), *files])
    cutting = Cutting.of(windows, skip_silence)
    scorer = Scorer(model, distributed.device(device), Plugins(files=files), cutting=cutting)
    if scorer.bundle.settings.by_speaker:
        refuse_for(model, {"--stream": rate})
    if scorer.text_alone:
        raise UsageError("this model reads transcripts alone, and a stream has none.")
    if sys.stdin is None:
        raise InputError("there is no standard input: it is closed. Send raw 16-bit samples of one channel.")
    length, hop = scorer.windows
    say(f"listening: windows of {length:g} s every {hop:g} s; Ctrl-C ends")
    scored = silent = failed = 0
    with _lines(out) as write:
        try:
            for window in _windows(scorer, rate, skip_silence):
                if isinstance(window, Window):
                    write(line_of(NAME, window, scorer.bundle.classes))
                    scored += 1
                elif window is None:
                    silent += 1
                else:
                    say(f"failed: {window}")
                    failed += 1
        except KeyboardInterrupt:  # as a microphone is switched off
            say("stopped")
    if not scored + silent + failed:
        raise InputError("standard input ended before there was audio. Send raw 16-bit samples of one channel.")
    say(f"{scored} windows scored, {silent} silent ones left out" + (f", {failed} failed" if failed else ""))
    return failed


def _windows(scorer: Scorer, rate: int, silence: float | None) -> Iterator[Window | str | None]:
    """The windows as they come; None for a silent one, and why one could not be scored."""
    one = Utterance(NAME, NAME, "unknown", None)
    read = sys.stdin.buffer.read1  # type: ignore[union-attr] # of any standard input that is no text
    blocks = audio.resampled(audio.pcm(read, rate), scorer.bundle.settings.audio.rate)
    for piece in scorer.cut(blocks, 1):
        if not are_loud(piece.samples, silence).all():
            yield None
            continue
        windows: list[Window] = []
        try:
            scorer.score_windows(one, piece, windows, [])
        except Exception as error:  # a microphone goes on
            if is_lost(error):
                raise
            yield sentence(error)
        yield from windows


@contextmanager
def _lines(out: Path | None) -> Iterator[Callable[[Record], None]]:
    """What writes a line at once; what is there already is overwritten."""
    if out is None:
        yield lambda line: _put(sys.stdout.buffer, line)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("wb") as file:
            yield lambda line: _put(file, line)
    except OSError as error:
        raise explain(error, out) from error


def _put(file: IO[bytes], line: Record) -> None:
    file.write(json_bytes(line, NAME))
    file.flush()

"""The windows of a recording and its audio -> a drawing of the posterior over time under the waveform."""

from __future__ import annotations

from pathlib import Path

from sertk.console.progress import say
from sertk.core import UsageError
from sertk.corpus import audio
from sertk.results.figures import Timeline, draw_timeline
from sertk.scoring.over_time import Recording, intervals, read

COLUMNS = 1600
"""Stretches of the waveform that are drawn, each by its lowest and its highest sample."""
SLACK = 0.1
"""How far windows may go on behind the end of their recording, s: an MP3's length is known to a frame."""


def timeline(windows: Path, recording: Path, out: Path, name: str | None = None) -> None:
    """Draws a recording.

    Args:
        windows: FILE.jsonl or FILE.csv of `score --over-time`.
        recording: The audio.
        out: FILE.png or FILE.svg.
        name: Its id in `windows`; None takes the only one, or the one that is the path of the audio.

    Raises:
        SertkError: Where a file cannot be read or written.
        UsageError: On another suffix, where it is not clear which recording is meant, or if the recording is shorter
            than its windows.
    """
    if out.suffix not in (".png", ".svg"):
        raise UsageError(f"--out {out} is no FILE.png or FILE.svg.")
    if out.resolve() in (windows.resolve(), recording.resolve()):
        raise UsageError(f"--out would overwrite {out}, which is an input. Give another file.")
    classes, found = read(windows)
    chosen = name or (next(iter(found)) if len(found) == 1 else str(recording))
    if chosen not in found:
        few = ", ".join(list(found)[:5])
        raise UsageError(f"{windows} has no windows of {chosen!r}. Give --id, one of {len(found)}: {few}.")
    rate, frames = audio.form(recording, str(recording))
    size, seconds = max(1, -(-frames // COLUMNS)), frames / rate
    ordered = sorted(found[chosen])
    if ordered[-1].end > seconds + SLACK:
        raise UsageError(
            f"the windows of {chosen} go on to {ordered[-1].end:.1f} s, and {recording} ends at {seconds:.1f} s. Give "
            "the recording that was scored."
        )
    stretches = audio.blocks(recording, str(recording), frames=size)
    low, high = zip(*((float(x.min()), float(x.max())) for x, _ in stretches), strict=True)
    made = intervals(Recording(chosen, 0.0, max(seconds, ordered[-1].end), ordered))
    drawn = Timeline(
        title=chosen,
        classes=classes,
        step=size / rate,
        low=low,
        high=high,
        borders=[*(one.start for one in made), made[-1].end],
        posterior=[None if one.window is None else ordered[one.window].posterior for one in made],
    )
    draw_timeline(out, drawn)
    say(f"wrote {out}: {len(ordered)} windows of {chosen}, {seconds:.1f} s")

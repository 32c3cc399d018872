"""Emotion over time: a line a window as JSON, CSV or Praat's TextGrid.

A score line carries its windows until it is written: so they are kept with it where a run is killed and goes on.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from sertk.core import InputError, SertkError, UsageError
from sertk.core.files import (
    SCHEMA,
    Document,
    Record,
    csv_text,
    digest,
    each_line,
    json_bytes,
    part_of,
    read_jsonl,
    write_text,
    writing,
)

KEY = "over_time"
TOUCH = 1e-5
"""Seconds between two windows that touch, at most: each time of a score line is rounded to a millionth."""
LONGEST_NAME = 190
"""Bytes of the name of a TextGrid, which is written under a longer one first."""
GIVE = "Give what `sertk score --over-time FILE.jsonl` (or .csv) wrote."


class Window(NamedTuple):
    """A window of a recording.

    Attributes:
        start: In its file, s.
        end: Likewise.
        decision: Number of the class.
        posterior: C values.
    """

    start: float
    end: float
    decision: int
    posterior: Sequence[float]


class Recording(NamedTuple):
    """A recording and its windows, by start.

    Attributes:
        id: Of the utterance.
        start: Of it in its file, s.
        end: Likewise.
        windows: Those that were scored.
    """

    id: str
    start: float
    end: float
    windows: Sequence[Window]


class Interval(NamedTuple):
    """A stretch of time.

    Attributes:
        start: s.
        end: s.
        window: Number of the window that is heard there; None where none was scored.
    """

    start: float
    end: float
    window: int | None


def carried(start: float, end: float, windows: Iterable[Window]) -> Record:
    """What a score line carries of its windows."""
    rows = [[round(x, 6) for x in (one.start, one.end, one.decision, *one.posterior)] for one in windows]
    return {KEY: [round(start, 6), round(end, 6), rows]}


def intervals(found: Recording) -> list[Interval]:
    """The time of a recording dealt to its windows, without gap or overlap.

    Where two windows overlap, the border is in the middle of what both hear. So windows of 4 s every 2 s have intervals
    of 2 s, the first and the last one of 3 s. Where nothing was scored, the interval has no window.
    """
    made, at = list[Interval](), found.start
    following = [*(one.start for one in found.windows[1:]), found.end]
    for number, (one, after) in enumerate(zip(found.windows, following, strict=False)):
        if one.start > at:
            made.append(Interval(at, one.start, None))
        start = max(at, one.start)
        at = (after + one.end) / 2 if after < one.end else after if after - one.end < TOUCH else one.end
        made.append(Interval(start, at, number))
    return [*made, Interval(at, found.end, None)] if at < found.end else made


def is_table(path: Path) -> bool:
    """Whether windows of all recordings go to one file; else each recording has its TextGrid in a folder.

    Raises:
        UsageError: On a path of another form.
    """
    if path.suffix not in ("", ".jsonl", ".csv") and not path.is_dir():
        raise UsageError(
            f"--over-time {path} is not FILE.jsonl, FILE.csv or a FOLDER for TextGrids (its name has no suffix)."
        )
    return path.suffix != "" and not path.is_dir()


def split(lines: Iterable[bytes], path: Path | None, classes: Sequence[str]) -> Iterator[bytes]:
    """Writes the windows that score lines carry, and gives the lines without them.

    Args:
        lines: Score lines.
        path: FILE.jsonl, FILE.csv, or a folder for TextGrids; None where lines carry no windows.
        classes: C names.
    """
    if path is None:
        yield from lines
        return
    with _writer(path, classes) as write:
        for line in lines:
            content = json.loads(line)
            start, end, rows = content.pop(KEY)
            windows = [Window(row[0], row[1], int(row[2]), row[3:]) for row in rows]
            write(Recording(content["id"], start, end, windows))
            yield json_bytes(content, content["id"])


def join(parts: Iterable[Iterator[bytes]], path: Path) -> None:
    """Writes the lines of several files of windows into one: a CSV has its header once."""
    with writing(path) as file:
        for number, lines in enumerate(parts):
            if number and path.suffix == ".csv":
                next(lines, None)
            file.writelines(lines)


def line_of(name: str, window: Window, classes: Sequence[str]) -> Record:
    """A window as a line of JSON."""
    return {
        "schema": SCHEMA,
        "id": name,
        "start": round(window.start, 6),
        "end": round(window.end, 6),
        "decision": classes[window.decision],
        "posterior": dict(zip(classes, (round(value, 6) for value in window.posterior), strict=True)),
    }


def _name(recording: str) -> str:
    """An id as the name of a file; of one that is too long (255 bytes in most file systems) its end and a digest."""
    name = part_of(recording)
    if len(os.fsencode(name)) <= LONGEST_NAME:
        return name
    return f"{digest(recording)}-{os.fsencode(name)[-LONGEST_NAME:].decode(errors='ignore')}"


@contextmanager
def _writer(path: Path, classes: Sequence[str]) -> Iterator[Callable[[Recording], None]]:
    """What writes recordings in the form that a path has."""
    if not is_table(path):
        yield lambda found: write_text(path / f"{_name(found.id)}.TextGrid", text_grid(found, classes))
        return
    with writing(path) as file:
        if path.suffix == ".csv":
            file.write(_csv([["id", "start", "end", "decision", *classes]]))
        yield lambda found: _write(file, found, classes, table=path.suffix == ".csv")


def _write(file: IO[bytes], found: Recording, classes: Sequence[str], *, table: bool) -> None:
    if table:
        rows = ([found.id, one.start, one.end, classes[one.decision], *one.posterior] for one in found.windows)
        file.write(_csv(rows))
    else:
        file.writelines(json_bytes(line_of(found.id, one, classes), found.id) for one in found.windows)


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    return csv_text(rows).encode(errors="backslashreplace")


def text_grid(found: Recording, classes: Sequence[str]) -> str:
    """A recording in Praat's long text format: a tier of decisions, whose intervals are those of `intervals`."""
    tier = intervals(found)
    span = f"xmin = {found.start} \n{{0}}xmax = {max(found.end, tier[-1].end)} \n"
    lines = ['File type = "ooTextFile"\nObject class = "TextGrid"\n\n', span.format("")]
    lines += ["tiers? <exists> \nsize = 1 \nitem []: \n    item [1]:\n"]
    lines += ['        class = "IntervalTier" \n        name = "emotion" \n        ', span.format(8 * " ")]
    lines += [f"        intervals: size = {len(tier)} \n"]
    for number, one in enumerate(tier, 1):
        text = "" if one.window is None else classes[found.windows[one.window].decision].replace('"', '""')
        lines += [
            f"        intervals [{number}]:\n            xmin = {one.start} \n            xmax = {one.end} \n",
            f'            text = "{text}" \n',
        ]
    return "".join(lines)


def read(path: Path) -> tuple[list[str], dict[str, list[Window]]]:
    """The classes of FILE.jsonl or FILE.csv, and the windows of each recording by its id.

    Raises:
        SertkError: Where it is missing, or not what `--over-time` writes.
    """
    classes, found = list[str](), dict[str, list[Window]]()
    for where, line in _lines(path):
        try:
            names, window = [*line["posterior"]], _window(line)
            classes = classes or names
            found.setdefault(line["id"], []).append(window)
            times = 0 <= window.start < window.end < math.inf
            fine = times and names == classes and all(0 <= value <= 1 for value in window.posterior)
        except (KeyError, TypeError, ValueError, AttributeError):
            fine = False
        if not fine:
            raise InputError(f"{where}: no line of a window. {GIVE}")
    if not found:
        raise SertkError(f"{path} has no windows. {GIVE}")
    return classes, found


def _window(line: Document) -> Window:
    number = [*line["posterior"]].index(line["decision"])
    return Window(float(line["start"]), float(line["end"]), number, [*map(float, line["posterior"].values())])


def _lines(path: Path) -> Iterator[tuple[str, Document]]:
    if path.suffix != ".csv":
        yield from read_jsonl(path, GIVE)
        return
    rows = csv.DictReader(f"{line}\n" for line in each_line(path, GIVE))
    names = rows.fieldnames or ()
    if len({*names}) < len(names):
        raise InputError(f"{path}:1: two columns have one name. {GIVE}")
    for number, row in enumerate(rows, 2):
        own = {word: row.pop(word, None) for word in ("id", "start", "end", "decision")}
        yield f"{path}:{number}", {**own, "posterior": row}

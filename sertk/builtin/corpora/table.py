"""A list of utterances: CSV, TSV or JSON lines, with the columns named by settings."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final

from sertk.builtin.corpora.anybody import PROTOCOLS, composed, gender_of, relative, some
from sertk.core import Corpus, InputError, Protocol, Rejected, SertkError, UsageError, Utterance, nearest
from sertk.core.files import Record, read_jsonl
from sertk.core.walk import READ, UNREAD, below

DELIMITERS: Final = {".csv": (",", ";", "\t"), ".tsv": ("\t", ",", ";")}  # where two do alike, the first
NEEDED: Final = ("path", "label", "speaker")
OTHERS: Final[Mapping[str, Sequence[str]]] = {
    "id": ("key",),
    "path": ("file", "file_name", "filename", "wav", "audio", "audio_path", "wav_path"),
    "speaker": ("spk", "speaker_id"),
    "label": ("emotion", "emo"),
    "gender": ("sex",),
    "text": ("transcript", "transcription"),
}
"""What other tools call a column: audformat, Nkululeko, EmoBox, Hugging Face."""
TIMES: Final = ("offset", "onset", "begin", "stop", "start_time", "end_time")
"""Columns that may be times, and of which nobody knows which: some tools have a start as `offset`, others an end."""
SPAN: Final = re.compile(r"(?:(\d+) days? )?\+?(\d+):([0-5]?\d):([0-5]?\d(?:\.\d+)?)")
"""A time as pandas writes it: 0 days 00:00:01.500000."""
FILES: Final = "Write the audio to files below --root, and their paths into the list."
MEND: Final = "Save the list as UTF-8, or convert it: iconv -f LATIN1 -t UTF-8 OLD > NEW."

Row = Mapping[str, str]
Notes = list[str]  # `list` is a setting of the class below


class Table(Corpus):
    """Anybody's corpus as a list, a row an utterance; the settings name the columns.

    A column with the name of its setting need not be given, nor one with the name that audformat, Nkululeko, EmoBox or
    Hugging Face use. `path`, `label` and `speaker` are needed, the rest is not; columns that no setting names go to
    `aux` as they are.

    Args:
        list: The list, .csv, .tsv or .jsonl; relative to --root, or to the current folder.
        id: Column of the ids; without one the path without its suffix, and the times where a file has several rows.
        path: Column of the audio files, relative to --root.
        speaker: Column of the speakers.
        label: Column of the emotions; an empty one is no label.
        gender: Column of the genders: f, female, w, woman, m, male, man.
        session: Column of the recording sessions.
        text: Column of the transcripts.
        start: Column of the offsets in the file, s; or as `0 days 00:00:01.5`, NaT or empty if it has no start.
        duration: Column of the durations, s; an empty one is to the end of the file.
        end: Column of the ends in the file, s, instead of durations.
        title: What the corpus is called in folders and scores.
    """

    about = "table: your own corpus, a CSV, TSV or JSONL list of utterances; the licence is your corpus's"
    published: ClassVar[Mapping[str, int]] = {}
    protocols: ClassVar[Mapping[str, Protocol]] = PROTOCOLS

    def __init__(
        self,
        list: str,  # noqa: A002 - what it is called on the command line
        id: str = "",  # noqa: A002
        path: str = "",
        speaker: str = "",
        label: str = "",
        gender: str = "",
        session: str = "",
        text: str = "",
        start: str = "",
        duration: str = "",
        end: str = "",
        title: str = "",
    ) -> None:
        self.title = title
        self._list = list
        self._columns = {
            "id": id,
            "path": path,
            "speaker": speaker,
            "label": label,
            "gender": gender,
            "session": session,
            "text": text,
            "start": start,
            "duration": duration,
            "end": end,
        }
        self._notes: Notes = []

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every row of the list, in its order.

        Raises:
            SertkError: Where the list or the folder is missing, or a column that is needed.
            InputError: On a row that cannot be read.
        """
        if not root.is_dir():
            raise SertkError(f"'{root}' is not a folder. Give the folder that holds the audio with --root.")
        path = self._find(root)
        rows = list(_rows(path))
        columns = self._map([*dict.fromkeys(column for _, row in rows for column in row)], path)
        here, often = _audio(root), Counter(row.get(columns["path"], "") for _, row in rows)
        seen: dict[str, str] = {}
        named = set()
        for where, row in rows:
            one = _utterance(row, columns, where, root, here, cut=often[row.get(columns["path"], "")] > 1)
            if isinstance(one, Utterance):
                _once(one.id, where, seen)
                named.add(one.path)
            yield one
        self._notes = [f"{field} is column {name!r}" for field, name in columns.items() if self._unnamed(field, name)]
        self._notes += some(sorted({*here.values()} - named), f"audio files below {root} are not in {path.name}")

    def reads(self, root: Path) -> list[Path]:
        """The list."""
        return [self._find(root)]

    def notes(self) -> list[str]:
        """Columns that were known by another tool's name, and audio that the list does not name."""
        return self._notes

    def _unnamed(self, field: str, column: str) -> bool:
        return column != field and not self._columns[field]

    def _find(self, root: Path) -> Path:
        for path in (root / self._list, Path(self._list)):
            if path.is_file():
                return path
        raise SertkError(f"the list {self._list} is neither below {root} nor here. Give table:list=FILE.")

    def _map(self, header: Sequence[str], path: Path) -> dict[str, str]:
        """Column by field: given by the user, or with the field's name, or with the name that another tool uses.

        Raises:
            UsageError: Where one is lacking that is given or needed, or two could be meant.
        """
        if not header:
            raise SertkError(f"{path} has no row. Write a header and a row for each utterance.")
        names = {field: self._column(field, header, path) for field in self._columns}
        for field, name in names.items():
            if name not in header and (self._columns[field] or field in NEEDED):
                raise UsageError(
                    f"{path} has no column {name!r}{nearest(name, header)}. Name it: {field}=COLUMN, or add it."
                )
        mapped = {field: name for field, name in names.items() if name in header}
        unsure = [one for one in TIMES if one in header and one not in mapped.values()]
        if unsure and not {"start", "duration", "end"} & mapped.keys():
            raise UsageError(
                f"{path} has the column {unsure[0]!r}, which may be a time, and no start, duration or end. Name it: "
                f"start={unsure[0]}, duration={unsure[0]} or end={unsure[0]}; or rename it if it is no time."
            )
        return mapped

    def _column(self, field: str, header: Sequence[str], path: Path) -> str:
        """The column of a field: the one that is given, that has its name, or that another tool calls so."""
        if self._columns[field] or field in header:
            return self._columns[field] or field
        known = [one for one in OTHERS.get(field, ()) if one in header and one not in self._columns.values()]
        if len(known) > 1:
            raise UsageError(f"{path} has the columns {' and '.join(known)}: which is the {field}? {field}={known[0]}")
        return known[0] if known else field


def _audio(root: Path) -> dict[str, str]:
    """The audio below the corpus folder by its path in composed letters, which a list may have and macOS has not.

    It may lie elsewhere too where the list has absolute paths.
    """
    paths = (path.relative_to(root).as_posix() for path in below(root).having((*READ, *UNREAD)))
    return {composed(path): path for path in paths}


def _once(name: str, where: str, seen: dict[str, str]) -> None:
    if name in seen:
        raise InputError(f"{where}: id {name!r} comes twice, first at {seen[name]}. Ids must differ: id=COLUMN.")
    seen[name] = where


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """("file:line", text by column) of each row, lines without any text left out."""
    if path.suffix.lower() == ".jsonl":
        for where, line in read_jsonl(path, MEND):
            yield where, {word: _text(word, value, where) for word, value in line.items()}
    elif path.suffix.lower() in DELIMITERS:
        yield from _separated(path, DELIMITERS[path.suffix.lower()])
    else:
        raise UsageError(f"the list {path} is neither {', '.join(DELIMITERS)} nor .jsonl. Rename or convert it.")


def _text(word: str, value: object, where: str) -> str:
    """A JSON value as a CSV would have it; of Hugging Face's {"path": ..., "bytes": null} the path."""
    if isinstance(value, dict) and {"path", "bytes"} & value.keys():
        inside = sorted(key for key, one in value.items() if key not in ("path", "sampling_rate") and one is not None)
        if inside or not isinstance(value.get("path"), str):
            raise InputError(
                f"{where}, {word!r}: the audio lies in the list ({', '.join(inside) or 'no path'}). {FILES}"
            )
        return str(value["path"])
    if isinstance(value, dict | list):
        given = json.dumps(value)[:200]
        raise InputError(f"{where}, {word!r}: {given} is neither text nor a number. Write it as text.")
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _separated(path: Path, delimiters: Sequence[str]) -> Iterator[tuple[str, Row]]:
    text = _decoded(path)
    delimiter = _delimiter(text, delimiters)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for cells in lines:
            where = f"{path}:{lines.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(cells, where)
            elif len(cells) != len(header):
                raise InputError(
                    f"{where}: {len(cells)} cells under {len(header)} columns. "
                    f"Put a cell that holds {delimiter!r} into double quotes."
                )
            else:
                yield where, dict(zip(header, (cell.strip() for cell in cells), strict=True))
    except csv.Error as error:
        raise InputError(f"{path}:{lines.line_num}: {error}. Correct the quotes of that line.") from None


def _decoded(path: Path) -> str:
    """The text of a list in UTF-8, or in UTF-16 with its mark, as Windows programs save it.

    Raises:
        InputError: Where it is in another encoding.
    """
    raw = path.read_bytes()
    encoding = "utf-16" if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        name = encoding.removesuffix("-sig").upper()
        raise InputError(f"{path}:{line}: byte {error.object[error.start]:#04x} is not {name}. {MEND}") from None
    if "\0" in text:
        raise InputError(
            f"{path}: every other byte is 0: it is UTF-16 without its mark. {MEND.replace('LATIN1', 'UTF-16LE')}"
        )
    return text


def _delimiter(text: str, known: Sequence[str]) -> str:
    """What separates the columns: of those that are known the one that gives the first line the most cells."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(known, key=lambda one: len(next(csv.reader([first], delimiter=one), [])))


def _header(cells: list[str], where: str) -> list[str]:
    header = [cell.strip() for cell in cells]
    if len(set(header)) < len(header) or "" in header:
        raise InputError(f"{where}: the columns are {', '.join(map(repr, header))}. Give each a name of its own.")
    return header


def _utterance(
    row: Row, columns: Mapping[str, str], where: str, root: Path, here: Mapping[str, str], *, cut: bool
) -> Utterance | Rejected:
    """The utterance of a row; `cut` where its file has other rows too."""
    cells = {field: row.get(column, "") for field, column in columns.items()}
    for field in ("id", "path", "speaker"):
        if field in cells and not cells[field]:
            raise InputError(f"{where}: no {field} (column {columns[field]!r}). Fill it in, or remove the row.")
    if cells["path"].startswith("{") and "bytes" in cells["path"]:
        raise InputError(f"{where}: {cells['path'][:80]!r} is no path (column {columns['path']!r}). {FILES}")
    start, duration = _cut(cells, where)
    given = Path(cells["path"])
    place = relative(given, root) if given.is_absolute() else posixpath.normpath(given.as_posix())
    place = here.get(composed(place), place)
    path = root / cells["path"]
    name = composed(cells.get("id") or _name(cells["path"], *((start, duration) if cut else ())))
    if path.name.startswith("._"):
        return Rejected(path, f"{where}: {cells['path']} is a companion file of macOS, no audio", name)
    if composed(place) not in here and not path.is_file():
        return Rejected(path, f"{where}: {cells['path']} is missing: there is no file {path}", name)
    return Utterance(
        id=name,
        path=place,
        speaker=cells["speaker"],
        label=cells["label"] or None,
        start=start,
        duration=duration,
        gender=gender_of(cells["gender"], where) if cells.get("gender") else None,
        session=cells.get("session") or None,
        text=cells.get("text") or None,
        aux=_others(row, columns),
    )


def _name(path: str, start: float = 0.0, duration: float | None = None) -> str:
    """The id of a row that has none: its path without the suffix, and the times of its part of the file."""
    end = [] if duration is None else [start + duration]
    times = "-".join(f"{one:.3f}" for one in [start, *end]) if start or end else ""
    return PurePosixPath(path).with_suffix("").as_posix() + (times and f"_{times}")


def _others(row: Row, columns: Mapping[str, str]) -> Record:
    return {column: cell for column, cell in row.items() if cell and column not in columns.values()}


def _cut(cells: Mapping[str, str], where: str) -> tuple[float, float | None]:
    """Start and duration of a row, whose end may be given instead of its duration."""
    start, duration, end = (_seconds(cells, field, where) for field in ("start", "duration", "end"))
    start = start or 0.0
    if end is None:
        return start, duration
    if end <= start:
        raise InputError(f"{where}: end {end:g} is not behind start {start:g}. Correct one of them.")
    if duration is not None and abs(end - start - duration) > 0.01:
        raise InputError(f"{where}: {start:g} to {end:g} s are not {duration:g} s (start, end, duration). Correct one.")
    return start, round(end - start, 6)


def _seconds(cells: Mapping[str, str], field: str, where: str) -> float | None:
    text = cells.get(field, "")
    if text in ("", "NaT"):
        return None
    span = SPAN.fullmatch(text)
    days, hours, minutes, rest = span.groups("0") if span else ("0", "0", "0", text)
    try:
        seconds = round(((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + float(rest), 9)
    except ValueError:
        seconds = math.nan
    if not (0 <= seconds < math.inf) or (field == "duration" and not seconds):
        raise InputError(f"{where}: {field} {text!r} is not a number of seconds, such as 1.25.")
    return seconds

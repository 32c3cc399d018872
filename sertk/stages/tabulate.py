"""What a sweep ends in: its runs -> one table in Markdown, CSV and LaTeX, and the plots of its curves."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from sertk.console.progress import say
from sertk.core.files import csv_text, part_of, write_text
from sertk.plugins import Plugins
from sertk.results.captions import facts, legend
from sertk.results.columns import PARTIAL, Column
from sertk.results.curves import Plot
from sertk.results.figures import draw_curves
from sertk.results.measures import Measures
from sertk.results.runs import marks
from sertk.results.sheets import Sheet
from sertk.results.sweeps import Line
from sertk.results.systems import with_marks
from sertk.results.tables import latex, markdown
from sertk.settings.plain import plain
from sertk.settings.sweep import Sweep

Texts = Sequence[tuple[str, Mapping[str, str]]]
"""The headings of a table, each with its texts by row."""


class Part(NamedTuple):
    """A sweep over one corpus; several are put together into one table, by the name of the row.

    Attributes:
        corpus: Title of the corpus.
        sweep: The sweep.
        lines: Its lines.
        notes: Said below the table.
    """

    corpus: str
    sweep: Sweep
    lines: Sequence[Line]
    notes: Sequence[str]


def tabulate(parts: Sequence[Part], out: Path, files: Sequence[Path] = ()) -> list[Path]:
    """Writes table.md, table.csv and table.tex, and a plot with its points for each curve; prints the Markdown.

    Args:
        parts: At least one.
        out: The folder.
        files: Plugin files.

    Returns:
        The files written.

    Raises:
        SertkError: On runs that do not go together.
        UsageError: On a metric that does not exist.
    """
    plugins = Plugins(files=files)
    measures, several = Measures(plugins), len(parts) > 1
    sheets = [Sheet(one.corpus if several else "", one.sweep, one.lines, plugins, measures) for one in parts]
    columns = [sheet.columns() for sheet in sheets]
    plots = {part_of(plot.column.title): plot for sheet in sheets for plot in sheet.plots() if not plot.empty}
    shown, drawn = list(chain(*columns)), [plot.column for plot in plots.values()]
    rows, texts = _rows(parts), _texts(sheets, columns)
    head = ["row", *(heading for heading, _ in texts)]
    body = [[label, *(own.get(label, "") for _, own in texts)] for label in rows]
    pictures = chain.from_iterable(_picture(name, plot) for name, plot in plots.items())
    tests = list(chain.from_iterable(sheet.differences() for sheet in sheets))
    below = list(chain.from_iterable(facts(sheet, part.notes) for sheet, part in zip(sheets, parts, strict=True)))
    marked = [[with_marks(label, _marks(label, sheets)), *row] for label, *row in body]
    text = [*_titles(parts), *markdown(head, body), "", legend(shown, drawn, measures), *tests, "", *below, *pictures]
    written = {
        "table.md": "\n".join([*text, ""]),
        "table.csv": _csv([_record(label, line, sheets, columns) for label, line in rows.items()]),
        "table.tex": "\n".join([*_tex_notes(shown, below), *latex(head, marked), ""]),
        **{f"figures/{name}.csv": _csv(plot.records()) for name, plot in plots.items()},
    }
    for name, content in written.items():
        write_text(out / name, content)
    for name, plot in plots.items():
        draw_curves(out / "figures" / f"{name}.png", plot)
    sys.stdout.write(written["table.md"])
    found = [out / name for name in (*written, *(f"figures/{name}.png" for name in plots))]
    say(f"wrote {', '.join(map(str, found))}")
    return found


def _titles(parts: Sequence[Part]) -> list[str]:
    """The title, and what is said of the sweeps below it."""
    titles, abouts = ([getattr(part.sweep, word) for part in parts] for word in ("title", "about"))
    title = "; ".join(filter(None, dict.fromkeys(titles))) or "Sweep"
    return [f"# {title}", "", *chain.from_iterable((about.strip(), "") for about in dict.fromkeys(abouts) if about)]


def _rows(parts: Sequence[Part]) -> dict[str, Line]:
    """The rows of the table by label; one that a later part alone has comes after the one that it follows there."""
    lines = {line.label: line for part in reversed(parts) for line in part.lines}
    labels: list[str] = []
    for part in parts:
        place = 0
        for line in part.lines:
            if line.label not in labels:
                labels.insert(place, line.label)
            place = labels.index(line.label) + 1
    return {label: lines[label] for label in labels}


def _texts(sheets: Sequence[Sheet], columns: Sequence[Sequence[Column]]) -> Texts:
    """The columns of the table: of each corpus the number of runs, then its cells."""
    found: list[tuple[str, Mapping[str, str]]] = []
    for sheet, own in zip(sheets, columns, strict=True):
        rows = sheet.sweep.rows
        counts = {one.line.label: "" if rows[one.line.row].chance else one.count for one in sheet.outcomes}
        found.append((sheet.title("n"), counts))
        found += chain.from_iterable(column.texts() for column in own)
    return found


def _picture(name: str, plot: Plot) -> list[str]:
    """A plot in Markdown, with the best point of each curve."""
    lines = [f"- {text}" for text in plot.texts()]
    return ["", f"## {plot.column.title}", "", f"![{plot.column.title}](figures/{quote(name)}.png)", "", *lines]


def _marks(label: str, sheets: Sequence[Sheet]) -> list[str]:
    """What a row is marked with where no line on its protocol stands below the table."""
    found: dict[str, None] = {}
    for sheet in sheets:
        for system in sheet.scored(label):
            # all rows have seen train and dev: the headings say which part a figure is of
            own = {} if system.about.get("part") == "test" else {"stamp": "speaker-independent"}
            found |= dict.fromkeys(sheet.title(mark) for mark in marks({**system.about, **own}))
    return list(found)


def _tex_notes(columns: Sequence[Column], below: Sequence[str]) -> list[str]:
    """Comments in front of the table in LaTeX: what stands below it in Markdown, too."""
    partial = any(value.partial for column in columns for value in column.values.values())
    mark = f"% {PARTIAL}: of fewer runs than were asked for; table.md says which are missing"
    return [r"% \usepackage{booktabs}", *([mark] if partial else []), *(f"% {one.removeprefix('- ')}" for one in below)]


def _record(
    label: str, line: Line, sheets: Sequence[Sheet], columns: Sequence[Sequence[Column]]
) -> Mapping[str, object]:
    """A row of table.csv."""
    swept = dict.fromkeys(name for sheet in sheets for name in sheet.sweep.swept)
    sources = [sheet.sweep.rows[line.row].source for sheet in sheets if line.row in sheet.sweep.rows]
    found: dict[str, object] = {"row": line.row, **{name: line.swept.get(name) for name in swept}}
    found["source"] = "; ".join(filter(None, dict.fromkeys(sources)))
    for sheet, own in zip(sheets, columns, strict=True):
        here = next((one for one in sheet.outcomes if one.line.label == label), None)
        trained = here if here and here.line.folder else None
        found[sheet.title("runs")] = trained and len(trained.done)
        found[sheet.title("asked")] = trained and len(trained.line.runs)
        found[sheet.title("elsewhere")] = trained and trained.line.elsewhere
        found[sheet.title("protocol")] = "; ".join(system.protocol for system in sheet.scored(label))
        for column in own:
            found |= column.numbers(label)
    return found


def _csv(records: Sequence[Mapping[str, object]]) -> str:
    """Records of the same keys as CSV: a row of headings, numbers as they are, nothing where there is none."""
    head = list(records[0]) if records else []
    return csv_text([head, *([_plain(record[word]) for word in head] for record in records)])


def _plain(value: object) -> object:
    """A value as CSV has it; of a figure, the digits that rounding does not touch."""
    return round(value, 8) if isinstance(value, float) else plain(value)

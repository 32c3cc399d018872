"""What is said below the table of a sweep: what its columns are, where its figures are from, what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sertk.results.cells import pools
from sertk.results.columns import PARTIAL, Column
from sertk.results.measures import TITLES, Measures
from sertk.results.runs import two_settings
from sertk.results.sheets import Sheet
from sertk.settings.schema import Component
from sertk.settings.sweep import Cell
from sertk.settings.values import component_text

HOW = {
    "folds": "mean of the folds",
    "pooled": "folds pooled",
    "fold": "by fold, then their mean",
    "speaker": "by speaker with folds pooled, then the mean of the speakers",
}
COSTS = {
    "parameters": "parameters of the model and its features",
    "trained": "parameters that are trained",
    "training": "seconds of training a run, the mean of the runs",
    "memory": "the most memory that the process of a run held in training, in GB, the mean of the runs",
    "scoring": "seconds of scoring",
}
NAMED = 3
"""So many of the runs that are missing are named."""


def legend(columns: Sequence[Column], drawn: Sequence[Column], measures: Measures) -> str:
    """How the figures are to be read.

    Args:
        columns: Of the table.
        drawn: The figures of its plots.
        measures: The metrics, that gave the figures.
    """
    heads = {head for column in columns for head, _ in column.texts()}
    ends = {word: any(head.endswith(f" {word}") for head in heads) for word in ("max", "min", "paper", "difference")}
    dev = list(dict.fromkeys(column.unit.title for column in columns if column.kind == "dev"))
    values = [value for column in (*columns, *drawn) for value in column.values.values()]
    said = {
        "n is the number of runs: folds times seeds.": True,
        measures.legend: True,
        "± is the standard deviation over seeds (the population's).": any(len(one.seeds) > 1 for one in values),
        "max is the best seed.": ends["max"],
        "min is the best seed.": ends["min"],
        "paper is what the paper printed, difference is ours minus the paper's, in the unit of the column; it is given "
        "only where corpus, protocol and encoder are the paper's.": ends["paper"],
        f"Epochs are selected by {', '.join(dev)} on dev alone: dev is that score, the mean of the folds.": bool(dev),
        f"{PARTIAL} is of fewer runs than were asked for.": any(one.partial for one in values),
    }
    return " ".join(text for text, wanted in said.items() if wanted)


def facts(sheet: Sheet, notes: Sequence[str]) -> list[str]:
    """What there is to know of a sweep over a corpus, a line each.

    Args:
        sheet: The sweep, with its figures made.
        notes: Notes of the caller.
    """
    said = [*_cells(sheet), *_protocols(sheet), *_sources(sheet), *notes, *sheet.notes, *_missing(sheet)]
    where = f"{sheet.corpus}: " if sheet.corpus else ""
    return [f"- {where}{' '.join(text.split())}" for text in dict.fromkeys(said)]


def _cells(sheet: Sheet) -> Iterator[str]:
    for title, cell in sheet.sweep.cells.items():
        if cell.cost:
            yield f"{title}: {COSTS[cell.cost]}{f' the {cell.part} part of a fold' * (cell.cost == 'scoring')}"
            continue
        if cell.epochs:
            what = "accuracy" if cell.epochs == "wa" else "objective"
            yield f"{title}: {what} of {cell.part} after each epoch, in eval mode and not augmented, see below"
            continue
        words = [f"{title}: {_metric(cell.metric)} of {cell.part}", HOW["pooled" if pools(cell) else cell.how]]
        rows = sheet.sweep.rows.items()
        words += [f"of {name} {_metric(row.metric(cell))}" for name, row in rows if row.metric(cell) != cell.metric]
        words += [f"the decisions of {cell.agreement} are the labels (/ is that row)"] if cell.agreement else []
        words += [_only(sheet, cell, name, values) for name, values in cell.only.items()]
        words += [f"utterances longer than {cell.beyond:g} s"] if cell.beyond is not None else []
        words += [f"utterances up to {cell.upto:g} s"] if cell.upto is not None else []
        yield ", ".join(words + ([f"over {cell.curve}, see below"] if cell.curve else []))


def _only(sheet: Sheet, cell: Cell, name: str, values: Sequence[str]) -> str:
    """Whose utterances a cell is of; those of whom none was scored are named as such."""
    runs = [run for one in sheet.outcomes for run in one.parts[cell.part].runs]
    scored = {value for run in runs for value in getattr(run.scores, name)}
    there = [value for value in values if value in scored]
    lacking = [value for value in values if value not in scored]
    which = f"utterances of {name} {', '.join(there)}" if there else "no utterance"
    return which + (f", none is of {name} {', '.join(lacking)}" if lacking and runs else "")


def _metric(one: Component) -> str:
    return TITLES.get(one.name, component_text(one.name, one.settings))


def _protocols(sheet: Sheet) -> Iterator[str]:
    """The protocol of each part; if there are several, with their rows."""
    scored = [(one.line, system) for one in sheet.outcomes for system in one.parts.values() if system.runs]
    heard: dict[str, set[bool]] = {}
    for line, system in scored:
        heard.setdefault(line.row, set()).add("speakers" in system.about)
    rows: dict[str, dict[str, None]] = {}
    for line, system in scored:
        rows.setdefault(system.protocol, {})[line.row if len(heard[line.row]) == 1 else line.label] = None
    every = {row for own in rows.values() for row in own}
    for protocol, own in rows.items():
        which = "" if len(own) == len(every) else f" of {', '.join(own)}"
        yield f"protocol{which}: {protocol}"
    yield from two_settings({line.label: system.about for line, system in scored})


def _sources(sheet: Sheet) -> Iterator[str]:
    paper = sheet.sweep.paper
    encoder = component_text(paper.backbone.name, paper.backbone.settings) if paper.backbone else ""
    where = ", ".join(filter(None, [paper.corpus, paper.protocol, encoder]))
    if paper.source:
        yield f"paper: {paper.source}{f' ({where})' if where else ''}"
    for name, row in sheet.sweep.rows.items():
        if any(one.line.row == name for one in sheet.outcomes):
            yield from [f"{name} is quoted: {row.source or 'its source is not said'}"] if row.quoted else []
            yield from [f"{name}: the most frequent class of what is scored, for every utterance"] if row.chance else []
            yield from [f"{name}: {row.about}"] if row.about else []


def _missing(sheet: Sheet) -> Iterator[str]:
    """How partial a sweep is, and each run that failed."""
    asked, done = sum(len(one.line.runs) for one in sheet.outcomes), sum(len(one.done) for one in sheet.outcomes)
    lacking = [(one.line.label, place, what) for one in sheet.outcomes for place, what in one.lacking.items()]
    named = [f"{label}, fold {fold}, seed {seed} ({what})" for label, (fold, seed), what in lacking[:NAMED]]
    named += [f"{len(lacking) - NAMED} more"] if len(lacking) > NAMED else []
    if done < asked:
        yield f"**partial**: {done} of {asked} runs are done{'; missing: ' * bool(named)}{'; '.join(named)}"
    if any(one.line.folder and not one.line.runs for one in sheet.outcomes):
        yield "**partial**: nothing is run; the folds are known when the corpus is prepared"
    for one in sheet.outcomes:
        for (fold, seed), error in one.failed.items():
            yield f"failed: {one.line.label}, fold {fold}, seed {seed}: {error}"

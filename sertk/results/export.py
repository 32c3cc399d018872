"""Scored systems for papers and programs: a LaTeX table of the systems, and the runs as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sertk.core.files import csv_text
from sertk.results.measures import Measures
from sertk.results.runs import failures
from sertk.results.systems import System
from sertk.results.tables import latex
from sertk.results.uncertainty import ends_of


def systems_latex(systems: Sequence[System], measures: Measures) -> str:
    """A row a system: each metric pooled over the folds, ± over seeds, and the interval of UA; it needs booktabs.

    In front of it stand the protocols, and what could not be scored, as comments.

    Args:
        systems: The systems.
        measures: The metrics, that gave the figures.
    """
    values = [{one.name: one.text(*system.values(one, measures)) for one in measures.all} for system in systems]
    ua, shown, names = measures["ua"], measures.shown, _names(systems)
    head = ["system", *(one.title for one in shown), f"{ua.title}, 95 %"]
    body = [
        [name, *(own[one.name] for one in shown), ends_of(system, ua)]
        for name, system, own in zip(names, systems, values, strict=True)
    ]
    said = [
        f"% {name}: {text}"
        for name, system in zip(names, systems, strict=True)
        for text in (system.protocol, *failures(system.runs))
    ]
    return "\n".join([*said, *latex(head, body), ""])


def runs_csv(systems: Sequence[System], measures: Measures) -> str:
    """A row a run: system, fold, seed, utterances, each metric in the unit of its tables, and the protocol in words.

    Nothing stands where a metric failed.

    Args:
        systems: The systems.
        measures: The metrics, that gave the figures.
    """
    rows: list[Mapping[str, object]] = []
    for name, system in zip(_names(systems), systems, strict=True):
        for run in system.runs:
            values = {one: measures.figure(one, run.scores) for one in measures.shown}
            figures = {one.title: None if own is None else round(own * one.scale[0], 8) for one, own in values.items()}
            about = {"system": name, "fold": run.fold, "seed": run.seed, "n": run.metrics["utterances"]}
            rows.append({**about, **figures, "protocol": system.protocol})
    return csv_text([list(rows[0]), *(list(one.values()) for one in rows)])


def _names(systems: Sequence[System]) -> list[str]:
    """The names of the rows: with the corpus where there are several, and marked, see `System.stamped_name`."""
    corpora = [str(system.about.get("corpus", "no corpus")) for system in systems]
    several = len({*corpora}) > 1
    return [f"{one} / " * several + system.stamped_name for one, system in zip(corpora, systems, strict=True)]

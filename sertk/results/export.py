"""Scored systems for papers and programs: a LaTeX table of the systems, and the runs as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sertk.core.files import csv_text
from sertk.results.measures import Measures
from sertk.results.systems import System
from sertk.results.tables import latex
from sertk.results.uncertainty import ends_of


def systems_latex(systems: Sequence[System], measures: Measures) -> str:
    """A row a system: each metric pooled over the folds, ± over seeds, and the interval of UA; it needs booktabs.

    Args:
        systems: The systems.
        measures: The metrics, that gave the figures.
    """
    values = [{one.name: one.text(*system.values(one, measures)) for one in measures.all} for system in systems]
    ua, shown = measures["ua"], measures.shown
    head = ["system", *(one.title for one in shown), f"{ua.title}, 95 %"]
    body = [
        [system.stamped_name, *(own[one.name] for one in shown), ends_of(system, ua)]
        for system, own in zip(systems, values, strict=True)
    ]
    return "\n".join([*latex(head, body), ""])


def runs_csv(systems: Sequence[System], measures: Measures) -> str:
    """A row a run: system, fold, seed, utterances and each metric in the unit of its tables; nothing where it failed.

    Args:
        systems: The systems.
        measures: The metrics, that gave the figures.
    """
    rows: list[Mapping[str, object]] = []
    for system in systems:
        for run in system.runs:
            values = {one: measures.figure(one, run.scores) for one in measures.shown}
            figures = {one.title: None if own is None else round(own * one.scale[0], 8) for one, own in values.items()}
            about = {"system": system.stamped_name, "fold": run.fold, "seed": run.seed, "n": run.metrics["utterances"]}
            rows.append({**about, **figures})
    return csv_text([list(rows[0]), *(list(one.values()) for one in rows)])

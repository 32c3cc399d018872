"""A bundle's test part again under changes of its audio: how far UA falls, and how many decisions change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from sertk.console.progress import say, track
from sertk.core import SertkError, UsageError, Utterance, nearest
from sertk.core.files import SCHEMA, Document, Record, json_bytes, part_of, writing
from sertk.corpus import ledger
from sertk.corpus.prepared import Data
from sertk.modeling import bundle, ensemble
from sertk.plugins import Plugins
from sertk.results.figures import draw_conditions
from sertk.results.lines import read_scores
from sertk.results.measures import Measure, Measures
from sertk.results.robustness import Row, common, rows, stress_csv, stress_table
from sertk.results.runs import Held, trained_as
from sertk.results.units import By
from sertk.scoring import scorer as scoring
from sertk.scoring.changes import CLEAN, Condition, changed, conditions, readable
from sertk.scoring.ensemble import scorer_of
from sertk.scoring.inputs import Inputs, of_corpus
from sertk.scoring.outputs import check_folder, write_folder
from sertk.scoring.scorer import Scorer, Sounds
from sertk.scoring.speakers import refuse_for
from sertk.scoring.system import is_system, runs_of
from sertk.training import distributed


class _How(NamedTuple):
    """What all bundles of a command are scored with."""

    plugins: Plugins
    device: str
    batch: int
    workers: int
    ffmpeg: bool


class _Taken(NamedTuple):
    """What was scored so far.

    Attributes:
        runs: By condition, one for each bundle.
        about: The conditions in words.
        failed: Inputs that could not be scored, each with its reason and its condition.
        lacking: Why a condition is left out.
    """

    runs: dict[str, list[Held]]
    about: dict[str, str]
    failed: list[Record]
    lacking: dict[str, str]


def stress(
    model: Path,
    data: Path,
    out: Path,
    *,
    asked: Sequence[str] = (),
    root: Path | None = None,
    protocol: str | None = None,
    fold: str | None = None,
    by: By = "speakers",
    device: str = "auto",
    batch: int = 32,
    files: Sequence[Path] = (),
    workers: int = 0,
    ffmpeg: bool = False,
) -> int:
    """Scores the test part of a prepared corpus under each condition; writes score lines, table, CSV and figure.

    Args:
        model: The bundle; or a folder of runs, each of which is scored on its own fold.
        data: The prepared corpus.
        out: A folder.
        asked: Conditions by name; all by default. The clean one is always there.
        root: The corpus folder, where it is not the one that was prepared.
        protocol: Of the corpus; None takes the bundle's own.
        fold: Likewise.
        by: What is drawn for the intervals.
        device: auto, cpu, cuda, cuda:N.
        batch: Utterances at once.
        files: Plugin files.
        workers: Threads that read audio ahead.
        ffmpeg: Whether ffmpeg is run for what libsndfile does not read.

    Returns:
        Inputs that could not be scored in every condition; they are in `failed.jsonl` in `out`.

    Raises:
        SertkError: If a bundle or the corpus cannot be read, or nothing could be scored in all conditions.
        UsageError: On an unknown condition, a model that reads no audio, or `out` that is a prepared corpus.
    """
    check_folder(out)
    how = _How(Plugins(files=files), distributed.device(device), batch, workers, ffmpeg)
    corpus, ua, system = Data(data, root), Measures(how.plugins)["ua"], is_system(model)
    models = [run / "model" for run in runs_of(model, corpus, fold, None)] if system else [model]
    taken = _Taken({}, {}, [], {})
    for one in models:
        opened = ensemble.opened(one, how.plugins)
        found = of_corpus(corpus, opened.about, taken.failed, protocol=protocol, fold=None if system else fold)
        _one(opened, found, asked, out, how, taken)
        ledger.note(corpus.folder, found.stamp, trained_as(opened.about), _figure(ua, taken.runs[CLEAN][-1]))
    for name, why in taken.lacking.items():
        say(f"left out: {name}, {why}")
    _write(out, taken, rows(_kept(taken), taken.about, ua, by), ua)
    return len(taken.failed)


def _one(opened: bundle.Opened, found: Inputs, asked: Sequence[str], out: Path, how: _How, taken: _Taken) -> None:
    """Scores a bundle in every condition that is asked for."""
    if opened.settings.by_speaker:
        refuse_for(opened.folder, {"sertk stress": True})
    scorer = scorer_of(opened, how.device, how.plugins, ffmpeg=how.ffmpeg)
    if scorer.text_alone:
        raise UsageError(
            f"{opened.folder} reads transcripts alone, so no change of the audio matters. Give another one."
        )
    every = _chosen(conditions(how.plugins, scorer.bundle.settings.audio.rate), asked)
    taken.lacking.update({name: one.lacking for name, one in every.items() if one.lacking})
    chosen = {name: one for name, one in every.items() if not one.lacking}
    taken.about.update({name: one.about for name, one in chosen.items()})
    told: Document = trained_as(opened.about)
    fold, seed = str(found.stamp["fold"]), str(told["seed"])
    folder = out / f"fold={part_of(fold)}" / f"seed={seed}"
    with ExitStack() as stack:
        to = {name: stack.enter_context(writing(folder / f"{name}.jsonl")) for name in chosen}
        for name, lines in _lines(scorer, found, chosen, how, taken.failed):
            to[name].writelines(json_bytes({**line, "stamp": found.stamp["stamp"]}, line["id"]) for line in lines)
    say(f"scored fold {fold}, seed {seed}: {len(found.utterances)} utterances, {len(chosen)} conditions")
    for name in chosen:
        scores = read_scores(folder / f"{name}.jsonl", scorer.bundle.classes)
        taken.runs.setdefault(name, []).append(Held(fold, seed, scores))


def _lines(
    scorer: Scorer, found: Inputs, chosen: Mapping[str, Condition], how: _How, failed: list[Record]
) -> Iterator[tuple[str, Sequence[Record]]]:
    """The score lines of windows of utterances in each condition; a file is read once for all of them."""
    size = scoring.WINDOW
    windows = [found.utterances[first : first + size] for first in range(0, len(found.utterances), size)]
    sounds = scorer.sounds(windows, found.root, how.workers if len(windows) > 1 else 0, math.inf)
    jobs = (_heard(window, readable(heard), failed) for window, heard in zip(windows, sounds, strict=True))
    steps = ((window, heard, name) for window, heard in jobs for name in chosen)
    for window, heard, name in track(steps, len(windows) * len(chosen), "conditions"):
        lost: list[Record] = []
        there = changed(heard, chosen[name], how.batch)
        yield name, [*scorer.window(window, there, found.root, how.batch, lost)]
        failed += [{**one, "condition": name} for one in lost]


def _heard(window: Sequence[Utterance], heard: Sounds, failed: list[Record]) -> tuple[Sequence[Utterance], Sounds]:
    """The utterances of a window that could be read, with their audio; the others fail here, once for all."""
    lost = {name: why for name, why in heard.items() if isinstance(why, str)}
    failed += [{"schema": SCHEMA, "id": name, "reason": why} for name, why in lost.items()]
    return [one for one in window if one.id not in lost], heard


def _chosen(every: Mapping[str, Condition], asked: Sequence[str]) -> dict[str, Condition]:
    """The conditions that are asked for, the clean one first.

    Raises:
        UsageError: If there is no such condition.
    """
    for name in asked:
        if name not in every:
            raise UsageError(f"--condition {name!r} is no condition{nearest(name, every)}")
    return {name: one for name, one in every.items() if not asked or name in (CLEAN, *asked)}


def _figure(ua: Measure, run: Held) -> float | None:
    return ua(run.scores) if run.scores.ids else None


def _kept(taken: _Taken) -> dict[str, list[Held]]:
    """The runs with what was scored in every condition.

    Raises:
        SertkError: If nothing was.
    """
    kept = common(taken.runs)
    if not any(run.scores.ids for run in kept[CLEAN]):
        first = f"; the first: {taken.failed[0]['reason']}" if taken.failed else ". Has the test part labels?"
        raise SertkError(f"no utterance with a label of the bundle's classes could be scored in every condition{first}")
    return kept


def _write(out: Path, taken: _Taken, found: Sequence[Row], ua: Measure) -> None:
    """Writes and prints the table; beside it CSV, figure and failures."""
    lacking = [f"Left out: {name}, {why}." for name, why in taken.lacking.items()]
    lost = len({one["id"] for one in taken.failed})
    failed = [f"{lost} utterances could not be scored in every condition; no row counts them."] * bool(lost)
    text = "\n".join([*stress_table(found, ua), *(line for one in (*lacking, *failed) for line in ("", one)), ""])
    write_folder(out, "stress", text, stress_csv(found), taken.failed)
    draw_conditions(out / "stress", found, ua)
    say(f"wrote {out}: stress.md, stress.csv, a figure (PNG, SVG, PDF), and score lines by fold and seed")

"""Systems on corpora that they were not trained on, as a matrix of the classes that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sertk.console.progress import say, track
from sertk.core import SertkError, UsageError, Utterance, nearest
from sertk.core.files import Document, Record, json_bytes, part_of, writing
from sertk.corpus import ledger
from sertk.corpus.audit import by_speaker, joined_stamp
from sertk.corpus.prepared import Data
from sertk.modeling import bundle, ensemble
from sertk.plugins import Plugins
from sertk.results.figures import draw_matrix
from sertk.results.lines import read_scores
from sertk.results.measures import Measure, Measures
from sertk.results.robustness import Cell, cross_csv, cross_table, estimate, pairs, scored_by_all, utterances
from sertk.results.runs import Held, trained_as
from sertk.results.units import By
from sertk.scoring import scorer as scoring
from sertk.scoring.ensemble import find_stored, scorer_of
from sertk.scoring.inputs import Inputs, of_corpus
from sertk.scoring.outputs import check_folder, write_folder
from sertk.scoring.scorer import Scorer
from sertk.scoring.shared import Fit, LabelMap
from sertk.scoring.speakers import hear
from sertk.scoring.stored import Shelf
from sertk.scoring.system import is_system
from sertk.training import distributed


class _How(NamedTuple):
    """What all cells are scored with.

    Attributes:
        plugins: The registry.
        device: cpu, cuda, cuda:N.
        batch: Utterances at once.
        workers: Threads that read audio ahead.
        names: The label map.
        protocols: Of which the test parts are scored, by corpus.
        by: What is drawn for the intervals.
        ua: The metric.
        out: The folder.
    """

    plugins: Plugins
    device: str
    batch: int
    workers: int
    names: LabelMap
    protocols: dict[str, str]
    by: By
    ua: Measure
    out: Path


class _Part(NamedTuple):
    """What a bundle scores of a corpus.

    Attributes:
        utterances: With their labels.
        fold: Of its own corpus, else "".
        stamps: Of the tests that are looked at; none where all utterances are scored.
    """

    utterances: Sequence[Utterance]
    fold: str
    stamps: Sequence[Document]


class _System(NamedTuple):
    """One bundle, or those of a folder of runs."""

    name: str
    bundles: Sequence[bundle.Opened]


def cross(
    models: Sequence[Path],
    folders: Sequence[Path],
    out: Path,
    *,
    names: Path | None = None,
    protocols: Sequence[str] = (),
    by: By = "speakers",
    device: str = "auto",
    batch: int = 32,
    files: Sequence[Path] = (),
    workers: int = 0,
) -> int:
    """Scores prepared corpora with bundles; writes score lines, a matrix, CSV and a heat map.

    Features are read from the store where all that a bundle scores of a corpus are stored, else they are computed.

    Args:
        models: Bundles; of a folder of runs every bundle scores.
        folders: Prepared corpora.
        out: A folder.
        names: The label map, see `LabelMap`; by default classes of the same name are the same.
        protocols: "CORPUS=NAME": of this corpus the test parts of this protocol are scored, not all utterances.
        by: What is drawn for the intervals.
        device: auto, cpu, cuda, cuda:N.
        batch: Utterances at once.
        files: Plugin files.
        workers: Threads that read audio ahead.

    Returns:
        Inputs that could not be scored; they are in `failed.jsonl` in `out`.

    Raises:
        SertkError: If a bundle or a corpus cannot be read, or nothing of a cell could be scored.
        UsageError: If a bundle and a corpus share no classes, two corpora or systems have one name, or `out` is a
            prepared corpus.
    """
    check_folder(out)
    plugins = Plugins(files=files)
    corpora = {one.corpus: one for one in map(Data, folders)}
    systems = [_system(one, plugins) for one in models]
    twice = [name for name, count in Counter(one.name for one in systems).items() if count > 1]
    if twice or len(corpora) < len(folders):
        raise UsageError(f"{twice[0] if twice else 'a corpus'} is given twice. Give every bundle and corpus once.")
    given = LabelMap.of_file(names)
    known = _protocols(protocols, corpora)
    how = _How(plugins, distributed.device(device), batch, workers, given, known, by, Measures(plugins)["ua"], out)
    for data in corpora.values():
        _check(systems, data, how)  # refused before anything is scored
    failed: list[Record] = []
    cells = [_cell(one, data, how, failed) for one in systems for data in corpora.values()]
    _write(out, cells, failed, how.ua)
    return len(failed)


def _system(folder: Path, plugins: Plugins) -> _System:
    """A bundle, or the bundles of a folder of runs, with a name that readers tell it by."""
    found = sorted(folder.glob("fold=*/seed=*/model")) if is_system(folder) else [folder]
    if not found:
        raise SertkError(f"no run in {folder} has a bundle (fold=F/seed=N/model). Train one first.")
    bundles = [ensemble.opened(one, plugins) for one in found]
    told: Document = trained_as(bundles[0].about)
    if is_system(folder):
        return _System(f"{folder.resolve().name} ({told['corpus']}, {len(bundles)} bundles)", bundles)
    run = folder.resolve()
    run = run.parent if run.name == "model" else run
    own = run.parents[1] if run.name.startswith("seed=") else run
    return _System(f"{own.name} ({told['corpus']}, fold {told['fold']}, seed {told['seed']})", bundles)


def _protocols(asked: Sequence[str], corpora: Mapping[str, Data]) -> dict[str, str]:
    """The protocol of each corpus that has one: "CORPUS=NAME".

    Raises:
        UsageError: If one is of another form, or of a corpus that is not given.
    """
    found = dict(one.partition("=")[::2] for one in asked)
    for corpus, name in found.items():
        if not name:
            raise UsageError(f"--protocol {corpus!r} is not CORPUS=NAME, for example emodb=loso.")
        if corpus not in corpora:
            raise UsageError(f"--protocol names the corpus {corpus!r}{nearest(corpus, corpora)}")
    return found


def _check(systems: Sequence[_System], data: Data, how: _How) -> None:
    """Refuses a map of classes that a corpus does not have, and a corpus that shares no classes with a system."""
    every = [opened for one in systems for opened in one.bundles]
    own = {name for one in every if one.about["protocol"]["corpus"] == data.corpus for name in one.about["classes"]}
    how.names.check(data.corpus, own.union(*(_labels(one, data, how) for one in every)))
    for one in every:
        _fit(one, data, how)


def _labels(opened: bundle.Opened, data: Data, how: _How) -> set[str]:
    """The labels of all of a corpus, as the protocol has them that is scored."""
    own = opened.about["protocol"]
    name = own["name"] if data.corpus == own["corpus"] else how.protocols.get(data.corpus)
    if name is not None:
        return {*data.protocol(name).labels.values()}
    return {one.label for one in data.utterances.values() if one.label is not None}


def _fit(opened: bundle.Opened, data: Data, how: _How) -> Fit:
    own, classes = opened.about["protocol"]["corpus"], opened.about["classes"]
    return Fit.of(how.names, own, classes, data.corpus, _labels(opened, data, how))


def _part(opened: bundle.Opened, data: Data, how: _How, failed: list[Record]) -> _Part:
    """What a bundle scores of a corpus: the test part of its own fold; of another corpus all, or a protocol's tests."""
    if data.corpus == opened.about["protocol"]["corpus"]:
        found = of_corpus(data, opened.about, failed)
        return _Part(found.utterances, str(found.stamp["fold"]), [found.stamp])
    if data.corpus not in how.protocols:
        return _Part(data.select([*data.utterances], failed), "", [])
    folds = data.protocol(how.protocols[data.corpus])
    ids = dict.fromkeys(one for fold in folds.folds.values() for one in fold.test)
    chosen = [replace(one, label=folds.labels[one.id]) for one in data.select([*ids], failed)]
    return _Part(chosen, "", [folds.about(name) for name in folds.folds])


def _cell(system: _System, data: Data, how: _How, failed: list[Record]) -> Cell:
    """Scores a corpus with the bundles of a system.

    Raises:
        SertkError: If nothing could be scored.
    """
    runs, left_out, lost, stamps = list[Held](), dict[str, Counter[str]](), list[Record](), list[Document]()
    by_logits, seen, shelf, ways = 0, set[str](), Shelf(data, how.plugins), set[str]()
    for opened in system.bundles:
        fit, part = _fit(opened, data, how), _part(opened, data, how, lost)
        told: Document = trained_as(opened.about)
        learned = bundle.seen(opened.about)
        chosen = [one for one in part.utterances if one.label in fit.labels]
        left_out[part.fold] = Counter(str(one.label) for one in part.utterances if one.label not in fit.labels)
        seen |= {one.id for one in chosen if data.facts[one.id].sha256[:16] in learned}
        folder = how.out / part_of(system.name) / part_of(data.corpus)
        path = folder / f"fold={part_of(str(told['fold']))}" / f"seed={told['seed']}" / "scores.jsonl"
        stored, where = find_stored(shelf, opened, chosen)
        ways.add(where)
        scorer = scorer_of(opened, how.device, how.plugins, stored)
        by_logits += _score(scorer, chosen, data, fit, path, how, lost, stamps)
        seed = str(told["seed"]) if part.fold else f"fold {told['fold']}, seed {told['seed']}"
        runs.append(Held(part.fold, seed, read_scores(path, fit.shared)))
        for stamp in part.stamps:
            ledger.note(data.folder, stamp, told, None)
    say(f"{system.name} on {data.corpus}: {', '.join(sorted(ways))}")
    failed += [{**one, "system": system.name, "corpus": data.corpus} for one in lost]
    runs, uneven = scored_by_all(runs)
    size = utterances(runs)
    if not size:
        first = f"; the first: {lost[0]['reason']}" if lost else ". It has no utterance of the shared classes there."
        raise SertkError(f"{system.name} scored nothing of {data.corpus}{first}")
    others = sum(left_out.values(), Counter[str]())
    trained = str(system.bundles[0].about["protocol"]["corpus"])
    found = estimate(runs, how.ua.counted, how.by)
    heard = by_speaker(joined_stamp(stamps)) if stamps else ""
    counts = (len({one["id"] for one in lost}), by_logits, len(seen))
    names = (system.name, trained, data.corpus)
    return Cell(*names, fit.shared, runs, size, found, dict(others), *counts, uneven, heard)


def _score(
    scorer: Scorer,
    chosen: Sequence[Utterance],
    data: Data,
    fit: Fit,
    path: Path,
    how: _How,
    failed: list[Record],
    stamps: list[Document],
) -> int:
    """Writes the score lines of utterances in the shared classes; gives how many their logits decided.

    `stamps` gets what a system that is normalised by speaker says of its statistics: it hears the speakers in all of
    these utterances.
    """
    if scorer.bundle.settings.by_speaker:
        known = hear(scorer, Inputs(chosen, data.root, {}), None, how.batch, how.workers)
        scorer.speakers = known.totals
        stamps.append(known.stamp)
    windows = [chosen[first : first + scoring.WINDOW] for first in range(0, len(chosen), scoring.WINDOW)]
    sounds = scorer.sounds(windows, data.root, how.workers if len(windows) > 1 else 0)
    steps = track(zip(windows, sounds, strict=True), len(windows), f"windows of {data.corpus}")
    by_logits = 0
    with writing(path) as file:
        for window, heard in steps:
            lines, none = fit.lines([*scorer.window(window, heard, data.root, how.batch, failed)])
            file.writelines(json_bytes(line, line["id"]) for line in lines)
            by_logits += none
    return by_logits


def _write(out: Path, cells: Sequence[Cell], failed: Sequence[Record], ua: Measure) -> None:
    """Writes and prints the matrix; beside it CSV, heat map and failures."""
    found = pairs(cells, ua)
    text = "\n".join([*cross_table(cells, found, ua), ""])
    write_folder(out, "cross", text, cross_csv(cells, found), failed)
    draw_matrix(out / "cross", cells, ua)
    say(f"wrote {out}: cross.md, cross.csv, a heat map (PNG, SVG, PDF), and score lines by system and corpus")

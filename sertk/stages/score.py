"""Stage 4: a bundle and audio -> a score line for each utterance, and metrics if labels are known."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Literal, NamedTuple

from sertk.console.progress import say, track
from sertk.core import SertkError, UsageError, Utterance
from sertk.core.errors import without_frames
from sertk.core.files import (
    Document,
    Record,
    beside,
    json_bytes,
    read_jsonl,
    scores_file,
    sentence,
    write_json,
    write_jsonl,
    writing,
)
from sertk.corpus import ledger
from sertk.corpus.audit import line_stamp, stamped
from sertk.corpus.prepared import Data
from sertk.modeling import bundle, ensemble
from sertk.plugins import Plugins
from sertk.results.lines import read_counted
from sertk.results.measures import Measures
from sertk.results.runs import trained_as
from sertk.scoring import scorer as scoring
from sertk.scoring.embeddings import BESIDE, place, rows_of, split_off, write
from sertk.scoring.ensemble import find_stored, scorer_of
from sertk.scoring.inputs import Inputs, check_splittable, find_inputs, of_corpus, shard_of
from sertk.scoring.outputs import check_audio, check_files, check_out
from sertk.scoring.over_time import is_table, join, split
from sertk.scoring.parts import Done, Parts, name_of, way
from sertk.scoring.scorer import Scorer
from sertk.scoring.shards import Share, read_shards, share_of, sidecar, write_shard
from sertk.scoring.speakers import Named, enrolled_in, hear, refuse_for
from sertk.scoring.stored import Shelf
from sertk.scoring.system import note, runs_of
from sertk.scoring.texts import with_texts
from sertk.scoring.windows import Cutting
from sertk.training import distributed

Part = Literal["train", "dev", "test"]
Source = Literal["store", "audio"]


class _Shared(NamedTuple):
    """What all bundles of a command are scored with.

    Attributes:
        plugins: The registry.
        measures: Its metrics.
        device: cpu, cuda, cuda:N.
        batch: Utterances at once.
        source: "store" reads features that are stored, where all of them are.
        workers: Threads that read audio ahead.
        ffmpeg: Whether ffmpeg is run for what libsndfile does not read, though the bundle does not say so.
        cutting: How recordings are cut into windows.
        over_time: Where their windows go; None for nowhere.
        embeddings: Where embeddings go; None for nowhere.
        enrolled: Other recordings of the speakers, for systems that are normalised by them.
    """

    plugins: Plugins
    measures: Measures
    device: str
    batch: int
    source: Source
    workers: int
    ffmpeg: bool = False
    cutting: Cutting = Cutting()
    over_time: Path | None = None
    embeddings: Path | None = None
    enrolled: Inputs | None = None


class _Made(NamedTuple):
    """What was scored.

    Attributes:
        classes: Of the bundle.
        about: What metrics.json says of it beside the figures: protocol, trained, took.
        scored: Score lines.
        failed: Inputs that could not be scored.
        labelled: Whether a label is one of the classes.
    """

    classes: Sequence[str]
    about: Record
    scored: int
    failed: int
    labelled: bool

    @property
    def counted(self) -> Record:
        """What a shard says of it beside `about`."""
        return {word: getattr(self, word) for word in ("classes", "scored", "failed", "labelled")}

    @property
    def missing(self) -> str:
        """How many inputs failed, in words; empty if none did."""
        return f"{self.failed} of {self.scored + self.failed}" if self.failed else ""


def _shared(files: Sequence[Path], device: str, batch: int, source: Source, workers: int) -> _Shared:
    plugins = Plugins(files=files)
    return _Shared(plugins, Measures(plugins), distributed.device(device), batch, source, workers)


def score(
    model: Path,
    inputs: Sequence[str],
    out: Path | None,
    *,
    root: Path | None = None,
    protocol: str | None = None,
    fold: str | None = None,
    part: Part = "test",
    shard: str | None = None,
    device: str = "auto",
    batch: int = 32,
    files: Sequence[Path] = (),
    source: Source = "store",
    text: Path | None = None,
    ffmpeg: bool = False,
    windows: str | None = None,
    skip_silence: float | None = None,
    over_time: Path | None = None,
    embeddings: Path | None = None,
    workers: int = 0,
    enrol: str | None = None,
    named: Named = Named(),  # noqa: B008 - it is never changed
) -> int:
    """Scores with a bundle.

    Args:
        model: The bundle.
        inputs: A prepared corpus, a manifest, a folder, audio files, a wav.scp, or "-" for paths on standard input.
        out: scores.jsonl; None prints to standard output.
        root: Where relative paths start.
        protocol: Of a prepared corpus; None takes the bundle's own.
        fold: Likewise.
        part: Of the fold.
        shard: "3/32" scores the third of 32 contiguous stretches of the inputs.
        device: auto, cpu, cuda, cuda:N.
        batch: Utterances at once.
        files: Plugin files.
        source: "store" reads the features of a prepared corpus that are stored, where all of them are.
        text: Transcripts, see `with_texts`; else those of the inputs.
        ffmpeg: Whether ffmpeg is run for what libsndfile does not read, whatever the bundle says.
        windows: "4s:2s" cuts every recording into such windows; None those that the model does not take whole.
        skip_silence: Windows below this power are left out, dB relative to full scale.
        over_time: FILE.jsonl, FILE.csv or a folder for TextGrids, which gets the windows.
        embeddings: FILE.safetensors, which gets a row for each score line; `beside` for the one beside `out`.
        workers: Threads that read audio ahead; with `out` alone.
        enrol: A folder, manifest or wav.scp of other recordings of the speakers, whose statistics a system that is
            normalised by speaker takes; None takes those of what is scored.
        named: How the speakers of the inputs and of `enrol` are found out.

    Returns:
        Inputs that could not be scored; they are in `failed.jsonl` beside `out`.

    Raises:
        SertkError: If the bundle or the inputs cannot be read, or no input could be scored.
        UsageError: If the inputs do not go with each other or with the options, or `out` would overwrite one.
    """
    check_splittable(inputs, shard)
    share: Share | None = None
    embeddings = place(embeddings, out)
    given = [*map(Path, inputs), *ensemble.files(model), *files, *([text] if text else [])]
    check_out(out, given, over_time, embeddings)
    check_files(out, over_time if over_time and is_table(over_time) else None, embeddings)
    cutting = Cutting.of(windows, skip_silence, keep=over_time is not None)
    shared = _shared(files, device, batch, source, workers)._replace(
        ffmpeg=ffmpeg, cutting=cutting, over_time=over_time, embeddings=embeddings
    )
    failed: list[Record] = []
    opened = ensemble.opened(model, shared.plugins)
    found = find_inputs(inputs, opened.about, failed, root=root, protocol=protocol, fold=fold, part=part)
    if out is not None:
        check_audio(out, found)
    if text is not None:
        found = replace(found, utterances=with_texts(found.utterances, text))
    found = replace(found, utterances=named.of(found.utterances))
    if opened.settings.by_speaker:
        refuse_for(
            opened.folder,
            {"--shard": shard, "--windows": windows, "--over-time": over_time, "--skip-silence": skip_silence},
        )
    if enrol is not None:
        shared = shared._replace(enrolled=enrolled_in(enrol, opened, named))
    if shard is not None:
        chosen = shard_of(found.utterances, shard)
        share, found = share_of(shard, found.utterances), replace(found, utterances=chosen)
        if share.number > 1:
            failed.clear()  # what cannot even be listed is named by the first shard alone
    shelf = Shelf(found.data, shared.plugins) if found.data else None
    return _score(opened, found, shelf, out, failed, shared, share)


def score_runs(
    system: Path,
    inputs: Sequence[str],
    *,
    root: Path | None = None,
    folds: str | None = None,
    seeds: str | None = None,
    part: Part = "test",
    device: str = "auto",
    batch: int = 32,
    files: Sequence[Path] = (),
    source: Source = "store",
    embeddings: Path | None = None,
    workers: int = 0,
) -> int:
    """Scores runs of a system, each on its own fold and into its own folder.

    Args:
        system: The folder of its runs, fold=F/seed=N/.
        inputs: The prepared corpus, alone.
        root: The corpus folder, where it is not the one that was prepared.
        folds: Names with commas between them, see `folds_of`; None takes those that are there.
        seeds: As in "0-4", see `seeds_of`; None takes those that are there.
        part: Of each fold; `scores_file` says into which file.
        device: auto, cpu, cuda, cuda:N.
        batch: Utterances at once.
        files: Plugin files.
        source: See `score`.
        embeddings: `beside`; None keeps none.
        workers: See `score`.

    Returns:
        Runs and inputs that could not be scored.

    Raises:
        SertkError: If there is no run, or none could be scored.
        UsageError: On a fold or seed that is none, other inputs, or one file for the embeddings of all runs.
    """
    if len(inputs) > 1:
        raise UsageError("the runs of a system are scored on one prepared corpus: give data/NAME alone.")
    if embeddings not in (None, BESIDE):
        raise UsageError(
            f"--embeddings {embeddings} is one file, and each run has its own. Give `--embeddings beside`: it lies "
            "beside the scores of the run."
        )
    shared, data = _shared(files, device, batch, source, workers), Data(Path(inputs[0]), root)
    runs, shelf = runs_of(system, data, folds, seeds), Shelf(data, shared.plugins)
    left, errors = 0, list[Exception]()
    for run in runs:
        try:
            failed: list[Record] = []
            opened = ensemble.opened(run / "model", shared.plugins)
            found = of_corpus(data, opened.about, failed, part=part)
            out = run / scores_file(part)
            own = shared._replace(embeddings=place(embeddings, out))
            left += _score(opened, found, shelf, out, failed, own)
            note(run, part, None)
        except Exception as error:  # a run can be broken in any way, and ends only itself
            say(f"{run} is not scored: {sentence(error)}")
            note(run, part, error)
            errors.append(without_frames(error))
    if errors:
        say(f"{len(errors)} of {len(runs)} runs are not scored, see above")
    if len(errors) == len(runs):
        raise errors[0]
    return left + len(errors)


def _score(
    opened: bundle.Opened,
    found: Inputs,
    shelf: Shelf | None,
    out: Path | None,
    failed: list[Record],
    shared: _Shared,
    share: Share | None = None,
) -> int:
    """Scores inputs with a bundle, see `score`."""
    stored, where = None, "from audio"
    if shelf and shared.source == "store" and shared.cutting.windows is None:
        stored, where = find_stored(shelf, opened, found.utterances)
    kept, own = shared.embeddings is not None, ensemble.identity(opened.folder)
    scorer = scorer_of(
        opened, shared.device, shared.plugins, stored, shared.cutting, ffmpeg=shared.ffmpeg, embeddings=kept
    )
    found, heard = _with_speakers(scorer, found, shared) if opened.settings.by_speaker else (found, "")
    found = _with_search(opened, found)
    total = len(found.utterances) + len(failed)
    without = sum(not one.transcript for one in found.utterances)
    if scorer.reads_text and without:
        say(f"the model reads transcripts, and {without} of {total} utterances have none")
    if out is None:
        scored = _print(scorer, found, shared, failed, own)
        _note_look(opened, found, None)
        if shelf:
            say(f"{scored} utterances {where}")
        return _told(scored, len(failed), failed)
    origin = "store" if stored else "audio"
    how = way(opened, shared.plugins, shared.device, shared.batch, origin)
    of = (own, str(found.root.resolve()), found.stamp, shared.cutting)
    parts = Parts(out, how, *of, *["embeddings"] * kept, *[heard] * bool(heard))
    for _ in track(_windows(scorer, found, parts, shared), len(found.utterances), "scoring"):
        pass
    took = {"seconds": round(parts.count.seconds, 4), "from": origin, "batch": shared.batch}
    about: Record = {"protocol": dict(found.stamp), "trained": trained_as(opened.about), "took": took}
    about |= {"without_transcript": without} if scorer.reads_text else {}
    classes: Sequence[str] = opened.about["classes"]
    known = any(one.label in classes for one in found.utterances)
    made = _Made(classes, about, parts.count.scored, len(failed) + parts.count.failed, known)
    _spare(out, made, chain(failed, parts.failed()), parts)
    lines = _without(parts.scored(), shared, classes, own)
    values, ua = _write(out, lines, made, None if share else shared.measures)
    _note_look(opened, found, ua)
    say(f"wrote {out}: {made.scored} utterances {where}, {values}{stamped(found.stamp)}")
    first = _write_failed(out, chain(failed, parts.failed()), made)
    if share:
        share = share if scorer.reads_text else share._replace(text="")
        windows = shared.over_time if shared.over_time and is_table(shared.over_time) else None
        said = {"bundle": own, "cutting": shared.cutting.about, **how, **about, **made.counted}
        write_shard(out, share, said, windows, shared.embeddings)
    parts.clear()
    return _told(made.scored, made.failed, first)


def _spare(out: Path, made: _Made, failed: Iterable[Record], parts: Parts) -> None:
    """Leaves earlier score lines as they are where nothing could be scored, and writes why beside them.

    Raises:
        SertkError: There.
    """
    if made.failed and not made.scored and out.is_file() and out.stat().st_size:
        path = beside(out, "unscored", ".jsonl")  # failed.jsonl is of the scores that stay
        first = _listed(path, failed)
        parts.clear()
        raise SertkError(
            f"none of the {made.failed} inputs could be scored, so the earlier {out} stays; why is in {path}, "
            f"the first: {first['reason']}"
        )


def _without(lines: Iterable[bytes], shared: _Shared, classes: Sequence[str], bundle: str) -> Iterator[bytes]:
    """Writes the windows and the embeddings that score lines carry, and gives the lines without them."""
    yield from split_off(split(lines, shared.over_time, classes), shared.embeddings, bundle)
    for path, what in ((shared.over_time, "the windows"), (shared.embeddings, "the embedding")):
        if path:
            say(f"wrote {path}: {what} of each recording")


def _with_speakers(scorer: Scorer, found: Inputs, shared: _Shared) -> tuple[Inputs, str]:
    """Lets a scorer hear the speakers; gives the inputs with the stamp that says so, and a digest of what was heard."""
    listener = scorer
    if shared.enrolled is not None:  # they are not in the store
        listener = Scorer(scorer.folder, shared.device, shared.plugins, ffmpeg=shared.ffmpeg)
    heard = hear(listener, found, shared.enrolled, shared.batch, shared.workers)
    scorer.speakers = heard.totals
    return replace(found, stamp={**found.stamp, "speakers": heard.stamp}), heard.key


def _with_search(opened: bundle.Opened, found: Inputs) -> Inputs:
    """The inputs of a test with a stamp that says how the settings of the bundle were searched, where they were."""
    training: Document = opened.about.get("training") or {}
    searched: Document = training.get("searched") or {}
    if not searched or found.stamp.get("part") != "test":
        return found
    here = {one.known_speaker or "" for one in found.utterances}
    saw = here & set(searched["speakers"]) if searched["corpus"] == found.stamp["corpus"] else set[str]()
    own = {"folds": list(searched["folds"]), "nested": searched["nested"], "saw": sorted(saw)}
    return replace(found, stamp={**found.stamp, "searched": own})


def merge(
    shards: Sequence[Path],
    out: Path,
    *,
    over_time: Path | None = None,
    embeddings: Path | None = None,
    files: Sequence[Path] = (),
) -> int:
    """Puts the shards of one scoring together: score lines, failures and metrics as one run would have written them.

    Args:
        shards: The score lines of each; their failures and windows may be among them.
        out: scores.jsonl.
        over_time: FILE.jsonl or FILE.csv, which gets the windows of all; None joins none.
        embeddings: FILE.safetensors, or `beside`, which gets the embeddings of all; None joins none.
        files: Plugin files.

    Returns:
        Inputs that could not be scored.

    Raises:
        SertkError: If shards are missing, come twice, are of different scorings, or were changed.
        UsageError: If there are none, or `out` is one of them.
    """
    if over_time is not None and not is_table(over_time):
        raise UsageError(
            f"--over-time {over_time} does not go with --merge: only FILE.jsonl and FILE.csv are joined. Of TextGrids "
            "each recording has its own."
        )
    embeddings = place(embeddings, out)
    check_out(out, shards, over_time, embeddings)
    check_files(out, over_time, embeddings)
    found = read_shards(shards)
    if over_time is not None:
        check_out(None, [path for one in found if (path := one.windows_file)], over_time)
        join((one.windows(over_time.suffix) for one in found), over_time)
        say(f"wrote {over_time}: the windows of {len(found)} shards")
    abouts = [one.about for one in found]
    one: Document = abouts[0]
    took = {**one["took"], "seconds": round(sum(about["took"]["seconds"] for about in abouts), 4)}
    about: Record = {"protocol": one["protocol"], "trained": one["trained"], "took": took}
    if "without_transcript" in one:
        about |= {"without_transcript": sum(about["without_transcript"] for about in abouts)}
    scored, failed = (sum(about[word] for about in abouts) for word in ("scored", "failed"))
    made = _Made(one["classes"], about, scored, failed, any(about["labelled"] for about in abouts))
    lines: Iterable[bytes] = chain.from_iterable(shard.lines() for shard in found)
    if embeddings is not None:
        rows = [one.embeddings_file for one in found]
        check_out(None, rows, embeddings=embeddings)
        pairs = zip(lines, chain.from_iterable(map(rows_of, rows)), strict=True)
        lines = write(pairs, embeddings, one["bundle"])
    values, _ = _write(out, lines, made, Measures(Plugins(files=files)))
    say(f"wrote {out}: {scored} utterances of {len(found)} shards, {values}{stamped(one['protocol'])}")
    if embeddings is not None:
        say(f"wrote {embeddings}: the embeddings of {len(found)} shards")
    first = _write_failed(out, chain.from_iterable(shard.failed() for shard in found), made)
    return _told(scored, failed, first)


def _windows(scorer: Scorer, found: Inputs, parts: Parts, shared: _Shared) -> Iterator[None]:
    """Scores what no earlier run has scored, window by window, and yields for each utterance."""
    total, facts = len(found.utterances), found.data.facts if found.data else None
    asked = deque[tuple[Sequence[Utterance], Sequence[Utterance], str, Done | None]]()  # for, and not scored yet

    def unfinished() -> Iterator[Sequence[Utterance]]:
        for first in range(0, total, scoring.WINDOW):
            window = found.utterances[first : first + scoring.WINDOW]
            name = name_of(window, found.root, facts)
            done = parts.find(name)
            asked.append((window, done.left(window) if done else window, name, done))
            yield asked[-1][1]

    again, said, began = 0, False, time.perf_counter()
    workers = shared.workers if total > scoring.WINDOW else 0  # there is nothing to read ahead
    for sounds in scorer.sounds(unfinished(), found.root, workers):
        window, left, name, done = asked.popleft()
        if done:
            again += done.total.scored
        elif again and not said:
            said = True
            say(f"{again} of {total} inputs were done before: goes on behind them")
        if done and not left:
            parts.take(name, done.total)
        else:
            failed, stamp = list[Record](), line_stamp(found.stamp)
            lines: Sequence[Document] = [
                {**line, "stamp": stamp} for line in scorer.window(left, sounds, found.root, shared.batch, failed)
            ]
            seconds = time.perf_counter() - began
            if done:
                lines, seconds = done.joined(window, lines), seconds + done.total.seconds
            parts.put(name, lines, failed, seconds)
        yield from repeat(None, len(window))
        began = time.perf_counter()


def _print(scorer: Scorer, found: Inputs, shared: _Shared, failed: list[Record], own: str) -> int:
    """Prints score lines, says each failure, and gives the number of lines."""
    count = 0
    lines = (
        json_bytes({**line, "stamp": line_stamp(found.stamp)}, line["id"])
        for line in scorer.lines(found.utterances, found.root, shared.batch, failed)
    )
    for line in _without(lines, shared, scorer.bundle.classes, own):
        sys.stdout.write(line.decode())
        count += 1
    for one in failed:
        say(f"failed: {one['reason']}")
    return count


def _note_look(opened: bundle.Opened, found: Inputs, ua: float | None) -> None:
    """Notes in the ledger of a prepared corpus that its test was looked at."""
    if found.data and found.stamp["part"] == "test":
        ledger.note(found.data.folder, found.stamp, trained_as(opened.about), ua)


def _write(out: Path, lines: Iterable[bytes], made: _Made, measures: Measures | None) -> tuple[str, float | None]:
    """Writes score lines and, if they have labels and are no shard's, metrics; gives these in words, and the UA."""
    metrics = beside(out, "metrics", ".json")
    with writing(out) as file:
        file.writelines(lines)
        for old in (metrics, sidecar(out)):  # now, and not where a line is wrong
            old.unlink(missing_ok=True)  # first: beside new scores they would pass for theirs
    if measures is None or not made.labelled:  # a shard's metrics would be taken for the whole's
        return "", None
    # of the lines as they are written, rounded: whoever reads them again gets the same figures
    scores, left = read_counted(out, made.classes)
    if not scores.ids:
        return "", None
    if left:
        which = ", ".join(f"{count} {label}" for label, count in left.items())
        say(f"the figures are without {which}: the bundle's classes are {', '.join(made.classes)}")
    values = measures.figures(scores)
    content = {
        **made.about,
        "utterances": len(scores.ids),
        "failed": made.failed,
        "inputs": made.scored + made.failed,
        "left_out": left,
        "classes": list(made.classes),
        "confusion": scores.confusion.tolist(),
        "metrics": values,
    }
    write_json(metrics, content)
    missing = f", of which {made.missing} inputs are missing" if made.failed else ""
    return f"{measures.words(values)}{missing}, ", values.get("ua")


def _write_failed(out: Path, failed: Iterable[Record], made: _Made) -> list[Record]:
    """Writes the inputs that failed beside `out`, and gives the first of them, if there is one."""
    path = beside(out, "failed", ".jsonl")
    for old in (path, beside(out, "unscored", ".jsonl")):
        old.unlink(missing_ok=True)
    if not made.failed:
        return []
    first = _listed(path, failed)
    say(f"{made.missing} inputs failed, see {path}; the first: {first['reason']}")
    return [first]


def _listed(path: Path, failed: Iterable[Record]) -> Record:
    """Writes inputs that failed, and gives the first of them."""
    write_jsonl(path, failed)
    return next(line for _, line in read_jsonl(path, "Score again."))


def _told(scored: int, failed: int, first: Sequence[Record]) -> int:
    """The number of failures; SertkError where nothing but these came out."""
    if failed and not scored:
        raise SertkError(f"none of the {failed} inputs could be scored; the first: {first[0]['reason']}")
    return failed

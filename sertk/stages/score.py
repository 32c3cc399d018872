"""Stage 4: a bundle and audio -> a score line for each utterance, and metrics if labels are known."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from sertk.console.progress import say, track
from sertk.core import SertkError
from sertk.core.files import Document, Record, write_json, write_jsonl
from sertk.corpus.audit import stamped
from sertk.plugins import Plugins
from sertk.results.lines import labelled, scores_of
from sertk.results.measures import Measures
from sertk.results.runs import trained_as
from sertk.scoring.inputs import check_splittable, find_inputs, shard_of
from sertk.scoring.scorer import Scorer
from sertk.training import distributed


def score(
    model: Path,
    inputs: Sequence[str],
    out: Path | None,
    *,
    root: Path | None = None,
    protocol: str | None = None,
    fold: str | None = None,
    part: Literal["train", "dev", "test"] = "test",
    shard: str | None = None,
    device: str = "auto",
    batch: int = 32,
    files: Sequence[Path] = (),
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

    Returns:
        Inputs that could not be scored; they are in `failed.jsonl` beside `out`.

    Raises:
        SertkError: If the bundle or the inputs cannot be read, or no input could be scored.
        UsageError: If the inputs do not go with each other or with the options.
    """
    check_splittable(inputs, shard)
    plugins = Plugins(files=files)
    scorer = Scorer(model, distributed.device(device), plugins)
    failed: list[Record] = []
    about = scorer.bundle.about
    found = find_inputs(inputs, about, failed, root=root, protocol=protocol, fold=fold, part=part)
    chosen = found.utterances if shard is None else shard_of(found.utterances, shard)
    # each line is stamped: the shards of one run are put together with `cat`
    stamped_lines = scorer.lines(chosen, found.root, batch, failed)
    lines = ({**line, "stamp": found.stamp["stamp"]} for line in stamped_lines)
    if out is None:
        scored = _print(lines)
    else:
        shown = track(lines, len(chosen), "scoring")
        scored = _write(out, shown, about, found.stamp, plugins, whole=shard is None)
    _report_failed(failed, out, len(chosen))
    if failed and not scored:
        raise SertkError(f"none of the {len(failed)} inputs could be scored; the first: {failed[0]['reason']}")
    return len(failed)


def _print(lines: Iterable[Document]) -> int:
    """Prints score lines and gives their number."""
    count = 0
    for line in lines:
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        count += 1
    return count


def _write(
    out: Path,
    lines: Iterable[Record],
    about: Document,
    stamp: Document,
    plugins: Plugins,
    *,
    whole: bool,
) -> int:
    """Writes score lines and, if they are the whole and have labels, metrics; gives the number of lines."""
    done: list[Record] = []
    classes = about["classes"]

    def kept() -> Iterable[Record]:
        for line in lines:
            done.append(line)
            yield line

    metrics = _beside(out, "metrics", ".json")
    metrics.unlink(missing_ok=True)  # first: old metrics beside new scores would pass for theirs
    write_jsonl(out, kept())
    values = ""
    if whole and any(line["label"] in classes for line in done):  # a shard's metrics would be taken for the whole's
        values = _write_metrics(metrics, done, about, stamp, plugins)
    say(f"wrote {out}: {len(done)} utterances, {values}{stamped(stamp)}")
    return len(done)


def _write_metrics(path: Path, lines: Sequence[Document], about: Document, stamp: Document, plugins: Plugins) -> str:
    """Writes the metrics of the lines whose label is a class of the bundle; gives them in words."""
    classes = about["classes"]
    left = dict(Counter(str(line["label"]) for line in lines if line["label"] not in classes))
    if left:
        which = ", ".join(f"{count} {label}" for label, count in left.items())
        say(f"the figures are without {which}: the bundle's classes are {', '.join(classes)}")
    # of the lines as they are written, rounded: whoever reads them again gets the same figures
    scores, measures = scores_of(labelled(lines, classes), classes), Measures(plugins)
    values = measures.figures(scores)
    content = {
        "protocol": dict(stamp),
        "trained": trained_as(about),
        "utterances": len(scores.ids),
        "left_out": left,
        "classes": list(classes),
        "confusion": scores.confusion.tolist(),
        "metrics": values,
    }
    write_json(path, content)
    return f"{measures.words(values)}, "


def _beside(out: Path, what: str, suffix: str) -> Path:
    """The file that goes with scores: scores.jsonl -> metrics.json; anything.jsonl -> anything.metrics.json."""
    return out.with_name(f"{what}{suffix}" if out.stem == "scores" else f"{out.stem}.{what}{suffix}")


def _report_failed(failed: Sequence[Document], out: Path | None, total: int) -> None:
    """Writes the inputs that failed beside `out`, or says each of them if there is no `out`."""
    if out is None:
        for one in failed:
            say(f"failed: {one['reason']}")
        return
    path = _beside(out, "failed", ".jsonl")
    path.unlink(missing_ok=True)
    if failed:
        write_jsonl(path, failed)
        say(f"{len(failed)} of {total} inputs failed, see {path}; the first: {failed[0]['reason']}")

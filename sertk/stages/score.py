"""Stage 4: a bundle and audio -> a score line for each utterance, and metrics where labels are known."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sertk.console.progress import say, track
from sertk.core import SertkError, UsageError, Utterance
from sertk.core.files import read_json, read_jsonl, read_lines, write_json, write_jsonl
from sertk.corpus.audit import stamped
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds
from sertk.modeling import build
from sertk.plugins import Plugins
from sertk.results.statistics import confusion, figures
from sertk.scoring.scorer import Scorer

AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au", ".sph")


@dataclass(frozen=True)
class Inputs:
    """What is scored.

    Attributes:
        utterances: In order; labels are classes of the bundle, or None.
        root: Their paths are relative to it.
        stamp: Where they come from, for the metrics; "unaudited" where no protocol says.
    """

    utterances: Sequence[Utterance]
    root: Path
    stamp: Mapping[str, Any]


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
) -> int:
    """Scores with a bundle.

    Args:
        model: The bundle.
        inputs: A prepared corpus, a manifest, a folder, audio files, a wav.scp, or "-" for paths on standard input.
        out: scores.jsonl; standard output where None.
        root: Where relative paths start.
        protocol: Of a prepared corpus; the bundle's own where None.
        fold: Likewise.
        part: Of the fold.
        shard: "3/32" scores the third of 32 contiguous shares.
        device: auto, cpu, cuda, cuda:N.
        batch: Utterances at once.

    Returns:
        Inputs that could not be scored; they are in `failed.jsonl` beside `out`.

    Raises:
        SertkError: Where the bundle or the inputs cannot be read.
    """
    if "-" in inputs and (shard or len(inputs) > 1):
        raise UsageError(
            "standard input ('-') cannot be shared out or mixed with other inputs: give a list file (wav.scp)."
        )
    plugins = Plugins()
    scorer = Scorer(model, build.device(device), plugins)
    failed: list[dict[str, Any]] = []
    found = _inputs(inputs, scorer, root, protocol, fold, part, failed)
    chosen = found.utterances if shard is None else share(found.utterances, shard)
    # each line is stamped: shares of one run are put together with `cat`
    stamped_lines = scorer.lines(chosen, found.root, batch, failed)
    lines = ({**line, "stamp": found.stamp["stamp"]} for line in stamped_lines)
    scored = 0
    if out is None:
        for scored, line in enumerate(lines, 1):  # noqa: B007 - counted for what follows
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    else:
        shown = track(lines, len(chosen), "scoring")
        scored = _write(out, shown, scorer, found.stamp, plugins, whole=shard is None)
    _tell(failed, out, len(chosen))
    if failed and not scored:
        raise SertkError(f"none of the {len(failed)} inputs could be scored; the first: {failed[0]['reason']}")
    return len(failed)


def share(utterances: Sequence[Utterance], shard: str) -> Sequence[Utterance]:
    """The k-th of n contiguous shares, for "k/n".

    Raises:
        UsageError: Where it is not of that form with 1 <= k <= n.
    """
    k, slash, n = shard.partition("/")
    if not (slash and k.isdigit() and n.isdigit() and 1 <= int(k) <= int(n)):
        raise UsageError(f"--shard {shard!r} is not K/N with 1 <= K <= N, for example 3/32")
    size = len(utterances)
    return utterances[size * (int(k) - 1) // int(n) : size * int(k) // int(n)]


def _write(
    out: Path,
    lines: Iterable[dict[str, Any]],
    scorer: Scorer,
    stamp: Mapping[str, str],
    plugins: Plugins,
    *,
    whole: bool,
) -> int:
    """Writes scores and, of a whole with labels, metrics; gives the number of lines."""
    done: list[dict[str, Any]] = []

    def kept() -> Iterable[dict[str, Any]]:
        for line in lines:
            done.append(line)
            yield line

    metrics = beside(out, "metrics", ".json")
    metrics.unlink(missing_ok=True)  # first: old figures beside new scores would pass for theirs
    write_jsonl(out, kept())
    classes = scorer.bundle.classes
    labelled = [line for line in done if line["label"] in classes]
    if not whole or not labelled:  # a share's figures would be taken for the whole's
        say(f"wrote {out}: {len(done)} utterances, {stamped(stamp)}")
        return len(done)
    left = dict(Counter(str(line["label"]) for line in done if line["label"] not in classes))
    if left:
        which = ", ".join(f"{count} {label}" for label, count in left.items())
        say(f"the figures are without {which}: the bundle's classes are {', '.join(classes)}")
    counts = confusion(((line["label"], line["decision"]) for line in labelled), classes)
    values = figures(counts, plugins)
    content = {
        "protocol": dict(stamp),
        "utterances": len(labelled),
        "left_out": left,
        "classes": list(classes),
        "confusion": counts.tolist(),
        "metrics": values,
    }
    write_json(metrics, content)
    both = ", ".join(f"{name.upper()} {100 * values[name]:.2f}" for name in ("wa", "ua"))
    say(f"wrote {out}: {len(done)} utterances, {both}, {stamped(stamp)}")
    return len(done)


def beside(out: Path, what: str, suffix: str) -> Path:
    """scores.jsonl -> metrics.json; anything.jsonl -> anything.metrics.json."""
    return out.with_name(f"{what}{suffix}" if out.stem == "scores" else f"{out.stem}.{what}{suffix}")


def _tell(failed: Sequence[Mapping[str, Any]], out: Path | None, total: int) -> None:
    path = beside(out, "failed", ".jsonl") if out else None
    if path:
        path.unlink(missing_ok=True)
    if not failed:
        return
    if path:
        write_jsonl(path, failed)
        say(f"{len(failed)} of {total} inputs failed, see {path}; the first: {failed[0]['reason']}")
        return
    for one in failed:
        say(f"failed: {one['reason']}")


def _inputs(
    inputs: Sequence[str],
    scorer: Scorer,
    root: Path | None,
    protocol: str | None,
    fold: str | None,
    part: str,
    failed: list[dict[str, Any]],
) -> Inputs:
    first = Path(inputs[0]) if inputs[0].strip() else Path("?")
    if len(inputs) == 1 and (first / "corpus.json").exists():
        return _of_corpus(Data(first, root), scorer, protocol, fold, part, failed)
    if protocol or fold:
        raise UsageError(f"--protocol and --fold go with a prepared corpus (data/NAME); {inputs[0]} is none.")
    unaudited = {"stamp": "unaudited"}
    if len(inputs) == 1 and first.suffix == ".jsonl":
        return Inputs(_of_manifest(first), root or _manifest_root(first), unaudited)
    if len(inputs) == 1 and first.suffix == ".scp":
        return Inputs(_of_scp(first), root or Path(), unaudited)
    if inputs == ["-"]:
        paths = [line.strip() for line in sys.stdin if line.strip()]
    else:
        paths = [path for name in inputs for path in _files(name)]
    twice = next((path for path, count in Counter(paths).items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice, and score lines go by their ids. Give every file once.")
    return Inputs([Utterance(path, path, "unknown", None) for path in paths], root or Path(), unaudited)


def _files(name: str) -> list[str]:
    if not name.strip():
        raise UsageError(
            "an input is empty text (an unset variable?); give data/NAME, a folder or files, or . for here."
        )
    path = Path(name)
    if not path.is_dir():
        return [name]
    found = sorted(str(one) for one in path.rglob("*") if one.suffix.lower() in AUDIO and not one.name.startswith("."))
    if not found:
        raise SertkError(f"folder {name} holds no audio ({', '.join(AUDIO)}). Give another folder, or the files.")
    return found


def _of_manifest(path: Path) -> list[Utterance]:
    seen: dict[str, Utterance] = {}
    for where, line in read_jsonl(path, "Give a manifest.jsonl as `sertk prepare` writes it."):
        one = Utterance.from_json(line, where)
        if one.id in seen:
            raise SertkError(f"{where}: id {one.id!r} comes twice. Ids must differ; rename one.")
        seen[one.id] = one
    return list(seen.values())


def _manifest_root(path: Path) -> Path:
    about = path.with_name("corpus.json")
    return Path(read_json(about, "")["root"]) if about.exists() else path.parent


def _of_scp(path: Path) -> list[Utterance]:
    """Kaldi's `ID PATH` lines."""
    seen: dict[str, Utterance] = {}
    for number, line in enumerate(read_lines(path, "Give Kaldi's ID PATH lines in UTF-8."), 1):
        name, file = (*line.split(maxsplit=1), "", "")[:2]  # blanks or tabs, as Kaldi
        if not name:
            continue
        file = file.strip()
        if not file or file.endswith("|"):
            what = "a pipe, which would run a command" if file else f"no path behind {name!r}"
            raise SertkError(f"{path}:{number}: {what}. Write ID and PATH of an audio file on each line.")
        if name in seen:
            raise SertkError(f"{path}:{number}: id {name!r} comes twice. Ids must differ; rename one.")
        seen[name] = Utterance(name, file, "unknown", None)
    return list(seen.values())


def _of_corpus(
    data: Data, scorer: Scorer, protocol: str | None, fold: str | None, part: str, failed: list[dict[str, Any]]
) -> Inputs:
    own = scorer.bundle.about["protocol"]
    if data.corpus != own["corpus"] and not (protocol and fold):
        raise UsageError(
            f"the bundle was trained on {own['corpus']}; to score {data.corpus} give --protocol and --fold."
        )
    folds = data.protocol(protocol or own["name"])
    name = fold or own["fold"]
    name = folds.name_of(name)
    chosen = data.select(getattr(folds.fold(name), part), failed)
    utterances = [replace(one, label=folds.labels[one.id]) for one in chosen]
    seen = set(scorer.bundle.about["training"].get("seen", ()))
    met = any(data.facts[one.id].sha256[:16] in seen for one in utterances)
    return Inputs(utterances, data.root, _stamp(folds, name, part, own, met=met))


def _stamp(folds: Folds, fold: str, part: str, own: Mapping[str, Any], *, met: bool) -> dict[str, Any]:
    """Where scores come from; `met` where the weights learned from one of the recordings."""
    stamp = {**folds.about(fold), "part": part}
    if part != "test":
        stamp |= {"stamp": "seen in training", "shares": {}}
    elif met:
        stamp |= {"stamp": "SPEAKER-DEPENDENT", "shares": {**folds.shares, "audio": ["train+test"]}}
    if folds.corpus != own["corpus"]:
        return stamp if met else {**stamp, "stamp": "cross-corpus", "shares": {}}
    if folds.hash != own["hash"] or fold != own["fold"]:
        raise SertkError(
            f"the bundle was trained on fold {own['fold']} of {own['name']} (hash {own['hash']}), these are fold "
            f"{fold} of {folds.name} (hash {folds.hash}): what it trained on may be in them. Score its own fold."
        )
    return stamp

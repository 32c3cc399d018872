"""Stage 2: audio -> feature shards, addressed by content; a rerun computes what is missing."""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sertk.console.progress import say, track
from sertk.core import Feature, Padded, SertkError, Utterance, code_points
from sertk.core.errors import without_frames
from sertk.core.files import SCHEMA, Record, bytes_text, sentence, write_jsonl
from sertk.core.processes import tie
from sertk.corpus import audio
from sertk.corpus.features import Store, address, cached, make_feature, make_features, store, write_shard
from sertk.corpus.prepared import Data
from sertk.modeling.borders import check_finite
from sertk.modeling.build import with_frozen
from sertk.modeling.frontend import compute
from sertk.plugins import Plugins
from sertk.settings.schema import AudioSettings, Component, LossTerm, Settings
from sertk.training import distributed
from sertk.training.assemble import rehearse
from sertk.training.loss import with_losses

CHUNK = 128  # utterances of a shard, at most
SHARD = 256e6  # bytes of a shard, about
TOGETHER = 60.0  # seconds of audio that a feature gets at once, about
ROWS = 16  # utterances that it gets at once, at most


Found = tuple[Utterance, str, Tensor]
"""An utterance, the hash of its content, and its wave or code points."""


class Job(NamedTuple):
    """Utterances that become one shard, with all that a worker needs."""

    root: Path
    folder: Path
    spec: Component
    audio: AudioSettings
    files: tuple[str, ...]
    device: str
    threads: int
    weights: str
    utterances: tuple[Utterance, ...]
    shas: tuple[str, ...]


def featurize(data: Data, settings: Settings, jobs: int, named: Sequence[LossTerm] = ()) -> int:
    """Computes the features of every utterance that are not in their stores.

    Args:
        data: A prepared corpus.
        settings: Of the run; `inputs`, `audio` and `augment` matter, and all are checked.
        jobs: Processes.
        named: The losses that the command line names.

    Returns:
        Utterances without a feature; they are in `failed.jsonl` of its store.

    Raises:
        SertkError: Where a file changed since it was prepared, or a shard cannot be written.
    """
    plugins = Plugins(files=settings.plugins)
    settings, _ = with_losses(plugins, settings, named)
    settings = with_frozen(plugins, settings)
    rehearse(plugins, settings, ())
    data.select(list(data.utterances))  # the store would serve what a changed file was
    names = cached(settings, plugins)
    if not names:
        say("nothing to cache: training computes its inputs as it goes")
        return 0
    features, failed = make_features(plugins, settings), 0
    for name in names:
        shards = store(data.folder, settings, plugins, name, features[name])
        todo = _missing(data, shards)
        if not todo:
            say(f"{name}: nothing to do, {_count(data, shards)} utterances in {shards.folder}")
        else:
            shards.sweep()
            _announce(name, features[name], data, todo, shards)
            chosen = data.select(todo)
            hashes = {one.id: address(shards.reads, one, data.facts) for one in chosen}
            # the longest first and like beside like: little padding, and no long shard left for the end
            chosen.sort(key=lambda one: (-(one.duration or 0.0), one.id))
            longest = max(1.0, data.facts[chosen[0].id].seconds / features[name].frame_seconds)
            size = max(1, min(CHUNK, int(SHARD / (4 * longest * features[name].width))))
            parts = [chosen[i : i + size] for i in range(0, len(chosen), size)]
            plain = _job(data, shards, settings, name, features[name].weights, min(jobs, len(parts)))
            shas = [tuple(hashes[one.id] for one in part) for part in parts]
            work = [plain._replace(utterances=tuple(p), shas=sha) for p, sha in zip(parts, shas, strict=True)]
            # a shard counts as soon as it is there: a kill loses what was under way and no more
            done = track(_run(work, jobs), len(work), f"{name}: shards of {size}")
            failed += _told(name, [*chain.from_iterable(done)], shards, len(todo))
        if todo or not shards.indexed:
            shards.index()
    return failed


def _told(name: str, failed: list[Record], shards: Store, tried: int) -> int:
    """Writes down the utterances that have no feature; gives their number.

    Raises:
        SertkError: Where none of several has one, nor had one before: that is no fault of theirs.
    """
    path = shards.folder / "failed.jsonl"
    path.unlink(missing_ok=True)
    if len(failed) == tried > 1 and not any(shards.folder.glob("*.safetensors")):
        raise SertkError(f"{name}: none of {tried} utterances has a feature; the first: {failed[0]['reason']}")
    if failed:
        write_jsonl(path, failed)
        say(f"{name}: {len(failed)} utterances have no feature, see {path}; the first: {failed[0]['reason']}")
    return len(failed)


def _missing(data: Data, store: Store) -> list[str]:
    """Ids without a feature, one for each content of audio, or each text."""
    first: dict[str, str] = {}
    for name, one in data.utterances.items():
        sha = address(store.reads, one, data.facts)
        if sha and sha not in store:
            first.setdefault(sha, name)
    return list(first.values())


def _count(data: Data, store: Store) -> str:
    """How many utterances have what a store is made of."""
    total = len(data.utterances)
    having = sum(bool(address(store.reads, one, data.facts)) for one in data.utterances.values())
    return str(total) if having == total else f"{having} of {total}"


def _announce(name: str, feature: Feature, data: Data, todo: Sequence[str], store: Store) -> None:
    """Says how much will be written.

    Raises:
        SertkError: Where the disk has less room.
    """
    frames = sum(max(1, math.ceil(data.facts[i].seconds / feature.frame_seconds)) for i in todo)  # of a text 1
    size = frames * feature.width * 4
    what = "utterances" if store.reads == "wave" else "different texts"
    say(f"{name}: {len(todo)} {what}, about {frames} frames of {feature.width}, {bytes_text(size)} into {store.folder}")
    above = next(folder for folder in store.folder.parents if folder.exists())
    free = shutil.disk_usage(above).free
    if size > free:
        raise SertkError(
            f"{name} needs {bytes_text(size)} and {above} has {bytes_text(free)} free. Make room, cache less (one "
            "layer, or pool: mean_std), or give another --out to prepare and --work to the recipe."
        )


def _job(data: Data, shards: Store, settings: Settings, name: str, weights: str, jobs: int) -> Job:
    """What all shards share."""
    threads = max(1, torch.get_num_threads() // jobs)  # a share of those that the environment gives this process
    spec, place = settings.inputs[name], distributed.device(settings.train.device)
    return Job(data.root, shards.folder, spec, settings.audio, settings.plugins, place, threads, weights, (), ())


def _run(work: Sequence[Job], jobs: int) -> Iterator[list[Record]]:
    if jobs < 2 or len(work) < 2:
        yield from map(_shard, work)
        return
    spawn, tied = multiprocessing.get_context("spawn"), (os.getpid(),)
    try:
        with ProcessPoolExecutor(min(jobs, len(work)), spawn, initializer=tie, initargs=tied) as pool:
            yield from pool.map(_shard, work)
    except BrokenProcessPool:
        raise SertkError(
            f"one of {jobs} processes ended without saying why (killed, or out of memory). What was written counts: "
            "run the same command again, with a smaller --nj."
        ) from None


@functools.lru_cache(maxsize=1)
def _feature(spec: str, rate: int, weights: str, files: tuple[str, ...]) -> Feature:
    """The feature of a worker, made once for all its shards.

    Raises:
        SertkError: Where its weights are not those that the store is addressed by.
    """
    made = make_feature(Plugins(files=files), Component(**json.loads(spec)), rate)
    if made.weights != weights:
        raise SertkError(
            f"the weights of {spec} are {made.weights} now and were {weights} a moment ago: the checkpoint changed, or "
            "they are random ones. Run the same command again, with a `source`."
        )
    return made


def _raw(job: Job, reads: str, errors: dict[str, Exception], one: Utterance) -> Tensor | None:
    try:
        if reads == "text":
            return code_points(one.transcript)
        return audio.read(job.root / one.path, one.id, job.audio, one.start, one.duration)
    except Exception as error:  # whatever it is, the other utterances have their features
        errors[one.id] = without_frames(error)
        return None


def _shard(job: Job) -> list[Record]:
    """Writes a shard of the utterances that have a feature; gives {"id", "reason"} of the others."""
    torch.set_num_threads(job.threads)
    feature = _feature(json.dumps(asdict(job.spec)), job.audio.rate, job.weights, job.files)
    errors: dict[str, Exception] = {}
    read = functools.partial(_raw, job, feature.reads, errors)
    tensors: dict[str, torch.Tensor] = {}
    longest = (job.utterances[0].duration or 0.0) if feature.reads == "wave" else 0.0
    size = min(ROWS, max(1, round(TOGETHER / max(longest, 1.0))))
    rows = list(zip(job.utterances, job.shas, strict=True))
    with ThreadPoolExecutor(job.threads) as pool:  # decoding lets go of the interpreter
        for first in range(0, len(rows), size):  # no more audio in memory than the feature gets at once
            part = rows[first : first + size]
            raw = pool.map(read, (one for one, _ in part))
            found = [(one, sha, data) for (one, sha), data in zip(part, raw, strict=True) if data is not None]
            if found:
                tensors |= _features(job, feature, found, errors)
    if tensors:
        write_shard(job.folder, tensors)
    return [{"schema": SCHEMA, "id": name, "reason": sentence(error)} for name, error in errors.items()]


def _features(job: Job, feature: Feature, found: Sequence[Found], errors: dict[str, Exception]) -> dict[str, Tensor]:
    """The features of some utterances by the hashes of their content; tried one by one where together they fail."""
    try:
        with torch.inference_mode():
            frames = compute(feature, Padded.stack([data for *_, data in found]).to(job.device))
        check_finite(feature.who, frames.data[frames.mask])
    except Exception as error:  # whatever it is, the other utterances have their features
        if len(found) > 1:
            parts = [_features(job, feature, [one], errors) for one in found]
            return dict(chain.from_iterable(part.items() for part in parts))
        name = found[0][0].id
        errors[name] = type(error)(f"{name}: {error}") if isinstance(error, SertkError) else without_frames(error)
        return {}
    rows = zip(frames.data.cpu(), frames.length.tolist(), strict=True)
    # a feature may give frames that are the transposed of what it computed, and safetensors writes no such tensor
    own = (row[:n].clone(memory_format=torch.contiguous_format) for row, n in rows)
    return dict(zip((sha for _, sha, _ in found), own, strict=True))

"""Stage 2: audio -> feature shards, addressed by content; a rerun computes what is missing."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sertk import audio
from sertk.console import say, track
from sertk.core import Feature, Padded, UsageError, Utterance
from sertk.data import Data
from sertk.plugins import Plugins, split
from sertk.store import Store, feature_key

CHUNK = 128


class Job(NamedTuple):
    """Utterances that become one shard, with all that a worker needs."""

    root: Path
    folder: Path
    spec: Any
    audio: dict[str, Any]
    utterances: tuple[Utterance, ...]
    shas: tuple[str, ...]


def caches(settings: Mapping[str, Any], plugins: Plugins) -> bool:
    """Whether training reads features from the cache: not those that are fitted, or that follow a changed wave.

    Raises:
        UsageError: Where an augmentation changes the wave in front of a feature and the recipe does not say what to do.
    """
    waves = [
        name
        for name, _ in (split("augmentation", spec) for spec in settings["augment"])
        if "wave" in plugins.factory("augmentation", name).touches  # type: ignore[attr-defined]
    ]
    if waves and settings["on_augment"] != "recompute":
        raise UsageError(
            f"augmentation {waves[0]!r} changes the wave, and the features are cached before it: it would do nothing. "
            "Set on_augment: recompute (--set on_augment=recompute) to compute them anew in every epoch."
        )
    fitted = any(_factory(plugins, spec).fit is not Feature.fit for spec in settings["inputs"].values())
    return not waves and not fitted


def _factory(plugins: Plugins, spec: Any) -> type[Feature]:  # noqa: ANN401
    factory: type[Feature] = plugins.entry("feature", split("feature", spec)[0]).factory  # type: ignore[assignment]
    return factory


def stores(data: Path, settings: Mapping[str, Any], plugins: Plugins) -> dict[str, Store]:
    """The store of each input, below a prepared corpus."""
    versions = {
        n: plugins.entry("feature", split("feature", spec)[0]).version for n, spec in settings["inputs"].items()
    }
    return {
        name: Store(data / "feats" / feature_key(spec, settings["audio"], versions[name]))
        for name, spec in settings["inputs"].items()
    }


def featurize(data: Data, settings: Mapping[str, Any], jobs: int) -> None:
    """Computes the features of every utterance that are not in their stores.

    Args:
        data: A prepared corpus.
        settings: Of the run; `inputs`, `audio` and `augment` matter.
        jobs: Processes.

    Raises:
        SertkError: Where a file changed since it was prepared, or a shard cannot be written.
    """
    plugins = Plugins()
    data.select(list(data.utterances))  # the store would serve what a changed file was
    if not caches(settings, plugins):
        say("nothing to cache: a changed wave or a fitted feature comes in between, so training computes as it goes")
        return
    for name, store in stores(data.folder, settings, plugins).items():
        spec = settings["inputs"][name]
        todo = _missing(data, store)
        if not todo:
            say(f"{name}: nothing to do, {len(data.facts)} utterances in {store.folder}")
            continue
        plugins.make("feature", spec, settings["audio"]["rate"])  # a wrong setting is said before any process starts
        chosen = data.select(todo)
        parts = [chosen[i : i + CHUNK] for i in range(0, len(chosen), CHUNK)]
        work = [_job(data, store, spec, settings, part) for part in parts]
        for shard in track(_run(work, jobs), len(work), f"{name}: shards of {CHUNK}"):
            store.index([shard])  # after each shard: a kill loses what was under way and no more
        say(f"{name}: {len(chosen)} utterances computed into {store.folder}")


def _missing(data: Data, store: Store) -> list[str]:
    """Ids without a feature, one for each audio content."""
    first: dict[str, str] = {}
    for one, fact in data.facts.items():
        if fact.sha256 not in store:
            first.setdefault(fact.sha256, one)
    return list(first.values())


def _job(data: Data, store: Store, spec: Any, settings: Mapping[str, Any], part: Sequence[Utterance]) -> Job:  # noqa: ANN401
    shas = tuple(data.facts[one.id].sha256 for one in part)
    return Job(data.root, store.folder, spec, dict(settings["audio"]), tuple(part), shas)


def _run(work: Sequence[Job], jobs: int) -> Iterator[dict[str, str]]:
    if jobs < 2 or len(work) < 2:
        yield from map(_shard, work)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_shard, work)


def _shard(job: Job) -> dict[str, str]:
    feature: Feature = Plugins().make("feature", job.spec, job.audio["rate"])
    tensors = {}
    for sha, one in zip(job.shas, job.utterances, strict=True):
        wave = audio.read(job.root / one.path, one.id, job.audio, one.start, one.duration)
        frames = feature(Padded(wave[None], torch.tensor([len(wave)])))
        tensors[sha] = frames.data[0, : int(frames.length[0])].contiguous()
    return Store(job.folder).write(tensors)

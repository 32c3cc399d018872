"""The features of a run, and those on disk: safetensors shards and an index, addressed by the content of the audio."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sertk.core import Backbone, Feature, Padded, SertkError, UsageError, Utterance
from sertk.core.files import SCHEMA, abandoned, digest, read_jsonl, size_of, write_jsonl, writing
from sertk.core.forms import Form, fits
from sertk.corpus.audio import Facts
from sertk.plugins import Plugins
from sertk.settings.plain import plain, run_part
from sertk.settings.schema import Component, Settings
from sertk.settings.values import component_of

COMPUTE = ("sertk", "soxr", "tokenizers", "torch", "torchaudio", "transformers")
"""What reads the audio and computes the features; a part that computes with another library has it in `weights`."""
INDEX = Form({"sha256": str, "shard": str})
"""A line of index.jsonl."""
IN_MEMORY = 1e9
"""Bytes of an input's features that a process keeps in memory: the statistics of 60,000 utterances over all layers of
Whisper-tiny, and less than training an encoder takes. More than these are read as they come."""


def make_features(
    plugins: Plugins, settings: Settings, shared: Mapping[str, Feature] = MappingProxyType({})
) -> dict[str, Feature]:
    """The features by input name.

    Args:
        plugins: The registry.
        settings: Of the run.
        shared: Those that are made already, see `share_features`.

    Raises:
        UsageError: On an unknown name or setting, or a name that is kept for waves and texts as they are read.
    """
    made: dict[str, Feature] = {}
    for name, spec in settings.inputs.items():
        with settings.located(f"inputs.{name}"):
            made[name] = shared[name] if name in shared else make_feature(plugins, spec, settings.audio.rate)
    for name, feature in made.items():
        own = "wave's" if name == "wave" else "transcript's" if name == "text" else ""
        if own and (feature.reads != name or (feature.cached and type(feature).fit is Feature.fit)):
            raise UsageError(f"the input name {name!r} is the {own} own; give this feature another name in `inputs`.")
    return made


def reads_of(plugins: Plugins, spec: Component) -> str:
    """What a feature is made of, "wave" or "text", before it is made: its setting `reads`, or what its class says."""
    factory: Any = plugins.factory("feature", spec.name)
    return str(spec.settings.get("reads", getattr(factory, "reads", "wave")))


def share_features(plugins: Plugins, settings: Settings) -> dict[str, Feature]:
    """The features by input name that all runs of a process can share.

    Not those that are fitted, for each run fits its own. And not those that draw random numbers when they are made:
    what is made after them, with the same generator, would have other first weights in the second run.
    """
    shared: dict[str, Feature] = {}
    for name, spec in settings.inputs.items():
        before = torch.random.get_rng_state()
        made = make_features(plugins, replace(settings, inputs={name: spec}))[name]
        if type(made).fit is Feature.fit and torch.equal(torch.random.get_rng_state(), before):
            shared[name] = made
    return shared


def make_feature(plugins: Plugins, spec: Component, rate: int) -> Feature:
    """One feature, for waves of a rate in Hz."""
    made: Feature = plugins.make("feature", spec, rate)
    return made


def portable(spec: Component, made: Feature | Backbone) -> Component:
    """A component with what it says of itself in the place of settings that name a place of this machine."""
    return Component(spec.name, overlaid(spec.settings, made.portable()))


def overlaid(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """Settings with others laid over them, at any depth; a component that is text is its name."""
    merged = dict(below)
    for word, value in above.items():
        under = merged.get(word)
        under = component_of(under) if isinstance(under, str) and isinstance(value, Mapping) else under
        merged[word] = overlaid(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def cached(settings: Settings, plugins: Plugins) -> tuple[str, ...]:
    """The inputs that training reads from the cache: not those that are fitted, or that follow a changed wave.

    What is made of transcripts does not depend on the wave.

    Raises:
        UsageError: Where an augmentation changes the wave in front of a feature and the recipe does not say what to do.
    """
    kept = []
    for name, spec in settings.inputs.items():
        with settings.located(f"inputs.{name}"):
            factory: Any = plugins.factory("feature", spec.name)
        if factory.cached and factory.fit is Feature.fit:
            kept.append(name)
    with settings.located("augment"):
        touching: Any = {one.name: plugins.factory("augmentation", one.name) for one in settings.augment}
    waves = [name for name, factory in touching.items() if "wave" in factory.touches]
    texts = tuple(name for name in kept if reads_of(plugins, settings.inputs[name]) == "text")
    if len(kept) > len(texts) and waves and settings.on_augment != "recompute":
        raise UsageError(
            f"{settings.at('augment')}augmentation {waves[0]!r} changes the wave, and the features are cached before "
            "it: it would do nothing. "
            "Set on_augment: recompute (--set on_augment=recompute) to compute them again in every epoch."
        )
    return texts if waves else tuple(kept)


def stores(
    data: Path, settings: Settings, plugins: Plugins, shared: Mapping[str, Feature] = MappingProxyType({})
) -> dict[str, Store]:
    """The store of each input that is cached, below a prepared corpus; `shared` as in `make_features`."""
    names = cached(settings, plugins)
    features = make_features(plugins, settings, shared) if names else {}
    return {name: store(data, settings, plugins, name, features[name]) for name in names}


def store(data: Path, settings: Settings, plugins: Plugins, name: str, made: Feature) -> Store:
    """The store of one input: its key is all that the feature depends on beside the audio itself.

    What is stored under another key is never read: after an upgrade features are computed again, and the folders of the
    old keys can be deleted.
    """
    spec = plain(portable(settings.inputs[name], made))  # without the place of its weights
    parts = {f"{kind} {word}": plugins.entry(kind, word) for kind, word in plugins.inside("feature", spec)}
    key = {
        "feature": spec,
        "audio": run_part(settings.audio),
        "parts": {part: [x.distribution, x.version, getattr(x.factory, "revision", 1)] for part, x in parts.items()},
        "versions": {library: version(library) for library in COMPUTE},
        "weights": made.weights,
    }
    return Store(data / "feats" / digest(key), made.reads, made.width)


def address(reads: str, one: Utterance, facts: Mapping[str, Facts]) -> str:
    """Where a store has the feature of an utterance: the hash of the audio or the text; empty where there is no text.

    Args:
        reads: "wave" or "text".
        one: The utterance.
        facts: Of the audio, by utterance id.
    """
    if reads == "wave":
        return facts[one.id].sha256
    return hashlib.sha256(one.transcript.encode()).hexdigest() if one.transcript else ""


class Store:
    """`data/<corpus>/feats/<key>/`: a tensor for each audio content hash, or that of a text.

    A shard appears whole or not at all, under a name made of its content's hashes, and says itself what it holds: so
    any number of processes write side by side without locks, and a shard counts from the moment it is there. The index
    only saves opening every one of them.

    Args:
        folder: The store's folder; it need not exist.
        reads: What its features are made of.
        width: Of the features.
    """

    def __init__(self, folder: Path, reads: str = "wave", width: int = 0) -> None:
        self.folder, self.reads, self.width = folder, reads, width
        self._sound = set[str]()  # content hashes whose features were compared with their checksums

    @cached_property
    def _shards(self) -> dict[str, str]:
        """The shard of each audio content hash, as they are when it is first asked for."""
        here = {path.name for path in self.folder.glob("*.safetensors")}
        lines = read_jsonl(self.folder / "index.jsonl", "Delete it: it is made again.", INDEX) if self.indexed else ()
        shards: dict[str, str] = {x["sha256"]: x["shard"] for _, x in lines if x["shard"] in here}
        for name in here - set(shards.values()):
            shards.update(dict.fromkeys(_open(str(self.folder / name))[0].keys(), name))
        return shards

    def __contains__(self, sha: object) -> bool:
        return sha in self._shards

    def __getitem__(self, sha: str) -> Tensor:
        """(T, D) of a content hash; of no frame where the hash is empty, for a text that is lacking.

        Raises:
            SertkError: Where it is not in the store, or its shard is gone.
        """
        if not sha:
            return torch.zeros(0, self.width)
        if sha not in self._shards:
            what = f"the feature of {'audio' if self.reads == 'wave' else self.reads} {sha[:12]}"
            raise SertkError(f"{self.folder} lacks {what}. Run `sertk featurize` again.")
        path = self.folder / self._shards[sha]
        shard, sums = _open(str(path))
        try:
            tensor: Tensor = shard.get_tensor(sha)
        except SafetensorError as error:
            raise _damaged(path, error) from None
        if sha not in self._sound:
            if sums is not None and sums.get(sha) != checksum(sha, tensor):
                raise _damaged(path, f"the feature of {sha[:12]} is not what was written")
            self._sound.add(sha)
        return tensor

    def stack(self, shas: Sequence[str]) -> Padded:
        """(B, T, D) of B content hashes; raises SertkError as `[]` does."""
        return Padded.stack([self[sha] for sha in shas])

    def loaded(self, shas: Iterable[str], most: float = IN_MEMORY) -> Store | Loaded:
        """The features of some content in memory, where their shards have `most` bytes at most; else the store."""
        wanted = {sha: self._shards[sha] for sha in shas if sha in self}
        size = sum((self.folder / shard).stat().st_size for shard in set(wanted.values()))
        return Loaded({sha: self[sha] for sha in wanted}, self) if size <= most else self

    @property
    def indexed(self) -> bool:
        """Whether there is an index."""
        return (self.folder / "index.jsonl").exists()

    def index(self) -> None:
        """Writes down which shard holds what, of all that are there now."""
        self._shards = Store(self.folder)._shards  # as they are now
        lines = ({"schema": SCHEMA, "sha256": sha, "shard": shard} for sha, shard in sorted(self._shards.items()))
        write_jsonl(self.folder / "index.jsonl", lines)

    def sweep(self) -> None:
        """Deletes what a killed process left unfinished."""
        for path in self.folder.glob(".*"):
            with contextlib.suppress(FileNotFoundError):  # its writer was quicker
                if abandoned(path):
                    path.unlink()


class Loaded:
    """Features in memory. Where each of them is one frame, a batch is taken out of one matrix.

    Args:
        features: (T, D) by content hash; each D the same.
        store: Where others are.
    """

    def __init__(self, features: Mapping[str, Tensor], store: Store) -> None:
        self._store, self.reads, self.folder = store, store.reads, store.folder
        self._place = {sha: place for place, sha in enumerate(features)}
        self._rows = list(features.values())
        one = all(len(row) == 1 for row in self._rows)
        self._matrix = torch.stack(self._rows) if one and self._rows else None  # (U, 1, D)

    def __contains__(self, sha: object) -> bool:
        return sha in self._place or sha in self._store

    def stack(self, shas: Sequence[str]) -> Padded:
        """(B, T, D) of B content hashes; raises SertkError as the store does."""
        if not self._place.keys() >= {*shas} - {""}:
            return self._store.stack(shas)
        if self._matrix is None or "" in shas:
            empty = self._rows[0][:0]  # of a text that is lacking
            return Padded.stack([self._rows[self._place[sha]] if sha else empty for sha in shas])
        places = [self._place[sha] for sha in shas]
        return Padded(self._matrix.index_select(0, torch.tensor(places)), torch.ones(len(places), dtype=torch.int64))


def write_shard(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes one shard of a store with a checksum of each feature, whole or not at all."""
    sums = {sha: checksum(sha, tensor) for sha, tensor in tensors.items()}
    with writing(folder / f"{digest(sorted(tensors))}.safetensors") as file:
        # one entry, for safetensors writes several in any order, and a shard has the same bytes in every run
        file.write(save(dict(tensors), {"sums": json.dumps({"schema": "2", **sums}, sort_keys=True)}))


def checksum(sha: str, tensor: Tensor) -> str:
    """16 hex digits of a feature as it lies in its shard: its name, its type, its shape and its values."""
    found = hashlib.sha256(f"{sha} {tensor.dtype} {[*tensor.shape]}\n".encode())
    found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def _damaged(path: Path, why: object) -> SertkError:
    return SertkError(f"feature shard {path}: {why}. Delete its folder and run `sertk featurize` again.")


@functools.lru_cache(maxsize=256)
def _open(path: str) -> tuple[Any, Mapping[str, str] | None]:
    """A shard, and the checksums of its features; None in a shard of an older sertk, which has none.

    Raises:
        SertkError: Where it cannot be read.
    """
    size_of(Path(path), "Delete its folder and run `sertk featurize` again.")
    try:
        shard = safe_open(path, "pt")
        told = shard.metadata()  # type: ignore[no-untyped-call]
        sums = None if told is None else json.loads(told["sums"])
    except (KeyError, OSError, ValueError, SafetensorError) as error:
        raise _damaged(Path(path), error) from None
    if sums is not None and not fits(sums, Mapping[str, str]):
        raise _damaged(Path(path), "its checksums are no texts")
    return shard, sums

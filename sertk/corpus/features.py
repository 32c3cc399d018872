"""Features on disk: safetensors shards and an index, addressed by the content of the audio."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from sertk.core import SertkError
from sertk.core.files import SCHEMA, digest, read_jsonl, write_jsonl, writing


def feature_key(spec: object, audio: Mapping[str, Any], versions: Sequence[str], weights: str) -> str:
    """16 hex digits of everything that a feature depends on beside the audio itself.

    Args:
        spec: The feature's name and settings, without the place of its weights.
        audio: `audio` of the settings.
        versions: Distributions that compute it, each with its version.
        weights: Hash of the pretrained weights.
    """
    return digest({"feature": spec, "audio": dict(audio), "versions": list(versions), "weights": weights})


class Store:
    """`data/<corpus>/feats/<key>/`: a tensor for each audio content hash.

    A shard appears whole or not at all, under a name made of its content's hashes, and says itself what it holds: so
    any number of processes write side by side without locks, and a shard counts from the moment it is there. The index
    only saves opening every one of them.

    Args:
        folder: The store's folder; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        here = {path.name for path in folder.glob("*.safetensors")}
        lines = read_jsonl(folder / "index.jsonl", "Delete it: it is made again.") if self.indexed else ()
        self._shards: dict[str, str] = {x["sha256"]: x["shard"] for _, x in lines if x["shard"] in here}
        for name in here - set(self._shards.values()):
            self._shards.update(dict.fromkeys(_open(str(folder / name)).keys(), name))

    def __contains__(self, sha: object) -> bool:
        return sha in self._shards

    def __getitem__(self, sha: str) -> Tensor:
        """(T, D) of an audio content hash.

        Raises:
            SertkError: Where it is not in the store, or its shard is gone.
        """
        if sha not in self._shards:
            raise SertkError(f"{self.folder} lacks the feature of audio {sha[:12]}. Run `sertk featurize` again.")
        tensor: Tensor = _open(str(self.folder / self._shards[sha])).get_tensor(sha)
        return tensor

    @property
    def indexed(self) -> bool:
        """Whether there is an index."""
        return (self.folder / "index.jsonl").exists()

    def index(self) -> None:
        """Writes down which shard holds what, of all that are there now."""
        self._shards = Store(self.folder)._shards
        lines = ({"schema": SCHEMA, "sha256": sha, "shard": shard} for sha, shard in sorted(self._shards.items()))
        write_jsonl(self.folder / "index.jsonl", lines)

    def sweep(self, hours: float = 1.0) -> None:
        """Deletes what a killed process left unfinished; what is younger may be somebody's work."""
        for path in self.folder.glob(".*"):
            with contextlib.suppress(FileNotFoundError):  # its writer was quicker
                if time.time() - path.stat().st_mtime > 3600 * hours:
                    path.unlink()


def write_shard(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes one shard of a store, whole or not at all."""
    with writing(folder / f"{digest(sorted(tensors))}.safetensors") as file:
        file.write(save(dict(tensors)))


@functools.lru_cache(maxsize=256)
def _open(path: str) -> Any:  # noqa: ANN401 - safetensors has no types
    try:
        return safe_open(path, "pt")
    except (OSError, ValueError) as error:
        raise SertkError(f"feature shard {path}: {error}. Delete its folder and run `sertk featurize` again.") from None

"""Features on disk: safetensors shards and an index, addressed by the content of the audio."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from sertk.core import SertkError
from sertk.core.paths import SCHEMA, digest, read_jsonl, write_jsonl, writing


def feature_key(spec: object, audio: Mapping[str, Any], version: str) -> str:
    """16 hex digits of everything that a feature depends on beside the audio itself.

    Args:
        spec: The feature's name and settings.
        audio: `audio` of the settings.
        version: Version of the distribution that computes it.
    """
    return digest({"feature": spec, "audio": dict(audio), "version": version})


class Store:
    """`data/<corpus>/feats/<key>/`: a tensor for each audio content hash.

    Shards have names made of their content's hashes, so writers need no locks; the index is written last.

    Args:
        folder: The store's folder; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards: dict[str, str] = {}
        if (folder / "index.jsonl").exists():
            self._shards = {line["sha256"]: line["shard"] for _, line in read_jsonl(folder / "index.jsonl", "")}

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

    def write(self, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        """Writes one shard, whole or not at all, and says in which file each hash is; `index` makes it count."""
        name = f"{digest(sorted(tensors))}.safetensors"
        with writing(self.folder / name) as file:
            file.write(save(dict(tensors)))
        return dict.fromkeys(tensors, name)

    def index(self, shards: Sequence[Mapping[str, str]]) -> None:
        """Adds shards to the index."""
        for shard in shards:
            self._shards.update(shard)
        lines = ({"schema": SCHEMA, "sha256": sha, "shard": shard} for sha, shard in sorted(self._shards.items()))
        write_jsonl(self.folder / "index.jsonl", lines)


@functools.lru_cache(maxsize=256)
def _open(path: str) -> Any:  # noqa: ANN401 - safetensors has no types
    try:
        return safe_open(path, "pt")
    except (OSError, ValueError) as error:
        raise SertkError(f"feature shard {path}: {error}. Delete its folder and run `sertk featurize` again.") from None

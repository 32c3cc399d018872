"""Shards of one scoring: what each says of itself in NAME.shard.json, and how they are put together again."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from sertk.core import SertkError, UsageError, Utterance
from sertk.core.files import Document, Record, beside, kind_of, read_json, read_jsonl, sha256_of, size_of, write_json
from sertk.core.forms import Form

MEND = "Score that shard again: `sertk score BUNDLE INPUT --shard K/N --out FILE`."
FORM = Form(
    {
        **dict.fromkeys(("number", "of", "scored", "failed"), int),
        **dict.fromkeys(("inputs", "sha256", "bundle"), str),
        **dict.fromkeys(("protocol", "trained"), Mapping[str, Any]),
        "took": Form({"seconds": float}),
        "classes": list[str],
        "labelled": bool,
    },
    {
        "without_transcript": int,
        **dict.fromkeys(("windows", "embeddings"), Form({"file": str, "sha256": str})),
        "batch": int,
        **dict.fromkeys(("text", "device", "from"), str),
        **dict.fromkeys(("plugins", "versions", "cutting"), Mapping[str, Any]),
    },
)
"""What a shard says of itself."""
SAME = {
    **{"of": "numbers of shards", "bundle": "bundles", "inputs": "lists of inputs", "protocol": "folds"},
    **{"text": "transcripts", "device": "devices", "batch": "batch sizes", "from": "sources of features"},
    **{"plugins": "plugins", "versions": "versions", "cutting": "ways to cut recordings"},
}
"""What all shards of one scoring have in common, and what it is called where they differ."""

LISTED = attrgetter(*(field.name for field in fields(Utterance) if field.name != "text"))


class Share(NamedTuple):
    """Which part of the inputs is scored.

    Attributes:
        number: From 1.
        of: How many there are.
        inputs: Digest of all inputs as they are listed, in order.
        text: Digest of their transcripts.
    """

    number: int
    of: int
    inputs: str
    text: str


def share_of(shard: str, utterances: Sequence[Utterance]) -> Share:
    """The share that "k/n" means, of all utterances; "k/n" was checked by `shard_of`."""
    number, of = map(int, shard.split("/"))
    found, texts = hashlib.sha256(), hashlib.sha256()
    for one in utterances:
        found.update(ascii(LISTED(one)).encode())
        texts.update(ascii(one.text).encode())
    return Share(number, of, found.hexdigest()[:16], texts.hexdigest()[:16])


@dataclass(frozen=True)
class Shard:
    """A shard that was scored.

    Attributes:
        path: Its score lines.
        about: What NAME.shard.json says.
    """

    path: Path
    about: Document

    def lines(self) -> Iterator[bytes]:
        """Its score lines.

        Raises:
            SertkError: Where they are missing, or not those that were written.
        """
        return _as_written(self.path, self.about["sha256"])

    @property
    def windows_file(self) -> Path | None:
        """Where its windows are, if they are in one file."""
        own = self.about.get("windows")
        return self.path.parent / own["file"] if own else None

    def windows(self, suffix: str) -> Iterator[bytes]:
        """The lines of its windows.

        Args:
            suffix: What the name of their file must end in.

        Raises:
            SertkError: If there is no such file, it ends in another suffix, or it is not as it was written.
        """
        path = self.windows_file
        if path is None:
            raise SertkError(f"{self.path} was scored without --over-time FILE: it has no windows to join. {MEND}")
        if path.suffix != suffix:
            raise SertkError(f"the windows of {self.path} are in {path}. Give --over-time FILE{path.suffix}.")
        return _as_written(path, self.about["windows"]["sha256"])

    @property
    def embeddings_file(self) -> Path:
        """Where its embeddings are.

        Raises:
            SertkError: If it was scored without, or the file is not as it was written.
        """
        own = self.about.get("embeddings")
        if own is None:
            raise SertkError(f"{self.path} was scored without --embeddings: it has none to join. {MEND}")
        path = self.path.parent / str(own["file"])
        size_of(path, MEND)  # raises if it is gone
        if sha256_of(path) != own["sha256"]:
            raise SertkError(f"{path} was changed or cut short since it was scored. {MEND}")
        return path

    def failed(self) -> Iterator[Record]:
        """Its failures.

        Raises:
            SertkError: Where they are not as many as it says.
        """
        path, count = beside(self.path, "failed", ".jsonl"), 0
        for _, line in read_jsonl(path, MEND) if self.about["failed"] else ():
            yield line
            count += 1
        if count != self.about["failed"]:
            raise SertkError(f"{path} has {count} lines for {self.about['failed']} failures. {MEND}")


def _as_written(path: Path, sha256: str) -> Iterator[bytes]:
    """The lines of a file. Its checksum is known, and compared, behind the last one."""
    found = hashlib.sha256()
    size_of(path, MEND)  # raises if it is gone
    with path.open("rb") as file:
        for line in file:
            found.update(line)
            yield line
    if found.hexdigest() != sha256:
        raise SertkError(f"{path} was changed or cut short since it was scored. {MEND}")


def sidecar(out: Path) -> Path:
    """The file in which a shard says what it is."""
    return beside(out, "shard", ".json")


def write_shard(
    out: Path, share: Share, about: Document, windows: Path | None = None, embeddings: Path | None = None
) -> None:
    """Writes what a shard is, once its score lines, its windows and its embeddings are written.

    Args:
        out: Its score lines.
        share: Which share of the inputs.
        about: What else is known of it.
        windows: The file of its windows; None if there is none.
        embeddings: Likewise.
    """
    content: Record = {**share._asdict(), "sha256": sha256_of(out), **about}
    for word, path in (("windows", windows), ("embeddings", embeddings)):
        if path:
            content[word] = {"file": os.path.relpath(path, out.parent), "sha256": sha256_of(path)}
    write_json(sidecar(out), content)


def read_shards(paths: Sequence[Path]) -> list[Shard]:
    """All shards of one scoring in their order; of out/*.jsonl the failures and the windows are left out.

    Raises:
        UsageError: If there is none.
        SertkError: If a file is no shard, they are of different scorings, one is missing or comes twice, or what failed
            in one is not listed.
    """
    lists = (".failed.jsonl", ".unscored.jsonl")
    files = [one for one in paths if not f".{one.name}".endswith(lists) or sidecar(one).exists()]
    if not files:
        raise UsageError("--merge needs the score lines of all shards, for example out/scores.*.jsonl.")
    known = [_shard(one) for one in files if sidecar(one).exists()]
    windows = {path.resolve() for one in known if (path := one.windows_file)}
    files = [one for one in files if one.resolve() not in windows]
    odd = next((one for one in files if not sidecar(one).exists()), None)
    if odd is not None:
        raise SertkError(
            f"{odd} is no shard: it is {kind_of(odd)}, and {sidecar(odd).name} does not lie beside it. Give the "
            f"files that shards were scored into, with those beside them. {MEND}"
        )
    shards = [_shard(one) for one in files]
    _check_same(shards)
    places: dict[int, Shard] = {}
    for one in shards:
        other = places.setdefault(one.about["number"], one)
        if other is not one:
            raise SertkError(
                f"{other.path} and {one.path} are both shard {one.about['number']}/{one.about['of']}. Leave one out."
            )
    number = shards[0].about["of"]
    lacking = [str(k) for k in range(1, number + 1) if k not in places]
    if lacking:
        more = ", ..." if len(lacking) > 10 else ""
        raise SertkError(f"of {number} shards {len(lacking)} are missing: {', '.join(lacking[:10])}{more}. {MEND}")
    for one in shards:  # before anything is written
        deque(one.failed(), maxlen=0)
    return [places[k] for k in sorted(places)]


def _shard(path: Path) -> Shard:
    return Shard(path, read_json(sidecar(path), MEND, FORM))


def _check_same(shards: Iterable[Shard]) -> None:
    first, *others = shards
    for one in others:
        for key, what in SAME.items():
            mine, theirs = (shard.about.get(key) for shard in (first, one))  # an older sertk does not say them all
            if mine == theirs:
                continue
            if isinstance(mine, dict) and isinstance(theirs, dict):
                mine, theirs = ({n: x[n] for n in x if mine.get(n) != theirs.get(n)} for x in (mine, theirs))
            raise SertkError(
                f"{first.path} and {one.path} are of different {what} ({mine} and {theirs}). "
                f"Shards of one scoring go together. {MEND}"
            )

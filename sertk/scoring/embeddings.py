"""Embeddings of scored utterances: one file of safetensors, a row a score line.

A score line carries its embedding until it is written: so it is kept with it where a run is killed and goes on.
"""

from __future__ import annotations

import hashlib
import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sertk.core import InputError, SertkError, UsageError
from sertk.core.files import SCHEMA, Record, embeddings_file, json_bytes, kind_of, parse_json, size_of, writing

KEY = "embedding"
BESIDE = Path("beside")
"""What a user gives for the file beside the scores."""
HEAD = 512
"""Bytes before the first row. What stands there is known when the last row is written."""
AT_ONCE = 1024
"""Rows that are read at once."""
GIVE = "Make it again: `sertk score BUNDLE INPUT --out FILE --embeddings FILE.safetensors`."


class Embeddings(NamedTuple):
    """What a file says.

    Attributes:
        ids: Of the N utterances, in the order of their score lines.
        rows: (N, E) float32; they are read from the file when they are used.
        bundle: Identity of the bundle, see `sertk.modeling.bundle.identity`.
        scores: SHA-256 of the score lines.
    """

    ids: list[str]
    rows: Tensor
    bundle: str
    scores: str


def place(given: Path | None, out: Path | None) -> Path | None:
    """The file that `--embeddings` means.

    Args:
        given: FILE.safetensors, or BESIDE; None for none.
        out: The file of score lines; None where they are printed.

    Raises:
        UsageError: If it is of another form, there is nothing that it could lie beside, or it is a file of something
            else, such as the weights of a model.
    """
    if given == BESIDE:
        if out is None:
            raise UsageError("--embeddings beside needs --out: the file lies beside the score lines.")
        given = embeddings_file(out)
    if given is None:
        return None
    if given.suffix != ".safetensors":
        raise UsageError(f"--embeddings {given} is not FILE.safetensors, and not `beside`.")
    if given.is_file() and not _is_ours(given):
        raise UsageError(f"--embeddings would overwrite {given}, which holds no embeddings. Give another file.")
    return given


def carried(name: str, embedding: Tensor) -> Record:
    """What a score line carries of the embedding of its utterance.

    Args:
        name: Its id.
        embedding: (E,) float32.

    Raises:
        InputError: If it has values that are not finite.
    """
    if not embedding.isfinite().all():
        raise InputError(f"{name}: the model gives it an embedding that is not finite. Look at its audio.")
    return {KEY: b64encode(embedding.numpy().astype("<f4").tobytes()).decode()}


def split_off(lines: Iterable[bytes], path: Path | None, bundle: str) -> Iterator[bytes]:
    """Writes the embeddings that score lines carry, and gives the lines without them.

    Args:
        lines: Score lines.
        path: FILE.safetensors; None where lines carry no embedding.
        bundle: Its identity.
    """
    if path is None:
        yield from lines
        return
    yield from write(map(_apart, lines), path, bundle)


def _apart(line: bytes) -> tuple[bytes, bytes]:
    content = json.loads(line)
    row = b64decode(content.pop(KEY))
    return json_bytes(content, content["id"]), row


def write(lines: Iterable[tuple[bytes, bytes]], path: Path, bundle: str) -> Iterator[bytes]:
    """Writes embeddings while their score lines pass by.

    Args:
        lines: Score lines, each with the bytes of its row.
        path: FILE.safetensors.
        bundle: Its identity.

    Yields:
        The score lines.
    """
    count, width, names, scores = 0, 0, bytearray(b"["), hashlib.sha256()
    with writing(path) as file:
        file.write(bytes(HEAD))
        for line, row in lines:
            names += b"," * (count > 0) + json.dumps(json.loads(line)["id"]).encode()
            count, width = count + 1, len(row) // 4
            scores.update(line)
            file.write(row)
            yield line
        names += b"]"
        file.write(names)
        file.seek(0)
        file.write(_head(count, width, len(names), {"bundle": bundle, "scores": scores.hexdigest()}))


def _head(count: int, width: int, names: int, about: Record) -> bytes:
    """How a file of safetensors begins: the size of the header, and the header, filled with blanks."""
    end = 4 * count * width
    content = {
        "__metadata__": {"schema": str(SCHEMA), **about},
        "embeddings": {"dtype": "F32", "shape": [count, width], "data_offsets": [0, end]},
        "ids": {"dtype": "U8", "shape": [names], "data_offsets": [end, end + names]},
    }
    size = HEAD - 8
    return struct.pack("<Q", size) + json.dumps(content).encode().ljust(size)


def read(path: Path) -> Embeddings:
    """The embeddings of a file.

    Raises:
        SertkError: If it is missing, or not what `--embeddings` writes.
    """
    size_of(path, GIVE)
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            rows, names = file.get_tensor("embeddings"), file.get_tensor("ids")
        ids = parse_json(names.numpy().tobytes().decode())
        fine = rows.dim() == 2 and len(ids) == len(rows) and about["schema"] == str(SCHEMA)
        found = Embeddings(ids, rows, about["bundle"], about["scores"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        fine = False
    if not fine:
        raise SertkError(f"{path} is {kind_of(path)}, and not what --embeddings writes. {GIVE}")
    return found


def rows_of(path: Path) -> Iterator[bytes]:
    """The bytes of each row of a file that `write` wrote."""
    with safe_open(path, "np") as file:
        rows = file.get_slice("embeddings")
        count, _ = rows.get_shape()
        for first in range(0, count, AT_ONCE):
            yield from (row.tobytes() for row in rows[first : min(count, first + AT_ONCE)])


def _is_ours(path: Path) -> bool:
    try:
        with safe_open(path, "np") as file:
            return {*file.keys()} == {"embeddings", "ids"}
    except (SafetensorError, OSError):
        return False

"""The ledger of a prepared corpus: which settings have looked at its tests.

Who tries many settings and reports the best on test reports chance to some part. The ledger counts them. It is a lower
bound: a copy of the corpus, a deleted folder or another tool leaves no line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sertk.console.progress import say
from sertk.core import SertkError
from sertk.core.files import SCHEMA, Document, Record, json_bytes, read_jsonl
from sertk.core.forms import Form

NAME = "ledger.jsonl"
WORDS = ("hash", "fold", "settings", "trained", "seed")
"""What makes a run of a test: the protocol, its fold, the settings, the protocol that it was trained on, the seed."""
LOOK = ("settings", "trained")
"""What makes a look: folds and seeds of the same settings are one."""
FORM = Form({"hash": str}, {"settings": str | None, "trained": str})
DELETE = "Delete that line."


def note(data: Path, stamp: Document, trained: Document, ua: float | None) -> None:
    """Adds a line for a run whose test was scored, once a run; where it cannot, it warns.

    Args:
        data: The prepared corpus.
        stamp: Protocol, hash and fold of what was scored.
        trained: See `trained_as`.
        ua: 0 to 1; None where it is not known, as of a shard.
    """
    made: Record = {
        "schema": SCHEMA,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "protocol": stamp["name"],
        "hash": stamp["hash"],
        "fold": stamp["fold"],
        "system": trained["system"],
        "settings": trained["settings"],
        "trained": trained["hash"],
        "seed": trained["seed"],
        "ua": ua,
    }
    path = data / NAME
    try:
        if any(all(one.get(word) == made[word] for word in WORDS) for one in _lines(path)):
            return
        # one write of a whole line: processes may add to the file at the same time
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, json_bytes(made, path))
        finally:
            os.close(file)
    except (OSError, SertkError) as error:
        say(f"warning: this look at the test is not in {path} ({error}).")


def looks(data: Path, protocol: str) -> int:
    """How many different settings have looked at the tests of a protocol.

    Args:
        data: The prepared corpus.
        protocol: Its hash.

    Raises:
        SertkError: If the ledger cannot be read.
    """
    found = (one for one in _lines(data / NAME) if one["hash"] == protocol)
    return len({tuple(one.get(word) for word in LOOK) for one in found})


def _lines(path: Path) -> Iterator[Record]:
    if path.exists():
        yield from (line for _, line in read_jsonl(path, DELETE, FORM))

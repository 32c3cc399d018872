"""Finished windows of score lines, kept beside their output: a run that was killed goes on where it was.

Each window is a file in a hidden folder, written whole or not at all, with its checksum in front. Its name is a digest
of the utterances and of the state of their files, the folder's name one of all else that lines follow from: what was
made of anything else is never taken, nor what is not as it was written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from glob import escape
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import soundfile
import torch

from sertk.console.progress import say
from sertk.core import SertkError, Utterance
from sertk.core.files import STALE, Document, Record, digest, json_bytes, writing
from sertk.corpus.audio import Facts
from sertk.corpus.features import COMPUTE
from sertk.modeling import bundle
from sertk.modeling.ensemble import computed_by
from sertk.plugins import Plugins
from sertk.scoring import scorer
from sertk.scoring.packed import FIELDS

PARTS = ".parts"


class Count(NamedTuple):
    """What a window came to: the line behind the checksum of its file.

    Attributes:
        scored: Score lines, which follow first.
        failed: Lines of failures, which follow last.
        seconds: That it took.
    """

    scored: int = 0
    failed: int = 0
    seconds: float = 0.0

    def plus(self, other: Count) -> Count:
        """Both together."""
        return Count(self.scored + other.scored, self.failed + other.failed, self.seconds + other.seconds)


class Done(NamedTuple):
    """A window that is finished.

    Attributes:
        total: What it came to.
        scored: Its score lines.
        failed: Lines of its failures, which may pass.
    """

    total: Count
    scored: Sequence[bytes]
    failed: Sequence[bytes]

    def left(self, window: Sequence[Utterance]) -> list[Utterance]:
        """Those of the window that failed: they are tried again, and nothing else is."""
        ids = {json.loads(line)["id"] for line in self.failed}
        return [one for one in window if one.id in ids]

    def joined(self, window: Sequence[Utterance], lines: Sequence[Document]) -> list[Document]:
        """The score lines of the window, in its order, with those of what was tried again."""
        found: dict[str, Document] = {line["id"]: line for line in (*map(json.loads, self.scored), *lines)}
        return [found[one.id] for one in window if one.id in found]


class Parts:
    """The finished windows of an output.

    Args:
        out: The file of score lines.
        key: All that lines follow from but for the utterances, anything that JSON can say.

    Attributes:
        count: What all windows came to.
    """

    def __init__(self, out: Path, *key: object) -> None:
        self._out = out
        self._folder = out.with_name(f".{out.name}.{digest(ascii([scorer.WINDOW, *key]))}{PARTS}")
        self._names = list[str]()
        self.count = Count()

    def find(self, name: str) -> Done | None:
        """A window that is finished already."""
        try:
            return self._read(name)
        except FileNotFoundError:
            return None
        except ValueError as error:
            say(f"{error}, so its inputs are scored again")
            return None

    def _read(self, name: str) -> Done:
        """A window that is finished.

        Raises:
            FileNotFoundError: Where it is not finished.
            ValueError: Where its file is not as it was written.
        """
        path = self._folder / name
        sha256, _, rest = path.read_bytes().partition(b"\n")
        if sha256.decode(errors="replace") != hashlib.sha256(rest).hexdigest():
            raise ValueError(f"{path} was changed or cut short since it was written")
        first, *lines = rest.splitlines(keepends=True)
        count = Count(*json.loads(first))
        return Done(count, lines[: count.scored], lines[count.scored :])

    def take(self, name: str, count: Count) -> None:
        """Adds a window that is finished already."""
        self._add(name, count)

    def put(self, name: str, lines: Sequence[Document], failed: Sequence[Document], seconds: float) -> None:
        """Writes a window, and adds it."""
        count = Count(len(lines), len(failed), round(seconds, 4))
        each = [f"{json.dumps(count)}\n".encode(), *(json_bytes(line, line["id"]) for line in (*lines, *failed))]
        content = b"".join(each)
        with writing(self._folder / name) as file:
            file.write(f"{hashlib.sha256(content).hexdigest()}\n".encode() + content)
        self._add(name, count)

    def _add(self, name: str, count: Count) -> None:
        self._names.append(name)
        self.count = self.count.plus(count)

    def scored(self) -> Iterator[bytes]:
        """The score lines of all windows, in order."""
        for one in self._windows():
            yield from one.scored

    def failed(self) -> Iterator[Record]:
        """The failures of all windows, in order."""
        for one in self._windows():
            yield from map(json.loads, one.failed)

    def _windows(self) -> Iterator[Done]:
        for name in self._names:
            try:
                yield self._read(name)
            except FileNotFoundError:
                raise SertkError(
                    f"{self._folder}/{name} is gone: another run of the same command has just finished. Run it again, "
                    "or take what that one wrote."
                ) from None
            except ValueError as error:
                raise SertkError(f"{error}. Run the command again: its inputs are scored again.") from None

    def clear(self) -> None:
        """Deletes them: what they were made for is written. So are those of killed runs that nobody went on with."""
        shutil.rmtree(self._folder, ignore_errors=True)
        old = time.time() - STALE
        for one in self._out.parent.glob(f".{escape(self._out.name)}.*{PARTS}"):
            if one.name.count(".") == self._folder.name.count(".") and one.stat().st_mtime < old:
                shutil.rmtree(one, ignore_errors=True)


def way(found: bundle.Opened, plugins: Plugins, device: str, batch: int, source: str) -> Record:
    """What the figures of score lines follow from, beside the bundle and the inputs.

    Args:
        found: The bundle.
        plugins: The registry.
        device: cpu, cuda, cuda:N.
        batch: Utterances at once.
        source: "store" or "audio".
    """
    return {
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "batch": batch,
        "from": source,
        "plugins": computed_by(found, plugins),
        "versions": {
            **{name: version(name) for name in COMPUTE},
            "libsndfile": soundfile.__libsndfile_version__,
            "float32 products": torch.get_float32_matmul_precision(),
        },
    }


def name_of(utterances: Sequence[Utterance], root: Path, facts: Mapping[str, Facts] | None) -> str:
    """Digest of utterances and of the state of their files.

    Args:
        utterances: A window of them.
        root: Their paths are relative to it.
        facts: What `prepare` wrote down of them, if it did: their files were compared with it.
    """
    states = [facts[one.id].sha256 if facts else _state(root / one.path) for one in utterances]
    return digest(ascii([(FIELDS(one), state) for one, state in zip(utterances, states, strict=True)]))


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns

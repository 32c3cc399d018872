"""Files as the design wants them: written whole or not at all, JSON with a schema."""

from __future__ import annotations

import contextlib
import csv
import errno
import functools
import hashlib
import io
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sertk.core.errors import InputError, SertkError
from sertk.core.forms import SHOWN, Form, shown

BLANKS = re.compile(r"[ \t]+")
SCHEMA = 1
Document = Mapping[str, Any]
"""What a JSON file, or a line of one, says; its keys are fixed by what wrote it. Settings are no documents: they have
types, see `sertk.settings`."""
Record = dict[str, Any]
"""A document that is being made."""
NEW = ".new"
"""How a hidden file ends that is being written."""
WRITTEN = re.compile(r"\.(?P<home>[0-9a-f]{8})-(?P<process>\d+)-\w+\.new$")
"""How its name says who writes it."""
STALE = 3600.0
"""Seconds after which a file that is being written, and has not grown, is what a killed run left."""
LINE = 2**24
"""Characters of a line that is read: 16 million, as the votes of no utterance are."""
DOCUMENT = 2**30
"""Bytes of a JSON document that is read: 1 GB, as the folds of ten million utterances."""


def part_of(name: str) -> str:
    """A name as part of a path: separators are spelled, as in URLs."""
    return name.replace("%", "%25").replace("/", "%2F").replace("\\", "%5C")


def name_of_part(part: str) -> str:
    """The name behind a part of a path, as it was before `part_of` spelled it."""
    return part.replace("%5C", "\\").replace("%2F", "/").replace("%25", "%")


def scores_file(part: str) -> str:
    """The name of the file in a run folder that has the scores of a part."""
    return "scores.jsonl" if part == "test" else f"{part}.jsonl"


def beside(scores: Path, what: str, suffix: str) -> Path:
    """The file that goes with scores: scores.jsonl -> metrics.json; anything.jsonl -> anything.metrics.json."""
    return scores.with_name(f"{what}{suffix}" if scores.stem == "scores" else f"{scores.stem}.{what}{suffix}")


def embeddings_file(scores: Path) -> Path:
    """The file of embeddings that lies beside scores: embeddings.safetensors, train.embeddings.safetensors."""
    return beside(scores, "embeddings", ".safetensors")


def explain(error: OSError, path: Path) -> SertkError:
    """An operating system's error about a file that is written, as a sentence with the next step."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return SertkError(
            f"No room to write {path} ({error.strerror}). Nothing written before is lost: free space and rerun."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SertkError(
            f"Cannot write {path} ({error.strerror}). Choose a writable folder (--out, --work) or change its rights."
        )
    return SertkError(
        f"{path}: {error.strerror or error}. Check the path: an output is a file in a folder that can be made."
    )


def unreadable(error: OSError | ValueError, path: Path, mend: str) -> SertkError:
    """An error about a file that is read, as a sentence with the next step."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SertkError(f"{path} is missing. {mend}")
    if isinstance(error, PermissionError):
        return SertkError(
            f"Cannot read {path} ({error.strerror}). Change its rights, and those of its folders: chmod u+rX PATH."
        )
    why = error.strerror if isinstance(error, OSError) else error
    return SertkError(f"Cannot read {str(path)!a} ({why}). {mend}")


def sentence(error: Exception) -> str:
    """Any error as a sentence with the next step."""
    if isinstance(error, SertkError):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError":
        return "the GPU has no memory left. Lower train.batch (and raise train.accumulate), or score's --batch."
    if isinstance(error, OSError):
        path = Path(str(error.filename or "a file"))
        if error.errno in (errno.EACCES, errno.EPERM):  # what is written says so itself, see `writing`
            return f"No right to use {path} ({error.strerror}). Change its rights (chmod), or choose another."
        return str(explain(error, path))
    return (
        f"{type(error).__name__}: {error}. This is a bug of sertk or of a plugin: run again with `sertk --debug ...`."
    )


def check_replaceable(path: Path) -> None:
    """Refuses to write to what is no file: a device or a pipe would be replaced by one.

    Raises:
        SertkError: If it is a folder, a pipe or a device.
    """
    if path.exists() and not path.is_file():
        raise SertkError(f"{path} is a folder, a pipe or a device, and not a file that is written. Give a FILE.")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Opens a hidden sibling for writing and, when all went well, makes it durable and renames it to `path`.

    What killed runs left in its folder is swept, see `abandoned`.

    Raises:
        SertkError: Where the file cannot be written (rights, space); what was there before stays.
    """
    try:
        check_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        prefix = f".{path.name}.{_home()}-{os.getpid()}-"
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=NEW, dir=path.parent)
    except OSError as error:
        raise explain(error, path) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename not in (None, name, str(path.parent)):  # of what is read while this is written
            raise unreadable(error, Path(os.fsdecode(error.filename)), "Then run the command again.") from error
        raise explain(error, path) from error
    finally:
        Path(name).unlink(missing_ok=True)


@functools.cache
def _home() -> str:
    """This machine since it was started, and its space of process numbers: containers have one each; 8 hex digits."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
        return digest([started, Path("/proc/self/ns/pid").stat().st_ino], 8)
    except OSError:  # no Linux
        return digest(platform.node(), 8)


def _sweep(path: Path) -> None:
    """Deletes hidden siblings that killed runs left: of ended processes, and of `path` after an hour."""
    with os.scandir(path.parent) as entries:
        left = [Path(one.path) for one in entries if one.name.startswith(".") and one.name.endswith(NEW)]
    start = f".{path.name}."
    for one in left:
        with contextlib.suppress(OSError):  # another run has swept it, or it is not ours
            if abandoned(one, aged=one.name.startswith(start) and one.name.count(".", len(start)) == 1):
                one.unlink()


def abandoned(path: Path, *, aged: bool = True) -> bool:
    """Whether nobody writes to a hidden file any more.

    Of a file of this machine the process that wrote it tells. Another one may be somebody's work until it has not
    grown for an hour.

    Args:
        path: The file.
        aged: Whether the hour counts.
    """
    own = WRITTEN.search(path.name)
    if own and own["home"] == _home():
        return not _runs(int(own["process"]))
    return aged and path.lstat().st_mtime < time.time() - STALE


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def link(there: Path, path: Path) -> bool:
    """Gives a file a second name, `path`, where the file system allows it; says whether it did.

    Of a symbolic link that is the file behind it: the link itself may lead nowhere from there.
    Such a file is never written in place, for its other names would change too: `writing` makes a new one.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(os.path.realpath(there))
        _sync_folder(path.parent)
    except OSError:
        return False
    return True


def put_folder(fresh: Path, folder: Path) -> None:
    """Puts a complete folder in the place of another, which goes last: a kill loses neither of them."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with writing(path) as file:
        file.write(text_bytes(text))


def write_json(path: Path, content: Document) -> None:
    """Writes a JSON document with its schema number, whole or not at all.

    Raises:
        SertkError: Where it holds a number that is not finite; see also `writing`.
    """
    with writing(path) as file:
        file.write(document_bytes(path, content))


def write_jsonl(path: Path, lines: Iterable[Document]) -> None:
    """Writes JSON lines, whole or not at all.

    Raises:
        SertkError: Where a line holds a number that is not finite; see also `writing`.
    """
    with writing(path) as file:
        file.writelines(lines_bytes(path, lines))


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV, each ended by a line feed alone."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def text_bytes(text: str) -> bytes:
    """What `write_text` writes."""
    return text.encode(errors="backslashreplace")  # a root may have a name that is not UTF-8


def document_bytes(path: Path, content: Document) -> bytes:
    """What `write_json` writes."""
    return json_bytes({"schema": SCHEMA, **content}, path, indent=1)


def lines_bytes(path: Path, lines: Iterable[Document]) -> Iterator[bytes]:
    """What `write_jsonl` writes, line by line."""
    return (json_bytes(line, f"{path}:{number}") for number, line in enumerate(lines, 1))


def renew(path: Path, make: Callable[[], bytes | Iterable[bytes]], before: Callable[[], None] = lambda: None) -> None:
    """Writes a file whole or not at all, and not where it holds just that already: it stays in its place.

    Args:
        path: The file.
        make: Gives what it is to hold, whole or in pieces; asked twice where it changes.
        before: Called where it changes, before it does.
    """
    if not _holds(path, _pieces(make())):
        before()
        with writing(path) as file:
            file.writelines(_pieces(make()))


def _pieces(content: bytes | Iterable[bytes]) -> Iterable[bytes]:
    return [content] if isinstance(content, bytes) else content


def _holds(path: Path, content: Iterable[bytes]) -> bool:
    try:
        with path.open("rb") as file:
            return all(file.read(len(piece)) == piece for piece in content) and not file.read(1)
    except FileNotFoundError:
        return False


def json_bytes(content: Document, where: object, indent: int | None = None) -> bytes:
    """A document in strict JSON and UTF-8, with a line feed; half of a surrogate pair (of a file name) is spelled.

    Args:
        content: The document.
        where: What it is of, for the error.
        indent: Blanks a level; None for one line.

    Raises:
        SertkError: Where it holds NaN or infinity, which JSON has no word for.
    """
    try:
        text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        odd = next((f"{name} is {value!r}" for name, value in content.items() if not _finite(value)), str(error))
        raise SertkError(f"{where}: {odd[:200]}, and JSON has finite numbers alone. Nothing is written.") from None
    return f"{text}\n".encode(errors="backslashreplace")


def _finite(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def bytes_text(count: float) -> str:
    """A number of bytes as it is shown: "812 bytes", "3.4 MB"."""
    for power, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= power:
            return f"{count / power:.1f} {unit}"
    return f"{count:.0f} bytes"


def size_of(path: Path, mend: str) -> int:
    """Bytes of a file that is to be read.

    Raises:
        SertkError: If it cannot be read, or is not a file: a pipe would block, a device may never end.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise unreadable(error, path, mend) from None
    if not stat.S_ISREG(found.st_mode):
        raise SertkError(f"{path} is a folder, a pipe or a device, and not a file. {mend}")
    return found.st_size


def kind_of(path: Path) -> str:
    """What a file is, as an error says it: "JSON lines with schema, id, path", "a table with id,start,end"."""
    if not path.exists():
        return "missing"
    if not path.is_file():
        return "a folder, a pipe or a device"
    with path.open("rb") as file:
        head = file.read(2**16)
    try:
        first = head.partition(b"\n")[0].decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return "no text"
    try:
        content = parse_json(first)
    except ValueError:
        words = (
            "JSON" if first[:1] in ("{", "[") else f"a table with {first}" if "," in first or "\t" in first else "text"
        )
        return _short(words)
    return _short(f"JSON lines with {', '.join(content)}" if isinstance(content, dict) else "JSON")


def _short(words: str) -> str:
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}..."


def read_bytes(path: Path, mend: str, most: int | None = None) -> bytes:
    """The content of a file.

    Args:
        path: The file.
        mend: The next step, for the error.
        most: Bytes that it may have; None for any number.

    Raises:
        SertkError: Where it cannot be read, see `size_of`, or has more.
    """
    size = size_of(path, mend)
    if most is not None and size > most:
        raise SertkError(f"{path} has {size} bytes, and {most} are read at most. {mend}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(error, path, mend) from None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    """What a JSON text says.

    Raises:
        ValueError: If it is not JSON, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, mend: str, form: Form | None = None, *, newer: bool = False) -> Record:
    """Reads a JSON document of this schema.

    Args:
        path: The file.
        mend: The next step, for the error.
        form: What its keys must be.
        newer: Whether a newer schema is read too: the caller knows which keys it may have.

    Raises:
        SertkError: Where it is missing, no file, too large, not JSON, of a newer schema, or of another form.
    """
    try:
        content = parse_json(read_bytes(path, mend, DOCUMENT).decode())
    except ValueError as error:
        raise SertkError(f"{path} is not JSON ({error}). {mend}") from None
    number = content.get("schema") if isinstance(content, dict) else None
    known = isinstance(number, int) and (number == SCHEMA or (newer and number > SCHEMA))
    if not known or isinstance(number, bool):
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise SertkError(f"{path} has schema {shown(found)}; this sertk reads schema {SCHEMA}. {mend}")
    fault = form.fault(content) if form else ""
    if fault:
        raise SertkError(f"{path}: {fault}. {mend}")
    return content  # type: ignore[no-any-return] # looked at above


def read_jsonl(path: Path, mend: str, form: Form | None = None) -> Iterator[tuple[str, Record]]:
    """Yields ("file:line", object) of a JSON-lines file.

    Args:
        path: The file.
        mend: The next step, for the error.
        form: What the keys of each line must be.

    Raises:
        SertkError: Where the file is missing, or no file.
        InputError: On a line that is not a JSON object, or of another form.
    """
    for number, line in enumerate(each_line(path, mend), 1):
        try:
            content = parse_json(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}: not JSON ({error}). {mend}") from None
        if not isinstance(content, dict):
            raise InputError(f"{path}:{number}: not a JSON object. {mend}")
        fault = form.fault(content) if form else ""
        if fault:
            raise InputError(f"{path}:{number}: {fault}. {mend}")
        yield f"{path}:{number}", content


def read_lines(path: Path, mend: str) -> list[str]:
    """The lines of a UTF-8 file, with a mark or without, cut at line feeds alone: a text may hold other separators.

    Raises:
        SertkError: Where it is missing, no file, or not UTF-8, or a line is too long.
    """
    return list(each_line(path, mend))


def each_line(path: Path, mend: str) -> Iterator[str]:
    """The lines that `read_lines` gives, one at a time: a file may have millions."""
    size_of(path, mend)
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(iter(lambda: file.readline(LINE), ""), 1):
                if len(line) == LINE:
                    raise SertkError(f"{path}:{number}: the line is longer than {LINE} characters. {mend}")
                yield line.removesuffix("\n")
    except OSError as error:
        raise unreadable(error, path, mend) from None
    except UnicodeDecodeError as error:
        raise SertkError(f"{path} is not UTF-8 ({error}). {mend}") from None


def kaldi_lines(path: Path, mend: str) -> Iterator[tuple[str, str, str]]:
    """The `KEY VALUE` lines of a file of Kaldi's, one at a time: where, key and value.

    Spaces and tabs separate, as in Kaldi: a no-break space is a part of a word. A blank line has an empty key.

    Args:
        path: Of the file, in UTF-8.
        mend: The next step, for the error.

    Raises:
        SertkError: See `each_line`.
    """
    for number, line in enumerate(each_line(path, mend), 1):
        key, *rest = BLANKS.split(line.strip(" \t\r"), maxsplit=1)
        yield f"{path}:{number}", key, "".join(rest)


def digest(content: object, size: int = 16) -> str:
    """Hex digest of anything JSON can say, independent of the order of keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:size]  # names need not be UTF-8

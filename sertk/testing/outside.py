"""Contracts of what touches the world: corpora and launchers."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from sertk.core import (
    OVERLAPS,
    PAIRS,
    Corpus,
    Disjoint,
    FoldTable,
    Launcher,
    Protocol,
    Rejected,
    SertkError,
    Stratified,
    Utterance,
)
from sertk.corpus.folding import read_table
from sertk.testing.cases import BrokenError, Check, Subject, require

AUDIO: Final = (".wav", ".flac")

# ---------------------------------------------------------------- corpora


def corpus_protocols(subject: Subject) -> None:
    """Every protocol is well-formed: a label map, folds with something to test, a fold rule."""
    corpus: Corpus = subject.make()
    require(len(corpus.protocols) > 0, f"{subject.what} has no protocol; it has at least one.")
    for name, protocol in corpus.protocols.items():
        what = f"{subject.what}, protocol {name!r}"
        require(name == Path(name).name, f"{what}: it names a file, so it holds no '/'.")
        require(len(protocol.about) > 0, f"{what}: `about` is empty; it must be one sentence with the source.")
        require(protocol.group in ("speaker", "session"), f"{what}: group is {protocol.group!r}; speaker or session.")
        some = not isinstance(protocol.dev, int) or protocol.dev >= 0
        require(some, f"{what}: dev is {protocol.dev}; at least 0, or the groups.")
        _labels(what, protocol, corpus.published)
        _folds(what, protocol)
        _dev(what, protocol)
        for field, values in {**protocol.keep, **protocol.overlaps}.items():
            fine = not isinstance(values, str) and all(isinstance(value, str) for value in values)
            require(fine, f"{what}: keep or overlaps has {field!r}: {values!r}; a list of words.")
        words = {*protocol.overlaps, *(pair for pairs in protocol.overlaps.values() for pair in pairs)}
        odd = sorted(words - {*OVERLAPS, *PAIRS})
        require(not odd, f"{what}: overlaps has {odd}; it has {list(OVERLAPS)}, each with some of {list(PAIRS)}.")


def _labels(what: str, protocol: Protocol, published: Mapping[str, int]) -> None:
    if protocol.labels is None:
        return
    words: list[object] = [word for pair in protocol.labels.items() for word in pair]
    fine = all(isinstance(word, str) and word for word in words)
    require(fine and len(protocol.labels) > 0, f"{what}: labels are {dict(protocol.labels)}; words to words.")
    strange = sorted(set(protocol.labels) - set(published)) if published else []
    require(not strange, f"{what}: it maps the labels {strange}; the corpus publishes {sorted(published)}.")


def _folds(what: str, protocol: Protocol) -> None:
    if isinstance(protocol.test, FoldTable):
        require(len(read_table(protocol.test.path).folds) > 0, f"{what}: its table names no fold.")
    if isinstance(protocol.test, Disjoint | Stratified):
        require(protocol.test.k > 1, f"{what}: it has {protocol.test.k} folds; at least 2.")
    if not isinstance(protocol.test, Mapping):
        return
    require(len(protocol.test) > 0, f"{what}: it has no fold; it has at least one.")
    for fold, groups in protocol.test.items():
        ones: list[object] = [] if isinstance(groups, str) else list(groups)
        fine = len(ones) > 0 and all(isinstance(one, str) and one for one in ones)
        require(fine, f"{what}, fold {fold!r}: it tests {groups!r}; a list of at least one {protocol.group}.")
        twice = [group for group, times in Counter(groups).items() if times > 1]
        require(not twice, f"{what}, fold {fold!r}: it names {twice} twice.")


def _dev(what: str, protocol: Protocol) -> None:
    """No fold has groups that are dev and test."""
    test, dev = protocol.test, protocol.dev
    if not isinstance(test, Mapping) or not isinstance(dev, Mapping | list | tuple):
        return
    for fold, groups in test.items():
        own: Sequence[str] = dev.get(fold, ()) if isinstance(dev, Mapping) else [str(one) for one in dev]
        both = sorted(set(own) & set(groups))
        require(not both, f"{what}, fold {fold!r}: {both} are dev and test; there must be none.")


def corpus_says(subject: Subject) -> None:
    """It says what it is, and how many utterances are published, where they are."""
    corpus: Corpus = subject.make()
    require(
        bool(corpus.about),
        f"{subject.what}: `about` is empty; write what the corpus is, its licence, where to obtain it.",
    )
    bad = {label: count for label, count in corpus.published.items() if count < 1}
    require(not bad, f"{subject.what}: it publishes {bad}; counts are whole numbers from 1 on.")


def corpus_refuses(subject: Subject) -> None:
    """A folder that is not the corpus, or none at all, is refused with a sentence."""
    corpus: Corpus = subject.make()
    with tempfile.TemporaryDirectory() as folder:
        for root in (Path(folder), Path(folder) / "absent"):
            try:
                found = list(corpus.read(root))
            except SertkError:
                continue
            raise BrokenError(f"{subject.what} reads {len(found)} utterances in an empty folder; raise SertkError.")


def corpus_reads(subject: Subject) -> None:
    """Utterances are well-formed and the same at a second reading; no audio beside them is left out without a word."""
    if subject.root is None:
        return
    corpus: Corpus = subject.make()
    found = list(corpus.read(subject.root))
    notes = corpus.notes()
    utterances = [one for one in found if isinstance(one, Utterance)]
    require(len(utterances) > 0, f"{subject.what} reads no utterance in {subject.root}; at least one.")
    twice = [name for name, times in Counter(one.id for one in utterances).items() if times > 1]
    require(not twice, f"{subject.what}: id {twice[:1]} comes twice; ids differ.")
    for one in utterances:
        _utterance(f"{subject.what}, utterance {one.id!r}", one, subject.root, corpus.published)
    rejected = [one for one in found if isinstance(one, Rejected)]
    mute = [str(one.path) for one in rejected if not one.reason]
    require(not mute, f"{subject.what} rejects {mute[:1]} and gives no reason; it gives one.")
    known = {Path(subject.root / one.path).resolve() for one in found}
    # beside what it reads: a corpus may come with other audio, such as whole dialogues, in folders of their own
    beside = (path for folder in sorted({path.parent for path in known}) for path in sorted(folder.glob("*")))
    lost = [str(path) for path in beside if path.suffix.lower() in AUDIO and path.resolve() not in known]
    said = f"{subject.what}: {len(lost)} files such as {lost[:1]} are neither utterances nor rejected"
    require(not lost or bool(notes), f"{said}, and no note mentions them.")
    again = list(corpus.read(subject.root)) == found
    require(again, f"{subject.what}: the second reading gives something else than the first; it gives the same.")


def _utterance(what: str, one: Utterance, root: Path, published: Mapping[str, int]) -> None:
    texts: dict[str, object] = {"id": one.id, "path": one.path, "speaker": one.speaker}
    for field, value in texts.items():
        require(
            isinstance(value, str) and bool(value), f"{what}: its {field} is {value!r}; it must be a text, not empty."
        )
    fine = not PurePosixPath(one.path).is_absolute() and "\\" not in one.path
    require(fine, f"{what}: its path is {one.path!r}; it must be relative to the corpus folder, with forward slashes.")
    require((root / one.path).is_file(), f"{what}: there is no file {one.path!r} in the corpus folder; there is one.")
    require(one.gender in ("female", "male", None), f"{what}: its gender is {one.gender!r}; female, male or None.")
    require(one.label != "", f"{what}: its label is empty; it must be a word, or None.")
    known = not published or one.label is None or one.label in published
    require(known, f"{what}: its label is {one.label!r}; the corpus publishes {sorted(published)}.")
    require(0 <= one.start < float("inf"), f"{what}: its start is {one.start}; at least 0 s.")
    some = one.duration is None or 0 < one.duration < float("inf")
    require(some, f"{what}: its duration is {one.duration}; above 0 s, or None.")
    require(all(vote >= 0 for vote in one.votes.values()), f"{what}: its votes are {dict(one.votes)}; at least 0.")
    try:
        json.dumps(one.to_json())
    except TypeError as error:
        raise BrokenError(f"{what}: it cannot be written as JSON ({error}); a manifest is.") from error


CORPUS: Final[Mapping[str, Check]] = {
    "its protocols are well-formed": corpus_protocols,
    "it says what it is": corpus_says,
    "a folder that is not it is refused": corpus_refuses,
    "what it reads is well-formed": corpus_reads,
}


# ---------------------------------------------------------------- launchers


# waits, with a file of its own that says so; its exit code is 100 where more files wait than may
PROGRAM: Final = """
import os, sys, time
folder, name, wait, code, most = sys.argv[1:]
path = os.path.join(folder, name)
open(path, "w").close()
time.sleep(float(wait))
running = len(os.listdir(folder))
os.remove(path)
raise SystemExit(100 if running > int(most) else int(code))
"""
CODES: Final = (3, 0, 5)


@contextlib.contextmanager
def _launcher(subject: Subject, jobs: int) -> Iterator[tuple[Launcher, Path]]:
    """A new launcher, and a folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield subject.make(Path(folder), jobs), Path(folder)


def _logs(folder: Path, commands: Sequence[object]) -> list[Path]:
    return [folder / f"{place}.log" for place in range(len(commands))]


def launcher_codes(subject: Subject) -> None:
    """Exit codes come in the order of the commands, whichever ends first; no more than `jobs` run at a time."""
    for jobs in (1, 2):
        with _launcher(subject, jobs) as (launcher, folder):
            (folder / "running").mkdir()
            most = len(CODES) if launcher.outlives else jobs
            commands = [
                [sys.executable, "-c", PROGRAM, str(folder / "running"), str(place), wait, str(code), str(most)]
                for place, (wait, code) in enumerate(zip(("0.4", "0.1", "0.1"), CODES, strict=True))
            ]
            names = launcher.submit(commands, _logs(folder, commands))
            found, again = list(launcher.wait(names)), list(launcher.wait(names[1:]))
            none = list(launcher.wait(launcher.submit([], [])))
        fine = 100 not in found
        require(fine, f"{subject.what}, jobs {jobs}: more commands run at a time; allowed are {jobs}.")
        require(found == [*CODES], f"{subject.what}, jobs {jobs}: exit codes are {found}; they must be {[*CODES]}.")
        require(again == [*CODES[1:]], f"{subject.what}: waited for again, commands give {again}; the same codes.")
        require(none == [], f"{subject.what}: no commands give {none}; they give [].")


def launcher_order(subject: Subject) -> None:
    """A command begins after those that it comes after, and never where one of them failed, unless it is to anyhow."""
    with _launcher(subject, 2) as (launcher, folder):
        slow = [sys.executable, "-c", f"import time; time.sleep(0.3); open({str(folder / 'made')!r}, 'w')"]
        look = [sys.executable, "-c", f"raise SystemExit(not __import__('os').path.exists({str(folder / 'made')!r}))"]
        bad = [sys.executable, "-c", "raise SystemExit(4)"]
        mark = [sys.executable, "-c", f"open({str(folder / 'mark')!r}, 'w')"]

        def put(command: Sequence[str], after: Sequence[str] = (), *, anyhow: bool = False) -> list[str]:
            return list(launcher.submit([command], _logs(folder, [command]), after, anyhow=anyhow))

        first, failed = put(slow), put(bad)
        names = [*put(look, first), *put(mark, [*first, *failed]), *put(look, [*first, *failed], anyhow=True)]
        codes = list(launcher.wait(names))
        begun = (folder / "mark").exists()
    require(codes[0] == 0, f"{subject.what}: a command begins before the one that it comes after has ended.")
    require(not begun, f"{subject.what}: a command begins though one that it comes after failed; it must not.")
    require(codes[1] == 130, f"{subject.what}: a command that never began gives {codes[1]}; it must be 130.")
    require(codes[2] == 0, f"{subject.what}: with `anyhow` a command does not begin after one that failed; it must.")


def launcher_words(subject: Subject) -> None:
    """The words of a command arrive as they are, in the folder that the launcher was called in."""
    words = ["a b", "it's", '"', "$HOME", "*", "", "a\\b", "ü"]
    program = f"import sys; raise SystemExit(0 if sys.argv[1:] == {words!r} else 1)"
    place = f"import os; raise SystemExit(0 if os.path.samefile('.', {os.getcwd()!r}) else 1)"  # noqa: PTH109
    commands = [[sys.executable, "-c", program, *words], [sys.executable, "-c", place]]
    with _launcher(subject, 1) as (launcher, folder):
        found = launcher.wait(launcher.submit(commands, _logs(folder, commands)))
    require(found[0] == 0, f"{subject.what} changes the words of a command: {words} do not arrive as they are.")
    require(found[1] == 0, f"{subject.what} runs commands in another folder; it must be the one that it was called in.")


LAUNCHER: Final[Mapping[str, Check]] = {
    "exit codes come in order": launcher_codes,
    "what comes after waits": launcher_order,
    "words arrive as they are": launcher_words,
}

"""Contracts of what touches the world: corpora and launchers."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sertk.core import Corpus, Disjoint, FoldTable, Launcher, Protocol, SertkError, Stratified
from sertk.corpus.folding import read_table
from sertk.testing.cases import Check, Subject, require

# ---------------------------------------------------------------- corpora


def corpus_protocols(subject: Subject) -> None:
    """Every protocol is well-formed: a label map, folds with something to test, a fold rule."""
    corpus: Corpus = subject.make()
    require(len(corpus.protocols) > 0, f"{subject.what} has no protocol; it has at least one.")
    for name, protocol in corpus.protocols.items():
        what = f"{subject.what}, protocol {name!r}"
        require(name == Path(name).name, f"{what}: it names a file, so it holds no '/'.")
        require(len(protocol.about) > 0, f"{what}: `about` is empty; it is one sentence with the source.")
        require(protocol.group in ("speaker", "session"), f"{what}: group is {protocol.group!r}; speaker or session.")
        some = not isinstance(protocol.dev, int) or protocol.dev >= 0
        require(some, f"{what}: dev is {protocol.dev}; at least 0, or the groups.")
        _labels(what, protocol, corpus.published)
        _folds(what, protocol)


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


def corpus_says(subject: Subject) -> None:
    """It says what it is, and how many utterances are published, where they are."""
    corpus: Corpus = subject.make()
    require(
        bool(corpus.about), f"{subject.what}: `about` is empty; it says what it is, its licence, where to obtain it."
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
            raise AssertionError(f"{subject.what} reads {len(found)} utterances in an empty folder; raise SertkError.")


CORPUS: Final[Mapping[str, Check]] = {
    "its protocols are well-formed": corpus_protocols,
    "it says what it is": corpus_says,
    "a folder that is not it is refused": corpus_refuses,
}


# ---------------------------------------------------------------- launchers


def launcher_codes(subject: Subject) -> None:
    """Exit codes come in the order of the commands, whichever ends first."""
    launcher: Launcher = subject.make()
    late = "import time; time.sleep(0.5); raise SystemExit(3)"
    commands = [[sys.executable, "-c", late], *([sys.executable, "-c", f"raise SystemExit({n})"] for n in (0, 5))]
    for jobs in (1, 2):
        found = launcher.run(commands, jobs)
        require(list(found) == [3, 0, 5], f"{subject.what}, jobs {jobs}: exit codes are {found}; they are [3, 0, 5].")
    none = launcher.run([], 1)
    require(list(none) == [], f"{subject.what}: no commands give {none}; they give [].")


def launcher_words(subject: Subject) -> None:
    """The words of a command arrive as they are."""
    launcher: Launcher = subject.make()
    words = ["a b", "it's", '"', "$HOME", "*", "", "a\\b", "ü"]
    program = f"import sys; raise SystemExit(0 if sys.argv[1:] == {words!r} else 1)"
    found = launcher.run([[sys.executable, "-c", program, *words]], 1)
    require(list(found) == [0], f"{subject.what} changes the words of a command: {words} do not arrive as they are.")


LAUNCHER: Final[Mapping[str, Check]] = {
    "exit codes come in order": launcher_codes,
    "words arrive as they are": launcher_words,
}

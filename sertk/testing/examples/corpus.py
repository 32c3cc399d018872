"""A corpus of files named SPEAKER_LABEL_NUMBER.wav."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from sertk.core import Corpus, Protocol, RandomDev, Rejected, SertkError, Utterance
from sertk.hookspecs import hookimpl

CLASSES = {"anger": "anger", "neutral": "neutral"}  # label of the corpus: class of the protocol


class Example(Corpus):
    """Two speakers, ann and bob; anger and neutral."""

    about = "Example: 2 speakers, 2 emotions; licence and source stand here"
    published: ClassVar[Mapping[str, int]] = {}  # utterances by label as the authors publish them
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "speakers": Protocol(
            CLASSES,
            test={"ann": ["ann"], "bob": ["bob"]},  # fold: the speakers that it tests
            dev=RandomDev(10),
            overlaps={"speaker": ["train+dev"]},  # which parts may share what; anything else fails the audit
            about="2 folds, each tests one speaker; dev: a random tenth of the rest",
        )
    }

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every WAV file below `root`, in a fixed order; what is no utterance is rejected with the reason."""
        paths = sorted(root.rglob("*.wav"))
        if not paths:
            raise SertkError(f"{root} has no WAV file; this corpus is files such as ann_anger_01.wav.")
        for path in paths:
            match path.stem.split("_"):
                case [speaker, label, _]:
                    yield Utterance(path.stem, path.relative_to(root).as_posix(), speaker, label)
                case _:
                    yield Rejected(path, "its name is not SPEAKER_LABEL_NUMBER.wav")


@hookimpl
def sertk_corpora() -> Mapping[str, type[Corpus]]:
    """The name that `sertk prepare` takes."""
    return {"example": Example}

"""RAVDESS's speech, SAVEE and TESS as one corpus, as in P1 (Li 2025, 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

from sertk.builtin.corpora.ravdess import Ravdess
from sertk.builtin.corpora.savee import Savee
from sertk.builtin.corpora.tess import Tess
from sertk.core import PAIRS, Corpus, Protocol, RandomSplit, Rejected, SertkError, Utterance

PARTS: Final = ("ravdess", "savee", "tess")
LAYOUT: Final = "the folders ravdess, savee and tess, each as its authors lay it out"
# RAVDESS's speech, SAVEE and TESS; calm is RAVDESS's alone
PUBLISHED: Final[Mapping[str, int]] = dict.fromkeys(
    ("anger", "disgust", "fear", "happiness", "sadness", "surprise"), 192 + 60 + 400
) | {"neutral": 96 + 120 + 400, "calm": 192}
CLASSES: Final = {label: label for label in PUBLISHED}


def _actors(first: int, last: int) -> list[str]:
    return [f"{actor:02d}" for actor in range(first, last + 1)]


class RavdessSaveeTess(Corpus):
    """The union of three corpora: 30 speakers, eight emotions. Ids and speakers are the ones of the three corpora."""

    about = "RAVDESS speech (1,440), SAVEE (480) and TESS (2,800) in the folders ravdess, savee and tess: 4,720 clips"
    published: ClassVar[Mapping[str, int]] = PUBLISHED
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "random": Protocol(
            CLASSES,
            test=RandomSplit(80, 10),
            # the audio is one pair of RAVDESS, published twice under two names
            overlaps={"speaker": PAIRS, "text": PAIRS, "audio": PAIRS},
            about="8 classes, clips at random 80:10:10 by class, 3771/471/478, speaker-dependent (P1 4.1)",
        ),
        "speakers": Protocol(
            CLASSES,
            test={
                "1": [*_actors(1, 12), "DC", "JE", "OAF"],
                "2": [*_actors(13, 24), "JK", "KL", "YAF"],
            },
            dev={"1": [*_actors(21, 24), "KL"], "2": [*_actors(9, 12), "JE"]},
            overlaps={"text": PAIRS},
            about="8 classes, 2 folds of 12 actors, 2 men of SAVEE and a woman of TESS; dev: 4 actors and a man",
        ),
    }

    def __init__(self) -> None:
        self._notes: list[str] = []

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every utterance of the corpora that are there.

        Raises:
            SertkError: Where none is there, or a corpus has two folders.
        """
        folders = _folders(root)
        missing = [part for part in PARTS if part not in folders]
        parts: dict[str, Corpus] = {"ravdess": Ravdess("speech"), "savee": Savee(), "tess": Tess()}
        self._notes = [
            f"{part} is missing: {root} has no such folder; built of {' and '.join(folders)}" for part in missing
        ]
        for name, folder in folders.items():
            for one in parts[name].read(folder):
                yield one if isinstance(one, Rejected) else _member(one, name, folder)
            self._notes += parts[name].notes()

    def notes(self) -> list[str]:
        """Which corpora are missing, and what the others' readers say."""
        return self._notes


def _member(one: Utterance, corpus: str, folder: Path) -> Utterance:
    return replace(one, path=f"{folder.name}/{one.path}", aux={"corpus": corpus, **one.aux})


def _folders(root: Path) -> dict[str, Path]:
    """The folder of each corpus that is there, by its name in any case."""
    if not root.is_dir():
        raise SertkError(f"'{root}' is not a folder. Give the folder with --root; expected there: {LAYOUT}.")
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        name = path.name.lower()
        if not path.is_dir() or name not in PARTS:
            continue
        if name in found:
            raise SertkError(f"{root} has two folders of {name}: {found[name].name} and {path.name}. Keep one of them.")
        found[name] = path
    if not found:
        raise SertkError(f"{root} has no folder {', '.join(PARTS)}. Give another --root; expected there: {LAYOUT}.")
    return found

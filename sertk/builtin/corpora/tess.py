"""TESS, the Toronto Emotional Speech Set (Pichora-Fuller and Dupuis 2020, doi 10.5683/SP2/E8H2MF)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final

from sertk.builtin.corpora.common import audio_files, fold_table, strange
from sertk.core import PAIRS, Corpus, Crossed, FoldTable, Protocol, RandomDev, Rejected, Utterance

AGES: Final = {"OAF": 64, "YAF": 26}  # the older and the younger woman
EMOTIONS: Final[Mapping[str, str]] = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "ps": "surprise",  # pleasant surprise
    "sad": "sadness",
}
TABLES: Final[Mapping[str, Collection[str]]] = {"speaker": AGES, "emotion": EMOTIONS}
LAYOUT: Final = "OAF_angry/OAF_back_angry.wav and so on, in folders of any spelling"
MISNAMED: Final = {"oa_bite_neutral": "oaf_bite_neutral"}  # as published
CLASSES: Final = {label: label for label in EMOTIONS.values()}


class Tess(Corpus):
    """TESS: two women, 200 words each in "Say the word ...", seven emotions; CC BY-NC-ND 4.0.

    The name of a file says everything, in any case. The name of its folder is not used: it is spelled in several ways
    (`OAF_Fear`, `OAF_Pleasant_surprise`, `YAF_pleasant_surprised`). Ids are spelled alike: `OAF_back_ps`.
    """

    about = "TESS: 2,800 clips in English, 2 women, 7 emotions; CC BY-NC-ND 4.0, doi 10.5683/SP2/E8H2MF"
    published: ClassVar[Mapping[str, int]] = dict.fromkeys(EMOTIONS.values(), 400)
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "speakers": Protocol(
            CLASSES,
            test={speaker: [speaker] for speaker in AGES},
            dev=RandomDev(10),
            overlaps={"speaker": ["train+dev"], "text": PAIRS},
            about="7 classes, 2 folds, each tests the speaker of its name; dev: a random tenth of the other speaker",
        ),
        "sentences": Protocol(
            CLASSES,
            test=Crossed(2, 2),
            dev=RandomDev(10),
            overlaps={"speaker": ["train+dev"], "text": ["train+dev"]},
            about="7 classes, 4 folds, each tests a speaker on half of the words and trains on the other speaker's "
            "other words; dev: a random tenth of these",
        ),
        "emobox": Protocol(
            CLASSES,
            test=FoldTable(fold_table("emobox_tess")),
            dev=RandomDev(10),
            overlaps={"speaker": PAIRS, "text": PAIRS},
            about="7 classes, the one random test of 700 clips of EmoBox (Ma et al. 2024), speaker-dependent; "
            "dev: a random tenth of train",
        ),
    }

    def __init__(self) -> None:
        self._misnamed: list[str] = []

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every audio file below `root`."""
        self._misnamed = []
        for path in audio_files(root, LAYOUT):
            if path.stem.lower() in MISNAMED:
                self._misnamed.append(path.name)
            yield _utterance(path, path.relative_to(root).as_posix())

    def notes(self) -> list[str]:
        """Which file has another id than its name."""
        return [f"{name} is misnamed as published, and read as OAF_bite_neutral" for name in self._misnamed]


def _utterance(path: Path, relative: str) -> Utterance | Rejected:
    stem = path.stem.lower()
    codes = MISNAMED.get(stem, stem).split("_")
    if len(codes) != 3 or not codes[1].isalpha():
        return Rejected(path, f"{path.name!r} is not the name of a TESS file (OAF_back_angry)")
    speaker, word, emotion = codes[0].upper(), codes[1], codes[2]
    if unknown := strange(path, (speaker, emotion), TABLES):
        return unknown
    return Utterance(
        id=f"{speaker}_{word}_{emotion}",
        path=relative,
        speaker=speaker,
        gender="female",
        text=f"Say the word {word}.",
        label=EMOTIONS[emotion],
        aux={"age": AGES[speaker]},
    )

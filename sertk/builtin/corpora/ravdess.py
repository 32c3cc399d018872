"""RAVDESS (Livingstone and Russo 2018, doi 10.1371/journal.pone.0196391), the audio-only files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final, Literal

from sertk.builtin.corpora.common import audio_files, fold_table, strange
from sertk.core import PAIRS, Corpus, Crossed, FoldTable, Protocol, Rejected, Utterance

EMOTIONS: Final[Mapping[str, str]] = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
STATEMENTS: Final = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
MODALITIES: Final = {"01": "speech", "02": "song"}
INTENSITIES: Final = {"01": "normal", "02": "strong"}
ACTORS: Final = [f"{actor:02d}" for actor in range(1, 25)]
TABLES: Final[Mapping[str, Collection[str]]] = {
    "modality": MODALITIES,
    "emotion": EMOTIONS,
    "intensity": INTENSITIES,
    "statement": STATEMENTS,
    "repetition": ("01", "02"),
    "actor": ACTORS,
}
LAYOUT: Final = (
    "Actor_01/03-01-05-01-02-01-01.wav and so on, also under Audio_Speech_Actors_01-24 and Audio_Song_Actors_01-24"
)
# every emotion in two intensities, neutral in one; actor 18 does not sing, and no song is disgust or surprise
PUBLISHED: Final[Mapping[str, Mapping[str, int]]] = {
    "speech": dict.fromkeys(EMOTIONS.values(), 192) | {"neutral": 96},
    "song": dict.fromkeys(("calm", "happiness", "sadness", "anger", "fear"), 184) | {"neutral": 92},
}


def _published(modalities: Collection[str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for modality in modalities:
        counts.update(PUBLISHED[modality])
    return dict(counts)


def _blocks(singers_only: bool = False) -> dict[str, list[str]]:
    """Six folds of four actors in order, two women and two men each (P2 3.1 does not say which)."""
    blocks = {str(n + 1): ACTORS[4 * n : 4 * n + 4] for n in range(6)}
    return {name: [actor for actor in own if not singers_only or actor != "18"] for name, own in blocks.items()}


SPEECH: Final = Protocol(
    labels={label: label for label in EMOTIONS.values()},
    test=_blocks(),
    dev=4,
    keep={"modality": ["speech"]},
    overlaps={"text": PAIRS},
    published=PUBLISHED["speech"],
    about="8 classes of speech, 6 folds of four actors in order (P2 3.1); dev: 4 training actors",
)


class Ravdess(Corpus):
    """RAVDESS, 24 actors, two sentences, eight emotions; CC BY-NC-SA 4.0, Zenodo record 1188976.

    Args:
        modality: Which files are wanted. "found": those that the folder holds, and `published` then counts the
            modalities that are there, so that the speech alone is complete at 1,440 clips. "speech", "song" or "both":
            just those; files of the other modality are passed over, and reported.
    """

    about = "RAVDESS: 1,440 clips of speech, 1,012 of song, 24 actors, 8 emotions; CC BY-NC-SA 4.0, Zenodo 1188976"
    published: ClassVar[Mapping[str, int]] = PUBLISHED["speech"]
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "emobox": replace(
            SPEECH,
            test=FoldTable(fold_table("emobox_ravdess")),
            about="8 classes, the 6 speaker-disjoint test folds of EmoBox (Ma et al. 2024); dev: 4 training actors",
        ),
        "speech": SPEECH,
        "song": replace(
            SPEECH,
            labels={label: label for label in PUBLISHED["song"]},
            test=_blocks(singers_only=True),
            keep={"modality": ["song"]},
            published=PUBLISHED["song"],
            about="6 classes of song, 6 folds of four actors in order (actor 18 does not sing); dev: 4 training actors",
        ),
        "both": replace(
            SPEECH,
            keep={},
            published=_published(PUBLISHED),
            about="8 classes of speech and song, 6 folds of four actors in order; dev: 4 training actors",
        ),
        "sentences": replace(
            SPEECH,
            test=Crossed(6, 2),
            overlaps={"text": ["train+dev"]},
            about="8 classes of speech, 12 folds, each tests four actors on one sentence and trains on the others' "
            "other sentence; dev: 4 of these actors",
        ),
        "p3": replace(
            SPEECH,
            labels={label: "neutral" if label == "calm" else label for label in EMOTIONS.values()},
            test={"1": ["23", "24"]},
            dev=["21", "22"],
            keep={},
            published=dict.fromkeys(("happiness", "sadness", "anger", "fear"), 376)
            | {"neutral": 564, "disgust": 192, "surprise": 192},
            about="7 classes of speech and song, calm as neutral; train actors 1-20, dev 21-22, test 23-24 (P3 2)",
        ),
    }

    def __init__(self, modality: Literal["found", "speech", "song", "both"] = "found") -> None:
        self._modality = modality
        self._passed, self._found = 0, set[str]()
        if modality != "found":
            self._publish(PUBLISHED if modality == "both" else [modality])

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every audio file below `root` that is wanted; its name says everything."""
        self._passed, found = 0, set[str]()
        for path in audio_files(root, LAYOUT):
            one = _utterance(path, path.relative_to(root).as_posix())
            if isinstance(one, Utterance):
                found.add(one.aux["modality"])
                if self._modality not in ("found", "both", one.aux["modality"]):
                    self._passed += 1
                    continue
            yield one
        self._found = found
        if self._modality == "found" and found:
            self._publish(found)

    def _publish(self, modalities: Collection[str]) -> None:
        self.published = _published(modalities)  # type: ignore[misc] # a corpus with parts has counts of its own

    def notes(self) -> list[str]:
        """How many files were passed over, or which modality is not there."""
        if self._passed:
            return [f"RAVDESS: {self._passed} files are not {self._modality} and are passed over"]
        absent = [modality for modality in PUBLISHED if self._modality == "found" and modality not in self._found]
        return [f"there is no {modality} here: the protocols both and p3 lack it" for modality in absent]


def _utterance(path: Path, relative: str) -> Utterance | Rejected:
    codes = path.stem.split("-")
    if len(codes) != 7 or codes[0] != "03":
        return Rejected(path, f"{path.name!r} is not the name of an audio-only RAVDESS file (03-01-05-01-02-01-12)")
    if unknown := strange(path, codes[1:], TABLES):
        return unknown
    _, modality, emotion, intensity, statement, repetition, actor = codes
    return Utterance(
        id=path.stem,
        path=relative,
        speaker=actor,
        gender="male" if int(actor) % 2 else "female",
        text=STATEMENTS[statement],
        label=EMOTIONS[emotion],
        aux={"modality": MODALITIES[modality], "intensity": INTENSITIES[intensity], "repetition": int(repetition)},
    )

"""SAVEE, the Surrey Audio-Visual Expressed Emotion database (Haq and Jackson 2009), the audio files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from string import ascii_lowercase, digits
from typing import ClassVar, Final

from sertk.builtin.corpora.common import audio_files, fold_table, strange
from sertk.core import PAIRS, Corpus, FoldTable, Protocol, RandomDev, Rejected, Stratified, Utterance

SPEAKERS: Final = ("DC", "JE", "JK", "KL")
EMOTIONS: Final[Mapping[str, str]] = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
LAYOUT: Final = "AudioData/DC/a01.wav and so on, or DC_a01.wav in one folder"
CLASSES: Final = {label: label for label in EMOTIONS.values()}


class Savee(Corpus):
    """SAVEE: four men, 120 sentences each, seven emotions; free for research, after registration.

    Which words a sentence has is not in the audio distribution, so an utterance has no `text`: its `aux` names the
    sentence by emotion and number. A number is the same sentence for all four speakers.
    """

    about = "SAVEE: 480 clips in British English, 4 men, 7 emotions; for research, after registration at Surrey"
    published: ClassVar[Mapping[str, int]] = dict.fromkeys(EMOTIONS.values(), 60) | {"neutral": 120}
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "speakers": Protocol(
            CLASSES,
            test={speaker: [speaker] for speaker in SPEAKERS},
            dev=1,
            overlaps={"text": PAIRS},
            about="7 classes, 4 folds, each tests the speaker of its name (P2 3.1, P4 5.1); dev: another speaker",
        ),
        "random5": Protocol(
            CLASSES,
            test=Stratified(5),
            dev=RandomDev(10),
            overlaps={"speaker": PAIRS, "text": PAIRS},
            about="7 classes, 5 stratified random folds, speaker-dependent (P4 5.1); dev: a random tenth of train",
        ),
        "emobox": Protocol(
            CLASSES,
            test=FoldTable(fold_table("emobox_savee")),
            dev=1,
            overlaps={"text": PAIRS},
            about="7 classes, the 4 test folds of EmoBox (Ma et al. 2024), one speaker each; dev: another speaker",
        ),
    }

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every audio file below `root`, in either layout."""
        for path in audio_files(root, LAYOUT):
            yield _utterance(path, path.relative_to(root).as_posix())

    def notes(self) -> list[str]:
        """By what the audit compares sentences."""
        return [
            "SAVEE has no transcripts: sentences are compared by code (a01); those that emotions share are not seen"
        ]


def _utterance(path: Path, relative: str) -> Utterance | Rejected:
    speaker, _, sentence = path.stem.rpartition("_")
    speaker, sentence = (speaker or path.parent.name).upper(), sentence.lower()
    emotion, number = sentence.rstrip(digits), sentence.lstrip(ascii_lowercase)
    numbers = [f"{n:02d}" for n in range(1, 31 if emotion == "n" else 16)]
    tables: Mapping[str, Collection[str]] = {"speaker": SPEAKERS, "emotion": EMOTIONS, "sentence": numbers}
    if unknown := strange(path, (speaker, emotion, number), tables):
        return unknown
    return Utterance(
        id=f"{speaker}_{sentence}",
        path=relative,
        speaker=speaker,
        gender="male",
        label=EMOTIONS[emotion],
        aux={"sentence": sentence},
    )

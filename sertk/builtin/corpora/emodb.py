"""EmoDB, the Berlin Database of Emotional Speech (Burkhardt et al. 2005, doi 10.21437/Interspeech.2005-446)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from string import ascii_lowercase
from typing import ClassVar, Final

from sertk.builtin.corpora.common import audio_files, fold_table, numbered, strange
from sertk.core import (
    PAIRS,
    Corpus,
    Crossed,
    FoldTable,
    InputError,
    Protocol,
    RandomDev,
    Rejected,
    SertkError,
    Stratified,
    Utterance,
)
from sertk.core.walk import below

SPEAKERS: Final[Mapping[str, str]] = {
    "03": "male",
    "08": "female",
    "09": "female",
    "10": "male",
    "11": "male",
    "12": "male",
    "13": "female",
    "14": "female",
    "15": "male",
    "16": "female",
}
TEXTS: Final[Mapping[str, str]] = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
# Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral
EMOTIONS: Final[Mapping[str, str]] = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
TABLES: Final[Mapping[str, Collection[str]]] = {
    "speaker": SPEAKERS,
    "text": TEXTS,
    "emotion": EMOTIONS,
    "version": ascii_lowercase,
}
LAYOUT: Final = "wav/03a01Fa.wav and so on, with erkennung.txt beside wav"
RATINGS: Final = "erkennung.txt"
MEND: Final = "Obtain the file again, or remove it: the corpus is read without it too."
NAME: Final = re.compile(r"([0-9]{2}[a-z][0-9]{2}[A-Z][a-z])\.wav")
PERCENT: Final = re.compile(r"[0-9]{1,3}([,.][0-9]+)?")

Ratings = Mapping[str, Mapping[str, float]]


def _one_speaker_out(classes: Collection[str], about: str) -> Protocol:
    return Protocol(
        labels={label: label for label in sorted(classes)},
        test={speaker: [speaker] for speaker in SPEAKERS},
        dev=2,
        overlaps={"text": PAIRS},
        about=f"{about}, 10 folds, each tests the speaker of its name; dev: a woman and a man of the other 9",
    )


def _unheard(classes: Collection[str], about: str) -> Protocol:
    return Protocol(
        labels={label: label for label in sorted(classes)},
        test=Crossed(5, 2),
        dev=2,
        overlaps={"text": ["train+dev"]},
        about=f"{about}, 10 folds, each tests two speakers on five sentences and trains on the others' other five; "
        "dev: a woman and a man of these",
    )


def _speakers_shared(test: Stratified | FoldTable, about: str) -> Protocol:
    return Protocol(
        labels={label: label for label in sorted(EMOTIONS.values())},
        test=test,
        dev=RandomDev(10),
        overlaps={"speaker": PAIRS, "text": PAIRS},
        about=f"7 classes, {about}, speaker-dependent; dev: a random tenth of train",
    )


class EmoDB(Corpus):
    """EmoDB: ten actors, ten German sentences, seven emotions; CC0-1.0, Zenodo record 7447302."""

    about = "EmoDB: 535 utterances in German, 10 actors, 7 emotions; CC0-1.0, Zenodo record 7447302"
    published: ClassVar[Mapping[str, int]] = {
        "anger": 127,
        "boredom": 81,
        "disgust": 46,
        "fear": 69,
        "happiness": 71,
        "neutral": 79,
        "sadness": 62,
    }
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "loso": _one_speaker_out(EMOTIONS.values(), "7 classes"),
        "loso4": _one_speaker_out(("anger", "happiness", "neutral", "sadness"), "4 of the 7 classes"),
        "sentences": _unheard(EMOTIONS.values(), "7 classes"),
        "sentences4": _unheard(("anger", "happiness", "neutral", "sadness"), "4 of the 7 classes"),
        "random10": _speakers_shared(Stratified(10), "10 stratified random folds (P4 5.1)"),
        "emobox": _speakers_shared(
            FoldTable(fold_table("emobox_emodb")), "the 5 random test folds of EmoBox (Ma et al. 2024)"
        ),
    }

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every audio file below `root`, with what listeners said of it where `erkennung.txt` is there.

        Raises:
            SertkError: Where the folder holds no audio or several tables of the listeners.
            InputError: On a line of that table that cannot be read.
        """
        paths, ratings = audio_files(root, LAYOUT), _ratings(root)
        for path in paths:
            yield _utterance(path, path.relative_to(root).as_posix(), ratings)


def _utterance(path: Path, relative: str, ratings: Ratings) -> Utterance | Rejected:
    name = path.stem
    if len(name) != 7:
        return Rejected(path, f"{path.name!r} is not the name of an EmoDB file (03a01Fa)")
    codes = speaker, text, emotion, version = name[:2], name[2:5], name[5], name[6]
    if unknown := strange(path, codes, TABLES):
        return unknown
    return Utterance(
        id=name,
        path=relative,
        speaker=speaker,
        gender=SPEAKERS[speaker],
        text=TEXTS[text],
        label=EMOTIONS[emotion],
        aux={"version": version, **ratings.get(name, {})},
    )


def _ratings(root: Path) -> Ratings:
    """What listeners said, percent by utterance; nothing where the corpus folder has no such table.

    `recognised` is how many took it for the emotion that was meant, `naturalness` how many found it natural. The table
    as published lists all 816 recordings that were judged; 535 of them are the corpus.
    """
    found = [path for path in below(root).files if path.name == RATINGS]
    if len(found) > 1:
        raise SertkError(f"{root} holds {len(found)} files {RATINGS}: {found[0]} and {found[1]}. Keep one of them.")
    return _read_ratings(found[0]) if found else {}


def _read_ratings(path: Path) -> Ratings:
    """Reads the table as published: Latin-1 with no-break spaces and decimal commas, or as an editor leaves it."""
    ratings: dict[str, Mapping[str, float]] = {}
    for where, line in numbered(path):
        fields = line.split()  # at no-break spaces too
        if fields[0] == "Nr." and where.endswith(" 1"):
            continue
        name, rating = _rating(fields, where)
        if name in ratings:
            raise InputError(f"{where}: {name} comes twice. {MEND}")
        ratings[name] = rating
    return ratings


def _rating(fields: list[str], where: str) -> tuple[str, dict[str, float]]:
    """The name and the ratings of a line: number, file, recognised, natural."""
    name = NAME.fullmatch(fields[1]) if len(fields) == 4 else None
    shares = [float(share.replace(",", ".")) for share in fields[2:] if PERCENT.fullmatch(share)]
    if name is None or len(shares) != 2 or max(shares) > 100:
        raise InputError(
            f"{where}: {' '.join(fields)!r} is not a number, a file name, % recognised and % natural, as in "
            f"'1 03a01Ab.wav 65,00 35,00'. {MEND}"
        )
    return name[1], dict(zip(("recognised", "naturalness"), shares, strict=True))

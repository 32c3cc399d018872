"""RAVDESS (Livingstone and Russo 2018, doi 10.1371/journal.pone.0196391), the audio-only files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from sertk.builtin.corpora.files import audio_files
from sertk.core import PAIRS, Corpus, Protocol, Rejected, Table, Utterance
from sertk.core.paths import egs

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
CHANNELS = {"01": "speech", "02": "song"}
INTENSITIES = {"01": "normal", "02": "strong"}
TABLES: Mapping[str, Collection[str]] = {
    "channel": CHANNELS,
    "emotion": EMOTIONS,
    "intensity": INTENSITIES,
    "statement": STATEMENTS,
    "repetition": ("01", "02"),
    "actor": [f"{actor:02d}" for actor in range(1, 25)],
}
LAYOUT = "Actor_01/03-01-05-01-02-01-01.wav and so on, also under Audio_Speech_Actors_01-24"


class Ravdess(Corpus):
    """RAVDESS, 24 actors, two sentences, eight emotions; CC BY-NC-SA 4.0, Zenodo record 1188976."""

    about = "RAVDESS speech: 1,440 clips, 24 actors, 8 emotions; CC BY-NC-SA 4.0, Zenodo record 1188976"
    # every emotion in two intensities, neutral in one
    published: ClassVar[Mapping[str, int]] = dict.fromkeys(EMOTIONS.values(), 192) | {"neutral": 96}
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "emobox": Protocol(
            labels={label: label for label in EMOTIONS.values()},
            test=Table(egs() / "ravdess" / "emobox.tsv"),
            dev=4,
            overlaps={"text": PAIRS},
            keep={"channel": ["speech"]},
            about="8 classes, the 6 speaker-disjoint test folds of EmoBox (Ma et al. 2024); dev: 4 training actors",
        )
    }

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every audio file below `root`; its name says everything."""
        for path in audio_files(root, LAYOUT):
            yield _utterance(path, path.relative_to(root).as_posix())


def _utterance(path: Path, relative: str) -> Utterance | Rejected:
    codes = path.stem.split("-")
    if len(codes) != 7 or codes[0] != "03":
        return Rejected(path, f"name {path.name!r} is not that of an audio-only RAVDESS file (03-01-05-01-02-01-12)")
    _, channel, emotion, intensity, statement, repetition, actor = codes
    for (name, table), code in zip(TABLES.items(), codes[1:], strict=True):
        if code not in table:
            return Rejected(path, f"unknown {name} {code!r} in {path.name!r}; known: {', '.join(table)}")
    return Utterance(
        id=path.stem,
        path=relative,
        speaker=actor,
        gender="male" if int(actor) % 2 else "female",
        text=STATEMENTS[statement],
        label=EMOTIONS[emotion],
        aux={"channel": CHANNELS[channel], "intensity": INTENSITIES[intensity], "repetition": int(repetition)},
    )

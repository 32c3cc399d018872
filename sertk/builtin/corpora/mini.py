"""The embedded corpus: synthetic emotional speech, so that a fresh clone has something to train on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from sertk.builtin.corpora import espeak
from sertk.builtin.corpora.common import audio_files
from sertk.core import PAIRS, Corpus, Protocol, Rejected, Utterance

KNOWN = (
    espeak.SPEAKERS,
    espeak.EMOTIONS,
    [f"{number:02d}" for number in range(1, len(espeak.SENTENCES) + 1)],
    [str(take) for take in range(1, espeak.TAKES + 1)],
)


class Mini(Corpus):
    """Synthetic speech of eSpeak NG voices with four emotions; it tests the toolkit, its scores mean nothing."""

    about = "mini: synthetic speech (eSpeak NG), 8 voices, 4 emotions; made on the spot, its scores mean nothing"
    published: ClassVar[Mapping[str, int]] = dict.fromkeys(
        espeak.EMOTIONS, len(espeak.SPEAKERS) * len(espeak.SENTENCES) * espeak.TAKES
    )
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "speakers": Protocol(
            labels={label: label for label in espeak.EMOTIONS},
            test={str(fold): [f"f{fold}", f"m{fold}"] for fold in range(1, 5)},
            dev=2,
            overlaps={"text": PAIRS},
            about="4 classes, 4 folds; test on one female and one male voice, dev on two others",
        )
    }

    def obtain(self, root: Path) -> None:
        """Synthesises the corpus at `root`, unless it is there."""
        espeak.synthesise(root)

    def notes(self) -> list[str]:
        """What a first user must know before the figures."""
        return [
            "synthetic voices: the scores mean nothing, they show that everything runs here. "
            "Next: `sertk prepare --list` has the real corpora, with where to obtain them "
            "(in a clone first `. tools/env.sh`, which puts sertk on the PATH)"
        ]

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every utterance; file names are SPEAKER_EMOTION_SENTENCE_TAKE."""
        for path in audio_files(root, "f1/f1_anger_01_1.flac, as `sertk prepare mini` makes them"):
            parts = path.stem.split("_")
            if len(parts) != 4 or any(part not in known for part, known in zip(parts, KNOWN, strict=True)):
                yield Rejected(path, f"name {path.name!r} is not SPEAKER_EMOTION_SENTENCE_TAKE of this corpus")
                continue
            yield Utterance(
                id=path.stem,
                path=path.relative_to(root).as_posix(),
                speaker=parts[0],
                gender=espeak.SPEAKERS[parts[0]],
                text=espeak.SENTENCES[int(parts[2]) - 1],
                label=parts[1],
            )

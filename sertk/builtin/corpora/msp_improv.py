"""MSP-IMPROV (Busso et al. 2017, doi 10.1109/TAFFC.2016.2515617)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from sertk.builtin.corpora.anybody import some
from sertk.builtin.corpora.common import audio_files, numbered, release
from sertk.core import PAIRS, Corpus, InputError, Protocol, Rejected, SertkError, Utterance

# X: the raters did not agree
EMOTIONS: Final[Mapping[str, str | None]] = {
    "A": "anger",
    "H": "happiness",
    "S": "sadness",
    "N": "neutral",
    "O": "other",
    "X": None,
}
VOTES: Final[Mapping[str, str]] = {"angry": "anger", "happy": "happiness", "sad": "sadness"}
GENDERS: Final[Mapping[str, str]] = {"F": "female", "M": "male"}
SCENARIOS: Final[Mapping[str, str]] = {
    "P": "natural",
    "R": "read target",
    "S": "improvised target",
    "T": "improvised",
}
SCALES: Final = ("activation", "valence", "dominance", "naturalness")
FILES: Final = ("Evalution.txt", "Evaluation.txt")  # the release spells it the first way
LAYOUT: Final = (
    "Evalution.txt with session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM01.wav and so on, also with the sessions below Audio"
)
MEND: Final = "Obtain the file again."
NAME: Final = re.compile(r"S(\d\d)([AHNS])-([FM])0([1-6])-([PRST])-[FM]{2}\d{2,3}")
SCALE: Final = r"(\d(?:\.\d+)?|NaN)"
LINE: Final = re.compile(
    rf"UTD-IMPROV-({NAME.pattern})\.avi; *([A-Z]); *A:{SCALE} *; *V:{SCALE} *; *D:{SCALE} *; *N:{SCALE} *;?"
)
RATER: Final = re.compile(r"([^;]+);\s*([A-Za-z]+)\s*;.*A:.*")

FOUR: Final[Mapping[str, str]] = {label: label for label in ("anger", "happiness", "neutral", "sadness")}


class Rated(NamedTuple):
    """What the label file says of a clip.

    Attributes:
        where: File and line.
        label: The emotion that most raters chose; None where they did not agree.
        scales: Means of activation, valence, dominance and naturalness, those that are there.
        votes: (rater, emotion); a rater may come twice in a clip, in lines that are copies.
    """

    where: str
    label: str | None
    scales: Mapping[str, float]
    votes: set[tuple[str, str]]


class MspImprov(Corpus):
    """MSP-IMPROV: twelve actors in six sessions of two; licence and form at the MSP lab of UT Dallas."""

    about = "MSP-IMPROV: 8,438 clips, 12 actors in 6 sessions; on request, the MSP lab of UT Dallas"
    published: ClassVar[Mapping[str, int]] = {
        "anger": 792,
        "happiness": 2644,
        "neutral": 3477,
        "other": 85,
        "sadness": 885,
        "unlabelled": 555,
    }
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "sessions": Protocol(
            labels=FOUR,
            test={str(n): [str(n)] for n in range(1, 7)},
            dev=1,
            group="session",
            overlaps={"text": PAIRS},  # the 20 target sentences are said in every session
            published={"anger": 792, "happiness": 2644, "neutral": 3477, "sadness": 885},
            about="4 classes, 7,798 of the 8,438 clips, 6 folds, one session out (P2 3.1); dev: another session",
        )
    }

    def __init__(self) -> None:
        self._notes: list[str] = []

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every audio file below `root`, labelled by the file Evalution.txt.

        Raises:
            SertkError: Where the folder holds no label file, both spellings of it, or no audio.
            InputError: On a line of it that cannot be read, and on a clip that is labelled twice.
        """
        folder = release(root, FILES, LAYOUT)
        files = [folder / name for name in FILES if (folder / name).is_file()]
        if len(files) != 1:
            raise SertkError(f"{folder} has {len(files)} label files {' and '.join(FILES)}. Keep one of them.")
        odd: list[str] = []
        rated = _rated(files[0], odd)
        audio: dict[str, Path] = {}
        for path in audio_files(root, LAYOUT):
            name = path.stem.removeprefix("MSP-IMPROV-")
            clip = NAME.fullmatch(name)
            if name in audio:
                yield Rejected(path, f"{path.stem} is also {audio[name]}")
            elif clip is None or not path.stem.startswith("MSP-IMPROV-"):
                yield Rejected(path, f"{path.name!r} is not the name of a clip (MSP-IMPROV-S01A-F01-S-FM01)")
            elif name not in rated:
                yield Rejected(path, f"no line of {files[0].name} labels {path.stem}")
            else:
                yield _utterance(clip, path.stem, path.relative_to(root).as_posix(), rated[name])
            audio.setdefault(name, path)
        for name, one in rated.items():
            if name not in audio:
                place = f"session{_session(name)}/{name[:4]}/{name.split('-')[2]}/MSP-IMPROV-{name}.wav"
                yield Rejected(folder / place, f"{one.where} labels {name}, which has no audio")
        absent = {_session(name) for name in rated} - {_session(name) for name in audio if NAME.fullmatch(name)}
        self._notes = [f"session {session} has no audio in {folder}" for session in sorted(absent)]
        self._notes += some(odd, "lines of raters cannot be read and do not count")

    def notes(self) -> list[str]:
        """Which sessions are not here, and raters' lines that cannot be read."""
        return self._notes


def _session(name: str) -> str:
    """The number of the session, S01A-F01-S-FM01 -> 1."""
    return name.split("-")[1][-1]


def _utterance(clip: re.Match[str], stem: str, relative: str, rated: Rated) -> Utterance:
    sentence, target, gender, session, scenario = clip.groups()
    meant = {"target": str(EMOTIONS[target]), "scenario": SCENARIOS[scenario]}
    # the sentence that the situation was made for; only in the target clips is it said
    meant["sentence" if scenario in "RS" else "situation"] = sentence
    return Utterance(
        id=stem,
        path=relative,
        speaker=f"{gender}0{session}",
        gender=GENDERS[gender],
        session=session,
        label=rated.label,
        votes=dict(Counter(emotion for _, emotion in sorted(rated.votes))),
        aux={**meant, **rated.scales},
    )


def _rated(path: Path, odd: list[str]) -> dict[str, Rated]:
    """What the label file says, by clip; `odd` gets the places of raters' lines that cannot be read."""
    clips: dict[str, Rated] = {}
    current: Rated | None = None
    for where, line in numbered(path):
        found, rater = LINE.fullmatch(line), RATER.fullmatch(line)
        if found is None and current and not rater and not line.startswith("UTD-"):
            odd.append(where)  # no protocol asks for votes: one that cannot be read is no reason to read nothing
            continue
        if found is None and rater and current:
            emotion = rater[2].lower()  # a word that is not of the corpus's list is kept as it is
            current.votes.add((rater[1], VOTES.get(emotion, emotion)))
            continue
        name, current = _clip(found, line, where)
        if name in clips:
            raise InputError(f"{where}: {name} is labelled twice, first in {clips[name].where}. Keep one of them.")
        clips[name] = current
    return clips


def _clip(found: re.Match[str] | None, line: str, where: str) -> tuple[str, Rated]:
    if found is None:
        raise InputError(
            f"{where}: {line!r} is neither a clip, as in 'UTD-IMPROV-S01A-F01-S-FM01.avi; N; A:3.000000; V:3.500000; "
            f"D:3.000000 ; N:4.000000;', nor the line of a rater below one. {MEND}"
        )
    name, label, scales = found[1], found[7], map(float, found.groups()[7:])
    if label not in EMOTIONS:
        raise InputError(f"{where}: unknown emotion {label!r}; known: {', '.join(EMOTIONS)}. {MEND}")
    means = {what: mean for what, mean in zip(SCALES, scales, strict=True) if not math.isnan(mean)}
    return name, Rated(where, EMOTIONS[label], means, set())

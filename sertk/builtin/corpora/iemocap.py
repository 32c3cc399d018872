"""IEMOCAP (Busso et al. 2008, doi 10.1007/s10579-008-9076-6), the release of the authors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from sertk.builtin.corpora.anybody import some
from sertk.builtin.corpora.common import audio_files, numbered, release
from sertk.core import PAIRS, Corpus, Half, InputError, Protocol, RandomDev, Rejected, Utterance

# xxx: the evaluators did not agree
EMOTIONS: Final[Mapping[str, str | None]] = {
    "ang": "anger",
    "hap": "happiness",
    "exc": "excitement",
    "sad": "sadness",
    "neu": "neutral",
    "fru": "frustration",
    "sur": "surprise",
    "fea": "fear",
    "dis": "disgust",
    "oth": "other",
    "xxx": None,
}
VOTES: Final[Mapping[str, str]] = {"excited": "excitement", "neutral state": "neutral"}
GENDERS: Final[Mapping[str, str]] = {"F": "female", "M": "male"}
STYLES: Final[Mapping[str, str]] = {"impro": "improvised", "script": "scripted"}
SESSIONS: Final = ("Session1", "Session2", "Session3", "Session4", "Session5")
LAYOUT: Final = (
    "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav with Session1/dialog/EmoEvaluation/"
    "Ses01F_impro01.txt and Session1/dialog/transcriptions/Ses01F_impro01.txt, and so on"
)
MEND: Final = "Obtain the file again."
# turns marked XX are of the release too
TURN: Final = re.compile(r"((Ses0[1-5])[FM]_(impro|script)0\d[ab]?(?:_\d[ab]?)?)_([FM])[X\d]{2}\d")
LINE: Final = re.compile(r"\[\s*\d[\d.]*\s*-\s*\d[\d.]*\s*\]\s+(\S+)\s+(\S+)\s+\[(\d\.\d+),\s*(\d\.\d+),\s*(\d\.\d+)\]")
VOTE: Final = re.compile(r"([AC])-([EFM])\d*:(.*)")
TRANSCRIPT: Final = re.compile(rf"({TURN.pattern})\s*\[[^]]*\]\s*:(.*)")

TEXT: Final = {"text": PAIRS}  # the same plays are acted in every session, and "Yeah." is said in all
FOUR: Final[Mapping[str, str]] = {label: label for label in ("anger", "happiness", "neutral", "sadness")}
EXCITED: Final[Mapping[str, str]] = {**FOUR, "excitement": "happiness"}
IMPROVISED: Final = {"style": ["improvised"]}
BY_SESSION: Final = {f"Ses0{n}": [f"Ses0{n}"] for n in range(1, 6)}
PARTNERS: Final = {f"Ses0{n}{one}": f"Ses0{n}{other}" for n in range(1, 6) for one, other in ("FM", "MF")}
COUNTS: Final[Mapping[str, int]] = {"anger": 1103, "happiness": 1636, "neutral": 1708, "sadness": 1084}
COUNTS_IMPROVISED: Final[Mapping[str, int]] = {"anger": 289, "happiness": 284, "neutral": 1099, "sadness": 608}
COUNTS_IMPROVISED_EXCITED: Final[Mapping[str, int]] = {**COUNTS_IMPROVISED, "happiness": 284 + 663}


SESSION_OUT: Final = Protocol(
    labels=EXCITED,
    test=BY_SESSION,
    dev=1,
    group="session",
    overlaps=TEXT,
    published=COUNTS,
    about="4 classes, excitement into happiness (P2 3.1), 5 folds, one session out; dev: another session",
)


class Labelled(NamedTuple):
    """What a label file says of a turn.

    Attributes:
        where: File and line.
        label: The emotion that most evaluators chose; None where they did not agree.
        values: Means of valence, activation and dominance, 1 to 5.
        votes: External evaluators that named an emotion, by emotion; the actors' own lines are not among them.
    """

    where: str
    label: str | None
    values: Mapping[str, float]
    votes: Counter[str]


class Iemocap(Corpus):
    """IEMOCAP: ten actors in five sessions of two, improvised and scripted; on request at sail.usc.edu/iemocap."""

    about = "IEMOCAP: 10,039 turns, 10 actors in 5 sessions, improvised and scripted; on request, sail.usc.edu/iemocap"
    published: ClassVar[Mapping[str, int]] = {
        "anger": 1103,
        "disgust": 2,
        "excitement": 1041,
        "fear": 40,
        "frustration": 1849,
        "happiness": 595,
        "neutral": 1708,
        "other": 3,
        "sadness": 1084,
        "surprise": 107,
        "unlabelled": 2507,
    }
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "sessions": SESSION_OUT,
        "improvised": replace(
            SESSION_OUT,
            labels=FOUR,
            keep=IMPROVISED,
            published=COUNTS_IMPROVISED,
            about="improvised turns, 4 classes without excitement, 5 folds, one session out; dev: another session",
        ),
        "improvised-excited": replace(
            SESSION_OUT,
            keep=IMPROVISED,
            published=COUNTS_IMPROVISED_EXCITED,
            about="improvised turns, 4 classes, excitement into happiness, 5 folds, one session out; dev: another one",
        ),
        "p4": Protocol(
            labels=FOUR,
            test={str(n): [f"Ses0{n}"] for n in range(1, 6)},
            dev=Half(),
            group="session",
            keep=IMPROVISED,
            overlaps={"speaker": ["dev+test"], "session": ["dev+test"], **TEXT},
            published=COUNTS_IMPROVISED,
            about="improvised turns, 4 classes without excitement; a random half of the session left out is dev, the "
            "other is tested, and in the fold's twin the other way round (P4 5.1)",
        ),
        "p5": Protocol(
            labels=EXCITED,
            test=BY_SESSION,
            dev=RandomDev(10),
            group="session",
            keep=IMPROVISED,
            overlaps={"speaker": ["train+dev"], "session": ["train+dev"], **TEXT},
            published=COUNTS_IMPROVISED_EXCITED,
            about="improvised turns, 4 classes, excitement into happiness, 5 folds, one session out; dev: 10 % of the "
            "other four at random (P5 3)",
        ),
        "speakers": Protocol(
            labels=EXCITED,
            test={speaker: [speaker] for speaker in PARTNERS},
            dev={speaker: [partner] for speaker, partner in PARTNERS.items()},
            overlaps={"session": ["dev+test"], **TEXT},
            published=COUNTS,
            about="4 classes, excitement into happiness, 10 folds, one speaker out; dev: the partner in the session",
        ),
    }

    def __init__(self) -> None:
        self._notes: list[str] = []

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every turn of the sessions that are here, by the label files and the audio of the turns.

        Raises:
            SertkError: Where no session is here, or one has no audio of turns.
            InputError: On a line of a label file that cannot be read, and on a turn that is labelled twice.
        """
        folder = release(root, SESSIONS, LAYOUT)
        here = [name for name in SESSIONS if (folder / name).is_dir()]
        self._notes = [f"{name} is not in {folder}" for name in SESSIONS if name not in here]
        mute, odd = list[str](), list[str]()
        for name in here:
            for one in _session(folder / name, root, odd):
                if isinstance(one, Utterance) and one.text is None:
                    mute.append(one.id)
                yield one
        self._notes += some(mute, "turns have no transcript")
        self._notes += some(odd, "lines of evaluators cannot be read and do not count")

    def notes(self) -> list[str]:
        """Which sessions are not here, and how many turns have no transcript."""
        return self._notes


def _session(folder: Path, root: Path, odd: list[str]) -> Iterator[Utterance | Rejected]:
    labels = _labels(folder / "dialog" / "EmoEvaluation", odd)
    texts = _texts(folder / "dialog" / "transcriptions")
    wav = folder / "sentences" / "wav"
    audio: dict[str, Path] = {}
    for path in audio_files(wav, LAYOUT):
        turn = TURN.fullmatch(path.stem)
        if path.stem in audio:
            yield Rejected(path, f"{path.stem} is also {audio[path.stem]}")
        elif turn is None or path.stem not in labels:
            yield Rejected(path, f"no line of {folder / 'dialog' / 'EmoEvaluation'} labels {path.stem}")
        else:
            yield _utterance(turn, path.relative_to(root).as_posix(), labels[path.stem], texts.get(path.stem))
        audio.setdefault(path.stem, path)
    for name, labelled in labels.items():
        if name not in audio:
            path = wav / name.rpartition("_")[0] / f"{name}.wav"
            yield Rejected(path, f"{labelled.where} labels {name}, which has no audio")


def _utterance(turn: re.Match[str], relative: str, labelled: Labelled, text: str | None) -> Utterance:
    # the letter of the dialog says who wears the markers, the letter of the turn who speaks
    dialog, session, style, speaker = turn.groups()
    return Utterance(
        id=turn[0],
        path=relative,
        speaker=session + speaker,
        gender=GENDERS[speaker],
        session=session,
        text=text,
        label=labelled.label,
        votes=dict(labelled.votes),
        aux={"dialog": dialog, "style": STYLES[style], **labelled.values},
    )


def _labels(folder: Path, odd: list[str]) -> dict[str, Labelled]:
    """What the label files of a session say, by turn; what lies in folders below repeats it by evaluator.

    `odd` gets the places of lines below a turn that cannot be read.
    """
    labels: dict[str, Labelled] = {}
    for path in _texts_in(folder):
        current: Labelled | None = None
        for where, line in numbered(path):
            if line.startswith("%"):
                continue
            vote = VOTE.fullmatch(line)
            if vote and current:
                current.votes.update(_votes(*vote.groups()))
                continue
            if current and not line.startswith("["):
                odd.append(where)  # of evaluators, or of their scales: no reason to read nothing
                continue
            name, current = _labelled(line, where)
            if name in labels:
                raise InputError(f"{where}: {name} is labelled twice, first in {labels[name].where}. Keep one of them.")
            labels[name] = current
    return labels


def _labelled(line: str, where: str) -> tuple[str, Labelled]:
    found = LINE.fullmatch(line)
    if found is None or not TURN.fullmatch(found[1]):
        raise InputError(
            f"{where}: {line!r} is not [start - end], turn, emotion and [valence, activation, dominance], as in "
            f"'[6.2901 - 8.2357] Ses01F_impro01_F000 neu [2.5000, 2.5000, 2.5000]'. {MEND}"
        )
    name, label, *values = found.groups()
    if label not in EMOTIONS:
        raise InputError(f"{where}: unknown emotion {label!r}; known: {', '.join(EMOTIONS)}. {MEND}")
    means = dict(zip(("valence", "activation", "dominance"), map(float, values), strict=True))
    return name, Labelled(where, EMOTIONS[label], means, Counter())


def _votes(kind: str, who: str, said: str) -> Sequence[str]:
    """The emotions that a line names: of an external evaluator, who may name several; of the others nothing.

    A word that is not of the corpus's list is kept as it is.
    """
    words = said.partition("(")[0].split(";") if (kind, who) == ("C", "E") else []
    found = (word.strip().lower() for word in words if word.strip())
    return sorted({VOTES.get(word, word) for word in found})


def _texts(folder: Path) -> dict[str, str]:
    """Transcripts by turn; lines of turns that nobody labelled are there too, and lines without a turn's name."""
    lines = (TRANSCRIPT.fullmatch(line) for path in _texts_in(folder) for _, line in numbered(path))
    return {found[1]: found[6].strip() for found in lines if found}


def _texts_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))

"""IEMOCAP's layout with its published counts.

Known by session are the five classes of `SESSIONS`, known of the improvised turns the same five and their sum. Whatever
is not known (the rest by session, the five classes by both, speakers, dialogs) is spread evenly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

from sertk.testing.trees.audio import clip

SESSIONS: Final[Mapping[str, Sequence[int]]] = {
    "ang": (229, 137, 240, 327, 170),
    "hap": (135, 117, 135, 65, 143),
    "exc": (143, 210, 151, 238, 299),
    "neu": (384, 362, 320, 258, 384),
    "sad": (194, 197, 305, 143, 245),
}
OTHERS: Final[Mapping[str, int]] = {"xxx": 2507, "fru": 1849, "sur": 107, "fea": 40, "oth": 3, "dis": 2}
IMPROVISED: Final[Mapping[str, int]] = {"ang": 289, "hap": 284, "exc": 663, "neu": 1099, "sad": 608}
ALL_IMPROVISED: Final = 4784
DIALOGS: Final[Mapping[str, Sequence[str]]] = {
    "impro": [f"impro{n:02d}" for n in range(1, 9)],
    "script": [f"script0{n}" for n in ("1_1", "1_2", "1_3", "2_1", "2_2", "3_1", "3_2")],
}
WORDS: Final[Mapping[str, str]] = {
    "ang": "Anger",
    "hap": "Happiness",
    "exc": "Excited",
    "neu": "Neutral",
    "sad": "Sadness",
    "fru": "Frustration",
    "sur": "Surprise",
    "fea": "Fear",
    "oth": "Other",
    "dis": "Disgust",
}
HEAD: Final = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"


class Turn(NamedTuple):
    """A turn: its dialog, its name and its label."""

    dialog: str
    name: str
    label: str

    @property
    def text(self) -> str:
        """What is said: in scripts the same in every session, in improvisations now and then."""
        number = int(self.name[-3:])
        if "script" in self.dialog:
            return f"Line {number} of {self.dialog.partition('_')[2]}, café."
        return "Yeah." if number % 10 == 0 else f"Something that {self.name} says."


def write(
    folder: Path,
    *,
    seconds: float = 0.005,
    sessions: Sequence[int] = (1, 2, 3, 4, 5),
    share: int = 1,
    newline: str = "\n",
    encoding: str = "utf-8",
) -> Path:
    """Writes the corpus.

    Args:
        folder: Where to: the folder of the release, with Session1 and so on.
        seconds: Length of a clip.
        sessions: Which of the five.
        share: Every so many-th turn only, of each session, emotion and style.
        newline: Of the text files.
        encoding: Of the text files.

    Returns:
        The folder.
    """
    seed = 0
    for session in sessions:
        own = folder / f"Session{session}"
        turns = _turns(session, share)
        for turn in turns:
            seed += 1
            clip(own / "sentences" / "wav" / turn.dialog / f"{turn.name}.wav", seed, seconds)
        for dialog in sorted({turn.dialog for turn in turns}):
            spoken = [turn for turn in turns if turn.dialog == dialog]
            files = {
                "EmoEvaluation": [HEAD, "", *(line for turn in spoken for line in _labelled(turn))],
                "transcriptions": [f"{turn.name} [000.0000-001.0000]: {turn.text}" for turn in spoken],
            }
            for kind, lines in files.items():
                path = own / "dialog" / kind / f"{dialog}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes("".join(line + newline for line in lines).encode(encoding))
    return folder


def _turns(session: int, share: int) -> list[Turn]:
    """The turns of a session."""
    taken: Counter[str] = Counter()
    turns = []
    for style, own in _cells(session).items():
        labels = [label for label, count in own.items() for _ in range(0, count, share)]
        places = list(product("FM", "FM", DIALOGS[style]))  # who speaks, who wears the markers
        for number, label in enumerate(labels):
            speaker, wearer, dialog = places[number % len(places)]
            full = f"Ses0{session}{wearer}_{dialog}"
            name = f"{full}_{speaker}"
            turns.append(Turn(full, f"{name}{taken[name]:03d}", label))
            taken[name] += 1
    return turns


def _cells(session: int) -> dict[str, dict[str, int]]:
    """Turns of a session by style and label."""
    others = dict(zip(OTHERS, shared(ALL_IMPROVISED - sum(IMPROVISED.values()), list(OTHERS.values())), strict=True))
    totals = {**SESSIONS, **{label: shared(count, [1] * 5) for label, count in OTHERS.items()}}
    improvised = {
        label: shared({**IMPROVISED, **others}[label], counts)[session - 1] for label, counts in totals.items()
    }
    scripted = {label: counts[session - 1] - improvised[label] for label, counts in totals.items()}
    return {"impro": improvised, "script": scripted}


def shared(total: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers in the ratio of the weights that sum to `total`, the largest remainders rounded up."""
    whole = [total * weight // sum(weights) for weight in weights]
    rest = sorted(range(len(weights)), key=lambda n: (-(total * weights[n] % sum(weights)), n))
    return [count + (n in rest[: total - sum(whole)]) for n, count in enumerate(whole)]


def _labelled(turn: Turn) -> list[str]:
    """The block of a turn in a label file: the turn, evaluators, the actor's own opinion, and the values."""
    word = WORDS.get(turn.label)
    votes = [f"{word};", f"{word};", f"{word}; Other;"] if word else ["Anger;", "Sadness;", "Neutral; Other;"]
    return [
        f"[0.0000 - 1.0000]\t{turn.name}\t{turn.label}\t[2.5000, 3.0000, 3.5000]",
        *(f"C-E{n}:\t{vote}\t()" for n, vote in enumerate(votes, 2)),
        f"C-{turn.name[-4]}1:\tSurprise;\t(puzzled)",
        "A-E3:\tval 2; act 3; dom  4;\t()",
        "A-E4:\tval 3; act 3; dom  ;\t()",
        "",
    ]

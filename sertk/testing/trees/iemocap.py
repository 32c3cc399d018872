"""IEMOCAP's layout with its published counts.

Known by session are the five classes of `SESSIONS`, known of the improvised turns the same five and their sum. Whatever
is not known (the rest by session, the five classes by both, speakers, dialogs) is spread evenly. The 151 dialogs have
their own names, and one turn of the release that is marked XX is among the turns. What a release has beside labels,
transcripts and turns is there too: whole dialogs, what each evaluator said, and times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

from sertk.core import key
from sertk.testing.trees.audio import clip
from sertk.testing.trees.defects import check, spoil, write_text

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
PLAYS: Final = [f"script0{n}" for n in ("1_1", "1_2", "1_3", "2_1", "2_2", "3_1", "3_2")]
IMPROVISATIONS: Final = [f"impro{n:02d}" for n in range(1, 9)]
CUT: Final = ("Ses03M_impro05", "Ses03M_impro08")  # in two dialogs, a and b
MARKED: Final = "Ses03F_impro06_FXX0"
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

    def path(self, folder: Path) -> Path:
        """Where its audio is."""
        return folder / f"Session{self.dialog[4]}" / "sentences" / "wav" / self.dialog / f"{self.name}.wav"

    @property
    def text(self) -> str:
        """What is said: in scripts the same in every session, in improvisations now and then."""
        number = int(self.name[-3:].replace("X", ""))
        if "script" in self.dialog:
            return f"Line {number} of {self.dialog.partition('_')[2]}, café."
        return "Yeah." if number % 10 == 0 else f"Something that {self.name} says."


def write(
    folder: Path,
    *,
    seconds: float = 0.005,
    sessions: Sequence[int] = (1, 2, 3, 4, 5),
    share: int = 1,
    defects: Collection[str] = (),
) -> Path:
    """Writes the corpus.

    Args:
        folder: Where to: the folder of the release, with Session1 and so on.
        seconds: Length of a clip.
        sessions: Which of the five.
        share: Every so many-th turn only, of each session, emotion and style.
        defects: What is wrong with it, of `sertk.testing.trees.defects.DEFECTS`: "label_without_audio",
            "audio_without_label", "labelled_twice" (of the first turn), "second_file" (of the second turn),
            "apple_double", "crlf", "latin1", "mark".

    Returns:
        The folder.

    Raises:
        UsageError: On an unknown defect.
    """
    check(defects)
    turns = [turn for session in sessions for turn in _turns(session, share)]
    for seed, turn in enumerate(turns, 1):
        clip(turn.path(folder), seed, seconds)
    for dialog in sorted({turn.dialog for turn in turns}):
        spoken = [turn for turn in turns if turn.dialog == dialog]
        again = turns[:1] if "labelled_twice" in defects and dialog == turns[0].dialog else []
        _write_dialog(folder, spoken, again, seconds, defects)
    if defects:
        spoil(folder, [turn.path(folder) for turn in turns[:2]], f"{turns[0].name[:-3]}999", defects)
    return folder


def _write_dialog(
    folder: Path, spoken: Sequence[Turn], again: Sequence[Turn], seconds: float, defects: Collection[str]
) -> None:
    """Writes the folder `dialog` of a session, as far as it is of one dialog; `again`: turns labelled twice."""
    name, own = spoken[0].dialog, folder / f"Session{spoken[0].dialog[4]}" / "dialog"
    labelled = [HEAD, "", *(line for turn in (*spoken, *again) for line in _labelled(turn))]
    write_text(own / "EmoEvaluation" / f"{name}.txt", labelled, defects)
    said = [f"{turn.name} [000.0000-001.0000]: {turn.text}" for turn in spoken]
    write_text(own / "transcriptions" / f"{name}.txt", said, defects)
    for file, lines in _beside(name, spoken):
        write_text(own / file, lines, defects)
    clip(own / "wav" / f"{name}.wav", key(name), seconds)


def _beside(dialog: str, spoken: Sequence[Turn]) -> Iterator[tuple[str, list[str]]]:
    """What nobody reads: what an evaluator and an actor said of each turn, and when it was, by the file's path."""
    emotions = [f"{turn.name} :Neutral state; ()" for turn in spoken]
    yield f"EmoEvaluation/Categorical/{dialog}_e2_cat.txt", emotions
    yield f"EmoEvaluation/Self-evaluation/{dialog}_f1_cat.txt", emotions
    yield f"EmoEvaluation/Attribute/{dialog}_e2_atr.txt", [f"{one.name} :act 3; :val 3; :dom 3; ()" for one in spoken]
    yield f"lab/{dialog[:5]}_F/{dialog}.lab", [f"0.000000 1.000000 {turn.name}" for turn in spoken]


def _turns(session: int, share: int) -> list[Turn]:
    """The turns of a session."""
    taken: Counter[str] = Counter()
    turns = []
    for style, own in _cells(session).items():
        labels = [label for label, count in own.items() for _ in range(0, count, share)]
        places = [(speaker, dialog) for speaker in "FM" for dialog in dialogs(session, style)]
        for number, label in enumerate(labels):
            speaker, dialog = places[number % len(places)]
            start = f"{dialog}_{speaker}"
            name = f"{start}{taken[start]:03d}"
            turns.append(Turn(dialog, MARKED if name == MARKED.replace("XX", "00") else name, label))
            taken[start] += 1
    return turns


def dialogs(session: int, style: str) -> list[str]:
    """The dialogs of a session as the release names them; the letter after the session wears the markers."""
    plain = PLAYS if style == "script" else IMPROVISATIONS[: 7 if session == 1 else 8]
    names = [f"Ses0{session}{wearer}_{dialog}" for wearer, dialog in product("FM", plain)]
    halves = [name + half for name in names for half in ("ab" if name in CUT else [""])]
    return [*halves, "Ses05M_script01_1b"] if (session, style) == (5, "script") else halves


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

"""MSP-IMPROV's layout with its published counts by scenario and emotion, spread evenly over speakers and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import Final, NamedTuple

from sertk.testing.trees.audio import clip
from sertk.testing.trees.defects import check, spoil, write_text

EMOTIONS: Final = "ASHNOX"
# Busso et al. 2017, table 4: anger, sadness, happiness, neutral, other, no agreement
COUNTS: Final[Mapping[str, Sequence[int]]] = {
    "S": (115, 106, 136, 283, 1, 11),
    "R": (169, 80, 88, 241, 3, 39),
    "T": (470, 633, 1048, 1789, 70, 371),
    "P": (38, 66, 1372, 1164, 11, 134),
}
WORDS: Final[Mapping[str, str]] = {"A": "Angry", "S": "Sad", "H": "Happy", "N": "Neutral", "O": "Other"}


class Clip(NamedTuple):
    """A clip: its session, sentence with the emotion that is meant, scenario, name and label."""

    session: int
    sentence: str
    scenario: str
    name: str
    label: str

    @property
    def file(self) -> str:
        """Where its audio is."""
        return f"session{self.session}/{self.sentence}/{self.scenario}/MSP-IMPROV-{self.name}.wav"


def write(
    folder: Path,
    *,
    seconds: float = 0.005,
    sessions: Sequence[int] = (1, 2, 3, 4, 5, 6),
    share: int = 1,
    audio: str = "Audio",
    labels: str = "Evalution.txt",
    defects: Collection[str] = (),
) -> Path:
    """Writes the corpus.

    Args:
        folder: Where to.
        seconds: Length of a clip.
        sessions: Those of the six whose audio is there; the label file lists the clips of all.
        share: Every so many-th clip only, of each scenario and emotion.
        audio: The folder of the sessions below the corpus folder; "" for none.
        labels: Name of the label file.
        defects: What is wrong with it, of `sertk.testing.trees.defects.DEFECTS`: "label_without_audio",
            "audio_without_label", "labelled_twice" (of the first clip), "second_file" (of the second clip),
            "apple_double", "crlf", "latin1", "mark".

    Returns:
        The folder.

    Raises:
        UsageError: On an unknown defect.
    """
    check(defects)
    clips = list(_clips(share))
    here = [one for one in clips if one.session in sessions]
    for seed, one in enumerate(here):
        clip(folder / audio / one.file, seed, seconds)
    again = clips[:1] if "labelled_twice" in defects else []
    write_text(folder / labels, (line for one in (*clips, *again) for line in _rated(one)), defects)
    if defects:
        spoil(folder, [folder / audio / one.file for one in here[:2]], f"MSP-IMPROV-{here[0].name[:-2]}99", defects)
    return folder


def _clips(share: int) -> Iterator[Clip]:
    taken: Counter[str] = Counter()
    speakers = cycle([(gender, session) for session in range(1, 7) for gender in "FM"])
    sentences = (f"S{number // 12 % 20 + 1:02d}" for number in count())
    for scenario, counts in COUNTS.items():
        for label, amount in zip(EMOTIONS, counts, strict=True):
            for number in range(0, amount, share):
                (gender, session), sentence = next(speakers), next(sentences)
                sentence += label if label in "ASHN" else "ASHN"[number % 4]
                pair = gender * 2 if scenario == "R" else "FM"
                start = f"{sentence}-{gender}0{session}-{scenario}-{pair}"
                taken[start] += 1
                yield Clip(session, sentence, scenario, f"{start}{taken[start]:02d}", label)


def _rated(one: Clip) -> list[str]:
    """The lines of a clip: what the raters agreed on, and theirs."""
    word = WORDS.get(one.label)
    words = [word, word, "Other"] if word else ["Angry", "Happy", "Sad"]
    return [
        f"UTD-IMPROV-{one.name}.avi; {one.label}; A:3.000000; V:3.500000; D:2.500000 ; N:4.000000;",
        *(
            f"rater-{n}_p{one.session}; {said}; Annoyed (so-so; déjà vu); A:3.000000; V:4.000000; D:NaN; N:4.000000;"
            for n, said in enumerate(words)
        ),
        "",
    ]

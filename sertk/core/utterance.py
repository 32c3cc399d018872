"""An utterance: the one line of a manifest."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple, get_type_hints

from sertk.core.errors import InputError, UsageError
from sertk.core.files import Document, Record
from sertk.core.forms import Form

NOTHING: Document = {}
"""What most utterances have as votes and aux: one for all of them."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance of a corpus.

    Attributes:
        id: Unique in its corpus, the official name if it has one.
        path: Audio file relative to the corpus root, with forward slashes.
        start: Offset in the file, seconds.
        duration: Seconds; None until `prepare` has read the audio.
        speaker: Speaker identity, what speaker-independence is audited by; "unknown" if nobody says.
        gender: "female", "male" or None where the corpus does not say.
        session: Recording session or dialogue, None if unknown.
        text: Transcript, None where the corpus has none.
        label: Emotion as a noun in the corpus's own inventory (before a protocol maps it).
        votes: Annotator votes by emotion.
        aux: Anything else the corpus publishes (intensity, take, valence, ...).
    """

    id: str
    path: str
    speaker: str
    label: str | None
    start: float = 0.0
    duration: float | None = None
    gender: str | None = None
    session: str | None = None
    text: str | None = None
    votes: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    aux: Document = field(default_factory=lambda: NOTHING)

    @property
    def known_speaker(self) -> str | None:
        """The speaker, None if it is unknown."""
        return None if self.speaker == "unknown" else self.speaker

    @property
    def intensity(self) -> str | None:
        """`aux.intensity`, as in "strong"; None where it is unknown or no text."""
        found = self.aux.get("intensity")
        return found if found and isinstance(found, str) else None

    @property
    def transcript(self) -> str | None:
        """The text without blanks around it, None if it is empty; half of a surrogate pair is U+FFFD."""
        return (self.text or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip() or None

    @property
    def sentence(self) -> str | None:
        """What is said, to compare: the words, or `aux.sentence`, the code of a fixed sentence; None if unknown."""
        code = self.aux.get("sentence")
        return words(self.text) or (None if code is None else str(code))

    def to_json(self) -> Record:
        """The manifest line as a dictionary, the fields that say nothing left out."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        kept = {name: value for name, value in values.items() if value not in (None, {})}
        return {"schema": 1, **kept}

    @classmethod
    def from_json(cls, line: Document, where: str) -> Utterance:
        """Reads a manifest line.

        Args:
            line: The parsed JSON.
            where: "file:line", for the error.

        Raises:
            InputError: On a newer schema, an unknown or a missing field.
        """
        fields = dict(line)
        if fields.pop("schema", None) != 1:
            raise InputError(
                f"{where}: schema {line.get('schema')!r}; this sertk reads schema 1. Prepare the corpus again."
            )
        known = cls.__annotations__
        odd = (
            "" if fields.keys() <= known.keys() else f"{next(iter(fields.keys() - known.keys()))!r} is no field of one"
        )
        fault = odd or _form().fault(fields)
        if fault:
            raise InputError(f"{where}: not an utterance ({fault}); fields are {', '.join(known)}.")
        return cls(**{"label": None, **fields})

    @classmethod
    def is_line(cls, line: Document) -> bool:
        """Whether it is a manifest line of this schema with an id, whatever else is wrong with it."""
        return (
            line.get("schema") == 1 and isinstance(line.get("id"), str) and {*line} <= {*cls.__annotations__, "schema"}
        )


@functools.cache
def _form() -> Form:
    """Of a manifest line."""
    hints = get_type_hints(Utterance)
    needed = {word: hints.pop(word) for word in ("id", "path", "speaker")}
    return Form(needed, hints)


def speaker_search(given: str, pattern: str) -> Callable[[str], str | None]:
    """What finds the speaker in an id or a path: the first group of an expression; None if it finds nothing there.

    Args:
        given: What errors call the expression.
        pattern: The regular expression.

    Raises:
        UsageError: If it is no regular expression, or has no group.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{given}: {pattern!r} is no regular expression ({error}).") from None
    if not compiled.groups:
        raise UsageError(f"{given}: {pattern!r} has no group. Put what names the speaker into brackets: ([a-z]+)_")

    def search(text: str) -> str | None:
        found = compiled.search(text)
        return (found[1] or None) if found else None  # an empty group names nobody

    return search


def words(text: str | None) -> str | None:
    """A text without case and punctuation, to compare; None where there is nothing to say."""
    if text is None:
        return None
    plain = unicodedata.normalize("NFKC", text).casefold()
    # letters, digits and their marks: the vowel signs of some scripts are marks
    kept = (char if char.isalnum() or unicodedata.category(char)[0] == "M" else " " for char in plain)
    return " ".join("".join(kept).split()) or None


class Rejected(NamedTuple):
    """A file of a corpus folder that cannot become an utterance, and why: it is listed, never silently dropped."""

    path: Path
    reason: str
    id: str = ""  # of the utterance that it would have been, where that is not the name of the file

"""A folder for each class: ROOT/<label>/**/*.wav (or .mp3, ...), as many small corpora and demonstrations have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final

from sertk.builtin.corpora.anybody import BY_SPEAKER, some
from sertk.core import Corpus, Protocol, Rejected, SertkError, UsageError, Utterance
from sertk.core.utterance import speaker_search
from sertk.core.walk import READ, UNREAD, Below, below

LAYOUT: Final = "a folder for each class, such as anger/ann_01.wav"
UNKNOWN: Final = "no speakers are known: a speaker=REGEX finds them, for example folder:speaker=([a-z]+)_ in ann_01.wav"


class Folder(Corpus):
    """Anybody's corpus with a folder for each class; the folders' names are the labels.

    Args:
        speaker: Regular expression that is searched in the path below --root; its first group is the speaker. Without
            it every speaker is "unknown", and only the random protocols can be made.
        title: What the corpus is called in folders and scores.
    """

    about = "folder: your own corpus, a folder for each class (anger/ann_01.wav); the licence is your corpus's"
    published: ClassVar[Mapping[str, int]] = {}
    protocols: ClassVar[Mapping[str, Protocol]] = BY_SPEAKER

    def __init__(self, speaker: str = "", title: str = "") -> None:
        self.title = title
        self._pattern = speaker
        self._speaker = speaker_search("corpus 'folder': speaker", speaker) if speaker else None
        self._notes: list[str] = []

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every audio file below `root`; its first folder is its label."""
        if not root.is_dir():
            raise SertkError(f"'{root}' is not a folder. Give the corpus folder with --root; expected there: {LAYOUT}.")
        found = below(root)
        paths, copies = _chosen(found)
        if not paths:
            raise SertkError(f"{root} holds no audio file. Give another --root; expected there: {LAYOUT}.")
        self._notes = [] if self._speaker else [UNKNOWN]
        others = [path for path in found.files if path.suffix.lower() not in (*READ, *UNREAD)]
        self._notes += some(_names(others, root), "files are no audio and are not read")
        self._notes += some(_names(copies, root), "files are other forms of one that is read, and are not read")
        speakers = set()
        for path in paths:
            one = self._utterance(path, path.relative_to(root))
            if isinstance(one, Utterance):
                speakers.add(one.speaker)
            yield one
        if self._speaker and not speakers and (inner := [path for path in paths if path.parent != root]):
            where = inner[0].relative_to(root).as_posix()
            raise UsageError(
                f"corpus 'folder': speaker={self._pattern} finds a speaker in none of {len(inner)} files, such "
                f"as {where}. Its first group must match the speaker there: ([a-z]+)_ finds ann in joy/ann_01.wav."
            )
        if self._speaker:
            first = ", ".join(sorted(speakers)[:4])
            self._notes.append(f"{len(speakers)} speakers: {first}{', ...' * (len(speakers) > 4)}")

    def notes(self) -> list[str]:
        """That no speakers are known, and files that are no audio that can be read."""
        return self._notes

    def _utterance(self, path: Path, relative: Path) -> Utterance | Rejected:
        if len(relative.parts) == 1:
            return Rejected(path, f"{relative} is in no class folder; expected: {LAYOUT}")
        speaker = self._speaker(relative.as_posix()) if self._speaker else "unknown"
        if speaker is None:
            return Rejected(path, f"{relative}: speaker={self._pattern} finds no speaker in it")
        return Utterance(
            # what libsndfile does not read may have the name of another form that it does not read
            id=(relative if relative.suffix.lower() in UNREAD else relative.with_suffix("")).as_posix(),
            path=relative.as_posix(),
            speaker=speaker,
            label=relative.parts[0],
        )


def _chosen(found: Below) -> tuple[list[Path], list[Path]]:
    """The audio files, and those that are left out: beside one that is read, and differing in the suffix alone."""
    order = {suffix: place for place, suffix in enumerate(READ)}
    first: dict[Path, Path] = {}
    for path in sorted(found.having(READ), key=lambda path: order[path.suffix.lower()]):
        first.setdefault(path.with_suffix(""), path)
    kept, copies = list[Path](), list[Path]()
    for path in found.having((*READ, *UNREAD)):
        (kept if first.get(path.with_suffix(""), path) == path else copies).append(path)
    return kept, copies


def _names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]

"""A Kaldi data directory (https://kaldi-asr.org/doc/data_prep.html), in Kaldi's own sorting rules."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from sertk.builtin.corpora.anybody import BY_SPEAKER, composed, gender_of, relative, some
from sertk.core import Corpus, InputError, Protocol, Rejected, Utterance
from sertk.core.files import BLANKS, digest, kaldi_lines, writing

SORT: Final = "Sort it as Kaldi does: LC_ALL=C sort FILE -o FILE, or utils/fix_data_dir.sh"
UTF8: Final = "Give a Kaldi data directory with --root (wav.scp, utt2spk, utt2emo), its files in UTF-8."


class Line(NamedTuple):
    """What stands behind a key, and where: "file:line"."""

    value: str
    where: str


class Cut(NamedTuple):
    """An utterance in its recording; no duration: to the end."""

    recording: str
    where: str
    start: float = 0.0
    duration: float | None = None


Lines = Mapping[str, Line]


class Kaldi(Corpus):
    """Anybody's corpus as a Kaldi data directory; `utt2emo` has the labels, as `sertk kaldi` writes it.

    Args:
        pipes: Folder into which the audio of each command of wav.scp (a line that ends with "|") is written once. The
            commands are run; without the folder they are refused.
        title: What the corpus is called in folders and scores.
    """

    about = "kaldi: your own corpus, a Kaldi data directory with utt2emo; the licence is your corpus's"
    published: ClassVar[Mapping[str, int]] = {}
    protocols: ClassVar[Mapping[str, Protocol]] = BY_SPEAKER

    def __init__(self, pipes: str = "", title: str = "") -> None:
        self.title = title
        self._pipes = Path(pipes) if pipes else None
        self._notes: list[str] = []

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every utterance of `segments`, or of wav.scp if there is no `segments`, in Kaldi's order.

        Raises:
            SertkError: Where wav.scp or utt2spk is missing.
            InputError: On a line that Kaldi would refuse, and on a command without `pipes`.
        """
        recordings = _read(root / "wav.scp")
        speakers = _read(root / "utt2spk")
        cuts = _cuts(root, recordings)
        self._notes = _unsorted(speakers, root / "utt2spk")
        told = {name: self._read(root / name, cuts) for name in ("text", "utt2emo")}
        genders = self._read(root / "spk2gender", dict.fromkeys(line.value for line in speakers.values()))
        for name, cut in cuts.items():
            yield self._utterance(name, cut, recordings, speakers, genders, told, root)
        for name in sorted(speakers.keys() - cuts.keys()):
            yield Rejected(Path(name), f"{speakers[name].where}: {name} has no audio in wav.scp or segments", name)

    def notes(self) -> list[str]:
        """What Kaldi would object to, and what is not said of every utterance."""
        return self._notes

    def _read(self, path: Path, wanted: Mapping[str, object]) -> Lines:
        """A file that may be absent; noted is what it lacks, and what it has of nobody here."""
        lines = _read(path) if path.exists() else {}
        if not path.exists():
            self._notes.append(f"there is no {path}")
            return lines
        self._notes += some([key for key in wanted if key not in lines], f"are not in {path}")
        self._notes += some([key for key in lines if key not in wanted], f"are in {path} and not in this directory")
        return lines

    def _utterance(
        self,
        name: str,
        cut: Cut,
        recordings: Lines,
        speakers: Lines,
        genders: Lines,
        told: Mapping[str, Lines],
        root: Path,
    ) -> Utterance | Rejected:
        if cut.recording not in recordings:
            return Rejected(Path(name), f"{cut.where}: recording {cut.recording} is not in {root / 'wav.scp'}", name)
        if name not in speakers:
            return Rejected(Path(name), f"{cut.where}: {name} has no speaker in {root / 'utt2spk'}", name)
        path = self._audio(recordings[cut.recording])
        if not path.is_file():
            return Rejected(path, f"{recordings[cut.recording].where}: {path} is missing", name)
        speaker = speakers[name].value
        gender = genders.get(speaker)
        said = {what: lines[name].value for what, lines in told.items() if name in lines}
        return Utterance(
            id=name,
            path=relative(path, root),
            speaker=speaker,
            label=said.get("utt2emo") or None,
            start=cut.start,
            duration=cut.duration,
            gender=gender_of(gender.value, gender.where) if gender else None,
            text=said.get("text") or None,
        )

    def _audio(self, line: Line) -> Path:
        """The file of a recording; relative to the current folder, as in Kaldi. A command is run once."""
        if not line.value.endswith("|"):
            return Path(line.value)
        command = line.value.removesuffix("|").strip()
        if self._pipes is None:
            raise InputError(
                f"{line.where}: {command!r} is a command, and commands are only run when told to. Read what it does, "
                "then give the folder for its audio: kaldi:pipes=FOLDER"
            )
        path = self._pipes / f"{digest(command)}.wav"
        if not path.exists():
            done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
            if done.returncode or not done.stdout:
                said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
                raise InputError(f"{line.where}: {command!r} gives no audio (exit code {done.returncode}: {said}).")
            with writing(path) as file:
                file.write(done.stdout)
        return path


def _read(path: Path) -> dict[str, Line]:
    """The lines of a file by their first word.

    Raises:
        SertkError: Where it is missing or not UTF-8.
        InputError: Where a line has no key or value, or is not in Kaldi's order, or a key comes twice.
    """
    lines: dict[str, Line] = {}
    before = b""
    for where, key, value in kaldi_lines(path, UTF8):
        if not key or (not value and path.name != "text"):  # a transcript may be empty
            raise InputError(f"{where}: {key!r} is not KEY VALUE. Correct or remove the line.")
        name = composed(key)
        if name in lines:
            raise InputError(f"{where}: {key} comes twice, first at {lines[name].where}. Remove one of the lines.")
        if key.encode() < before:
            raise InputError(f"{where}: {key} stands behind {before.decode()}. {SORT}")
        # composed letters, so that a name is one in all files; paths stay as the disk has them
        lines[name] = Line(value if path.name == "wav.scp" else composed(value), where)
        before = key.encode()
    return lines


def _unsorted(speakers: Lines, path: Path) -> list[str]:
    """A note where the utterances are not in the order of their speakers too, as Kaldi's scripts want it."""
    order = [line.value.encode() for line in speakers.values()]
    if order == sorted(order):
        return []
    return [f"{path} is not in the order of its speakers; Kaldi wants ids that begin with the speaker"]


def _cuts(root: Path, recordings: Lines) -> dict[str, Cut]:
    path = root / "segments"
    if not path.exists():
        return {name: Cut(name, line.where) for name, line in recordings.items()}
    return {name: _cut(line) for name, line in _read(path).items()}


def _cut(line: Line) -> Cut:
    """Reads RECORDING START END; an END of -1 is the end of the recording, as for extract-segments."""
    recording, *times = BLANKS.split(line.value)
    try:
        start, end = map(float, times)
    except ValueError:
        start = end = math.nan
    if not (0 <= start < end < math.inf or (start >= 0 and end == -1)):
        raise InputError(f"{line.where}: {line.value!r} is not RECORDING START END with END after START, in seconds.")
    return Cut(recording, line.where, start, None if end == -1 else round(end - start, 6))

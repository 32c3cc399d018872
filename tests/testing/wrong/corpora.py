"""Corpora that are wrong in one way each, and some that are right; `says` is what the contracts must say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from sertk.core import Corpus, LeaveOneOut, Protocol, Rejected, SertkError, Utterance
from sertk.hookspecs import hookimpl


class Named(Corpus):
    """SPEAKER_LABEL_TAKE.wav anywhere below the folder: a right one."""

    says = ""

    about = "named: of nobody"
    published: ClassVar[Mapping[str, int]] = {"anger": 6, "happiness": 6, "neutral": 6, "sadness": 6}
    protocols: ClassVar[Mapping[str, Protocol]] = {
        "two": Protocol({"anger": "anger", "sadness": "sadness"}, {"1": ["ann"], "2": ["ben"]}, about="ours")
    }

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        paths = sorted(root.rglob("*.wav"))
        if not paths:
            raise SertkError(f"{root} holds no .wav. Give another folder.")
        for path in paths:
            yield self.one(path, root)

    def one(self, path: Path, root: Path) -> Utterance | Rejected:
        label, take = path.stem.split("_")
        speaker = path.parent.name
        return Utterance(
            f"{speaker}_{path.stem}", path.relative_to(root).as_posix(), speaker, label, aux={"take": take}
        )


class Noted(Named):
    """Of nobody's counts, by leaving out; what it does not read is told in a note: a right one."""

    published: ClassVar[Mapping[str, int]] = {}
    protocols: ClassVar = {"loso": Protocol(None, LeaveOneOut(), dev=1, about="ours")}

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        return (one for one in super().read(root) if isinstance(one, Utterance) and one.label != "anger")

    def notes(self) -> list[str]:
        return ["anger is passed over"]


def changed(says: str, **fields: object) -> type[Corpus]:
    """A corpus whose first utterance has other fields."""

    class Made(Named):
        def read(self, root: Path) -> Iterator[Utterance | Rejected]:
            first, *rest = super().read(root)
            assert isinstance(first, Utterance)
            yield replace(first, **{name: value(first) if callable(value) else value for name, value in fields.items()})
            yield from rest

    Made.says = says  # type: ignore[attr-defined]
    return Made


def ruled(says: str, *, name: str = "two", **fields: object) -> type[Corpus]:
    """A corpus whose protocol has other fields."""

    class Made(Named):
        protocols: ClassVar = {name: replace(Named.protocols["two"], **fields)}

    Made.says = says  # type: ignore[attr-defined]
    return Made


class NoProtocols(Named):
    """Nothing can be trained on it."""

    says = "has no protocol"
    protocols: ClassVar = {}


class SaysNothing(Named):
    """Does not say what it is."""

    says = "`about` is empty"
    about = ""


class NonePublished(Named):
    """Publishes a label of no utterance."""

    says = "it publishes"
    published: ClassVar = {"anger": 0, "sadness": 3}


class EmptyFolder(Named):
    """Reads an empty folder without a word."""

    says = "in an empty folder"

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        return (self.one(path, root) for path in sorted(root.rglob("*.wav")))


class FailsInEmptyFolder(Named):
    """Fails in an empty folder, and says nothing of use."""

    says = "raised IndexError"

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        paths = sorted(root.rglob("*.wav"))
        yield self.one(paths[0], root)
        yield from (self.one(path, root) for path in paths[1:])


class Drops(Named):
    """Leaves files out without a word."""

    says = "neither utterances nor rejected"

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        return (one for one in super().read(root) if isinstance(one, Utterance) and one.label != "anger")


class DropsOnSecond(Named):
    """Gives at the second reading what it did not give at the first."""

    says = "the second reading"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        for one in super().read(root):
            if isinstance(one, Utterance) and one.id in self.seen:
                yield Rejected(root / one.path, "it was there before", one.id)
            else:
                self.seen.append(str(getattr(one, "id", "")))
                yield one


class RejectsAll(Named):
    """Cannot read its own files."""

    says = "reads no utterance"

    def one(self, path: Path, root: Path) -> Utterance | Rejected:
        return Rejected(path, "no reason at all")


class NoReason(Named):
    """Rejects a file and does not say why."""

    says = "reason"

    def one(self, path: Path, root: Path) -> Utterance | Rejected:
        return Rejected(path, "") if path.stem == "anger_1" else super().one(path, root)


WRONG: Mapping[str, type[Corpus]] = {
    "TwiceOneId": changed("comes twice", id="ben_anger_1"),
    "NoId": changed("its id is ''", id=""),
    "AbsolutePath": changed("relative", path="/data/a.wav"),
    "OtherSlashes": changed("relative", path="ann\\anger_1.wav"),
    "NoFile": changed("no file", path="ann/anger_9.wav"),
    "UnknownLabel": changed("publishes", label="angry"),
    "EmptyLabel": changed("label", label=""),
    "UnknownGender": changed("gender", gender="f"),
    "NoSpeaker": changed("speaker", speaker=""),
    "SpeakerOfNumber": changed("speaker", speaker=7),
    "NegativeStart": changed("start", start=-1.0),
    "NoDuration": changed("duration", duration=0.0),
    "NoJson": changed("JSON", aux={"path": Path("a")}),
    "NegativeVotes": changed("votes", votes={"anger": -1.0}),
    "SlashInProtocol": ruled("it names a file", name="two/three"),
    "ProtocolWithoutSource": ruled("`about` is empty", about=""),
    "UnknownGroup": ruled("group is 'channel'", group="channel"),
    "NegativeDev": ruled("dev is -1", dev=-1),
    "UnknownLabels": ruled("maps the labels ['angre']", labels={"angre": "anger"}),
    "NoFolds": ruled("it has no fold", test={}),
    "EmptyFold": ruled("it tests []", test={"1": []}),
    "FoldOfText": ruled("it tests 'ann'", test={"1": "ann"}),
    "TwiceOneGroup": ruled("twice", test={"1": ["ann", "ann"]}),
    "DevIsTest": ruled("dev and test", dev=["ann"]),
    "DevIsTestOfFold": ruled("dev and test", dev={"1": ["cleo"], "2": ["ben"]}),
    "KeepsText": ruled("keep", keep={"modality": "speech"}),
    "UnknownOverlap": ruled("overlaps", overlaps={"room": ["train+test"]}),
    "UnknownPair": ruled("overlaps", overlaps={"text": ["train+tset"]}),
}


@hookimpl
def sertk_corpora() -> Mapping[str, type[Corpus]]:
    return dict(WRONG) | {name: one for name, one in globals().items() if hasattr(one, "says")}

"""Several corpora as one: any readers, a folder for each, with a label map and speakers told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final

from sertk.builtin.corpora.anybody import PROTOCOLS
from sertk.core import Corpus, Protocol, Rejected, SertkError, UsageError, Utterance, nearest


class Union(Corpus):
    """Several corpora as one; `aux.corpus` of an utterance says of which it is.

    Args:
        parts: The reader of each corpus, by the name of its folder below --root, in any case; `prepared` reads what
            `sertk prepare` wrote. A part that is not there is left out, and reported.
        labels: {part: {label: class}}. Utterances with another label have none, and are counted. Without it every
            label is a class as it is.
        prefix: Whether ids, speakers and sessions begin with the name of their part and "-".
        title: What the union is called in folders and scores.
    """

    about = "union: several corpora as one, with a label map; a file of data says which"
    published: ClassVar[Mapping[str, int]] = {}
    protocols: ClassVar[Mapping[str, Protocol]] = PROTOCOLS

    def __init__(
        self,
        parts: Mapping[str, Corpus],
        labels: Mapping[str, Mapping[str, str]] | None = None,
        prefix: bool = True,
        title: str = "",
    ) -> None:
        self.title = title
        self._parts, self._labels, self._prefix = parts, labels, prefix
        self._notes: list[str] = []
        if not parts:
            raise UsageError("a union has no part; give {part: corpus}, as in parts: {ravdess: ravdess, mine: folder}.")
        odd = [part for part in labels or parts if part not in parts]
        if odd:
            raise UsageError(f"labels has a map of {odd[0]!r}{nearest(odd[0], parts)}")
        without = [part for part in parts if labels is not None and part not in labels]
        if without:
            raise UsageError(
                f"labels has no map of {without[0]!r}. Give each part one, {{label: class}}; without `labels` the "
                "labels of all parts are classes as they are."
            )
        self._publish()

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every utterance of the parts that are there.

        Raises:
            SertkError: Where none is there, a part has two folders, or two parts share an id or a speaker.
            UsageError: Where a label map names a label that its part does not have.
        """
        folders = _folders(root, self._parts)
        missing = [part for part in self._parts if part not in folders]
        self._notes = [
            f"{part} is missing: {root} has no such folder; built of {' and '.join(folders)}" for part in missing
        ]
        owners: dict[tuple[str, str], str] = {}
        parts_of: dict[str, list[str]] = {}
        for name, folder in folders.items():
            counts = Counter[str]()
            for one in self._parts[name].read(folder):
                if isinstance(one, Utterance):
                    counts[one.label or ""] += 1
                    one = self._member(one, name, folder)  # noqa: PLW2901 - what it was is not needed any more
                    _own(owners, one, name)
                elif one.id and self._prefix:
                    one = one._replace(id=f"{name}-{one.id}")  # noqa: PLW2901
                yield one
            for label in self._classes(name, counts):
                parts_of.setdefault(label, []).append(name)
            self._notes += [f"{name}: {note}" for note in self._parts[name].notes()]
        self._publish()
        self._notes += [
            f"{label} is a class of {' and '.join(parts)} alone"
            for label, parts in parts_of.items()
            if len(parts) < len(folders)
        ]

    def reads(self, root: Path) -> list[Path]:
        """What the readings of the parts depend on."""
        return [
            path for name, folder in _folders(root, self._parts).items() for path in self._parts[name].reads(folder)
        ]

    def notes(self) -> list[str]:
        """Which parts are missing, what the map leaves out, what the parts' readers say, and classes of some parts."""
        return self._notes

    def _publish(self) -> None:
        """Counts what the authors of the parts publish, where all of them do."""
        counts = Counter[str]()
        if all(part.published for part in self._parts.values()):
            for name, part in self._parts.items():
                for label, number in part.published.items():
                    if (own := self._class(name, label)) is not None:
                        counts[own] += number
        self.published = dict(counts)  # type: ignore[misc] # a corpus with parts has counts of its own

    def _class(self, part: str, label: str | None) -> str | None:
        return label if self._labels is None or label is None else self._labels[part].get(label)

    def _member(self, one: Utterance, part: str, folder: Path) -> Utterance:
        """An utterance of a part as one of the union."""
        votes = Counter[str]()
        for label, count in one.votes.items():
            if (own := self._class(part, label)) is not None:
                votes[own] += count  # type: ignore[assignment] # a vote may be a share
        before = f"{part}-" if self._prefix else ""
        return replace(
            one,
            id=before + one.id,
            path=(PurePosixPath(folder.name) / one.path).as_posix(),
            speaker=one.speaker if one.known_speaker is None else before + one.speaker,
            session=one.session and before + one.session,
            label=self._class(part, one.label),
            votes=dict(votes),
            aux={"corpus": part, **one.aux} | {"corpus": part},
        )

    def _classes(self, part: str, counts: Mapping[str, int]) -> list[str]:
        """The classes of a part, of how many utterances each label has; what the map leaves out is noted.

        Raises:
            UsageError: Where the map names a label that the part does not have.
        """
        known = {*counts, *self._parts[part].published} - {""}
        names = {label: label for label in known} if self._labels is None else self._labels[part]
        unknown = sorted(names.keys() - known)
        if unknown:
            raise UsageError(
                f"the label map of {part!r} names the label {unknown[0]!r}, which none of its utterances has"
                f"{nearest(unknown[0], known)}"
            )
        lost = {label: count for label, count in sorted(counts.items()) if label and label not in names}
        if lost:
            which = ", ".join(f"{label} {count}" for label, count in lost.items())
            self._notes.append(
                f"{part}: {sum(lost.values())} utterances have no label; the label map does not name theirs: {which}"
            )
        return sorted({names[label] for label in counts if label in names})


def _own(owners: dict[tuple[str, str], str], one: Utterance, part: str) -> None:
    """Refuses an id or a speaker of two parts.

    Args:
        owners: The part of each, by what it is and its name.
        one: An utterance.
        part: Of it.
    """
    for what, name in (("id", one.id), ("speaker", one.known_speaker)):
        if name is not None and (other := owners.setdefault((what, name), part)) != part:
            raise SertkError(
                f"the {what} {name!r} is in {other} and in {part}. Say `prefix: true`: ids and speakers then begin "
                "with the name of their part."
            )


def _folders(root: Path, parts: Mapping[str, Corpus]) -> dict[str, Path]:
    """The folder of each part that is there, by its name in any case."""
    layout = f"a folder for each part: {', '.join(parts)}"
    if not root.is_dir():
        raise SertkError(f"'{root}' is not a folder. Give the folder with --root; expected there: {layout}.")
    found: dict[str, Path] = {}
    names: Final = {part.lower(): part for part in parts}
    for path in sorted(root.iterdir()):
        name = names.get(path.name.lower(), "")
        if not path.is_dir() or not name:
            continue
        if name in found:
            raise SertkError(f"{root} has two folders of {name}: {found[name].name} and {path.name}. Keep one of them.")
        found[name] = path
    if not found:
        raise SertkError(f"{root} has none of the folders {', '.join(parts)}. Give another --root; expected: {layout}.")
    return {part: found[part] for part in parts if part in found}

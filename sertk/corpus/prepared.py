"""A prepared corpus on disk, `data/<corpus>/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sertk.console.progress import say
from sertk.core import Corpus, InputError, SertkError, UsageError, Utterance
from sertk.core.errors import nearest
from sertk.core.files import SCHEMA, Document, Record, read_json, read_jsonl
from sertk.core.forms import Form
from sertk.corpus import audio, protocols
from sertk.corpus.protocols import Folds

OVERLAP = "overlap.json"
"""What parts share, where that ended `prepare`."""
PREPARED = ("corpus.json", "manifest.jsonl", "audio.jsonl", "failed.jsonl", OVERLAP)
"""What `prepare` writes into the folder of a corpus, beside its protocols."""
CORPUS = Form({"corpus": str, "root": str}, {"notes": list[str], "counts": Mapping[str, Mapping[str, int]]})
"""What corpus.json says."""
AUDIT = Form(
    {
        **dict.fromkeys(("corpus", "name", "hash", "stamp", "about"), str),
        **{"classes": list[str], "labels": Mapping[str, str], "expected": Mapping[str, int]},
        **{"dropped": list[Mapping[str, str]], "audit": Mapping[str, Any]},
    }
)
"""What a protocol file says with its audit."""
PREPARE = "Run `sertk prepare CORPUS --root FOLDER --out DATA`."


def title_of(reader: Corpus, plugin: str) -> str:
    """What a corpus is called in folders and scores: its own title, or the name of its plugin.

    Raises:
        UsageError: Where its title is no name of a folder.
    """
    name = reader.title or plugin
    if name != Path(name).name or name in (".", ".."):
        raise UsageError(f"title {name!r} names the folder of the corpus: it holds no '/' and is not '.' or '..'.")
    return name


class Data:
    """The folder that `prepare` wrote.

    Args:
        folder: data/<corpus>.
        root: The corpus folder, where it is not the one that was prepared.

    Raises:
        SertkError: Where the folder was not prepared.

    Attributes:
        partial: Whether less of the corpus is here than is published.
    """

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self.folder = folder
        about = read_json(folder / "corpus.json", PREPARE, CORPUS)
        self.corpus: str = about["corpus"]
        self.root = root or Path(about["root"])
        self.partial = any(one.get("here", 0) < one.get("published", 0) for one in about.get("counts", {}).values())
        self._protocols: dict[str, Folds] = {}
        self._unchanged: set[str] = set()  # ids whose files were looked at
        self._said = False

    @cached_property
    def utterances(self) -> dict[str, Utterance]:
        """Every utterance of the manifest, by id."""
        lines = read_jsonl(self.folder / "manifest.jsonl", PREPARE)
        return {one.id: one for one in (Utterance.from_json(line, where) for where, line in lines)}

    @cached_property
    def facts(self) -> dict[str, audio.Facts]:
        """What `prepare` wrote down of each utterance's audio, by id."""
        facts = audio.read_facts(self.folder / "audio.jsonl")
        lacking = self.utterances.keys() - facts.keys()
        if lacking:
            raise SertkError(f"{self.folder}/audio.jsonl lacks {len(lacking)} utterances of the manifest. {PREPARE}")
        return facts

    def protocol(self, name: str | None) -> Folds:
        """A protocol by name, or the only one.

        Raises:
            SertkError: Where it was not prepared.
            UsageError: Where there are several, and none is named.
        """
        known = sorted(path.stem for path in (self.folder / "protocols").glob("*.json"))
        if name is None and len(known) == 1:
            name = known[0]
        if name is None and known:
            raise UsageError(f"{self.folder} has several protocols. Choose one with --protocol: {', '.join(known)}.")
        if name is None or name not in known:
            raise SertkError(f"{self.folder} has no protocol {name!r}{nearest(str(name), known)}. {PREPARE}")
        if name not in self._protocols:
            self._protocols[name] = protocols.load(self.folder / "protocols" / f"{name}.json")
        return self._protocols[name]

    def audit(self, about: Document) -> Record:
        """The protocol file of some scores, with the audit that `prepare` wrote.

        Args:
            about: What the scores say of their protocol.

        Raises:
            SertkError: Where it is missing, not whole, or of other folds.
        """
        if "name" not in about:
            raise SertkError("the scores are of no protocol.")
        path = self.folder / "protocols" / f"{about['name']}.json"
        found = read_json(path, PREPARE, AUDIT)
        if found["hash"] != about["hash"]:
            raise SertkError(f"{path} is of other folds (hash {found['hash']}) than the scores (hash {about['hash']}).")
        return found

    def select(self, ids: Sequence[str], failed: list[Record] | None = None) -> list[Utterance]:
        """Utterances by id, their files checked to be the ones that were prepared; each is looked at once.

        Args:
            ids: Of the manifest.
            failed: Gets {"id", "reason"} of each that is missing or changed, which are then left out.

        Raises:
            InputError: On the first of them, where `failed` is None.
        """
        unknown = [i for i in ids if i not in self.utterances]
        if unknown:
            raise SertkError(
                f"{self.folder} lacks {len(unknown)} utterances of the folds, the first {unknown[0]!r}. {PREPARE}"
            )
        chosen = [self.utterances[i] for i in ids]
        kept = []
        for one in chosen:
            try:
                if one.id not in self._unchanged:
                    read = audio.check_unchanged(self.root, one, self.facts[one.id])
                    self._unchanged.add(one.id)
                    if read and not self._said:
                        self._said = True
                        say(f"files below {self.root} have other times than `sertk prepare` saw, so they are read")
                kept.append(one)
            except InputError as error:
                if failed is None:
                    raise
                failed.append({"schema": SCHEMA, "id": one.id, "reason": str(error)})
        return kept

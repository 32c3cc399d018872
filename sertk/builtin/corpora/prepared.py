"""What `sertk prepare` wrote, as a corpus: so that a union can take it, whatever reader made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

from sertk.builtin.corpora.anybody import PROTOCOLS, relative
from sertk.core import Corpus, Protocol, Rejected, Utterance
from sertk.core.files import read_json, read_jsonl
from sertk.core.forms import Form

MEND: Final = "Give the folder that `sertk prepare` wrote."


class Prepared(Corpus):
    """A prepared corpus, data/NAME: its utterances with the labels that it has."""

    about = "prepared: what `sertk prepare` wrote, data/NAME, as a part of a union; the licence is its corpus's"
    published: ClassVar[Mapping[str, int]] = {}
    protocols: ClassVar[Mapping[str, Protocol]] = PROTOCOLS

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every utterance of the manifest; what failed when it was prepared is not in it."""
        about = read_json(root / "corpus.json", MEND, Form({"root": str}))
        for where, line in read_jsonl(root / "manifest.jsonl", MEND):
            one = Utterance.from_json(line, where)
            yield replace(one, path=relative(Path(about["root"]) / one.path, root))

    def reads(self, root: Path) -> list[Path]:
        """The manifest, and what says where the audio is."""
        return [root / "corpus.json", root / "manifest.jsonl"]

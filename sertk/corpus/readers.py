"""A corpus by the name of its reader, or as a file of data: a reader with its settings, and protocols of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sertk.core import Corpus, Protocol, SertkError, UsageError, nearest
from sertk.core.files import Record
from sertk.core.forms import fits
from sertk.corpus.protocols import YAML, stated
from sertk.plugins import Plugins, Spec, split
from sertk.settings.merge import CONF, read

NAME: Final = re.compile(r"\w[\w.-]*")
FORMS: Final = {
    "corpus": (str | Mapping[str, object], "a reader: a name or {name: ..., setting: value}"),
    "about": (str, "a sentence"),
    "protocols": (Mapping[str, Mapping[str, object]], "{name: {labels: ..., test: ...}}"),
}


def named() -> dict[str, Path]:
    """The files of corpora that come with sertk, by the name of the corpus."""
    return {path.stem: path for path in sorted((CONF / "corpora").glob("*.yaml"))}


def file_of(spec: Spec, beside: Path = Path()) -> Path | None:
    """The file that states a corpus; None where a reader is meant.

    Args:
        spec: The corpus as it was given.
        beside: Where a file is looked for before the current folder.

    Raises:
        UsageError: Where it is not there, or has settings.
    """
    word, settings = split("corpus", spec)
    if Path(word).suffix not in YAML and word not in named():
        return None
    if settings:
        raise UsageError(f"corpus {word!r} is a file of data and takes no {next(iter(settings))}. Change a copy of it.")
    if word in named():
        return named()[word]
    for path in (beside / word, Path(word)):
        if path.is_file():
            return path.resolve()
    raise UsageError(f"corpus {word!r} was not found: there is neither {(beside / word).resolve()} nor {word} here.")


def reader(plugins: Plugins, spec: Spec, beside: Path = Path()) -> Corpus:
    """Makes the corpus that is named, or that a file states; the title of the latter is the name of the file.

    Args:
        plugins: The registry.
        spec: NAME[:SETTING=VALUE,...] of a reader, the name of a corpus that comes with sertk, or FILE.yaml.
        beside: Where a file is looked for before the current folder.

    Raises:
        UsageError: On an unknown name, setting or field, or a value of the wrong type.
        SertkError: Where a plugin has the name of a corpus that comes with sertk.
    """
    path, word = file_of(spec, beside), split("corpus", spec)[0]
    if path is None and word not in plugins.names("corpus"):
        try:
            plugins.entry("corpus", word)  # raises
        except UsageError as error:
            raise UsageError(f"{error} Also {', '.join(named())}, or a .yaml file.") from None
    made: Corpus = plugins.make("corpus", spec) if path is None else _of_file(plugins, path)
    return made


def _of_file(plugins: Plugins, path: Path) -> Corpus:
    """The corpus that a file states."""
    if path.stem in plugins.names("corpus"):
        raise SertkError(
            f"{path} states a corpus {path.stem!r}, and {plugins.who('corpus', path.stem)} has this name. Rename one."
        )
    fields: Record = dict(read(path))
    for word, value in fields.items():
        if word not in FORMS:
            raise UsageError(f"{path}: unknown field {word!r}{nearest(word, FORMS)}")
        if not fits(value, FORMS[word][0]):
            raise UsageError(f"{path}: {word} is {value!r}; it takes {FORMS[word][1]}.")
    if "corpus" not in fields:
        raise UsageError(f"{path} has no 'corpus', a reader: a name or {{name: ..., setting: value}}.")
    try:
        corpus: Corpus = plugins.make("corpus", fields["corpus"])
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    own: dict[str, Protocol] = {}
    for name, one in fields.get("protocols", {}).items():
        if not NAME.fullmatch(str(name)):  # it is the name of a file of the prepared corpus
            raise UsageError(f"{path}: {name!r} cannot name a protocol. Use letters, digits, '_', '-' and '.'.")
        own[str(name)] = stated(path, one, f"protocol {name!r} of ")
    corpus.title = path.stem
    corpus.about = fields.get("about", corpus.about)  # type: ignore[misc] # a corpus of a file has its own
    corpus.protocols = own or corpus.protocols  # type: ignore[misc]
    return corpus

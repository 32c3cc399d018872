"""A corpus as a file of data: a reader and its protocols, without Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from sertk.core import Corpus, Disjoint, Protocol, SertkError, UsageError
from sertk.corpus.readers import file_of, named, reader
from sertk.plugins import Plugins
from sertk.settings.schema import Component

PLUGINS = Plugins()
MINE = """
about: two corpora of ours
corpus: {name: union, parts: {stage: folder, street: folder}}
protocols:
  three: {labels: {joy: positive, rage: negative}, test: {rule: disjoint, k: 3}, dev: {rule: next}}
"""


def mine(folder: Path, text: str = MINE) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_has_its_own_name_sentence_and_protocols(tmp_path: Path) -> None:
    made = reader(PLUGINS, mine(tmp_path))
    assert (made.title, made.about, [*made.protocols]) == ("mine", "two corpora of ours", ["three"])
    assert made.protocols["three"].test == Disjoint(3)
    assert Corpus.title == ""  # the class is as it was


def test_without_protocols_a_file_has_those_of_its_reader(tmp_path: Path) -> None:
    made = reader(PLUGINS, mine(tmp_path, "corpus: folder\n"))
    assert [*made.protocols] == ["speakers", "disjoint5", "random", "random5"]
    assert made.about.startswith("folder: ")


def test_a_file_is_found_beside_the_recipe_and_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine(tmp_path)
    assert file_of(Component("mine.yaml"), tmp_path) == tmp_path / "mine.yaml"
    with pytest.raises(UsageError, match=r"corpus 'mine\.yaml' was not found"):
        file_of("mine.yaml")
    monkeypatch.chdir(tmp_path)
    assert file_of("mine.yaml") == tmp_path / "mine.yaml"
    assert file_of("folder:title=mine.yaml") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("about: x\n", "has no 'corpus'"),
        ("corpus: folder\nprotocol: {}\n", "unknown field 'protocol'; did you mean 'protocols'"),
        ("corpus: folder\nabout: 3\n", "about is 3; it takes a sentence"),
        ("corpus: {name: folder, speker: x}\n", "mine.yaml: .*takes no 'speker'"),
        ("corpus: folder\nprotocols: {../a: {labels: null}}\n", "'../a' cannot name a protocol. Use letters, digits"),
        ("corpus: folder\nprotocols: {a: {labels: null}}\n", "protocol 'a' of .*mine.yaml has no 'test'"),
        ("corpus: folder\nprotocols: {a: {labels: null, test: {rule: nxt}}}\n", "protocol 'a' of .*has no rule 'nxt'"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_name(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        reader(PLUGINS, mine(tmp_path, text))


def test_a_file_takes_no_settings_and_has_the_name_of_no_reader(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a file of data and takes no prefix"):
        reader(PLUGINS, "ravdess_savee_tess:prefix=true")
    (tmp_path / "emodb.yaml").write_text("corpus: folder\n")
    with pytest.raises(SertkError, match="states a corpus 'emodb', and corpus 'emodb' of sertk"):
        reader(PLUGINS, str(tmp_path / "emodb.yaml"))


def test_an_unknown_name_is_answered_with_the_corpora_of_files_too() -> None:
    with pytest.raises(UsageError, match=r"no corpus named 'ravdes'; did you mean 'ravdess'.*ravdess_savee_tess"):
        reader(PLUGINS, "ravdes")


def test_the_corpora_that_come_as_files_can_be_made() -> None:
    assert [*named()] == ["ravdess_savee_tess"]
    made = reader(PLUGINS, "ravdess_savee_tess")
    assert all(isinstance(one, Protocol) for one in made.protocols.values())

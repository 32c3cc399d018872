"""A union of anybody's corpora: classes by the map, names told apart, and what is left out is counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sertk.core import Corpus, SertkError, UsageError, Utterance
from sertk.corpus.prepared import Data
from sertk.plugins import Plugins
from sertk.stages.prepare import prepare
from sertk.testing.trees.anybody import clip

PLUGINS = Plugins()
PARTS = {"stage": {"name": "folder", "speaker": "([a-z]+)_"}, "street": {"name": "folder", "speaker": "([a-z]+)_"}}
MAPS = {"stage": {"joy": "happiness", "rage": "anger"}, "street": {"glad": "happiness", "anger": "anger"}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of stage 3 joy, 2 rage and 1 bored; of street 2 glad and 3 anger. Both have a speaker ann."""
    names = {
        "stage": ["joy/ann_1", "joy/ann_2", "joy/bob_1", "rage/ann_3", "rage/bob_2", "bored/bob_3"],
        "Street": ["glad/ann_1", "glad/cid_1", "anger/ann_2", "anger/cid_2", "anger/dan_1"],
    }
    each = [f"{part}/{name}.wav" for part, own in names.items() for name in own]
    for seed, name in enumerate(each):
        clip(tmp_path / "in" / name, seed, 0.12)
    return tmp_path / "in"


def union(**settings: object) -> Corpus:
    made: Corpus = PLUGINS.make("corpus", {"name": "union", "parts": PARTS, **settings})
    return made


def read(root: Path, corpus: Corpus) -> dict[str, Utterance]:
    return {one.id: one for one in corpus.read(root) if isinstance(one, Utterance)}


def test_classes_are_those_of_the_map_and_names_begin_with_their_part(root: Path) -> None:
    found = read(root, union(labels=MAPS))
    assert Counter(one.label for one in found.values()) == {"happiness": 5, "anger": 5, None: 1}
    assert {one.speaker for one in found.values()} == {
        *("stage-ann", "stage-bob"),
        *("street-ann", "street-cid", "street-dan"),
    }
    one = found["street-glad/cid_1"]
    assert (one.path, one.aux) == ("Street/glad/cid_1.wav", {"corpus": "street"})
    assert (root / one.path).is_file()


def test_a_label_that_the_map_does_not_name_is_counted_and_its_utterances_are_dropped_by_name(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = "union:title=both,parts={stage: 'folder:speaker=([a-z]+)_', street: 'folder:speaker=([a-z]+)_'},"
    spec += "labels={stage: {joy: happiness, rage: anger}, street: {glad: happiness, anger: anger}}"
    assert prepare(spec, root, tmp_path / "out", ["speakers"], 0.1, 1) == 0
    said = capsys.readouterr().err
    assert "stage: 1 utterances have no label; the label map does not name theirs: bored 1" in said
    data = Data(tmp_path / "out")
    assert len(data.utterances) == 11
    folds = data.protocol("speakers")
    assert folds.corpus == "both"
    assert folds.classes == ("anger", "happiness")
    assert [*folds.folds] == ["stage-ann", "stage-bob", "street-ann", "street-cid", "street-dan"]
    text = (tmp_path / "out" / "protocols" / "speakers.json").read_text()
    assert '"id": "stage-bored/bob_3"' in text.replace('"id":"', '"id": "')


def test_classes_that_not_all_parts_have_are_named(root: Path) -> None:
    corpus = union()
    read(root, corpus)
    assert "glad is a class of street alone" in corpus.notes()
    assert "joy is a class of stage alone" in corpus.notes()
    corpus = union(labels=MAPS)
    read(root, corpus)
    assert not [note for note in corpus.notes() if "alone" in note]


def test_a_part_without_a_map_and_a_map_without_a_part_are_refused() -> None:
    with pytest.raises(UsageError, match=r"labels has no map of 'street'.*\{label: class\}"):
        union(labels={"stage": MAPS["stage"]})
    with pytest.raises(UsageError, match=r"labels has a map of 'sreet'; did you mean 'street'"):
        union(labels={**MAPS, "sreet": {}})
    with pytest.raises(UsageError, match="a union has no part"):
        union(parts={})


def test_a_map_that_names_a_label_that_its_part_has_not_is_refused(root: Path) -> None:
    wrong = {**MAPS, "street": {"gladd": "happiness", "anger": "anger"}}
    with pytest.raises(UsageError, match=r"map of 'street' names the label 'gladd'.*did you mean 'glad'"):
        read(root, union(labels=wrong))


def test_speakers_of_two_parts_with_one_name_are_refused_without_a_prefix(root: Path) -> None:
    with pytest.raises(SertkError, match=r"the speaker 'ann' is in stage and in street\. Say `prefix: true`"):
        read(root, union(prefix=False))


def test_ids_of_two_parts_are_refused_without_a_prefix(root: Path) -> None:
    clip(root / "street" / "joy" / "ann_1.wav", 99, 0.12)
    parts = {"stage": "folder", "street": "folder"}  # all speakers are unknown, which is no name that two share
    (root / "Street").rename(root / "other")
    with pytest.raises(SertkError, match=r"the id 'joy/ann_1' is in stage and in street"):
        read(root, union(parts=parts, prefix=False))


def test_parts_and_labels_may_be_numbers(root: Path) -> None:
    (root / "stage").rename(root / "7")
    clip(root / "7" / "3" / "eve_1.wav", 98, 0.12)
    found = read(root, union(parts={7: PARTS["stage"]}, labels={7: {3: "disgust", "joy": "happiness"}}))
    assert Counter(one.label for one in found.values()) == {"happiness": 3, None: 3, "disgust": 1}
    assert found["7-3/eve_1"].speaker == "7-eve"


def test_unknown_speakers_stay_unknown(root: Path) -> None:
    found = read(root, union(parts={"stage": "folder"}))
    assert {one.speaker for one in found.values()} == {"unknown"}


def test_published_counts_are_added_by_class_and_left_out_where_a_part_has_none() -> None:
    parts = {"savee": "savee", "tess": "tess"}
    assert union(parts=parts).published["anger"] == 60 + 400
    maps = {"savee": {"anger": "tense", "fear": "tense", "neutral": "calm"}, "tess": {"anger": "tense"}}
    assert union(parts=parts, labels=maps).published == {"tense": 60 + 60 + 400, "calm": 120}
    assert union(parts={**parts, "stage": "folder"}).published == {}


def test_votes_follow_the_map() -> None:
    corpus = union(labels={"stage": {"joy": "happiness", "glad": "happiness"}, "street": {}})
    one = Utterance("a", "a.wav", "ann", "joy", session="1", votes={"joy": 2, "glad": 1, "bored": 1})
    own = corpus._member(one, "stage", Path("stage"))  # type: ignore[attr-defined]
    assert (own.votes, own.session, own.label) == ({"happiness": 3}, "stage-1", "happiness")


def test_prepared_corpora_are_parts_whatever_read_them(root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, folder in (("stage", "stage"), ("street", "Street")):
        assert prepare(f"folder:title={name},speaker=([a-z]+)_", root / folder, data / name, ["random"], 0.1, 1) == 0
    spec = "union:title=both,parts={stage: prepared, street: prepared}"
    assert prepare(spec, data, tmp_path / "both", ["random"], 0.1, 1) == 0
    direct = union()
    there, here = read(root, direct), Data(tmp_path / "both")
    assert {(i, one.speaker, one.label) for i, one in here.utterances.items()} == {
        (i, one.speaker, one.label) for i, one in there.items()
    }
    own = Data(data / "street").facts["glad/cid_1"].sha256
    assert here.facts["street-glad/cid_1"].sha256 == own  # so stored features have the same keys
    assert {path.name for path in direct.reads(root)} == set()
    both = union(parts={"stage": "prepared", "street": "prepared"})
    assert sorted(path.relative_to(data).as_posix() for path in both.reads(data)) == [
        *("stage/corpus.json", "stage/manifest.jsonl"),
        *("street/corpus.json", "street/manifest.jsonl"),
    ]

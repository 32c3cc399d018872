"""Protocols: folds, dev sets, hashes, what is dropped and why, and the audit; RAVDESS's folds against EmoBox's."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from sertk.builtin.corpora.common import fold_table
from sertk.builtin.corpora.ravdess import EMOTIONS, Ravdess
from sertk.core import AUX, FoldTable, Protocol, Rejected, SertkError, UsageError, Utterance
from sertk.core.files import write_json
from sertk.corpus.audit import Lack, audit_folds, lacking_classes
from sertk.corpus.folding import Fold, names
from sertk.corpus.protocols import Folds, Shares, expected, load, make, to_json

LABELS = {"anger": "anger", "joy": "happiness", "excitement": "happiness"}


def utterance(speaker: str, label: str | None = "anger", take: int = 1, **more: object) -> Utterance:
    """Speakers f… are female, m… male."""
    made = Utterance(
        id=f"{speaker}_{label}_{take}",
        path=f"{speaker}_{label}_{take}.wav",
        speaker=speaker,
        label=label,
        gender={"f": "female", "m": "male"}.get(speaker[0]),
    )
    return replace(made, **more)


def corpus(females: int = 6, males: int = 6, takes: int = 2) -> list[Utterance]:
    speakers = [f"f{n}" for n in range(1, females + 1)] + [f"m{n}" for n in range(1, males + 1)]
    return [utterance(speaker, label, take) for speaker in speakers for label in LABELS for take in range(1, takes + 1)]


HALVES = {"a": ["f1", "f2", "f3", "m1", "m2", "m3"], "b": ["f4", "f5", "f6", "m4", "m5", "m6"]}
PROTOCOL = Protocol(LABELS, HALVES, dev=4)
EVERYONE = Protocol(LABELS, {str(n): [f"f{n}", f"m{n}"] for n in range(1, 7)}, dev=4)


def folds_of(protocol: Protocol = PROTOCOL, utterances: Sequence[Utterance] | None = None) -> Folds:
    return make("toy", "p", protocol, corpus() if utterances is None else utterances)[0]


def speakers(ids: Iterable[str]) -> set[str]:
    return {i.split("_")[0] for i in ids}


# --- folds ---------------------------------------------------------------------------------------------------------


def test_a_fold_tests_its_groups_and_trains_on_the_others() -> None:
    folds = folds_of()
    assert list(folds.folds) == ["a", "b"] == names(PROTOCOL)
    for name, fold in folds.folds.items():
        assert speakers(fold.test) == set(HALVES[name])
        assert sorted(i for part in fold for i in part) == sorted(u.id for u in corpus())  # each id in one part


def test_a_fold_without_training_utterances_is_an_error() -> None:
    with pytest.raises(SertkError, match="train"):
        folds_of(replace(PROTOCOL, dev=6))


def test_labels_are_mapped_and_classes_sorted() -> None:
    folds = folds_of()
    assert folds.classes == ("anger", "happiness")
    assert folds.labels["f1_excitement_1"] == folds.labels["f1_joy_1"] == "happiness"


def table(path: Path, rows: Mapping[str, str]) -> FoldTable:
    lines = ["utterance\temotion\ttest_folds", *(f"{i}\tx\t{fold}" for i, fold in rows.items())]
    path.write_text("\n".join(lines) + "\n")
    return FoldTable(path)


def test_a_table_gives_each_utterance_its_test_fold(tmp_path: Path) -> None:
    # f2 is split over both folds: what fold 1 does not test of her, it does not train on either
    rows = {"f1_anger_1": "1", "f1_anger_2": "1", "f2_anger_1": "1", "f2_anger_2": "2", "m1_joy_1": "2"}
    protocol = Protocol(LABELS, table(tmp_path / "t.tsv", rows), dev=0)
    folds, dropped, _ = make("toy", "p", protocol, corpus())
    assert names(protocol) == ["1", "2"]
    assert folds.folds["1"] == Fold(("m1_joy_1",), (), ("f1_anger_1", "f1_anger_2", "f2_anger_1"))
    assert folds.folds["2"] == Fold(("f1_anger_1", "f1_anger_2"), (), ("f2_anger_2", "m1_joy_1"))
    assert {"id": "m6_joy_2", "reason": "not in t.tsv"} in dropped
    assert len(dropped) == len(corpus()) - len(rows)


def test_a_table_of_the_wrong_form_is_an_error_that_names_its_columns(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("id\tfold\na\t1\n")
    for path in (tmp_path / "t.tsv", tmp_path / "missing.tsv"):
        with pytest.raises(SertkError, match="column utterance, and test_folds"):
            make("toy", "p", Protocol(LABELS, FoldTable(path)), corpus())


@pytest.mark.parametrize("dev", [0, 1])
def test_sessions_are_kept_together_and_speakers_in_several_are_stamped(dev: int) -> None:
    parts = [replace(u, session=f"s{n % 4}") for n, u in enumerate(corpus())]  # every speaker in every session
    sessions = {u.id: u.session for u in parts}
    protocol = Protocol(LABELS, {f"s{n}": [f"s{n}"] for n in range(4)}, group="session", dev=dev)
    folds = folds_of(protocol, parts)
    for name, fold in folds.folds.items():
        held = [{sessions[i] for i in part} for part in fold]
        assert held[2] == {name}
        assert [len(part) for part in held] == [3 - dev, dev, 1]
        assert not held[0] & held[1]


def test_a_fold_is_found_by_name_or_place() -> None:
    folds = folds_of()
    assert folds.fold("b") is folds.fold("#2") is folds.folds["b"]
    for name in ("c", "#0", "#3", "2"):
        with pytest.raises(UsageError, match="Known: a, b"):
            folds.fold(name)


def test_a_fold_of_which_nothing_is_here_is_left_out_and_told() -> None:
    folds, _, absent = make(
        "toy", "p", Protocol(LABELS, {"a": ["f1", "f8"], "b": ["f9"], "c": ["f2"]}, dev=0), corpus()
    )
    assert list(folds.folds) == ["a", "c"]
    assert absent == [
        {"id": "speaker f8", "reason": "tested in fold a, not in this corpus folder"},
        {"id": "speaker f9", "reason": "tested in fold b, not in this corpus folder"},
    ]


def test_published_ids_that_are_not_here_are_told(tmp_path: Path) -> None:
    rows = {"f1_anger_1": "1", "m1_joy_1": "2", "m1_joy_77": "2"}
    _, _, absent = make("toy", "p", Protocol(LABELS, table(tmp_path / "t.tsv", rows), dev=0), corpus())
    assert absent == [{"id": "m1_joy_77", "reason": "in t.tsv, not in this corpus folder"}]


# --- dev -----------------------------------------------------------------------------------------------------------


def dev_speakers(dev: int, utterances: Sequence[Utterance]) -> list[set[str]]:
    return [speakers(fold.dev) for fold in folds_of(replace(EVERYONE, dev=dev), utterances).folds.values()]


def test_dev_speakers_are_in_no_other_part() -> None:
    for fold in folds_of(EVERYONE).folds.values():
        train, dev, test = (speakers(part) for part in fold)
        assert (len(train), len(dev), len(test)) == (6, 4, 2)
        assert not train & dev
        assert not train & test
        assert not dev & test


@pytest.mark.parametrize("dev", [0, 1, 2, 3, 4, 6])
def test_dev_takes_as_many_groups_as_asked_for_with_genders_alternating(dev: int) -> None:
    for chosen in dev_speakers(dev, corpus()):
        genders = [one[0] for one in chosen]
        assert len(genders) == dev
        assert abs(genders.count("f") - genders.count("m")) == dev % 2


def test_dev_of_one_gender_is_taken_where_there_is_no_other() -> None:
    protocol = Protocol(LABELS, {name: [name] for name in ("m1", "m2", "m3", "m4")}, dev=2)  # as SAVEE, four men
    assert [len(speakers(fold.dev)) for fold in folds_of(protocol, corpus(0, 4)).folds.values()] == [2] * 4


def test_folds_do_not_depend_on_the_order_of_utterances() -> None:
    shuffled = corpus()
    random.Random(1).shuffle(shuffled)
    assert folds_of(EVERYONE, shuffled) == folds_of(EVERYONE)


def test_dev_stays_where_it_is_when_an_utterance_is_added() -> None:
    before = dev_speakers(4, corpus())
    assert before == dev_speakers(4, [*corpus(), utterance("f3", take=9)])
    assert before == dev_speakers(4, corpus()[1:])


def test_dev_differs_between_folds() -> None:
    chosen = dev_speakers(4, corpus())
    assert len(set(map(frozenset, chosen))) > 1
    assert len(set.union(*chosen)) == 12  # no speaker is left out of dev for good


def test_dev_sessions_of_both_genders_stay_when_an_utterance_is_added() -> None:
    protocol = Protocol(LABELS, {f"s{n}": [f"s{n}"] for n in range(6)}, group="session", dev=2)
    parts = [replace(u, session=f"s{n % 6}") for n, u in enumerate(corpus())]
    before = folds_of(protocol, parts).folds
    for n in range(6):
        more = replace(utterance("f1", take=9, session=f"s{n}"), id="zzz")
        after = folds_of(protocol, [*parts, more]).folds
        assert [{*fold.dev} for fold in before.values()] == [{*fold.dev} - {"zzz"} for fold in after.values()]


# --- dropped -------------------------------------------------------------------------------------------------------


def test_what_no_fold_holds_is_listed_with_the_reason() -> None:
    protocol = replace(EVERYONE, keep={"modality": ["speech"]})
    spoken = [replace(u, aux={"modality": "speech"}) for u in corpus()]
    odd = [
        utterance("f1", take=7, aux={"modality": "song"}),
        utterance("f1", take=8),
        utterance("f1", "boredom", aux={"modality": "speech"}),
        utterance("f1", None, aux={"modality": "speech"}),
    ]
    folds, dropped, _ = make("toy", "p", protocol, [*spoken, *odd])
    assert {one["id"]: one["reason"] for one in dropped} == {
        "f1_anger_7": "modality is 'song', not one of ['speech']",
        "f1_anger_8": "modality is None, not one of ['speech']",
        "f1_boredom_1": "label 'boredom' is not in the label map",
        "f1_None_1": "it has no label",
    }
    assert folds == make("toy", "p", replace(EVERYONE), spoken)[0]


def test_ids_that_a_protocol_drops_are_in_no_part_and_change_its_hash() -> None:
    made = make("toy", "p", replace(PROTOCOL, drop=["f1_joy_2", "broken"]), corpus(), {}, ["broken"])
    assert made.folds.labels.keys() == folds_of().labels.keys() - {"f1_joy_2"}
    assert made.folds.hash != folds_of().hash
    assert made.dropped == [{"id": "f1_joy_2", "reason": "the protocol drops it by its id"}]


def test_an_id_that_a_protocol_drops_and_nobody_knows_is_an_error_with_the_nearest() -> None:
    says = "protocol 'p' drops 2 ids that toy has not, the first 'f1_joy_3'; did you mean 'f1_joy_[12]'?"
    with pytest.raises(SertkError, match=says.replace("?", r"\?")):
        make("toy", "p", replace(PROTOCOL, drop=["f1_joy_3", "f1_joy_2", "g"]), corpus())


SOUNDS = {"m6_joy_1": "s", "f1_joy_1": "s", "f2_anger_1": "s", "f3_joy_1": "t", "f3_joy_2": "t", "f4_awe_1": "t"}


@pytest.mark.parametrize(
    ("rule", "lost", "reason"),
    [
        ("keep_first", ["f2_anger_1", "f3_joy_2", "m6_joy_1"], "a copy of a recording that is kept (keep_first)"),
        (
            "drop_all",
            ["f1_joy_1", "f2_anger_1", "f3_joy_1", "f3_joy_2", "m6_joy_1"],
            "one recording under several ids (drop_all)",
        ),
    ],
)
def test_copies_are_dropped_as_the_protocol_says(
    rule: Literal["keep_first", "drop_all"], lost: list[str], reason: str
) -> None:
    people = [*reversed(corpus()), utterance("f4", "awe")]  # awe is in no label map: it is nobody's first copy
    made = make("toy", "p", replace(PROTOCOL, duplicates=rule), people, SOUNDS)
    assert made.folds.labels.keys() == folds_of().labels.keys() - {*lost}
    told = [one for one in made.dropped if one["reason"] == reason]
    assert sorted(one["id"] for one in told) == lost
    pairs = {"f1_joy_1 = f2_anger_1", "f1_joy_1 = m6_joy_1", "f3_joy_1 = f3_joy_2"}
    assert {one["copies"] for one in told} - {"f1_joy_1", "f3_joy_1"} == pairs
    assert made.folds.hash != folds_of().hash


def test_copies_are_an_error_where_the_protocol_says_so_and_kept_where_it_says_nothing() -> None:
    assert folds_of() == make("toy", "p", PROTOCOL, corpus(), SOUNDS).folds
    with pytest.raises(SertkError, match=r"2 recordings of toy come under .* first f1_joy_1 = f2_anger_1, and"):
        make("toy", "p", replace(PROTOCOL, duplicates="error"), corpus(), SOUNDS)
    assert make("toy", "p", replace(PROTOCOL, duplicates="error"), corpus()).folds == folds_of()


def test_utterances_are_kept_by_their_own_fields_too() -> None:
    folds, dropped, _ = make("toy", "p", Protocol(LABELS, {"1": ["f1"]}, dev=0, keep={"gender": ["female"]}), corpus())
    assert speakers(folds.labels.keys()) == {f"f{n}" for n in range(1, 7)}
    assert {"id": "m1_joy_1", "reason": "gender is 'male', not one of ['female']"} in dropped


def test_speakers_that_no_fold_tests_are_trained_on_and_dev_may_be_named() -> None:
    # as P3 splits RAVDESS: named test, named dev, the rest for training
    fold = folds_of(Protocol(LABELS, {"1": ["f1", "m1"]}, dev=["f2", "m2"])).folds["1"]
    assert speakers(fold.test) == {"f1", "m1"}
    assert speakers(fold.dev) == {"f2", "m2"}
    assert len(speakers(fold.train)) == 8


def test_a_protocol_that_keeps_nothing_is_an_error() -> None:
    with pytest.raises(SertkError, match="keeps no utterance of toy"):
        folds_of(replace(PROTOCOL, labels={"boredom": "boredom"}))


def test_an_utterance_that_no_fold_takes_is_listed(tmp_path: Path) -> None:
    # f1_anger_2 is of the tested speaker, and no fold tests it
    rows = {"f1_anger_1": "1", "f1_anger_2": "", "m1_joy_1": ""}
    protocol = Protocol(LABELS, table(tmp_path / "t.tsv", rows), dev=0)
    folds, dropped, _ = make("toy", "p", protocol, corpus())
    assert {"id": "f1_anger_2", "reason": "no fold takes it"} in dropped
    assert sorted(folds.labels) == ["f1_anger_1", "m1_joy_1"]


def test_a_class_of_the_label_map_that_is_not_here_is_a_class() -> None:
    folds = folds_of(replace(PROTOCOL, labels={**LABELS, "sadness": "sadness"}))
    assert folds.classes == ("anger", "happiness", "sadness")
    assert folds_of(replace(PROTOCOL, labels=None)).classes == ("anger", "excitement", "joy")


def test_a_complete_corpus_has_the_counts_that_its_protocol_or_its_authors_publish() -> None:
    published = {"anger": 10, "joy": 4, "excitement": 3, "boredom": 8}
    assert expected(PROTOCOL, published) == {"anger": 10, "happiness": 7}
    assert expected(replace(PROTOCOL, published={"anger": 2}), published) == {"anger": 2}
    for other in (replace(PROTOCOL, keep={"modality": ["speech"]}), replace(PROTOCOL, labels=None)):
        assert expected(other, published) == {}  # nobody counted those
    assert expected(PROTOCOL, {}) == {}


# --- the stamp -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "stamp"),
    [
        ({}, "speaker-independent"),
        ({"speaker": ["train+dev"]}, "speaker-independent"),
        ({"speaker": ["train+test"]}, "SPEAKER-DEPENDENT"),
        ({"speaker": ["dev+test"]}, "SPEAKER-DEPENDENT"),
        ({"audio": ["train+dev"]}, "speaker-independent"),
        ({"audio": ["train+test"]}, "SPEAKER-DEPENDENT"),
        ({"audio": ["dev+test"]}, "SPEAKER-DEPENDENT"),
        (
            {"text": ["train+dev", "train+test", "dev+test"], "session": ["train+test", "dev+test"]},
            "speaker-independent",
        ),
    ],
)
def test_speakers_and_recordings_that_the_test_shares_are_stamped(shares: Shares, stamp: str) -> None:
    folds = replace(folds_of(), shares=shares)
    assert folds.stamp == folds.about("a")["stamp"] == to_json(folds)["stamp"] == stamp


# --- the hash and the file -----------------------------------------------------------------------------------------


def changed(folds: Folds, **parts: tuple[str, ...]) -> Folds:
    """The same with other parts of fold a."""
    return replace(folds, folds={**folds.folds, "a": folds.folds["a"]._replace(**parts)})


def test_the_hash_does_not_depend_on_order() -> None:
    folds = folds_of()
    assert folds.hash == changed(folds, train=folds.folds["a"].train[::-1]).hash
    assert folds.hash == replace(folds, labels=dict(reversed(folds.labels.items()))).hash
    assert folds.hash == replace(folds, folds=dict(reversed(folds.folds.items()))).hash
    assert len(folds.hash) == 16


def test_the_hash_is_computed_once_and_not_carried_over_to_a_changed_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    folds, asked = folds_of(), list[str]()
    stamp = Folds.stamp.fget  # type: ignore[attr-defined] # what the hash ends with
    monkeypatch.setattr(Folds, "stamp", property(lambda self: asked.append("stamp") or stamp(self)))
    assert len({folds.hash, folds.hash, str(to_json(folds)["hash"]), str(folds.about("a")["hash"])}) == 1
    assert len(asked) == 3  # of the hash, of the file, of the bundle
    assert replace(folds, classes=folds.classes[::-1]).hash != folds.hash


def test_the_hash_changes_with_every_label_id_class_and_fold() -> None:
    folds = folds_of()
    train, dev, _ = folds.folds["a"]
    others = [
        changed(folds, train=train[1:], dev=(*dev, train[0])),  # an id moves
        changed(folds, train=train[1:]),
        replace(folds, labels={**folds.labels, train[0]: "happiness"}),
        replace(folds, classes=folds.classes[::-1]),  # the order of every logit
        replace(folds, folds={"x": folds.folds["a"], "b": folds.folds["b"]}),
    ]
    assert train[0].split("_")[1] == "anger"
    assert len({folds.hash, *(other.hash for other in others)}) == 6


def test_a_protocol_file_gives_back_what_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "p.json", to_json(folds_of()))
    assert load(tmp_path / "p.json") == folds_of()


def test_auxiliary_tasks_stand_in_the_file_and_not_in_the_hash(tmp_path: Path) -> None:
    plain = to_json(folds_of())
    path = tmp_path / "p.json"
    write_json(path, plain)
    assert load(path).aux == AUX
    assert replace(folds_of(), aux={}).hash == plain["hash"]
    write_json(path, {word: value for word, value in plain.items() if word != "aux"})  # of an older sertk
    assert load(path).aux == {}


def test_a_protocol_file_gives_back_a_train_that_lacks_what_no_part_has(tmp_path: Path) -> None:
    rows = {"f1_anger_1": "1", "f1_anger_2": "2", "m1_joy_1": "2"}
    folds, _, _ = make("toy", "p", Protocol(LABELS, table(tmp_path / "t.tsv", rows), dev=0), corpus())
    write_json(tmp_path / "p.json", to_json(folds))
    assert load(tmp_path / "p.json") == folds
    assert folds.folds["1"] == Fold(("m1_joy_1",), (), ("f1_anger_1",))


def edited(path: Path, old: str, new: str) -> Path:
    write_json(path, to_json(folds_of()))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"f1_anger_1": "anger"', '"f1_anger_1": "happiness"'),
        ('"classes": [\n  "anger"', '"classes": [\n  "happiness"'),
        ('"b": {', '"c": {'),
        ('"shares": {}', '"shares": {"speaker": ["train+test"]}'),
    ],
)
def test_an_edited_protocol_file_is_refused(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(SertkError, match="was edited"):
        load(edited(tmp_path / "p.json", old, new))


def test_a_moved_id_is_an_edit(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    content = to_json(folds_of())
    write_json(path, content)
    document = json.loads(path.read_text())
    document["folds"]["a"]["dev"].append(document["folds"]["a"]["test"].pop())
    path.write_text(json.dumps(document))
    with pytest.raises(SertkError, match="was edited"):
        load(path)


@pytest.mark.parametrize(
    ("text", "says"), [(None, "missing"), ("{", "not JSON"), ('{"schema": 2}', "schema 2"), ("[1]", "schema 'list'")]
)
def test_a_file_that_is_no_protocol_says_what_it_is_and_how_to_make_one(
    tmp_path: Path, text: str | None, says: str
) -> None:
    path = tmp_path / "p.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SertkError, match=rf"{says}.*sertk prepare"):
        load(path)


# --- the audit -----------------------------------------------------------------------------------------------------


def audited(utterances: Sequence[Utterance], audio: Mapping[str, str], fold: Fold) -> Mapping[str, object]:
    by_id = {u.id: u for u in utterances}
    folds = Folds("toy", "p", ("anger", "happiness"), {i: LABELS[u.label or ""] for i, u in by_id.items()}, {"1": fold})
    report: Mapping[str, object] = audit_folds(folds, by_id, audio)["1"]
    return report


def test_the_audit_finds_what_parts_share() -> None:
    parts = [
        utterance("f1", take=1, text="a", session="s1"),
        utterance("m1", take=1, text="b", session="s1"),
        utterance("f1", "joy", text="b", session="s2"),
        utterance("m2", "joy", text="c", session=None),
        utterance("m3", "joy", text=None, session=None),
    ]
    ids = tuple(u.id for u in parts)
    audio = dict(zip(ids, ("h1", "h2", "h3", "h1", "h4"), strict=True))
    report = audited(parts, audio, Fold(ids[:2], ids[2:3], ids[3:]))
    assert report["shared"] == {
        "speaker": {"train+dev": ["f1"]},
        "session": {},  # what is not known is not shared
        "text": {"train+dev": ["b"]},
        "audio": {"train+test": ["f1_anger_1 = m2_joy_1"]},
    }
    parts[3] = replace(parts[3], text="b", session="s2")
    assert audited(parts, {}, Fold(ids[:2], ids[2:3], ids[3:]))["shared"] == {
        "speaker": {"train+dev": ["f1"]},
        "session": {"dev+test": ["s2"]},
        "text": {"train+dev": ["b"], "train+test": ["b"], "dev+test": ["b"]},
        "audio": {},
    }


def test_the_audit_counts_classes_genders_and_speakers_of_each_part() -> None:
    parts = [utterance("f1"), utterance("f1", "joy"), utterance("m1", "excitement"), utterance("x1"), utterance("m2")]
    ids = tuple(u.id for u in parts)
    report = audited(parts, {}, Fold(ids[:3], ids[3:4], ids[4:]))
    assert report["counts"] == {
        "train": {
            "utterances": 3,
            "classes": {"anger": 1, "happiness": 2},
            "genders": {"female": 2, "male": 1},
            "speakers": ["f1", "m1"],
        },
        "dev": {
            "utterances": 1,
            "classes": {"anger": 1, "happiness": 0},
            "genders": {"unknown": 1},
            "speakers": ["x1"],
        },
        "test": {
            "utterances": 1,
            "classes": {"anger": 1, "happiness": 0},
            "genders": {"male": 1},
            "speakers": ["m2"],
        },
    }


def test_only_a_part_that_has_something_lacks_a_class() -> None:
    def counts(**classes: int) -> dict[str, object]:
        return {"utterances": sum(classes.values()), "classes": classes}

    report = {
        "1": {"counts": {"train": counts(a=0, b=2, c=0), "dev": counts(a=0, b=0, c=0), "test": counts(a=1, b=1, c=1)}},
        "2": {"counts": {"train": counts(a=0, b=2, c=1), "dev": counts(a=0, b=0, c=0), "test": counts(a=0, b=1, c=0)}},
    }
    assert lacking_classes(report) == [
        Lack("train", ("a",), ("1", "2")),
        Lack("train", ("c",), ("1",)),
        Lack("test", ("a", "c"), ("2",)),
    ]


# --- RAVDESS -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ravdess(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """The 1,440 names of the speech: 7 emotions in 2 intensities and neutral in 1, 2 sentences, 2 takes, 24 actors."""
    root = tmp_path_factory.mktemp("ravdess")
    for actor in range(1, 25):
        folder = root / f"Actor_{actor:02}"
        folder.mkdir()
        for emotion in EMOTIONS:
            for intensity in ("01",) if emotion == "01" else ("01", "02"):
                for statement in ("01", "02"):
                    for take in ("01", "02"):
                        (folder / f"03-01-{emotion}-{intensity}-{statement}-{take}-{actor:02}.wav").touch()
    read = list(Ravdess().read(root))
    assert all(isinstance(one, Utterance) for one in read)
    return [one for one in read if isinstance(one, Utterance)]


def test_ravdess_names_say_everything(ravdess: list[Utterance]) -> None:
    assert len(ravdess) == sum(Ravdess.published.values()) == 1440
    by_id = {one.id: one for one in ravdess}
    assert by_id["03-01-05-02-02-01-12"] == Utterance(
        id="03-01-05-02-02-01-12",
        path="Actor_12/03-01-05-02-02-01-12.wav",
        speaker="12",
        gender="female",
        text="Dogs are sitting by the door.",
        label="anger",
        aux={"modality": "speech", "intensity": "strong", "repetition": 1},
    )
    assert by_id["03-01-01-01-01-02-07"].gender == "male"
    for label, count in Ravdess.published.items():
        assert sum(one.label == label for one in ravdess) == count


def test_ravdess_has_the_test_folds_and_labels_of_emobox(ravdess: list[Utterance]) -> None:
    folds, dropped, absent = make("ravdess", "emobox", Ravdess.protocols["emobox"], ravdess)
    assert dropped == absent == []
    with fold_table("emobox_ravdess").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {i: name for name, fold in folds.folds.items() for i in fold.test} == {
        row["utterance"]: row["test_folds"] for row in rows
    }
    nouns = {"Happy": "happiness", "Sad": "sadness", "Angry": "anger", "Fearful": "fear", "Surprised": "surprise"}
    given = {row["utterance"]: nouns.get(row["emotion"], row["emotion"].lower()) for row in rows}
    assert folds.labels == given


def test_ravdess_folds_are_speaker_disjoint_with_four_dev_actors(ravdess: list[Utterance]) -> None:
    folds, _, _ = make("ravdess", "emobox", Ravdess.protocols["emobox"], ravdess)
    assert list(folds.folds) == ["1", "2", "3", "4", "5", "6"]
    assert folds.stamp == "speaker-independent"
    assert sorted(i for fold in folds.folds.values() for i in fold.test) == sorted(one.id for one in ravdess)
    by_id = {one.id: one for one in ravdess}
    for fold in folds.folds.values():
        train, dev, test = ({by_id[i].speaker for i in part} for part in fold)
        assert len(train) + len(dev) + len(test) == 24  # no actor in two parts
        assert sorted(int(actor) % 2 for actor in dev) == [0, 0, 1, 1]
        assert len(fold.dev) == 240
        assert sum(map(len, fold)) == 1440


def test_ravdess_songs_are_read_and_dropped_by_the_protocol(tmp_path: Path, ravdess: list[Utterance]) -> None:
    (tmp_path / "03-02-05-02-02-01-12.wav").touch()
    (song,) = Ravdess().read(tmp_path)
    assert isinstance(song, Utterance)
    folds, dropped, _ = make("ravdess", "emobox", Ravdess.protocols["emobox"], [*ravdess, song])
    assert dropped == [{"id": song.id, "reason": "modality is 'song', not one of ['speech']"}]
    assert len(folds.labels) == 1440


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("notes.wav", "not the name of an audio-only RAVDESS file"),
        ("01-01-05-02-02-01-12.wav", "not the name of an audio-only RAVDESS file"),  # with video
        ("03-01-09-02-02-01-12.wav", "unknown emotion '09'"),
        ("03-01-05-03-02-01-12.wav", "unknown intensity '03'"),
        ("03-01-05-02-02-01-xx.wav", "unknown actor 'xx'"),
        ("03-01-05-02-02-01-25.wav", "unknown actor '25'"),
        ("03-01-05-02-02-xx-12.wav", "unknown repetition 'xx'"),
    ],
)
def test_ravdess_files_of_other_names_are_rejected_with_the_reason(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).touch()
    (rejected,) = Ravdess().read(tmp_path)
    assert isinstance(rejected, Rejected)
    assert says in rejected.reason


def test_a_folder_without_audio_is_an_error_that_shows_the_layout(tmp_path: Path) -> None:
    (tmp_path / "._03-01-05-02-02-01-12.wav").touch()  # AppleDouble
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SertkError, match=r"--root.*Actor_01/03-01"):
            list(Ravdess().read(root))

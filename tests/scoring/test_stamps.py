"""How scores of a prepared corpus are stamped, by what the bundle says that it learned from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sertk.core import SertkError, UsageError
from sertk.core.files import Document, write_json, write_jsonl
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import to_json
from sertk.scoring.inputs import Inputs, find_inputs


def about(data: Path, fold: str = "2", seen: tuple[str, ...] = (), **other: str) -> Document:
    """What a bundle says that was trained on a fold, and whose weights learned from some utterances."""
    shas = [Data(data).facts[i].sha256[:16] for i in seen]
    return {"protocol": {**Data(data).protocol("emobox").about(fold), **other}, "training": {"seen": shas}}


def found(data: Path, bundle: Document, **asked: str) -> Inputs:
    return find_inputs([str(data)], bundle, [], **asked)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus with a second protocol, `swapped`: dev and test of every fold have changed places."""
    copy = Path(shutil.copytree(data, tmp_path_factory.mktemp("two") / "data"))
    folds = Data(data).protocol("emobox")
    swapped = {name: fold._replace(dev=fold.test, test=fold.dev) for name, fold in folds.folds.items()}
    write_json(copy / "protocols/swapped.json", to_json(replace(folds, name="swapped", folds=swapped)))
    return copy


def test_a_bundle_is_scored_on_the_test_of_its_own_fold(data: Path) -> None:
    fold = Data(data).protocol("emobox").folds["2"]
    made = found(data, about(data, seen=(*fold.train, *fold.dev)))
    assert [one.id for one in made.utterances] == list(fold.test)
    assert made.stamp == {**about(data)["protocol"], "part": "test"}
    assert made.stamp["stamp"] == "speaker-independent"
    assert made.stamp["shares"]["text"]


@pytest.mark.parametrize("part", ["train", "dev"])
def test_what_was_trained_or_selected_on_is_seen_in_training_and_shares_nothing(data: Path, part: str) -> None:
    made = found(data, about(data), part=part)
    assert [one.id for one in made.utterances] == list(getattr(Data(data).protocol("emobox").folds["2"], part))
    assert (made.stamp["stamp"], made.stamp["shares"], made.stamp["part"]) == ("seen in training", {}, part)


def test_a_fold_without_such_a_part_is_refused(two: Path) -> None:
    folds = Data(two).protocol("emobox")
    without = {name: fold._replace(dev=()) for name, fold in folds.folds.items()}
    write_json(two / "protocols/without.json", to_json(replace(folds, name="without", folds=without)))
    with pytest.raises(UsageError, match="fold 2 of without has no dev"):
        found(two, about(two, corpus="other"), protocol="without", fold="2", part="dev")


def test_one_recording_that_the_weights_have_seen_makes_scores_dependent(data: Path) -> None:
    test = Data(data).protocol("emobox").folds["2"].test
    made = found(data, about(data, seen=test[-1:]))
    assert made.stamp["stamp"] == "SPEAKER-DEPENDENT"
    assert made.stamp["shares"]["audio"] == ["train+test"]


def test_of_a_manifest_the_hashes_beside_it_tell_what_the_weights_have_seen(data: Path, tmp_path: Path) -> None:
    copy, fold = Path(shutil.copytree(data, tmp_path / "data")), Data(data).protocol("emobox").folds["2"]
    lines = [json.loads(line) for line in (copy / "manifest.jsonl").read_text().splitlines()]
    write_jsonl(copy / "test.jsonl", [line for line in lines if line["id"] in fold.test])

    def stamp(name: str, *seen: str) -> Document:
        return find_inputs([str(copy / name)], about(data, seen=seen), []).stamp

    known = {"stamp": "SPEAKER-DEPENDENT", "shares": {"audio": ["train+test"]}}
    assert stamp("manifest.jsonl", fold.train[-1]) == known
    assert stamp("test.jsonl", fold.train[-1]) == stamp("manifest.jsonl") == {"stamp": "unaudited"}
    assert stamp("test.jsonl", fold.test[-1]) == known
    (copy / "audio.jsonl").unlink()  # now nobody knows
    assert stamp("test.jsonl", fold.test[-1]) == {"stamp": "unaudited"}


def test_another_fold_of_the_corpus_is_refused(data: Path) -> None:
    with pytest.raises(SertkError, match=r"was trained on fold 2 of emobox .* these are fold 3 of emobox"):
        found(data, about(data), fold="3")


def test_another_protocol_of_the_corpus_is_refused_and_so_are_its_folds_of_the_same_name(two: Path) -> None:
    with pytest.raises(SertkError, match=r"these are fold 2 of swapped"):
        found(two, about(two), protocol="swapped")
    with pytest.raises(SertkError, match=r"these are fold 2 of emobox"):
        found(two, about(two, hash="0" * 16))


def test_another_corpus_is_scored_where_protocol_and_fold_are_given(two: Path) -> None:
    other = about(two, corpus="other")
    for given in ({}, {"protocol": "emobox"}, {"fold": "3"}):
        with pytest.raises(UsageError, match="trained on other; to score ravdess give --protocol and --fold"):
            found(two, other, **given)
    made = found(two, other, protocol="swapped", fold="3")
    assert [one.id for one in made.utterances] == list(Data(two).protocol("swapped").folds["3"].test)
    assert (made.stamp["stamp"], made.stamp["shares"]) == ("cross-corpus", {})
    assert (made.stamp["name"], made.stamp["fold"]) == ("swapped", "3")
    test = Data(two).protocol("emobox").folds["3"].test
    met = found(two, about(two, seen=test[:1], corpus="other"), protocol="emobox", fold="3")
    assert met.stamp["stamp"] == "SPEAKER-DEPENDENT"


def test_a_corpus_that_was_heard_in_a_union_is_stamped_by_its_speakers(two: Path) -> None:
    data, folds = Data(two), Data(two).protocol("emobox")
    fold = folds.folds["2"]
    first = data.utterances[fold.test[0]].speaker
    own = [i for i in fold.test if data.utterances[i].speaker == first]
    write_json(
        two / "protocols/half.json",
        to_json(replace(folds, name="half", folds={"1": fold._replace(train=(*fold.train, own[1]), test=(own[0],))})),
    )

    def stamp(seen: tuple[str, ...], protocol: str, fold: str) -> tuple[str, Document]:
        made = found(two, about(two, seen=seen, corpus="union"), protocol=protocol, fold=fold).stamp
        return made["stamp"], made["shares"]

    assert stamp((own[1],), "half", "1") == ("SPEAKER-DEPENDENT", {"speaker": ["train+test"]})
    assert stamp((*fold.train, *fold.dev), "emobox", "2") == ("speaker-independent", {})  # of a union without its test
    assert stamp((), "half", "1") == ("cross-corpus", {})


@pytest.mark.parametrize("unknown", ["heard", "asked"])
def test_an_unknown_speaker_may_be_one_that_was_heard(data: Path, tmp_path: Path, unknown: str) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    fold = Data(data).protocol("emobox").folds["2"]
    lines = [json.loads(line) for line in (copy / "manifest.jsonl").read_text().splitlines()]
    for line in lines:
        if (line["id"] in fold.test) == (unknown == "asked"):
            line["speaker"] = "unknown"
    write_jsonl(copy / "manifest.jsonl", lines)
    made = found(copy, about(data, seen=fold.train[:1], corpus="union"), protocol="emobox", fold="2")
    assert made.stamp["stamp"] == "SPEAKER-DEPENDENT"


def test_a_part_of_a_union_of_which_no_recording_is_as_it_was_is_not_another_corpus(two: Path) -> None:
    for parts, says in ({"ravdess", "savee"}, "seen in training"), ({"savee"}, "cross-corpus"):
        own = about(two, corpus="union")
        bundle = {**own, "training": {"seen": ["0" * 16], "corpora": sorted(parts)}}
        assert found(two, bundle, protocol="emobox", fold="2").stamp["stamp"] == says


def test_a_label_is_the_class_of_the_protocol(two: Path) -> None:
    folds = Data(two).protocol("emobox")
    labels = {i: "quiet" if label in ("calm", "neutral") else label for i, label in folds.labels.items()}
    merged = replace(folds, name="merged", classes=tuple(sorted(set(labels.values()))), labels=labels)
    write_json(two / "protocols/merged.json", to_json(merged))
    made = found(two, about(two, corpus="other"), protocol="merged", fold="1")
    assert {one.label for one in made.utterances} == {*folds.classes, "quiet"} - {"calm", "neutral"}
    lines = [json.loads(line) for line in (two / "manifest.jsonl").read_text().splitlines()]
    assert {"calm", "neutral"} <= {line["label"] for line in lines}

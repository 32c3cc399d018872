"""The classes that a bundle and a corpus share, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sertk.core import UsageError
from sertk.scoring.shared import Fit, LabelMap

CLASSES = ("anger", "calm", "joy", "neutral")


def fit(names: LabelMap, labels: str = "anger happiness neutral boredom") -> Fit:
    return Fit.of(names, "ours", CLASSES, "theirs", labels.split())


def test_without_a_map_classes_of_the_same_name_are_shared() -> None:
    found = fit(LabelMap({}))
    assert found.shared == ["anger", "neutral"]
    assert found.labels == {"anger": "anger", "neutral": "neutral"}


def test_a_map_joins_classes_renames_them_and_leaves_the_unnamed_out() -> None:
    ours = {"anger": "angry", "calm": "still", "neutral": "still"}
    found = fit(LabelMap({"ours": ours, "theirs": {"neutral": "still", "happiness": "happy", "anger": "angry"}}))
    assert found.shared == ["angry", "still"]  # joy has no name in it
    assert found.labels == {"anger": "angry", "neutral": "still"}  # happiness is shared by nobody


def test_a_posterior_is_summed_by_shared_name_restricted_and_renormalised() -> None:
    found = fit(LabelMap({"ours": {"anger": "anger", "calm": "neutral", "neutral": "neutral"}}))
    posterior = torch.tensor([[0.2, 0.1, 0.5, 0.2], [0.3, 0.15, 0.4, 0.15]], dtype=torch.float64)
    made, logits, none = found.posterior(posterior, posterior.log())
    torch.testing.assert_close(made, torch.tensor([[0.4, 0.6], [0.5, 0.5]], dtype=torch.float64))
    torch.testing.assert_close(logits.exp(), torch.tensor([[0.2, 0.3], [0.3, 0.3]], dtype=torch.float64))
    assert none.tolist() == [False, False]


def test_where_every_shared_class_has_posterior_0_the_logits_decide_and_it_is_counted() -> None:
    line = {"id": "u", "label": "neutral", "posterior": [0.0, 0.1, 0.9, 0.0], "logits": [-30.0, 5.0, 9.0, -29.0]}
    line |= {"votes": {"anger": 2}, "gender": "male"}
    (made,), by_logits = fit(LabelMap({})).lines([line])
    assert (made["decision"], by_logits) == ("neutral", 1)
    assert made["posterior"] == [0.268941, 0.731059]  # 1 / (1 + e)
    assert (made["gender"], "votes" in made) == ("male", False)  # votes were for the classes of the bundle
    assert fit(LabelMap({})).lines([]) == ([], 0)


@pytest.mark.parametrize(("labels", "number"), [("boredom fear", 0), ("anger boredom", 1)])
def test_a_corpus_without_two_shared_classes_is_refused(labels: str, number: int) -> None:
    with pytest.raises(UsageError, match=rf"ours .* and theirs .* share {number} classes; at least 2 .* --map FILE"):
        fit(LabelMap({}), labels)


def test_a_map_is_read_from_yaml_and_json_and_checked(tmp_path: Path) -> None:
    for name, text in (("m.yaml", "theirs: {joy: happiness}\n"), ("m.json", '{"theirs": {"joy": "happiness"}}')):
        (tmp_path / name).write_text(text)
        names = LabelMap.of_file(tmp_path / name)
        assert names.names("theirs", ["joy", "fear"]) == {"joy": "happiness"}
    with pytest.raises(UsageError, match="names the class 'joy' of theirs; did you mean 'joys'"):
        names.check("theirs", ["joys", "fear"])
    names.check("theirs", ["joy", "fear"])
    (tmp_path / "bad.yaml").write_text("theirs: [joy]\n")
    with pytest.raises(UsageError, match=r"theirs is \['joy'\]"):
        LabelMap.of_file(tmp_path / "bad.yaml")


def test_the_map_of_emobox_has_four_classes_of_each_corpus_whatever_the_protocol() -> None:
    names = LabelMap.of_file(Path("emobox"))
    four = ["anger", "happiness", "neutral", "sadness"]
    ravdess = ["anger", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    iemocap = ["anger", "excitement", "frustration", "happiness", "neutral", "other", "sadness"]
    found = Fit.of(names, "ravdess", ravdess, "iemocap", iemocap)
    assert found.shared == four  # calm is none of them
    assert found.labels == {**{one: one for one in four}, "excitement": "happiness"}
    assert Fit.of(names, "savee", ravdess, "ravdess", ravdess).shared == four
    names.check("iemocap", four)  # a protocol has put excitement into happiness before
    with pytest.raises(UsageError, match=r"--map emobx is no file, and no .* did you mean 'emobox'\?"):
        LabelMap.of_file(Path("emobx"))


def test_a_file_is_taken_before_a_map_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("emobox").write_text("ours: {anger: hot}\n")
    assert LabelMap.of_file(Path("emobox")) == LabelMap({"ours": {"anger": "hot"}})

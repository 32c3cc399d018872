"""Score lines made into scores: what counts, what older lines lack, and what is refused."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
import torch

from sertk.core import InputError, Scores, SertkError
from sertk.plugins import Plugins
from sertk.results.lines import read_scores
from sertk.results.measures import Measure

LINE = {"schema": 1, "id": "u1", "label": "b", "speaker": "s1", "gender": "male", "session": None, "seconds": 1.5}
LINE |= {"decision": "c", "posterior": [0.2, 0.4, 0.4], "logits": [-1.0, 0.5, 0.25]}


def written(path: Path, *lines: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(LINE | line) + "\n" for line in lines))
    return path


def test_a_line_is_read_as_it_is_written(tmp_path: Path) -> None:
    found = read_scores(written(tmp_path / "s", {}, {"id": "u2", "label": "a"}), list("abc"))
    assert found.ids == ("u1", "u2")
    assert found.target.hard.tolist() == [1, 0]
    assert found.decision.tolist() == [2, 2]  # not the first of the two that the rounded posterior ties
    assert found.prediction.posterior.tolist() == [[0.2, 0.4, 0.4]] * 2  # the very numbers, in float64
    assert found.prediction.logits[0].tolist() == [-1.0, 0.5, 0.25]
    assert (found.speaker, found.gender, found.session) == (("s1",) * 2, ("male",) * 2, (None,) * 2)
    assert found.seconds.tolist() == [1.5, 1.5]


def test_what_an_older_line_lacks_is_unknown(tmp_path: Path) -> None:
    old = {name: value for name, value in LINE.items() if name not in ("gender", "session", "seconds")}
    (tmp_path / "s").write_text(json.dumps(old) + "\n")
    found = read_scores(tmp_path / "s", list("abc"))
    assert found.gender == found.session == found.intensity == (None,)
    assert found.seconds.isnan().tolist() == [True]


def test_a_line_that_does_not_say_its_speaker_is_refused_and_one_that_says_null_is_read(tmp_path: Path) -> None:
    assert read_scores(written(tmp_path / "s", {"speaker": None}), list("abc")).speaker == (None,)
    old = {name: value for name, value in LINE.items() if name != "speaker"}
    (tmp_path / "s").write_text(json.dumps(old) + "\n")
    with pytest.raises(InputError, match=r"s:1: it lacks speaker\. Run `sertk score RUN/model DATA --out RUN/scores"):
        read_scores(tmp_path / "s", list("abc"))


def test_intensity_and_votes_are_read_where_a_line_has_them(tmp_path: Path) -> None:
    assert read_scores(written(tmp_path / "s", {}), list("abc")).votes is None
    strong = {"id": "u2", "intensity": "strong", "votes": {"c": 2, "a": 1.5, "other": 4}}
    found = read_scores(written(tmp_path / "s", {}, strong, {"id": "u3"}, {"id": "u4", "votes": {"b": 3}}), list("abc"))
    assert found.intensity == (None, "strong", None, None)
    assert found.votes is not None
    assert found.votes.tolist() == [[0, 0, 0], [1.5, 0, 2], [0, 0, 0], [0, 3, 0]]
    both = Scores.join([read_scores(written(tmp_path / "t", {}), list("abc")), found.take(torch.tensor([3, 1]))])
    assert both.intensity == (None, None, "strong")
    assert both.votes is not None
    assert both.votes.tolist() == [[0, 0, 0], [0, 3, 0], [1.5, 0, 2]]
    both.own().votes.zero_()  # type: ignore[union-attr]
    assert both.votes.sum() == 6.5
    with pytest.raises(InputError, match=r"votes is .*; it must be a mapping of names to numbers"):
        read_scores(written(tmp_path / "s", {"votes": {"a": "2"}}), list("abc"))


def test_labels_that_are_no_class_do_not_count(tmp_path: Path) -> None:
    path = written(tmp_path / "s", {"label": "other"}, {"id": "u2", "label": None}, {"id": "u3"})
    assert read_scores(path, list("abc")).ids == ("u3",)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"id": "u1"}, "s:2: id 'u1' comes twice"),
        ({"id": "u2", "decision": "d"}, "s:2: decision 'd' is not one of a, b, c"),
        ({"id": "u2", "posterior": [0.5, 0.5]}, "s:2: posterior has 2 values for 3 classes"),
        ({"id": "u2", "logits": [0.5]}, "s:2: logits has 1 values for 3 classes"),
    ],
)
def test_a_line_that_cannot_be_is_named(tmp_path: Path, line: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_scores(written(tmp_path / "s", {}, line), list("abc"))


def test_a_line_that_lacks_something_and_a_file_that_is_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "s").write_text('{"id": "u1", "label": "a", "decision": "a"}\n')
    with pytest.raises(InputError, match="s:1: it lacks speaker, posterior, logits"):
        read_scores(tmp_path / "s", list("abc"))
    with pytest.raises(SertkError, match=r"none is missing\. Run `sertk score"):
        read_scores(tmp_path / "none", list("abc"))


def test_posteriors_are_read_when_they_are_asked_for_and_only_of_the_file_that_was_read(tmp_path: Path) -> None:
    path = written(tmp_path / "s", {}, {"id": "u2", "label": "other"}, {"id": "u3", "posterior": [0.125, 0.25, 0.625]})
    found = read_scores(path, list("abc"))
    assert found.take(torch.tensor([1])).prediction.posterior.tolist() == [[0.125, 0.25, 0.625]]
    both = Scores.join([found, found.take(torch.tensor([False, True]))])
    assert both.prediction.posterior[:, 0].tolist() == [0.2, 0.125, 0.125]
    written(path, {}, {"id": "u3"})
    with pytest.raises(SertkError, match="s changed while it was read"):
        found.take(torch.tensor([0])).prediction.logits.sum()


def test_what_one_metric_writes_into_scores_the_next_does_not_see(tmp_path: Path) -> None:
    found = read_scores(written(tmp_path / "s", {}), list("abc"))
    for scores in (found, Scores.join([found, found])):
        own = scores.own()
        for values in (own.prediction.posterior, own.decision, own.seconds, own.target.soft):
            values.zero_()
        assert own.prediction.posterior.sum() == 0  # it is kept: a metric may read it twice
        again = scores.own()
        assert again.prediction.posterior[0].tolist() == [0.2, 0.4, 0.4]
        assert (int(again.decision[0]), float(again.seconds[0]), again.target.soft[0, 1]) == (2, 1.5, 1)


def peak(path: Path, lines: int) -> int:
    """Bytes that reading lines and a figure of them takes at most."""
    written(path, *({"id": f"clips/part-00001/recording-{n:07d}.wav", "speaker": f"s{n % 7}"} for n in range(lines)))
    wa = Measure(Plugins(), "wa")
    tracemalloc.start()
    try:
        wa(read_scores(path, list("abc")))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_score_lines_take_under_200_bytes_each(tmp_path: Path) -> None:
    few, many = (peak(tmp_path / "s", lines) for lines in (1_000, 6_000))
    assert (many - few) / 5_000 < 200

"""Score lines made into scores: what counts, what older lines lack, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sertk.core import InputError, SertkError
from sertk.results.lines import read_scores

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
    old = {name: value for name, value in LINE.items() if name not in ("speaker", "gender", "session", "seconds")}
    (tmp_path / "s").write_text(json.dumps(old) + "\n")
    found = read_scores(tmp_path / "s", list("abc"))
    assert found.speaker == found.gender == found.session == (None,)
    assert found.seconds.isnan().tolist() == [True]


def test_labels_that_are_no_class_do_not_count(tmp_path: Path) -> None:
    path = written(tmp_path / "s", {"label": "other"}, {"id": "u2", "label": None}, {"id": "u3"})
    assert read_scores(path, list("abc")).ids == ("u3",)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"id": "u1"}, "s:2: id 'u1' comes twice"),
        ({"id": "u2", "decision": "d"}, "s:2: decision 'd' is none of a, b, c"),
        ({"id": "u2", "posterior": [0.5, 0.5]}, "s:2: posterior has 2 values for 3 classes"),
        ({"id": "u2", "logits": [0.5]}, "s:2: logits has 1 values for 3 classes"),
    ],
)
def test_a_line_that_cannot_be_is_named(tmp_path: Path, line: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_scores(written(tmp_path / "s", {}, line), list("abc"))


def test_a_line_that_lacks_something_and_a_file_that_is_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "s").write_text('{"id": "u1", "label": "a", "decision": "a"}\n')
    with pytest.raises(InputError, match="s:1: it lacks posterior, logits"):
        read_scores(tmp_path / "s", list("abc"))
    with pytest.raises(SertkError, match=r"none is missing\. Run `sertk score"):
        read_scores(tmp_path / "none", list("abc"))

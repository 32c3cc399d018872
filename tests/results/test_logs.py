"""How training went, as log.jsonl says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sertk.core import InputError
from sertk.core.files import write_jsonl
from sertk.results.logs import training_of
from sertk.results.runs import Run


def logged(folder: Path, *lines: dict[str, object]) -> Run:
    write_jsonl(folder / "log.jsonl", lines)
    return Run(folder, {}, {})


def test_each_run_with_a_log_has_a_curve_and_what_it_does_not_know_is_no_point(tmp_path: Path) -> None:
    one = logged(
        tmp_path / "1", {"epoch": 1, "train_loss": None, "dev_loss": 3.0, "dev": 0.5}, {"epoch": 2, "dev": 0.6}
    )
    two = logged(tmp_path / "2", {"epoch": 1, "train_loss": 2.0, "dev_loss": None, "dev": None})
    found = training_of([one, two, Run(tmp_path / "none", {}, {})])
    assert found is not None
    assert found.runs == 2
    assert found.loss == {"train": [[], [(1, 2.0)]], "dev": [[(1, 3.0)], []]}
    assert found.score == {"dev": [[(1, 0.5), (2, 0.6)], []]}
    assert training_of([Run(tmp_path / "none", {}, {})]) is None


def test_parts_that_were_measured_alike_are_taken_where_every_epoch_has_them(tmp_path: Path) -> None:
    curves = {"train": {"loss": 1.0, "wa": 0.9}, "dev": {"loss": 2.0, "wa": 0.4}}
    run = logged(tmp_path / "1", {"epoch": 1, "train_loss": 7.0, "dev": 0.1, "curves": curves})
    found = training_of([run])
    assert found is not None
    assert found.measured
    assert found.loss == {"train": [[(1, 1.0)]], "dev": [[(1, 2.0)]]}
    assert found.score == {"train": [[(1, 0.9)]], "dev": [[(1, 0.4)]]}
    mixed = training_of([run, logged(tmp_path / "2", {"epoch": 1, "train_loss": 8.0})])
    assert mixed is not None
    assert mixed.loss == {"train": [[(1, 7.0)], [(1, 8.0)]]}


def test_a_file_that_is_no_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"log\.jsonl:1.*epoch"):
        training_of([logged(tmp_path, {"epok": 1})])

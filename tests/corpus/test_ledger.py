"""The ledger: a line a run whose test was scored, and how many different settings looked."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sertk.core import InputError
from sertk.corpus import ledger

STAMP = {"name": "emobox", "hash": "h1", "fold": "1", "part": "test"}
TRAINED = {"system": "p1-ce", "settings": "s1", "hash": "h1", "seed": 0}


def lines(data: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (data / "ledger.jsonl").read_text().splitlines()]


def test_a_run_has_one_line_however_often_its_test_is_scored(tmp_path: Path) -> None:
    for ua in (0.5, 0.5, None):
        ledger.note(tmp_path, STAMP, TRAINED, ua)
    (line,) = lines(tmp_path)
    assert line.pop("when")
    expected = {"schema": 1, "protocol": "emobox", "hash": "h1", "fold": "1", "system": "p1-ce", "settings": "s1"}
    assert line == {**expected, "trained": "h1", "seed": 0, "ua": 0.5}


def test_folds_and_seeds_of_the_same_settings_are_one_look(tmp_path: Path) -> None:
    for fold in "12":
        for seed in (0, 1):
            ledger.note(tmp_path, {**STAMP, "fold": fold}, {**TRAINED, "seed": seed}, 0.5)
    assert len(lines(tmp_path)) == 4
    assert ledger.looks(tmp_path, "h1") == 1
    ledger.note(tmp_path, STAMP, {**TRAINED, "settings": "s2"}, 0.5)  # other settings
    ledger.note(tmp_path, STAMP, {**TRAINED, "hash": "h7"}, 0.5)  # the same settings, trained on another corpus
    ledger.note(tmp_path, {**STAMP, "hash": "h2"}, {**TRAINED, "settings": "s3"}, 0.5)  # another test
    assert (ledger.looks(tmp_path, "h1"), ledger.looks(tmp_path, "h2")) == (3, 1)


def test_without_a_ledger_nobody_has_looked(tmp_path: Path) -> None:
    assert ledger.looks(tmp_path, "h1") == 0


def test_lines_that_are_added_at_the_same_time_are_whole(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: ledger.note(tmp_path, STAMP, {**TRAINED, "settings": str(n)}, None), range(40)))
    assert {one["settings"] for one in lines(tmp_path)} == {str(n) for n in range(40)}


@pytest.mark.parametrize("broken", ["folder", "text"])
def test_a_ledger_that_cannot_be_written_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    path = tmp_path / "ledger.jsonl"
    if broken == "folder":
        path.mkdir()
    else:
        path.write_text("half a li")
    ledger.note(tmp_path, STAMP, TRAINED, 0.5)
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: this look at the test is not in" in said
    assert broken == "folder" or path.read_text() == "half a li"


def test_a_line_that_is_none_is_named_where_looks_are_counted(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text('{"schema": 1, "hash": 7}\n')
    with pytest.raises(InputError, match=r"ledger\.jsonl:1: .*hash.* Delete that line"):
        ledger.looks(tmp_path, "h1")

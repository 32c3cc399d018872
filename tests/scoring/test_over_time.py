"""Windows as lines, as a table, as a TextGrid, and as stretches of time."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from sertk.core import InputError, SertkError, UsageError
from sertk.core.files import json_bytes
from sertk.scoring.over_time import Recording, Window, carried, intervals, is_table, read, split, text_grid

CLASSES = ["anger", 'so "so"', "fear"]


def window(start: float, end: float, decision: int = 0) -> Window:
    return Window(start, end, decision, [0.25 + 0.25 * (number == decision) for number in range(3)])


@pytest.mark.parametrize(
    ("windows", "found"),
    [
        ([(0, 2), (2, 4)], [(0, 2, 0), (2, 4, 1), (4, 9, None)]),
        ([(0, 9)], [(0, 9, 0)]),
        # of 4 s every 2 s: the first and the last have 3 s, the others 2 s
        ([(0, 4), (2, 6), (4, 8), (5, 9)], [(0, 3, 0), (3, 5, 1), (5, 6.5, 2), (6.5, 9, 3)]),
        # a silent one was left out, and both neighbours heard what it heard
        ([(0, 4), (4, 8), (5, 9)], [(0, 4, 0), (4, 6.5, 1), (6.5, 9, 2)]),
        # rounded apart, as 2.5219375 s is
        ([(0, 2.521937), (2.521938, 8.999999)], [(0, 2.521938, 0), (2.521938, 9, 1)]),
        ([(1, 3), (5, 7)], [(0, 1, None), (1, 3, 0), (3, 5, None), (5, 7, 1), (7, 9, None)]),
    ],
)
def test_time_is_dealt_to_the_windows_without_gap_or_overlap(
    windows: Sequence[tuple[float, float]], found: Sequence[tuple[float, float, int | None]]
) -> None:
    assert intervals(Recording("a", 0, 9, [window(*one) for one in windows])) == found


def test_a_text_grid_is_written_as_praat_writes_it() -> None:
    made = text_grid(Recording("a", 0.5, 5.0, [window(0.5, 2.5), window(1.5, 3.5, 1)]), CLASSES)
    assert made.splitlines() == [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0.5 ",
        "xmax = 5.0 ",
        "tiers? <exists> ",
        "size = 1 ",
        "item []: ",
        "    item [1]:",
        '        class = "IntervalTier" ',
        '        name = "emotion" ',
        "        xmin = 0.5 ",
        "        xmax = 5.0 ",
        "        intervals: size = 3 ",
        "        intervals [1]:",
        "            xmin = 0.5 ",
        "            xmax = 2.0 ",
        '            text = "anger" ',
        "        intervals [2]:",
        "            xmin = 2.0 ",
        "            xmax = 3.5 ",
        '            text = "so ""so""" ',
        "        intervals [3]:",
        "            xmin = 3.5 ",
        "            xmax = 5.0 ",
        '            text = "" ',
    ]


LINES = [
    {"schema": 1, "id": "x/a.wav", "decision": "anger", "stamp": "ä"},
    {"schema": 1, "id": 'b,"c"', "decision": "fear", "stamp": "ä"},
]
WINDOWS = [[window(0.0, 2.0), window(1.0, 3.0, 1)], [window(0.5, 1.5, 2)]]


def carrying() -> list[bytes]:
    kept = (carried(windows[0].start, windows[-1].end, windows) for windows in WINDOWS)
    return [json_bytes(line | more, "") for line, more in zip(LINES, kept, strict=True)]


@pytest.mark.parametrize("name", ["over.jsonl", "over.csv", "grids"])
def test_score_lines_are_what_they_are_without_their_windows(tmp_path: Path, name: str) -> None:
    found = list(split(carrying(), tmp_path / name, CLASSES))
    assert found == [json_bytes(line, "") for line in LINES]
    if name == "grids":
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            'b,"c".TextGrid',
            "x%2Fa.wav.TextGrid",
        ]
    else:
        classes, windows = read(tmp_path / name)
        assert classes == CLASSES
        assert windows == dict(zip(("x/a.wav", 'b,"c"'), WINDOWS, strict=True))


def test_the_lines_and_the_table_say_the_same(tmp_path: Path) -> None:
    for name in ("over.jsonl", "over.csv"):
        list(split(carrying(), tmp_path / name, CLASSES))
    first = json.loads((tmp_path / "over.jsonl").read_text().splitlines()[1])
    assert first == {
        "schema": 1,
        "id": "x/a.wav",
        "start": 1.0,
        "end": 3.0,
        "decision": 'so "so"',
        "posterior": {"anger": 0.25, 'so "so"': 0.5, "fear": 0.25},
    }
    with (tmp_path / "over.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "start", "end", "decision", *CLASSES]
    assert rows[2] == ["x/a.wav", "1.0", "3.0", 'so "so"', "0.25", "0.5", "0.25"]
    assert len(rows) == 4


def test_lines_that_are_not_all_written_leave_no_file(tmp_path: Path) -> None:
    left = split(carrying(), tmp_path / "over.csv", CLASSES)
    next(left)
    left.close()  # type: ignore[attr-defined] # it is a generator
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["over.txt", "over.json", "a.TextGrid", "over.CSV"])
def test_a_form_that_there_is_not_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"is not FILE\.jsonl, FILE\.csv or a FOLDER"):
        is_table(tmp_path / name)
    (tmp_path / name).mkdir()
    assert not is_table(tmp_path / name)


def test_a_recording_with_a_long_path_has_its_text_grid_under_a_short_name(tmp_path: Path) -> None:
    names = [f"/corpora/{'é' * 150}/{n}.wav" for n in (1, 2)]  # a path is an id, and its slashes are spelled
    lines = [json.dumps({"id": name, **carried(0.0, 1.0, [Window(0.0, 1.0, 0, [0.5, 0.25, 0.25])])}) for name in names]
    assert len(list(split((f"{line}\n".encode() for line in lines), tmp_path, CLASSES))) == 2
    found = sorted(path.name for path in tmp_path.iterdir())
    assert len(found) == 2
    assert {name.rpartition("é")[2] for name in found} == {"%2F1.wav.TextGrid", "%2F2.wav.TextGrid"}
    assert max(len(name.encode()) for name in found) < 225  # behind it comes what says who writes it


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": "x"},
        {"start": float("inf")},
        {"start": -1.0},
        {"end": 0.0},
        {"posterior": {"anger": 5.0, 'so "so"': -4.25, "fear": 0.25}},
        {"decision": "joy"},
        {"posterior": [0.1]},
        {"posterior": {"fear": 1.0}},
        {"posterior": {"anger": None, 'so "so"': 0.5, "fear": 0.25}},
        {"id": []},
    ],
)
def test_a_line_that_is_none_of_a_window_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    path = tmp_path / "over.jsonl"
    list(split(carrying(), path, CLASSES))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], json.dumps(json.loads(lines[1]) | wrong)]))
    with pytest.raises(InputError, match=r"over\.jsonl:2: no line of a window"):
        read(path)


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,path\n1,2\n")
    with pytest.raises(InputError, match=r"a\.csv:2: no line of a window"):
        read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("id,start,end,decision,joy,joy\na,0,1,joy,0.5,0.5\n")
    with pytest.raises(InputError, match=r"a\.csv:1: two columns have one name"):
        read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("id,start\n")
    with pytest.raises(SertkError, match="has no windows"):
        read(tmp_path / "a.csv")
    with pytest.raises(SertkError, match="is missing"):
        read(tmp_path / "b.jsonl")

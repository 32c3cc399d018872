"""Files: strict JSON alone is written, what killed runs left is swept, and lines are read one at a time."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sertk.core import SertkError
from sertk.core.files import (
    kaldi_lines,
    link,
    put_folder,
    read_jsonl,
    read_lines,
    renew,
    write_json,
    write_jsonl,
    write_text,
    writing,
)


@pytest.mark.parametrize("value", [math.nan, math.inf, [0.5, -math.inf]])
def test_a_number_that_is_not_finite_is_refused_with_its_key_and_what_was_there_stays(
    tmp_path: Path, value: object
) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"ua": 0.5})
    with pytest.raises(SertkError, match=r"metrics\.json: ua is .*(nan|inf).*finite numbers alone"):
        write_json(path, {"wa": 1.0, "ua": value})
    assert json.loads(path.read_text()) == {"schema": 1, "ua": 0.5}
    with pytest.raises(SertkError, match=r"s\.jsonl:2: a is "):
        write_jsonl(tmp_path / "s.jsonl", [{"a": 1}, {"a": value}])
    assert [one.name for one in tmp_path.iterdir()] == ["metrics.json"]


def test_an_id_that_is_not_utf_8_is_spelled_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xe9t\xe9.wav")  # Latin-1: half surrogates in Python
    write_jsonl(tmp_path / "s.jsonl", [{"id": name}])
    (tmp_path / "s.jsonl").read_text(encoding="utf-8")
    assert [line for _, line in read_jsonl(tmp_path / "s.jsonl", "")] == [{"id": name}]


def test_a_folder_is_replaced_and_a_kill_in_between_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name == "fresh":
            raise KeyboardInterrupt
        return rename(self, target)

    def texts() -> list[str]:
        return sorted(one.read_text() for one in tmp_path.rglob("*") if one.is_file())

    for text in ("one", "two", "three"):
        write_text(tmp_path / "fresh/a.txt", text)
        if text == "two":
            monkeypatch.setattr(Path, "rename", killed)
            with pytest.raises(KeyboardInterrupt):
                put_folder(tmp_path / "fresh", tmp_path / "made")
            monkeypatch.undo()
            assert texts() == ["one", "two"]
        put_folder(tmp_path / "fresh", tmp_path / "made")
        assert texts() == [text]
        assert [one.name for one in tmp_path.iterdir()] == ["made"]


def test_the_second_name_of_a_link_is_one_of_its_file(tmp_path: Path) -> None:
    write_text(tmp_path / "blobs/a", "x")
    (tmp_path / "link").symlink_to("blobs/a")
    assert link(tmp_path / "link", tmp_path / "far/away/b")
    assert not (tmp_path / "far/away/b").is_symlink()
    assert (tmp_path / "far/away/b").samefile(tmp_path / "blobs/a")


def test_what_a_killed_run_left_an_hour_ago_is_swept_and_nothing_else(tmp_path: Path) -> None:
    old = time.time() - 3700
    names = (".a.json.x1_z9.new", ".a.json.b.json.x1.new", ".a.json.x1.txt", ".b.json.x1.new", "a.json.x1.new")
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (old, old))
    (tmp_path / ".a.json.young.new").touch()  # of a run that goes on
    write_text(tmp_path / "a.json", "{}")
    assert {one.name for one in tmp_path.iterdir()} == {"a.json", ".a.json.young.new", *names[1:]}


KILLED = """
import sys
from pathlib import Path
from sertk.core.files import writing
with writing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writes", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_of_this_machine_left_is_swept_at_once_and_never_what_a_living_one_writes(
    tmp_path: Path,
) -> None:
    def begun(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path / name)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "writes\n"
        return process

    living, dead = begun("a.json"), begun("b.json")
    dead.kill()
    dead.communicate()
    (theirs,) = tmp_path.glob(".a.json.*.new")
    foreign = tmp_path / f".a.json.00000000-{dead.pid}-x1.new"  # of another machine
    foreign.touch()
    os.utime(theirs, (0, 0))
    write_text(tmp_path / "a.json", "{}")
    assert {one.name for one in tmp_path.iterdir()} == {"a.json", theirs.name, foreign.name}
    living.communicate("")
    assert (tmp_path / "a.json").read_text() == "half"
    os.utime(foreign, (0, 0))
    write_text(tmp_path / "a.json", "{}")
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_lines_are_cut_at_line_feeds_alone_and_the_last_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "text"
    for text, lines in (("", []), ("\n", [""]), ("a\u2028b\n\nc", ["a\u2028b", "", "c"]), ("a\r\nb\n", ["a", "b"])):
        path.write_bytes(text.encode())
        assert read_lines(path, "") == lines


def test_lines_of_kaldi_are_divided_at_spaces_and_tabs_alone(tmp_path: Path) -> None:
    path = tmp_path / "wav.scp"
    path.write_text("\ufeffu1 \t a b.wav \r\n\nu\u00a02\tc.wav\nu3\n", encoding="utf-8", newline="")
    assert [*kaldi_lines(path, "Give it.")] == [
        (f"{path}:1", "u1", "a b.wav"),
        (f"{path}:2", "", ""),
        (f"{path}:3", "u\u00a02", "c.wav"),
        (f"{path}:4", "u3", ""),
    ]


@pytest.mark.parametrize("was", [b"one\ntwo\nthree\n", b"one\n", b"one\ntwa\n", b"", None])
def test_a_file_of_other_content_is_written_anew_and_an_equal_one_stays(tmp_path: Path, was: bytes | None) -> None:
    path = tmp_path / "a.jsonl"
    if was is not None:
        path.write_bytes(was)
    calls = list[str]()
    renew(path, lambda: [b"one\n", b"two\n"], lambda: calls.append("before"))
    place = path.stat().st_ino
    renew(path, lambda: [b"one\n", b"two\n"], lambda: calls.append("again"))
    assert path.read_bytes() == b"one\ntwo\n"
    assert calls == ["before"]
    assert path.stat().st_ino == place


def test_what_fails_in_reading_is_not_said_of_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    with (
        pytest.raises(SertkError, match=r"^Cannot read '.*/input' \(Is a directory\)"),
        writing(tmp_path / "out") as file,
    ):
        file.write((tmp_path / "input").read_bytes())
    (tmp_path / "input").rmdir()
    with pytest.raises(SertkError, match=r"^[^ ]*/input is missing\."), writing(tmp_path / "out") as file:
        file.write((tmp_path / "input").read_bytes())
    assert list(tmp_path.iterdir()) == []

"""No output in the place of an input, by whatever name, nor in the place of what is no file."""

import os
from pathlib import Path

import pytest

from sertk.core import SertkError, UsageError, Utterance
from sertk.core.files import write_json, write_text
from sertk.scoring.inputs import Inputs
from sertk.scoring.outputs import check_audio, check_files, check_out


def linked(folder: Path, name: str, text: str = "x") -> Path:
    """A link NAME in a folder of its own to real-NAME."""
    (folder / "links").mkdir(exist_ok=True)
    (folder / f"real-{name}").write_text(text)
    (folder / "links" / name).symlink_to(folder / f"real-{name}")
    return folder / "links" / name


def test_an_input_that_is_read_through_a_link_is_not_overwritten(tmp_path: Path) -> None:
    for name in ("a.wav", "wav.scp", "text"):
        with pytest.raises(UsageError, match=rf"--out would overwrite .*links/{name}, which is an input"):
            check_out(tmp_path / f"real-{name}", [linked(tmp_path, name)])
    check_out(tmp_path / "other.jsonl", [tmp_path / "links" / "a.wav"])
    (tmp_path / "loop").symlink_to("loop")
    check_out(tmp_path / "other.jsonl", [tmp_path / "loop"], tmp_path / "o.csv")


@pytest.mark.parametrize("name", ["real-a.wav", "real-b.wav"])
def test_a_recording_of_a_list_that_is_read_through_a_link_is_not_overwritten(tmp_path: Path, name: str) -> None:
    linked(tmp_path, "a.wav")
    linked(tmp_path, "b.wav")
    found = Inputs([Utterance(n, f"links/{n}.wav", "s", None) for n in ("a", "b", "none")], tmp_path, {})
    with pytest.raises(UsageError, match=rf"--out would overwrite .*links/{name[5:]}, which is an input"):
        check_audio(tmp_path / name, found)
    check_audio(tmp_path / "new.jsonl", found)


@pytest.mark.parametrize("name", ["scores.jsonl", "failed.jsonl"])
def test_windows_do_not_go_where_scores_and_failures_go(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(UsageError, match=r"--over-time .* is what --out, or a file beside it, is written to"):
        check_out(tmp_path / "scores.jsonl", [], tmp_path / "sub" / ".." / name)
    check_out(tmp_path / "scores.jsonl", [], tmp_path / "windows.jsonl")


def test_windows_do_not_go_where_prepare_has_written(tmp_path: Path) -> None:
    write_json(tmp_path / "corpus.json", {})
    with pytest.raises(UsageError, match=r"--over-time would overwrite .*manifest\.jsonl, which is an input"):
        check_out(tmp_path / "other" / "scores.jsonl", [], tmp_path / "manifest.jsonl")
    with pytest.raises(UsageError, match=r"--over-time would overwrite .*/b/\.\./a\.jsonl"):
        check_out(None, [tmp_path / "c.jsonl", tmp_path / "b" / ".." / "a.jsonl"], tmp_path / "a.jsonl")


@pytest.mark.parametrize("name", ["scores.csv", "scores.TSV"])
def test_score_lines_are_not_written_under_the_name_of_a_table(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=rf"--out .*{name} is named as a table, .* Name it FILE\.jsonl; pandas"):
        check_out(tmp_path / name, [])
    check_out(tmp_path / "scores", [], tmp_path / "windows.csv")


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "folder", "null"):
        with pytest.raises(SertkError, match=rf"{name} is a folder, a pipe or a device, and not a file"):
            check_files(None, tmp_path / name)
        with pytest.raises(SertkError, match=rf"{name} is a folder, a pipe or a device, and not a file"):
            write_text(tmp_path / name, "x")
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "null").is_symlink()
    check_files(tmp_path / "new.jsonl", None)

"""What `score` reads: shards, lists, and what is refused."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sertk.core import SertkError, UsageError
from sertk.core.files import Record
from sertk.scoring.inputs import check_splittable, find_inputs, shard_of


@pytest.mark.parametrize(("size", "shards"), [(10, 3), (2, 5), (0, 2), (7, 1)])
def test_shards_are_contiguous_and_complete(size: int, shards: int) -> None:
    items = list(range(size))
    parts = [shard_of(items, f"{k}/{shards}") for k in range(1, shards + 1)]  # type: ignore[arg-type]
    assert [one for part in parts for one in part] == items  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("shard", ["3", "0/2", "3/2", "a/b", "1/", "²/³"])
def test_a_shard_that_is_not_k_of_n_is_refused(shard: str) -> None:
    with pytest.raises(UsageError, match=r"is not K/N with 1 <= K <= N, for example 3/32"):
        shard_of([], shard)


def test_standard_input_goes_alone_and_whole() -> None:
    check_splittable(["-"], None)
    check_splittable(["a.wav", "b.wav"], "1/2")
    for names, shard in ((["-"], "1/2"), (["-", "a.wav"], None)):
        with pytest.raises(UsageError, match=r"standard input \('-'\)"):
            check_splittable(names, shard)


def test_folders_and_files_are_unaudited_and_in_order(tmp_path: Path) -> None:
    for name in ("b.wav", "a.FLAC", "notes.txt", "._b.wav"):
        (tmp_path / name).touch()
    found = find_inputs([str(tmp_path), "x.wav"], {}, [])
    assert [one.id for one in found.utterances] == [f"{tmp_path}/a.FLAC", f"{tmp_path}/b.wav", "x.wav"]
    assert found.stamp == {"stamp": "unaudited"}
    with pytest.raises(UsageError, match=r"b\.wav is given twice"):
        find_inputs([str(tmp_path / "b.wav"), str(tmp_path / "b.wav")], {}, [])


def test_a_folder_gives_all_that_looks_like_audio_and_names_what_is_closed(
    tmp_path: Path, shut: Callable[[Path], None]
) -> None:
    for name in ("b/2.OPUS", "b/1.caf", "c/3.m4a", "c/.Trash/4.wav", "__MACOSX/5.wav", "c/6.txt", "shut/7.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a").symlink_to(tmp_path / "b")  # the folder itself goes before a link to it
    shut(tmp_path / "shut")
    failed: list[Record] = []
    found = find_inputs([str(tmp_path)], {}, failed)
    assert [one.id for one in found.utterances] == [f"{tmp_path}/{name}" for name in ("b/1.caf", "b/2.OPUS", "c/3.m4a")]
    assert [(one["id"], one["reason"]) for one in failed] == [
        (f"{tmp_path}/shut", f"{tmp_path}/shut cannot be looked into (Permission denied). Change its rights.")
    ]


def test_a_folder_is_walked_below_the_root_and_its_ids_begin_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shut: Callable[[Path], None]
) -> None:
    for name in ("here/sub/other.wav", "root/sub/b.wav", "root/sub/deep/a.wav", "root/c.wav", "root/sub/shut/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shut(Path("../root/sub/shut"))
    monkeypatch.chdir(tmp_path / "here")
    root, failed = Path("../root"), list[Record]()

    def ids(*names: str) -> list[str]:
        found = find_inputs(names, {}, failed, root=root)
        assert all((found.root / one.path).exists() for one in found.utterances)
        return [one.id for one in found.utterances]

    assert ids("sub") == ["sub/b.wav", "sub/deep/a.wav"]
    assert [one["id"] for one in failed] == ["sub/shut"]
    assert ids(".") == ["c.wav", "sub/b.wav", "sub/deep/a.wav"]
    assert ids("c.wav") == ["c.wav"]
    assert ids(f"{tmp_path}/root/sub/deep") == [f"{tmp_path}/root/sub/deep/a.wav"]
    (tmp_path / "here/only").mkdir()
    with pytest.raises(SertkError, match=r"no such file or folder: \.\./root/only\. Check the path and --root"):
        ids("only")
    (tmp_path / "root/none").mkdir()
    with pytest.raises(SertkError, match=r"folder \.\./root/none holds no audio"):
        ids("none")


@pytest.mark.parametrize("asked", [{"protocol": "p"}, {"fold": "1"}, {"part": "train"}])
def test_a_protocol_goes_with_a_prepared_corpus(tmp_path: Path, asked: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="--protocol, --fold and --part go with a prepared corpus"):
        find_inputs([str(tmp_path)], {}, [], **asked)  # type: ignore[arg-type]


def listed_on_stdin(content: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="strict"))
    return [one.path for one in find_inputs(["-"], {}, []).utterances]


def test_a_file_name_on_standard_input_need_not_be_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    names = b" a b.wav\r\n\n\xe9t\xe9.wav\n\xc3\xa9.wav\xc2\xa0"
    found = listed_on_stdin(names, monkeypatch)
    assert [*map(os.fsencode, found)] == [b"a b.wav", b"\xe9t\xe9.wav", b"\xc3\xa9.wav"]


def test_a_closed_standard_input_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as `<&-` leaves it
    with pytest.raises(UsageError, match="there is none: it is closed"):
        find_inputs(["-"], {}, [])


@pytest.mark.parametrize("name", ["empty.scp", "empty.jsonl", "-"])
def test_an_empty_list_is_no_scoring(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_text("\n" if name == "empty.scp" else "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(SertkError, match=r"^(standard input|empty.*) lists no utterance"):
        find_inputs([name], {}, [])


def test_a_corpus_json_of_somebody_beside_a_manifest_asks_for_the_root(tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text('{"schema": 1}')
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"schema": 1, "id": "a", "path": "a.wav", "speaker": "s"}\n')
    with pytest.raises(SertkError, match=r"corpus\.json: .*root.*Give --root"):
        find_inputs([str(path)], {}, [])
    assert find_inputs([str(path)], {}, [], root=tmp_path).root == tmp_path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a a.wav\na b.wav\n", r"list\.scp:2: id 'a' comes twice"),
        ("a\n", r"list\.scp:1: no path behind 'a'"),
        ("\na sox a.wav |\n", r"list\.scp:2: a pipe, which would run a command"),
    ],
)
def test_a_bad_line_of_a_wav_scp_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "list.scp").write_text(text)
    with pytest.raises(SertkError, match=says):
        find_inputs([str(tmp_path / "list.scp")], {}, [])


def test_a_wav_scp_of_a_windows_editor_has_no_mark_in_its_first_id(tmp_path: Path) -> None:
    (tmp_path / "list.scp").write_bytes(b"\xef\xbb\xbfutt1 a.wav\r\nutt2 b.wav\r\n")
    found = find_inputs([str(tmp_path / "list.scp")], {}, [])
    assert [(one.id, one.path) for one in found.utterances] == [("utt1", "a.wav"), ("utt2", "b.wav")]


def test_a_line_of_a_manifest_with_a_time_that_is_no_number_is_one_failure(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    line = '{{"schema": 1, "id": "{0}", "path": "{0}.wav", "speaker": "s"{1}}}\n'
    odd = {"b": ', "start": NaN', "c": ', "duration": Infinity', "d": ', "label": 7', "f": ', "votes": {"joy": NaN}'}
    path.write_text("".join(line.format(name, odd.get(name, "")) for name in "abcdef"))
    failed: list[Record] = []
    assert [one.id for one in find_inputs([str(path)], {}, failed).utterances] == ["a", "e"]
    assert [one["id"] for one in failed] == ["b", "c", "d", "f"]
    assert f"b: {path}:2: not an utterance (start is nan; it must be a number)" in failed[0]["reason"]


@pytest.mark.parametrize("rest", [', "schema": 2', ', "color": "red"', ', "id": 3'])
def test_a_manifest_of_another_form_is_refused(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(f'{{"schema": 1, "id": "a", "path": "a.wav", "speaker": "s"{rest}}}\n')
    with pytest.raises(SertkError, match=r"manifest\.jsonl:1: "):
        find_inputs([str(path)], {}, [])

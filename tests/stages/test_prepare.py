"""`prepare` that was killed goes on, and what is written already stays in its place."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from sertk.core import Utterance
from sertk.core.files import renew
from sertk.corpus import audio, journal
from sertk.corpus.prepared import Data
from sertk.stages.prepare import prepare
from sertk.testing import tone_corpus
from sertk.testing.trees.anybody import folders

FOLDER = "folder:speaker=([a-z]+)_,title=mine"


class Killed(BaseException):
    """What no handler catches, as a kill."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return folders(tmp_path / "in", seconds=0.11)  # 6 speakers x 4 classes x 2


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the utterances whose audio is read."""
    seen, examine = list[str](), audio.examine

    def watched(root: Path, one: Utterance, least: float, **how: bool) -> audio.Facts:
        seen.append(one.id)
        return examine(root, one, least, **how)

    monkeypatch.setattr(audio, "examine", watched)
    return seen


def state(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each file: another one where it was written again."""
    return {str(p.relative_to(out)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in out.rglob("*") if p.is_file()}


# --- killed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 60])
def test_what_was_read_a_minute_before_a_kill_is_not_read_again(
    root: Path, tmp_path: Path, examined: list[str], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    # the clock goes on by 10 s a file, and the call is killed in the 40th: of 39, those of whole minutes are kept
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(journal, "EVERY", after)
    monkeypatch.setattr(journal.Journal, "close", lambda _: None)  # a kill closes nothing
    whole = audio.examine

    def killed(*words: object, **how: bool) -> audio.Facts:
        if len(examined) == 39:
            raise Killed
        return whole(*words, **how)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(audio, "examine", killed)
        with pytest.raises(Killed):
            prepare(FOLDER, root, tmp_path / "out", ["speakers"], 0.1, 1)
    assert not (tmp_path / "out" / "corpus.json").exists()
    first = [*examined]
    assert len(first) == 39
    examined.clear()
    assert prepare(FOLDER, root, tmp_path / "out", ["speakers"], 0.1, 1) == 0
    again = {*first} & {*examined}
    assert len(again) == (0 if not after else 3)  # of 39 files 36 in six minutes
    assert len(Data(tmp_path / "out").facts) == 48
    assert not (tmp_path / "out" / ".audio").exists()


def test_a_prepare_that_was_killed_gives_the_files_of_one_that_was_not(
    root: Path, tmp_path: Path, examined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(FOLDER, root, tmp_path / "whole", [], 0.1, 2)
    examined.clear()
    monkeypatch.setattr(journal, "EVERY", 0)
    whole = audio.examine

    def killed(*words: object, **how: bool) -> audio.Facts:
        if len(examined) >= 30:
            raise Killed
        return whole(*words, **how)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(audio, "examine", killed)
        with pytest.raises(Killed):
            prepare(FOLDER, root, tmp_path / "out", [], 0.1, 2)
    prepare(FOLDER, root, tmp_path / "out", [], 0.1, 2)
    names = state(tmp_path / "whole").keys()
    assert state(tmp_path / "out").keys() == names
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("name", ["audio.jsonl", ".audio/a.jsonl"])
def test_damaged_notes_of_an_earlier_prepare_cost_reading_the_audio_again(
    root: Path, tmp_path: Path, examined: list[str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "out"
    prepare(FOLDER, root, out, ["speakers"], 0.1, 1)
    whole = (out / "audio.jsonl").read_bytes()
    (out / ".audio").mkdir()
    (out / "audio.jsonl").rename(out / name)
    (out / name).write_bytes(whole[:-50])
    examined.clear()
    capsys.readouterr()
    assert prepare(FOLDER, root, out, ["speakers"], 0.1, 1) == 0
    said = capsys.readouterr().err
    assert f"{name}:48: " in said
    assert "All audio that it is about is read again." in said
    assert "Run `sertk prepare`" not in said
    assert len(examined) == 48
    assert (out / "audio.jsonl").read_bytes() == whole
    assert not (out / ".audio").exists()


def test_notes_that_another_prepare_clears_are_not_missed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / ".audio").mkdir(parents=True)
    gone = tmp_path / "out" / ".audio" / "a.jsonl"
    monkeypatch.setattr(Path, "glob", lambda *_: [gone])  # it is found, and deleted before it is read
    assert journal.Journal(tmp_path / "out").known == {}
    assert "warning" not in capsys.readouterr().err


# --- beside others ---------------------------------------------------------------------------------------------------


def test_a_protocol_more_leaves_every_other_file_in_its_place(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(FOLDER, root, out, ["speakers"], 0.1, 2)
    before = state(out)
    prepare(FOLDER, root, out, ["random"], 0.1, 2)
    after = state(out)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"protocols/random.json", "protocols/random.md"}


def test_what_changes_is_written_and_corpus_json_last(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare(FOLDER, root, out, ["speakers"], 0.1, 2)
    before = state(out)
    (root / "anger" / "ann_1.wav").unlink()

    def stopped(path: Path, *_: object) -> None:
        if path.name == "speakers.json":
            raise Killed
        renew(path, *_)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("sertk.stages.prepare.renew", stopped)
        with pytest.raises(Killed):
            prepare(FOLDER, root, out, ["speakers"], 0.1, 2)
    assert not (out / "corpus.json").exists()  # half of it is new
    prepare(FOLDER, root, out, ["speakers"], 0.1, 2)
    after = state(out)
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)
    assert len(Data(out).protocol("speakers").labels) == 47


def test_readers_beside_a_prepare_never_miss_a_file(root: Path, tmp_path: Path) -> None:
    out, ended, errors = tmp_path / "out", threading.Event(), list[Exception]()
    prepare(FOLDER, root, out, ["speakers"], 0.1, 1)

    def read() -> None:
        while not ended.is_set():
            try:
                data = Data(out)
                data.select([*data.protocol("speakers").labels][:1])
            except Exception as error:
                errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for name in ("random", "random5", "disjoint5"):
        prepare(FOLDER, root, out, [name], 0.1, 1)
    ended.set()
    reader.join()
    assert errors == []


def test_a_protocol_that_another_call_wrote_meanwhile_stays(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare(FOLDER, root, out, ["speakers"], 0.1, 1)
    look = audio.look

    def beside(path: Path, who: str) -> tuple[int, int]:
        monkeypatch.setattr(audio, "look", look)
        prepare(FOLDER, root, out, ["random"], 0.1, 1)  # begins later and ends earlier
        return look(path, who)

    monkeypatch.setattr(audio, "look", beside)
    prepare(FOLDER, root, out, ["random5"], 0.1, 1)
    assert {path.stem for path in (out / "protocols").glob("*.json")} == {"speakers", "random", "random5"}


# --- what is said of a protocol --------------------------------------------------------------------------------------


def test_an_empty_part_and_what_no_utterance_has_are_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol = tmp_path / "odd.yaml"
    protocol.write_text(
        "labels: {anger: x, sadnes: x, neutral: y}\nkeep: {speaker: [ann, ben, fre]}\n"
        "test: {one: [ann, ben], two: [ann]}\ndev: []\n"
    )
    assert prepare(FOLDER, root, tmp_path / "data", [str(protocol)], 0.1, 1) == 0
    said = capsys.readouterr().err
    assert "protocol odd: no utterance has label sadnes; did you mean 'sadness'?" in said
    assert "protocol odd: no utterance has speaker fre; did you mean 'fred'?" in said
    assert "  no utterance in train of fold one: cannot be trained\n" in said
    assert "  no utterance in dev of any fold: cannot be trained\n" in said


def test_what_a_corpus_publishes_and_is_missing_here_is_no_odd_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = tone_corpus(tmp_path / "in", speakers=12, per_class=1, emotions=("neutral", "happiness"))
    assert prepare("ravdess", tree, tmp_path / "data", ["speech"], 0.1, 1) == 0
    assert "no utterance has" not in capsys.readouterr().err

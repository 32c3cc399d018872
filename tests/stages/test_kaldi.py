"""Kaldi data directories, written so that Kaldi and we read them back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sertk.builtin.corpora.kaldi_directory import Kaldi
from sertk.cli.app import app
from sertk.core import InputError, Rejected, SertkError, UsageError, Utterance
from sertk.corpus.prepared import Data
from sertk.stages.kaldi import write
from sertk.stages.prepare import prepare
from sertk.testing.trees.anybody import EMOTIONS, SPEAKERS, kaldi, table
from sertk.testing.trees.audio import clip

FILES = ("wav.scp", "utt2spk", "spk2utt", "spk2gender", "text", "utt2emo", "utt2dur")


def read(root: Path, pipes: str = "") -> tuple[list[Utterance], list[Rejected], list[str]]:
    corpus = Kaldi(pipes=pipes)
    found = list(corpus.read(root))
    kept = [one for one in found if isinstance(one, Utterance)]
    return kept, [one for one in found if isinstance(one, Rejected)], corpus.notes()


def lines(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


def in_order(folder: Path) -> bool:
    """Whether `sort` finds every file in C order, and utt2spk in that of its speakers too."""
    checks = [["sort", "-c", str(path)] for path in folder.iterdir()] + [["sort", "-c", "-k2", str(folder / "utt2spk")]]
    return all(
        subprocess.run(check, check=False, env={**os.environ, "LC_ALL": "C"}).returncode == 0 for check in checks
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A prepared list whose ids begin with the speakers."""
    folder = tmp_path_factory.mktemp("made")
    root = table(folder / "in", seconds=0.11)
    assert prepare("table:list=list.csv", root, folder / "out", ["speakers"], 0.1, 1) == 0
    return Data(folder / "out")


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A prepared directory with a recording for each speaker."""
    folder = tmp_path_factory.mktemp("cuts")
    root = kaldi(folder / "in", seconds=0.125, cut=True)
    assert prepare("kaldi:title=cuts", root, folder / "out", ["speakers"], 0.1, 1) == 0
    return Data(folder / "out")


def test_what_is_written_is_in_kaldis_order_and_read_back_as_it_was(made: Data, tmp_path: Path) -> None:
    write(made, tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(FILES)
    assert in_order(tmp_path / "all")
    back, rejected, notes = read(tmp_path / "all")
    assert (rejected, notes) == ([], [])
    was = made.utterances
    assert [one.id for one in back] == sorted(was)  # they begin with the speaker
    for one in back:
        old = was[one.id]
        assert (one.speaker, one.label, one.gender, one.text) == (old.speaker, old.label, old.gender, old.text)
        assert (tmp_path / "all" / one.path).read_bytes() == (made.root / old.path).read_bytes()
    assert set(lines(tmp_path / "all/utt2dur").values()) == {"0.110000"}
    assert lines(tmp_path / "all/spk2utt")["ann"].split() == sorted(i for i in was if i.startswith("ann"))


def test_the_parts_of_a_fold_are_directories_of_their_own(made: Data, tmp_path: Path) -> None:
    write(made, tmp_path, "speakers", "cleo")
    own = {part: set(lines(tmp_path / part / "utt2spk").values()) for part in ("train", "dev", "test")}
    assert own == {"train": {"ann", "ben", "eve", "fred"}, "dev": {"dan"}, "test": {"cleo"}}
    assert all(in_order(tmp_path / part) for part in own)
    assert set(lines(tmp_path / "test/utt2emo").values()) == set(EMOTIONS)
    with pytest.raises(UsageError, match=r"'speakers' has 6 folds; give --fold: ann, ben"):
        write(made, tmp_path, "speakers")
    assert {path.parent.name for path in tmp_path.glob("*/text")} == {"train", "dev", "test"}


def test_cuts_are_written_as_segments_and_read_back_as_they_were(cuts: Data, tmp_path: Path) -> None:
    write(cuts, tmp_path)
    assert in_order(tmp_path)
    assert list(lines(tmp_path / "wav.scp")) == [f"wav-{speaker}" for speaker in SPEAKERS]
    back, rejected, _ = read(tmp_path)
    assert rejected == []
    for one in back:
        old = cuts.utterances[one.id]
        assert (one.start, one.duration, one.label) == (old.start, old.duration, old.label)
    write(Data(cuts.folder), tmp_path, "speakers", "#1")
    assert list(lines(tmp_path / "test/wav.scp")) == ["wav-ann"]


def prepared(folder: Path, content: str, *names: str) -> Data:
    """A list of clips of 0.11 s, prepared."""
    for seed, name in enumerate(names):
        clip(folder / "in" / name, seed, 0.11)
    (folder / "in/list.csv").write_text(content)
    spec = "table:list=list.csv"
    assert prepare(spec, folder / "in", folder / "out", ["random"], 0.1, 1) == 0
    return Data(folder / "out")


def test_ids_that_are_not_in_the_order_of_the_speakers_get_the_speaker_in_front(tmp_path: Path) -> None:
    data = prepared(tmp_path, "path,speaker,label\n1a.wav,10,joy\n1b.wav,1,joy\n", "1a.wav", "1b.wav")
    write(data, tmp_path / "kaldi")
    assert lines(tmp_path / "kaldi/utt2spk") == {"1-1b": "1", "10-1a": "10"}
    assert in_order(tmp_path / "kaldi")
    assert not (tmp_path / "kaldi/text").exists()  # the list has none


def test_what_only_some_have_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = "path,speaker,label,text,gender\na.wav,a,joy,Oh no.,f\nb.wav,b,joy,,\n"
    write(prepared(tmp_path, content, "a.wav", "b.wav"), tmp_path / "kaldi")
    said = capsys.readouterr().err
    assert f"{tmp_path}/kaldi/text is not written: 1 have none, the first: b" in said
    assert f"{tmp_path}/kaldi/spk2gender is not written: 1 have none, the first: b" in said
    assert sorted(path.name for path in (tmp_path / "kaldi").iterdir()) == sorted({*FILES} - {"text", "spk2gender"})


def test_flac_is_written_as_kaldis_recipes_do(tmp_path: Path) -> None:
    import soundfile

    clip(tmp_path / "x.wav", 0, 0.11)
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/it's.flac", *soundfile.read(tmp_path / "x.wav"))
    write(prepared(tmp_path, "path,speaker,label,id\nit's.flac,a,joy,a1\n"), tmp_path / "kaldi")
    (command,) = lines(tmp_path / "kaldi/wav.scp").values()
    assert command == f"""flac -c -d -s '{tmp_path}/in/it'"'"'s.flac' |"""
    with pytest.raises(InputError, match="is a command"):
        read(tmp_path / "kaldi")


@pytest.mark.parametrize(
    ("content", "names", "says"),
    [
        ("path,speaker,label\na b.wav,a,joy\n", ["a b.wav"], r"the id or speaker 'a b' holds a blank"),
        ("path,speaker,label,id\na b.wav,a,joy,a1\n", ["a b.wav"], r"the path .*a b\.wav' holds a blank.*Link"),
        ("path,speaker,label\na.wav,the man,joy\n", ["a.wav"], r"the id or speaker 'the man'"),
        ("path,speaker,label\nx.wav,a,joy\ny.wav,a+,joy\n", ["x.wav", "y.wav"], "not in the order of the speakers"),
        (
            "path,speaker,label,id\nx.wav,a,joy,b-c\ny.wav,a-b,joy,c\n",
            ["x.wav", "y.wav"],
            r"not unique or .*: a-b-c\. Name the speakers",
        ),
    ],
)
def test_names_that_kaldi_could_not_read_are_errors(tmp_path: Path, content: str, names: list[str], says: str) -> None:
    with pytest.raises(SertkError, match=says):
        write(prepared(tmp_path, content, *names), tmp_path / "kaldi")


def test_a_directory_written_is_prepared_and_trained_on_like_any_corpus(made: Data, tmp_path: Path) -> None:
    write(made, tmp_path / "kaldi")
    assert prepare("kaldi:title=again", tmp_path / "kaldi", tmp_path / "out", ["speakers"], 0.1, 1) == 0
    again, was = Data(tmp_path / "out").protocol("speakers"), made.protocol("speakers")
    assert dict(again.folds) == dict(was.folds)
    assert again.labels == was.labels


def test_the_command_writes_what_it_is_asked_for(made: Data, tmp_path: Path) -> None:
    words = ["kaldi", str(made.folder), str(tmp_path / "out"), "--protocol", "speakers", "--fold"]
    assert CliRunner().invoke(app, [*words, "#2"]).exit_code == 0
    assert set(lines(tmp_path / "out/test/utt2spk").values()) == {"ben"}
    assert CliRunner().invoke(app, [*words, "bob"]).exit_code == 2

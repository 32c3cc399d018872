"""Kaldi data directories: read in Kaldi's own rules, written so that Kaldi and we read them back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sertk.builtin.corpora.kaldi import Kaldi
from sertk.cli.app import app
from sertk.core import InputError, Rejected, SertkError, UsageError, Utterance
from sertk.corpus.prepared import Data
from sertk.stages.kaldi import write
from sertk.stages.prepare import prepare
from sertk.testing.trees.anybody import EMOTIONS, SPEAKERS, TEXTS, kaldi, table
from sertk.testing.trees.audio import clip

FILES = ("wav.scp", "utt2spk", "spk2utt", "spk2gender", "text", "utt2emo", "utt2dur")


def read(root: Path, pipes: str = "") -> tuple[list[Utterance], list[Rejected], list[str]]:
    corpus = Kaldi(pipes=pipes)
    found = list(corpus.read(root))
    kept = [one for one in found if isinstance(one, Utterance)]
    return kept, [one for one in found if isinstance(one, Rejected)], corpus.notes()


def small(root: Path, **files: str) -> Path:
    """A directory of two utterances; files by name, dots as `_`."""
    for seed, name in enumerate(("ann-1", "ben-1")):
        clip(root / f"{name}.wav", seed, 0.005)
    content = {
        "wav_scp": f"ann-1 {root}/ann-1.wav\nben-1 {root}/ben-1.wav\n",
        "utt2spk": "ann-1 ann\nben-1 ben\n",
        "spk2gender": "ann f\nben m\n",
        "text": "ann-1 Yes.\nben-1 No.\n",
        "utt2emo": "ann-1 joy\nben-1 anger\n",
        **files,
    }
    for name, text in content.items():
        (root / name.replace("_", ".")).write_text(text, encoding="utf-8", newline="")
    return root


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


# --- read ----------------------------------------------------------------------------------------------------------


def test_a_directory_says_all_of_an_utterance(tmp_path: Path) -> None:
    found, rejected, notes = read(kaldi(tmp_path))
    assert (len(found), rejected, notes) == (48, [], [])
    assert found[1] == Utterance(
        id="ann_anger_2", path="wav/ann_anger_2.wav", speaker="ann", gender="female", label="anger", text=TEXTS[1]
    )


def test_segments_cut_the_recordings(tmp_path: Path) -> None:
    found, _, _ = read(kaldi(tmp_path, seconds=0.25, cut=True))
    assert len(found) == 48
    assert {one.path for one in found} == {f"wav/{speaker}.wav" for speaker in SPEAKERS}
    assert [(one.id, one.start, one.duration) for one in found[:2]] == [
        ("ann_anger_1", 0.0, 0.25),
        ("ann_anger_2", 0.25, 0.25),
    ]


def test_an_end_of_minus_one_is_that_of_the_recording(tmp_path: Path) -> None:
    root = small(tmp_path, segments="ann-1 ann-1 0.5 -1\nben-1 ben-1 0.25 1.5\n")
    assert [(one.start, one.duration) for one in read(root)[0]] == [(0.5, None), (0.25, 1.25)]


def test_relative_paths_start_at_the_current_folder_as_in_kaldi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(tmp_path / "data", wav_scp="ann-1 audio files/a.wav\nben-1 audio files/b.wav\n")
    for seed, name in enumerate("ab"):
        clip(tmp_path / f"audio files/{name}.wav", seed, 0.005)
    monkeypatch.chdir(tmp_path)
    found, rejected, _ = read(Path("data"))
    assert ([one.path for one in found], rejected) == (["../audio files/a.wav", "../audio files/b.wav"], [])


@pytest.mark.parametrize(
    "form", [lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t, lambda t: t.replace(" ", "\t")]
)
def test_line_ends_tabs_and_a_byte_order_mark_change_nothing(tmp_path: Path, form: object) -> None:
    assert callable(form)
    found, rejected, notes = read(small(tmp_path, utt2emo=form("ann-1 joy\nben-1 anger\n")))
    assert ([one.label for one in found], rejected, notes) == (["joy", "anger"], [], [])


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"utt2spk": "ben-1 ben\nann-1 ann\n"}, r"utt2spk:2: ann-1 stands behind ben-1\. Sort.*LC_ALL=C sort"),
        ({"utt2emo": "a b\nB c\n"}, r"utt2emo:2: B stands behind a"),  # as a locale would sort
        ({"utt2emo": "ann-1 joy\nann-1 joy\n"}, r"utt2emo:2: ann-1 comes twice, first at .*utt2emo:1"),
        ({"utt2spk": "ann-1\nben-1 ben\n"}, r"utt2spk:1: 'ann-1' is not KEY VALUE"),
        ({"utt2spk": "ann-1 ann\n\nben-1 ben\n"}, r"utt2spk:2: '' is not KEY VALUE"),
        ({"spk2gender": "ann f\nben x\n"}, r"spk2gender:2: gender 'x' is none of f, female"),
        ({"segments": "ann-1 ann-1 1.0 1.0\n"}, r"segments:1: 'ann-1 1\.0 1\.0' is not RECORDING START END"),
        ({"segments": "ann-1 ann-1 -1 1.0\n"}, r"segments:1: .* is not RECORDING"),
        ({"segments": "ann-1 ann-1 0 1 1\n"}, r"segments:1: .* is not RECORDING"),
        ({"segments": "ann-1 ann-1 0 soon\n"}, r"segments:1: .* is not RECORDING"),
        ({"wav_scp": "ann-1 flac -c -d -s a.flac |\n"}, r"wav\.scp:1: 'flac .*' is a command.*kaldi:pipes=FOLDER"),
    ],
)
def test_a_line_that_kaldi_would_refuse_is_named(tmp_path: Path, files: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(small(tmp_path, **files))


def test_a_folder_that_is_no_data_directory_and_latin_1_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SertkError, match=r"wav\.scp is missing.*--root"):
        read(tmp_path)
    (small(tmp_path) / "text").write_bytes("ann-1 Grüß Gott\n".encode("latin-1"))
    with pytest.raises(SertkError, match=r"text is not UTF-8"):
        read(tmp_path)


def test_what_lacks_a_speaker_a_recording_or_a_file_is_rejected(tmp_path: Path) -> None:
    root = small(
        tmp_path,
        wav_scp=f"ann-1 {tmp_path}/ann-1.wav\nben-1 {tmp_path}/gone.wav\ndan-1 {tmp_path}/ben-1.wav\n",
        utt2spk="ann-1 ann\nben-1 ben\ncleo-1 cleo\neve-1 eve\n",
        segments="ann-1 ann-1 0 1\nben-1 ben-1 0 1\ndan-1 dan-1 0 1\neve-1 eve-1 0 1\n",
    )
    found, rejected, _ = read(root)
    assert [one.id for one in found] == ["ann-1"]
    assert [one.reason for one in rejected] == [
        f"{root}/wav.scp:2: {root}/gone.wav is missing",
        f"{root}/segments:3: dan-1 has no speaker in {root}/utt2spk",
        f"{root}/segments:4: recording eve-1 is not in {root}/wav.scp",
        f"{root}/utt2spk:3: cleo-1 has no audio in wav.scp or segments",
    ]


def test_what_is_not_said_of_everybody_is_noted(tmp_path: Path) -> None:
    root = small(
        tmp_path, utt2spk="ann-1 zoe\nben-1 ben\n", utt2emo="ann-1 joy\nzed-1 joy\n", text="ann-1\nben-1 No.\n"
    )
    (root / "spk2gender").unlink()
    found, _, notes = read(root)
    assert [(one.label, one.text, one.gender) for one in found] == [("joy", None, None), (None, "No.", None)]
    assert notes == [
        f"{root}/utt2spk is not in the order of its speakers; Kaldi wants ids that begin with the speaker",
        f"1 are not in {root}/utt2emo, the first: ben-1",
        f"1 are in {root}/utt2emo and not in this directory, the first: zed-1",
        f"there is no {root}/spk2gender",
    ]


def test_commands_are_run_once_and_only_where_they_are_told_to(tmp_path: Path) -> None:
    count = f"echo >> {tmp_path}/runs; cat '{tmp_path}/ann-1.wav'"
    root = small(tmp_path, wav_scp=f"ann-1 {count} |\nben-1 {tmp_path}/ben-1.wav\n")
    for _ in range(2):
        found, _, _ = read(root, pipes=str(tmp_path / "made audio"))
        assert (root / found[0].path).read_bytes() == (root / "ann-1.wav").read_bytes()
    assert (tmp_path / "runs").read_text() == "\n"


def test_a_command_that_fails_is_named_with_what_it_said(tmp_path: Path) -> None:
    root = small(tmp_path, wav_scp="ann-1 echo 'no such disc' >&2; exit 3 |\n")
    with pytest.raises(InputError, match=r"wav\.scp:1: .* gives no audio \(exit code 3: no such disc\)"):
        read(root, pipes=str(tmp_path / "pipes"))
    assert list((tmp_path / "pipes").glob("*")) == []


# --- written -------------------------------------------------------------------------------------------------------


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

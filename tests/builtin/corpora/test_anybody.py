"""Anybody's corpus: a folder for each class, and a list with a column map."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from sertk.builtin.corpora.anybody import GENDERS, PROTOCOLS
from sertk.builtin.corpora.folder import Folder
from sertk.builtin.corpora.table import Table
from sertk.core import Corpus, InputError, Rejected, SertkError, UsageError, Utterance
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import make
from sertk.stages.prepare import prepare
from sertk.testing.trees.anybody import EMOTIONS, SPEAKERS, TEXTS, folders, rows, table
from sertk.testing.trees.audio import clip

TWO = "path,speaker,label\na.wav,ann,joy\nb.wav,ben,anger\n"


def read(corpus: Corpus, root: Path) -> tuple[list[Utterance], list[Rejected]]:
    found = list(corpus.read(root))
    return [one for one in found if isinstance(one, Utterance)], [one for one in found if isinstance(one, Rejected)]


def listed(root: Path, text: str | bytes, name: str = "list.csv") -> Path:
    """A list beside the files a.wav and b.wav."""
    for seed, stem in enumerate("ab"):
        clip(root / f"{stem}.wav", seed, 0.005)
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def of(root: Path, content: str | bytes, name: str = "list.csv", **columns: str) -> list[Utterance]:
    found, rejected = read(Table(name, **columns), listed(root, content, name))
    assert rejected == []
    return found


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders(tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def tabled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table(tmp_path_factory.mktemp("table"))


# --- a folder for each class ---------------------------------------------------------------------------------------


def test_the_folder_is_the_label_and_the_expression_finds_the_speaker(classes: Path) -> None:
    found, rejected = read(Folder(speaker="([a-z]+)_[0-9]+"), classes)
    assert rejected == []
    assert {one.label for one in found} == set(EMOTIONS)
    assert {one.speaker for one in found} == set(SPEAKERS)
    assert len({one.id for one in found}) == len(found) == 6 * 4 * 2
    assert found[0] == Utterance(id="anger/ann_1", path="anger/ann_1.wav", speaker="ann", label="anger")


def test_audio_deeper_down_has_the_label_of_the_first_folder(tmp_path: Path) -> None:
    clip(tmp_path / "joy/studio one/x y.wav", 0, 0.005)
    (one,), _ = read(Folder(speaker="/(.+)/"), tmp_path)
    assert (one.id, one.label, one.speaker) == ("joy/studio one/x y", "joy", "studio one")


def test_without_an_expression_no_speaker_is_known_and_that_is_said(classes: Path) -> None:
    corpus = Folder()
    found, _ = read(corpus, classes)
    assert {one.speaker for one in found} == {"unknown"}
    assert corpus.notes() == [
        "no speakers are known: a speaker=REGEX finds them, for example folder:speaker=([a-z]+)_ in ann_01.wav"
    ]


def test_what_has_no_class_or_no_speaker_is_rejected(tmp_path: Path) -> None:
    for seed, name in enumerate(("loose.wav", "joy/ann_1.wav", "joy/7.wav", "joy/._ann_1.wav")):
        clip(tmp_path / name, seed, 0.005)
    for name in ("ann_2.M4A", "ann_2.raw", "ann_1.mp3", "ann_1.m4a", "ann.txt"):
        (tmp_path / "joy" / name).touch()
    corpus = Folder(speaker="([a-z]+)_")
    found, rejected = read(corpus, tmp_path)
    # what libsndfile does not read is no copy of each other: which of them ffmpeg reads is not known here
    assert [one.id for one in found] == ["joy/ann_1", "joy/ann_2.M4A", "joy/ann_2.raw"]
    assert [one.reason for one in rejected] == [
        "joy/7.wav: speaker=([a-z]+)_ finds no speaker in it",
        "loose.wav is in no class folder; expected: a folder for each class, such as anger/ann_01.wav",
    ]
    assert corpus.notes() == [
        "1 files are no audio and are not read, the first: joy/ann.txt",
        "2 files are other forms of one that is read, and are not read, the first: joy/ann_1.m4a",
        "1 speakers: ann",
    ]


def test_an_expression_that_fits_no_file_is_refused_with_a_path(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.wav", "joy/ann01-1.wav", "joy/ben02-1.wav", "sad/ben02-2.wav")):
        clip(tmp_path / name, seed, 0.005)
    says = r"speaker=\(\[a-z\]\+\)_ finds a speaker in none of 3 files, such as joy/ann01-1\.wav\. Its first group must"
    with pytest.raises(UsageError, match=says):
        read(Folder(speaker="([a-z]+)_"), tmp_path)


def test_links_are_followed_once_and_hidden_folders_left_out(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for seed, name in enumerate(("sad/ann_1.wav", "sad/.Trash/ann_2.wav", "sad/__MACOSX/ann_3.wav")):
        clip(elsewhere / name, seed, 0.005)
    root = tmp_path / "root"
    clip(root / "joy/ann_1.wav", 7, 0.005)
    (root / "sad").symlink_to(elsewhere / "sad")
    (root / "joy" / "loop").symlink_to(root)
    found, rejected = read(Folder(speaker="([a-z]+)_"), root)
    assert [one.id for one in found] == ["joy/ann_1", "sad/ann_1"]
    assert not rejected


@pytest.mark.parametrize(("speaker", "says"), [("([", "is no regular expression"), ("[a-z]+", "has no group")])
def test_an_expression_that_finds_nothing_is_wrong_use(speaker: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Folder(speaker=speaker)


def test_a_folder_without_speakers_is_prepared_as_speaker_dependent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folders(tmp_path / "in", seconds=0.11, takes=4)
    assert prepare("folder:title=mine", root, tmp_path / "out", [], 0.1, 1) == 0
    said = capsys.readouterr().err
    assert "protocol speakers is left out" in said
    assert "no speakers are known" in said
    assert "mine: 96 utterances here: anger 24, happiness 24, neutral 24, sadness 24\n" in said
    assert said.endswith(f"wrote {tmp_path / 'out'}\n")
    data = Data(tmp_path / "out")
    assert data.corpus == "mine"
    assert data.protocol("random").stamp == "SPEAKER-DEPENDENT"
    assert sorted(path.stem for path in (tmp_path / "out/protocols").glob("*.json")) == ["random", "random5"]


# --- a list --------------------------------------------------------------------------------------------------------


def test_a_table_without_its_list_is_told_how_to_name_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs list: table:list=VALUE, or \{name: table, list: VALUE\} in YAML"):
        prepare("table", tmp_path, tmp_path / "out", [], 0.1, 1)


def test_columns_with_the_names_of_the_fields_need_no_map(tabled: Path) -> None:
    corpus = Table("list.csv")
    found, rejected = read(corpus, tabled)
    assert (len(found), rejected, corpus.notes()) == (48, [], [])
    assert found[1] == Utterance(
        id="ann_anger_2",
        path="ann/anger_2.wav",
        speaker="ann",
        label="anger",
        gender="female",
        session="1",
        text=TEXTS[1],
        aux={"take": "2"},
    )


def test_other_columns_are_mapped(tmp_path: Path) -> None:
    text = 'utt;x,file,spk,emotion,sex,dialogue,words,from,long\nu1,a.wav,01,joy,W,d1,"Well, no.",0.5,1.25\n'
    columns = {"id": "utt;x", "path": "file", "speaker": "spk", "label": "emotion", "gender": "sex"}
    more = {"session": "dialogue", "text": "words", "start": "from", "duration": "long"}
    assert of(tmp_path, text, **columns, **more) == [
        Utterance("u1", "a.wav", "01", "joy", 0.5, 1.25, "female", "d1", "Well, no.")
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", TWO),
        ("list.csv", TWO.replace("\n", "\r\n")),
        ("list.csv", TWO.encode("utf-8-sig")),
        ("list.CSV", TWO.replace(",", " , ") + "\n,,\n"),
        ("list.csv", TWO.replace("a.wav", "./a.wav")),
        ("list.csv", TWO.encode("utf-16")),
        ("list.csv", TWO.encode("utf-16-be").join([b"\xfe\xff", b""])),
        ("list.csv", TWO.replace(",", ";")),
        ("list.csv", TWO.replace(",", "\t").encode("utf-16")),  # what Excel calls Unicode text
        ("list.tsv", TWO.replace(",", "\t")),
        ("list.tsv", TWO),
        (
            "list.jsonl",
            '{"path": "a.wav", "speaker": "ann", "label": "joy"}\n'
            '{"path": "b.wav", "speaker": "ben", "label": "anger"}\n',
        ),
    ],
)
def test_lists_as_programs_save_them_are_read_alike(tmp_path: Path, name: str, text: str | bytes) -> None:
    assert of(tmp_path, text, name) == [Utterance("a", "a.wav", "ann", "joy"), Utterance("b", "b.wav", "ben", "anger")]


def test_segments_have_starts_and_ends(tmp_path: Path) -> None:
    text = "id,path,speaker,label,start,end\n1,a.wav,ann,joy,1.5,2.5\n2,a.wav,ann,joy,,0.7\n3,a.wav,ann,joy,3,\n"
    assert [(one.start, one.duration) for one in of(tmp_path, text)] == [(1.5, 1.0), (0.0, 0.7), (3.0, None)]
    both = "path,speaker,label,from,to,duration\na.wav,ann,joy,1.5,2.5,1.0\n"
    assert [one.duration for one in of(tmp_path, both, start="from", end="to")] == [1.0]
    assert [one.aux for one in of(tmp_path, both, start="from")] == [{"to": "2.5"}]


def test_an_excel_list_with_semicolons_keeps_commas_and_quotes_in_its_cells(tmp_path: Path) -> None:
    text = 'path;speaker;label;text\na.wav;ann;joy;"Hello, ""you"", said; x"\n'
    assert [one.text for one in of(tmp_path, text)] == ['Hello, "you", said; x']


@pytest.mark.parametrize(("listed_as", "lies_as"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_path_is_found_in_composed_and_decomposed_letters(tmp_path: Path, listed_as: str, lies_as: str) -> None:
    name, there = (unicodedata.normalize(form, "Jürgen") for form in (listed_as, lies_as))
    clip(tmp_path / f"{there}.wav", 0, 0.005)
    (tmp_path / "list.csv").write_text(f"path,speaker,label\n{name}.wav,ann,joy\n")
    corpus = Table("list.csv")
    ((one,), rejected) = read(corpus, tmp_path)
    assert (rejected, corpus.notes()) == ([], [])
    assert (tmp_path / one.path).is_file()
    assert one.id == unicodedata.normalize("NFC", name)
    (tmp_path / "list.csv").write_text(f"path,speaker,label\n{name}.wav,ann,joy\n{there}.wav,ann,joy\n")
    with pytest.raises(InputError, match="comes twice"):
        read(corpus, tmp_path)


def test_the_values_of_json_lines_are_read_as_a_csv_would_have_them(tmp_path: Path) -> None:
    lines = [
        {"path": "a.wav", "speaker": 7, "label": None},
        {"path": "b.wav", "speaker": "07", "label": "joy", "gender": "m", "start": 0.5, "valence": 2.5, "acted": True},
    ]
    one, two = of(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "list.jsonl")
    assert (one.speaker, one.label, two.speaker) == ("7", None, "07")
    assert (two.gender, two.start, two.aux) == ("male", 0.5, {"valence": "2.5", "acted": "true"})


def test_letters_beyond_ascii_and_blanks_in_paths_are_kept(tmp_path: Path) -> None:
    clip(tmp_path / "my files/Jürgen 1.wav", 0, 0.005)
    (tmp_path / "list.csv").write_text("path,speaker,label,text\nmy files/Jürgen 1.wav,Jürgen,Ärger,Grüß Gott!\n")
    ((one,), _) = read(Table("list.csv"), tmp_path)
    assert (one.id, one.speaker, one.label, one.text) == ("my files/Jürgen 1", "Jürgen", "Ärger", "Grüß Gott!")


def test_an_absolute_path_may_lie_elsewhere(tmp_path: Path) -> None:
    clip(tmp_path / "elsewhere/a.wav", 0, 0.005)
    (tmp_path / "root").mkdir()
    (tmp_path / "mine.csv").write_text(f"path,speaker,label,id\n{tmp_path}/elsewhere/a.wav,ann,joy,a\n")
    ((one,), _) = read(Table(str(tmp_path / "mine.csv")), tmp_path / "root")
    assert one.path == "../elsewhere/a.wav"
    assert (tmp_path / "root" / one.path).is_file()


def test_missing_audio_and_companion_files_are_rejected_and_unlisted_audio_is_told(tmp_path: Path) -> None:
    clip(tmp_path / "c/c.wav", 3, 0.005)
    clip(tmp_path / "._a.wav", 4, 0.005)
    corpus = Table("list.csv")
    text = TWO + "gone.wav,ann,joy\n._a.wav,ann,joy\n"
    found, rejected = read(corpus, listed(tmp_path, text))
    assert [one.id for one in found] == ["a", "b"]
    assert [one.reason for one in rejected] == [
        f"{tmp_path}/list.csv:4: gone.wav is missing: there is no file {tmp_path}/gone.wav",
        f"{tmp_path}/list.csv:5: ._a.wav is a companion file of macOS, no audio",
    ]
    assert corpus.notes() == [f"1 audio files below {tmp_path} are not in list.csv, the first: c/c.wav"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TWO + "c.wav,,joy\n", r"list\.csv:4: no speaker \(column 'speaker'\)"),
        (TWO + ",ann,joy\n", r"list\.csv:4: no path"),
        (TWO + "c.wav,ann\n", r"list\.csv:4: 2 cells under 3 columns"),
        (TWO + "c.wav,ann,joy,much\n", r"list\.csv:4: 4 cells under 3 columns.*double quotes"),
        (TWO + "a.wav,ann,joy\n", r"list\.csv:4: id 'a' comes twice, first at .*list\.csv:2"),
        (TWO + 'c.wav,ann,"joy\n', r"list\.csv:\d: unexpected end of data"),
        ("path,speaker,label,gender\na.wav,ann,joy,x\n", r"list\.csv:2: gender 'x' is none of f, female, w"),
        ("path,speaker,label,start\na.wav,ann,joy,soon\n", r"list\.csv:2: start 'soon' is not a number of seconds"),
        ("path,speaker,label,duration\na.wav,ann,joy,0\n", r"list\.csv:2: duration '0' is not"),
        ("path,speaker,label,start\na.wav,ann,joy,nan\n", r"list\.csv:2: start 'nan' is not"),
        ("path,speaker,label,label\na.wav,ann,joy,joy\n", r"list\.csv:1: the columns are .*a name of its own"),
        (TWO.replace("ben", "Jörg").encode("latin-1"), r"list\.csv:3: byte 0xf6 is not UTF-8.*iconv -f LATIN1"),
        (TWO.encode("utf-16-le"), r"list\.csv: every other byte is 0: it is UTF-16 without its mark.*-f UTF-16LE"),
        (TWO.encode("utf-16")[:-1], r"list\.csv:\d+: byte 0x0a is not UTF-16"),
        ("path,speaker,label,start,end\na.wav,ann,joy,2,1.5\n", r"list\.csv:2: end 1\.5 is not behind start 2"),
        ("path,speaker,label,end\na.wav,ann,joy,0\n", r"list\.csv:2: end 0 is not behind start 0"),
        ("path,speaker,label,end,duration\na.wav,ann,joy,2,1.5\n", r"list\.csv:2: 0 to 2 s are not 1\.5 s"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        of(tmp_path, text)


def test_a_latin_1_file_of_json_lines_is_refused_too(tmp_path: Path) -> None:
    line = '{"path": "a.wav", "speaker": "Jörg", "label": "joy"}\n'
    with pytest.raises(SertkError, match=r"list\.jsonl is not UTF-8.*iconv"):
        of(tmp_path, line.encode("latin-1"), "list.jsonl")


# --- other tools' lists ----------------------------------------------------------------------------------------------


def test_audformats_segmented_index_is_read_with_its_times(tmp_path: Path) -> None:
    text = (
        "file,start,end,emotion,speaker\n"
        "a.wav,0 days 00:00:00,0 days 00:00:01.500000,joy,ann\n"
        "a.wav,0 days 00:00:01.500000,0 days 00:01:02.250000,anger,ann\n"
        "b.wav,1 days 00:00:03,NaT,joy,ben\n"
    )
    found = of(tmp_path, text)
    assert [(one.path, one.start, one.duration, one.label, one.speaker) for one in found] == [
        ("a.wav", 0.0, 1.5, "joy", "ann"),
        ("a.wav", 1.5, 60.75, "anger", "ann"),
        ("b.wav", 86403.0, None, "joy", "ben"),
    ]
    assert [one.id for one in found] == ["a_0.000-1.500", "a_1.500-62.250", "b"]
    assert [dict(one.aux) for one in found] == [{}] * 3


@pytest.mark.parametrize("time", ["0 days", "0 days 00:00", "-1 days +23:59:59", "00:61:00", "1.5 s", "nan"])
def test_a_time_in_another_form_is_refused(tmp_path: Path, time: str) -> None:
    with pytest.raises(InputError, match=r"list\.csv:2: end .* is not a number of seconds"):
        of(tmp_path, f"file,start,end,emotion,speaker\na.wav,0 days 00:00:00,{time},joy,ann\n")


def test_nkululekos_list_is_read_and_it_is_said_what_its_columns_are_taken_for(tmp_path: Path) -> None:
    corpus = Table("list.csv")
    text = "file,speaker,gender,emotion,age\na.wav,ann,female,joy,30\nb.wav,ben,male,anger,40\n"
    found, _ = read(corpus, listed(tmp_path, text))
    assert found[0] == Utterance("a", "a.wav", "ann", "joy", gender="female", aux={"age": "30"})
    assert corpus.notes() == ["path is column 'file'", "label is column 'emotion'"]


def test_emoboxs_list_is_read_where_it_says_who_speaks_and_refused_with_the_way_where_not(tmp_path: Path) -> None:
    line = {"key": "toy-a", "dataset": "toy", "wav": "a.wav", "type": "raw", "sample_rate": 16000, "num_frame": 70312.0}
    line |= {"task": "category", "length": 4.3945, "emo": "neu", "channel": 1}
    (one,) = of(tmp_path, json.dumps({**line, "spk": "ann"}), "list.jsonl")
    assert (one.id, one.path, one.speaker, one.label, one.duration) == ("toy-a", "a.wav", "ann", "neu", None)
    with pytest.raises(UsageError, match=r"has no column 'speaker'.*Name it: speaker=COLUMN, or add it\."):
        of(tmp_path, json.dumps(line), "list.jsonl")


def test_the_audio_column_of_hugging_face_is_a_path_or_a_mapping_with_one(tmp_path: Path) -> None:
    lines = [
        {"audio": {"path": "a.wav", "bytes": None}, "label": 0, "speaker_id": 7, "transcription": "hi"},
        {"audio": "b.wav", "label": 1, "speaker_id": 8, "transcription": "ho"},
    ]
    found = of(tmp_path, "\n".join(map(json.dumps, lines)), "list.jsonl")
    assert [(one.path, one.label, one.speaker, one.text) for one in found] == [
        ("a.wav", "0", "7", "hi"),
        ("b.wav", "1", "8", "ho"),
    ]
    (one,) = of(tmp_path, "file_name,label,speaker\na.wav,joy,ann\n")
    assert one.path == "a.wav"


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        ({"path": "a.wav", "bytes": "UklGRg=="}, r"the audio lies in the list \(bytes\)\. Write the audio to files"),
        ({"path": "a.wav", "array": [0.0], "sampling_rate": 16000}, r"the audio lies in the list \(array\)"),
        ({"path": None, "bytes": None}, r"the audio lies in the list \(no path\)"),
        ({"src": "http://x"}, "is neither text nor a number"),
    ],
)
def test_audio_in_the_list_itself_is_refused(tmp_path: Path, audio: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=rf"list\.jsonl:1, 'audio': .*{says}"):
        of(tmp_path, json.dumps({"audio": audio, "label": 0, "speaker": "ann"}), "list.jsonl")


def test_a_mapping_in_a_cell_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"list\.csv:2: .* is no path \(column 'audio'\)\. Write the audio to files"):
        of(tmp_path, "audio,label,speaker\n\"{'bytes': None, 'path': 'a.wav'}\",joy,ann\n")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("file,wav,label,speaker", "has the columns file and wav: which is the path. path=file"),
        ("path,emotion,emo,speaker", "has the columns emotion and emo: which is the label. label=emotion"),
        ("path,label,speaker,offset", "has the column 'offset', which may be a time, and no start, duration or end"),
    ],
)
def test_columns_that_could_be_meant_otherwise_are_asked_for(tmp_path: Path, header: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        of(tmp_path, f"{header}\na.wav,joy,ann,1\n")


def test_a_column_that_is_named_or_has_the_name_of_the_field_goes_before_another_tools(tmp_path: Path) -> None:
    (one,) = of(tmp_path, "path,file,emotion,label,speaker,offset\na.wav,b.wav,x,joy,ann,0.5\n", start="offset")
    assert (one.path, one.label, one.start) == ("a.wav", "joy", 0.5)
    assert dict(one.aux) == {"file": "b.wav", "emotion": "x"}
    (one,) = of(tmp_path, "file,wav,emotion,speaker\na.wav,b.wav,joy,ann\n", path="wav")
    assert (one.path, dict(one.aux)) == ("b.wav", {"file": "a.wav"})


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (
            {"label": "feelign"},
            r"has no column 'feelign'; did you mean 'feeling'\? Known: feeling, path, speaker.*label=",
        ),
        ({}, r"has no column 'label'\. Known: feeling, path, speaker\. Name it: label=COLUMN, or add it\."),
        ({"label": "feeling", "gender": "sex"}, "has no column 'sex'"),
    ],
)
def test_a_missing_column_is_wrong_use_and_the_columns_are_named(
    tmp_path: Path, columns: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        of(tmp_path, TWO.replace("label", "feeling"), **columns)


def test_a_list_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SertkError, match=r"neither below .* nor here"):
        list(Table("list.csv").read(tmp_path))
    with pytest.raises(UsageError, match=r"neither \.csv, \.tsv nor \.jsonl"):
        of(tmp_path, TWO, "list.xlsx")
    with pytest.raises(SertkError, match="has no row"):
        of(tmp_path, "path,speaker,label\n")


@pytest.mark.parametrize("spelt", ["F", "Female", "w", "M", "male"])
def test_genders_are_read_in_any_case(tmp_path: Path, spelt: str) -> None:
    (one,) = of(tmp_path, f"path,speaker,label,gender\na.wav,ann,joy,{spelt}\n")
    assert one.gender == GENDERS[spelt.lower()]


# --- protocols -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folds", "field"),
    [
        ("speakers", sorted(SPEAKERS), "speaker"),
        ("disjoint5", ["1", "2", "3", "4", "5"], "speaker"),
        ("sessions", ["1", "2", "3"], "session"),
        ("random", ["1"], None),
        ("random5", ["1", "2", "3", "4", "5"], None),
    ],
)
def test_the_protocols_keep_apart_what_they_say(tabled: Path, name: str, folds: list[str], field: str | None) -> None:
    utterances, _ = read(Table("list.csv"), tabled)
    by_id = {one.id: one for one in utterances}
    made = make("table", name, PROTOCOLS[name], utterances)
    assert list(made.folds.folds) == folds
    assert made.dropped == []
    for fold in made.folds.folds.values():
        assert sorted(i for part in fold for i in part) == sorted(by_id)
        groups = [{getattr(by_id[i], field or "id") for i in part} for part in fold]
        assert sum(map(len, groups)) == len(set.union(*groups))


def test_a_list_is_prepared_from_a_specification_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = table(tmp_path / "in", seconds=0.11, takes=4)
    (root / "mine.yaml").write_text(
        "about: two classes\nlabels: {anger: negative, sadness: negative, happiness: positive}\n"
        "test: {rule: leave_one_out}\ndev: {rule: next}\ngroup: session\n"
        "overlaps: {text: [train+dev, train+test, dev+test]}\n"
    )
    spec = "table:list=list.csv,label=label,title=mine"
    wanted = ["speakers", "sessions", str(root / "mine.yaml")]
    assert prepare(spec, root, tmp_path / "out", wanted, 0.1, 1) == 0
    data = Data(tmp_path / "out")
    assert data.corpus == "mine"
    assert data.protocol("speakers").stamp == data.protocol("sessions").stamp == "speaker-independent"
    assert data.protocol("speakers").shares["session"] == ["train+dev", "train+test", "dev+test"]
    own = data.protocol("mine")
    assert own.classes == ("negative", "positive")
    assert len(own.labels) == 6 * 3 * 4


def test_a_cut_behind_the_end_of_its_file_is_a_failed_input(tmp_path: Path) -> None:
    content: list[dict[str, Any]] = rows(4)
    for seed, row in enumerate(content):
        clip(tmp_path / row["path"], seed, 0.2)
    lines = [f"{row['path']},{row['speaker']},{row['label']},0.05,{0.1}\n" for row in content]
    lines[0] = f"{content[0]['path']},ann,anger,0.05,2.0\n"
    (tmp_path / "cuts.csv").write_text("path,speaker,label,start,duration\n" + "".join(lines))
    assert prepare("table:list=cuts.csv", tmp_path, tmp_path / "out", ["speakers"], 0.1, 1) == 1
    (failed,) = map(json.loads, (tmp_path / "out/failed.jsonl").read_text().splitlines())
    assert "ends 1.85 s behind the end of the file" in failed["reason"]
    assert all(one.duration == 0.1 for one in Data(tmp_path / "out").utterances.values())

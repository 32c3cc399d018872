"""EmoDB: what names and the listeners' table say, its protocols, and what `prepare` tells of a part of it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sertk.builtin.corpora.common import fold_table
from sertk.builtin.corpora.emodb import EMOTIONS, SPEAKERS, TEXTS, EmoDB
from sertk.core import InputError, Rejected, SertkError, Utterance
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds, make
from sertk.stages.prepare import prepare
from sertk.testing.trees import emodb

FOUR = ("anger", "happiness", "neutral", "sadness")
FEW = [f"{speaker}{text}{letter}a" for speaker in SPEAKERS for text in ("a01", "b10") for letter in "WFNT"]
RARE = ["03a02La", "03a02Ea", "03a02Aa"]  # one boredom, one disgust, one fear, all of speaker 03
HEAD = "Nr.\tSatz\terkannt\tnatuerlich\n"


def write(root: Path, names: list[str], suffix: str = ".wav") -> Path:
    """The corpus folder with 0.15 s of noise under each name."""
    (root / "wav").mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for name in names:
        soundfile.write(root / "wav" / f"{name}{suffix}", 0.1 * draw.standard_normal(2400), 16_000, subtype="PCM_16")
    return root


def rated(root: Path, content: str | bytes) -> Path:
    """The same with the listeners' table."""
    (root / "erkennung.txt").write_bytes(content if isinstance(content, bytes) else content.encode("latin-1"))
    return root


def read(root: Path) -> list[Utterance]:
    found = list(EmoDB().read(root))
    assert all(isinstance(one, Utterance) for one in found)
    return [one for one in found if isinstance(one, Utterance)]


@pytest.fixture(scope="module")
def everyone(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Every speaker with every emotion and sentence, one version: more than the corpus has."""
    root = tmp_path_factory.mktemp("emodb")
    for speaker in SPEAKERS:
        for text in TEXTS:
            for letter in EMOTIONS:
                (root / f"{speaker}{text}{letter}a.wav").touch()
    return read(root)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the corpus: two utterances of each speaker and each of four emotions, one of each other emotion."""
    return write(tmp_path_factory.mktemp("part"), FEW + RARE)


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_name_says_everything(tmp_path: Path, suffix: str) -> None:
    assert read(write(tmp_path, ["08b01Fc"], suffix)) == [
        Utterance(
            id="08b01Fc",
            path=f"wav/08b01Fc{suffix}",
            speaker="08",
            gender="female",
            text="Was sind denn das für Tüten, die da unter dem Tisch stehen?",
            label="happiness",
            aux={"version": "c"},
        )
    ]


def test_every_letter_speaker_and_sentence_is_read(everyone: list[Utterance]) -> None:
    assert len(everyone) == 700
    assert {one.id[5]: one.label for one in everyone} == {
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "T": "sadness",
        "N": "neutral",
    }
    men = {one.speaker for one in everyone if one.gender == "male"}
    women = {one.speaker for one in everyone if one.gender == "female"}
    assert men == {"03", "10", "11", "12", "15"}
    assert women == {"08", "09", "13", "14", "16"}
    assert {one.id[2:5]: one.text for one in everyone} == {
        "a01": "Der Lappen liegt auf dem Eisschrank.",
        "a02": "Das will sie am Mittwoch abgeben.",
        "a04": "Heute abend könnte ich es ihm sagen.",
        "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
        "a07": "In sieben Stunden wird es soweit sein.",
        "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
        "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
        "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
        "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
        "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
    }


def test_the_published_counts_are_those_of_535_utterances() -> None:
    assert sum(EmoDB.published.values()) == 535
    assert sorted(EmoDB.published) == sorted(EMOTIONS.values())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("notes.wav", "'notes.wav' is not the name of an EmoDB file (03a01Fa)"),
        ("03a01F.wav", "is not the name of an EmoDB file"),
        ("03a01Fab.wav", "is not the name of an EmoDB file"),
        ("04a01Fa.wav", "unknown speaker '04' in '04a01Fa.wav'; known: 03, 08, 09, 10, 11, 12, 13, 14, 15, 16"),
        ("03a03Fa.wav", "unknown text 'a03' in '03a03Fa.wav'; known: a01, a02, a04"),
        ("03a01Xa.wav", "unknown emotion 'X' in '03a01Xa.wav'; known: W, L, E, A, F, T, N"),
        ("03a01fa.wav", "unknown emotion 'f'"),
        ("03a01F1.wav", "unknown version '1'"),
    ],
)
def test_files_of_other_names_are_rejected_with_the_reason(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).touch()
    (rejected,) = EmoDB().read(tmp_path)
    assert isinstance(rejected, Rejected)
    assert says in rejected.reason


def test_a_folder_without_audio_is_an_error_that_shows_the_layout(tmp_path: Path) -> None:
    for root in (rated(tmp_path, HEAD), tmp_path / "missing"):
        with pytest.raises(SertkError, match=r"--root.*wav/03a01Fa\.wav"):
            list(EmoDB().read(root))


# --- what listeners said -------------------------------------------------------------------------------------------

# as published: no-break spaces after the values, decimal commas
TWO = HEAD + "1\xa0\xa0\t03a01Fa.wav\t90,00\xa0\xa0\t75,50\xa0\xa0\n2\xa0\xa0\t03a01Wa.wav\t100,00\xa0\t0,00\n"


@pytest.mark.parametrize(
    "content",
    [
        TWO,
        TWO.encode("utf-8-sig"),  # as an editor saves it
        TWO.replace("\n", "\r\n"),
        TWO.replace(",", "."),
        TWO.replace("\xa0", "").replace("\t", "  ") + "\n \xa0\n",
        TWO.removeprefix(HEAD),
    ],
)
def test_what_listeners_said_is_read_in_percent(tmp_path: Path, content: str | bytes) -> None:
    names = ["03a01Fa", "03a01Wa", "03a01Nc"]
    aux = {one.id: one.aux for one in read(rated(write(tmp_path, names, ".flac"), content))}
    assert aux == {
        "03a01Fa": {"version": "a", "recognised": 90.0, "naturalness": 75.5},
        "03a01Wa": {"version": "a", "recognised": 100.0, "naturalness": 0.0},
        "03a01Nc": {"version": "c"},  # not in the table
    }


def test_the_table_is_found_beside_wav_wherever_the_corpus_lies_below_root(tmp_path: Path) -> None:
    rated(write(tmp_path / "download", ["03a01Fa"]), TWO)
    (one,) = read(tmp_path)
    assert one.aux["recognised"] == 90.0
    (tmp_path / "erkennung.txt").write_text(TWO)
    with pytest.raises(SertkError, match=r"holds 2 files erkennung\.txt: .*Keep one"):
        read(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "3\t03a02Fa.wav\t90,00",  # a column too few
        "3\t03a02Fa.wav\t90,00\t75,00\t1",
        "3\t03a02Fa.wav\tninety\t75,00",
        "3\t03a02Fa.wav\t90,00\t-1",
        "3\t03a02Fa.wav\t90,00\t101",
        "3\t03a02Fa.wav\tnan\t75,00",
        "3\t03a02Fa\t90,00\t75,00",
        "3\tFa.wav\t90,00\t75,00",
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str) -> None:
    root = rated(write(tmp_path, ["03a01Fa"]), TWO + line + "\n")
    with pytest.raises(InputError, match=r"erkennung\.txt, line 4: '3 .*' is not a number, a file name.*remove it"):
        read(root)


def test_an_utterance_with_two_lines_is_named(tmp_path: Path) -> None:
    root = rated(write(tmp_path, ["03a01Fa"]), TWO + "3\t03a01Fa.wav\t10,00\t10,00\n")
    with pytest.raises(InputError, match=r"line 4: 03a01Fa comes twice"):
        read(root)


# --- protocols -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "classes"), [("loso", tuple(sorted(EMOTIONS.values()))), ("loso4", FOUR)])
def test_every_fold_tests_the_speaker_of_its_name(
    everyone: list[Utterance], name: str, classes: tuple[str, ...]
) -> None:
    folds, dropped, absent = make("emodb", name, EmoDB.protocols[name], everyone)
    assert folds.classes == classes
    assert list(folds.folds) == ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"]
    assert folds.stamp == "speaker-independent"
    assert absent == []
    by_id = {one.id: one for one in everyone}
    kept = {one.id for one in everyone if one.label in classes}
    for fold, parts in folds.folds.items():
        train, dev, test = ({by_id[i].speaker for i in ids} for ids in parts)
        assert test == {fold}
        assert len(train) == 7
        assert sorted(SPEAKERS[one] for one in dev) == ["female", "male"]
        assert len(train | dev | test) == 10  # no speaker in two parts
        assert sorted(i for ids in parts for i in ids) == sorted(kept)
    assert {one["id"] for one in dropped} == set(by_id) - kept


def test_loso4_says_why_it_drops_the_other_emotions(everyone: list[Utterance]) -> None:
    _, dropped, _ = make("emodb", "loso4", EmoDB.protocols["loso4"], everyone)
    assert len(dropped) == 300
    assert {one["reason"] for one in dropped} == {
        f"label '{label}' is not in the label map" for label in ("boredom", "disgust", "fear")
    }


# --- the whole corpus ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """All 535 utterances under their names, prepared."""
    folder = tmp_path_factory.mktemp("the whole corpus")
    assert prepare("emodb", emodb.write(folder / "in"), folder / "out", [], 0, 2) == 0
    return Data(folder / "out")


def test_the_whole_corpus_is_535_utterances_and_listeners_judged_each(whole: Data) -> None:
    assert Counter(one.label for one in whole.utterances.values()) == EmoDB.published
    assert all(80 <= one.aux["recognised"] <= 100 for one in whole.utterances.values())


def test_random10_cuts_every_class_into_ten(whole: Data) -> None:
    folds = whole.protocol("random10")
    assert folds.stamp == "SPEAKER-DEPENDENT"
    assert sorted(i for fold in folds.folds.values() for i in fold.test) == sorted(whole.utterances)
    for fold in folds.folds.values():
        counts = Counter(folds.labels[i] for i in fold.test)
        assert len(fold.test) in (53, 54)
        assert all(n // 10 <= counts[label] <= -(-n // 10) for label, n in EmoDB.published.items())


def test_emobox_has_its_published_folds_which_share_every_speaker_and_sentence(whole: Data) -> None:
    folds = whole.protocol("emobox")
    assert folds.stamp == "SPEAKER-DEPENDENT"
    with fold_table("emobox_emodb").open(newline="") as file:
        rows = {row["utterance"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert {i: name for name, fold in folds.folds.items() for i in fold.test} == {
        i: row["test_folds"] for i, row in rows.items()
    }
    assert len({(row["emotion"], folds.labels[i]) for i, row in rows.items()}) == 7
    audit = json.loads((whole.folder / "protocols/emobox.json").read_text())["audit"]
    for fold in audit.values():
        assert len(fold["shared"]["speaker"]["train+test"]) == len(fold["shared"]["text"]["train+test"]) == 10


# --- a part of the corpus ------------------------------------------------------------------------------------------


def with_rare(folds: Folds, where: int) -> list[str]:
    """The folds that have the rare utterances in train (0), dev (1) or test (2)."""
    return [name for name, parts in folds.folds.items() if RARE[0] in parts[where]]


def test_prepare_tells_what_is_missing_by_class(part: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("emodb", part, tmp_path / "data", [], 0.1, 1) == 0
    said = capsys.readouterr().err
    assert "emodb: 83 utterances here of 535 published\n" in said
    for line in (
        "anger: 20 of 127, 107 missing",
        "boredom: 1 of 81, 80 missing",
        "disgust: 1 of 46, 45 missing",
        "fear: 1 of 69, 68 missing",
        "happiness: 20 of 71, 51 missing",
        "neutral: 20 of 79, 59 missing",
        "sadness: 20 of 62, 42 missing",
    ):
        assert f"  {line}\n" in said
    counts = json.loads((tmp_path / "data/corpus.json").read_text())["counts"]
    assert counts["fear"] == {"here": 1, "published": 69}


def test_prepare_tells_of_an_emotion_that_is_missing_whole_or_in_excess(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    excess = [f"{speaker}{text}E{take}" for speaker in ("03", "08", "09", "10") for text in TEXTS for take in "ab"]
    assert prepare("emodb", write(tmp_path / "in", excess), tmp_path / "out", ["loso"], 0.1, 1) == 0
    said = capsys.readouterr().err
    assert "  disgust: 80 of 46, 34 more than published\n" in said
    assert "  fear: 0 of 69, 69 missing\n" in said


def test_prepare_tells_which_folds_lack_which_class(
    part: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare("emodb", part, tmp_path / "data", ["loso", "loso4"], 0.1, 1)
    said = capsys.readouterr().err
    folds = Data(tmp_path / "data").protocol("loso")
    dev = with_rare(folds, 1)
    assert with_rare(folds, 2) == ["03"]
    assert (
        f"  no boredom, disgust, fear in train of folds {', '.join(sorted(['03', *dev]))}: cannot be trained\n" in said
    )
    assert f"  no boredom, disgust, fear in dev of any fold but {', '.join(dev)}\n" in said
    assert "  no boredom, disgust, fear in test of any fold but 03\n" in said
    assert said.count("  no ") == 3  # and nothing of loso4, which has all that it needs


def test_prepare_tells_of_one_fold_and_of_any(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name in FEW if name[5] != "W" and name[:6] != "12a01T" and name[:6] != "12b10T"]
    prepare("emodb", write(tmp_path / "in", names), tmp_path / "out", ["loso4"], 0.1, 1)
    said = capsys.readouterr().err
    for where in ("train of any fold: cannot be trained", "dev of any fold", "test of any fold"):
        assert f"  no anger in {where}\n" in said
    assert "  no sadness in test of fold 12\n" in said


def test_training_refuses_what_prepare_warned_of(part: Path, tmp_path: Path) -> None:
    from sertk.settings import merge
    from sertk.stages.train import train

    prepare("emodb", part, tmp_path / "data", ["loso"], 0.1, 1)
    settings = merge.load("mini-cnn", None, {"protocol": "loso", "fold": "03", "train.epochs": 1})
    with pytest.raises(SertkError, match="'loso', fold 03: no training utterance is of class boredom, disgust, fear"):
        train(settings, Data(tmp_path / "data"), tmp_path / "run")

"""MSP-IMPROV on generated trees with the published counts: what is read, its protocol, its defects, and the recipe."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sertk
from sertk.builtin.corpora.msp_improv import MspImprov
from sertk.cli.app import app
from sertk.core import PAIRS, InputError, Rejected, SertkError, Utterance
from sertk.corpus.audit import audit_folds, shares
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import expected, make
from sertk.stages.prepare import prepare
from sertk.testing.trees import msp_improv

EGS = Path(sertk.__file__).parents[1] / "egs" / "msp_improv"
CLIP = "S01A-F01-S-FM01"


def read(root: Path) -> list[Utterance]:
    found = list(MspImprov().read(root))
    assert all(isinstance(one, Utterance) for one in found)
    return [one for one in found if isinstance(one, Utterance)]


def rejected(root: Path) -> list[Rejected]:
    return [one for one in MspImprov().read(root) if isinstance(one, Rejected)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Every clip of a tree with the published counts."""
    return read(msp_improv.write(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A part of the corpus, to be spoilt."""
    return msp_improv.write(tmp_path / "part", share=100)


def edit(root: Path, old: str, new: str) -> Path:
    """Changes the label file where it first says `old`."""
    path = root / "Evalution.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1), newline="")
    return root


def test_all_labels_and_scenarios_are_counted_as_published(whole: list[Utterance]) -> None:
    assert len(whole) == 8438 == sum(MspImprov.published.values())
    assert Counter(one.label or "unlabelled" for one in whole) == MspImprov.published
    assert Counter(one.aux["scenario"] for one in whole) == {
        "natural": 2785,
        "read target": 620,
        "improvised target": 652,
        "improvised": 4381,
    }
    assert {one.speaker for one in whole} == {f"{gender}0{n}" for gender in "FM" for n in range(1, 7)}
    assert {one.session for one in whole} == set("123456")


def test_a_clip_says_speaker_votes_and_values(whole: list[Utterance]) -> None:
    one = next(one for one in whole if one.id == f"MSP-IMPROV-{CLIP}")
    assert one == Utterance(
        id=f"MSP-IMPROV-{CLIP}",
        path=f"Audio/session1/S01A/S/MSP-IMPROV-{CLIP}.wav",
        speaker="F01",
        gender="female",
        session="1",
        label="anger",
        votes={"anger": 2, "other": 1},
        aux={
            "sentence": "01",
            "target": "anger",
            "scenario": "improvised target",
            "activation": 3.0,
            "valence": 3.5,
            "dominance": 2.5,
            "naturalness": 4.0,
        },
    )
    tie = next(one for one in whole if one.label is None)
    assert tie.votes == {"anger": 1, "happiness": 1, "sadness": 1}
    assert Utterance.from_json(json.loads(json.dumps(tie.to_json())), "here") == tie


def test_six_folds_by_session_keep_the_four_classes(whole: list[Utterance]) -> None:
    protocol = MspImprov.protocols["sessions"]
    made = make("msp_improv", "sessions", protocol, whole)
    counts = {"anger": 792, "happiness": 2644, "neutral": 3477, "sadness": 885}
    assert Counter(made.folds.labels.values()) == counts == expected(protocol, MspImprov.published)
    assert len(made.folds.labels) == 7798
    assert Counter(one["reason"] for one in made.dropped).total() == 640
    assert list(made.folds.folds) == list("123456")
    sessions = {one.id: one.session for one in whole}
    for name, fold in made.folds.folds.items():
        assert {sessions[i] for i in fold.test} == {name}
        (dev,) = {sessions[i] for i in fold.dev}
        assert {sessions[i] for i in fold.train} == set("123456") - {name, str(dev)}
    assert Counter(i for fold in made.folds.folds.values() for i in fold.test).total() == 7798
    assert made.folds.stamp == "speaker-independent"
    assert shares(audit_folds(made.folds, {one.id: one for one in whole}, {})) == {
        "text": list(PAIRS)
    }  # the 20 target sentences


# --- defects -------------------------------------------------------------------------------------------------------


def test_a_session_without_audio_fails_line_by_line_and_the_folds_of_the_others_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = msp_improv.write(tmp_path / "in", sessions=[1, 2, 3, 5, 6], share=60)
    lines = (root / "Evalution.txt").read_text().splitlines()
    mute = {
        f"MSP-IMPROV-{name}": f"{root / 'Evalution.txt'}, line {number} labels {name}, which has no audio"
        for number, name in ((number, line[11:26]) for number, line in enumerate(lines, 1) if line.startswith("UTD"))
        if name[7] == "4"
    }
    assert 20 < len(mute) < 30
    assert prepare("msp_improv", root, tmp_path / "out", [], 0, 1) == len(mute)
    failed = [json.loads(line) for line in (tmp_path / "out/failed.jsonl").read_text().splitlines()]
    assert {one["id"]: one["reason"] for one in failed} == mute
    assert len(failed) == len(mute)
    said = capsys.readouterr().err
    assert "session 4 (tested in fold 4, not in this corpus folder)" in said
    assert f"session 4 has no audio in {root}" in said
    made = Data(tmp_path / "out").protocol("sessions")
    assert list(made.folds) == ["1", "2", "3", "5", "6"]
    assert all(fold.train and fold.dev and fold.test for fold in made.folds.values())
    assert not {*mute} & {*made.labels}


def test_a_clip_without_audio_and_audio_without_a_label_are_rejected_with_the_reason(
    tmp_path: Path, part: Path
) -> None:
    root = msp_improv.write(tmp_path / "in", share=100, defects=["label_without_audio", "audio_without_label"])
    path = root / f"Audio/session1/S01A/S/MSP-IMPROV-{CLIP[:-2]}99.wav"
    shutil.copy(path, path.with_name("notes.wav"))
    found = {one.path.stem: one.reason for one in rejected(root)}
    assert found == {
        path.stem: f"no line of Evalution.txt labels {path.stem}",
        "notes": "'notes.wav' is not the name of a clip (MSP-IMPROV-S01A-F01-S-FM01)",
        f"MSP-IMPROV-{CLIP}": f"{root / 'Evalution.txt'}, line 1 labels {CLIP}, which has no audio",
    }
    assert sum(isinstance(one, Utterance) for one in MspImprov().read(root)) == len(read(part)) - 1


def test_a_second_file_of_a_clip_is_rejected_and_a_third_too(tmp_path: Path) -> None:
    root = msp_improv.write(tmp_path / "in", share=100, defects=["second_file"])
    (found,) = rejected(root)
    first = found.path.parents[1] / "S" / found.path.name
    assert found == Rejected(found.path, f"{first.stem} is also {first}")
    assert found.path.parent.name == "copy"
    third = root / "more" / first.name
    third.parent.mkdir()
    shutil.copy(first, third)
    assert rejected(root) == [found, Rejected(third, found.reason)]


def test_a_clip_that_is_labelled_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    root = msp_improv.write(tmp_path / "in", share=100, defects=["labelled_twice"])
    lines = (root / "Evalution.txt").read_text().splitlines()
    again = max(number for number, line in enumerate(lines, 1) if CLIP in line)
    assert again > 1
    with pytest.raises(InputError, match=rf"line {again}: {CLIP} is labelled twice, first in .*, line 1"):
        read(root)


def test_a_hundredth_turn_is_read(part: Path) -> None:
    path = part / f"Audio/session1/S01A/S/MSP-IMPROV-{CLIP}.wav"
    path.rename(path.with_name(f"MSP-IMPROV-{CLIP[:-2]}100.wav"))
    edit(part, CLIP, f"{CLIP[:-2]}100")
    (one,) = [one for one in read(part) if one.id.endswith("100")]
    assert (one.id, one.label, one.speaker) == (f"MSP-IMPROV-{CLIP[:-2]}100", "anger", "F01")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (f"{CLIP}.avi; A; ", f"{CLIP}.avi; ", "line 1: .* is neither a clip, as in"),
        (f"{CLIP}.avi; A; ", f"{CLIP}.avi; Q; ", "line 1: unknown emotion 'Q'; known: A, H, S, N, O, X"),
        (f"UTD-IMPROV-{CLIP}", "UTD-IMPROV-S01A-F07-S-FM01", "line 1: .* is neither"),
        ("A:3.000000; V:3.5", "A:x; V:3.5", "line 1: .* is neither"),
        (f"UTD-IMPROV-{CLIP}", f"rater-1_p1; Sad; ; A:1;\nUTD-IMPROV-{CLIP}", "line 1: .* is neither"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(part: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"Evalution\.txt, {says}"):
        read(edit(part, old, new))


def test_a_line_of_a_rater_that_cannot_be_read_is_told_and_does_not_count(part: Path) -> None:
    whole = {one.id: one for one in read(part) if isinstance(one, Utterance)}
    corpus = MspImprov()
    edited = edit(part, "rater-0_p1; Angry;", "rater-0_p1 Angry")
    found = {one.id: one for one in corpus.read(edited) if isinstance(one, Utterance)}
    name = f"MSP-IMPROV-{CLIP}"
    assert found[name].votes["anger"] == whole[name].votes["anger"] - 1
    (told,) = corpus.notes()
    assert told.startswith("1 lines of raters cannot be read")
    assert told.endswith("Evalution.txt, line 2")


@pytest.mark.parametrize("defects", [["crlf", "latin1"], ["crlf", "mark"], ["apple_double"]], ids="-".join)
def test_other_line_ends_encodings_and_hidden_files_change_nothing(
    tmp_path: Path, part: Path, defects: list[str]
) -> None:
    root = msp_improv.write(tmp_path / "in", share=100, defects=defects)
    assert read(root) == read(part)
    text = (root / "Evalution.txt").read_bytes()
    assert (b"\r\n" in text, b"d\xe9j" in text, text.startswith(b"\xef\xbb\xbf")) == (
        "crlf" in defects,
        "latin1" in defects,
        "mark" in defects,
    )
    assert any(path.name.startswith("._") for path in root.rglob("*.wav")) == ("apple_double" in defects)


def test_the_other_spelling_no_audio_folder_and_blanks_in_the_path_are_read(tmp_path: Path, part: Path) -> None:
    root = tmp_path / "my data"
    msp_improv.write(root / "MSP IMPROV", share=100, audio="", labels="Evaluation.txt")
    assert [one.id for one in read(root)] == [one.id for one in read(part)]
    assert read(root)[0].path.startswith("MSP IMPROV/session1/")
    shutil.copy(root / "MSP IMPROV/Evaluation.txt", root / "MSP IMPROV/Evalution.txt")
    with pytest.raises(SertkError, match=r"Evalution\.txt and Evaluation\.txt.*Keep one"):
        read(root)
    with pytest.raises(SertkError, match=r"Evalution\.txt.*--root.*session1"):
        read(tmp_path / "nothing")


def test_a_rater_counts_once_and_means_that_are_not_there_are_left_out(part: Path) -> None:
    line = "rater-0_p1; Angry; Annoyed (so-so; déjà vu); A:3.000000; V:4.000000; D:NaN; N:4.000000;\n"
    edit(part, line, line + line)
    edit(part, "D:2.500000", "D:NaN")
    one = next(one for one in read(part) if one.id == f"MSP-IMPROV-{CLIP}")
    assert one.votes == {"anger": 2, "other": 1}
    assert "dominance" not in one.aux
    assert one.aux["naturalness"] == 4.0


def test_the_recipe_runs_on_a_small_tree(tmp_path: Path) -> None:
    root = msp_improv.write(tmp_path / "in", share=100, seconds=0.3)
    words = ["recipe", EGS, "--work", tmp_path / "work", "--root", root, "--stop-stage", 1]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(app, [str(word) for word in (*words[:-1], 5, "--dry-run")])
    assert again.exit_code == 0, again.output
    (trained,) = (line for line in again.stdout.splitlines() if line.startswith("sertk train"))
    assert "--fold 1,2,3,4,5,6 " in trained

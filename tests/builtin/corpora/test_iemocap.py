"""IEMOCAP on generated trees with the published counts: what is read, its protocols, its defects, and the recipe."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sertk
from sertk.builtin.corpora.iemocap import Iemocap
from sertk.cli.app import app
from sertk.core import InputError, Rejected, SertkError, UsageError, Utterance
from sertk.corpus.audit import audit_folds, shares, undeclared
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Made, expected, make
from sertk.scoring.inputs import of_corpus
from sertk.settings.schema import Settings
from sertk.stages.prepare import prepare
from sertk.testing import official
from sertk.testing.trees import iemocap

EGS = Path(sertk.__file__).parents[1] / "egs" / "iemocap"
TURN = "Ses01F_impro01_F000"


def read(root: Path) -> list[Utterance]:
    found = list(Iemocap().read(root))
    assert all(isinstance(one, Utterance) for one in found)
    return [one for one in found if isinstance(one, Utterance)]


def rejected(root: Path) -> list[Rejected]:
    return [one for one in Iemocap().read(root) if isinstance(one, Rejected)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Every turn of a tree with the published counts."""
    return read(iemocap.write(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A part of session 1, to be spoilt."""
    return iemocap.write(tmp_path / "part", sessions=[1], share=60)


def edit(root: Path, old: str, new: str, kind: str = "EmoEvaluation") -> Path:
    """Changes the text files of a kind."""
    for path in (root / "Session1/dialog" / kind).glob("*.txt"):
        path.write_text(path.read_text().replace(old, new), newline="")
    return root


# --- counts --------------------------------------------------------------------------------------------------------


def test_all_labels_are_counted_as_published(whole: list[Utterance]) -> None:
    assert len(whole) == 10_039 == sum(Iemocap.published.values())
    assert Counter(one.label or "unlabelled" for one in whole) == Iemocap.published
    assert Counter(one.aux["style"] for one in whole) == {"improvised": 4784, "scripted": 5255}


def test_the_151_dialogs_are_read_by_their_own_names(whole: list[Utterance]) -> None:
    by_dialog: dict[str, set[str]] = {}
    for one in whole:
        by_dialog.setdefault(one.aux["dialog"], set()).add(one.aux["style"])
    odd = {"Ses03M_impro05a", "Ses03M_impro05b", "Ses03M_impro08a", "Ses03M_impro08b", "Ses05M_script01_1b"}
    assert odd == {name for name in by_dialog if name[-1] in "ab"}
    assert {name: styles for name, styles in by_dialog.items() if name in odd} == {
        name: {"scripted" if "script" in name else "improvised"} for name in odd
    }
    assert Counter(name[:5] for name in by_dialog) == {"Ses01": 28, "Ses02": 30, "Ses03": 32, "Ses04": 30, "Ses05": 31}
    (marked,) = [one for one in whole if "XX" in one.id]
    assert (marked.id, marked.speaker, marked.text) == ("Ses03F_impro06_FXX0", "Ses03F", "Yeah.")


def test_whole_dialogs_and_what_each_evaluator_said_are_not_read(part: Path) -> None:
    session = part / "Session1"
    assert (session / "dialog/wav/Ses01F_impro01.wav").is_file()
    assert (session / "dialog/lab/Ses01_F/Ses01F_impro01.lab").is_file()
    folders = [path.name for path in (session / "dialog/EmoEvaluation").iterdir() if path.is_dir()]
    assert sorted(folders) == ["Attribute", "Categorical", "Self-evaluation"]
    sentences = [path for path in part.rglob("*.wav") if path.parents[1] == session / "sentences/wav"]
    assert len(read(part)) == len(sentences) < len(list(part.rglob("*.wav")))


def test_a_turn_says_speaker_text_votes_and_values(whole: list[Utterance]) -> None:
    by_id = {one.id: one for one in whole}
    assert by_id[TURN] == Utterance(
        id=TURN,
        path=f"Session1/sentences/wav/Ses01F_impro01/{TURN}.wav",
        speaker="Ses01F",
        gender="female",
        session="Ses01",
        text="Yeah.",
        label="anger",
        votes={"anger": 3, "other": 1},
        aux={
            "dialog": "Ses01F_impro01",
            "style": "improvised",
            "valence": 2.5,
            "activation": 3.0,
            "dominance": 3.5,
        },
    )
    other = by_id["Ses05F_script01_1_M000"]
    assert (other.speaker, other.gender, other.session) == ("Ses05M", "male", "Ses05")
    assert other.aux["style"] == "scripted"
    assert other.text == "Line 0 of script01_1, café."


def test_votes_are_those_of_the_evaluators_and_survive_the_manifest(whole: list[Utterance]) -> None:
    tie = next(one for one in whole if one.label is None)
    assert tie.votes == {"anger": 1, "sadness": 1, "neutral": 1, "other": 1}  # surprise is the actor's own opinion
    assert Utterance.from_json(json.loads(json.dumps(tie.to_json())), "here") == tie
    assert next(one for one in whole if one.label == "excitement").votes == {"excitement": 3, "other": 1}


def test_a_smaller_tree_keeps_every_nth_turn(tmp_path: Path) -> None:
    found = read(iemocap.write(tmp_path, sessions=[4], share=50))
    assert {one.session for one in found} == {"Ses04"}
    assert 30 < len(found) < 70
    assert len({(tmp_path / one.path).read_bytes() for one in found}) == len(found)  # no two clips are alike


# --- protocols -----------------------------------------------------------------------------------------------------


def folds(whole: list[Utterance], name: str) -> Made:
    """A protocol applied, and what its parts share checked against what it declares."""
    protocol = Iemocap.protocols[name]
    made = make("iemocap", name, protocol, whole)
    report = audit_folds(made.folds, {one.id: one for one in whole}, {})
    assert undeclared(report, protocol.overlaps) == []
    assert {what: set(pairs) for what, pairs in shares(report).items()} == {
        what: set(pairs) for what, pairs in protocol.overlaps.items()
    }
    return made


FOUR = {"anger": 1103, "happiness": 1636, "neutral": 1708, "sadness": 1084}
PLAIN = {"anger": 289, "happiness": 284, "neutral": 1099, "sadness": 608}


@pytest.mark.parametrize(
    ("name", "counts", "total"),
    [
        ("sessions", FOUR, 5531),
        ("speakers", FOUR, 5531),
        ("improvised", PLAIN, 2280),
        ("p4", PLAIN, 2280),
        ("improvised-excited", {**PLAIN, "happiness": 947}, 2943),
        ("p5", {**PLAIN, "happiness": 947}, 2943),
    ],
)
def test_protocols_merge_and_filter_to_the_counts_of_their_papers(
    whole: list[Utterance], name: str, counts: Mapping[str, int], total: int
) -> None:
    made = folds(whole, name)
    assert Counter(made.folds.labels.values()) == counts
    assert len(made.folds.labels) == total
    assert expected(Iemocap.protocols[name], Iemocap.published) == counts
    assert len(made.dropped) == 10_039 - total
    assert made.absent == []
    tested = Counter(i for fold in made.folds.folds.values() for i in fold.test)
    assert set(tested) == set(made.folds.labels)
    assert set(tested.values()) == {1}


def test_sessions_tests_each_session_once_with_another_as_dev(whole: list[Utterance]) -> None:
    made = folds(whole, "sessions")
    sessions = {one.id: one.session for one in whole}
    assert [len(fold.test) for fold in made.folds.folds.values()] == [1085, 1023, 1151, 1031, 1241]
    for name, fold in made.folds.folds.items():
        assert {sessions[i] for i in fold.test} == {name}
        (dev,) = {sessions[i] for i in fold.dev}
        assert {sessions[i] for i in fold.train} == set(sessions.values()) - {name, dev}
        assert sum(map(len, fold)) == 5531
    assert made.folds.stamp == "speaker-independent"
    happy = [i for i in made.folds.folds["Ses01"].test if made.folds.labels[i] == "happiness"]
    assert len(happy) == 135 + 143


def test_the_session_left_out_is_halved_and_the_halves_are_swapped(whole: list[Utterance]) -> None:
    made = folds(whole, "p4").folds
    assert list(made.folds) == [f"{n}{half}" for n in range(1, 6) for half in "ab"]
    for n in range(1, 6):
        a, b = made.folds[f"{n}a"], made.folds[f"{n}b"]
        assert (a.train, set(a.dev), set(a.test)) == (b.train, set(b.test), set(b.dev))
        assert abs(len(a.dev) - len(a.test)) <= len(made.classes)
        dev, test = (Counter(made.labels[i] for i in ids) for ids in (a.dev, a.test))
        assert all(abs(dev[label] - test[label]) <= 1 for label in made.classes)
        assert {i[:5] for i in (*a.dev, *a.test)} == {f"Ses0{n}"}
        assert f"Ses0{n}" not in {i[:5] for i in a.train}


def test_dev_of_p5_is_a_tenth_of_the_training_sessions(whole: list[Utterance]) -> None:
    made = folds(whole, "p5").folds
    for name, fold in made.folds.items():
        assert name not in {i[:5] for i in (*fold.train, *fold.dev)}
        assert {i[:5] for i in fold.dev} == {i[:5] for i in fold.train}
        rest = Counter(made.labels[i] for i in (*fold.train, *fold.dev))
        dev = Counter(made.labels[i] for i in fold.dev)
        assert all(abs(dev[label] - 0.1 * rest[label]) <= 1 for label in made.classes)


def test_each_speaker_is_tested_with_the_partner_as_dev(whole: list[Utterance]) -> None:
    made = folds(whole, "speakers").folds
    speakers = {one.id: one.speaker for one in whole}
    assert len(made.folds) == 10
    for name, fold in made.folds.items():
        assert {speakers[i] for i in fold.test} == {name}
        assert {speakers[i] for i in fold.dev} == {name[:-1] + ("M" if name.endswith("F") else "F")}
        assert len({speakers[i] for i in fold.train}) == 8
    assert made.stamp == "speaker-independent"


# --- defects -------------------------------------------------------------------------------------------------------


def test_a_session_that_is_missing_is_named_and_the_others_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = iemocap.write(tmp_path / "in", sessions=[1, 2, 4, 5], share=60, seconds=0.1)
    assert prepare("iemocap", root, tmp_path / "out", ["sessions"], 0.01, 1) == 0
    said = capsys.readouterr().err
    assert f"Session3 is not in {root}" in said
    assert "session Ses03 (tested in fold Ses03, not in this corpus folder)" in said
    assert list(Data(tmp_path / "out").protocol("sessions").folds) == ["Ses01", "Ses02", "Ses04", "Ses05"]


def test_a_turn_without_audio_and_audio_without_a_label_are_rejected_with_the_reason(
    tmp_path: Path, part: Path
) -> None:
    root = iemocap.write(
        tmp_path / "in", sessions=[1], share=60, defects=["label_without_audio", "audio_without_label"]
    )
    found = rejected(root)
    assert [one.path.stem for one in found] == ["Ses01F_impro01_F999", TURN]
    assert "EmoEvaluation labels Ses01F_impro01_F999" in found[0].reason
    assert f"Ses01F_impro01.txt, line 3 labels {TURN}, which has no audio" in found[1].reason
    assert sum(isinstance(one, Utterance) for one in Iemocap().read(root)) == len(read(part)) - 1


def test_a_second_file_of_a_turn_is_rejected_and_a_third_too(tmp_path: Path) -> None:
    root = iemocap.write(tmp_path / "in", sessions=[1], share=60, defects=["second_file"])
    (found,) = rejected(root)
    first = root / f"Session1/sentences/wav/{found.path.stem[:-5]}/{found.path.name}"
    assert found == Rejected(found.path, f"{first.stem} is also {first}")
    assert found.path == root / f"Session1/sentences/wav/copy/{first.name}"
    third = found.path.parents[1] / "more" / first.name
    third.parent.mkdir()
    shutil.copy(first, third)
    assert rejected(root) == [found, Rejected(third, found.reason)]


def test_a_turn_that_is_labelled_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    root = iemocap.write(tmp_path / "in", sessions=[1], share=60, defects=["labelled_twice"])
    lines = (root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt").read_text().splitlines()
    again = max(number for number, line in enumerate(lines, 1) if TURN in line)
    assert again > 3
    with pytest.raises(InputError, match=rf"line {again}: {TURN} is labelled twice, first in .*, line 3"):
        read(root)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[0.0000 - 1.0000]", "0.0000 - 1.0000", r"line 3: .* is not \[start - end\], turn, emotion"),
        ("3.0000, 3.5000]", "3.0000]", "line 3: .* is not"),
        ("Ses01F_impro01", "Ses09F_impro01", "line 3: .* is not"),
        ("\tang\t", "\tangry\t", "line 3: unknown emotion 'angry'; known: ang, hap, exc"),
        (f"[0.0000 - 1.0000]\t{TURN}", f"C-E2:\tAnger;\t()\n[0.0 - 1.0]\t{TURN}", r"line 3: 'C-E2:.*' is not"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(part: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"Ses01F_impro01\.txt, {says}"):
        read(edit(part, old, new))


def test_a_line_of_an_evaluator_that_cannot_be_read_is_told_and_does_not_count(part: Path) -> None:
    corpus = Iemocap()
    found = {one.id: one for one in corpus.read(edit(part, "C-E2:", "CE2")) if isinstance(one, Utterance)}
    assert found[TURN].votes == {"anger": 2, "other": 1}  # of the two others
    (told,) = (note for note in corpus.notes() if "cannot be read" in note)
    assert " lines of evaluators cannot be read and do not count" in told
    assert told.endswith("Ses01F_impro01.txt, line 4")


@pytest.mark.parametrize("defects", [["crlf", "latin1"], ["crlf", "mark"], ["apple_double"]], ids="-".join)
def test_other_line_ends_encodings_and_hidden_files_change_nothing(
    tmp_path: Path, part: Path, defects: list[str]
) -> None:
    ours = read(part)
    assert any(one.text and "café" in one.text for one in ours)
    root = iemocap.write(tmp_path / "in", sessions=[1], share=60, defects=defects)
    assert read(root) == ours
    text = (root / "Session1/dialog/transcriptions/Ses01F_script01_1.txt").read_bytes()
    assert (b"\r\n" in text, b"caf\xe9" in text, text.startswith(b"\xef\xbb\xbf")) == (
        "crlf" in defects,
        "latin1" in defects,
        "mark" in defects,
    )
    assert any(path.name.startswith("._") for path in root.rglob("*.txt")) == ("apple_double" in defects)


@pytest.mark.parametrize(
    ("defects", "says"), [(["crl"], "'crl'.*did you mean 'crlf'"), (["latin1", "mark"], "not both")]
)
def test_a_tree_with_an_unknown_defect_is_not_made(tmp_path: Path, defects: list[str], says: str) -> None:
    for corpus in ("iemocap", "msp_improv"):
        with pytest.raises(UsageError, match=says):
            official(corpus, tmp_path / "in", defects=defects)
    assert not (tmp_path / "in").exists()


def test_the_release_is_found_one_folder_below_and_with_blanks_in_its_path(tmp_path: Path) -> None:
    iemocap.write(tmp_path / "my data" / "IEMOCAP full", sessions=[2], share=90)
    found = read(tmp_path / "my data")
    assert found == [one for one in found if (tmp_path / "my data" / one.path).is_file()]
    assert found[0].path.startswith("IEMOCAP full/Session2/sentences/wav/")
    iemocap.write(tmp_path / "my data" / "copy", sessions=[2], share=90)
    with pytest.raises(SertkError, match=r"several releases.*--root"):
        read(tmp_path / "my data")
    with pytest.raises(SertkError, match=r"Session1.*--root.*EmoEvaluation"):
        read(tmp_path)


def test_turns_without_a_transcript_are_counted(part: Path) -> None:
    edit(part, f"{TURN} [", "M: [", "transcriptions")
    reader = Iemocap()
    texts = {one.id: one.text for one in reader.read(part) if isinstance(one, Utterance)}
    assert texts[TURN] is None
    assert reader.notes()[-1] == f"1 turns have no transcript, the first: {TURN}"


def test_words_of_no_list_are_kept(part: Path) -> None:
    edit(part, "C-E2:\tAnger;", "C-E2:\tNeutral state; Puzzled;")
    one = next(one for one in read(part) if one.id == TURN)
    assert one.votes == {"anger": 2, "neutral": 1, "other": 1, "puzzled": 1}


# --- the recipe ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav2vec 2.0 with random weights, as Hugging Face writes it."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sizes |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    folder = tmp_path_factory.mktemp("models") / "tiny"
    Wav2Vec2Model(Wav2Vec2Config(**sizes, conv_dim=[8] * 7)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("system", "seconds", "cut"), [("p3-baseline", 3.5, True), ("p1-ce", 0.5, False)])
def test_the_recipe_trains_segments_and_triplets_on_a_small_tree(
    tmp_path: Path, tiny: Path, capfd: pytest.CaptureFixture[str], system: str, seconds: float, cut: bool
) -> None:
    root = iemocap.write(tmp_path / "in", share=200, seconds=seconds)
    work = tmp_path / "work"
    words = ["recipe", EGS, "--work", work, "--root", root, "--fold", "Ses01"]
    words += (
        ["--backbone", f"wav2vec2:source={tiny},normalize=true"]
        if system == "p3-baseline"
        else ["--system", system, "--set", "backbone.channels=[4,4,4,8]"]
    )
    flagship = ["--loss", "triplet", "--segments", "140:70"]
    small = [word for one in ("train.epochs=1", "train.workers=0", "augment=[]") for word in ("--set", one)]
    for more in (["--stop-stage", 2], ["--stage", 3, *([] if cut else ["--stop-stage", 3])]):
        done = CliRunner().invoke(app, [str(word) for word in (*words, *more, *flagship, *small)])
        assert done.exit_code == 0, done.output
    said = capfd.readouterr().err
    uncut = r"segments 140:70: the longest training input has \d frames of this backbone, so none is cut"
    assert (re.search(uncut, said) is None) == cut  # 3.5 s are 174 frames of 20 ms
    assert Data(work / "data/iemocap").protocol("sessions").stamp == "speaker-independent"
    (log,) = work.rglob("log.jsonl")
    assert "fold=Ses01" in str(log)
    terms = json.loads(log.read_text().splitlines()[0])["terms"]
    assert sorted(terms) == ["ce", "triplet"]
    # both of the whole and of its segments, of which there are two: more than one guess at four classes is worth
    assert (terms["ce"] > 2 * 1.3) == cut
    if not cut:
        return
    scores = [json.loads(line) for line in (log.parent / "scores.jsonl").read_text().splitlines()]
    assert {line["stamp"] for line in scores} == {"speaker-independent"}
    assert all(line["id"].startswith("Ses01") for line in scores)
    (results,) = work.rglob("RESULTS.md")
    assert f"| Ses01 | 0 | {len(scores)} |" in results.read_text()


# P2 Table 3: backbone, mixup, aggregation, losses
KC = ("kl", "center")
TABLE3 = [
    *[("hubert", mix, pool, KC) for mix, pool in (("lam", "first"), (None, "flam"), ("eam", "first"))],
    *[("hubert", mix, "flam", KC) for mix in ("lam", "eam")],
    *[("wavlm", mix, pool, KC) for mix, pool in (("lam", "first"), (None, "flam"), ("eam", "first"))],
    *[("wavlm", "eam", pool, KC) for pool in ("max", "mean")],
    *[("wavlm", mix, "flam", KC) for mix in ("lam", "eam")],
    ("wavlm", "eam", "flam", (*KC, "focal")),
    ("wavlm", "eam", "flam", (*KC, "frame_supcon")),
    ("wavlm", "eam", "flam", ("kl", "focal", "center", "frame_supcon")),
]


def test_the_commands_of_the_sweep_p2_table_3_train_the_rows_of_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = iemocap.write(tmp_path / "in", share=200, seconds=0.2)
    words = ["--work", tmp_path, "--root", root]
    prepared = CliRunner().invoke(app, [str(word) for word in ("recipe", EGS, *words, "--stop-stage", 1)])
    assert prepared.exit_code == 0
    dry = CliRunner().invoke(
        app, [str(word) for word in ("sweep", "iemocap/p2-table3", *words, "--fold", "Ses01", "--dry-run")]
    )
    found: list[Settings] = []
    monkeypatch.setattr("sertk.training.run.share", lambda *given: None)  # there is no encoder here
    monkeypatch.setattr("sertk.training.run.Run.train", lambda run, out, *, force: found.append(run.settings))
    for line in dry.stdout.splitlines():
        if line.startswith("sertk train "):
            done = CliRunner().invoke(app, shlex.split(line)[1:])
            assert done.exit_code == 0, done.output
    sources = {"hubert": "facebook/hubert-large-ll60k", "wavlm": "microsoft/wavlm-large"}
    for number, (one, (backbone, mix, pool, losses)) in enumerate(zip(found, TABLE3, strict=True), 1):
        assert one.backbone.name == backbone, number
        assert {name: one.backbone.settings[name] for name in ("source", "freeze")} == {
            "source": sources[backbone],
            "freeze": "conv",
        }
        assert [augmentation.name for augmentation in one.augment] == ([mix] if mix else []), number
        assert (one.pooling.name, one.pooling.settings["project"]) == (pool, 64), number
        assert tuple(loss.name for loss in one.losses) == losses, number
        assert one.pilot == 20


def test_votes_for_labels_of_a_class_are_votes_for_the_class_and_others_do_not_count(tmp_path: Path) -> None:
    root = iemocap.write(tmp_path / "c", seconds=0.02, sessions=(1, 2, 3), share=100)
    file = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    before, turn, after = file.read_text().partition(TURN)
    after = after.replace("C-E2:\tAnger;", "C-E2:\tExcited; Happiness; Frustration;", 1)
    file.write_text(before + turn + after)
    prepare("iemocap", root, tmp_path / "data", ["sessions"], 0.01, 1)
    data = Data(tmp_path / "data")
    assert data.utterances[TURN].votes == {"anger": 2, "excitement": 1, "happiness": 1, "frustration": 1, "other": 1}
    about = {"corpus": "iemocap", "name": "sessions", "fold": "Ses01", "hash": data.protocol("sessions").hash}
    found = {one.id: one for one in of_corpus(data, {"protocol": about}, []).utterances}
    assert found[TURN].votes == {"anger": 2, "happiness": 2}
    assert {one.label for one in found.values()} == {"anger", "happiness", "neutral", "sadness"}
    assert all(one.votes == {one.label: 3} for one in found.values() if one.id != TURN)

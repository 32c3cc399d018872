"""Kaldi data directories, read in Kaldi's own rules."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from sertk.builtin.corpora.kaldi_directory import Kaldi
from sertk.core import InputError, Rejected, SertkError, Utterance
from sertk.testing.trees.anybody import SPEAKERS, TEXTS, kaldi
from sertk.testing.trees.audio import clip


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


def test_names_in_composed_and_decomposed_letters_are_one(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "jörg")
    root = small(tmp_path, utt2spk=f"ann-1 ann\nben-1 {nfd}\n", spk2gender="ann f\njörg m\n")
    _, one = read(root)[0]
    assert (one.speaker, one.gender) == ("jörg", "male")


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

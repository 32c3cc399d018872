"""Recordings as they are found: one that cannot be used costs one line of failed.jsonl, and the rest is prepared."""

import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from sertk.core import Feature, Padded, SertkError, UsageError
from sertk.core.files import digest, read_jsonl
from sertk.corpus import audio
from sertk.corpus.prepared import Data
from sertk.modeling.frontend import compute
from sertk.recipe.look import listing
from sertk.settings import merge
from sertk.stages.featurize import featurize
from sertk.stages.prepare import prepare
from sertk.testing.trees.anybody import folders
from sertk.testing.trees.audio import clip

FOLDER = "folder:speaker=([a-z]+)_,title=mine"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return folders(tmp_path / "in", seconds=0.11)  # 6 speakers x 4 classes x 2


def run(root: Path, out: Path) -> dict[str, str]:
    """Prepares a corpus; the reasons by id of what failed, after a look that each is one line of JSON."""
    failed = prepare(FOLDER, root, out, ["speakers"], 0.1, 2)
    lines = [line for _, line in read_jsonl(out / "failed.jsonl", "")] if failed else []
    assert len(lines) == failed
    return {line["id"]: line["reason"] for line in lines}


def test_every_odd_file_is_one_line_and_the_rest_is_prepared(root: Path, tmp_path: Path) -> None:
    odd = root / "anger"
    os.mkfifo(odd / "ann_pipe.wav")
    (odd / "ann_empty.wav").touch()
    (odd / "ann_text.wav").write_text("hello")
    soundfile.write(odd / "ann_huge.wav", np.full(4000, 1e30), 16000, subtype="FLOAT")
    clip(odd / "ann_cut.wav", 5, 0.5)
    (odd / "ann_cut.wav").write_bytes((odd / "ann_cut.wav").read_bytes()[:8000])
    soundfile.write(os.fsencode(odd) + b"/ann_\xff.wav", np.ones(4000) / 9, 16000)
    reasons = run(root, tmp_path / "out")
    says = {
        "pipe": "is a folder, a pipe or a device",
        "empty": "is an empty file (0 bytes)",
        "text": "is not audio",
        "huge": "(first 1e+30 at 0; 10 is allowed)",
        "cut": "is cut short: its header states 0.50 s, and 0.25 s are there",
        "\udcff": r"\udcff.wav' is a name that is not UTF-8",
    }
    assert reasons.keys() == {f"anger/ann_{name}" for name in says}
    for name, words in says.items():
        assert words in reasons[f"anger/ann_{name}"]
    assert len(Data(tmp_path / "out").utterances) == 48


@pytest.mark.parametrize("error", [RuntimeError("decoder"), MemoryError("9 GiB"), ZeroDivisionError("by 0")])
def test_what_nobody_foresaw_is_one_line_too(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def trim(samples: audio.Samples) -> bool:
        if float(samples[0, 0]) == unlucky:
            raise error
        return False

    unlucky = float(soundfile.read(root / "anger/ben_1.wav", dtype="float32")[0][0])
    monkeypatch.setattr(audio, "_silent", trim)
    (reason,) = run(root, tmp_path / "out").items()
    assert reason[0] == "anger/ben_1"
    assert reason[1].startswith(f"anger/ben_1: {type(error).__name__}: {error}")
    assert len(Data(tmp_path / "out").utterances) == 47


def test_a_corpus_with_a_name_that_is_not_utf8_can_be_looked_at(tmp_path: Path) -> None:
    for number, name in enumerate((b"a\xff.wav", b"a\xfe.wav", b"a.wav")):
        (tmp_path / str(number)).mkdir()
        Path(os.fsdecode(os.fsencode(tmp_path / str(number)) + b"/" + name)).touch()
    assert len({digest([name for name, *_ in listing(tmp_path / str(number))]) for number in range(3)}) == 3


def test_silence_is_named_and_is_nobodys_copy(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 4000)
    for name in ("anger/ann_zero.wav", "anger/ben_zero.wav"):
        soundfile.write(root / name, np.zeros(4000), 16000)
    soundfile.write(root / "anger/cleo_anti.wav", np.stack([wave, -wave], 1), 16000, subtype="FLOAT")
    soundfile.write(root / "anger/dan_faint.wav", wave * 0.01, 16000)
    silent = ["anger/ann_zero", "anger/ben_zero", "anger/cleo_anti"]
    assert run(root, tmp_path / "out") == {}  # an overlap of recordings would end the call
    about = json.loads((tmp_path / "out/corpus.json").read_text())
    assert (about["silent"], about["duplicates"]) == (silent, [])
    said = capsys.readouterr().err
    assert "3 silent (all zeros, or channels that cancel), the first: anger/ann_zero" in said
    assert "They are used: to leave them out, name them under `drop`" in said
    data = Data(tmp_path / "out")
    assert "audio" not in data.protocol("speakers").shares
    assert [i for i in data.utterances if data.facts[i].silent] == silent


def test_silence_is_looked_for_again_in_what_an_older_version_prepared(root: Path, tmp_path: Path) -> None:
    soundfile.write(root / "anger/ann_zero.wav", np.zeros(4000), 16000)
    run(root, tmp_path / "out")
    path = tmp_path / "out/audio.jsonl"
    lines = [{**line, "sha256": "old"} for _, line in read_jsonl(path, "")]
    path.write_text("".join(json.dumps({k: v for k, v in line.items() if k != "silent"}) + "\n" for line in lines))
    assert Data(tmp_path / "out").facts["anger/ann_zero"].silent is None  # and it is read
    run(root, tmp_path / "out")
    assert Data(tmp_path / "out").facts["anger/ann_zero"].silent is True


def test_a_class_in_composed_and_decomposed_letters_is_one(root: Path, tmp_path: Path) -> None:
    for number, form in enumerate(("NFC", "NFD")):
        clip(root / unicodedata.normalize(form, "tyyntä") / f"ann_{number}.wav", number, 0.11)
    run(root, tmp_path / "out")
    data = Data(tmp_path / "out")
    labels = {one.label for one in data.utterances.values()}
    assert "tyyntä" in labels
    assert len(labels) == 5
    assert {"tyyntä/ann_0", "tyyntä/ann_1"} <= data.utterances.keys()


def test_a_folder_that_cannot_be_looked_into_is_one_line(
    root: Path, tmp_path: Path, shut: Callable[[Path], None]
) -> None:
    shut(root / "sadness")
    assert run(root, tmp_path / "out") == {
        str(root / "sadness"): f"{root}/sadness cannot be looked into (Permission denied). Change its rights."
    }
    assert len(Data(tmp_path / "out").utterances) == 36


def test_a_folder_takes_every_form_that_libsndfile_reads(root: Path, tmp_path: Path) -> None:
    forms = {"mp3": "MP3", "ogg": "OGG", "CAF": "CAF", "aiff": "AIFF"}
    for seed, (suffix, form) in enumerate(forms.items()):
        wave = np.random.default_rng(seed).normal(0, 0.1, 8000)
        soundfile.write(root / f"anger/ann_{suffix}.{suffix}", wave, 16000, format=form)
    assert run(root, tmp_path / "out") == {}
    assert {f"anger/ann_{suffix}" for suffix in forms} <= Data(tmp_path / "out").utterances.keys()


def test_an_utterance_without_a_feature_is_one_line_and_the_others_have_theirs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(root, tmp_path / "out")
    data = Data(tmp_path / "out")
    unlucky = torch.from_numpy(soundfile.read(root / "anger/ben_1.wav", dtype="float32")[0])
    read = audio.read

    def refuse(feature: Feature, raw: Padded) -> Padded:
        if any(torch.equal(row[:size], unlucky) for row, size in zip(raw.data, raw.length, strict=True)):
            raise RuntimeError("no memory for this one")
        return compute(feature, raw)

    def lose(path: Path, *more: Any) -> torch.Tensor:  # noqa: ANN401
        if path.name == "dan_2.wav" and path.parent.name == "anger":
            raise OSError(5, "Input/output error", str(path))
        return read(path, *more)

    monkeypatch.setattr("sertk.stages.featurize.compute", refuse)
    monkeypatch.setattr(audio, "read", lose)
    assert featurize(data, merge.load("mini-cnn"), 1) == 2
    (store,) = (data.folder / "feats").iterdir()
    reasons = {line["id"]: line["reason"] for _, line in read_jsonl(store / "failed.jsonl", "")}
    assert reasons.keys() == {"anger/ben_1", "anger/dan_2"}
    assert reasons["anger/ben_1"].startswith("RuntimeError: no memory for this one")
    assert len(list(read_jsonl(store / "index.jsonl", ""))) == 46
    assert featurize(data, merge.load("mini-cnn"), 1) == 2  # again, and these two alone
    from sertk.stages.train import train  # late: see test_recipe

    told = r"mel: 2 utterances have no feature in .*, such as anger/(ben_1|dan_2): .*failed.jsonl says why"
    with pytest.raises(SertkError, match=told):
        train(merge.load("mini-cnn", overrides={"protocol": "speakers", "fold": "#1"}), data, tmp_path / "run")
    monkeypatch.undo()
    assert featurize(data, merge.load("mini-cnn"), 1) == 0  # it goes on where it was
    assert len(list(read_jsonl(store / "index.jsonl", ""))) == 48
    assert not (store / "failed.jsonl").exists()


def test_no_more_audio_is_read_ahead_than_the_feature_gets_at_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(root, tmp_path / "out")
    read, lengths, ahead = audio.read, list[int](), list[int]()

    def noted(*words: Any) -> torch.Tensor:  # noqa: ANN401
        lengths.append(len(found := read(*words)))
        return found

    def computed(feature: Feature, raw: Padded) -> Padded:
        ahead.append(len(lengths) - len(raw.data))
        lengths[:] = []
        return compute(feature, raw)

    monkeypatch.setattr(audio, "read", noted)
    monkeypatch.setattr("sertk.stages.featurize.compute", computed)
    assert featurize(Data(tmp_path / "out"), merge.load("mini-cnn"), 1) == 0
    assert ahead == [0, 0, 0]  # 48 recordings of one shard, 16 at once


def test_a_list_that_is_read_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "failed.jsonl").write_text('{"file": "a.wav", "label": "joy"}\n')
    with pytest.raises(UsageError, match="is read, and would be written over"):
        prepare(f"table:list={tmp_path / 'failed.jsonl'}", tmp_path, tmp_path, [], 0.1, 1)
    assert (tmp_path / "failed.jsonl").exists()


def test_two_names_that_look_the_same_are_spelled(root: Path, tmp_path: Path) -> None:
    for name in ("ann_caf\u00e9.wav", "ann_cafe\u0301.wav"):
        clip(root / "anger" / name, 5, 0.11)
    with pytest.raises(SertkError, match=r"comes twice: .*ann_cafe\\u0301\.wav' and .*ann_caf\\xe9\.wav'"):
        run(root, tmp_path / "out")

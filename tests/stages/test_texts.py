"""Speech and text in one model: trained, stored, scored; with utterances that have no transcript."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import sertk
from sertk.cli.app import app
from sertk.corpus.prepared import Data
from sertk.settings.packaged import egs
from sertk.testing.trees import iemocap

FOLD = ("--protocol", "emobox", "--fold", "1")
SMALL = [f"--set={pair}" for pair in ("train.epochs=1", "backbone.width=8", "inputs.text.units=60")]
SENTENCES = ("Kids are talking by the door", "Dogs are sitting by the door", "It is eleven o'clock")
FUSED = """
inputs:
  mel: {name: mel, n_mels: 20}
  text: {name: text}
  pieces: {name: sentencepiece, units: 60}
normalize: {mel: scalar}
crop: {length: 1.0, train: first, score: all, inputs: [mel]}
backbone:
  name: fusion
  branches:
    sound: {name: cnn_transformer, reads: mel, channels: [4], pools: [[4, 4]], layers: 0}
    letters: {name: bert, reads: text, freeze: all, source: SOURCE}
    words: {name: text_transformer, reads: pieces, width: 8, layers: 1, heads: 2, ffn: 8}
  poolings: {sound: mean_std}
  drop: 0.2
losses: [{name: ce}, {name: aux, task: gender, reads: [sound, words], weight: 0.5}]
train: {batch: 16, epochs: 3, patience: 0, threads: 1}
"""


def ran(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.stderr
    return done


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def changed(data: Path, folder: Path, texts: Callable[[dict[str, Any], int], str | None]) -> Path:
    """A copy of a prepared corpus with other transcripts, by line and number; nothing of it is stored."""
    shutil.copytree(data, folder / "ravdess", ignore=shutil.ignore_patterns("feats"))
    manifest = folder / "ravdess" / "manifest.jsonl"
    rows = [{**row, "text": texts(row, number)} for number, row in enumerate(lines(manifest))]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "ravdess"


@pytest.fixture(scope="module")
def prepared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tones; three sentences are said, and every fifth utterance has no transcript."""
    folder = tmp_path_factory.mktemp("texts")
    return changed(data, folder, lambda _, number: SENTENCES[number % 3] if number % 5 else " ")


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a fusion of sound, frozen BERT and pieces."""
    folder = tmp_path_factory.mktemp("run")
    system = folder / "system.yaml"
    system.write_text(FUSED.replace("SOURCE", str(save_bert(folder / "bert"))))
    ran("featurize", prepared, "--system", system)
    done = ran("train", prepared, "--system", system, *FOLD, "--out", folder / "run")
    (folder / "said").write_text(done.stderr)
    return folder / "run"


def save_bert(folder: Path) -> Path:
    """A BERT with random weights and its tokenizer, as Hugging Face writes them."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "kids", "dogs", "are", "door"]
    BertTokenizerFast(vocab={word: place for place, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)  # type: ignore[arg-type]
    return folder


def save_wav2vec2(folder: Path) -> Path:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    sizes |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    Wav2Vec2Model(Wav2Vec2Config(**sizes, conv_dim=[8] * 7)).save_pretrained(folder)
    return folder


def test_training_says_how_many_have_no_transcript(prepared: Path, run: Path) -> None:
    data = Data(prepared)
    fold = data.protocol("emobox").fold("1")
    said = (run.parent / "said").read_text()
    for part in ("train", "dev"):
        ids = getattr(fold, part)
        lacking = sum(data.utterances[i].transcript is None for i in ids)
        assert 0 < lacking < len(ids)
        assert f"{lacking} of {len(ids)} {part} utterances have no transcript" in said


def test_the_frozen_branch_is_stored_once_for_each_text(prepared: Path) -> None:
    shards = [load_file(path) for path in (prepared / "feats").glob("*/*.safetensors")]
    texts = {one.transcript for one in Data(prepared).utterances.values()} - {None}
    letters = [name for shard in shards for name, rows in shard.items() if rows.shape == (1, 16)]
    assert len(letters) == len({*letters}) == len(texts) == 3


def test_the_vector_of_what_is_lacking_is_learned(run: Path) -> None:
    weights = load_file(run / "model" / "model.safetensors")
    assert {name: weights[f"backbone.lacking.{name}"].any().item() for name in ("letters", "words")} == {
        "letters": True,
        "words": True,
    }


def test_the_bundle_scores_alike_from_the_store_and_from_audio(prepared: Path, run: Path, tmp_path: Path) -> None:
    found = {}
    for source in ("store", "audio"):
        done = ran("score", run / "model", prepared, "--out", tmp_path / f"{source}.jsonl", "--from", source)
        found[source] = lines(tmp_path / f"{source}.jsonl")
        metrics = json.loads((tmp_path / f"{source}.metrics.json").read_text())
        assert metrics["took"]["from"] == source
        lacking = metrics["without_transcript"]
        assert (
            f"the model reads transcripts, and {lacking} of {metrics['utterances']} utterances have none" in done.stderr
        )
    for one, other in zip(found["store"], found["audio"], strict=True):
        assert one["id"] == other["id"]
        assert one["logits"] == pytest.approx(other["logits"], abs=1e-4)


def test_a_transcript_matters_and_a_lacking_one_is_not_an_empty_guess(run: Path, corpus: Path) -> None:
    model = sertk.load(run / "model")
    file = next(corpus.rglob("*.wav"), None) or next(corpus.rglob("*.flac"))
    silent, said, other = (model(file, text) for text in (None, "Kids are talking by the door", "Dogs"))
    assert silent == model(file) == model(file, "  ")
    assert len({tuple(one.values()) for one in (silent, said, other)}) == 3


@pytest.mark.parametrize("form", ["text", "asr.jsonl"])
def test_transcripts_are_taken_from_a_file(run: Path, corpus: Path, tmp_path: Path, form: str) -> None:
    files = sorted(corpus.rglob("*.wav"))[:3]
    (tmp_path / "wav.scp").write_text("".join(f"u{n} {file}\n" for n, file in enumerate(files)))
    texts = {"u0": "Kids are talking by the door", "u2": "Dogs", "v9": "of another"}
    jsonl = [json.dumps({"id": name, "text": text}) for name, text in texts.items()]
    rows = [f"{name} {text}" for name, text in texts.items()] if form == "text" else jsonl
    (tmp_path / form).write_text("\n".join(rows) + "\n")
    out = tmp_path / "scores.jsonl"
    done = ran("score", run / "model", tmp_path / "wav.scp", "--text", tmp_path / form, "--out", out)
    assert f"{form}: transcripts of 2 of 3 utterances" in done.stderr
    assert "and 1 of 3 utterances have none" in done.stderr
    model = sertk.load(run / "model")
    wanted = [model(file, texts.get(f"u{n}")) for n, file in enumerate(files)]
    for line, posterior in zip(lines(out), wanted, strict=True):
        assert line["posterior"] == pytest.approx([*posterior.values()], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        ("text", "x1 Dogs\n", 2, "none of an utterance that is scored: its first id is 'x1', theirs is 'u0'"),
        ("text", "u0 Dogs\nu0 Cats\n", 1, "text:2: id 'u0' comes twice"),
        ("t.jsonl", '{"id": "u0", "words": "Dogs"}\n', 1, "t.jsonl:1: no id and text"),
        ("t.jsonl", '{"id": "u0", "text": 3}\n', 1, "t.jsonl:1: no id and text"),
    ],
)
def test_a_file_of_transcripts_that_cannot_be_used_is_refused(
    run: Path, corpus: Path, tmp_path: Path, name: str, content: str, code: int, says: str
) -> None:
    (tmp_path / "wav.scp").write_text(f"u0 {next(corpus.rglob('*.wav'))}\n")
    (tmp_path / name).write_text(content)
    words = ["score", run / "model", tmp_path / "wav.scp", "--text", tmp_path / name, "--out", tmp_path / "x.jsonl"]
    done = ran(*words, code=code)
    assert says in " ".join(done.stderr.split())


def test_a_run_of_text_alone_refuses_utterances_without_one(prepared: Path, tmp_path: Path) -> None:
    done = ran("train", prepared, "--system", "text-transformer", *FOLD, "--out", tmp_path / "run", code=1)
    assert "train utterances have no transcript" in done.stderr
    assert "the model reads nothing else" in done.stderr


def test_pieces_follow_from_the_transcripts_of_train_alone(data: Path, tmp_path: Path) -> None:
    fold = Data(data).protocol("emobox").fold("1")
    others = {*fold.dev, *fold.test}
    texts: dict[str, Callable[[dict[str, Any], int], str]] = {
        "as they are": lambda _, number: SENTENCES[number % 3],
        "others": lambda row, number: f"zyx {row['id']} qqq" if row["id"] in others else SENTENCES[number % 3],
    }
    pieces, found = [], list[Mapping[str, torch.Tensor]]()
    for name, said in texts.items():
        own = changed(data, tmp_path / name, said)
        ran("train", own, "--system", "text-transformer", *FOLD, *SMALL, "--out", tmp_path / name / "run")
        model = tmp_path / name / "run" / "model"
        pieces.append(json.loads((model / "bundle.json").read_text())["files"]["text"])
        found.append(load_file(model / "model.safetensors"))
    assert pieces[0] == pieces[1]
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(weight, found[1][name]) for name, weight in found[0].items())


def test_a_bundle_of_text_alone_lists_who_has_none(data: Path, prepared: Path, tmp_path: Path) -> None:
    ran("train", data, "--system", "text-transformer", *FOLD, *SMALL, "--out", tmp_path / "run")
    out = tmp_path / "scores.jsonl"
    ran("score", tmp_path / "run" / "model", prepared, "--out", out, code=3)
    corpus, failed = Data(prepared), lines(tmp_path / "failed.jsonl")
    ids = corpus.protocol("emobox").fold("1").test
    assert {one["id"] for one in failed} == {i for i in ids if corpus.utterances[i].transcript is None}
    assert "the model reads nothing else" in failed[0]["reason"]
    assert len(lines(out)) == len(ids) - len(failed)


def test_a_fusion_that_is_killed_goes_on_to_the_same_bits(prepared: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words: list[object] = ["train", prepared, "--system", run.parent / "system.yaml", *FOLD, "--out", out]
    words += [f"--set=train.checkpoint_{pair}" for pair in ("steps=1", "seconds=0")]
    process = subprocess.Popen([sys.executable, "-m", "sertk", *map(str, words)], stderr=subprocess.PIPE)
    while process.poll() is None and len([*out.glob("checkpoints/*/[0-9]*.pt")]) == 0:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    ran(*words)
    whole, gone_on = (load_file(one / "model" / "model.safetensors") for one in (run, out))
    assert all(torch.equal(weight, gone_on[name]) for name, weight in whole.items())


def test_p4_with_three_inputs_and_gender_from_iemocap_to_the_table(tmp_path: Path) -> None:
    """With a small CNN, and a small encoder of speech in the place of VGGish, which has 289 MB."""
    source = save_wav2vec2(tmp_path / "speech")
    speech = f"{{name: wav2vec2, source: {source}, normalize: false, freeze: all, reads: wave}}"
    parts = {"image": "{name: spectrogram_cnn, reads: spectrogram}", "audio": speech}
    parts["text.source"] = str(save_bert(tmp_path / "bert"))
    small = [f"--set=backbone.branches.{name}={value}" for name, value in parts.items()]
    small += [f"--set={pair}" for pair in ("protocol=p4", "train.epochs=1", "crop.length=0.5")]
    root, data, out = iemocap.write(tmp_path / "in", share=200, seconds=0.5), tmp_path / "data", tmp_path / "run"
    system = ("--system", "p4-mtap-mtl-b-apfl", "--config", egs() / "iemocap" / "recipe.yaml", *small)
    ran("prepare", "iemocap", "--root", root, "--out", data, "--protocol", "p4")
    ran("featurize", data, *system)
    ran("train", data, *system, "--fold", "#1", "--out", out)
    ran("score", out / "model", data, "--out", out / "scores.jsonl")
    ran("report", out, "--out", tmp_path)
    assert sorted(lines(out / "log.jsonl")[0]["terms"]) == ["apfl", "aux"]
    about = json.loads((out / "model" / "bundle.json").read_text())
    assert about["heads"]["aux_gender"]["reads"] == ["image", "audio"]
    assert about["components"]["inputs"].keys() == {"spectrogram", "text_frozen", "audio_frozen"}
    weights = load_file(out / "model" / "model.safetensors")
    # the image is 128 wide, the text 16 and the audio 12; emotion sees all of them, gender two
    assert weights["heads.emotion.weight"].shape == (4, 128 + 16 + 12)
    assert [one.shape for name, one in weights.items() if "aux_gender" in name and one.dim() == 2] == [(2, 128 + 12)]
    assert lines(out / "scores.jsonl")
    assert (tmp_path / "RESULTS.md").is_file()


def test_a_run_goes_on_with_the_transcripts_that_it_began_with(prepared: Path, run: Path, tmp_path: Path) -> None:
    other = changed(prepared, tmp_path, lambda row, number: "Cats" if number == 1 else row.get("text"))
    done = ran("train", other, "--system", run.parent / "system.yaml", *FOLD, "--out", run, code=1)
    assert "texts" in done.stderr


def test_a_shard_without_a_line_in_the_file_of_transcripts_is_scored(run: Path, corpus: Path, tmp_path: Path) -> None:
    files = sorted(corpus.rglob("*.wav"))[:3]
    (tmp_path / "wav.scp").write_text("".join(f"u{n} {file}\n" for n, file in enumerate(files)))
    (tmp_path / "text").write_text("u0 Dogs\n")
    words = ["score", run / "model", tmp_path / "wav.scp", "--text", tmp_path / "text"]
    ran(*words, "--shard", "3/3", "--out", tmp_path / "scores.jsonl")
    assert [line["id"] for line in lines(tmp_path / "scores.jsonl")] == ["u2"]


def test_a_model_of_text_refuses_who_has_none_though_the_run_has_other_inputs(prepared: Path, tmp_path: Path) -> None:
    unread = ("--set", "inputs.mel={name: mel}", "--set", "backbone.reads=text")
    done = ran("train", prepared, "--system", "text-transformer", *FOLD, *SMALL, *unread, "--out", tmp_path, code=1)
    assert "the model reads nothing else" in done.stderr


def test_half_a_character_of_a_transcript_is_a_mark_and_no_end_of_the_run(run: Path, corpus: Path) -> None:
    model = sertk.load(run / "model")
    file = next(corpus.rglob("*.wav"))
    assert model(file, "Dogs \ud83d") == model(file, "Dogs \ufffd")


def test_where_nobody_in_train_has_a_transcript_nothing_is_learned(data: Path, run: Path, tmp_path: Path) -> None:
    fold = {*Data(data).protocol("emobox").fold("1").train}
    own = changed(data, tmp_path, lambda row, _: None if row["id"] in fold else "Dogs")
    system = (run.parent / "system.yaml").read_text().replace("  pieces: {name: sentencepiece, units: 60}\n", "")
    system = "\n".join(line for line in system.splitlines() if "words:" not in line).replace(", words]", "]")
    (tmp_path / "system.yaml").write_text(system)
    done = ran("train", own, "--system", tmp_path / "system.yaml", *FOLD, "--out", tmp_path / "run", code=1)
    assert "there is nothing to learn from" in done.stderr

"""Pretrained encoders: exact at any length, frozen ones computed once, and bundles that need no checkpoint."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from sertk.builtin.backbones.common import on_meta, pretrained
from sertk.builtin.backbones.frames import Frames
from sertk.builtin.backbones.whisper import Whisper
from sertk.builtin.features.frozen import Frozen
from sertk.builtin.poolings import AttentiveStatistics, MeanStd
from sertk.cli.app import app
from sertk.core import Backbone, FrameSpec, InputSpec, Padded, SertkError, UsageError, hash_of
from sertk.corpus.features import Store, stores, write_shard
from sertk.corpus.prepared import Data
from sertk.hookspecs import hookimpl
from sertk.modeling import bundle
from sertk.modeling.build import with_frozen
from sertk.plugins import Plugins, manager
from sertk.scoring.scorer import Scorer
from sertk.settings import merge
from sertk.settings.schema import Component, OptimizerSpec, Settings, TrainSettings
from sertk.stages.featurize import featurize
from sertk.testing import signed
from sertk.training.loading import Reader
from sertk.training.optim import layer_rates

WAVE = {"wave": InputSpec(1, 1 / 16_000)}
SIZES = {"d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
DECODER = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8, "vocab_size": 20}
TOKENS = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)


def save_encoder(folder: Path, seed: int = 0, *, whole: bool = False) -> Path:
    """A tiny Whisper as Hugging Face writes it: the encoder alone, or with its decoder."""
    from transformers import WhisperConfig, WhisperModel
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    torch.manual_seed(seed)
    model = (WhisperModel if whole else WhisperEncoder)(WhisperConfig(**SIZES, **DECODER, **TOKENS))
    with torch.no_grad():  # larger than at its initialisation, so that attention and positions matter
        for value in model.parameters():
            value.mul_(4.0)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("models") / "tiny")


def test_a_model_on_the_meta_device_is_there_whole_after_an_encoder_was_read(source: Path) -> None:
    torch.utils._device._device_constructors.cache_clear()  # as in a process that begins
    whisper(source)
    with torch.device("meta"):
        assert torch.linspace(0, 1, 3).is_meta


def waves(*seconds: float) -> Padded:
    """(B, S, 1) noise."""
    torch.manual_seed(1)
    rows = Padded.stack([0.1 * torch.randn(round(16_000 * s)) for s in seconds])
    return Padded(rows.data[..., None], rows.length)


def whisper(source: Path, **settings: object) -> Whisper:
    return Whisper(WAVE, source=str(source), **settings).eval()  # type: ignore[arg-type]


def frozen_whisper(source: Path, pool: Literal["mean", "mean_std"] | None = None) -> Frozen:
    """The feature, of all layers."""
    return Frozen(16_000, lambda inputs: Whisper(inputs, source=str(source), layers="all"), pool)


@torch.no_grad()
def frames(backbone: Whisper, rows: Padded) -> Padded:
    return backbone({"wave": rows})


def row(rows: Padded, place: int) -> Padded:
    size = int(rows.length[place])
    return Padded(rows.data[place : place + 1, :size], rows.length[place : place + 1])


# ---------------------------------------------------------------- Whisper


@torch.no_grad()
def test_padded_to_30_s_it_is_what_hugging_face_computes(source: Path) -> None:
    from transformers import WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    rows = waves(1.0, 0.73)
    front = WhisperFeatureExtractor(feature_size=80)
    mel = front([x.numpy() for x in rows.data[..., 0]], sampling_rate=16_000, return_tensors="pt").input_features
    theirs = WhisperEncoder.from_pretrained(source).eval()(mel, output_hidden_states=True).hidden_states
    ours = frames(whisper(source, layers="all", window="30s"), rows)
    assert ours.length.tolist() == [50, 37]
    torch.testing.assert_close(ours.data[0], torch.cat(theirs, 2)[0, :50], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", ["real", "30s"])
def test_a_row_is_the_same_alone_and_among_others(source: Path, window: str) -> None:
    rows, made = waves(1.3, 0.5, 0.011, 1.299, 0.0001), whisper(source, layers="all", window=window)
    together = frames(made, rows)
    for place in range(len(rows.length)):
        alone = frames(made, row(rows, place))
        size = int(alone.length[0])
        assert size == int(together.length[place])
        gap = (alone.data[0] - together.data[place, :size]).abs().max() / alone.data.abs().max()
        assert gap < 1e-5


def test_the_real_length_is_another_front_end_than_30_s(source: Path) -> None:
    rows = waves(1.0)
    real, padded = (frames(whisper(source, window=window), rows).data for window in ("real", "30s"))
    assert (real - padded).norm() / padded.norm() > 0.05


def test_layers_are_the_last_one_all_or_their_learned_sum(source: Path) -> None:
    rows = waves(0.5, 0.3)
    states = frames(whisper(source, layers="all"), rows).data.unflatten(2, (4, 16))
    for setting, wanted in (("last", states[:, :, 3]), (1, states[:, :, 1]), ("weighted", states.mean(2))):
        made = whisper(source, layers=setting)
        torch.testing.assert_close(frames(made, rows).data, wanted)
        assert (made.width, made.layers) == (16, 1)
    assert (whisper(source, layers="all").width, whisper(source, layers="all").layers) == (64, 4)


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("none", {"conv1", "conv2", "0", "1", "2", "layer_norm"}),
        ("conv", {"0", "1", "2", "layer_norm"}),
        (2, {"2", "layer_norm"}),
        ("all", set()),
    ],
)
def test_freezing_begins_at_the_input(source: Path, freeze: object, trained: set[str]) -> None:
    made = whisper(source, freeze=freeze)
    names = [name.split(".") for name, value in made.encoder.named_parameters() if value.requires_grad]
    assert {name[1] if name[0] == "layers" else name[0] for name in names} == trained


def test_its_groups_are_every_parameter_but_the_positions_once(source: Path) -> None:
    made = whisper(source)
    grouped = [id(value) for group in made.groups() for value in group]
    every = {id(value) for value in made.encoder.parameters()} - {id(made.encoder.embed_positions.weight)}
    assert len(grouped) == len(set(grouped)) == len(every)
    assert set(grouped) == every
    assert len(made.groups()) == 5


def test_a_whole_whisper_gives_its_encoder(tmp_path: Path) -> None:
    whole = save_encoder(tmp_path / "whole", whole=True)
    state = {name: value for name, value in load_file(whole / "model.safetensors").items() if "encoder." in name}
    made = whisper(whole).encoder.state_dict()
    assert made.keys() == {name.partition("encoder.")[2] for name in state}
    assert all(torch.equal(made[name.partition("encoder.")[2]], value) for name, value in state.items())


def test_what_is_no_whisper_checkpoint_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SertkError, match=r"no Whisper checkpoint at '.*nowhere'.*Give the folder that holds"):
        whisper(tmp_path / "nowhere")
    torn = shutil.copytree(source, tmp_path / "torn")
    weights = load_file(torn / "model.safetensors")
    del weights["layers.1.fc1.weight"]
    save_file(weights, torn / "model.safetensors", {"format": "pt"})
    with pytest.raises(SertkError, match=r"checkpoint without \['layers.1.fc1.weight'\]; give a Whisper one"):
        whisper(torn)


def test_wrong_settings_and_waves_are_refused(source: Path) -> None:
    with pytest.raises(UsageError, match="needs a source"):
        Whisper(WAVE)
    with pytest.raises(UsageError, match="layers is 9; it is from 0 to 3"):
        whisper(source, layers=9)
    with pytest.raises(UsageError, match="reads waves of 16000 Hz, and 'mel' is something else"):
        Whisper({"mel": InputSpec(80, 0.01)}, source=str(source))
    with pytest.raises(UsageError, match="config has no 'layers'"):
        Whisper(WAVE, config={"layers": 2})
    with pytest.raises(SertkError, match=r"of 30.1 s is longer than the 30 s that Whisper takes\. Cut the file"):
        frames(whisper(source), waves(30.1))


def test_layer_wise_rates_fall_from_the_output_to_the_input(source: Path) -> None:
    train = TrainSettings(optimizer=OptimizerSpec("adam", lr=0.1), backbone_rate=0.5, layer_decay=0.1)
    rates = layer_rates(whisper(source, freeze=1).groups(), train)
    assert {round(rate, 9): len(group) for rate, group in rates.items()} == {0.05: 2, 0.005: 15, 0.0005: 15}
    assert layer_rates(whisper(source).groups(), replace(train, backbone_rate=1.0, layer_decay=1.0)) == {}
    with pytest.raises(UsageError, match="factors of the optimizer's lr"):
        layer_rates(whisper(source).groups(), replace(train, optimizer=OptimizerSpec("adam")))


# ---------------------------------------------------------------- statistics

# two windows of 3 and 2 real frames; the padding holds rubbish
POOLED = torch.tensor([[[1.0, -10], [3, -20], [5, -60]], [[-1, 2], [-3, 4], [99, 99]]])
MASK = torch.tensor([[True, True, True], [True, True, False]])
MEAN_STD = torch.tensor([[3, -30, (8 / 3) ** 0.5, (1400 / 3) ** 0.5], [-2, 3, 1, 1]])


@pytest.mark.parametrize("pooling", [MeanStd, AttentiveStatistics])
def test_statistics_are_of_real_frames(pooling: type[MeanStd] | type[AttentiveStatistics]) -> None:
    made = pooling(FrameSpec(2))
    for value in made.parameters():  # equal attention is no attention
        torch.nn.init.zeros_(value)
    torch.testing.assert_close(made(POOLED, MASK).embedding, MEAN_STD)
    assert (made.out, pooling(FrameSpec(2), 3).out) == (4, 3)


def test_attention_weighs_frames_by_dimension() -> None:
    made = AttentiveStatistics(FrameSpec(2), bottleneck=1)
    first, _, last = made.attention
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1e3, 0.0]]))  # tanh: 1 where the first dimension is positive, else -1
        first.bias.fill_(-4e3)  # positive from 4 on: the last frame of the first window
        last.weight.copy_(torch.tensor([[50.0], [0.0]]))
    embedding = made(POOLED[:1], MASK[:1]).embedding[0]
    torch.testing.assert_close(embedding, torch.tensor([5.0, -30, 0, (1400 / 3) ** 0.5]), atol=1e-4, rtol=0)


def test_frozen_statistics_stand_layer_by_layer(source: Path) -> None:
    rows = waves(0.5, 0.31)
    flat = Padded(rows.data[..., 0], rows.length)
    found = frozen_whisper(source, "mean_std")(flat)
    assert found.data.shape == (2, 1, 128)
    assert found.length.tolist() == [1, 1]
    states = frames(whisper(source, layers="all"), row(rows, 1)).data[0]  # (T, 4 x 16)
    wanted = torch.cat([x for part in states.split(16, 1) for x in (part.mean(0), part.std(0, correction=0))])
    torch.testing.assert_close(found.data[1, 0], wanted, atol=1e-5, rtol=1e-4)


def test_a_learned_sum_of_cached_layers_is_that_of_the_encoder(source: Path) -> None:
    rows = waves(0.4, 0.2)
    cached = frozen_whisper(source)(Padded(rows.data[..., 0], rows.length))
    made = Frames({"x": InputSpec(64, 0.02, layers=4)}, layers="weighted")
    encoder = whisper(source, layers="weighted")
    weights = torch.tensor([0.3, -1.0, 2.0, 0.0])
    assert made.sum is not None
    assert encoder.sum is not None
    for one in (made.sum, encoder.sum):
        one.weight.data.copy_(weights)
    found, wanted = made({"x": cached}), frames(encoder, rows)
    assert made.width == 16
    torch.testing.assert_close(found.data[wanted.mask], wanted.data[wanted.mask])


# ---------------------------------------------------------------- frozen is cached


def settings(source: Path | str, **more: object) -> Settings:
    backbone = {"name": "whisper", "source": str(source), "layers": "all", "freeze": "all"}
    inputs = {"wave": {"name": "wave"}}
    own = {"inputs": inputs, "backbone": backbone, "protocol": "emobox", "fold": "1", "train.epochs": 1}
    return merge.load(None, None, {**own, "train.device": "cpu", **more})


def probe(source: Path | str, **more: object) -> Settings:
    inside = {"name": "whisper", "source": str(source), "layers": "all"}
    inputs = {"whisper": {"name": "frozen", "backbone": inside, "pool": "mean_std"}}
    own = {"inputs": inputs, "backbone": "frames", "protocol": "emobox", "fold": "1", "train.epochs": 2}
    return merge.load(None, None, {**own, "train.device": "cpu", **more})


@pytest.mark.parametrize("layers", ["last", "weighted"])
def test_a_backbone_frozen_whole_is_a_cached_feature(source: Path, layers: str) -> None:
    frozen = {"name": "whisper", "source": str(source), "layers": layers, "freeze": "all"}
    read = with_frozen(Plugins(), settings(source, backbone=frozen))
    inside = {"name": "whisper", "source": str(source), "layers": "all" if layers == "weighted" else layers}
    assert read.inputs == {"frozen": Component("frozen", {"backbone": inside})}
    assert read.backbone == Component("frames", {"layers": "weighted" if layers == "weighted" else "keep"})
    kept = with_frozen(Plugins(), settings(source, backbone={**frozen, "freeze": "none"}))
    assert (kept.inputs, kept.backbone.name) == ({"wave": Component("wave")}, "whisper")


def copied(data: Path, folder: Path) -> Data:
    return Data(shutil.copytree(data, folder / "data", ignore=shutil.ignore_patterns("feats")))


def test_its_size_is_said_before_it_is_written_and_a_rerun_is_free(
    data: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, read = copied(data, tmp_path), settings(source)
    place = stores(own.folder, with_frozen(Plugins(), read), Plugins())["frozen"].folder
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(SertkError, match=r"frozen needs .* [kM]B and .* has .* [kM]?B free\. Make room, cache less"):
        featurize(own, read, 1)
    assert not place.exists()
    monkeypatch.undo()
    featurize(own, read, 1)
    announced = re.findall(r"about (\d+) frames of (\d+),", capsys.readouterr().err)[-1]
    store = Store(place)
    held = [store[sha] for sha in {fact.sha256 for fact in own.facts.values()}]
    assert announced == (str(sum(len(one) for one in held)), "64")
    times = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    featurize(own, read, 1)
    assert "nothing to do" in capsys.readouterr().err
    assert times == {path: path.stat().st_mtime_ns for path in place.iterdir()}


def test_a_changed_checkpoint_never_gives_a_stale_feature(data: Path, source: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(source, tmp_path / "moved")

    def key() -> str:
        return stores(data, probe(moved), Plugins())["whisper"].folder.name

    first = key()
    assert first == stores(data, probe(source), Plugins())["whisper"].folder.name  # wherever it lies
    weights = load_file(moved / "model.safetensors")
    weights["layers.0.fc1.bias"][0] += 1e-3
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    second = key()
    third = stores(data, probe(moved, **{"audio.trim_db": 30.0}), Plugins())["whisper"].folder.name
    assert len({first, second, third}) == 3


def test_several_processes_and_batches_give_what_one_file_gives(data: Path, source: Path, tmp_path: Path) -> None:
    own, read = copied(data, tmp_path), probe(source)
    featurize(own, read, 2)
    store = stores(own.folder, read, Plugins())["whisper"]
    feature = frozen_whisper(source, "mean_std")
    waves = Reader(own, read.audio, {}, ["wave"])
    for one in list(own.utterances.values())[::17]:
        wanted = feature(waves([one])["wave"]).data[0]
        torch.testing.assert_close(store[own.facts[one.id].sha256], wanted, atol=1e-4, rtol=1e-4)


def test_inputs_that_are_cached_and_computed_come_together(data: Path) -> None:
    read = merge.load("mini-cnn", None, {"inputs": {"wave": {"name": "wave"}}})
    kept = stores(data, read, Plugins())
    assert set(kept) == {"mel"}
    own = Data(data)
    found = Reader(own, read.audio, kept, ["wave"])(list(own.utterances.values())[:3])
    assert set(found) == {"mel", "wave"}


def test_the_name_of_the_wave_is_its_own(data: Path) -> None:
    read = merge.load("mini-cnn", None, {"inputs": {"wave": {"name": "mel"}}})
    with pytest.raises(UsageError, match="the input name 'wave' is the wave's own"):
        stores(data, read, Plugins())


# ---------------------------------------------------------------- stores


def shard(*names: str) -> Mapping[str, Tensor]:
    return {name: torch.full((2, 3), float(len(name))) for name in names}


def test_writers_need_neither_locks_nor_each_others_index(tmp_path: Path) -> None:
    ours, theirs = Store(tmp_path), Store(tmp_path)
    write_shard(tmp_path, shard("a", "b"))
    ours.index()
    write_shard(tmp_path, shard("c"))
    theirs.index()
    index = (tmp_path / "index.jsonl").read_text()
    write_shard(tmp_path, shard("d"))  # and killed before it could index
    (tmp_path / "index.jsonl").write_text("\n".join(index.splitlines()[:2]) + "\n")  # an older index over a newer
    assert all(name in Store(tmp_path) for name in "abcd")
    assert Store(tmp_path)["d"].shape == (2, 3)


def test_a_shard_that_is_gone_or_unfinished_does_not_count(tmp_path: Path) -> None:
    write_shard(tmp_path, shard("a"))
    write_shard(tmp_path, shard("b"))
    store = Store(tmp_path)
    store.index()
    gone = next(path for path in tmp_path.glob("*.safetensors") if path.name == store._shards["a"])
    gone.unlink()
    assert "a" not in Store(tmp_path)
    assert "b" in Store(tmp_path)


def featurize_slowly(folder: Path) -> None:
    """In a process of its own: many small shards."""
    from sertk.stages import featurize as stage

    stage.CHUNK = 8
    featurize(Data(folder), merge.load("mini-cnn"), 1)


def test_a_kill_loses_no_shard_that_was_written_and_leaves_no_half_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, read = copied(data, tmp_path), merge.load("mini-cnn")
    folder = stores(own.folder, read, Plugins())["mel"].folder
    process = multiprocessing.get_context("spawn").Process(target=featurize_slowly, args=(own.folder,))
    process.start()
    while process.is_alive() and not list(folder.glob("*.safetensors")):
        time.sleep(0.001)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert 0 < len(times) < len(own.utterances) / 8
    left = folder / ".half.safetensors.x7"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert len(Store(folder)._shards) == 8 * len(times)
    featurize(own, read, 1)
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert not left.exists()
    whole, found = stores(data, read, Plugins())["mel"], Store(folder)
    for fact in own.facts.values():
        torch.testing.assert_close(found[fact.sha256], whole[fact.sha256], atol=1e-4, rtol=0)


# ---------------------------------------------------------------- bundles


def train(*words: object, **more: object) -> None:
    # late: speechbrain's lazy modules break hypothesis' look at what is imported when tests are collected
    from sertk.stages.train import train as stage

    stage(*words, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["probe", "finetune"])
def test_a_bundle_needs_no_checkpoint_and_says_which_it_began_with(
    data: Path, corpus: Path, source: Path, tmp_path: Path, kind: str
) -> None:
    own, mine = copied(data, tmp_path), shutil.copytree(source, tmp_path / "mine")
    tuned = {"name": "whisper", "source": str(mine), "layers": "weighted", "freeze": 1}
    document = probe(mine) if kind == "probe" else settings(mine, backbone=tuned, normalize="none")
    featurize(own, document, 1)
    train(document, own, tmp_path / "run")
    paths = sorted(corpus.rglob("*.wav"))[:3]
    before = [Scorer(tmp_path / "run/model")(path) for path in paths]
    shutil.rmtree(mine)
    moved = (tmp_path / "run/model").rename(tmp_path / "moved")
    scorer = Scorer(moved)
    assert [scorer(path) for path in paths] == before
    text = (moved / "bundle.json").read_text()
    assert '"window": "real"' in text  # the front end is spelled out
    assert str(tmp_path) not in text
    began, made = json.loads(text)["training"]["weights"], whisper(source)
    if kind == "probe":
        assert began == {"whisper": hash_of(made.state_dict())}
    else:  # of its frozen part alone, and of the whole checkpoint
        lower = whisper(source, layers="all", up_to=1)
        assert began == {"frozen": hash_of(lower.state_dict()), "backbone": hash_of(made.encoder.state_dict())}


def test_a_run_reads_the_weights_of_its_backbone_once(
    data: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def counted(name: str, *words: Any) -> Any:  # noqa: ANN401
        loaded.extend([] if on_meta() else [name])
        return pretrained(name, *words)

    monkeypatch.setattr("sertk.builtin.backbones.whisper.pretrained", counted)
    tuned = {"name": "whisper", "source": str(source), "freeze": "none"}
    train(settings(source, backbone=tuned, normalize="none"), copied(data, tmp_path), tmp_path / "run")
    assert loaded == ["Whisper"]


def test_a_bundle_without_its_frozen_weights_is_refused(data: Path, source: Path, tmp_path: Path) -> None:
    own = copied(data, tmp_path)
    featurize(own, probe(source), 1)
    train(probe(source), own, tmp_path / "run")
    path = tmp_path / "run/model/bundle.json"
    about = json.loads(path.read_text())
    assert about["files"]["whisper"].keys() == {"weights.safetensors"}
    path.write_text(json.dumps({**about, "files": {}}))
    signed(path.parent)
    with pytest.raises(SertkError, match=r"lacks weights\.safetensors of its frozen backbone"):
        bundle.read(tmp_path / "run/model", Plugins())


def test_the_probes_of_a_recipe_share_one_file_of_frozen_weights(corpus: Path, source: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    inside = {"name": "whisper", "source": str(source), "layers": "all"}
    text = {"corpus": "ravdess", "protocol": "emobox", "system": "whisper-probe", "folds": ["1", "2"], "seeds": [0]}
    text |= {"inputs": {"whisper": {"name": "frozen", "backbone": inside, "pool": "mean_std"}}, "jobs": 1}
    recipe.write_text(json.dumps({**text, "train": {"epochs": 1, "threads": 1}}))
    words = ["recipe", str(recipe), "--root", str(corpus), "--work", str(tmp_path / "work"), "--stop-stage", "score"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    one, other = sorted((tmp_path / "work").rglob("model/files/*"))
    assert one.samefile(other)
    again = CliRunner().invoke(app, [*words, "--dry-run"])
    assert not again.stdout
    other.unlink()
    again = CliRunner().invoke(app, [*words, "--dry-run"])
    (trained,) = (line for line in again.stdout.splitlines() if line.startswith("sertk train "))
    assert "--fold 2 " in trained


def test_the_statistics_of_the_training_fold_standardise_what_is_pooled(
    data: Path, source: Path, tmp_path: Path
) -> None:
    own = copied(data, tmp_path)
    featurize(own, probe(source), 1)
    train(probe(source), own, tmp_path / "run")
    state = load_file(tmp_path / "run/model/model.safetensors")
    store = stores(own.folder, probe(source), Plugins())["whisper"]
    ids = own.protocol("emobox").fold("1").train
    rows = torch.cat([store[own.facts[i].sha256] for i in ids])
    torch.testing.assert_close(state["normalize.whisper.mean"], rows.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(state["normalize.whisper.scale"], rows.std(0, correction=0), atol=1e-3, rtol=1e-2)


def test_a_recipe_notices_a_changed_checkpoint(corpus: Path, source: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(source, tmp_path / "mine")
    tuned = {"name": "whisper", "source": str(mine)}
    recipe = tmp_path / "recipe.yaml"
    text = {"corpus": "ravdess", "protocol": "emobox", "system": "mini-cnn", "folds": ["1"], "normalize": "none"}
    text |= {"inputs": {"mel": {"name": "mel"}, "wave": {"name": "wave"}}, "backbone": {**tuned, "reads": "wave"}}
    recipe.write_text(json.dumps({**text, "train": {"epochs": 1, "threads": 1}}))
    words = ["recipe", str(recipe), "--root", str(corpus), "--work", str(tmp_path / "work"), "--stop-stage", "train"]
    assert CliRunner().invoke(app, words).exit_code == 0
    again = CliRunner().invoke(app, [*words, "--dry-run"])
    assert "sertk train" not in again.stdout
    (bundle_json,) = (tmp_path / "work").rglob("bundle.json")
    first = json.loads(bundle_json.read_text())["training"]["weights"]
    weights = load_file(mine / "model.safetensors")
    weights["layers.0.fc1.bias"][0] += 1e-3
    save_file(weights, mine / "model.safetensors", {"format": "pt"})
    assert CliRunner().invoke(app, words).exit_code == 0
    assert json.loads(bundle_json.read_text())["training"]["weights"] != first  # trained anew, not stamped anew


def test_a_run_does_not_continue_a_model_of_other_frozen_weights(data: Path, source: Path, tmp_path: Path) -> None:
    own, other = copied(data, tmp_path), save_encoder(tmp_path / "other", seed=1)
    for name in (source, other):
        featurize(own, probe(name), 1)
    train(probe(source), own, tmp_path / "run")
    begun = {"train.init": str(tmp_path / "run/model")}
    train(probe(source, **begun), own, tmp_path / "same")
    with pytest.raises(SertkError, match=r"it was trained with weights\.whisper = \w+, this"):
        train(probe(other, **begun), own, tmp_path / "else")


def test_a_run_does_not_go_on_with_another_checkpoint(data: Path, source: Path, tmp_path: Path) -> None:
    own, mine = copied(data, tmp_path), shutil.copytree(source, tmp_path / "mine")
    featurize(own, probe(mine), 1)
    train(probe(mine), own, tmp_path / "run")
    shutil.rmtree(mine)
    save_encoder(mine, seed=2)
    featurize(own, probe(mine), 1)
    with pytest.raises(SertkError, match=r"began with features .*, and now it is"):
        train(probe(mine), own, tmp_path / "run")


def test_a_worker_whose_checkpoint_changed_meanwhile_writes_nothing(data: Path, tmp_path: Path) -> None:
    own = copied(data, tmp_path)
    random = {"name": "whisper", "config": SIZES, "layers": "last"}
    read = probe("", inputs={"whisper": {"name": "frozen", "backbone": random}})
    with pytest.raises(SertkError, match=r"the checkpoint changed, or they are random ones"):
        featurize(own, read, 1)
    assert not list((own.folder / "feats").rglob("*.safetensors"))


class Branches(Backbone):
    """A guest that holds others."""

    def __init__(self, inputs: Mapping[str, InputSpec], branches: list[Backbone]) -> None:
        raise AssertionError("it is refused before it is made")


def test_a_bundle_that_names_a_source_is_refused(data: Path, source: Path, tmp_path: Path) -> None:
    guests = manager()
    guests.register(SimpleNamespace(sertk_backbones=hookimpl(lambda: {"branches": Branches})))
    own = copied(data, tmp_path)
    featurize(own, probe(source), 1)
    train(probe(source), own, tmp_path / "run")
    about = json.loads((tmp_path / "run/model/bundle.json").read_text())
    spec = about["components"]["inputs"]["whisper"]
    named = {**spec["backbone"], "source": "some/name"}
    deep = {"name": "branches", "branches": ["frames", {"name": "branches", "branches": [named]}]}
    loads = r"bundle\.json: feature 'frozen' loads 'some/name', and a bundle has its weights itself"
    for inside, says in (
        *((one, loads) for one in (named, "whisper:source=some/name", [named], deep)),
        ([{"branches": [{"source": "some/name"}]}], "has no name"),
    ):
        about["components"]["inputs"]["whisper"] = {**spec, "backbone": inside}
        (tmp_path / "run/model/bundle.json").write_text(json.dumps(about))
        signed(tmp_path / "run/model")
        with pytest.raises(SertkError, match=says):
            bundle.read(tmp_path / "run/model", Plugins(guests))


def test_what_lies_inside_a_component_is_known_to_the_bundle_and_the_key(source: Path) -> None:
    inside = {"name": "frozen", "backbone": {"name": "whisper", "source": str(source)}}
    assert Plugins().inside("feature", inside) == [("feature", "frozen"), ("backbone", "whisper")]
    assert Plugins().inside("feature", {**inside, "backbone": "unheard-of"})[-1] == ("backbone", "unheard-of")


def test_layers_that_do_not_count_are_not_trained(source: Path) -> None:
    made = whisper(source, layers=1)
    trained = {name for name, value in made.encoder.named_parameters() if value.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"conv1", "conv2", "layers"}
    assert not any(name.startswith(("layers.1", "layers.2")) for name in trained)
    made({"wave": waves(0.2)}).data.sum().backward()
    assert all(value.grad is not None for name, value in made.encoder.named_parameters() if name in trained)


def test_a_frozen_backbone_behind_crops_stays_a_backbone(source: Path) -> None:
    read = with_frozen(Plugins(), settings(source, crop={"length": 0.5}))
    assert read.backbone.name == "whisper"

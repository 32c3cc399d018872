"""Encoders of which the lower part is frozen: it is a cached feature, and training goes on above it as it did."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor

from sertk.builtin.features.frozen import Frozen
from sertk.core import Backbone, InputSpec, Padded, UsageError
from sertk.core.files import read_json
from sertk.corpus.features import stores
from sertk.corpus.prepared import Data
from sertk.modeling import bundle
from sertk.modeling.build import about_frozen, with_frozen
from sertk.modeling.frontend import compute
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.settings.schema import Component, OptimizerSpec, Settings, TrainSettings
from sertk.stages.featurize import featurize
from sertk.stages.score import score
from sertk.training.assemble import rehearse
from sertk.training.optim import layer_rates

PLUGINS = Plugins()
WAVE = {"wave": InputSpec(1, 1 / 16_000)}
DEPTH, WIDTH = 3, 16
WHISPER = {"d_model": WIDTH, "encoder_layers": DEPTH, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
WHISPER |= {"max_source_positions": 150}  # 3 s
SPEECH = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [10] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
KINDS = ("whisper", "wav2vec2", "wav2vec2 stable", "hubert", "wavlm", "wavlm stable", "data2vec")
FREEZE = ("conv", 0, 2, 3)
LAYERS = ("last", "all", "weighted", 1, 2)


def spec(kind: str, **more: object) -> dict[str, object]:
    """An encoder with random weights."""
    name, _, form = kind.partition(" ")
    sizes = WHISPER if name == "whisper" else {**SPEECH, **(LARGE if form else {})}
    return {"name": name, "config": sizes, **more}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Whisper with random weights as Hugging Face writes it."""
    return save_whisper(tmp_path_factory.mktemp("models") / "tiny")


def save_whisper(folder: Path, **sizes: object) -> str:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    torch.manual_seed(2)
    model = WhisperEncoder(WhisperConfig(**WHISPER, **sizes))  # type: ignore[arg-type]
    enlarge(model)
    model.save_pretrained(folder)
    return str(folder)


@torch.no_grad()
def enlarge(model: torch.nn.Module) -> None:
    """Makes weights larger than at their initialisation, so that attention and positions matter."""
    for value in model.parameters():
        value.mul_(1.5)


def waves(*samples: int) -> Padded:
    """(B, S) noise; the padding is no silence."""
    torch.manual_seed(1)
    return Padded(0.1 + 0.2 * torch.randn(len(samples), max(samples)), torch.tensor(samples))


def settings(encoder: Mapping[str, object], **more: object) -> Settings:
    own = {"inputs": {"wave": {"name": "wave"}}, "backbone": encoder, "normalize": "none", "train.device": "cpu"}
    return merge.load(None, None, {**own, **more})


PLAIN = settings({"name": "frames"})


def parts(encoder: Mapping[str, object]) -> tuple[Backbone, Frozen, Backbone]:
    """The whole, what its frozen part gives of waves, and what is left of it; in eval mode, with the same weights."""
    own = {word: value for word, value in encoder.items() if word != "name"}
    split = with_frozen(PLUGINS, replace(PLAIN, backbone=Component(str(encoder["name"]), own)))
    feature: Frozen = PLUGINS.make("feature", split.inputs["frozen"], 16_000)
    told = {"frozen": InputSpec(feature.width, feature.frame_seconds, None, feature.layers)}
    whole: Backbone = PLUGINS.make("backbone", encoder, WAVE).eval()
    rest: Backbone = PLUGINS.make("backbone", split.backbone, told).eval()
    enlarge(whole)
    weights = whole.state_dict()
    for part in (feature._backbone, rest):
        part.load_state_dict({word: weights[word] for word in part.state_dict()})
    return whole, feature, rest


def loss(backbone: Backbone, inputs: Mapping[str, Padded]) -> tuple[Tensor, dict[str, Tensor]]:
    """A number that follows from each frame otherwise, and the gradient of each parameter."""
    frames = backbone(inputs).fill(0.0).data
    torch.manual_seed(5)
    total = (frames * torch.randn_like(frames)).sum() + frames.square().sum()
    if total.requires_grad:
        total.backward()
    return total, {name: value.grad for name, value in backbone.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_the_whole(kind: str) -> None:
    rows = waves(4_000, 1_700, 2_900, 600, 4_000)
    for freeze, layers in product(FREEZE, LAYERS):
        whole, feature, rest = parts(spec(kind, freeze=freeze, layers=layers))
        assert (rest.width, rest.layers) == (whole.width, whole.layers)
        assert rest.frame_seconds == pytest.approx(whole.frame_seconds)
        cached, alone = feature(rows), feature(rows.take(torch.tensor([1])))
        size = int(alone.length[0])
        torch.testing.assert_close(cached.data[1, :size], alone.data[0, :size], atol=2e-5, rtol=1e-4)
        wanted, gradients = loss(whole, {"wave": Padded(rows.data[..., None], rows.length)})
        found, ours = loss(rest, {"frozen": cached})
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5, msg=str((freeze, layers)))
        assert ours.keys() == gradients.keys(), (freeze, layers)
        for name, gradient in gradients.items():
            assert (ours[name] - gradient).abs().max() <= 1e-4 * gradient.abs().max() + 1e-6, (freeze, layers, name)


def names(backbone: Backbone) -> set[str]:
    return set(backbone.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_both_parts_together_are_the_whole(kind: str) -> None:
    for freeze, layers in (("conv", "last"), (1, "last"), (2, "weighted"), (3, "last"), (3, 2)):
        whole, feature, rest = parts(spec(kind, freeze=freeze, layers=layers))
        lower = feature._backbone
        assert names(lower) | names(rest) == names(whole)
        twice = {"encoder.encoder.layers.0.attention.rel_attn_embed.weight"}  # all layers read it
        assert names(lower) & names(rest) <= twice
        assert "encoder.masked_spec_embed" not in names(lower)  # checkpoints without it draw another one each time
        trained = {name for name, value in whole.named_parameters() if value.requires_grad}
        assert {name for name, value in rest.named_parameters() if value.requires_grad} == trained
        assert not trained & names(lower)
        settings_of_all = rest.join(rest.portable())
        assert settings_of_all is not None
        again: Backbone = PLUGINS.make("backbone", {"name": kind.split(maxsplit=1)[0], **settings_of_all}, WAVE)
        again.load_state_dict({**lower.state_dict(), **rest.state_dict()})
        assert again.portable() == whole.portable()


def test_a_part_says_which_checkpoint_it_began_with(source: str) -> None:
    whole, feature, rest = parts({"name": "whisper", "source": source, "freeze": 1})
    assert rest.weights == whole.weights
    assert feature.weights not in ("", whole.weights)


def test_rates_of_layers_are_those_of_the_whole() -> None:
    train = TrainSettings(optimizer=OptimizerSpec("adam", lr=0.1), backbone_rate=0.5, layer_decay=0.1)

    def rates(backbone: Backbone) -> dict[str, float]:
        named = {id(value): name for name, value in backbone.named_parameters()}
        return {named[id(one)]: rate for rate, group in layer_rates(backbone.groups(), train).items() for one in group}

    for kind, freeze in product(("whisper", "wav2vec2", "wavlm stable"), ("conv", 1, 2)):
        whole, _, rest = parts(spec(kind, freeze=freeze))
        found = rates(rest)
        assert found == rates(whole)
        assert 0.05 in found.values()  # of the layer at the top


@torch.no_grad()
def test_the_frozen_part_has_no_dropout_and_what_lies_above_has(tmp_path: Path) -> None:
    _, feature, rest = parts({"name": "whisper", "source": save_whisper(tmp_path, dropout=0.5), "freeze": 1})
    rows = waves(4_000)
    cached = feature(rows)
    assert torch.equal(feature(rows).data, cached.data)
    rest.train()
    assert not torch.equal(rest({"x": cached, "frozen": cached}).data, rest({"frozen": cached}).data)


# --- when it is cached, and what is said ---------------------------------------------------------------------------


def test_what_is_cached_follows_from_the_settings() -> None:
    def split(**more: object) -> tuple[object, object]:
        read = with_frozen(PLUGINS, settings({"name": "wav2vec2", "source": "a/b", **more}))
        return read.inputs["frozen"].settings["backbone"], dict(read.backbone.settings)

    conv = {"name": "wav2vec2", "source": "a/b", "up_to": "conv"}
    assert split() == (conv, {"source": "a/b", "start": "conv"})
    # however many layers are asked for, or how they are trained: one store
    assert split(layers="all", checkpointing=True)[0] == conv
    assert split(freeze=2, layers=3)[0] == {**conv, "up_to": 2} == split(freeze=2)[0] == split(freeze=3, layers=2)[0]
    assert split(freeze=2, layers="weighted") == (
        {**conv, "up_to": 2, "layers": "all"},
        {"source": "a/b", "layers": "weighted", "freeze": 2, "start": 2},
    )
    assert split(freeze=2, layers="all")[0] == split(freeze=2, layers="weighted")[0]
    assert split(freeze=0, layers="all")[0] == split(freeze=0)[0]
    whisper = with_frozen(PLUGINS, settings({"name": "whisper", "source": "a/b", "freeze": "conv"}))
    assert whisper.inputs["frozen"].settings["backbone"] == {"name": "whisper", "source": "a/b", "up_to": 0}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"backbone.window": "30s"}, "the layers above see the silence behind an utterance too"),
        ({"augment": ["eam"]}, "augmentation 'eam' changes the waves that it reads"),
        ({"augment": ["lam"], "on_augment": "recompute"}, "augmentation 'lam' changes the waves"),
        ({"crop": {"length": 1.0}}, "crop cuts the waves that it reads"),
        ({"normalize": "scalar"}, "normalize: scalar changes the waves that it reads"),
        ({"inputs": {"wave": {"name": "wave"}, "mel": {"name": "mel"}}, "backbone.reads": "wave"}, "its input is not"),
    ],
)
def test_where_waves_change_the_whole_is_trained_and_the_run_says_why(more: Mapping[str, object], why: str) -> None:
    read = settings({"name": "whisper", "source": "a/b", "freeze": 2}, **more)
    assert with_frozen(PLUGINS, read) == read
    said = about_frozen(PLUGINS, read)
    assert said.startswith("backbone 'whisper': the convolutions and the first 2 layers are frozen, and computed again")
    assert why in said


def test_a_run_says_what_is_read_from_the_store_and_nothing_where_nothing_is_taken_apart() -> None:
    read = settings({"name": "hubert", "source": "a/b"})
    assert about_frozen(PLUGINS, read) == (
        "backbone 'hubert': the convolutions are frozen and read from the store; what lies above them is trained"
    )
    for freeze in ("none", "all"):
        assert not about_frozen(PLUGINS, settings({"name": "whisper", "source": "a/b", "freeze": freeze}))


def test_wrong_settings_are_told_as_the_user_gave_them(tmp_path: Path) -> None:
    def look(**more: object) -> None:
        parts(spec("whisper", **more))

    half = with_frozen(PLUGINS, settings({"name": "whisper", "source": "a/b", "freeze": "half"}))
    with pytest.raises(UsageError, match=r"freeze must be .* got 'half'"):
        PLUGINS.make("backbone", half.backbone, WAVE)
    with pytest.raises(UsageError, match=r"freeze \(up_to\) is 4; it is from 0 to 3"):
        look(freeze=4)
    with pytest.raises(UsageError, match=r"freeze is 9; it is from 0 to 3"):
        look(freeze=9, layers=1)
    with pytest.raises(UsageError, match=r"layers is 4; it is from 0 to 3"):
        look(freeze=1, layers=4)
    path = tmp_path / "recipe.yaml"
    path.write_text("normalize: none\ninputs: [wave]\nbackbone:\n  name: whisper\n  freeze: 1\n  leyers: 2\n")
    with pytest.raises(UsageError, match=rf"{path}:3: backbone 'whisper' takes no 'leyers'"):
        with_frozen(PLUGINS, merge.load(None, path, {"inputs": {"wave": {"name": "wave"}}}))
    told = {"frozen": InputSpec(16, 0.02)}
    with pytest.raises(UsageError, match=r"start is 2; it is from 0 to 1"):
        PLUGINS.make("backbone", spec("whisper", layers=1, start=2), told)
    with pytest.raises(UsageError, match=r"reads the 2 x 16 that its lower part gives, and it is offered 1 x 16\. Set"):
        PLUGINS.make("backbone", {"name": "whisper", "config": WHISPER, "layers": "all", "start": 1}, told)


def test_a_checkpoint_that_is_not_here_is_looked_at_later(capsys: pytest.CaptureFixture[str]) -> None:
    away = {"name": "wav2vec2", "source": "nobody/nothing", "freeze": 2}
    rehearse(PLUGINS, with_frozen(PLUGINS, settings(away)), ("anger", "sadness", "neutral"))
    assert "'nobody/nothing' is not on this machine yet" in capsys.readouterr().err


# --- runs -----------------------------------------------------------------------------------------------------------


def run_settings(source: str, **more: object) -> Settings:
    """A run of one epoch that learns much."""
    encoder = {"name": "whisper", "source": source, "layers": "weighted", "freeze": 1}
    train = {"train.epochs": 1, "train.threads": 1, "train.optimizer": {"name": "sgd", "lr": 0.05}}
    return settings(encoder, protocol="emobox", fold="1", **{**train, **more})


def train(read: Settings, data: Data, out: Path) -> Path:
    from sertk.stages.train import train as stage  # late: see test_encoders

    stage(read, data, out)
    return out / "model"


STILL = {"train.optimizer": {"name": "sgd", "lr": 0.0}}


@pytest.fixture(scope="module")
def prepared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A copy of the corpus, which stores grow in."""
    folder = tmp_path_factory.mktemp("part") / "data"
    return Data(shutil.copytree(data, folder, ignore=shutil.ignore_patterns("feats")))


@pytest.fixture(scope="module")
def begun(source: str, prepared: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a run whose frozen part was cached."""
    read = run_settings(source)
    featurize(prepared, read, 1)
    return train(read, prepared, tmp_path_factory.mktemp("begun") / "run")


def posteriors(folder: Path, corpus: Path, *, whole: bool = False) -> Tensor:
    """Of some files, of different lengths, one after the other."""
    made = bundle.read(folder, PLUGINS, whole=whole)
    (name,) = made.settings.inputs
    assert (name == "wave") == whole or not whole
    found = []
    for path in sorted(corpus.rglob("*.wav"))[:60:20]:
        wave = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        inputs = {key: compute(one, Padded.stack([wave])) for key, one in made.frontend.features.items()}
        with torch.inference_mode():
            found.append(made.model(inputs, [made.decider.span])[made.decider.span].posterior)
    return torch.cat(found)


def test_the_size_is_announced_and_the_store_has_every_layer_asked_for(
    source: str, prepared: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    read = run_settings(source, **{"backbone.freeze": 2})
    featurize(prepared, read, 1)
    announced = re.findall(r"frozen: (\d+) utterances, about (\d+) frames of (\d+),", capsys.readouterr().err)[-1]
    store = stores(prepared.folder, with_frozen(PLUGINS, read), PLUGINS)["frozen"]
    held = [store[sha] for sha in {fact.sha256 for fact in prepared.facts.values()}]
    assert announced == (str(len(held)), str(sum(map(len, held))), str(3 * WIDTH))  # what layers 0, 1 and 2 read


def test_what_convolutions_give_is_stored(prepared: Data, tmp_path: Path) -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(3)
    Wav2Vec2Model(Wav2Vec2Config(**SPEECH)).save_pretrained(tmp_path / "tiny")  # type: ignore[arg-type]
    read = settings({"name": "wav2vec2", "source": str(tmp_path / "tiny"), "normalize": True})
    featurize(prepared, read, 1)
    computed = with_frozen(PLUGINS, read)
    store = stores(prepared.folder, computed, PLUGINS)["frozen"]
    feature: Frozen = PLUGINS.make("feature", computed.inputs["frozen"], 16_000)
    one = next(iter(prepared.utterances.values()))
    wave = torch.from_numpy(soundfile.read(prepared.root / one.path, dtype="float32")[0])
    found = store[prepared.facts[one.id].sha256]
    assert found.shape == ((len(wave) - 400) // 320 + 1, 10)
    torch.testing.assert_close(found, feature(Padded.stack([wave])).data[0], atol=1e-5, rtol=1e-4)


def test_a_bundle_scores_audio_as_the_whole_encoder_does(begun: Path, corpus: Path) -> None:
    about = json.loads((begun / "bundle.json").read_text())
    assert about["components"]["backbone"]["start"] == 1
    assert about["components"]["inputs"]["frozen"]["backbone"]["up_to"] == 1
    (file,) = about["files"]["frozen"].values()
    lower = load_file(begun / "files" / file)
    assert {name.split(".")[1] for name in lower} == {"conv1", "conv2", "embed_positions", "layers"}
    found, wanted = posteriors(begun, corpus), posteriors(begun, corpus, whole=True)
    assert float((found - wanted).abs().max()) < 1e-5
    assert float((wanted - wanted.mean(0)).abs().max()) > 1e-3  # files differ


def test_scores_from_the_store_are_those_from_audio(begun: Path, prepared: Data, tmp_path: Path) -> None:
    read = [tmp_path / f"{source}.jsonl" for source in ("store", "audio")]
    score(begun, [str(prepared.folder)], read[0], device="cpu")
    score(begun, [str(prepared.folder)], read[1], device="cpu", source="audio")
    store, audio = ([json.loads(line)["logits"] for line in path.read_text().splitlines()] for path in read)
    assert json.loads((tmp_path / "store.metrics.json").read_text())["took"]["from"] == "store"
    torch.testing.assert_close(torch.tensor(store), torch.tensor(audio), atol=1e-4, rtol=0)


def test_the_embedding_has_its_speakers_statistics_where_a_part_is_cached(
    source: str, prepared: Data, corpus: Path, tmp_path: Path
) -> None:
    read = run_settings(source, normalize={"embedding": "speaker"})
    assert with_frozen(PLUGINS, read).normalize == {"frozen": "none", "embedding": "speaker"}
    featurize(prepared, read, 1)
    model = train(read, prepared, tmp_path / "run")
    found, wanted = posteriors(model, corpus), posteriors(model, corpus, whole=True)
    assert float((found - wanted).abs().max()) < 1e-5
    scores = []
    for way in ("store", "audio"):
        score(model, [str(prepared.folder)], tmp_path / f"{way}.jsonl", device="cpu", source=way)
        scores.append([json.loads(line)["logits"] for line in (tmp_path / f"{way}.jsonl").read_text().splitlines()])
        assert read_json(tmp_path / f"{way}.metrics.json", "")["protocol"]["speakers"]["how"] == "transductive"
    torch.testing.assert_close(*map(torch.tensor, scores), atol=1e-4, rtol=0)


def test_training_says_what_it_reads_and_reads_no_wave(
    source: str,
    prepared: Data,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = run_settings(source)
    featurize(prepared, read, 1)
    monkeypatch.setattr("sertk.corpus.audio.read", None)
    train(read, prepared, tmp_path / "run")
    assert "the convolutions and the first layer are frozen and read from the store" in capsys.readouterr().err


def test_an_augmentation_of_waves_trains_the_whole_and_says_so_once(
    source: str, prepared: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = run_settings(source, augment=["noise"])
    featurize(prepared, read, 1)
    assert "nothing to cache" in capsys.readouterr().err
    folder = train(read, prepared, tmp_path / "run")
    said = capsys.readouterr().err
    assert said.count("computed again in every epoch: augmentation 'noise' changes the waves that it reads") == 1
    assert "start" not in json.loads((folder / "bundle.json").read_text())["components"]["backbone"]


@pytest.mark.parametrize("more", [{}, {"backbone.freeze": "none"}, {"backbone.freeze": 2}, {"augment": ["lam"]}])
def test_a_run_begins_with_a_bundle_whose_frozen_part_was_cached(
    begun: Path,
    source: str,
    prepared: Data,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: Mapping[str, object],
) -> None:
    read = run_settings(source, **{**STILL, **more, "train.init": str(begun)})
    featurize(prepared, read, 1)
    folder = train(read, prepared, tmp_path / "run")
    assert float((posteriors(folder, corpus) - posteriors(begun, corpus)).abs().max()) < 1e-5
    again = "start" in json.loads((folder / "bundle.json").read_text())["components"]["backbone"]
    assert again == (not more)
    if "freeze" in str(more) and more["backbone.freeze"] == 2:
        assert "the bundle of train.init has these weights of its own, or freezes another" in capsys.readouterr().err


def test_a_run_begins_with_a_bundle_that_was_trained_whole_and_freezes_its_layers(
    source: str, prepared: Data, corpus: Path, tmp_path: Path
) -> None:
    whole = train(run_settings(source, **{"backbone.freeze": "none"}), prepared, tmp_path / "whole")
    read = run_settings(source, **{"train.init": str(whole)})
    featurize(prepared, read, 1)
    still = train(
        replace(read, train=replace(read.train, optimizer=OptimizerSpec("sgd", lr=0.0))), prepared, tmp_path / "still"
    )
    assert torch.equal(posteriors(still, corpus), posteriors(whole, corpus))
    moved = train(read, prepared, tmp_path / "moved")
    there, here = (bundle.read(folder, PLUGINS).model.state_dict() for folder in (whole, moved))
    first, above = "backbone.encoder.layers.0.fc1.weight", "backbone.encoder.layers.1.fc1.weight"
    assert torch.equal(there[first], here[first])
    assert not torch.equal(there[above], here[above])
    pretrained = load_file(Path(source) / "model.safetensors")
    assert not torch.equal(pretrained["layers.0.fc1.weight"], here[first])  # it was trained in the bundle


def test_what_does_not_fit_a_bundle_whose_frozen_part_was_cached_is_told_before_any_work(
    begun: Path, source: str, prepared: Data
) -> None:
    read = run_settings(source, **{"train.init": str(begun), "backbone.freeze": "none", "pooling": "mean_std"})
    with pytest.raises(UsageError, match=r"Cannot start from the bundle of train"):
        rehearse(PLUGINS, with_frozen(PLUGINS, read), prepared.protocol("emobox").classes)
    fits = run_settings(source, **{"train.init": str(begun), "backbone.freeze": "none"})
    rehearse(PLUGINS, with_frozen(PLUGINS, fits), prepared.protocol("emobox").classes)

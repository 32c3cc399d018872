"""Encoders of which the lower part is frozen: it is a cached feature, and training goes on above it as it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sertk.core import Backbone, InputSpec, Padded
from sertk.modeling.build import with_frozen
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.settings.schema import Settings

PLUGINS = Plugins()
WAVE = {"wave": InputSpec(1, 1 / 16_000)}
DEPTH, WIDTH = 3, 16
WHISPER = {"d_model": WIDTH, "encoder_layers": DEPTH, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
SPEECH = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [12] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
KINDS = ("whisper", "wav2vec2", "wav2vec2 stable", "hubert", "wavlm", "wavlm stable")
FREEZE = ("conv", 0, 1, 2, 3)
LAYERS = ("last", "all", "weighted", 0, 1, 2, 3)


def save(kind: str, folder: Path) -> Path:
    """A tiny checkpoint with random weights as Hugging Face writes it."""
    import transformers as hf
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    torch.manual_seed(2)
    name, _, form = kind.partition(" ")
    sizes: Any = {**SPEECH, **(LARGE if form else {})}
    if name == "whisper":
        model: Any = WhisperEncoder(hf.WhisperConfig(**WHISPER))  # type: ignore[arg-type]
    elif name == "wav2vec2":
        model = hf.Wav2Vec2Model(hf.Wav2Vec2Config(**sizes))
    else:
        model = hf.HubertModel(hf.HubertConfig(**sizes)) if name == "hubert" else hf.WavLMModel(hf.WavLMConfig(**sizes))
    with torch.no_grad():  # larger than at their initialisation, so that attention and positions matter
        for value in model.parameters():
            value.mul_(1.5)
    model.save_pretrained(folder)
    hf.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: save(kind, folder / kind.replace(" ", "-")) for kind in KINDS}


def waves(*samples: int) -> Padded:
    """(B, S) noise; the padding is no silence."""
    torch.manual_seed(1)
    return Padded(0.1 + 0.2 * torch.randn(len(samples), max(samples)), torch.tensor(samples))


def settings(spec: Mapping[str, object], **more: object) -> Settings:
    own = {"inputs": {"wave": {"name": "wave"}}, "backbone": spec, "normalize": "none", "train.device": "cpu"}
    return merge.load(None, None, {**own, **more})


def parts(spec: Mapping[str, object]) -> tuple[Backbone, Callable[[Padded], Padded], Backbone]:
    """The whole, what its frozen part gives of waves, and what is left of it; in eval mode."""
    split = with_frozen(PLUGINS, settings(spec))
    assert "frozen" in split.inputs
    feature = PLUGINS.make("feature", split.inputs["frozen"], 16_000)
    told = {"frozen": InputSpec(feature.width, feature.frame_seconds, None, feature.layers)}
    whole: Backbone = PLUGINS.make("backbone", spec, WAVE).eval()
    rest: Backbone = PLUGINS.make("backbone", split.backbone, told).eval()
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
def test_loss_and_gradients_are_those_of_the_whole(sources: Mapping[str, Path], kind: str) -> None:
    rows = waves(4_000, 1_700, 2_900)
    for freeze, layers in product(FREEZE, LAYERS):
        spec = {"name": kind.split(maxsplit=1)[0], "source": str(sources[kind]), "freeze": freeze, "layers": layers}
        whole, feature, rest = parts(spec)
        assert (rest.width, rest.layers, rest.weights) == (whole.width, whole.layers, whole.weights)
        assert rest.frame_seconds == pytest.approx(whole.frame_seconds)
        for chosen in ([0, 1, 2], [1]):
            some = rows.take(torch.tensor(chosen))
            some = Padded(some.data[:, : int(some.length.max())], some.length)
            cached = feature(some)
            again = feature(rows.take(torch.tensor([chosen[-1]])))  # another batch
            size = int(again.length[0])
            torch.testing.assert_close(cached.data[-1, :size], again.data[0, :size], atol=2e-5, rtol=1e-4)
            whole.zero_grad(), rest.zero_grad()
            wanted, gradients = loss(whole, {"wave": Padded(some.data[..., None], some.length)})
            found, ours = loss(rest, {"frozen": cached})
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5, msg=str((kind, freeze, layers)))
            assert ours.keys() == gradients.keys(), (freeze, layers)
            for name, gradient in gradients.items():
                scale = float(gradient.abs().max())
                assert (ours[name] - gradient).abs().max() <= 1e-4 * scale + 1e-6, (freeze, layers, name)

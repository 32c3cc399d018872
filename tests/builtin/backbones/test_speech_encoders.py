"""wav2vec 2.0, HuBERT and WavLM: padding changes nothing; layers and freezing; checkpoints that the test saves."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sertk.builtin.backbones.speech import Data2Vec, Hubert, RealNorm, SpeechEncoder, Wav2Vec2, WavLM
from sertk.core import InputSpec, Padded, SertkError, UsageError
from sertk.plugins import Plugins

WAVE = {"wave": InputSpec(1, 1 / 16_000)}
KINDS = {"wav2vec2": Wav2Vec2, "hubert": Hubert, "wavlm": WavLM, "data2vec": Data2Vec}
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}
# the two that exist: the base checkpoints normalise over time, the large ones each frame, and their layers first
BASE = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
EACH = pytest.mark.parametrize(("kind", "form"), [(kind, form) for kind in KINDS for form in (BASE, LARGE)])


def made(kind: str, form: Mapping[str, object] = BASE, **settings: object) -> SpeechEncoder:
    torch.manual_seed(0)
    encoder = KINDS[kind](WAVE, config={**SIZES, **form}, **settings)  # type: ignore[arg-type]
    with torch.no_grad():  # larger than at its initialisation, so that attention and positions matter
        for value in encoder.encoder.encoder.parameters():
            value.mul_(2.0)
    return encoder.eval()


def waves(*samples: int) -> Padded:
    """(B, S, 1) noise of unlike loudness and offset; the padding is no silence."""
    torch.manual_seed(1)
    data = torch.randn(len(samples), max(samples), 1)
    loud = torch.linspace(0.1, 1.0, len(samples))[:, None, None]
    return Padded(loud * data + 0.3 * loud, torch.tensor(samples))


@torch.no_grad()
def frames(encoder: SpeechEncoder, rows: Padded) -> Padded:
    return encoder({"wave": rows})


def alone(rows: Padded, place: int) -> Padded:
    size = int(rows.length[place])
    return Padded(rows.data[place : place + 1, :size], rows.length[place : place + 1])


# --- exactness -------------------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("normalize", [True, False])
def test_a_row_is_the_same_alone_and_among_others(
    kind: str, form: Mapping[str, object], normalize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # float64 behind the standardised wave: the rounding of float32 in all layers is above the bound with AVX-512
    encoder = made(kind, form, normalize=normalize, layers="all").double()
    standardise = encoder._standardise
    monkeypatch.setattr(encoder, "_standardise", lambda wave: standardise(wave).double())
    rows = waves(16_000, 9_123, 9_123, 4_000, 400)
    rows = Padded(rows.data.double(), rows.length)
    together = frames(encoder, rows)
    # (16000 - 400) // 320 + 1 = 49 and so on; 400 samples are what one frame sees
    assert together.length.tolist() == [49, 28, 28, 12, 1]
    scale = float(together.data.abs().max())
    for place, size in enumerate(together.length.tolist()):
        single = frames(encoder, alone(rows, place)).data[0]
        assert single.shape == (size, 4 * 16)
        assert (single - together.data[place, :size]).abs().max() <= 5e-6 * max(scale, 1.0)


def test_hugging_faces_own_norm_lets_a_batch_change_its_members() -> None:
    # what the norm over real frames is for: without it the same rows differ by a large part of their size
    encoder = made("wav2vec2", normalize=True)
    rows = waves(16_000, 4_000)
    own = frames(encoder, rows).data[1, :12].clone()
    first = encoder.encoder.feature_extractor.conv_layers[0]
    plain = torch.nn.GroupNorm(8, 8)
    plain.load_state_dict(first.layer_norm.state_dict())  # the same names
    first.layer_norm = plain
    assert (frames(encoder, rows).data[1, :12] - own).abs().max() > 0.1
    assert (frames(encoder, alone(rows, 1)).data[0] - own).abs().max() < 5e-6 * own.abs().max()


@EACH
def test_alone_it_is_what_hugging_face_computes(kind: str, form: Mapping[str, object]) -> None:
    encoder, rows = made(kind, form, normalize=True), waves(8_000)
    wave = rows.data[..., 0]
    wave = (wave - wave.mean()) / (wave.var(unbiased=False) + 1e-7).sqrt()
    with torch.no_grad():
        whole = encoder.encoder(wave, output_hidden_states=True)
    scale = float(whole.last_hidden_state.abs().max())
    assert (frames(encoder, rows).data - whole.last_hidden_state).abs().max() < 5e-6 * scale
    second = made(kind, form, normalize=True, layers=2)
    assert (frames(second, rows).data - whole.hidden_states[2]).abs().max() < 5e-6 * scale


def test_the_real_norm_by_hand() -> None:
    # row 0 has the frames 1 3, mean 2, deviation 1; row 1 has 0 0 4 8, mean 3, variance (9 + 9 + 1 + 25) / 4 = 11
    norm = RealNorm(1, 1, eps=0.0)
    norm.length = torch.tensor([2, 4])
    x = torch.tensor([[[1.0, 3.0, 77.0, 77.0]], [[0.0, 0.0, 4.0, 8.0]]])
    deviation = 11**0.5
    expected = [[-1.0, 1.0, 0.0, 0.0], [-3 / deviation, -3 / deviation, 1 / deviation, 5 / deviation]]
    assert torch.allclose(norm(x)[:, 0], torch.tensor(expected))


def test_training_in_a_batch_has_the_gradients_of_its_members() -> None:
    rows = waves(6_000, 2_500)

    def gradient(parts: list[Padded]) -> Tensor:
        encoder = made("wav2vec2", freeze="none", normalize=True)
        for part in parts:
            out = encoder({"wave": part})
            (out.data * out.mask[..., None]).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])

    together, apart = gradient([rows]), gradient([alone(rows, 0), alone(rows, 1)])
    assert len(together) == len(apart) > 1_000
    assert (together - apart).abs().max() < 1e-4 * apart.abs().max()


# --- layers, freezing, memory ----------------------------------------------------------------------------------------


def test_layers_are_the_last_one_a_number_all_or_their_learned_sum() -> None:
    rows = waves(4_000)
    every = frames(made("wavlm", layers="all"), rows).data.view(1, 12, 4, 16)
    assert torch.equal(frames(made("wavlm"), rows).data, every[:, :, 3])
    assert torch.equal(frames(made("wavlm", layers=1), rows).data, every[:, :, 1])
    summed = made("wavlm", layers="weighted")
    assert torch.allclose(frames(summed, rows).data, every.mean(2), atol=1e-6)
    assert (summed.width, summed.layers, made("wavlm", layers="all").layers) == (16, 1, 4)


@pytest.mark.parametrize(("freeze", "groups"), [("none", 5), ("conv", 4), (0, 3), (2, 1), ("all", 0)])
def test_freezing_begins_at_the_input(freeze: object, groups: int) -> None:
    encoder = made("hubert", freeze=freeze)  # groups: convolutions, projection, three layers
    trained = [group for group in encoder.groups() if all(p.requires_grad for p in group)]
    assert trained == list(encoder.groups())[5 - groups :]
    frozen = [p for group in encoder.groups()[: 5 - groups] for p in group]
    assert not any(p.requires_grad for p in frozen)
    encoder.train()({"wave": waves(2_000)}).data.sum()  # the convolutions of a frozen one ask for no gradient


def test_the_frozen_part_keeps_nothing_for_the_backward_pass() -> None:
    def kept(freeze: object) -> list[Tensor]:
        found: list[Tensor] = []

        def keep(value: Tensor) -> Tensor:
            found.append(value)
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            made("wav2vec2", freeze=freeze).train()({"wave": waves(4_000)})
        return found

    def convolved(values: list[Tensor]) -> int:
        return sum(bool({799, 399, 199, 99, 49, 24} & {*value.shape}) for value in values)  # frames of convolutions

    assert convolved(kept("none")) > 6
    assert convolved(kept(1)) == 0
    assert not kept(3)
    assert 0 < len(kept(1)) < len(kept("conv"))


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_changes_neither_values_nor_gradients(kind: str) -> None:
    def run(checkpointing: bool) -> tuple[Tensor, Tensor]:
        encoder = made(kind, LARGE, checkpointing=checkpointing).train()
        out = encoder({"wave": waves(4_000, 3_000)}).fill(0.0).data
        out.square().sum().backward()
        grads = [p.grad.flatten() for p in encoder.parameters() if p.grad is not None]
        return out.detach(), torch.cat(grads)

    for plain, again in zip(run(False), run(True), strict=True):
        assert torch.equal(plain, again)


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny wav2vec 2.0 trained for recognition, as Hugging Face writes it, with its front end's settings."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(3)
    Wav2Vec2ForCTC(Wav2Vec2Config(**SIZES, **BASE, vocab_size=9)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return folder


def test_a_checkpoint_for_recognition_gives_its_encoder_and_its_front_end(saved: Path) -> None:
    encoder = Wav2Vec2(WAVE, source=str(saved)).eval()
    assert encoder.weights
    assert encoder.portable()["normalize"] is False
    again = Wav2Vec2(WAVE, **encoder.portable()).eval()  # as a bundle makes it
    again.load_state_dict(encoder.state_dict())
    rows = waves(5_000, 3_000)
    assert torch.equal(frames(again, rows).data, frames(encoder, rows).data)
    assert Wav2Vec2(WAVE, source=str(saved), normalize=True).portable()["normalize"] is True


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        *(
            (kind, {**BASE, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}) for kind in KINDS
        ),  # has no vector for masks
        *((kind, {**LARGE, "add_adapter": True}) for kind in ("wav2vec2", "wavlm")),
        ("wav2vec2", {**LARGE, "adapter_attn_dim": 4}),
    ],
)
def test_weights_of_any_checkpoint_fit_what_its_sizes_make(
    tmp_path: Path, kind: str, form: Mapping[str, object]
) -> None:
    config, model = KINDS[kind]._classes()
    torch.manual_seed(0)
    model(config(**SIZES, **form)).save_pretrained(tmp_path)  # type: ignore[arg-type]
    encoder, rows = KINDS[kind](WAVE, source=str(tmp_path), normalize=True).eval(), waves(4_000, 1_000)
    again = KINDS[kind](WAVE, **encoder.portable()).eval()  # type: ignore[arg-type] # as a bundle makes it
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(frames(again, rows).data, frames(encoder, rows).data)


def test_a_checkpoint_that_does_not_say_whether_waves_are_standardised_is_asked_about(
    saved: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(saved, bare)
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(SertkError, match=r"no preprocessor_config.json .* set backbone.normalize to true or false"):
        Wav2Vec2(WAVE, source=str(bare))
    assert Wav2Vec2(WAVE, source=str(bare), normalize=True).portable()["normalize"] is True


def test_what_is_no_checkpoint_is_refused_with_the_folder_to_fill(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SertkError, match=rf"put the checkpoint's files into {tmp_path}/facebook/wav2vec2-base"):
        Wav2Vec2(WAVE, source="facebook/wav2vec2-base")
    with pytest.raises(SertkError, match="is a wav2vec2 checkpoint"):
        WavLM(WAVE, source=str(saved))
    (tmp_path / "facebook").mkdir()
    (tmp_path / "facebook" / "wav2vec2-base").symlink_to(saved)
    assert Wav2Vec2(WAVE, source="facebook/wav2vec2-base").width == 16  # just there the name is found


def test_attention_is_torch_s_own_where_the_model_has_it() -> None:
    chosen = {kind: made(kind).encoder.config._attn_implementation for kind in KINDS}
    assert chosen == {"wav2vec2": "sdpa", "hubert": "sdpa", "wavlm": "eager", "data2vec": "sdpa"}


def test_wrong_settings_and_waves_are_refused() -> None:
    with pytest.raises(UsageError, match="needs a source"):
        Wav2Vec2(WAVE)
    with pytest.raises(UsageError, match="layers is 4; it is from 0 to 3"):
        made("wav2vec2", layers=4)
    with pytest.raises(UsageError, match="config has no 'depth'"):
        Wav2Vec2(WAVE, config={"depth": 3})
    with pytest.raises(UsageError, match="reads waves of 16000 Hz"):
        Hubert({"mel": InputSpec(40, 0.01)}, config=SIZES)
    with pytest.raises(SertkError, match=r"0\.025 s\). Remove it"):
        frames(made("wavlm"), waves(399))


def test_settings_are_told_with_their_meaning() -> None:
    told = {setting[0]: setting[-1] for setting in Plugins().settings("backbone", "wavlm")}
    assert told["freeze"].startswith('"none"; "conv"')

"""VGGish: its patches by hand, its weights in every form, and what it refuses."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sertk.builtin.backbones.vggish import Patches, VGGish
from sertk.builtin.features.frozen import Frozen
from sertk.core import InputSpec, Padded, SertkError, Split, UsageError

WAVE = {"wave": InputSpec(1, 1 / 16_000)}
SILENCE = math.log(0.01)


@pytest.fixture(scope="module")
def net() -> VGGish:
    """The one with random weights: 289 MB."""
    torch.manual_seed(0)
    made = VGGish(WAVE).eval()
    with torch.no_grad():
        for name, value in made.named_parameters():
            if name.endswith("bias"):  # so that they matter
                value.normal_(std=0.1)
    return made


def outline(**settings: object) -> VGGish:
    """One without values."""
    with torch.device("meta"):
        return VGGish(WAVE, **settings)  # type: ignore[arg-type]


def waves(*samples: int) -> Padded:
    """(B, S) noise, and behind it what nobody may read."""
    generator = torch.Generator().manual_seed(1)
    rows = Padded.stack([0.1 * torch.randn(size, generator=generator) for size in samples])
    return rows.fill(math.nan)


@torch.no_grad()
def frames(backbone: VGGish, rows: Padded) -> Padded:
    return backbone({"wave": Padded(rows.data[..., None], rows.length)})


# ---------------------------------------------------------------- patches


def test_a_patch_is_96_whole_windows_and_a_shorter_utterance_is_made_one_by_silence() -> None:
    # windows: 1 + (S - 400) // 160; patches of 96: the first ends at 400 + 95 * 160 = 15,600, the second at 30,960
    counts = {1: 1, 8_000: 1, 15_360: 1, 15_599: 1, 15_600: 1, 30_959: 1, 30_960: 2, 32_000: 2, 46_320: 3}
    found = Patches()(waves(*counts))
    assert found.length.tolist() == [*counts.values()]
    assert found.data.shape == (9, 3, 96, 64)
    assert Patches()(waves(8_000)).data.shape == (1, 1, 96, 64)
    # of 8,000 samples, window 49 (7,840 to 8,240) is the last to see any
    half = found.data[1, 0]
    torch.testing.assert_close(half[50:], torch.full((46, 64), SILENCE))
    assert (half[49] > SILENCE).all()


def test_silence_is_the_logarithm_of_a_hundredth() -> None:
    found = Patches()(Padded(torch.zeros(1, 32_000), torch.tensor([32_000])))
    torch.testing.assert_close(found.data, torch.full((1, 2, 96, 64), -4.605170))


def test_patches_are_those_of_the_published_front_end() -> None:
    rows = waves(31_111)
    wave = rows.data[0].double().numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitude = np.stack([np.abs(np.fft.rfft(wave[at : at + 400] * window, 512)) for at in range(0, 192 * 160, 160)])
    mel = 1127 * np.log(1 + np.arange(257) * 31.25 / 700)
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    bands = [
        np.clip(np.minimum((mel - low) / (middle - low), (high - mel) / (high - middle)), 0, None)
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False)
    ]
    wanted = np.log(magnitude @ np.stack(bands, 1) + 0.01).reshape(2, 96, 64)
    torch.testing.assert_close(Patches()(rows).data[0].double(), torch.tensor(wanted), atol=1e-4, rtol=0)


def test_filters_are_triangles_of_height_1_on_the_mel_scale() -> None:
    filters = Patches().filters
    assert filters.shape == (257, 64)
    # edges every (2773.35 - 185.17) / 65 = 39.818 mel; 1 kHz, bin 32, is 999.99 mel, the 20.4637th step from the first
    # edge, so between band 19 (its middle is the 20th step) and band 20
    torch.testing.assert_close(filters[32, 18:22], torch.tensor([0.0, 0.5363, 0.4637, 0.0]), atol=1e-4, rtol=0)
    assert not filters[:5].any()  # to 125 Hz
    assert not filters[241:].any()  # behind 7.5 kHz, bin 240
    torch.testing.assert_close(filters[8:200].sum(1), torch.ones(192))  # neighbours add up to 1


# ---------------------------------------------------------------- the network


def test_its_layers_have_the_published_sizes() -> None:
    # 9 in out + out for a convolution, in out + out behind them
    counts = [640, 73_856, 295_168, 590_080, 1_180_160, 2_359_808, 50_335_744, 16_781_312, 524_416]
    made = outline()
    assert [sum(value.numel() for value in group) for group in made.groups()] == counts
    assert sum(counts) == sum(value.numel() for value in made.parameters()) == 72_141_184
    assert (made.width, made.frame_seconds) == (128, 0.96)


@torch.no_grad()
def test_maps_are_flattened_with_the_channels_last(net: VGGish) -> None:
    seen: list[Tensor] = []
    hooks = [
        net.features.register_forward_hook(lambda _, __, out: seen.append(out)),
        net.embeddings.register_forward_hook(lambda _, given, out: seen.extend([given[0], out])),
    ]
    found = frames(net, waves(16_000))
    for hook in hooks:
        hook.remove()
    maps, flat, out = seen
    assert maps.shape == (1, 512, 6, 4)  # time, then bands
    wanted = [maps[0, :, step, band] for step, band in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0))]
    assert torch.equal(flat[0, : 5 * 512], torch.cat(wanted))
    assert torch.equal(found.data[0], out)
    assert (out >= 0).all()
    assert out.any()


def test_an_utterance_gives_the_same_alone_and_among_others(net: VGGish) -> None:
    rows = waves(8_000, 47_000, 15_700)
    together = frames(net, rows)
    assert together.length.tolist() == [1, 3, 1]
    for place, size in enumerate(rows.length.tolist()):
        alone = frames(net, Padded(rows.data[place : place + 1, :size], rows.length[place : place + 1]))
        torch.testing.assert_close(together.data[place, : alone.data.shape[1]], alone.data[0], atol=1e-4, rtol=1e-4)
    assert not together.data[0, 1:].any()


def test_frozen_as_a_feature_it_gives_the_same(net: VGGish) -> None:
    rows = waves(8_000, 31_000)
    feature = Frozen(16_000, lambda _: net)
    assert torch.equal(feature(rows).data, frames(net, rows).data)
    assert (feature.width, feature.frame_seconds) == (128, 0.96)
    assert feature.portable() == {"backbone": {"source": None, "sha256": None}}  # in a bundle: no place
    net.requires_grad_()


def test_frozen_it_is_a_feature_and_else_all_of_it_is_trained() -> None:
    settings = {"source": "there", "reads": "wave"}
    inside = {"name": "vggish", "source": "there"}
    whole = Split({"name": "frozen", "backbone": inside}, {"name": "frames", "layers": "keep"})
    assert VGGish.split("vggish", {**settings, "freeze": "all"}) == whole
    assert VGGish.split("vggish", settings) is VGGish.split("vggish", {**settings, "freeze": "none"}) is None
    for freeze in ("none", "all"):
        assert {value.requires_grad for value in outline(freeze=freeze).parameters()} == {freeze == "none"}


# ---------------------------------------------------------------- weights


def kept(state: Mapping[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(dict(state), path)
    else:
        torch.save(dict(state), path)
    return path


def as_torchvggish(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "pproc.pca_eigen_vectors": torch.eye(3), "pproc.pca_means": torch.zeros(3, 1)}


def as_torchaudio(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parts = {"features": "features_network", "embeddings": "embedding_network"}
    return {parts[part] + "." + rest: x for name, x in state.items() for part, _, rest in [name.partition(".")]}


@pytest.mark.parametrize("layout", [as_torchvggish, as_torchaudio])
@pytest.mark.parametrize("name", ["vggish.pth", "vggish.safetensors"])
def test_published_weights_are_read_in_both_layouts_and_forms(
    net: VGGish, layout: type[dict[str, Tensor]], name: str, tmp_path: Path
) -> None:
    path = kept(layout(net.state_dict()), tmp_path / name)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if layout is as_torchaudio else None
    made = VGGish(WAVE, source=str(tmp_path), sha256=sha256 and sha256.upper()).eval()
    path.unlink()  # 289 MB
    assert torch.equal(frames(made, waves(9_000)).data, frames(net, waves(9_000)).data)
    assert (net.weights, len(made.weights)) == ("", 16)
    assert made.portable() == {"source": None, "sha256": None}


def small() -> dict[str, Tensor]:
    """The published names and shapes, in a file of a few kB: each tensor is one value, repeated."""
    return {name: torch.zeros(()).expand(value.shape) for name, value in outline().state_dict().items()}


def test_the_hash_is_of_the_weights_and_not_of_their_names(tmp_path: Path) -> None:
    one, other = (
        VGGish(WAVE, source=str(kept(layout(small()), tmp_path / f"{layout.__name__}.pt")))
        for layout in (as_torchvggish, as_torchaudio)
    )
    assert one.weights == other.weights != ""


def test_weights_of_another_network_are_refused_with_the_first_difference(tmp_path: Path) -> None:
    whole = small()
    wrong = {**whole, "embeddings.4.weight": torch.zeros(()).expand(100, 4096)}  # 28 rows fewer: 114,688 values
    less = {name: value for name, value in whole.items() if name != "features.3.bias"}
    for state, said in (
        (wrong, "embeddings.4.weight is (100, 4096), in VGGish (128, 4096); of 72,026,496 parameters, VGGish has"),
        (less, "features.3.bias is absent, in VGGish (128,); of 72,141,056 parameters, VGGish has 72,141,184. Give "),
        ({**whole, "classifier.bias": torch.zeros(7)}, "classifier.bias is (7,), in VGGish absent; of 72,141,191 "),
        ({**whole, "features.0.bias": 3.0}, "features.0.bias is (), in VGGish (64,)"),
    ):
        path = kept(state, tmp_path / "wrong.pth")
        with pytest.raises(SertkError, match=re.escape(f"{path} holds another network: {said}")):
            VGGish(WAVE, source=str(path))


class Code:
    """When it is unpickled, a file is made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_file_that_is_no_weights_is_refused_and_no_code_is_run(tmp_path: Path) -> None:
    texts = [tmp_path / "text.pth", tmp_path / "text.safetensors"]
    for path in texts:
        path.write_text("nothing")
    torch.save({"features.0.weight": Code(tmp_path / "done")}, tmp_path / "code.pth")
    torch.save([1], tmp_path / "list.pth")
    for path in (*texts, tmp_path / "code.pth", tmp_path / "list.pth"):
        with pytest.raises(SertkError, match=rf"{re.escape(str(path))} holds no weights \(.*\)\. Give torchvggish's"):
            VGGish(WAVE, source=str(path))
    assert not (tmp_path / "done").exists()


def test_another_checksum_is_refused(tmp_path: Path) -> None:
    path = kept({}, tmp_path / "vggish.pth")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(
        SertkError, match=f"the SHA-256 of {re.escape(str(path))} is {found}, and sha256 asks for 10086"
    ):
        VGGish(WAVE, source=str(path), sha256="10086976")
    with pytest.raises(UsageError, match="sha256 is the hash of a file of weights: give its source too"):
        VGGish(WAVE, sha256=found)


def test_a_folder_holds_one_file_of_weights(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("")
    nothing = re.escape(f"no file of weights (.pth, .pt, .safetensors) at {tmp_path}. sertk fetches none. Put there ")
    with pytest.raises(SertkError, match=nothing):
        VGGish(WAVE, source=str(tmp_path))
    for name in ("vggish.pt", "pca.pth"):
        (tmp_path / name).touch()
    with pytest.raises(SertkError, match=re.escape(f"{tmp_path} holds pca.pth, vggish.pt. Give one of them: source: ")):
        VGGish(WAVE, source=str(tmp_path))


def test_before_a_run_it_is_asked_whether_there_is_a_file_and_none_is_read(tmp_path: Path) -> None:
    with pytest.raises(SertkError, match=r"no file of weights .* at .*absent.* sertk fetches none"):
        outline(source=str(tmp_path / "absent.pth"))
    (tmp_path / "any.pth").touch()
    made = outline(source=str(tmp_path), sha256="0")
    assert (made.weights, next(made.parameters()).is_meta) == ("", True)


def test_only_waves_of_16_khz_are_read() -> None:
    with pytest.raises(UsageError, match="backbone 'vggish' reads waves of 16000 Hz, and 'mel' is something else"):
        VGGish({"mel": InputSpec(64, 0.01)})

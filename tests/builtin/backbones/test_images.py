"""Networks on pictures of spectrograms: sizes, weights, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models

from sertk.builtin.backbones.images import DenseNet169, ResNet50
from sertk.builtin.backbones.spectrogram_cnn import SpectrogramCNN
from sertk.core import Backbone, InputSpec, Padded, SertkError, UsageError

KINDS = (DenseNet169, ResNet50)
SMALL = {"spectrogram": InputSpec(32, 0.01, 70)}


def offered(frames: int | None, bins: int = 400) -> dict[str, InputSpec]:
    return {"spectrogram": InputSpec(bins, 0.01, frames)}


@pytest.mark.parametrize(
    ("kind", "width", "places", "small"),
    [
        # 600 frames: 300, 150, then floored 75, 37, 18; 400 bins: 200, 100, 50, 25, 12; 70: 35, 18, 9, 4, 2; 33: 1
        (DenseNet169, 1664, 18 * 12, 2),
        # every half rounded up: 600: 300, 150, 75, 38, 19; 400: 13; 70: 35, 18, 9, 5, 3; 33: 17, 9, 5, 3, 2
        (ResNet50, 2048, 19 * 13, 3 * 2),
        # a stem of 4 and three pools of 2: 600: 150, 75, 38, 19; the mean over frequency; 70: 18, 9, 5, 3
        (SpectrogramCNN, 128, 19, 3),
    ],
)
def test_a_picture_becomes_as_many_places_as_the_network_says(
    kind: type[Backbone], width: int, places: int, small: int
) -> None:
    with torch.device("meta"):
        for frames, bins, wanted in ((600, 400, places), (70, 33, small)):
            made = kind(offered(frames, bins)).eval()  # type: ignore[call-arg]
            found = made({"spectrogram": Padded(torch.zeros(2, frames, bins), torch.tensor([frames, 9]))})
            assert (made.fixed, made.frames, made.width) == (frames, wanted, width)
            assert found.data.shape == (2, wanted, width)


@pytest.mark.parametrize("name", ["densenet169", "resnet50"])
def test_the_mean_of_its_places_is_what_torchvisions_classifier_reads(name: str) -> None:
    torch.manual_seed(0)
    whole = getattr(models, name)(weights=None).eval()
    made = {"densenet169": DenseNet169, "resnet50": ResNet50}[name](SMALL).eval()
    made.net.load_state_dict(
        {word: value for word, value in whole.state_dict().items() if word in made.net.state_dict()}
    )
    read: list[Tensor] = []
    classifier = whole.classifier if name == "densenet169" else whole.fc
    classifier.register_forward_hook(lambda _, given, __: read.append(given[0]))
    rows = torch.randn(2, 70, 32)
    with torch.no_grad():
        whole(rows.transpose(1, 2)[:, None].expand(-1, 3, -1, -1))
        found = made({"spectrogram": Padded(rows, torch.tensor([70, 70]))})
    torch.testing.assert_close(found.data.mean(1) / read[0].std(), read[0] / read[0].std(), atol=1e-4, rtol=1e-4)


def state(kind: type[DenseNet169 | ResNet50]) -> dict[str, Tensor]:
    """As torchvision keeps it: a classifier too, and DenseNet's first names."""
    net = kind(SMALL).net
    own = {word: torch.full_like(value, 0.5) for word, value in net.state_dict().items()}
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", word): value for word, value in own.items()}
    return {**old, "classifier.weight": torch.zeros(3, 2), "fc.bias": torch.zeros(3)}


def kept(values: Mapping[str, Tensor], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({word: value.contiguous() for word, value in values.items()}, path)
    else:
        torch.save(dict(values), path)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_it_begins_with_a_file_of_weights_and_a_bundle_needs_none(
    kind: type[DenseNet169 | ResNet50], suffix: str, tmp_path: Path
) -> None:
    path = kept(state(kind), tmp_path / f"own{suffix}")
    made = kind(SMALL, weights=str(path))
    assert all((value == 0.5).all() for word, value in made.net.state_dict().items() if "num_batches" not in word)
    assert made.weights
    assert kind(SMALL, weights="none").weights == kind(SMALL).weights == ""
    assert made.portable() == {"weights": None}


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_of_imagenet_are_read_where_torchvision_keeps_them_and_never_fetched(
    kind: type[DenseNet169 | ResNet50], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / kind.file
    says = re.escape(f"the weights of ImageNet are not in {place}, and sertk fetches none. Put https://")
    with pytest.raises(SertkError, match=says):
        kind(SMALL, weights="imagenet")
    with torch.device("meta"), pytest.raises(SertkError, match=says):  # before anything is run
        kind(SMALL, weights="imagenet")
    kept(state(kind), place)
    made = kind(SMALL, weights="imagenet")
    assert made.weights == kind(SMALL, weights=str(place)).weights != ""
    with torch.device("meta"):
        assert kind(SMALL, weights="imagenet").weights == ""


def test_the_file_is_the_one_that_torchvision_would_fetch() -> None:
    for kind, weights in ((DenseNet169, models.DenseNet169_Weights), (ResNet50, models.ResNet50_Weights)):
        assert weights.IMAGENET1K_V1.url == f"https://download.pytorch.org/models/{kind.file}"


def test_a_file_without_its_weights_is_refused(tmp_path: Path) -> None:
    other = kept(state(ResNet50), tmp_path / "other.pth")
    text = tmp_path / "text.pth"
    text.write_text("nothing")
    for path in (other, text):
        with pytest.raises(SertkError, match=f"{re.escape(str(path))} holds no weights of it .*densenet169-b2777c0a"):
            DenseNet169(SMALL, weights=str(path))


def test_a_folder_is_looked_into_for_the_file_of_torchvision(tmp_path: Path) -> None:
    with pytest.raises(SertkError, match=re.escape(f"there is no {tmp_path / DenseNet169.file}. weights is none, ima")):
        DenseNet169(SMALL, weights=str(tmp_path))
    kept(state(DenseNet169), tmp_path / DenseNet169.file)
    assert DenseNet169(SMALL, weights=str(tmp_path)).weights
    with pytest.raises(SertkError, match=r"there is no imagnet\. weights is none, imagenet, a file, or a folder"):
        DenseNet169(SMALL, weights="imagnet")


@pytest.mark.parametrize("kind", [*KINDS, SpectrogramCNN])
def test_pictures_of_one_size_are_needed(kind: type[Backbone]) -> None:
    with pytest.raises(UsageError, match=r"reads pictures of one size: set crop, for example \{length: 4.0"):
        kind(offered(None))  # type: ignore[call-arg]


def test_a_picture_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing is left of pictures of 20 frames and 400 bands"):
        DenseNet169(offered(20))
    assert ResNet50(offered(20, 20)).frames == 1


# --- the small one --------------------------------------------------------------------------------------------------


def test_the_small_cnn_averages_frequencies_without_an_lstm() -> None:
    torch.manual_seed(1)
    made = SpectrogramCNN(offered(9, 7), channels=(3, 5), stem=2).eval()
    rows = torch.randn(2, 9, 7)
    with torch.no_grad():
        maps = made.blocks(rows[:, None])  # time: 9, 5, 3; frequency: 7, 4, 2
        found = made({"spectrogram": Padded(rows, torch.tensor([9, 2]))})
    assert maps.shape == (2, 5, 3, 2)
    assert found.length.tolist() == [3, 3]  # a crop's padding is signal
    torch.testing.assert_close(found.data, ((maps[..., 0] + maps[..., 1]) / 2).transpose(1, 2))


def test_the_small_cnn_reads_all_frequencies_with_an_lstm() -> None:
    made = SpectrogramCNN(offered(9, 7), channels=(3, 5), stem=2, lstm=4).eval()
    assert made.lstm is not None
    assert (made.lstm.input_size, made.width) == (5 * 2, 8)
    rows = torch.randn(2, 9, 7)
    one, other = (made({"spectrogram": Padded(x, torch.tensor([9, 9]))}).data for x in (rows, rows.flip(1)))
    assert one.shape == (2, 3, 8)
    assert not torch.allclose(one.mean(1), other.mean(1))  # it hears the order


def test_the_small_cnn_needs_channels() -> None:
    with pytest.raises(UsageError, match=r"channels is \[\]; it is a list of at least the first convolution's"):
        SpectrogramCNN(offered(90), channels=())

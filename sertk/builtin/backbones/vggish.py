"""VGGish (Hershey et al. 2017, trained as Gemmeke et al. 2017 describe), the audio branch of P4 section 4."""

from __future__ import annotations

import hashlib
import itertools
import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sertk.builtin.backbones.common import RATE, choose_wave, on_meta, split_frozen
from sertk.core import Backbone, InputSpec, Padded, SertkError, Split, UsageError, hash_of

WINDOW, HOP, FFT = 400, 160, 512
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0  # Hz
FRAMES: Final = 96  # of a patch
SHORTEST: Final = WINDOW + (FRAMES - 1) * HOP  # samples that make one
OFFSET: Final = 0.01
SIZES = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool")
LAYERS = {"features_network.": "features.", "embedding_network.": "embeddings."}  # torchaudio's names and torchvggish's
SUFFIXES = (".pth", ".pt", ".safetensors")
EXAMPLE = "torchvggish's vggish-10086976.pth or torchaudio's vggish.pt, or either as .safetensors"


class Patches(nn.Module):
    """Log-mel patches as the published VGGish reads them: ln(0.01 + mel), mel of magnitudes and not of power.

    Windows lie inside the wave and patches side by side; what makes no whole patch at its end is dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", _filters(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    @torch.no_grad()
    def forward(self, waves: Padded) -> Padded:
        """(B, S) -> (B, T, 96, 64). Where a wave has no whole patch, silence behind it makes it one."""
        data = waves.fill(0.0).data.float()
        data = nn.functional.pad(data, (0, max(0, SHORTEST - data.shape[1])))
        length = ((waves.length.clamp(min=SHORTEST) - WINDOW) // HOP + 1) // FRAMES
        frames = data.unfold(1, WINDOW, HOP)[:, : FRAMES * int(length.max())]
        with torch.autocast(data.device.type, enabled=False):
            mel = torch.fft.rfft(frames * self.window, FFT).abs() @ self.filters
        return Padded((mel + OFFSET).log().unflatten(1, (-1, FRAMES)), length)


class VGGish(Backbone):
    """VGGish on waves of 16 kHz: a frame of 128 values for each whole 0.96 s.

    The first patch takes 0.975 s, to the end of its last window. As in the published network, what is left behind the
    last whole patch is dropped; but an utterance that has no whole patch is padded with silence to one, so that each
    utterance has a frame. What AudioSet's released embeddings went through afterwards (PCA, whitening, 8 bits) is not
    done: the frames are what the network's last ReLU gives.

    Args:
        inputs: What the run offers; given by the run.
        reads: The wave that it reads; the only input when null.
        source: Published weights: a file, .pth, .pt or .safetensors, or the folder with it. The names of torchvggish
            (features.0.weight) and of torchaudio (features_network.0.weight) are known; what torchvggish keeps for the
            PCA (pproc.*) is left out. Null for random weights. A bundle needs none.
        sha256: What the SHA-256 of that file must be; null for any.
        freeze: "none" or "all". What is frozen becomes a feature that is computed once (see the feature `frozen`).
    """

    places = ("source",)
    width, frame_seconds = 128, FRAMES * HOP / RATE

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        reads: str | None = None,
        source: str | None = None,
        sha256: str | None = None,
        freeze: Literal["none", "all"] = "none",
    ) -> None:
        super().__init__()
        self.inputs = (choose_wave("vggish", inputs, reads),)
        self.patches = Patches()
        with torch.device("meta"):  # no values are drawn for 289 MB that are overwritten
            self.features, self.embeddings = nn.Sequential(*_convolutions()), _connected()
        for part in (self.features, self.embeddings):
            part.to_empty(device=torch.get_default_device())
        if source is not None:
            self._load(_file(Path(source)), sha256)
        elif sha256 is not None:
            raise UsageError("backbone 'vggish': sha256 is the hash of a file of weights: give its source too.")
        else:
            self._draw()
        self.requires_grad_(freeze == "none")

    def _draw(self) -> None:
        """Random weights that keep the size of what goes through (He et al. 2015)."""
        for name, value in self.named_parameters():
            nn.init.zeros_(value) if name.endswith("bias") else nn.init.kaiming_uniform_(value, nonlinearity="relu")

    def _load(self, path: Path, sha256: str | None) -> None:
        """Takes published weights; on the meta device it is enough that there is a file."""
        if on_meta():
            return
        if sha256 is not None:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256.lower():
                raise SertkError(
                    f"backbone 'vggish': the SHA-256 of {path} is {found}, and sha256 asks for {sha256}. Copy the file "
                    "again; or set the sum of the file that you mean."
                )
        state = _read(path)
        _check(path, state, self.state_dict())
        self.load_state_dict(state)
        self.weights = hash_of(self.state_dict())

    @classmethod
    def split(cls, name: str, settings: Mapping[str, object]) -> Split | None:
        """The whole, where it is frozen."""
        return split_frozen(name, settings, "none", "conv")

    def groups(self) -> Sequence[Sequence[nn.Parameter]]:
        """The six convolutions, and the three layers behind them."""
        layers = [list(layer.parameters()) for layer in (*self.features, *self.embeddings)]
        return [layer for layer in layers if layer]

    def portable(self) -> Mapping[str, object]:
        """No source: a bundle has the weights."""
        return {"source": None, "sha256": None}

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{wave: (B, S, 1)} -> (B, T, 128), a frame each 0.96 s."""
        wave = inputs[self.inputs[0]]
        patches = self.patches(Padded(wave.data[..., 0], wave.length))
        maps = self.features(patches.data[patches.mask][:, None])  # real patches alone: (N, 512, 6, 4)
        found = self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))  # channels last, as TensorFlow flattens them
        frames = found.new_zeros(*patches.mask.shape, self.width)
        frames[patches.mask] = found
        return Padded(frames, patches.length)


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * (hertz / 700.0).log1p()


def _filters() -> Tensor:
    """(257, 64) triangles of height 1, evenly spaced on the HTK mel scale and straight on it, not in Hz."""
    bins = _mel(torch.linspace(0, RATE / 2, FFT // 2 + 1, dtype=torch.float64))
    ends = _mel(torch.tensor([LOWEST, HIGHEST], dtype=torch.float64))
    step = ends.diff() / (BANDS + 1)
    middles = ends[0] + step * torch.arange(1, BANDS + 1)
    return (1 - (bins[:, None] - middles).abs() / step).clamp(min=0).float()


def _convolutions() -> Iterator[nn.Module]:
    channels = 1
    for size in SIZES:
        if isinstance(size, int):
            yield nn.Conv2d(channels, size, 3, padding=1)
            yield nn.ReLU(inplace=True)
            channels = size
        else:
            yield nn.MaxPool2d(2)


def _connected() -> nn.Sequential:
    sizes = (6 * 4 * 512, 4096, 4096, VGGish.width)
    layers = (nn.Linear(size, out) for size, out in itertools.pairwise(sizes))
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU(inplace=True))))


def _file(source: Path) -> Path:
    """The file of weights, or the only one in a folder.

    Raises:
        SertkError: If there is no such file, or there are several.
    """
    if source.is_file():
        return source
    found = sorted(path for path in source.glob("*") if path.suffix in SUFFIXES)
    if len(found) != 1:
        names = ", ".join(path.name for path in found)
        what = f"{source} holds {names}" if found else f"no file of weights ({', '.join(SUFFIXES)}) at {source}"
        step = "Give one of them: source: FOLDER/FILE" if found else f"sertk fetches none. Put there {EXAMPLE}"
        raise SertkError(f"backbone 'vggish': {what}. {step}.")
    return found[0]


def _read(path: Path) -> dict[str, object]:
    """The weights of a file by torchvggish's names.

    Raises:
        SertkError: Where it cannot be read.
    """
    try:
        read = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        named = {str(name): value for name, value in read.items() if not str(name).startswith("pproc.")}
    except (AttributeError, EOFError, OSError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        first = str(error).strip().partition("\n")[0]
        raise SertkError(f"backbone 'vggish': {path} holds no weights ({first}). Give {EXAMPLE}.") from None
    for theirs, ours in LAYERS.items():
        named = {ours + name.removeprefix(theirs) if name.startswith(theirs) else name: x for name, x in named.items()}
    return named


def _check(path: Path, found: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Refuses weights of another network.

    Raises:
        SertkError: Where a name or a shape is another, and with them the number of parameters.
    """
    sizes, asked = (
        {name: tuple(value.shape) if isinstance(value, Tensor) else () for name, value in state.items()}
        for state in (found, wanted)
    )
    odd = sorted(name for name in sizes.keys() | asked.keys() if sizes.get(name) != asked.get(name))
    if odd:
        has, needs = sizes.get(odd[0], "absent"), asked.get(odd[0], "absent")
        count, whole = (sum(map(math.prod, state.values())) for state in (sizes, asked))
        raise SertkError(
            f"backbone 'vggish': {path} holds another network: {odd[0]} is {has}, in VGGish {needs}; of {count:,} "
            f"parameters, VGGish has {whole:,}. Give {EXAMPLE}."
        )

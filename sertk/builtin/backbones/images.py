"""DenseNet169 and ResNet50 of torchvision on pictures of spectrograms (P4 section 5.2)."""

from __future__ import annotations

import pickle
import re
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sertk.builtin.backbones.common import choose_crops, on_meta
from sertk.core import Backbone, InputSpec, Padded, SertkError, UsageError, hash_of


class _Images(Backbone):
    """A network of pictures without its classifier: what it gives to the global average, place by place.

    The three colours that it expects are the one channel thrice. Crops alone, whose padding is signal.

    Args:
        inputs: What the run offers; given by the run.
        reads: The input that it reads; the only one when null.
        weights: What it begins with: none, random ones; imagenet, those that torchvision keeps in its folder
            of checkpoints; a folder with torchvision's file; or a file, its state as .pth or .safetensors. A bundle
            needs none.
    """

    places = ("weights",)
    kind: ClassVar[str]
    file: ClassVar[str]  # of the weights of ImageNet (IMAGENET1K_V1), as torchvision calls it
    halves: ClassVar[tuple[int, ...]]  # what is added to a size before each of the five times that it is halved

    def __init__(self, inputs: Mapping[str, InputSpec], reads: str | None = None, weights: str | None = None) -> None:
        super().__init__()
        name, self.fixed = choose_crops(self.kind, inputs, reads)
        self.inputs, source = (name,), inputs[name]
        rows, steps = source.width, self.fixed
        for more in self.halves:
            rows, steps = (rows + more) // 2, (steps + more) // 2
        if not rows * steps:
            raise UsageError(
                f"backbone {self.kind!r}: nothing is left of pictures of {self.fixed} frames and {source.width} bands; "
                "give each at least 32"
            )
        self.frames, self.frame_seconds = rows * steps, source.frame_seconds * 32 / rows
        try:
            from torchvision import models
        except ImportError:
            raise UsageError(f"backbone {self.kind!r} is of torchvision: pip install 'sertk[vision]'") from None
        self.net = nn.Sequential(self._parts(models)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if weights not in (None, "none"):
            self._load(self._path(str(weights)))

    @abstractmethod
    def _parts(self, models: Any) -> OrderedDict[str, nn.Module]:  # noqa: ANN401 - a module
        """What comes before the global average, in order, by the names that a file of weights has."""

    def _path(self, weights: str) -> Path:
        if weights != "imagenet":
            given = Path(weights)
            path = given / self.file if given.is_dir() else given
            if not path.is_file():
                raise SertkError(
                    f"backbone {self.kind!r}: there is no {path}. weights is none, imagenet, a file, or a folder with "
                    f"{self.file}."
                )
            return path
        path = Path(torch.hub.get_dir()) / "checkpoints" / self.file
        if not path.is_file():
            raise SertkError(
                f"backbone {self.kind!r}: the weights of ImageNet are not in {path}, and sertk fetches none. Put "
                f"https://download.pytorch.org/models/{self.file} there, or give its place: weights: FOLDER/{self.file}"
            )
        return path

    def _load(self, path: Path) -> None:
        """Begins with a file of weights, whatever its classifier.

        Raises:
            SertkError: Where it cannot be read or is of another network.
        """
        try:
            read = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
            # torchvision's own files of DenseNet have the names of its first version: norm.1 for norm1
            state: dict[str, Tensor] = {
                re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.", r"\1", name): value
                for name, value in read.items()
                if not name.startswith(("classifier.", "fc."))
            }
            if not on_meta():
                self.net.load_state_dict(state)
        except (AttributeError, EOFError, OSError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
            first = str(error).strip().partition("\n")[0]
            raise SertkError(
                f"backbone {self.kind!r}: {path} holds no weights of it ({first}). Give a file of torchvision such as "
                f"{self.file}, or a state dict with its names as .pth or .safetensors."
            ) from None
        self.weights = hash_of(self.net.state_dict())

    def portable(self) -> Mapping[str, object]:
        """No weights: a bundle has them."""
        return {"weights": None}

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{name: (B, T, bins)} -> (B, places, D), ordered by time, then frequency."""
        x = inputs[self.inputs[0]]
        picture = x.data.transpose(1, 2)[:, None].expand(-1, 3, -1, -1)  # (B, 3, bins, T)
        maps: Tensor = self.net(picture.contiguous(memory_format=torch.channels_last))
        frames = maps.permute(0, 3, 2, 1).flatten(1, 2)
        return Padded(frames, torch.full_like(x.length, frames.shape[1]))


class DenseNet169(_Images):
    """DenseNet169 (Huang et al. 2017) of torchvision; needs sertk[vision]."""

    kind, file, halves, width = "densenet169", "densenet169-b2777c0a.pth", (1, 1, 0, 0, 0), 1664

    def _parts(self, models: Any) -> OrderedDict[str, nn.Module]:  # noqa: ANN401
        return OrderedDict(features=models.densenet169(weights=None).features, relu=nn.ReLU(inplace=True))


class ResNet50(_Images):
    """ResNet50 (He et al. 2016) of torchvision; needs sertk[vision]. Random blocks begin as the identity."""

    kind, file, halves, width = "resnet50", "resnet50-0676ba61.pth", (1, 1, 1, 1, 1), 2048

    def _parts(self, models: Any) -> OrderedDict[str, nn.Module]:  # noqa: ANN401
        made = models.resnet50(weights=None, zero_init_residual=True)  # else 16 blocks add up to values in the hundreds
        return OrderedDict([*made.named_children()][:-2])  # without the average and the classifier

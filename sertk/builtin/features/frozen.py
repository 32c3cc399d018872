"""A backbone that is not trained, as a feature."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from safetensors.torch import load, save

from sertk.core import CODE_POINTS, Backbone, Feature, InputSpec, Padded, SertkError, hash_of, mean_std

WEIGHTS = "weights.safetensors"


class Frozen(Feature):
    """The frames of a backbone that is not trained, or their statistics over the utterance: computed once and cached.

    With `pool` an utterance is one frame, each layer's statistics side by side: [mean | std] of the first, of the next,
    and so on.

    Args:
        rate: Sampling rate, Hz; given by the run.
        backbone: It reads the wave, under the name wave; or the characters of the transcript, under the name text.
        pool: "mean" or "mean_std" (of the population) over the utterance's frames; null keeps the frames.
        reads: What the backbone reads.
    """

    def __init__(
        self,
        rate: int,
        backbone: Callable[[Mapping[str, InputSpec]], Backbone],
        pool: Literal["mean", "mean_std"] | None = None,
        reads: Literal["wave", "text"] = "wave",
    ) -> None:
        text = InputSpec(1, math.inf, symbols=CODE_POINTS, optional=True)
        made = backbone({reads: InputSpec(1, 1 / rate) if reads == "wave" else text})
        self.reads = reads
        self._backbone, self._pool = made.eval().requires_grad_(False), pool
        self.width, self.layers = made.width * (2 if pool == "mean_std" else 1), made.layers
        self.longest = made.longest
        self.frame_seconds = math.inf if pool else made.frame_seconds  # one frame, however long the wave
        self.weights = hash_of(self._backbone.state_dict())

    @torch.no_grad()
    def __call__(self, inputs: Padded) -> Padded:
        """(B, S) waves, or code points of texts -> (B, T, D) frames, or (B, 1, D or 2 D) statistics."""
        backbone = self._backbone.to(inputs.data.device)
        # a GPU's convolutions would round to TF32, and what is cached is also computed on CPUs
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            frames: Padded = backbone({self.reads: Padded(inputs.data[..., None], inputs.length)})
        if self._pool is None:
            return frames.fill(0.0)
        mean, std = mean_std(frames.data, frames.mask)
        parts = [mean, std] if self._pool == "mean_std" else [mean]
        rows = len(frames.length)
        layers = torch.stack([part.view(rows, self.layers, -1) for part in parts], 2)  # (B, layers, 1 or 2, D)
        return Padded(layers.flatten(1)[:, None], torch.ones_like(inputs.length))

    def portable(self) -> Mapping[str, object]:
        """The backbone without the place that its weights came from."""
        return {"backbone": self._backbone.portable()}

    def files(self) -> dict[str, bytes]:
        """The weights."""
        return {WEIGHTS: save({name: value.cpu().contiguous() for name, value in self._backbone.state_dict().items()})}

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Takes the weights back.

        Raises:
            SertkError: Where they are missing or of another backbone.
        """
        try:
            self._backbone.load_state_dict(load(files[WEIGHTS]))
            self.weights = hash_of(self._backbone.state_dict())
        except KeyError:
            raise SertkError(f"the bundle lacks {WEIGHTS} of its frozen backbone. Copy it again, whole.") from None
        except RuntimeError as error:
            raise SertkError(f"{WEIGHTS} of the bundle does not fit its frozen backbone: {error}") from None

"""wav2vec 2.0, HuBERT, WavLM and data2vec from Hugging Face checkpoints, exact at any length and in any batch."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sertk.builtin.backbones.common import (
    RATE,
    LayerSum,
    check_depth,
    check_frames,
    check_source,
    choose,
    choose_wave,
    join_frozen,
    pretrained,
    remove,
    split_frozen,
)
from sertk.core import Backbone, InputSpec, Padded, SertkError, Split, UsageError, check_range, hash_of, mean_std
from sertk.core.low_rank import adapt

if TYPE_CHECKING:  # seconds that a run without these encoders need not pay
    from transformers import PretrainedConfig, PreTrainedModel

# what a configuration says of the sizes and the arithmetic; not all encoders have all of them
CONFIG = (
    "activation_dropout",
    "adapter_attn_dim",
    "attention_dropout",
    "conv_bias",
    "conv_dim",
    "conv_kernel",
    "conv_pos_batch_norm",
    "conv_pos_kernel_size",
    "conv_stride",
    "do_stable_layer_norm",
    "feat_extract_activation",
    "feat_extract_norm",
    "feat_proj_dropout",
    "feat_proj_layer_norm",
    "hidden_act",
    "hidden_dropout",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_bucket_distance",
    "num_attention_heads",
    "num_buckets",
    "num_conv_pos_embedding_groups",
    "num_conv_pos_embeddings",
    "num_hidden_layers",
)


class RealNorm(nn.GroupNorm):
    """A normalisation over time with the statistics of the real frames of each row, padding left out.

    It has the names of nn.GroupNorm's parameters, so that it takes its place in a checkpoint.
    """

    length: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> the same; frames behind `length` (B,) are zero."""
        length = self.length
        if length is None or bool((length >= x.shape[2]).all()):
            return super().forward(x)
        out = torch.zeros_like(x)
        # rows of one length at once: a mask would read the widest layer thrice
        for size in sorted(set(length.tolist())):
            rows = (length == size).nonzero()[:, 0]
            out[rows, :, :size] = super().forward(x[rows, :, :size])
        return out


class SpeechEncoder(Backbone):
    """An encoder of speech from a Hugging Face checkpoint, on waves of 16 kHz.

    An utterance does not see the padding of its batch. The first convolution of the smaller checkpoints (wav2vec2-base)
    is normalised over time, padding included, in Hugging Face's code and in toolkits that call it: a batch then changes
    its members by as much as their own size. Here that norm takes its statistics from the real frames (see `RealNorm`),
    waves are standardised over their real samples, the frames behind an utterance are zero in front of the positional
    convolution, and no frame attends to them.

    In training it has the dropouts that the checkpoint's configuration names, and none of the two other things that
    Hugging Face's forward does there by default: no frames are masked (SpecAugment), and no layers dropped (LayerDrop).

    Args:
        inputs: What the run offers; given by the run.
        reads: The input that it reads, a wave, or frames with `start`; the only one when null.
        source: Folder of the checkpoint, or its name on the Hugging Face hub. A bundle needs none.
        config: Sizes of an encoder with random weights, instead of `source`.
        layers: "last"; the number of one (0 is what the first layer reads, as `hidden_states` counts); "all" side by
            side; "weighted" for their learned weighted sum.
        freeze: "none"; "conv" for the convolutions on the wave; the number of layers that are frozen with them and the
            projection; or "all". What is frozen becomes a feature that is computed once (see the feature `frozen`), in
            eval mode: all of it, always; a part of it where the input is the wave as it is (no crop, `normalize: none`,
            no augmentation of waves). Else the part is computed again in every epoch.
        normalize: Whether each wave is standardised; null as the checkpoint's own front end does.
        checkpointing: Compute the layers again in the backward pass instead of keeping what they need: slower,
            and much less memory.
        lora: Train low-rank adapters of this rank at the queries and values of the layers that are not frozen, and
            nothing else of the encoder; null trains the layers. A model has the sums.
        up_to: The lower part alone: what the layer of this number reads (and what those below it read, with
            `layers: all`), or "conv" for what the convolutions give. Set by the run, from `freeze`.
        start: The upper part alone, from the layer of this number on, or "conv" for all behind the convolutions; it
            reads what the lower part gives. Set by the run, from `freeze`.
    """

    places = ("source",)
    kind: ClassVar[str]
    example: ClassVar[str]

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        reads: str | None = None,
        source: str | None = None,
        config: Mapping[str, object] | None = None,
        layers: int | Literal["last", "all", "weighted"] = "last",
        freeze: int | Literal["none", "conv", "all"] = "conv",
        normalize: bool | None = None,
        checkpointing: bool = False,
        lora: int | None = None,
        up_to: int | Literal["conv"] | None = None,
        start: int | Literal["conv"] | None = None,
    ) -> None:
        super().__init__()
        self.inputs = ((choose_wave if start is None else choose)(self.kind, inputs, reads),)
        check_source(self.kind, source, config)
        self.encoder = self._load(source) if source is not None else self._random(config or {})
        self.weights = hash_of(self.encoder.state_dict()) if source is not None else ""
        sizes, depth = self.encoder.config, len(self._stack.layers)
        end = up_to if isinstance(up_to, int) else depth
        check_depth(self.kind, depth, **{"freeze": freeze, "freeze (up_to)": up_to})
        check_depth(self.kind, end, layers=layers)
        self._layers, self._checkpointing, self._up_to, self._start = layers, checkpointing, up_to, start
        self._every = layers in ("all", "weighted")
        self._last = layers if isinstance(layers, int) else end
        check_depth(self.kind, self._last, start=start)
        self._normed = self._stable and self._last == depth
        self.sum = LayerSum(self._last + 1) if layers == "weighted" else None
        self.layers = self._last + 1 if layers == "all" and up_to != "conv" else 1
        self.width = (sizes.conv_dim[-1] if up_to == "conv" else sizes.hidden_size) * self.layers
        self.frame_seconds = math.prod(sizes.conv_stride) / RATE
        self._normalize = _standardised(source) if normalize is None and source is not None else bool(normalize)
        if start is not None:
            below = start + 1 if self._every and start != "conv" else 1
            width = sizes.conv_dim[-1] if start == "conv" else sizes.hidden_size
            self.frames = check_frames(self.kind, inputs[self.inputs[0]], width, below)
        _take_real_norm(self.encoder)
        self._remove()
        self._freeze(freeze)
        self._adapted = {} if lora is None else {"lora": None}  # a bundle has the sums
        if lora is not None:
            check_range(f"backbone {self.kind!r}", "lora", lora, at_least=1)
            adapt(self.encoder, self._stack.layers[: self._last], lora)

    def _remove(self) -> None:
        """Takes out what lies below `start`, or from `up_to` on."""
        encoder, stack, depth = self.encoder, self._stack, len(self._stack.layers)
        if self._start is not None:
            remove(encoder, "feature_extractor")
        if isinstance(self._start, int):
            remove(encoder, "feature_projection")
            remove(stack, "pos_conv_embed", *([] if self._stable else ["layer_norm"]))
            remove(stack.layers, *map(str, range(self._start)))
        if self._up_to is not None:
            encoder.masked_spec_embed = None  # it would only have a share in the hash of the weights
            first = 0 if self._up_to == "conv" else self._up_to
            remove(stack.layers, *map(str, range(first, depth)))
            remove(stack, *(["layer_norm"] if self._stable or self._up_to == "conv" else []))
        if self._up_to == "conv":
            remove(encoder, "feature_projection")
            remove(stack, "pos_conv_embed")

    @property
    def _stack(self) -> Any:  # noqa: ANN401 - three classes without a common one
        return self.encoder.encoder

    def _freeze(self, what: int | str) -> None:
        # group 0 is the convolutions, 1 what lies between them and the layers
        count = {"none": 0, "conv": 1, "all": len(self.groups())}.get(str(what))
        frozen = count if count is not None else int(what) + 2
        self.encoder.requires_grad_(False)  # nor what lies above the layers that count
        for group in self.groups()[frozen:]:
            for parameter in group:
                parameter.requires_grad_(True)
        if frozen and self._start is None:
            self.encoder.feature_extractor._freeze_parameters()  # it would ask for the gradient of the wave

    @classmethod
    def split(cls, name: str, settings: Mapping[str, object]) -> Split | None:
        """What is frozen, the whole or the lower layers; see the setting `freeze`."""
        return split_frozen(name, settings, "conv", "conv")

    @classmethod
    def join(cls, settings: Mapping[str, object]) -> Mapping[str, object] | None:
        """The settings without `start`."""
        return join_frozen(settings)

    def groups(self) -> Sequence[Sequence[nn.Parameter]]:
        """The convolutions, the projection with the positions, each layer that counts, and the norm after the last."""
        stack, stable = self._stack, self._stable
        between = [*self.encoder.feature_projection.parameters(), *stack.pos_conv_embed.parameters()]
        norm = list(stack.layer_norm.parameters())
        layers = [list(layer.parameters()) for layer in stack.layers[: self._last]]
        top = [norm] if self._normed else []
        front = list(self.encoder.feature_extractor.parameters())
        return [front, between if stable else [*between, *norm], *layers, *top]

    @property
    def _stable(self) -> bool:
        return bool(self.encoder.config.do_stable_layer_norm)

    def portable(self) -> Mapping[str, object]:
        """The encoder's sizes instead of its source; and the front end, spelled out."""
        sizes = {name: getattr(self.encoder.config, name) for name in CONFIG if hasattr(self.encoder.config, name)}
        part = {word: at for word, at in (("up_to", self._up_to), ("start", self._start)) if at is not None}
        front = {"layers": self._layers, "normalize": self._normalize, **self._adapted}
        return {"source": None, "config": sizes, **front, **part}

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{wave: (B, S, 1)} -> (B, T, D), a frame each 20 ms; with `start` {frames: (B, T, ·)} -> (B, T, D).

        Raises:
            SertkError: On a wave shorter than the convolutions reach.
        """
        given = inputs[self.inputs[0]]
        frames = self._convolved(given) if self._start is None else given
        if self._up_to == "conv":
            return frames
        if not isinstance(self._start, int):
            frames = self._placed(frames)
        states = list(deque(self._states(frames), maxlen=None if self._every else 1))
        if self.sum is not None:
            return Padded(self.sum(torch.stack(states, 2)), frames.length)
        return Padded(torch.cat(states, 2), frames.length)

    def _convolved(self, wave: Padded) -> Padded:
        """(B, S, 1) -> (B, T, conv) what the convolutions give."""
        length = self._lengths(wave.length)
        if int(length[-1].min()) < 1:
            raise SertkError(
                f"an utterance of {int(wave.length.min()) / RATE:.3f} s is shorter than {self.kind} takes "
                f"({self._reach() / RATE:.3f} s). Remove it, or raise audio.min_seconds."
            )
        data = self._standardise(wave) if self._normalize else wave.fill(0.0).data[..., 0]
        norm = getattr(self.encoder.feature_extractor.conv_layers[0], "layer_norm", None)
        if isinstance(norm, RealNorm):
            norm.length = length[0]
        return Padded(self.encoder.feature_extractor(data).transpose(1, 2), length[-1])

    def _placed(self, features: Padded) -> Padded:
        """(B, T, conv) -> (B, T, d) what the first layer reads: projected, with positions."""
        stack, projected = self._stack, self.encoder.feature_projection(features.data)
        frames = Padded(projected[0] if isinstance(projected, tuple) else projected, features.length).fill(0.0)
        state = frames.data + self._positions(frames)
        return Padded(stack.dropout(state if self._stable else stack.layer_norm(state)), frames.length)

    def _positions(self, frames: Padded) -> Tensor:
        """(B, T, d) what the positional convolution makes of (B, T, d) frames, zero in the padding."""
        positions: Tensor = self._stack.pos_conv_embed(frames.data)
        return positions

    def _standardise(self, wave: Padded) -> Tensor:
        """(B, S, 1) -> (B, S) zero mean and unit variance over the real samples, as the checkpoints' front end."""
        data = wave.data.float()
        mean, _ = mean_std(data, wave.mask)
        centred = Padded(data - mean[:, None], wave.length).fill(0.0).data[..., 0]
        power = centred.square().sum(1, keepdim=True) / wave.length[:, None]
        return centred * (power + 1e-7).rsqrt()

    def _lengths(self, length: Tensor) -> list[Tensor]:
        """(B,) frames after each convolution."""
        sizes, found = self.encoder.config, []
        for kernel, stride in zip(sizes.conv_kernel, sizes.conv_stride, strict=True):
            length = (length - kernel).div(stride, rounding_mode="floor") + 1
            found.append(length)
        return found

    def _reach(self) -> int:
        """The samples that one frame sees."""
        sizes, reach = self.encoder.config, 1
        for kernel, stride in zip(reversed(sizes.conv_kernel), reversed(sizes.conv_stride), strict=True):
            reach = (reach - 1) * stride + kernel
        return reach

    def _states(self, frames: Padded) -> Iterator[Tensor]:
        """(B, T, d) what each layer that counts reads, then what the last one gives, normalised where it is the top."""
        stack, first = self._stack, self._start if isinstance(self._start, int) else 0
        *below, state = torch.split(frames.data, self.encoder.config.hidden_size, 2)
        yield from below
        mask = None if bool(frames.mask.all()) else frames.mask
        memory: list[Any] = [self._memory(state) if first else None]
        for layer in stack.layers[first : self._last]:
            yield state
            if self._checkpointing and self.training and torch.is_grad_enabled():
                state, *memory = checkpoint(self._layer, layer, state, mask, *memory, use_reentrant=False)
            else:
                state, *memory = self._layer(layer, state, mask, *memory)
        yield stack.layer_norm(state) if self._normed else state

    def _memory(self, state: Tensor) -> Tensor | None:
        """What the first layer hands to those above it beside its state."""
        return None

    def _layer(self, layer: nn.Module, state: Tensor, mask: Tensor | None, memory: object) -> tuple[Tensor, object]:
        return layer(state, None if mask is None else mask[:, None, None]), None

    @classmethod
    @abstractmethod
    def _classes(cls) -> tuple[type[PretrainedConfig], type[PreTrainedModel]]:
        """Transformers' classes of the configuration and of the encoder."""

    def _load(self, source: str) -> Any:  # noqa: ANN401
        config, model = self._classes()
        # the vector that masked frames would get is not used: nothing is masked here
        found = pretrained(
            self.kind, source, config, lambda _: model, lambda name: "masked_spec_embed" not in name, self.example
        )
        # a bundle holds the weights of `config`: that vector always, and never what comes behind the last layer
        if not hasattr(found, "masked_spec_embed"):
            found.masked_spec_embed = nn.Parameter(torch.zeros(found.config.hidden_size))
        found.adapter = None
        return found

    def _random(self, sizes: Mapping[str, object]) -> Any:  # noqa: ANN401
        config, model = self._classes()
        odd = sorted(name for name in sizes if name not in CONFIG)
        if odd:
            raise UsageError(f"backbone {self.kind!r}: config has no {odd[0]!r}; it has {', '.join(CONFIG)}")
        return model(config(**sizes))  # type: ignore[arg-type] # Hugging Face looks at each


class Wav2Vec2(SpeechEncoder):
    """wav2vec 2.0 (Baevski et al. 2020) from a Hugging Face checkpoint, exact in any batch."""

    kind, example = "wav2vec2", "facebook/wav2vec2-base"

    @classmethod
    def _classes(cls) -> tuple[type[PretrainedConfig], type[PreTrainedModel]]:
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        return Wav2Vec2Config, Wav2Vec2Model


class Hubert(SpeechEncoder):
    """HuBERT (Hsu et al. 2021) from a Hugging Face checkpoint, exact in any batch."""

    kind, example = "hubert", "facebook/hubert-large-ll60k"

    @classmethod
    def _classes(cls) -> tuple[type[PretrainedConfig], type[PreTrainedModel]]:
        from transformers import HubertConfig, HubertModel

        return HubertConfig, HubertModel


class WavLM(SpeechEncoder):
    """WavLM (Chen et al. 2022) from a Hugging Face checkpoint, exact in any batch; its attention has no SDPA."""

    kind, example = "wavlm", "microsoft/wavlm-large"

    def _remove(self) -> None:
        first = self._stack.layers[0]
        super()._remove()
        if isinstance(self._start, int) and self._start:  # the first layer has the position bias that all read
            remove(first, *(name for name, _ in first.named_children() if name != "attention"))
            remove(first.attention, *(name for name, _ in first.attention.named_children() if name != "rel_attn_embed"))
            first.attention.gru_rel_pos_const = None
            self._stack.layers[0] = first

    def _memory(self, state: Tensor) -> Tensor | None:
        rows, frames, _ = state.shape
        bias: Tensor = self._stack.layers[0].attention.compute_bias(frames, frames)  # (heads, T, T)
        return bias.repeat(rows, 1, 1)

    def _layer(self, layer: nn.Module, state: Tensor, mask: Tensor | None, memory: object) -> tuple[Tensor, object]:
        found: tuple[Tensor, object] = layer(
            state, attention_mask=mask, position_bias=memory, index=0 if memory is None else 1
        )
        return found

    @classmethod
    def _classes(cls) -> tuple[type[PretrainedConfig], type[PreTrainedModel]]:
        from transformers import WavLMConfig, WavLMModel

        return WavLMConfig, WavLMModel


class Data2Vec(SpeechEncoder):
    """data2vec for audio (Baevski et al. 2022) from a Hugging Face checkpoint, exact in any batch."""

    kind, example = "data2vec", "facebook/data2vec-audio-base"
    _stable = False  # its configuration does not say so

    def _positions(self, frames: Padded) -> Tensor:
        for layer in self._stack.pos_conv_embed.layers:  # what one makes of the padding would reach the next
            frames = Padded(layer(frames.data.transpose(1, 2)).transpose(1, 2), frames.length).fill(0.0)
        return frames.data

    @classmethod
    def _classes(cls) -> tuple[type[PretrainedConfig], type[PreTrainedModel]]:
        from transformers import Data2VecAudioConfig, Data2VecAudioModel

        return Data2VecAudioConfig, Data2VecAudioModel


def _take_real_norm(encoder: Any) -> None:  # noqa: ANN401
    """Puts `RealNorm` instead of a norm over time behind the first convolution, where there is one."""
    first = encoder.feature_extractor.conv_layers[0]
    old = getattr(first, "layer_norm", None)
    if isinstance(old, nn.GroupNorm):
        first.layer_norm = RealNorm(old.num_groups, old.num_channels, old.eps)
        first.layer_norm.load_state_dict(old.state_dict())


def _standardised(source: str) -> bool:
    """Whether the checkpoint's own front end standardises waves.

    Raises:
        SertkError: Where the checkpoint does not say.
    """
    from transformers import Wav2Vec2FeatureExtractor

    try:
        return bool(Wav2Vec2FeatureExtractor.from_pretrained(source).do_normalize)
    except OSError:
        raise SertkError(
            f"{source!r} has no preprocessor_config.json that can be read, which says whether waves are standardised. "
            "Put it beside config.json, or set backbone.normalize to true or false."
        ) from None

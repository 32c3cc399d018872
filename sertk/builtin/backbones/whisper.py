"""The encoder of Whisper (Radford et al. 2022), exact at any length and in any batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torchaudio
from torch import Tensor, nn

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
from sertk.core import Backbone, InputSpec, Padded, SertkError, Split, UsageError, check_range, hash_of
from sertk.core.low_rank import adapt

if TYPE_CHECKING:  # three seconds that a run without Whisper need not pay
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

WINDOW, HOP = 400, 160
CONFIG = (
    "activation_dropout",
    "activation_function",
    "attention_dropout",
    "d_model",
    "dropout",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "encoder_layers",
    "max_source_positions",
    "num_mel_bins",
    "scale_embedding",
)


class LogMel(nn.Module):
    """Whisper's log-mel: log10 of power, at most 8 below the utterance's loudest, (x + 4) / 4.

    The wave is reflected in front as in Whisper's own front end; behind its end there is silence.

    Args:
        bands: Mel bands (Slaney's scale and norm).
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.filters: Tensor
        self.window: Tensor
        with torch.device("cpu"):  # small, and torchaudio looks at its values
            filters = torchaudio.functional.melscale_fbanks(
                WINDOW // 2 + 1, 0.0, RATE / 2, bands, RATE, norm="slaney", mel_scale="slaney"
            )
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    @torch.no_grad()
    def forward(self, waves: Padded) -> Padded:
        """(B, S) -> (B, T, bands), a frame for each begun hop; padding zero."""
        data = waves.fill(0.0).data.float()
        half = WINDOW // 2
        data = nn.functional.pad(data, (0, max(0, half + 1 - data.shape[1])))
        data = nn.functional.pad(nn.functional.pad(data, (half, 0), mode="reflect"), (0, WINDOW))
        with torch.autocast(data.device.type, enabled=False):
            spectrum = torch.stft(data, WINDOW, HOP, window=self.window, center=False, return_complex=True)
            power = spectrum.abs().square().transpose(1, 2) @ self.filters
        length = -(-waves.length // HOP)
        frames = Padded(power[:, : int(length.max())].clamp(min=1e-10).log10(), length)
        loudest = frames.fill(-torch.inf).data.amax((1, 2), keepdim=True)
        return Padded((frames.data.maximum(loudest - 8) + 4) / 4, length).fill(0.0)


class Whisper(Backbone):
    """The encoder of Whisper from a Hugging Face checkpoint, on waves of 16 kHz up to 30 s.

    Computed at the real length, an utterance does not see the padding of its batch: padded frames are zero in front of
    either convolution, as beyond the end of an utterance alone, and no frame attends to them. `window: 30s` pads every
    wave to 30 s instead, as Whisper was trained and as Hugging Face computes it, and keeps the frames of the utterance;
    it costs many times as much and is another front end (its features differ by about a quarter).

    Args:
        inputs: What the run offers; given by the run.
        reads: The input that it reads, a wave, or frames with `start`; the only one when null.
        source: Folder of the checkpoint, or its name on the Hugging Face hub. A bundle needs none.
        config: Sizes of an encoder with random weights, instead of `source`.
        layers: "last"; the number of one (0 is what the first layer reads); "all" side by side; "weighted" for their
            learned weighted sum.
        freeze: "none"; "conv" for the convolutions; the number of layers that are frozen with them; or "all". What is
            frozen becomes a feature that is computed once (see the feature `frozen`), in eval mode: all of it, always;
            a part of it where the input is the wave as it is (no crop, `normalize: none`, no augmentation of waves)
            and the window "real". Else the part is computed again in every epoch.
        window: "real" or "30s".
        lora: Train low-rank adapters of this rank at the queries and values of the layers that are not frozen, and
            nothing else of the encoder; null trains the layers. A model has the sums.
        up_to: The lower part alone: what the layer of this number reads (and what those below it read, with
            `layers: all`). Set by the run, from `freeze`.
        start: The upper part alone, from the layer of this number on; it reads what the lower part gives. Set by the
            run, from `freeze`.
    """

    places = ("source",)

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        reads: str | None = None,
        source: str | None = None,
        config: Mapping[str, object] | None = None,
        layers: int | Literal["last", "all", "weighted"] = "last",
        freeze: int | Literal["none", "conv", "all"] = "none",
        window: Literal["real", "30s"] = "real",
        lora: int | None = None,
        up_to: int | None = None,
        start: int | None = None,
    ) -> None:
        super().__init__()
        self.inputs = ((choose_wave if start is None else choose)("whisper", inputs, reads),)
        check_source("whisper", source, config)
        self.encoder = _load(source) if source is not None else _random(config or {})
        self.weights = hash_of(self.encoder.state_dict()) if source is not None else ""
        sizes, depth = self.encoder.config, len(self.encoder.layers)
        end = depth if up_to is None else up_to
        check_depth("whisper", depth, **{"freeze": freeze, "freeze (up_to)": up_to})
        check_depth("whisper", end, layers=layers)
        self.log_mel = LogMel(sizes.num_mel_bins)
        self._layers, self._padded, self._up_to, self._start = layers, window == "30s", up_to, start
        self._every = layers in ("all", "weighted")
        self._last = layers if isinstance(layers, int) else end
        check_depth("whisper", self._last, start=start)
        self._normed = self._last == depth
        self.sum = LayerSum(self._last + 1) if layers == "weighted" else None
        self.layers = self._last + 1 if layers == "all" else 1
        self.width, self.frame_seconds = sizes.d_model * self.layers, 2 * HOP / RATE
        if start is None:
            self.longest = sizes.max_source_positions * 2 * HOP / RATE
        else:
            below = start + 1 if self._every else 1
            self.frames = check_frames("whisper", inputs[self.inputs[0]], sizes.d_model, below)
        self._remove()
        self._freeze(freeze)
        self._adapted = {} if lora is None else {"lora": None}  # a bundle has the sums
        if lora is not None:
            check_range("backbone 'whisper'", "lora", lora, at_least=1)
            adapt(self.encoder, self.encoder.layers[: self._last], lora)

    def _remove(self) -> None:
        """Takes out what lies below `start`, or from `up_to` on."""
        encoder, depth = self.encoder, len(self.encoder.layers)
        if self._start is not None:
            remove(encoder, "conv1", "conv2", "embed_positions")
            remove(encoder.layers, *map(str, range(self._start)))
        if self._up_to is not None:
            remove(encoder, "layer_norm")
            remove(encoder.layers, *map(str, range(self._up_to, depth)))

    def _freeze(self, what: int | str) -> None:
        depth = {"none": -1, "conv": 0, "all": len(self.encoder.layers) + 1}.get(str(what), what)
        self.encoder.requires_grad_(False)  # the positions are never trained, nor what lies above the layers that count
        for group in self.groups()[int(depth) + 1 :]:
            for parameter in group:
                parameter.requires_grad_(True)

    @classmethod
    def split(cls, name: str, settings: Mapping[str, object]) -> Split | None:
        """What is frozen, the whole or the lower layers; see the setting `freeze`."""
        split = split_frozen(name, settings, "none", 0)
        if split is None or settings.get("window") != "30s":
            return split
        return split._replace(why_not="with window: 30s the layers above see the silence behind an utterance too")

    @classmethod
    def join(cls, settings: Mapping[str, object]) -> Mapping[str, object] | None:
        """The settings without `start`."""
        return join_frozen(settings)

    def groups(self) -> Sequence[Sequence[nn.Parameter]]:
        """The convolutions, each layer that counts, and the norm after the last."""
        encoder = self.encoder
        front = [*encoder.conv1.parameters(), *encoder.conv2.parameters()]
        layers = [list(layer.parameters()) for layer in encoder.layers[: self._last]]
        norm = [list(encoder.layer_norm.parameters())] if self._normed else []
        return [front, *layers, *norm]

    def portable(self) -> Mapping[str, object]:
        """The encoder's sizes instead of its source; and the front end, spelled out."""
        sizes = {name: getattr(self.encoder.config, name) for name in CONFIG}
        front = {"layers": self._layers, "window": "30s" if self._padded else "real", **self._adapted}
        part = {word: at for word, at in (("up_to", self._up_to), ("start", self._start)) if at is not None}
        return {"source": None, "config": sizes, **front, **part}

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{wave: (B, S, 1)} -> (B, T, D), a frame each 20 ms; with `start` {frames: (B, T, ·)} -> (B, T, D).

        Raises:
            SertkError: On a wave longer than the encoder has positions for.
        """
        given = inputs[self.inputs[0]]
        read = self._read(given) if self._start is None else given
        length = -(-given.length // (2 * HOP)) if self._start is None else given.length
        states = deque(self._states(read), maxlen=None if self._every else 1)
        kept = [state[:, : int(length.max())] for state in states]
        if self.sum is not None:
            return Padded(self.sum(torch.stack(kept, 2)), length)
        return Padded(torch.cat(kept, 2), length)

    def _read(self, wave: Padded) -> Padded:
        """(B, S, 1) -> (B, T, d) what the first layer reads, as many frames as may be attended to."""
        encoder, longest = self.encoder, self.encoder.config.max_source_positions * 2 * HOP
        if int(wave.length.max()) > longest:
            raise SertkError(
                f"an utterance of {int(wave.length.max()) / RATE:.1f} s is longer than the {longest / RATE:g} s that "
                "Whisper takes. Cut the file; or, where the encoder is the backbone and no frozen feature, set "
                "crop: {length: 30, train: random, score: all}."
            )
        mel = self.log_mel(_stretch(wave, longest) if self._padded else Padded(wave.data[..., 0], wave.length))
        x = Padded(nn.functional.gelu(encoder.conv1(mel.data.transpose(1, 2))).transpose(1, 2), mel.length).fill(0.0)
        x = Padded(nn.functional.gelu(encoder.conv2(x.data.transpose(1, 2))).transpose(1, 2), -(-mel.length // 2))
        state = x.data + encoder.embed_positions.weight[: x.data.shape[1]]
        return Padded(nn.functional.dropout(state, encoder.dropout, self.training), x.length)

    def _states(self, read: Padded) -> Iterator[Tensor]:
        """(B, T, d) what each layer that counts reads, then what the last one gives, normalised where it is the top."""
        encoder = self.encoder
        *below, state = torch.split(read.data, encoder.config.d_model, 2)
        yield from below
        mask = None if bool(read.mask.all()) else read.mask[:, None, None]  # (B, 1, 1, T): keys that may be seen
        for layer in encoder.layers[self._start or 0 : self._last]:
            yield state
            state = layer(state, mask)
        yield encoder.layer_norm(state) if self._normed else state


def _stretch(wave: Padded, samples: int) -> Padded:
    """(B, S, 1) -> (B, samples), silence behind the end counted as signal."""
    data = wave.fill(0.0).data[:, :samples, 0]
    return Padded(nn.functional.pad(data, (0, samples - data.shape[1])), torch.full_like(wave.length, samples))


def _load(source: str) -> WhisperEncoder:
    """The encoder of a checkpoint in float32: of an encoder alone, or of a whole Whisper."""
    from transformers import WhisperConfig, WhisperModel
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    made = pretrained(
        "Whisper",
        source,
        WhisperConfig,
        lambda config: WhisperEncoder if (config.architectures or [""])[0] == "WhisperEncoder" else WhisperModel,
        lambda name: not name.startswith("decoder."),
        "openai/whisper-tiny.en",
    )
    encoder: WhisperEncoder = made if isinstance(made, WhisperEncoder) else made.encoder
    return encoder


def _random(sizes: Mapping[str, object]) -> WhisperEncoder:
    """An encoder with random weights.

    Raises:
        UsageError: On a size that it does not have.
    """
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    odd = sorted(sizes.keys() - set(CONFIG))
    if odd:
        raise UsageError(f"backbone 'whisper': config has no {odd[0]!r}; it has {', '.join(CONFIG)}")
    return WhisperEncoder(WhisperConfig(**sizes))  # type: ignore[arg-type] # Hugging Face looks at each

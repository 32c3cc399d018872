"""What backbones share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sertk.core import InputSpec, NotHereError, SertkError, Split, UsageError

Place = int | Literal["conv"]
"""Where an encoder is taken apart: below the layer of this number; or behind its convolutions."""


def choose(backbone: str, inputs: Mapping[str, InputSpec], reads: str | None, *, symbols: str | None = None) -> str:
    """The input that a backbone of one input reads: the one named, or the only one.

    Args:
        backbone: What the backbone is registered as.
        inputs: What the run offers.
        reads: The one named.
        symbols: A feature that gives what it reads, where that is numbers of symbols; null where it is values.

    Raises:
        UsageError: Where it is not offered, or none is named of several, or it is of the other kind.
    """
    name = next(iter(inputs)) if reads is None and len(inputs) == 1 else reads
    word = symbols or "mel"
    hint = f"for example inputs: {{{word}: {{name: {word}}}}} and backbone: {{name: {backbone}, reads: {word}}}."
    if name is None or name not in inputs:
        raise UsageError(
            f"backbone {backbone!r} reads {reads!r}, but the inputs are {', '.join(inputs) or 'none'}: name one, {hint}"
        )
    if (inputs[name].symbols > 0) != (symbols is not None):
        kinds = ("frames of values", "numbers of symbols")
        wanted, given = kinds if symbols is None else kinds[::-1]
        raise UsageError(f"backbone {backbone!r} reads {wanted}, and {name!r} has {given}: name another, {hint}")
    return name


def choose_crops(backbone: str, inputs: Mapping[str, InputSpec], reads: str | None) -> tuple[str, int]:
    """The input that a network of pictures reads, see `choose`, and its frames.

    Raises:
        UsageError: Where its pieces do not all have as many.
    """
    name = choose(backbone, inputs, reads)
    frames = inputs[name].frames
    if frames is None:
        raise UsageError(
            f"backbone {backbone!r} reads pictures of one size: set crop, for example {{length: 4.0, train: center, "
            "score: center}."
        )
    return name, frames


RATE = 16_000


def choose_wave(backbone: str, inputs: Mapping[str, InputSpec], reads: str | None) -> str:
    """The input that an encoder of waves reads, see `choose`.

    Raises:
        UsageError: Where it is no wave of 16 kHz.
    """
    name = choose(backbone, inputs, reads)
    if inputs[name].width != 1 or abs(inputs[name].frame_seconds * RATE - 1) > 1e-6:
        raise UsageError(
            f"backbone {backbone!r} reads waves of {RATE} Hz, and {name!r} is something else: "
            f"set inputs: {{wave: {{name: wave}}}} and audio: {{rate: {RATE}}}."
        )
    return name


def check_frames(backbone: str, given: InputSpec, width: int, layers: int) -> int | None:
    """How many frames the upper part of an encoder gives: those that it reads, where their number is fixed.

    Raises:
        UsageError: Where it is offered something else than its lower part gives.
    """
    if (given.width, given.layers) != (width * layers, layers):
        raise UsageError(
            f"backbone {backbone!r} with `start` reads the {layers} x {width} that its lower part gives, and it is "
            f"offered {given.layers} x {given.width // given.layers}. Set freeze: the run then sets start itself."
        )
    return given.frames


def check_depth(backbone: str, depth: int, **choices: object) -> None:
    """Refuses the number of a layer that an encoder of `depth` layers does not have.

    Raises:
        UsageError: There.
    """
    for word, value in choices.items():
        if isinstance(value, int) and not 0 <= value <= depth:
            raise UsageError(f"backbone {backbone!r}: {word} is {value}; it is from 0 to {depth}, its layers")


def split_frozen(name: str, settings: Mapping[str, object], default: str, conv: Place) -> Split | None:
    """The frozen part of an encoder of waves as the feature `frozen`; see `Backbone.split`.

    Args:
        name: What the encoder is registered as.
        settings: Its settings.
        default: Of `freeze`.
        conv: The place that `freeze: conv` names.
    """
    freeze, layers = settings.get("freeze", default), settings.get("layers", "last")
    inside = {word: value for word, value in settings.items() if word not in ("freeze", "reads")}
    if freeze == "all":
        if settings.get("lora") is not None:
            raise UsageError(
                f"backbone {name!r}: lora adapts layers that are trained; freeze: all trains none. Set freeze: conv."
            )
        weighted = layers == "weighted"  # the weights of the sum are trained
        encoder = {"name": name, **inside, **({"layers": "all"} if weighted else {})}
        return Split(
            {"name": "frozen", "backbone": encoder}, {"name": "frames", "layers": "weighted" if weighted else "keep"}
        )
    at = conv if freeze == "conv" else freeze
    if at != "conv" and not isinstance(at, int):
        return None
    if isinstance(at, int) and isinstance(layers, int):
        at = min(at, layers)  # what lies above the layer that counts is not computed
    several = layers in ("all", "weighted") and at not in (0, "conv")
    below = {word: value for word, value in inside.items() if word not in ("layers", "checkpointing", "lora")}
    feature = {"name": name, **below, **({"layers": "all"} if several else {}), "up_to": at}
    above = {"name": name, **inside, **({"freeze": freeze} if "freeze" in settings else {}), "start": at}
    layers_too = "" if at in (0, "conv") else " and the first layer" if at == 1 else f" and the first {at} layers"
    return Split({"name": "frozen", "backbone": feature}, above, f"the convolutions{layers_too}")


def join_frozen(settings: Mapping[str, object]) -> Mapping[str, object] | None:
    """The settings of an encoder whose upper part has these; see `Backbone.join`."""
    if settings.get("start") is None:
        return None
    return {word: value for word, value in settings.items() if word != "start"}


def sinusoids(tokens: Tensor) -> Tensor:
    """(T, D) the positions of (B, T, D) tokens: sines in even columns, cosines in odd ones (Vaswani et al. 2017)."""
    _, count, width = tokens.shape
    rate = torch.exp(torch.arange(0, width, 2, device=tokens.device) * (-math.log(10_000) / width))
    angle = torch.arange(count, device=tokens.device)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[:, :width].to(tokens.dtype)


def check_source(backbone: str, source: str | None, config: object) -> None:
    """Refuses an encoder without a checkpoint and without sizes, or with both.

    Raises:
        UsageError: There.
    """
    if (source is None) == (config is None):
        both = "needs a source" if source is None else "takes a source or a config, not both"
        raise UsageError(f"backbone {backbone!r} {both}: the folder of a checkpoint, or its name on the hub.")


def remove(module: nn.Module, *names: str) -> None:
    """Takes parts out of a module; what stays keeps its name."""
    for name in names:
        setattr(module, name, nn.Identity())


def on_meta() -> bool:
    """Whether parts are made without values, on torch's meta device, to look at their settings and sizes alone."""
    return torch.get_default_device().type == "meta"


def pretrained(
    name: str,
    source: str,
    config: Any,  # noqa: ANN401 - transformers' classes have no common type that says what is asked of them here
    model: Callable[[Any], Any],
    counts: Callable[[str], bool],
    example: str,
) -> Any:  # noqa: ANN401
    """A Hugging Face model in float32 from a folder, or from the hub; on the meta device of its sizes alone.

    Args:
        name: What the checkpoint must be.
        source: Folder, or name on the hub.
        config: The class of its configuration.
        model: The class of the model, by its configuration.
        counts: Whether a weight of that name is needed.
        example: A checkpoint's name on the hub.

    Raises:
        NotHereError: On the meta device, where the hub would have to be asked.
        SertkError: If it is not a checkpoint, cannot be had, or lacks weights.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if on_meta():
        return _of_sizes(source, config, model)
    # The first `with torch.device` of a process fixes which functions it moves. It must not be that of transformers,
    # which replaces torch.linspace meanwhile: later models on the meta device would have linspaces on the CPU.
    with torch.device("meta"):
        torch.empty(0)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call] # what a checkpoint lacks is said below
    try:
        sizes = config.from_pretrained(source)
        made, info = model(sizes).from_pretrained(source, config=sizes, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().partition("\n")[0]
        raise SertkError(
            f"no {name} checkpoint at {source!r} ({first}). Give the folder that holds config.json, model.safetensors "
            "and, where it has them, preprocessor_config.json and tokenizer.json, or a name on the Hugging Face hub "
            f"such as {example}, as the setting `source`. Without the hub, put the checkpoint's files into "
            f"{Path(source).absolute()}, and the name is found there."
        ) from None
    finally:
        logging.set_verbosity(level)
    lacking = [word for word in info["missing_keys"] if counts(word)]
    if lacking or sizes.model_type != getattr(config, "model_type", sizes.model_type):
        raise SertkError(f"{source!r} is a {sizes.model_type} checkpoint without {lacking[:3]}; give a {name} one.")
    return made


def _of_sizes(source: str, config: Any, model: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    """The model of a checkpoint's configuration, which is looked for on this machine alone."""
    try:
        sizes = config.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError) as error:
        if Path(source).is_dir():
            raise SertkError(f"{source!r} has no config.json that can be read: {error}") from None
        raise NotHereError(f"the checkpoint {source!r} is not on this machine yet") from None
    return model(sizes)(sizes)


class LayerSum(nn.Module):
    """The learned weighted sum of layers: softmax weights, equal at first (Yang et al. 2021, SUPERB section 3).

    Args:
        layers: Their number.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(layers))

    def forward(self, layers: Tensor) -> Tensor:
        """(B, T, layers, D) -> (B, T, D)."""
        return torch.einsum("btld,l->btd", layers, self.weight.softmax(0))

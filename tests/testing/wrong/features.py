"""Features that are wrong in one way each, and some that are right; `says` is what the contracts must say of it."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sertk.core import Feature, Padded, UsageError, Utterance
from sertk.hookspecs import hookimpl


class Level(Feature):
    """Power and size of every 10 ms, dB: a right one."""

    says = ""

    def __init__(self, rate: int) -> None:
        self.hop = rate // 100
        self.width, self.frame_seconds, self.silence = 2, self.hop / rate, -60.0

    def __call__(self, inputs: Padded) -> Padded:
        return Padded(self.values(self.cut(inputs.fill(0.0).data)), -(-inputs.length // self.hop))

    def cut(self, wave: Tensor) -> Tensor:
        """(B, S) -> (B, T, hop)."""
        return torch.nn.functional.pad(wave, (0, -wave.shape[1] % self.hop)).view(len(wave), -1, self.hop)

    def values(self, frames: Tensor) -> Tensor:
        power = torch.stack([frames.square().mean(2), frames.abs().mean(2)], 2)
        return 10 * (power + 1e-6).log10()


class Summary(Level):
    """One frame for a whole wave: a right one."""

    says = ""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.frame_seconds = math.inf

    def __call__(self, inputs: Padded) -> Padded:
        power = inputs.fill(0.0).data.square().sum(1) / inputs.length
        return Padded(torch.stack([power, power.sqrt()], 1)[:, None], torch.ones_like(inputs.length))


class Placed(Level):
    """Frames that know their place, of which silence has no one frame: a right one."""

    says = ""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.silence = 0.0

    def values(self, frames: Tensor) -> Tensor:
        return super().values(frames) + torch.arange(frames.shape[1])[:, None]


class Refuses(Level):
    """Takes waves of one rate, and says so: a right one."""

    says = ""

    def __init__(self, rate: int) -> None:
        if rate != 16_000:
            raise UsageError("feature 'Refuses' takes waves of 16000 Hz. Set audio: {rate: 16000}.")
        super().__init__(rate)


class Loaded(Level):
    """Its settings name a folder, and a bundle's do not: a right one."""

    says = ""
    places = ("source",)
    settings: ClassVar = {"source": "/checkpoints/mine"}

    def __init__(self, rate: int, source: str | None = None) -> None:
        super().__init__(rate)

    def portable(self) -> Mapping[str, object]:
        return {"source": None}


class Letters(Feature):
    """The letters of a text: a right one."""

    says = ""
    reads = "text"
    width, frame_seconds, symbols = 1, math.inf, 128

    def __init__(self, rate: int) -> None:
        pass

    def __call__(self, inputs: Padded) -> Padded:
        return Padded(inputs.fill(0).data[..., None], inputs.length)


# ---------------------------------------------------------------- texts


class RollsPadding(Letters):
    """Every letter comes with the one in front of it, and the first with the last of the batch."""

    says = "padding changes its frames"
    width = 2

    def __call__(self, inputs: Padded) -> Padded:
        return Padded(torch.stack([inputs.data, inputs.data.roll(1, 1)], 2).clamp(max=127), inputs.length)


class TooFewSymbols(Letters):
    """Says that there are fewer symbols than it gives."""

    says = "gives numbers from"
    symbols = 100


class FloatSymbols(Letters):
    """Gives symbols as values."""

    says = "torch.float32; it must be torch.int64"

    def __call__(self, inputs: Padded) -> Padded:
        found = super().__call__(inputs)
        return Padded(found.data.float(), found.length)


# ---------------------------------------------------------------- sizes and times


class HardRate(Level):
    """Cuts every wave as one of 16 kHz."""

    says = "with frame_seconds 0.01"

    def __init__(self, rate: int) -> None:
        super().__init__(16_000)


class WrongSeconds(Level):
    """Says that its frames are 20 ms apart."""

    says = "with frame_seconds 0.02"

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.frame_seconds *= 2


class SecondsOf16k(Level):
    """Counts the seconds of a frame with another rate than the run's."""

    says = "the number of frames is wrong by"

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.frame_seconds = self.hop / 16_000


class Wider(Level):
    """Says that it is three wide."""

    says = "by its width and lengths it must be"

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.width = 3


class Longer(Level):
    """Counts a frame more than there are."""

    says = "by its width and lengths it must be"

    def __call__(self, inputs: Padded) -> Padded:
        found = super().__call__(inputs)
        return Padded(found.data, found.length + 1)


class NoFrames(Level):
    """A wave shorter than a frame has none."""

    says = "0 frames; it must give at least one"

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.hop, self.frame_seconds = rate // 5, 0.2

    def __call__(self, inputs: Padded) -> Padded:
        length = inputs.length // self.hop
        return Padded(super().__call__(inputs).data[:, : int(length.max())], length)


class FloatLengths(Level):
    """Lengths are no whole numbers."""

    says = "lengths are torch.float32"

    def __call__(self, inputs: Padded) -> Padded:
        found = super().__call__(inputs)
        return Padded(found.data, found.length.float())


class Squeezes(Level):
    """Drops the batch where it is of one row."""

    says = "gives ("

    def __call__(self, inputs: Padded) -> Padded:
        found = super().__call__(inputs)
        return Padded(found.data.squeeze(0), found.length)


class Doubles(Level):
    """Gives float64."""

    says = "torch.float64"

    def values(self, frames: Tensor) -> Tensor:
        return super().values(frames).double()


class Layers(Level):
    """Two wide, of three layers."""

    says = "3 layers"

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.layers = 3


class ReadsImages(Level):
    """Reads what there is not."""

    says = "'image'"
    reads = "image"  # type: ignore[assignment]


# ---------------------------------------------------------------- values


class Constant(Level):
    """Does not look at the wave."""

    says = "the same for a wave of noise and for silence"

    def values(self, frames: Tensor) -> Tensor:
        return frames.new_full((*frames.shape[:2], 2), -60.0)


class WrongSilence(Level):
    """Says that silence is zero, where it is -60 dB."""

    says = "`silence`"

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.silence = 0.0


class SilenceOfAnotherWidth(Level):
    """The frame of silence is not as wide as a frame."""

    says = "`silence` has the shape (3,)"

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.silence = torch.full((3,), -60.0)


class LogOfZero(Level):
    """Has no floor under its logarithm."""

    says = "not finite"

    def values(self, frames: Tensor) -> Tensor:
        return torch.stack([frames.square().mean(2), frames.abs().mean(2)], 2).log10()


class Standardised(Level):
    """Divides by the deviation of an utterance, which silence has none of."""

    says = "not finite"

    def __call__(self, inputs: Padded) -> Padded:
        found = super().__call__(inputs)
        real = [row[:size] for row, size in zip(found.data, found.length.tolist(), strict=True)]
        return Padded.stack([(row - row.mean(0)) / row.std(0, correction=0) for row in real])


class ReadsPadding(Level):
    """Takes the mean of the padded wave away."""

    says = "changes its frames"

    def __call__(self, inputs: Padded) -> Padded:
        wave = inputs.data - inputs.data.mean(1, keepdim=True)
        return super().__call__(Padded(wave, inputs.length))


class OverBatch(Level):
    """Takes the mean of the batch away."""

    says = "companions change its frames"

    def values(self, frames: Tensor) -> Tensor:
        found = super().values(frames)
        return found - found.mean()


class Writes(Level):
    """Scales the wave that it is given."""

    says = "changes the waves it is given"

    def __call__(self, inputs: Padded) -> Padded:
        inputs.data.mul_(0.5)
        return super().__call__(inputs)


class Dithers(Level):
    """Adds noise of torch's own generator."""

    says = "torch's own random numbers"

    def values(self, frames: Tensor) -> Tensor:
        return super().values(frames + 1e-3 * torch.randn_like(frames))


class Reseeds(Level):
    """Adds the same noise each time, and with it resets the random numbers of all others."""

    says = "torch's own random numbers"

    def values(self, frames: Tensor) -> Tensor:
        torch.manual_seed(0)
        return super().values(frames + 1e-3 * torch.randn(frames.shape[2]))


class Remembers(Level):
    """Compares with the waves that it has seen, which it keeps in a list."""

    says = "differ"

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.seen: list[Tensor] = []

    def __call__(self, inputs: Padded) -> Padded:
        self.seen.append(inputs.data.square().mean())
        found = super().__call__(inputs)
        return Padded(found.data - torch.stack(self.seen).mean(), found.length)


# ---------------------------------------------------------------- what is learned, and the bundle


class Fitted(Level):
    """Takes away what it learned of the training utterances: a right one."""

    says = ""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.mean = self.longest = 0.0

    def fit(self, utterances: Sequence[Utterance], wave: object) -> None:
        seconds = [one.duration or 0.0 for one in utterances]
        self.mean, self.longest = sum(seconds) / len(seconds), max(seconds)
        self.silence = -60.0 - self.mean + self.longest

    def values(self, frames: Tensor) -> Tensor:
        return super().values(frames) - self.mean + self.longest

    def files(self) -> dict[str, bytes]:
        return {"mean.json": json.dumps([self.mean, self.longest, self.silence]).encode()}

    def restore(self, files: Mapping[str, bytes]) -> None:
        self.mean, self.longest, self.silence = json.loads(files["mean.json"])


class FitFails(Fitted):
    """Asks of an utterance what it does not have."""

    says = "raised AttributeError"

    def fit(self, utterances: Sequence[Any], wave: object) -> None:
        self.mean = sum(one.seconds for one in utterances)


class FitsAgain(Fitted):
    """Learns on, where a run that goes on fits it once more."""

    says = "fitted again"

    def fit(self, utterances: Sequence[Utterance], wave: object) -> None:
        self.mean += sum(one.duration or 0.0 for one in utterances)
        self.silence = -60.0 - self.mean


class Forgets(Fitted):
    """Gives the bundle nothing of what it learned."""

    says = "back from a bundle"

    def files(self) -> dict[str, bytes]:
        return {}

    def restore(self, files: Mapping[str, bytes]) -> None:
        pass


class RestoresHalf(Fitted):
    """Takes half of it back."""

    says = "back from a bundle"

    def restore(self, files: Mapping[str, bytes]) -> None:
        self.mean, _, self.silence = json.loads(files["mean.json"])


class NeverRestored(Fitted):
    """Does not take it back at all."""

    says = "back from a bundle"

    def restore(self, files: Mapping[str, bytes]) -> None:
        pass


class RestoreFails(Level):
    """Wants from the bundle what it never gave it."""

    says = "raised KeyError"

    def restore(self, files: Mapping[str, bytes]) -> None:
        self.mean = files["mean"]


class FitMisspelt(Level):
    """Means to learn, and is never asked to."""

    says = "has a method fits, which is never called; did you mean fit"

    def fits(self, utterances: Sequence[Utterance], wave: object) -> None:
        self.mean = float(len(utterances))


class FitAlone(Level):
    """Learns, and keeps nothing of it for the bundle."""

    says = "has fit but lacks files, restore"

    def fit(self, utterances: Sequence[Utterance], wave: object) -> None:
        self.mean = float(len(utterances))


class Pickles(Fitted):
    """Gives the bundle a pickle, which can run code."""

    says = "pickle"

    def files(self) -> dict[str, bytes]:
        return {"mean.bin": pickle.dumps((self.mean, self.longest, self.silence))}

    def restore(self, files: Mapping[str, bytes]) -> None:
        self.mean, self.longest, self.silence = pickle.loads(files["mean.bin"])


class FilesBelow(Fitted):
    """Names a file in a folder, which a bundle does not read."""

    says = "'below/mean.json'"

    def files(self) -> dict[str, bytes]:
        return {"below/mean.json": super().files()["mean.json"]}

    def restore(self, files: Mapping[str, bytes]) -> None:
        super().restore({"mean.json": files["below/mean.json"]})


class FilesOfText(Fitted):
    """Gives text."""

    says = "is a str"

    def files(self) -> dict[str, Any]:
        return {"mean.json": super().files()["mean.json"].decode()}


class LeavesPlace(Level):
    """A bundle would name the folder that it was loaded from."""

    says = "'/checkpoints/mine'"
    places = ("source",)
    settings: ClassVar = {"source": "/checkpoints/mine"}

    def __init__(self, rate: int, source: str | None = None) -> None:
        super().__init__(rate)


class HidesPlace(LeavesPlace):
    """So would this one, which does not say that `source` is a place."""

    places = ()


class ForgetsSetting(Level):
    """A bundle has another setting than the run."""

    says = "back from a bundle"
    places = ("source",)
    settings: ClassVar = {"source": "/checkpoints/mine", "scale": 3.0}

    def __init__(self, rate: int, source: str | None = None, scale: float = 1.0) -> None:
        super().__init__(rate)
        self.scale = scale

    def values(self, frames: Tensor) -> Tensor:
        return super().values(frames) * self.scale

    def portable(self) -> Mapping[str, object]:
        return {"source": None, "scale": 1.0}


class UnknownPlace(Level):
    """Names a setting that it does not have."""

    says = "'sauce'"
    places = ("sauce",)


class NoJson(Level):
    """What a bundle should hold cannot be written there."""

    says = "JSON"

    def portable(self) -> Mapping[str, object]:
        return {"table": torch.zeros(2)}


@hookimpl
def sertk_features() -> Mapping[str, type[Feature]]:
    return {name: one for name, one in globals().items() if hasattr(one, "says")}

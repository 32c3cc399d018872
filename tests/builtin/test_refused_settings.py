"""Settings that make no sense are refused by the part itself, with the setting, the value and what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sertk.core import FrameSpec, InputSpec, UsageError, check_range
from sertk.plugins import Plugins
from sertk.testing.losses import DIMS, TASK

PLUGINS = Plugins()
CONTEXT: Mapping[str, tuple[Any, ...]] = {
    "augmentation": (),
    "backbone": ({"mel": InputSpec(40, 0.01)},),
    "feature": (16_000,),
    "head": (6, 4),
    "loss": (TASK, DIMS),
    "pooling": (FrameSpec(6),),
    "sampler": (torch.arange(40) % 4, torch.rand(40), 8),
}
ENCODERS = {"bert", "data2vec", "hubert", "wav2vec2", "wavlm", "whisper"}  # need a checkpoint or its sizes
RECORDINGS = str(Path(__file__).parents[1] / "testing" / "recordings")
SIZES = {  # what cannot be left out here
    ("augmentation", "noise_folder"): {"folder": RECORDINGS},
    ("augmentation", "reverb"): {"folder": RECORDINGS},
    ("backbone", "fusion"): {"branches": {"one": {"name": "frames", "reads": "mel"}}},
    ("pooling", "flam"): {"heads": 2},
}


UNITS = {"units": InputSpec(1, math.inf, symbols=9)}


def make(kind: str, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401
    context = (UNITS,) if settings["name"] == "text_transformer" else CONTEXT[kind]
    return PLUGINS.make(kind, settings, *context)


TINY = {"name": "cnn_transformer", "channels": [8, 8], "pools": [[2, 2], [2, 2]], "token_pool": [2, 2], "ffn": 8}
REFUSED: tuple[tuple[str, Mapping[str, Any], str], ...] = (
    ("loss", {"name": "apfl", "gamma": -0.1}, "gamma is -0.1; it is at least 0"),
    ("loss", {"name": "apfl", "margin": 1.6}, "margin is 1.6; it is at least 0 and at most 1.57 radians"),
    ("loss", {"name": "arcface", "margin": -1.0}, "margin is -1.0; it is at least 0 and at most 1.57 radians"),
    ("loss", {"name": "arcface", "margin": 3.5}, "margin is 3.5; it is at least 0 and at most 1.57 radians"),
    ("loss", {"name": "arcface", "scale": 0.0}, "scale is 0.0; it is above 0"),
    ("loss", {"name": "bce", "output": "linear"}, "output must be sigmoid | softmax, got 'linear'"),
    ("loss", {"name": "ce", "smoothing": 1.5}, "smoothing is 1.5; it is at least 0 and below 1"),
    ("loss", {"name": "ce", "smoothing": 1}, "smoothing is 1.0; it is at least 0 and below 1"),
    ("loss", {"name": "ce", "smoothing": -0.1}, "smoothing is -0.1; it is at least 0 and below 1"),
    ("loss", {"name": "ce", "smoothing": math.nan}, "smoothing must be a number, got nan"),
    ("loss", {"name": "center", "rate": 0.0}, "rate is 0.0; it is above 0"),
    ("loss", {"name": "center", "width": 0}, "width is 0; it is at least 1, or null"),
    ("loss", {"name": "contrastive", "margin": 1.0}, "margin is 1.0; it is at least -1 and below 1, or null"),
    ("loss", {"name": "contrastive", "margin": -1.5}, "margin is -1.5; it is at least -1 and below 1, or null"),
    ("loss", {"name": "contrastive", "distance": "l2", "margin": 0.0}, "margin is 0.0; it is above 0, or null"),
    ("loss", {"name": "focal", "gamma": -1.0}, "gamma is -1.0; it is at least 0"),
    ("loss", {"name": "focal", "gamma": math.inf}, "gamma must be a number, got inf"),
    ("loss", {"name": "frame_supcon", "tau": 0.0}, "tau is 0.0; it is above 0"),
    ("loss", {"name": "frame_supcon", "width": 0}, "width is 0; it is at least 1"),
    ("loss", {"name": "smooth_l1", "beta": 0.0}, "beta is 0.0; it is above 0"),
    ("loss", {"name": "triplet", "margin": -2.0}, "margin is -2.0; it is at least 0"),
    ("head", {"name": "linear", "dropout": 1.0}, "dropout is 1.0; it is at least 0 and below 1"),
    ("head", {"name": "linear", "dropout": -0.1}, "dropout is -0.1; it is at least 0 and below 1"),
    ("head", {"name": "cosine", "scale": 0.0}, "scale is 0.0; it is above 0"),
    ("head", {"name": "cosine", "scale": -3.0}, "scale is -3.0; it is above 0"),
    ("pooling", {"name": "attentive_statistics", "bottleneck": 0}, "bottleneck is 0; it is at least 1"),
    ("pooling", {"name": "attentive_statistics", "project": 0}, "project is 0; it is at least 1, or null"),
    ("pooling", {"name": "first", "project": 0}, "project is 0; it is at least 1, or null"),
    ("pooling", {"name": "flam", "heads": 4}, "heads is 4; it is a divisor of the frames' width 6: 1, 2, 3, 6"),
    ("pooling", {"name": "flam", "heads": 0}, "heads is 0; it is a divisor of the frames' width 6: 1, 2, 3, 6"),
    ("pooling", {"name": "flam", "heads": 2, "project": 0}, "project is 0; it is at least 1, or null"),
    ("pooling", {"name": "flatten", "project": 0}, "project is 0; it is at least 1, or null"),
    ("pooling", {"name": "max", "project": -1}, "project is -1; it is at least 1, or null"),
    ("pooling", {"name": "mean", "project": 0}, "project is 0; it is at least 1, or null"),
    ("pooling", {"name": "mean_std", "project": 0}, "project is 0; it is at least 1, or null"),
    ("sampler", {"name": "shuffle", "jitter": -3.0}, "jitter is -3.0; it is at least 0"),
    ("sampler", {"name": "triplets", "jitter": -3.0}, "jitter is -3.0; it is at least 0"),
    ("augmentation", {"name": "eam", "probability": 1.1}, "probability is 1.1; it is at least 0 and at most 1"),
    ("augmentation", {"name": "eam", "snr": [5, -5]}, "snr is [5.0, -5.0]; it is [lowest, highest], from -100 to 100"),
    ("augmentation", {"name": "eam", "snr": [math.nan, 5]}, "snr must be a list of numbers, got [nan, 5]"),
    (
        "augmentation",
        {"name": "gain", "gain": [3, -3]},
        "gain is [3.0, -3.0]; it is [lowest, highest], from -100 to 100 dB",
    ),
    ("augmentation", {"name": "lam", "probability": -0.1}, "probability is -0.1; it is at least 0 and at most 1"),
    ("augmentation", {"name": "noise", "copies": 0}, "copies is 0; it is at least 1"),
    ("augmentation", {"name": "noise", "snr": [0, math.inf]}, "snr must be a list of numbers, got [0, inf]"),
    ("augmentation", {"name": "noise", "snr": [-1e6, 0]}, "snr is [-1000000.0, 0.0]; it is [lowest, highest]"),
    ("augmentation", {"name": "noise", "snr": [3]}, "snr is [3.0]; it is [lowest, highest], from -100 to 100 dB"),
    ("augmentation", {"name": "noise_folder", "folder": "nowhere"}, "there is no folder 'nowhere'"),
    ("augmentation", {"name": "noise_folder", "folder": RECORDINGS, "rate": 0}, "rate is 0; it is at least 1"),
    ("augmentation", {"name": "reverb", "folder": RECORDINGS, "minutes": 0}, "minutes is 0.0; it is above 0"),
    (
        "augmentation",
        {"name": "reverb", "folder": RECORDINGS, "minutes": 0.005},
        f"folder {RECORDINGS!r} holds 0.0103 min",
    ),
    ("augmentation", {"name": "specaugment", "on": "wave"}, "on is 'wave'; it is an input of frames and bands"),
    ("augmentation", {"name": "specaugment", "time_share": 1.5}, "time_share is 1.5; it is at least 0 and at most 1"),
    ("augmentation", {"name": "specaugment", "freq_width": -1}, "freq_width is -1; it is at least 0"),
    ("augmentation", {"name": "speed", "factors": []}, "factors is []; it is a list of at least one speed"),
    ("augmentation", {"name": "speed", "factors": [1, 2.5]}, "factors is [1.0, 2.5]; it is a list of at least one"),
    ("feature", {"name": "mel", "n_mels": 0}, "n_mels is 0; it is at least 1"),
    ("feature", {"name": "mel", "win_ms": 0.0}, "win_ms is 0.0; it is at least 0.125 and at most 10000 ms"),
    ("feature", {"name": "mel", "hop_ms": 0.01}, "hop_ms is 0.01; it is at least 0.125 and at most 10000 ms"),
    ("feature", {"name": "mel", "hop_ms": -10}, "hop_ms is -10.0; it is at least 0.125 and at most 10000 ms"),
    ("feature", {"name": "mel", "n_fft": 0}, "n_fft is 0; it is at least 400 samples, the window, or null"),
    ("feature", {"name": "mel", "n_fft": 256}, "n_fft is 256; it is at least 400 samples, the window, or null"),
    ("feature", {"name": "mel", "f_max": 8001}, "f_max is 8001.0; it is above 0 and at most 8000 Hz, or null"),
    ("feature", {"name": "mel", "f_max": 0}, "f_max is 0.0; it is above 0 and at most 8000 Hz, or null"),
    ("feature", {"name": "mel", "f_min": -1}, "f_min is -1.0; it is at least 0 and below 8000 Hz"),
    ("feature", {"name": "mel", "f_min": 500, "f_max": 500}, "f_min is 500.0; it is at least 0 and below 500 Hz"),
    ("feature", {"name": "mel", "power": 0.0}, "power is 0.0; it is above 0 and at most 4"),
    ("feature", {"name": "mel", "floor": 0.0}, "floor is 0.0; it is at least 1.17549e-38 and at most 3.40282e+38"),
    ("feature", {"name": "mel", "floor": 1e-60}, "floor is 1e-60; it is at least 1.17549e-38 and at most 3.40282e+38"),
    ("feature", {"name": "mel", "pre_emphasis": -0.97}, "pre_emphasis is -0.97; it is at least 0 and at most 1"),
    ("feature", {"name": "mfcc", "n_mfcc": 0}, "n_mfcc is 0; it is at least 1 and at most 26"),
    ("feature", {"name": "mfcc", "n_mfcc": 27}, "n_mfcc is 27; it is at least 1 and at most 26"),
    ("feature", {"name": "mfcc", "mel": {"name": "mel", "n_mels": 0}}, "n_mels is 0; it is at least 1"),
    ("feature", {"name": "sentencepiece", "units": 2}, "units is 2; it is at least 3"),
    ("feature", {"name": "spectrogram", "bins": 802}, "bins is 802; it is at least 1 and at most 801"),
    ("feature", {"name": "spectrogram", "n_fft": 639}, "n_fft is 639; it is at least 640 samples, the window, or null"),
    ("backbone", {**TINY, "channels": [], "pools": []}, "channels is []; it is a list of at least one"),
    ("backbone", {**TINY, "channels": [8, 0]}, "channels[1] is 0; it is at least 1"),
    ("backbone", {**TINY, "channels": [8, 8, 8]}, "pools has 2 entries; it has as many as channels, 3"),
    ("backbone", {**TINY, "pools": [[2, 2], [0, 2]]}, "pools[1] is [0, 2]; it is [frequency, time], each at least 1"),
    ("backbone", {**TINY, "pools": [[2], [2, 2]]}, "pools[0] is [2]; it is [frequency, time], each at least 1"),
    ("backbone", {**TINY, "token_pool": [2, -4]}, "token_pool is [2, -4]; it is [frequency, time], each at least 1"),
    ("backbone", {**TINY, "token_pool": []}, "token_pool is []; it is [frequency, time], each at least 1"),
    ("backbone", {**TINY, "token_pool": [41, 1], "tail": "drop"}, "the pools leave none of the 40 bands"),
    ("backbone", {**TINY, "layers": -1}, "layers is -1; it is at least 0"),
    ("backbone", {**TINY, "heads": 0}, "heads is 0; it is at least 1"),
    ("backbone", {**TINY, "heads": 3}, "heads is 3; it is a divisor of the last of channels, 8"),
    ("backbone", {**TINY, "ffn": 0}, "ffn is 0; it is at least 1"),
    ("backbone", {**TINY, "dropout": 1.0}, "dropout is 1.0; it is at least 0 and below 1"),
    ("backbone", {"name": "text_transformer", "layers": 0}, "layers is 0; it is at least 1"),
    ("backbone", {"name": "text_transformer", "heads": 3}, "heads is 3; it is a divisor of the width, 128"),
    ("backbone", {"name": "text_transformer", "dropout": 1.0}, "dropout is 1.0; it is at least 0 and below 1"),
    ("backbone", {"name": "parallel_cnn", "kernels": [13, 0]}, "kernels[1] is 0; it is at least 1"),
    ("backbone", {"name": "parallel_cnn", "stride": 0}, "stride is 0; it is at least 1"),
)


@pytest.mark.parametrize(("kind", "settings", "says"), REFUSED)
def test_a_setting_that_makes_no_sense_is_refused(kind: str, settings: Mapping[str, Any], says: str) -> None:
    inner = settings.get("mel", settings)["name"]  # the part whose setting it is
    with pytest.raises(UsageError, match=re.escape(f"{kind} {inner!r}: {says}")):
        make(kind, settings)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("loss", {"name": "apfl", "gamma": 0, "margin": 0.0}),
        ("loss", {"name": "arcface", "margin": 0.0}),
        ("loss", {"name": "arcface", "margin": 1.57}),
        ("loss", {"name": "ce", "smoothing": 0}),
        ("loss", {"name": "contrastive", "margin": -1}),
        ("loss", {"name": "focal", "gamma": 0}),
        ("loss", {"name": "triplet", "margin": 0}),
        ("head", {"name": "linear", "dropout": 0}),
        ("pooling", {"name": "mean", "project": 1}),
        ("pooling", {"name": "mean", "project": None}),
        ("sampler", {"name": "shuffle", "jitter": 0}),
        ("augmentation", {"name": "eam", "probability": 0, "snr": [5, 5]}),
        ("augmentation", {"name": "noise", "copies": 1}),
        ("augmentation", {"name": "specaugment", "time_masks": 0, "freq_width": 0, "time_share": 0}),
        ("augmentation", {"name": "speed", "factors": [0.5, 2]}),
        ("feature", {"name": "mel", "n_fft": 400, "f_min": 0, "f_max": 8000, "pre_emphasis": 1}),
        ("feature", {"name": "mfcc", "n_mfcc": 26}),
        ("feature", {"name": "spectrogram", "bins": 801, "n_fft": 1600}),
        ("backbone", {**TINY, "layers": 0, "heads": 3, "dropout": 0}),
    ],
)
def test_the_limits_themselves_are_allowed(kind: str, settings: Mapping[str, Any]) -> None:
    make(kind, settings)


def numbers() -> Iterator[Any]:
    """(kind, name, setting, type) of every setting of these kinds that is a number."""
    for kind in CONTEXT:
        for name in sorted(set(PLUGINS.names(kind)) - ENCODERS):
            if PLUGINS.entry(kind, name).distribution == "sertk":
                for one in PLUGINS.settings(kind, name):
                    if one.type.split(" or ")[0] in ("a number", "a whole number"):
                        yield pytest.param(kind, name, one.name, one.type, id=f"{kind}-{name}-{one.name}")


@pytest.mark.parametrize(("kind", "name", "setting", "form"), [*numbers()])
def test_no_number_may_be_far_below_zero_nan_or_infinite(kind: str, name: str, setting: str, form: str) -> None:
    given = {"name": name, **SIZES.get((kind, name), {})}
    with pytest.raises(UsageError, match=rf"^{kind} '{name}': {setting} is -20(\.0)?; "):
        make(kind, {**given, setting: -20})
    for value in (math.nan, math.inf, -math.inf) if form.startswith("a number") else ():
        with pytest.raises(UsageError, match=f"^{kind} '{name}': {setting} must be a number"):
            make(kind, {**given, setting: value})


def test_the_numbers_are_found() -> None:
    assert len([*numbers()]) > 30


def test_a_range_names_its_limits_and_takes_them() -> None:
    check_range("loss 'poly'", "epsilon", 2, at_least=2, at_most=2)
    check_range("loss 'poly'", "epsilon", None, above=0)
    check_range("loss 'poly'", "epsilon", 10**400, above=0)
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(UsageError, match="it is finite, at least 0"):
            check_range("loss 'poly'", "epsilon", value, at_least=0)
    with pytest.raises(UsageError) as error:
        check_range("loss 'poly'", "epsilon", 2.5, above=2.5, below=3e4, unit="ms", null=True)
    assert str(error.value) == "loss 'poly': epsilon is 2.5; it is above 2.5 and below 30000 ms, or null"


def test_a_pooling_takes_no_number_of_parts() -> None:
    with pytest.raises(UsageError, match="takes no 'parts'"):
        make("pooling", {"name": "mean", "parts": 3})

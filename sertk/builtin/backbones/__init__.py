"""Backbones: inputs made into frames."""

from __future__ import annotations

from collections.abc import Mapping

from sertk.core import Backbone
from sertk.hookspecs import hookimpl


@hookimpl
def sertk_backbones() -> Mapping[str, type[Backbone]]:
    """The backbones by name."""
    from sertk.builtin.backbones.cnn_transformer import CNNTransformer
    from sertk.builtin.backbones.frames import Frames
    from sertk.builtin.backbones.parallel_cnn import ParallelCNN
    from sertk.builtin.backbones.speech import Hubert, Wav2Vec2, WavLM
    from sertk.builtin.backbones.whisper import Whisper

    return {
        "cnn_transformer": CNNTransformer,
        "frames": Frames,
        "hubert": Hubert,
        "parallel_cnn": ParallelCNN,
        "wav2vec2": Wav2Vec2,
        "wavlm": WavLM,
        "whisper": Whisper,
    }

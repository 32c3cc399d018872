"""Backbones: inputs made into frames."""

from __future__ import annotations

from collections.abc import Mapping

from sertk.core import Backbone
from sertk.hookspecs import hookimpl


@hookimpl
def sertk_backbones() -> Mapping[str, type[Backbone]]:
    """The backbones by name."""
    from sertk.builtin.backbones.bert import Bert
    from sertk.builtin.backbones.cnn_transformer import CNNTransformer
    from sertk.builtin.backbones.frames import Frames
    from sertk.builtin.backbones.fusion import Fusion
    from sertk.builtin.backbones.images import DenseNet169, ResNet50
    from sertk.builtin.backbones.parallel_cnn import ParallelCNN
    from sertk.builtin.backbones.spectrogram_cnn import SpectrogramCNN
    from sertk.builtin.backbones.speech import Data2Vec, Hubert, Wav2Vec2, WavLM
    from sertk.builtin.backbones.text_transformer import TextTransformer
    from sertk.builtin.backbones.vggish import VGGish
    from sertk.builtin.backbones.whisper import Whisper

    return {
        "bert": Bert,
        "cnn_transformer": CNNTransformer,
        "data2vec": Data2Vec,
        "densenet169": DenseNet169,
        "frames": Frames,
        "fusion": Fusion,
        "hubert": Hubert,
        "parallel_cnn": ParallelCNN,
        "resnet50": ResNet50,
        "spectrogram_cnn": SpectrogramCNN,
        "text_transformer": TextTransformer,
        "vggish": VGGish,
        "wav2vec2": Wav2Vec2,
        "wavlm": WavLM,
        "whisper": Whisper,
    }

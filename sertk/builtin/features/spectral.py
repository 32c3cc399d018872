"""Log-mel and MFCC frames with torchaudio, the same one by one and in a batch."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torchaudio
from torch import Tensor

from sertk.core import Feature, Padded, check_range

MEL = "feature 'mel'"
FLOAT = torch.finfo(torch.float32)
WINDOWS = {"hamming": torch.hamming_window, "hann": torch.hann_window}


class Mel(Feature):
    """Log-mel filterbank frames.

    Frames are centred on multiples of the hop and see zeros beyond both ends of the wave (never a reflection), so a
    wave padded in a batch gives exactly the frames that it gives alone: T = 1 + S // hop.

    Args:
        rate: Sampling rate, Hz; given by the run.
        n_mels: Number of mel filters, at least 1.
        win_ms: Analysis window, ms; from 2 samples to 10 s.
        hop_ms: Distance between windows, ms; from 2 samples to 10 s.
        n_fft: FFT points, at least the window; the next power of two from the window on when null.
        f_min: Lowest frequency, Hz; at least 0 and below the highest.
        f_max: Highest frequency, Hz, at most half the rate; half the rate when null.
        window: Shape of the analysis window.
        power: Exponent of the magnitude, above 0 and at most 4: 2 for power, 1 for magnitude.
        log: "db" (10 log10 of power) or "ln".
        floor: What values are raised to before the logarithm; above 0 in float32, 1.2e-38 or more.
        mel_scale: Formula of the mel scale.
        norm: "slaney" divides filters by their width.
        pre_emphasis: Coefficient of y[t] = x[t] - a x[t-1], from 0 to 1; 0 leaves it out.
    """

    def __init__(
        self,
        rate: int,
        n_mels: int = 80,
        win_ms: float = 25.0,
        hop_ms: float = 10.0,
        n_fft: int | None = None,
        f_min: float = 0.0,
        f_max: float | None = None,
        window: Literal["hann", "hamming"] = "hann",
        power: float = 2.0,
        log: Literal["db", "ln"] = "db",
        floor: float = 1e-10,
        mel_scale: Literal["htk", "slaney"] = "htk",
        norm: Literal["slaney"] | None = None,
        pre_emphasis: float = 0.0,
    ) -> None:
        win, self._hop = self._samples(rate, "win_ms", win_ms), self._samples(rate, "hop_ms", hop_ms)
        top = rate / 2 if f_max is None else f_max
        check_range(MEL, "n_mels", n_mels, at_least=1)
        check_range(MEL, "n_fft", n_fft, at_least=win, unit="samples, the window", null=True)
        check_range(MEL, "f_max", f_max, above=0, at_most=rate / 2, unit="Hz", null=True)
        check_range(MEL, "f_min", f_min, at_least=0, below=top, unit="Hz")
        check_range(MEL, "power", power, above=0, at_most=4)
        check_range(MEL, "floor", floor, at_least=FLOAT.tiny, at_most=FLOAT.max)
        check_range(MEL, "pre_emphasis", pre_emphasis, at_least=0, at_most=1)
        self.width, self.frame_seconds = n_mels, self._hop / rate
        self._log, self._floor, self._power, self._pre = log, floor, power, pre_emphasis
        with torch.device("cpu"):  # small, and torchaudio looks at its values
            self._mel = torchaudio.transforms.MelSpectrogram(
                sample_rate=rate,
                n_fft=n_fft or 2 ** (win - 1).bit_length(),
                win_length=win,
                hop_length=self._hop,
                f_min=f_min,
                f_max=f_max,
                n_mels=n_mels,
                window_fn=WINDOWS[window],
                power=power,
                norm=norm,
                mel_scale=mel_scale,
                pad_mode="constant",
            )
        self.silence = self._compress(torch.zeros(1, device="cpu")).item()

    @staticmethod
    def _samples(rate: int, setting: str, milliseconds: float) -> int:
        """A duration in samples; at least two, and at most ten seconds."""
        check_range(MEL, setting, milliseconds, at_least=2000 / rate, at_most=10_000, unit="ms")
        return round(rate * milliseconds / 1000)

    def _compress(self, values: Tensor) -> Tensor:
        clamped = values.clamp(min=self._floor)
        return clamped.log() if self._log == "ln" else (20 / self._power) * clamped.log10()

    def __call__(self, inputs: Padded) -> Padded:
        """(B, S) waves -> (B, T, n_mels)."""
        wave = inputs.fill(0.0)
        if self._pre:
            shifted = torch.nn.functional.pad(wave.data[:, :-1], (1, 0))
            wave = Padded(wave.data - self._pre * shifted, wave.length).fill(0.0)
        frames = self._compress(self._mel.to(wave.data.device)(wave.data)).transpose(1, 2)
        return Padded(frames, 1 + wave.length // self._hop).fill(self.silence)


class MFCC(Feature):
    """Mel-frequency cepstral coefficients: the orthonormal DCT-II of log-mel frames, c0 kept (P5 section 4.1).

    Args:
        rate: Sampling rate, Hz; given by the run.
        n_mfcc: Coefficients kept, from 1 to the number of mel bands.
        mel: The log-mel frames; 26 bands of Hamming windows with mel's other defaults when null.
    """

    revision: ClassVar[int] = 1 + Mel.revision  # of its own, and of the mel that it makes where none is given

    def __init__(self, rate: int, n_mfcc: int = 13, mel: Feature | None = None) -> None:
        self._mel = mel or Mel(rate, n_mels=26, window="hamming")
        check_range("feature 'mfcc'", "n_mfcc", n_mfcc, at_least=1, at_most=self._mel.width)
        self.width, self.frame_seconds = n_mfcc, self._mel.frame_seconds
        with torch.device("cpu"):
            self._dct = torchaudio.functional.create_dct(n_mfcc, self._mel.width, norm="ortho")
            self.silence = torch.as_tensor(self._mel.silence).expand(self._mel.width) @ self._dct

    def __call__(self, inputs: Padded) -> Padded:
        """(B, S) waves -> (B, T, n_mfcc)."""
        mel = self._mel(inputs)
        return Padded(mel.data @ self._dct.to(mel.data.device), mel.length).fill(self.silence)

"""Log-mel, MFCC and log-spectrogram frames with torchaudio, the same one by one and in a batch."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torchaudio
from torch import Tensor

from sertk.core import Feature, Padded, check_range

FLOAT = torch.finfo(torch.float32)
MOST = 2**26
"""Values of mel filters or of an FFT: 130 MB of filters, more than 10 s of 384 kHz."""
CACHED = 2**17
"""Samples in one call on a CPU, so that their spectra stay in its cache (docs/decisions.md)."""
WINDOWS = {"hamming": torch.hamming_window, "hann": torch.hann_window}


class _Spectral(Feature):
    """Spectra around multiples of the hop, which see zeros beyond both ends of the wave, through a logarithm."""

    _who: ClassVar[str]  # what an error calls it
    revision: ClassVar[int] = 2
    _stft: torchaudio.transforms.Spectrogram  # (B, S) waves -> (B, F, T) complex

    def __init__(self, rate: int, hop_ms: float, power: float, log: Literal["db", "ln"], floor: float) -> None:
        self._hop = self._samples(rate, "hop_ms", hop_ms)
        check_range(self._who, "power", power, above=0, at_most=4)
        check_range(self._who, "floor", floor, at_least=FLOAT.tiny, at_most=FLOAT.max)
        self.frame_seconds = self._hop / rate
        self._power, self._log, self._floor = power, log, floor
        self.silence = self._compress(torch.zeros(1, device="cpu")).item()

    def _samples(self, rate: int, setting: str, milliseconds: float) -> int:
        """A duration in samples; at least two, and at most ten seconds."""
        check_range(self._who, setting, milliseconds, at_least=2000 / rate, at_most=10_000, unit="ms")
        return round(rate * milliseconds / 1000)

    def _windows(self, points: int, win: int, window: str) -> torchaudio.transforms.Spectrogram:
        """The spectra of windows, as complex numbers."""
        with torch.device("cpu"):
            return torchaudio.transforms.Spectrogram(
                points, win, self._hop, window_fn=WINDOWS[window], power=None, pad_mode="constant"
            )

    def _compress(self, values: Tensor) -> Tensor:
        clamped = values.clamp(min=self._floor)
        return clamped.log() if self._log == "ln" else (20 / self._power) * clamped.log10()

    def __call__(self, inputs: Padded) -> Padded:
        """(B, S) waves -> (B, T, width)."""
        wave = inputs.fill(0.0)
        rows = CACHED // wave.data.shape[1] if wave.data.is_cpu else len(wave.length)
        frames = torch.cat([self._frames(some) for some in torch.split(wave.data, max(1, rows))])
        return Padded(frames, 1 + wave.length // self._hop).fill(self.silence)

    def _frames(self, waves: Tensor) -> Tensor:
        """(B, S) -> (B, T, width)."""
        bins = self._stft.to(waves.device)(waves).transpose(1, 2)
        values = bins.real.square().addcmul_(bins.imag, bins.imag)  # torch's abs takes as long as the FFT
        if self._power != 2:
            values = values ** (self._power / 2)
        return self._compress(self._bands(values))

    def _bands(self, bins: Tensor) -> Tensor:
        """(B, T, F) -> (B, T, width)."""
        return bins[..., : self.width]


class Mel(_Spectral):
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

    _who = "feature 'mel'"

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
        super().__init__(rate, hop_ms, power, log, floor)
        win = self._samples(rate, "win_ms", win_ms)
        top = rate / 2 if f_max is None else f_max
        check_range(self._who, "n_mels", n_mels, at_least=1)
        check_range(self._who, "n_fft", n_fft, at_least=win, unit="samples, the window", null=True)
        check_range(self._who, "f_max", f_max, above=0, at_most=rate / 2, unit="Hz", null=True)
        check_range(self._who, "f_min", f_min, at_least=0, below=top, unit="Hz")
        check_range(self._who, "pre_emphasis", pre_emphasis, at_least=0, at_most=1)
        self.width, self._pre = n_mels, pre_emphasis
        points = n_fft or 2 ** (win - 1).bit_length()
        check_range(self._who, "n_mels * n_fft", n_mels * points, at_most=MOST)
        self._stft = self._windows(points, win, window)
        with torch.device("cpu"):  # small, and torchaudio looks at its values
            self._bank = torchaudio.functional.melscale_fbanks(
                points // 2 + 1, f_min, top, n_mels, rate, norm=norm, mel_scale=mel_scale
            )

    def _bands(self, bins: Tensor) -> Tensor:
        return torch.matmul(bins, self._bank.to(bins.device))

    def __call__(self, inputs: Padded) -> Padded:
        """(B, S) waves -> (B, T, n_mels)."""
        if not self._pre:
            return super().__call__(inputs)
        wave = inputs.fill(0.0)
        shifted = torch.nn.functional.pad(wave.data[:, :-1], (1, 0))
        return super().__call__(Padded(wave.data - self._pre * shifted, wave.length))


class Spectrogram(_Spectral):
    """The lowest bins of the power spectrum in dB, an image for networks of pictures (P4 section 5.2.1).

    Frames lie as in `mel`: T = 1 + S // hop. The paper has Hamming windows of 40 ms, steps of 10 ms and 400 bins;
    that these are 10 Hz wide, and the logarithm, come from Satt et al. 2017, whom it cites.

    Args:
        rate: Sampling rate, Hz; given by the run.
        bins: Bins kept, from 0 Hz on; from 1 to half the FFT points and one.
        win_ms: Analysis window, ms; from 2 samples to 10 s.
        hop_ms: Distance between windows, ms; from 2 samples to 10 s.
        n_fft: FFT points, at least the window; a tenth of the rate, which makes bins 10 Hz wide, when null.
        window: Shape of the analysis window.
        floor: What the power is raised to before the logarithm; above 0 in float32, 1.2e-38 or more.
    """

    _who = "feature 'spectrogram'"

    def __init__(
        self,
        rate: int,
        bins: int = 400,
        win_ms: float = 40.0,
        hop_ms: float = 10.0,
        n_fft: int | None = None,
        window: Literal["hann", "hamming"] = "hamming",
        floor: float = 1e-10,
    ) -> None:
        super().__init__(rate, hop_ms, 2.0, "db", floor)
        win = self._samples(rate, "win_ms", win_ms)
        check_range(self._who, "n_fft", n_fft, at_least=win, unit="samples, the window", null=True)
        points = n_fft or max(win, rate // 10)
        check_range(self._who, "n_fft", points, at_most=MOST)
        check_range(self._who, "bins", bins, at_least=1, at_most=points // 2 + 1)
        self.width = bins
        self._stft = self._windows(points, win, window)


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

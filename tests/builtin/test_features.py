"""Log-mel, MFCC and spectrogram frames, against published numbers and other implementations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sertk.builtin.features.spectral import CACHED, MFCC, WINDOWS, Mel, Spectrogram
from sertk.core import Batch, Crop, Feature, Padded
from sertk.modeling.frontend import Frontend

# --- log-mel ----------------------------------------------------------------------------------------------------------

RATE = 16000
Array = npt.NDArray[np.float64]


def noise(*sizes: int, seed: int = 0) -> Padded:
    generator = torch.Generator().manual_seed(seed)
    return Padded.stack([0.1 * torch.randn(size, generator=generator) for size in sizes])


def by_hand(wave: Tensor, bank: Tensor, kind: str, t: int) -> Array:
    """Frame t in float64: the 400 samples around t x 160, zeros beyond the wave, periodic window, |DFT|^2, filters."""
    offset, scale = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46)}[kind]
    window = offset - scale * np.cos(2 * np.pi * np.arange(400) / 400)
    padded = np.pad(wave.double().numpy(), 200)
    power = np.abs(np.fft.rfft(padded[t * 160 : t * 160 + 400] * window, 512)) ** 2
    result: Array = power @ bank.double().numpy()
    return result


@pytest.mark.parametrize("window", WINDOWS)
def test_mel_frames_are_windowed_spectra_around_multiples_of_the_hop(window: Any) -> None:  # noqa: ANN401
    wave = noise(3210)
    frames = Mel(RATE, n_mels=20, window=window)(wave).data[0]
    bank = torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, 20, RATE)
    assert len(frames) == 21
    for t in (0, 1, 7, 20):  # the ends see zeros
        expected = 10 * np.log10(by_hand(wave.data[0], bank, window, t))
        np.testing.assert_allclose(frames[t].numpy(), expected, atol=1e-3)


def test_mel_settings_are_torchaudios() -> None:
    wave = noise(4000)
    torchs = torchaudio.transforms.MelSpectrogram(
        RATE,
        1024,
        480,
        240,
        100.0,
        6500.0,
        n_mels=26,
        power=1.0,
        norm="slaney",
        mel_scale="slaney",
        pad_mode="constant",
    )
    mel = Mel(RATE, 26, 30.0, 15.0, 1024, 100.0, 6500.0, power=1.0, norm="slaney", mel_scale="slaney")
    torch.testing.assert_close(mel(wave).data[0], 20 * torchs(wave.data[0]).clamp(min=1e-10).log10().T)
    assert (mel.width, mel.frame_seconds) == (26, 0.015)


def test_the_natural_logarithm_and_the_floor() -> None:
    quiet = Padded(1e-3 * noise(2000).data, torch.tensor([2000]))
    decibel, natural = Mel(RATE, 20), Mel(RATE, 20, log="ln")
    torch.testing.assert_close(natural(quiet).data, decibel(quiet).data * math.log(10) / 10)
    assert Mel(RATE, 20, floor=1e3)(quiet).data.unique().tolist() == [30.0]  # 10 log10 1000


def test_silence_has_the_value_that_padding_takes() -> None:
    silent = Padded(torch.zeros(1, 800), torch.tensor([800]))
    for mel in (Mel(RATE, 20), Mel(RATE, 20, log="ln"), Mel(RATE, 20, floor=1e-5)):
        assert mel(silent).data.unique().tolist() == [mel.silence]
    assert Mel(RATE, 20).silence == -100


@pytest.mark.parametrize(("feature", "first", "other"), [(Mel(RATE, 20), -100.0, -100.0), (MFCC(RATE), -509.902, 0.0)])
def test_crops_are_padded_with_the_silence_of_their_feature(feature: Feature, first: float, other: float) -> None:
    rows = torch.zeros(1, dtype=torch.int64)
    batch = Batch(("a",), {"wave": noise(800)}, None, rows, rows)  # 6 frames of 10
    made = Frontend({"x": feature}, Crop(0.1))(batch).inputs["x"].data[0]
    assert made.shape == (10, feature.width)
    torch.testing.assert_close(made[:6], feature(noise(800)).data[0])
    expected = torch.tensor([first, *[other] * (feature.width - 1)]).expand(4, -1)
    torch.testing.assert_close(made[6:], expected, atol=1e-2, rtol=0)


def test_the_fft_is_the_next_power_of_two_from_the_window_on() -> None:
    wave = noise(2000)
    for ms, points in ((25.0, 512), (32.0, 512), (33.0, 1024)):
        torch.testing.assert_close(Mel(RATE, 20, ms)(wave).data, Mel(RATE, 20, ms, n_fft=points)(wave).data)


def test_pre_emphasis_takes_from_each_sample_a_share_of_the_one_before() -> None:
    waves = noise(3000, 2000)
    emphasised = waves.data.clone()
    emphasised[:, 1:] -= 0.97 * waves.data[:, :-1]  # the first sample stays
    expected = Mel(RATE, 20)(Padded(emphasised, waves.length))
    made = Mel(RATE, 20, pre_emphasis=0.97)(waves)
    torch.testing.assert_close(made.data, expected.data, atol=1e-3, rtol=0)


FEATURES = [Mel(RATE, 20), Mel(RATE, 20, pre_emphasis=0.97), MFCC(RATE), Spectrogram(RATE, 30)]


@pytest.mark.parametrize("feature", FEATURES)
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 1300), min_size=2, max_size=4))
def test_a_batch_gives_the_frames_that_each_wave_gives_alone(feature: Feature, sizes: list[int]) -> None:
    waves = noise(*sizes)
    together = feature(waves.fill(7.0))  # rubbish in the padding
    assert together.length.tolist() == [1 + size // 160 for size in sizes]
    assert torch.equal(together.fill(feature.silence).data, together.data)
    for row, size in enumerate(sizes):
        alone = feature(Padded(waves.data[row : row + 1, :size], torch.tensor([size])))
        torch.testing.assert_close(together.data[row, : 1 + size // 160], alone.data[0], atol=5e-3, rtol=0)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("sizes", [(60_000, 9_000, 30_001, 60_000, 200), (CACHED + 1, 500)])
def test_a_batch_too_large_for_one_call_has_its_rows_in_order(feature: Feature, sizes: tuple[int, ...]) -> None:
    waves = noise(*sizes)  # two rows of 60,000 samples in a call, or one
    batch = feature(waves)
    assert len(batch.data) == len(sizes)
    for row, size in enumerate(sizes):
        alone = feature(Padded(waves.data[row : row + 1, :size], waves.length[row : row + 1]))
        torch.testing.assert_close(batch.data[row, : batch.length[row]], alone.data[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("size", "frames"), [(1, 1), (159, 1), (160, 2), (161, 2), (319, 2), (320, 3)])
def test_there_is_a_frame_on_every_multiple_of_the_hop_up_to_the_end(size: int, frames: int) -> None:
    made = Mel(RATE, 20)(noise(size))
    assert made.length.tolist() == [frames]
    assert made.data.shape == (1, frames, 20)


# --- MFCC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [8000.0, 6500.0])
def test_mfcc_is_the_orthonormal_dct_of_the_log_mel_bands(top: float) -> None:
    wave, mel = noise(3000), Mel(RATE, 26, f_max=top, window="hamming")
    expected = scipy.fft.dct(mel(wave).data[0].double().numpy(), type=2, norm="ortho")[:, :13]  # c0 is kept
    made = (MFCC(RATE) if top == 8000 else MFCC(RATE, mel=mel))(wave)
    np.testing.assert_allclose(made.data[0].numpy(), expected, atol=2e-3)
    assert made.length.tolist() == [19]


def test_mfcc_of_equal_bands_is_c0_alone() -> None:
    # all bands at -100 dB: c0 = sqrt(26) x -100, the rest 0
    silent = MFCC(RATE)(Padded(torch.zeros(1, 100), torch.tensor([100]))).data[0, 0]
    assert silent[0].item() == pytest.approx(-509.902, abs=0.01)
    assert silent[1:].abs().max() < 1e-3


# --- spectrogram ------------------------------------------------------------------------------------------------------


def test_spectrogram_frames_are_the_lowest_bins_of_windowed_spectra() -> None:
    wave = noise(3210)
    frames = Spectrogram(RATE)(wave)
    # the 640 samples around t x 160, zeros beyond the wave, a periodic Hamming window, 1600 points: bins of 10 Hz
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(640) / 640)
    padded = np.pad(wave.data[0].double().numpy(), 320)
    assert frames.data.shape == (1, 21, 400)
    for t in (0, 1, 20):  # the ends see zeros
        power = np.abs(np.fft.rfft(padded[t * 160 : t * 160 + 640] * window, 1600)) ** 2
        np.testing.assert_allclose(frames.data[0, t].numpy(), 10 * np.log10(power[:400]), atol=2e-2)


def test_a_tone_stands_in_its_bin_of_ten_hertz() -> None:
    tone = torch.sin(2 * math.pi * 1230 * torch.arange(8000) / RATE)
    frames = Spectrogram(RATE)(Padded(tone[None], torch.tensor([8000]))).data[0]
    assert frames[5:45].argmax(1).unique().tolist() == [123]
    # half the sum of the window: 0.54 x 640 / 2 = 172.8
    assert frames[25].max().item() == pytest.approx(20 * math.log10(172.8), abs=0.01)


def test_six_seconds_are_six_hundred_frames_of_a_crop() -> None:
    feature, wave = Spectrogram(RATE, 7), noise(96_000)
    assert feature(wave).data.shape == (1, 601, 7)
    rows = torch.zeros(1, dtype=torch.int64)
    crop = Crop(6.0, train="center", score="center")
    made = Frontend({"x": feature}, crop)(Batch(("a",), {"wave": wave}, None, rows, rows)).inputs["x"]
    torch.testing.assert_close(made.data, feature(wave).data[:, :600])

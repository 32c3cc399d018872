"""Random streams, audio files and features, against published numbers and other implementations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
import soundfile
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sertk.builtin.features.spectral import MFCC, WINDOWS, Mel
from sertk.core import Batch, Crop, Feature, InputError, Padded, Rng
from sertk.core.rng import _GOLDEN, _splitmix
from sertk.corpus import audio
from sertk.modeling.frontend import Frontend
from sertk.settings.schema import AudioSettings

# --- random streams ------------------------------------------------------------------------------------------------


def test_splitmix64_gives_the_published_sequence() -> None:
    states = torch.tensor(1234567) + torch.arange(1, 6) * _GOLDEN
    assert [bits % 2**64 for bits in _splitmix(states).tolist()] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def streams(ids: list[str], seed: int = 0, copy: int = 0, epoch: int = 0, use: str = "test") -> Rng:
    return Rng.for_rows(seed, ids, [copy] * len(ids), epoch, use)


NAMES = [f"u{row}" for row in range(200)]


def test_uniform_numbers_have_the_moments_of_the_uniform_distribution() -> None:
    draws = streams(NAMES).uniform(500)  # 100,000: the mean deviates by 0.0009
    assert draws.min() >= 0
    assert draws.max() < 1
    assert draws.mean().item() == pytest.approx(0.5, abs=0.004)
    assert draws.var().item() == pytest.approx(1 / 12, abs=0.002)
    assert torch.histc(draws, 10, 0, 1).sub(10000).abs().max() < 400


def test_normal_numbers_have_the_moments_of_the_normal_distribution() -> None:
    draws = streams(NAMES).normal(500)
    assert draws.isfinite().all()
    for power, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        assert draws.pow(power).mean().item() == pytest.approx(expected, abs=0.02 * 2**power)


def test_streams_and_their_numbers_are_uncorrelated() -> None:
    for draws in (streams(NAMES).uniform(500), streams(NAMES).normal(500)):
        centred = (draws - draws.mean()) / draws.std()
        assert (centred[:, 1:] * centred[:, :-1]).mean().abs() < 0.015  # along a stream; deviation 0.003
        assert (centred[1:] * centred[:-1]).mean().abs() < 0.015  # between streams


def test_a_rows_numbers_do_not_depend_on_its_batch() -> None:
    together, alone = streams(["a", "b", "c"]), streams(["b"])
    assert torch.equal(together.uniform(3)[1], alone.uniform(3)[0])
    assert torch.equal(together.normal(3)[1], alone.normal(3)[0])
    assert together.integers(torch.full((3,), 1000))[1] == alone.integers(torch.tensor([1000]))[0]


def test_more_numbers_begin_with_the_same_ones() -> None:
    for kind in (Rng.uniform, Rng.normal):  # so that padding does not change what a row gets
        assert torch.equal(kind(streams(["a"]), 9)[:, :4], kind(streams(["a"]), 4))


@pytest.mark.parametrize("other", [{"seed": 1}, {"copy": 1}, {"epoch": 1}, {"use": "other"}])
def test_every_part_of_the_key_gives_another_stream(other: dict[str, Any]) -> None:
    assert not torch.equal(streams(["a"]).uniform(4), streams(["a"], **other).uniform(4))
    assert not torch.equal(streams(["a"]).uniform(4), streams(["b"]).uniform(4))


def test_successive_calls_give_fresh_numbers() -> None:
    rng = streams(["a"])
    assert not torch.equal(rng.uniform(4), rng.uniform(4))


def test_fixed_streams_leave_only_the_epoch_out() -> None:
    first, second = streams(["a"], epoch=1), streams(["a"], epoch=2)
    assert torch.equal(first.fixed.uniform(4), second.fixed.uniform(4))
    assert not torch.equal(first.fixed.uniform(4), streams(["a"], epoch=1, copy=1).fixed.uniform(4))
    assert not torch.equal(first.fixed.uniform(4), streams(["a"], epoch=1).uniform(4))


def test_integers_are_uniform_below_their_bounds() -> None:
    high = torch.tensor([1, 4] * 2000)
    draws = Rng.for_rows(0, [str(row) for row in range(4000)], [0] * 4000, 0, "test").integers(high)
    assert set(draws[::2].tolist()) == {0}
    assert torch.bincount(draws[1::2]).sub(500).abs().max() < 100  # four bins; deviation 19


# --- log-mel -------------------------------------------------------------------------------------------------------

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


FEATURES = [Mel(RATE, 20), Mel(RATE, 20, pre_emphasis=0.97), MFCC(RATE)]


@pytest.mark.parametrize("feature", FEATURES)
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 1300), min_size=2, max_size=4))
def test_a_batch_gives_the_frames_that_each_wave_gives_alone(feature: Feature, sizes: list[int]) -> None:
    waves = noise(*sizes)
    together = feature(waves.fill(7.0))  # rubbish in the padding
    assert together.length.tolist() == [1 + size // 160 for size in sizes]
    for row, size in enumerate(sizes):
        alone = feature(Padded(waves.data[row : row + 1, :size], torch.tensor([size])))
        torch.testing.assert_close(together.data[row, : 1 + size // 160], alone.data[0], atol=5e-3, rtol=0)


@pytest.mark.parametrize(("size", "frames"), [(1, 1), (159, 1), (160, 2), (161, 2), (319, 2), (320, 3)])
def test_there_is_a_frame_on_every_multiple_of_the_hop_up_to_the_end(size: int, frames: int) -> None:
    made = Mel(RATE, 20)(noise(size))
    assert made.length.tolist() == [frames]
    assert made.data.shape == (1, frames, 20)


# --- MFCC ----------------------------------------------------------------------------------------------------------


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


# --- trimming, as librosa.effects.trim does ------------------------------------------------------------------------
#
# Frames of 2048 samples around multiples of 512; frame k sees 512 k - 1024 .. 512 k + 1023.
# A wave of ones at 4096 .. 6143 in silence fills frame 10 (0 dB); 9 and 11 hold 1536 of its samples (10 log10 0.75 =
# -1.25 dB), 8 and 12 hold 1024 (-3.01 dB), 7 and 13 hold 512 (-6.02 dB), 6 and 14 none.


def burst(*, first: int = 4096, last: int = 6144, size: int = 10240) -> npt.NDArray[np.float32]:
    wave = np.zeros(size, np.float32)
    wave[first:last] = 1.0
    return wave


@pytest.mark.parametrize(
    ("top_db", "first", "last"),
    [(60, 7, 13), (6.1, 7, 13), (6.0, 8, 12), (3.0, 9, 11), (1.0, 10, 10)],
)
def test_trim_keeps_from_the_first_loud_frame_to_the_end_of_the_last(top_db: float, first: int, last: int) -> None:
    wave = burst() + np.arange(10240, dtype=np.float32) * 1e-9  # a ramp, to see where the piece was cut
    kept = audio.trim(wave, top_db)
    np.testing.assert_array_equal(kept, wave[512 * first : 512 * (last + 1)])


def test_trim_measures_against_the_loudest_frame() -> None:
    wave = burst() * np.float32(1e-3)
    assert len(audio.trim(wave, 6.0)) == 5 * 512
    faint = burst() + 0.02 * burst(first=0, last=10240)  # -34 dB all along
    assert len(audio.trim(faint, 30)) == 7 * 512
    assert len(audio.trim(faint, 40)) == 10240


def test_trim_keeps_pauses_in_the_middle() -> None:
    wave = burst(first=2048, last=4096, size=20480) + burst(first=14336, last=16384, size=20480)
    # the frames at -6.02 dB: 2048 / 512 - 1 = 3 and (16384 - 512 + 1024) / 512 = 33
    assert len(audio.trim(wave, 60)) == (33 + 1 - 3) * 512


def test_trim_ends_with_the_wave() -> None:
    wave = burst(first=4096, last=10000, size=10000)
    np.testing.assert_array_equal(audio.trim(wave, 60), wave[7 * 512 :])


def test_trim_leaves_silence_and_short_waves_alone() -> None:
    assert len(audio.trim(np.zeros(5000, np.float32), 60)) == 5000
    assert len(audio.trim(np.ones(100, np.float32), 60)) == 100


def test_trim_at_zero_decibels_keeps_the_loudest() -> None:
    assert len(audio.trim(burst(), 0.0)) > 0


def test_trim_cuts_frames_exactly_at_the_limit() -> None:
    assert len(audio.trim(burst(), 100)) == 7 * 512  # silence counts as 1e-10, -100 dB below the burst


# --- files ---------------------------------------------------------------------------------------------------------


def settings_of(**more: Any) -> AudioSettings:  # noqa: ANN401
    return AudioSettings(**{"rate": RATE, "trim_db": None, "min_seconds": 0.1, **more})


def write(path: Path, samples: npt.NDArray[Any], rate: int = RATE) -> Path:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = noise(4000).data[0].numpy(), noise(4000, seed=1).data[0].numpy()
    file = write(tmp_path / "stereo.wav", np.stack([left, right], 1))
    wave = audio.read(file, "a", settings_of())
    np.testing.assert_allclose(wave.numpy(), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize(("rate", "size", "expected"), [(48000, 4801, 1601), (44100, 44100, 16000), (8000, 4000, 8000)])
def test_other_rates_are_resampled_to_the_same_duration(tmp_path: Path, rate: int, size: int, expected: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(size) / rate)
    wave = audio.read(write(tmp_path / "tone.wav", tone, rate), "a", settings_of()).numpy()
    assert len(wave) == expected
    middle = slice(expected // 4, 3 * expected // 4)  # away from the ends, where the filter sees silence
    same = np.sin(2 * np.pi * 440 * np.arange(expected) / RATE)
    np.testing.assert_allclose(wave[middle], same[middle], atol=5e-3)


def test_a_part_of_a_file_is_read_from_its_start_for_its_duration(tmp_path: Path) -> None:
    samples = noise(16000).data[0].numpy()
    file = write(tmp_path / "long.wav", samples)
    np.testing.assert_array_equal(audio.read(file, "a", settings_of(), 0.25, 0.5).numpy(), samples[4000:12000])
    np.testing.assert_array_equal(audio.read(file, "a", settings_of(), 0.25).numpy(), samples[4000:])


def test_reading_trims_where_it_is_told_to(tmp_path: Path) -> None:
    file = write(tmp_path / "burst.wav", burst())
    assert len(audio.read(file, "a", settings_of(trim_db=60))) == 7 * 512
    assert len(audio.read(file, "a", settings_of())) == 10240


def test_audio_that_cannot_be_used_is_an_error_that_names_the_utterance(tmp_path: Path) -> None:
    bad = noise(4000).data[0].numpy().copy()
    bad[5] = np.nan
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no audio")
    write(tmp_path / "nan.wav", bad)
    write(tmp_path / "short.wav", bad[100:200])
    write(tmp_path / "hollow.wav", bad[:0])
    for name, says in (
        ("missing.wav", "missing"),
        ("empty.wav", "0 bytes"),
        ("text.wav", "not audio"),
        ("nan.wav", "first at 5"),
        ("short.wav", r"0\.006 s"),
        ("hollow.wav", "no samples"),
    ):
        with pytest.raises(InputError, match=rf"^utt7: .*{says}"):
            audio.read(tmp_path / name, "utt7", settings_of())

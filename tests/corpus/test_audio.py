"""Audio files read, resampled and trimmed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from sertk.core import InputError, Padded
from sertk.corpus import audio
from sertk.settings.schema import AudioSettings

RATE = 16000


def noise(*sizes: int, seed: int = 0) -> Padded:
    generator = torch.Generator().manual_seed(seed)
    return Padded.stack([0.1 * torch.randn(size, generator=generator) for size in sizes])


# --- trimming, as librosa.effects.trim does ---------------------------------------------------------------------------

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


# --- files ------------------------------------------------------------------------------------------------------------


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

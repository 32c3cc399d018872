"""Audio files read, resampled and trimmed."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from sertk.core import InputError, Padded
from sertk.corpus import audio, joined
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


@pytest.mark.parametrize(("rate", "size", "expected"), [(48000, 4801, 1600), (44100, 44100, 16000), (8000, 4000, 8000)])
def test_other_rates_are_resampled_to_the_same_duration(tmp_path: Path, rate: int, size: int, expected: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(size) / rate)
    wave = audio.read(write(tmp_path / "tone.wav", tone, rate), "a", settings_of()).numpy()
    assert len(wave) == expected
    middle = slice(expected // 4, 3 * expected // 4)  # away from the ends, where the filter sees silence
    same = np.sin(2 * np.pi * 440 * np.arange(expected) / RATE)
    np.testing.assert_allclose(wave[middle], same[middle], atol=5e-3)


def chord(rate: int, seconds: float, top: float) -> npt.NDArray[np.float64]:
    """Tones up to a frequency under a bell, known at every moment, whatever the rate."""
    moments = np.arange(round(rate * seconds)) / rate
    tones = [np.sin(2 * np.pi * share * top * moments + share) for share in (0.05, 0.31, 0.62, 1.0)]
    return sum(tones) * np.exp(-0.5 * ((moments - seconds / 2) / (seconds / 14)) ** 2) / 8


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 16001, 22050, 44100, 44101, 48000, 96000, 383_987, 384_000])
def test_any_rate_is_resampled_80_db_true_and_in_milliseconds(rate: int) -> None:
    top = 0.7 * min(rate, RATE) / 2  # above, the pass band of soxr bends, by under 0.01 dB
    samples, same = chord(rate, 1.0, top).astype(np.float32)[:, None], chord(RATE, 1.0, top)
    audio.wave_of(samples, rate, "a", settings_of())
    began = time.process_time()
    wave = audio.wave_of(samples, rate, "a", settings_of()).numpy()
    assert time.process_time() - began < 0.5  # 1 to 10 ms where nobody else computes
    assert len(wave) == RATE
    error = np.sqrt(np.square(wave - same).mean() / np.square(same).mean())
    assert 20 * np.log10(error) < -80


@pytest.mark.parametrize(("rate", "tone"), [(48000, 9000), (44101, 12000), (384_000, 100_000)])
def test_what_the_new_rate_cannot_hold_is_gone(rate: int, tone: float) -> None:
    moments = np.arange(rate) / rate
    bell = np.exp(-0.5 * ((moments - 0.5) / 0.07) ** 2)
    samples = (np.sin(2 * np.pi * tone * moments) * bell).astype(np.float32)
    wave = audio.wave_of(samples[:, None], rate, "a", settings_of()).numpy()
    assert np.abs(wave).max() < 1e-4  # -80 dB; folded back it would be heard at full level


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


# --- odd files --------------------------------------------------------------------------------------------------------


def refusal(path: Path, *cut: float) -> str:
    with pytest.raises(InputError, match=r"^utt7: ") as caught:
        audio.decode(path, "utt7", *cut)
    return str(caught.value)


@pytest.mark.parametrize("value", [1e30, -32768.0, 10.5])
def test_a_sample_far_above_full_scale_is_refused_with_its_place(tmp_path: Path, value: float) -> None:
    samples = np.full((2000, 2), 0.25, np.float32)
    samples[700:, 1] = value
    text = refusal(write(tmp_path / "a.wav", samples))
    assert f"has samples far above full scale, which is 1 (first {value:g} at 700; 10 is allowed)" in text
    assert text.endswith("Write it again as 16-bit PCM, or divide it by 32768.")


def test_a_float_file_that_is_a_little_too_loud_is_read(tmp_path: Path) -> None:
    samples, _ = audio.decode(write(tmp_path / "a.wav", np.full(2000, -9.5)), "a")
    assert samples.min() == -9.5


def test_gsm_in_wav_is_read_whole_and_in_cuts(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(8000) / 8000)
    soundfile.write(path, tone, 8000, subtype="GSM610")
    with soundfile.SoundFile(path) as file:
        assert not file.seekable()
    whole, rate = audio.decode(path, "a")
    assert rate == 8000
    assert len(whole) in (8000, 8320)  # whole blocks of 320, and one more is written
    assert np.corrcoef(whole[800:8000, 0], tone[800:])[0, 1] > 0.99
    cut, _ = audio.decode(path, "a", 0.25, 0.5)
    np.testing.assert_array_equal(cut, whole[2000:6000])
    np.testing.assert_array_equal(audio.decode(path, "a", 0.25)[0], whole[2000:])


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.au"])
def test_a_file_cut_short_is_refused_with_both_lengths(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    soundfile.write(path, 0.1 * np.ones(16000), RATE, subtype="PCM_16")
    raw = path.read_bytes()
    path.write_bytes(raw[:-12000])  # 6000 samples, 0.375 s
    assert refusal(path).endswith("is cut short: its header states 1.00 s, and 0.62 s are there. Obtain it again.")
    assert "cut short" in refusal(path, 0.5, 0.25)
    assert len(audio.decode(path, "a", 0.25, 0.25)[0]) == 4000  # all of this cut is there
    path.write_bytes(raw[:-200])  # 100 samples: no broken download
    assert len(audio.decode(path, "a")[0]) == 15900


def test_an_mp3_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(32000).data[0].numpy(), RATE, format="MP3")
    assert len(audio.decode(path, "a")[0]) == 32000
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "is cut short: its header states 2.00 s, and" in refusal(path)


def test_an_mp3_whose_length_is_a_guess_is_not_called_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"  # of a variable bit rate that begins low: the guess by its first frame is far too long
    wave = noise(160_000).data[0].numpy() * np.repeat([0, 1], [32_000, 128_000])
    soundfile.write(path, wave, RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.1)
    path.write_bytes(untagged(path))
    with soundfile.SoundFile(path) as file:
        assert file.frames > 300_000
    assert 159_000 < len(audio.decode(path, "a")[0]) < 163_000


def untagged(path: Path) -> bytes:
    """An MP3 without the frame that states its length."""
    raw = path.read_bytes()
    size = joined.FRAMES[raw[:3]][0]
    assert b"Xing" in raw[:size] or b"Info" in raw[:size]
    return raw[size:]


def test_an_mp3_whose_length_is_guessed_too_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"  # of a variable bit rate that begins high
    wave = noise(160_000).data[0].numpy() * np.repeat([1, 0], [32_000, 128_000])
    soundfile.write(path, wave, RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.1)
    assert len(audio.decode(path, "a")[0]) == 160_000
    path.write_bytes(untagged(path))
    why = refusal(path)
    assert "a.mp3 has 10.08 s, and libsndfile reads 2." in why
    assert why.endswith("Write it again: ffmpeg -i IN.mp3 -c copy OUT.mp3.")
    assert "has 10.08 s" in refusal(path, 5.0, 1.0)  # where nothing is read any more
    assert len(audio.decode(path, "a", 0.5, 1.0)[0]) == 16_000
    with pytest.raises(InputError, match=r"has 10\.08 s"):
        list(audio.blocks(path, "a"))


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_of_constant_bit_rate_needs_no_length(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.mp3"
    wave = noise(rate * 30).data[0].numpy().reshape(-1, channels)
    soundfile.write(path, wave, rate, format="MP3", bitrate_mode="CONSTANT", compression_level=0.6)
    frames = 500 * b"\xff\xfb\x90\0\0\0\0\0"  # what looks like frames, in tags
    before, behind = b"ID3\4\0\0\0\0\x1f\x20" + frames, b"TAG" + 125 * b" "
    assert len(audio.decode(path, "a")[0]) == len(wave)
    bare = untagged(path)
    path.write_bytes(before + path.read_bytes() + b"APETAGEX" + frames + behind)
    assert len(audio.decode(path, "a")[0]) == len(wave)
    path.write_bytes(before + bare + behind)
    assert len(wave) <= len(audio.decode(path, "a")[0]) < len(wave) + 0.2 * rate


@pytest.mark.parametrize("form", ["MP3", "OGG"])
@pytest.mark.parametrize("seconds", [0.2, 3])
def test_joined_files_are_refused(tmp_path: Path, form: str, seconds: float) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    soundfile.write(path, noise(48_000).data[0].numpy(), RATE, format=form)
    soundfile.write(other, noise(round(seconds * RATE)).data[0].numpy(), RATE, format=form)
    assert len(audio.decode(path, "a")[0]) == 48_000
    path.write_bytes(path.read_bytes() + other.read_bytes())
    assert "3.00 s" in refusal(path)
    if form == "OGG":
        assert "joined of 2 recordings, and libsndfile reads the first one, 3.00 s." in refusal(path)
    assert len(audio.decode(path, "a", 1.0, 1.0)[0]) == 16_000


@pytest.mark.parametrize(("name", "seconds"), [("a.rf64", 0.62), ("a.w64", 0.62), ("a.sph", 0.62)])
def test_other_formats_cut_short_are_refused_with_both_lengths(tmp_path: Path, name: str, seconds: float) -> None:
    path = tmp_path / name
    soundfile.write(path, 0.1 * np.ones(16000), RATE, subtype="PCM_16", format={"a.sph": "NIST"}.get(name))
    assert len(audio.decode(path, "a")[0]) == 16000
    raw = path.read_bytes()
    path.write_bytes(raw[:-12000])  # 6000 samples, 0.375 s
    assert refusal(path).endswith(
        f"is cut short: its header states 1.00 s, and {seconds} s are there. Obtain it again."
    )
    assert len(audio.decode(path, "a", 0.25, 0.25)[0]) == 4000  # all of this cut is there


@pytest.mark.parametrize("name", ["a.flac", "a.caf"])
def test_a_file_whose_form_is_known_and_that_cannot_be_read_is_called_damaged(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(16000).data[0].numpy() / 9, RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert refusal(path).endswith(
        f"{name} is damaged or cut short: its format is known, and its samples cannot be read. Obtain it again."
    )


def stated(path: Path, mark: bytes, size: int) -> Path:
    """A file with another size behind a mark."""
    raw = bytearray(path.read_bytes())
    place = raw.index(mark) + 4
    raw[place : place + 4] = size.to_bytes(4, "little")
    path.write_bytes(raw)
    return path


def unstated(path: Path) -> Path:
    """A FLAC whose header says 0 samples, as a writer into a pipe leaves it."""
    raw = bytearray(path.read_bytes())
    place = slice(18, 26)  # rate 20 bits, channels 3, bits 5, samples 36
    raw[place] = (int.from_bytes(raw[place], "big") & ~(2**36 - 1)).to_bytes(8, "big")
    path.write_bytes(raw)
    return path


def test_a_flac_that_does_not_state_its_length_is_read_whole_and_in_cuts(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.arange(-7000, 7000).reshape(7000, 2) / 32768, RATE, subtype="PCM_16")
    whole, _ = audio.decode(path, "a")
    read, rate = audio.decode(unstated(path), "a")
    assert rate == RATE
    np.testing.assert_array_equal(read, whole)
    np.testing.assert_array_equal(audio.decode(path, "a", 0.125)[0], whole[2000:])
    np.testing.assert_array_equal(audio.decode(path, "a", 0.125, 0.25)[0], whole[2000:6000])
    assert len(audio.decode(path, "a", 0.125, 0.5)[0]) == 5000


def test_a_flac_that_does_not_state_its_length_is_not_counted_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((50_000, 2)), RATE)
    monkeypatch.setattr(audio, "MOST", 60_000)
    monkeypatch.setattr(audio, "LONGEST", 30_000 / RATE)
    monkeypatch.setattr(audio, "COUNTING", 20_000)
    # two blocks were counted, 40000 / 16000 / 3600 hours, and not the rest
    assert "states 0.0006944 hours of 2 channels, and 60000 samples are read at once" in refusal(unstated(path))
    with pytest.raises(InputError, match=r"states 0\.0006944 hours, and .* hours are read"):
        list(audio.blocks(path, "a"))


def test_a_long_flac_that_does_not_state_its_length_is_read_whole_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((50_000, 2)), RATE)
    monkeypatch.setattr(audio, "MOST", 60_000)
    monkeypatch.setattr(audio, "COUNTING", 20_000)
    assert sum(len(block) for block, _ in audio.blocks(unstated(path), "a", frames=7_000)) == 50_000
    assert "of 2 channels, and 60000 samples are read at once" in refusal(path)


@pytest.mark.parametrize("riff", [0, 0xFFFFFFFF])
def test_a_header_without_a_length_and_samples_behind_it_is_no_empty_file(tmp_path: Path, riff: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.ones(4000), RATE, subtype="PCM_16")
    stated(stated(path, b"data", 0), b"RIFF", riff)
    assert (
        "a.wav states that it has no samples, and is 8044 bytes long: it is cut short, or was written to a"
        in refusal(path)
    )


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_header_written_before_the_length_was_known_is_no_cut_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.ones(4000), RATE, subtype="PCM_16")
    assert len(audio.decode(stated(path, b"data", size), "a")[0]) == 4000


def test_a_header_that_claims_absurdly_much_is_refused_before_memory_is_asked_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, 0.1 * np.ones(4000), RATE)
    raw = bytearray(path.read_bytes())
    place = slice(18, 26)  # rate 20 bits, channels 3, bits 5, samples 36
    raw[place] = (int.from_bytes(raw[place], "big") | (2**36 - 1)).to_bytes(8, "big")
    path.write_bytes(raw)
    assert "states 1193 hours of 1 channels, and 536870912 samples are read at once" in refusal(path)
    # what is asked of it alone counts
    assert len(audio.decode(path, "a", 0.0, 0.125)[0]) == 2000


def test_a_sparse_file_of_three_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(4000), RATE)
    raw = bytearray(path.read_bytes())
    place = raw.index(b"data") + 4
    raw[place : place + 4] = (3 * 10**9).to_bytes(4, "little")
    path.write_bytes(raw)
    with path.open("r+b") as file:
        file.truncate(place + 4 + 3 * 10**9)
    assert "states 26.04 hours" in refusal(path)  # 1.5e9 samples / 16000 / 3600


def test_memory_that_is_not_there_is_the_files_affair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    text = refusal(write(tmp_path / "a.wav", np.zeros(4000)))
    assert "a.wav does not fit into memory (Unable to allocate 9 GiB). Cut it" in text


def test_a_rate_that_nobody_records_at_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(4000), 7)
    assert "states a rate of 7 Hz; 1000 to 1000000 Hz are read" in refusal(path)


def test_pipes_and_folders_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    (tmp_path / "b.wav").mkdir()
    for name in "ab":
        assert refusal(tmp_path / f"{name}.wav").endswith(
            f"{name}.wav is a folder, a pipe or a device. Give a file in its place, or remove it."
        )


def test_raw_samples_without_a_header_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"\0\1" * 4000)
    assert "Convert it (it has no header that says its rate: sox -r RATE" in refusal(tmp_path / "a.raw")


def test_a_name_that_is_not_utf8_is_refused_in_letters_that_can_be_written(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xf6se.wav"))
    soundfile.write(os.fsencode(path), np.zeros(4000), RATE)
    text = refusal(path)
    assert r"b\udcf6se.wav' is a name that is not UTF-8. Rename the file." in text
    text.encode()


def test_a_file_without_the_right_to_read_it_is_not_called_no_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.wav", np.zeros(4000))
    path.chmod(0)
    if os.geteuid() == 0:  # root reads everything
        failed = soundfile.LibsndfileError(2, "Error opening: ")
        monkeypatch.setattr(audio, "Sound", lambda _: (_ for _ in ()).throw(failed))
        monkeypatch.setattr(os, "access", lambda *_: False)
    assert refusal(path).endswith("a.wav cannot be read: you have no right to. Change its rights: chmod +r FILE.")


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    assert "cannot be looked at" in refusal(tmp_path / ("a" * 300 + ".wav"))


# --- in blocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16_000, 8_000, 44_100, 44_101, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_in_blocks_is_to_the_bit_what_it_is_in_one_piece(tmp_path: Path, rate: int, channels: int) -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, (3 * rate + 7, channels))
    soundfile.write(tmp_path / "a.wav", wave, rate)
    for start, duration in ((0.0, None), (0.5, 1.25)):
        whole = audio.read(tmp_path / "a.wav", "a", AudioSettings(), start, duration).numpy()
        found = audio.blocks(tmp_path / "a.wav", "a", start, duration, frames=1_111)
        pieces = list(audio.resampled(found, RATE))
        assert len(pieces) > 5
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_what_takes_longer_is_not_read_and_its_length_is_that_of_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((4_000, 2)), 8_000)
    assert audio.form(path, "a") == (8_000, 4_000)
    assert audio.decode_up_to(0.4999, path, "a") == (None, 8_000, 4_000)
    assert audio.decode_up_to(-1.0, path, "a", 0.125) == (None, 8_000, 3_000)
    assert audio.decode_up_to(-1.0, path, "a", 0.125, 0.25) == (None, 8_000, 2_000)
    assert audio.decode_up_to(-1.0, path, "a", 0.375, 9.0) == (None, 8_000, 1_000)  # no more than there is
    samples, rate, frames = audio.decode_up_to(0.5, path, "a")  # 4000 / 8000 s are not longer
    assert samples is not None
    assert (samples.shape, rate, frames) == ((4_000, 2), 8_000, 4_000)


def in_blocks(path: Path, frames: int = 1_000) -> str:
    """Why a file cannot be read in blocks."""
    with pytest.raises(InputError) as caught:
        list(audio.blocks(path, "u1", frames=frames))
    assert str(caught.value).startswith("u1: ")
    assert str(caught.value).count("u1: ") == 1
    return str(caught.value)


def test_what_is_wrong_in_a_late_block_is_found(tmp_path: Path) -> None:
    wave = np.zeros(4_000, np.float32)
    wave[3_500] = np.nan
    soundfile.write(tmp_path / "nan.wav", wave, RATE, subtype="FLOAT")
    assert "samples that are no numbers" in in_blocks(tmp_path / "nan.wav")
    soundfile.write(tmp_path / "short.wav", np.zeros(4_000), RATE)
    content = (tmp_path / "short.wav").read_bytes()
    (tmp_path / "short.wav").write_bytes(content[: len(content) // 2])
    assert "is cut short: its header states 0.25 s" in in_blocks(tmp_path / "short.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    assert "holds no samples" in in_blocks(tmp_path / "empty.wav")
    assert "is missing" in in_blocks(tmp_path / "nothing.wav")


@pytest.mark.parametrize(("start", "duration", "lacking"), [(1.0, 0.7, 0.7), (1.6, None, 0.6), (0.5, 1.1, 0.6)])
def test_a_cut_that_ends_behind_its_file_is_refused_by_every_reader(
    tmp_path: Path, start: float, duration: float | None, lacking: float
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(RATE), RATE)  # 1 s
    says = (
        rf"^u1: its cut of .*a\.wav ends {lacking:.2f} s behind the end of the file\. Correct its start and duration\."
    )
    for read in (audio.decode, audio.blocks, functools.partial(audio.decode_up_to, 60.0)):
        with pytest.raises(InputError, match=says):
            list(read(path, "u1", start, duration))  # type: ignore[operator] # they give different things
    assert len(audio.decode(path, "u1", 0.9, 0.5)[0]) == 1_600  # 0.4 s are allowed


def test_more_than_a_day_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(4_000), RATE)
    monkeypatch.setattr(audio, "LONGEST", 0.2)
    monkeypatch.setattr(audio, "_samples", lambda *_: pytest.fail("read"))
    assert "hours are read. Cut it" in in_blocks(tmp_path / "a.wav")


def test_raw_samples_come_as_they_are_whatever_their_pieces() -> None:
    bytes_of = [b"\x00\x40", b"\x00", b"\xc0\xff", b"\xff\x01\x00\x7f", b""]  # 16384, -16384, -1, 1; half a sample
    given = iter(bytes_of)
    blocks = list(audio.pcm(lambda _: next(given), 8_000))
    assert {rate for _, rate in blocks} == {8_000}
    assert np.concatenate([wave for wave, _ in blocks]).tolist() == [0.5, -0.5, -1 / 32768, 1 / 32768]
    assert blocks[0][0].dtype == np.float32

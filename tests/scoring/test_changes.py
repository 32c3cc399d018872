"""What a change of the audio does to a wave, in figures."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sertk.plugins import Plugins
from sertk.scoring.changes import CLEAN, Condition, changed, conditions, readable
from sertk.scoring.scorer import Sound

RATE = 16_000


@pytest.fixture(scope="module")
def every() -> dict[str, Condition]:
    return conditions(Plugins(), RATE)


def tone(hertz: float, size: int, peak: float = 0.3) -> Tensor:
    return peak * torch.sin(2 * math.pi * hertz * torch.arange(size) / RATE)


def through(condition: Condition, *waves: Tensor, batch: int = 8) -> list[Tensor]:
    """Utterances u0, u1, ... after a change."""
    sounds = {f"u{number}": Sound(len(wave) / RATE, wave) for number, wave in enumerate(waves)}
    found = changed(sounds, condition, batch)
    assert list(found) == list(sounds)
    return [one.wave for one in found.values() if isinstance(one, Sound) and one.wave is not None]


def decibel(wave: Tensor, other: Tensor) -> float:
    return 10 * math.log10(float(wave.double().pow(2).mean() / other.double().pow(2).mean()))


def test_the_conditions_are_those_of_the_page_the_clean_one_first(every: dict[str, Condition]) -> None:
    noises = ["noise-20", "noise-10", "noise-5", "noise-0"]
    others = ["telephone", "low-level", "clipped", "speed-0.9", "speed-1.1", "mp3", "opus"]
    assert [*every] == [CLEAN, *noises, *others]
    wave = tone(440, 9_600)
    assert through(every[CLEAN], wave)[0] is wave


@pytest.mark.parametrize("snr", [20, 10, 5, 0])
def test_noise_has_the_ratio_that_it_says_to_a_tenth_of_a_decibel(every: dict[str, Condition], snr: int) -> None:
    waves = tone(440, 70_000), tone(700, 50_000, peak=0.02)
    for wave, noisy in zip(waves, through(every[f"noise-{snr}"], *waves), strict=True):
        assert decibel(wave, noisy - wave) == pytest.approx(snr, abs=0.1)


def test_noise_goes_by_the_id_of_an_utterance_and_not_by_its_companions(every: dict[str, Condition]) -> None:
    short, long = tone(440, 8_000), tone(440, 20_000)
    together, alone = through(every["noise-5"], short, long), through(every["noise-5"], short, long, batch=1)
    assert all(map(torch.equal, together, alone))  # the second is in another place of its batch
    noise = [wave - clean for wave, clean in zip(together, (short, long), strict=True)]
    assert abs(float(torch.corrcoef(torch.stack([noise[0], noise[1][:8_000]]))[0, 1])) < 0.05


def test_a_telephone_band_keeps_1_khz_and_loses_5_khz_and_100_hz(every: dict[str, Condition]) -> None:
    waves = [tone(hertz, 24_001 + 100 * number) for number, hertz in enumerate((1_000, 5_000, 100))]
    made = through(every["telephone"], *waves)
    assert [len(one) for one in made] == [24_001, 24_101, 24_201]
    inner = slice(2_000, -2_000)  # where a tone begins it has all frequencies
    found = [decibel(one[inner], wave[inner]) for one, wave in zip(made, waves, strict=True)]
    assert found[0] == pytest.approx(0, abs=0.2)
    assert found[1] < -50
    assert found[2] < -50


def test_a_low_level_is_30_db_down_and_clipping_cuts_ten_times_the_wave_at_full_scale(
    every: dict[str, Condition],
) -> None:
    wave = torch.tensor([0.05, -0.02, 0.5, -0.9, 0.0])
    torch.testing.assert_close(through(every["low-level"], wave)[0], wave * 10**-1.5)
    torch.testing.assert_close(through(every["clipped"], wave)[0], torch.tensor([0.5, -0.2, 1.0, -1.0, 0.0]))


def test_another_speed_is_another_length_and_pitch(every: dict[str, Condition]) -> None:
    waves = tone(500, 9_000), tone(500, 12_345)
    slow, fast = (through(every[name], *waves) for name in ("speed-0.9", "speed-1.1"))
    assert [len(one) for one in slow] == [10_000, 13_717]  # 12,345 / 0.9 = 13,716.7
    assert [len(one) for one in fast] == [8_182, 11_223]
    peak = torch.fft.rfft(slow[0]).abs().argmax() * RATE / len(slow[0])
    assert float(peak) == pytest.approx(450, abs=RATE / 10_000)


@pytest.mark.parametrize("name", ["mp3", "opus"])
def test_a_codec_gives_about_the_same_sound_and_not_the_same_samples(every: dict[str, Condition], name: str) -> None:
    if every[name].lacking:
        pytest.skip(every[name].lacking)
    wave = tone(500, 24_000) + tone(1_300, 24_000)
    (made,) = through(every[name], wave)
    assert not torch.equal(made[:24_000], wave)
    spectrum = torch.fft.rfft(made[4_000:20_000]).abs()  # a bin is 1 Hz
    assert sorted(spectrum.topk(2).indices.tolist()) == [500, 1_300]
    assert decibel(made[4_000:20_000], wave[4_000:20_000]) == pytest.approx(0, abs=1.5)


def test_what_cannot_be_written_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found = conditions(Plugins(), 44_100)
    assert found["opus"].lacking == "it does not know 44100 Hz, the rate of this model"
    assert found["mp3"].lacking == "it has no 16 kbit/s at 44100 Hz, the rate of this model"
    monkeypatch.setattr("soundfile.available_subtypes", lambda _: {})
    assert all("does not write it" in conditions(Plugins(), RATE)[name].lacking for name in ("mp3", "opus"))


def test_a_recording_that_is_not_read_whole_is_refused_with_its_name() -> None:
    found = readable({"short": Sound(1.0, torch.zeros(9)), "long": Sound(99.0, None), "bad": "bad: no audio"})
    assert isinstance(found["short"], Sound)
    assert str(found["long"]).startswith("long: it is longer than the model takes at once")
    assert found["bad"] == "bad: no audio"

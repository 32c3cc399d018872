"""Recorded noise, reverberation and gain: what is added, how loud, from where in a folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from sertk.builtin.augmentations.folder import Folder
from sertk.builtin.augmentations.gain import Gain
from sertk.builtin.augmentations.noise import NoiseFolder
from sertk.builtin.augmentations.reverb import Reverb, convolved
from sertk.core import Augmentation, Batch, Padded, Rng, UsageError

CPU = torch.device("cpu")


def batch_of(waves: Sequence[Tensor]) -> Batch:
    size = len(waves)
    zero = torch.zeros(size, dtype=torch.int64)
    return Batch(tuple(f"u{row}" for row in range(size)), {"wave": Padded.stack(waves)}, None, zero, zero)


def applied(made: Augmentation, batch: Batch, epoch: int = 0) -> Tensor:
    found = made(batch, Rng.for_rows(0, batch.ids, batch.copy.tolist(), epoch, "test"), None).inputs["wave"]
    assert torch.equal(found.length, batch.inputs["wave"].length)
    return found.data


def write(folder: Path, **waves: Sequence[float]) -> str:
    for name, wave in waves.items():
        soundfile.write(folder / f"{name}.wav", np.array(wave, dtype=np.float32), 16_000, subtype="FLOAT")
    return str(folder)


# --- gain ----------------------------------------------------------------------------------------------------------


def test_a_gain_of_20_db_is_ten_times_as_loud() -> None:
    batch = batch_of([torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.4])])
    torch.testing.assert_close(applied(Gain([20, 20]), batch), 10 * batch.inputs["wave"].data)


def test_gains_are_uniform_in_db_and_one_for_each_row() -> None:
    made = applied(Gain([-6, 12]), batch_of([torch.ones(3)] * 400))
    assert torch.equal(made, made[:, :1].expand(-1, 3))
    decibel = 20 * made[:, 0].log10()
    assert -6 <= decibel.min() < -5.5
    assert 11.5 < decibel.max() <= 12
    assert decibel.mean().item() == pytest.approx(3, abs=1)  # deviation 18 / sqrt(12 x 400) = 0.26


# --- noise of a folder ---------------------------------------------------------------------------------------------


def test_noise_has_the_snr_over_the_utterance(tmp_path: Path) -> None:
    noises = write(tmp_path, a=torch.randn(900).tolist(), b=(0.01 * torch.randn(5000)).tolist())
    waves = [torch.cat([torch.zeros(500), torch.randn(1500)]), 3 * torch.randn(1000), torch.randn(1)]
    batch = batch_of(waves)
    added = applied(NoiseFolder(noises, [7, 7], 1.0), batch) - batch.inputs["wave"].data
    ratio = batch.inputs["wave"].data.pow(2).sum(1) / added.pow(2).sum(1)
    torch.testing.assert_close(10 * ratio.log10(), torch.full((3,), 7.0), atol=0.01, rtol=0)
    assert not added[1, 1000:].any()  # padding stays silent


def test_a_short_noise_is_repeated_from_any_sample_on(tmp_path: Path) -> None:
    batch = batch_of([torch.ones(7)] * 200)
    added = applied(NoiseFolder(write(tmp_path, a=[1, -2, 4]), [0, 0], 1.0), batch) - 1
    rounds = [[1, -2, 4, 1, -2, 4, 1], [-2, 4, 1, -2, 4, 1, -2], [4, 1, -2, 4, 1, -2, 4]]
    wanted = torch.tensor([*rounds], dtype=torch.float32)
    wanted = wanted * (7 / wanted.pow(2).sum(1, keepdim=True)).sqrt()  # 0 dB: the energy of seven ones
    nearest = (added[:, None] - wanted).abs().amax(2).min(1)
    assert nearest.values.max() < 1e-5
    assert nearest.indices.bincount(minlength=3).tolist() == pytest.approx([67] * 3, abs=25)  # deviation 6.7


def test_a_long_noise_is_taken_in_one_piece(tmp_path: Path) -> None:
    # rising noise: a piece that ran over its end would fall
    added = applied(NoiseFolder(write(tmp_path, a=range(1, 9)), [0, 0], 1.0), batch_of([torch.ones(5)] * 100)) - 1
    assert (added.diff() > 0).all()
    first = (added[:, 0] / added.diff()[:, 0]).round()  # the sample that it begins with, for it rises by one
    assert set(first.tolist()) == {1, 2, 3, 4}  # 8 - 5 + 1 places


def test_every_recording_comes_and_the_probability_says_how_often(tmp_path: Path) -> None:
    noises = write(tmp_path, a=[1.0], b=[-1.0])
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", c=[1.0, -1.0])
    added = applied(NoiseFolder(noises, [0, 0], 0.75), batch_of([torch.ones(2)] * 400)) - 1
    kinds = {(1, 1): 100, (-1, -1): 100, (1, -1): 50, (-1, 1): 50, (0, 0): 100}
    for kind, count in kinds.items():
        assert int((added.round() == torch.tensor(kind)).all(1).sum()) == pytest.approx(count, abs=35)


def test_silence_stays_silent_and_silent_noise_adds_nothing(tmp_path: Path) -> None:
    made = NoiseFolder(write(tmp_path, a=[0.0] * 9000 + [1.0]), [-100, -100], 1.0)
    batch = batch_of([torch.zeros(50), torch.ones(50)])
    assert torch.equal(applied(made, batch), batch.inputs["wave"].data)


# --- reverberation -------------------------------------------------------------------------------------------------


def test_the_convolution_begins_at_the_largest_sample_of_the_response() -> None:
    # (1, 2, 3) * (0.5, -1, 0.25) = (0.5, 0, -0.25, -2.5, 0.75): 0.5; 1 - 1; 1.5 - 2 + 0.25; -3 + 0.5; 0.75
    # (4, 0, 1) * (2, 1, -1) = (8, 4, -2, 1, -1): 8; 4; -4 + 2; 1; -1
    found = convolved(torch.tensor([[1.0, 2, 3], [4, 0, 1]]), torch.tensor([[0.5, -1, 0.25], [2, 1, -1]]))
    torch.testing.assert_close(found, torch.tensor([[0, -0.25, -2.5], [8, 4, -2]]), atol=1e-6, rtol=0)


def test_a_row_keeps_its_length_and_energy(tmp_path: Path) -> None:
    rooms = write(tmp_path, a=torch.randn(400).tolist(), b=torch.randn(30).tolist())
    batch = batch_of([torch.randn(700), 0.01 * torch.randn(90), torch.randn(1)])
    found, before = applied(Reverb(rooms, 1.0), batch), batch.inputs["wave"].data
    torch.testing.assert_close(found.pow(2).sum(1), before.pow(2).sum(1))
    assert not found[1, 90:].any()
    assert not torch.allclose(found[0], before[0], atol=0.1)


def test_a_click_becomes_the_response_once_and_stays_in_its_place(tmp_path: Path) -> None:
    rooms = write(tmp_path, a=[0.0, 0.0, 4.0, 0.0, -3.0], b=[1.0, *[0.0] * 20])
    click = torch.zeros(9)
    click[3] = 0.5
    found = applied(Reverb(rooms, 1.0), batch_of([click] * 40))
    # 0.5 (4, 0, -3) has the energy 0.25 x 25; that of the click is 0.25, so a fifth of it
    wanted = torch.stack([torch.tensor([0, 0, 0, 0.4, 0, -0.3, 0, 0, 0]), click])
    nearest = (found[:, None] - wanted).abs().amax(2).min(1)
    assert nearest.values.max() < 1e-6
    assert set(nearest.indices.tolist()) == {0, 1}  # both rooms


def test_the_probability_is_the_share_of_rows_that_are_changed(tmp_path: Path) -> None:
    batch = batch_of([torch.tensor([1.0, 0, 0])] * 400)
    changed = (applied(Reverb(write(tmp_path, a=[1, 1]), 0.25), batch) != batch.inputs["wave"].data).any(1)
    assert int(changed.sum()) == pytest.approx(100, abs=35)  # deviation 8.7


def test_silence_stays_silent_in_a_room(tmp_path: Path) -> None:
    assert not applied(Reverb(write(tmp_path, a=[1, 1]), 1.0), batch_of([torch.zeros(40)])).any()


# --- the folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 44_101])  # without a common divisor too
def test_recordings_are_resampled_and_their_channels_averaged(tmp_path: Path, rate: int) -> None:
    tone = np.sin(2 * math.pi * 300 / rate * np.arange(rate // 10))
    soundfile.write(tmp_path / "a.wav", np.stack([1.5 * tone, 0.5 * tone], 1) / 2, rate, subtype="FLOAT")
    folder = Folder("x", str(tmp_path), 16_000, 1)
    folder.load(CPU)
    assert folder.size.tolist() == [1600]
    found = folder.take(torch.tensor([0]), torch.tensor([0]), 1600)[0, 100:1500]
    wanted = torch.sin(2 * math.pi * 300 / 16_000 * torch.arange(1600))[100:1500] / 2
    torch.testing.assert_close(found, wanted, atol=0.01, rtol=0)


def test_recordings_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    write(tmp_path, c=[3], a=[1], b=[2])
    write(tmp_path, **{".hidden": [7]})
    (tmp_path / "notes.txt").write_text("no audio")
    folder = Folder("x", str(tmp_path), 16_000, 1)
    folder.load(CPU)
    assert folder.take(torch.arange(3), torch.zeros(3, dtype=torch.int64), 1).flatten().tolist() == [1, 2, 3]


def test_a_folder_is_looked_at_when_a_part_is_made_and_read_when_it_is_called(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no audio"):
        NoiseFolder(str(tmp_path))
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(UsageError, match=r"a\.wav cannot be read .*; remove it from the folder"):
        NoiseFolder(str(tmp_path))
    write(tmp_path, a=[0.0, 0.0])
    with torch.device("meta"):
        made = NoiseFolder(str(tmp_path))
    with pytest.raises(UsageError, match=r"a\.wav is silent"):
        applied(made, batch_of([torch.ones(3)]))


@pytest.mark.parametrize(("samples", "rate"), [([0.5], 48_000), ([], 48_000), ([], 16_000), ([math.nan] * 9, 8000)])
def test_a_recording_that_leaves_no_sample_at_the_rate_of_the_run_is_named(
    tmp_path: Path, samples: list[float], rate: int
) -> None:
    soundfile.write(tmp_path / "a.wav", np.array(samples, "float32"), rate, subtype="FLOAT")
    for made in (NoiseFolder(str(tmp_path)), Reverb(str(tmp_path))):
        with pytest.raises(UsageError, match=r"a\.wav is silent, or has samples that are no numbers; remove it"):
            applied(made, batch_of([torch.ones(99)]))


def test_a_folder_that_is_too_long_for_the_memory_is_refused(tmp_path: Path) -> None:
    write(tmp_path, a=[1.0] * 16_000, b=[1.0] * 32_000)
    Folder("x", str(tmp_path), 16_000, 0.05)
    with pytest.raises(UsageError, match=r"holds 0.05 minutes, and minutes is 0.04; .* Raise it"):
        Folder("x", str(tmp_path), 16_000, 0.04)

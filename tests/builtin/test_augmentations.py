"""Energy-adaptive mixup and noisy copies: what they add, how loud, where, and what it depends on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sertk.builtin.augmentations.mixup import EAM, overlay
from sertk.builtin.augmentations.noise import Noise
from sertk.core import Augmentation, Batch, Padded, Rng, Target, UsageError
from sertk.modeling.frontend import Frontend

few = settings(max_examples=30, deadline=None)


def batch_of(waves: Sequence[Tensor], label: int, copies: Sequence[int] | None = None) -> Batch:
    """Rows of one class of two."""
    size = len(waves)
    soft = torch.nn.functional.one_hot(torch.full((size,), label), 2).float()
    copy = torch.tensor(copies or [0] * size)
    ids = tuple(f"u{row}" for row in range(size))
    return Batch(ids, {"wave": Padded.stack(waves)}, Target(soft, torch.ones(size)), copy, torch.arange(size))


def rng(batch: Batch, epoch: int = 0, seed: int = 0) -> Rng:
    return Rng.for_rows(seed, batch.ids, batch.copy.tolist(), epoch, "test")


def soft(batch: Batch) -> Tensor:
    assert batch.target is not None
    return batch.target.soft


def waves(*sizes: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator) for size in sizes]


# --- overlay: P2 eqs. 1 to 4 by hand -------------------------------------------------------------------------------
#
# x_i of 10 samples, s_i = 2, l_mix = 2: x'_i = (2, 2), P'_i = 8.  x_j: s_j = 1, x'_j = (3, 1), P'_j = 10.

OWN = torch.tensor([1.0, 1, 2, 2, 1, 1, 1, 1, 1, 1])
OTHER = torch.tensor([7.0, 3, 1, 7])


def lay(decibel: float, own: Tensor = OWN, other: Tensor = OTHER, wanted: bool = True) -> tuple[Tensor, float]:
    """The mixed wave and the partner's share of the label."""
    row = [Padded.stack([own]), Padded.stack([other])]
    places = [torch.tensor([value]) for value in (2, 1 - 2, 2)]  # s_i, s_j - s_i, l_mix
    mixed, share = overlay(
        row[0], row[1], places[0], places[1], places[2], torch.tensor([decibel]), torch.tensor([wanted])
    )
    return mixed.data[0], share.item()


@pytest.mark.parametrize(
    ("decibel", "scale", "share"),
    [
        (0.0, 0.894427, 0.1),  # sqrt(8 / 10); P''_j = 8: 8 / 16 x 2 / 10
        (10.0, 0.282843, 0.0181818),  # sqrt(8 / 100); P''_j = 0.8: 0.8 / 8.8 x 2 / 10
        (-5.0, 1.590541, 0.151949),  # sqrt(8 x 10^0.5 / 10); P''_j = 25.298221: 25.298221 / 33.298221 x 2 / 10
    ],
)
def test_the_segment_is_scaled_to_the_snr_and_takes_its_share_of_the_label(
    decibel: float, scale: float, share: float
) -> None:
    mixed, got = lay(decibel)
    torch.testing.assert_close(mixed[2:4], torch.tensor([2 + 3 * scale, 2 + scale]))
    assert got == pytest.approx(share, rel=1e-5)


def test_samples_outside_the_segment_are_untouched() -> None:
    mixed, _ = lay(0.0)
    assert torch.equal(mixed[:2], OWN[:2])
    assert torch.equal(mixed[4:], OWN[4:])


def test_the_share_does_not_depend_on_the_loudness_of_the_partner() -> None:
    loud, quiet = lay(3.0, other=1000 * OTHER), lay(3.0, other=0.001 * OTHER)
    torch.testing.assert_close(loud[0], quiet[0])
    assert loud[1] == pytest.approx(quiet[1], rel=1e-5)


@pytest.mark.parametrize("silent", ["own", "other"])
def test_a_silent_segment_is_not_mixed(silent: str) -> None:
    own, other = OWN.clone(), OTHER.clone()
    (own[2:4] if silent == "own" else other[1:3]).zero_()
    mixed, share = lay(0.0, own, other)
    assert torch.equal(mixed, own)
    assert share == 0


@pytest.mark.parametrize("level", [1e-19, 1e-20, 1e-21, 1e-22])  # squares that float32 still holds, ratios it does not
def test_a_partner_too_faint_to_be_raised_is_not_mixed(level: float) -> None:
    mixed, share = lay(0.0, other=level * OTHER)
    assert mixed.isfinite().all()
    assert (share == 0) == torch.equal(mixed, OWN)
    assert share <= 0.1 + 1e-5  # what it is at 0 dB


def test_an_unwanted_row_is_not_mixed() -> None:
    mixed, share = lay(0.0, wanted=False)
    assert torch.equal(mixed, OWN)
    assert share == 0


# --- EAM -----------------------------------------------------------------------------------------------------------


def mixed_ones(frames: Sequence[int], theirs: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """What EAM adds to waves of ones from partners of ones, and the share of their label."""
    own = batch_of([torch.ones(n) for n in frames], 0)
    partners = batch_of([torch.ones(n) for n in theirs], 1)
    wave = partners.inputs["wave"].fill(1000.0)  # no sample beyond a partner's end may be heard
    partners = Batch(partners.ids, {"wave": wave}, partners.target, partners.copy, partners.owner)
    made = EAM(probability=1.0)(own, rng(own, seed=seed), partners)
    assert made.inputs["wave"].length.tolist() == list(frames)
    return made.inputs["wave"].data - own.inputs["wave"].data, soft(made)[:, 1]


pairs = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=6)


@few
@given(pairs, st.integers(0, 1000))
def test_less_than_half_is_mixed_inside_both_and_the_label_stays_dominant(
    sizes: list[tuple[int, int]], seed: int
) -> None:
    own, theirs = zip(*sizes, strict=True)
    added, share = mixed_ones(own, theirs, seed)
    for row, frames in enumerate(own):
        places = added[row].nonzero()[:, 0].tolist()
        if frames < 3:  # no l with 2 l < l_i
            assert places == []
            assert share[row] == 0
            continue
        size = len(places)
        assert places == list(range(places[0], places[0] + size))  # one segment
        assert 0 < 2 * size < frames
        assert size <= theirs[row]
        assert places[-1] < frames
        scale = added[row][places]
        torch.testing.assert_close(scale, scale[:1].expand(size))  # the partner's ones, nothing else
        decibel = -20 * math.log10(scale[0].item())
        assert -5.001 <= decibel <= 10.001
        expected = size / frames / (1 + 10 ** (decibel / 10))  # eq. 4
        assert share[row].item() == pytest.approx(expected, rel=1e-3)
        assert share[row] < 0.38


def test_segments_use_every_length_start_and_snr() -> None:
    added, _ = mixed_ones([9] * 500, [3] * 250 + [60] * 250, 1)
    starts = {(int((row != 0).sum()), int(row.nonzero()[0])) for row in added}
    assert starts == {(size, start) for size in (1, 2, 3, 4) for start in range(9 - size + 1)}
    assert {int((row != 0).sum()) for row in added[:250]} == {1, 2, 3}  # no longer than the partner
    decibel = -20 * added.amax(1).log10()
    assert decibel.min() < -4.8
    assert decibel.max() > 9.8
    assert decibel.mean().item() == pytest.approx(2.5, abs=0.6)  # uniform: deviation 15 / sqrt(12 x 500) = 0.2


def test_any_part_of_the_partner_is_taken() -> None:
    own = batch_of([torch.ones(3)] * 300, 0)  # l_mix = 1
    partners = batch_of([torch.tensor([1.0, -1, 1])] * 300, 1)
    made = EAM(probability=1.0)(own, rng(own), partners).inputs["wave"].data - 1
    negative = (made.amin(1) < 0).float().mean().item()
    assert negative == pytest.approx(1 / 3, abs=0.1)  # the middle sample, of three; deviation 0.027


def test_the_label_is_blended_and_the_weight_kept() -> None:
    own, partners = batch_of(waves(4000, 4000), 0), batch_of(waves(5000, 5000, seed=1), 1)
    made = EAM(probability=1.0)(own, rng(own), partners)
    assert made.target is not None
    assert (soft(made)[:, 1] > 0).all()
    torch.testing.assert_close(soft(made).sum(1), torch.ones(2))
    assert torch.equal(made.target.weight, torch.ones(2))


def test_a_partner_of_the_same_class_leaves_the_label_one_hot() -> None:
    own, partners = batch_of(waves(4000), 0), batch_of(waves(5000, seed=1), 0)
    made = EAM(probability=1.0)(own, rng(own), partners)
    assert not torch.equal(made.inputs["wave"].data, own.inputs["wave"].data)
    torch.testing.assert_close(soft(made), torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.5, 160, 240), (1.0, 400, 400)])
def test_the_probability_is_the_share_of_rows_that_are_mixed(probability: float, low: int, high: int) -> None:
    own, partners = batch_of([torch.ones(20)] * 400, 0), batch_of([torch.ones(20)] * 400, 1)
    made = EAM(probability=probability)(own, rng(own), partners)
    touched = (made.inputs["wave"].data != own.inputs["wave"].data).any(1)
    assert low <= int(touched.sum()) <= high
    assert torch.equal(touched, soft(made)[:, 1] > 0)


def test_half_of_the_rows_are_mixed_where_nothing_is_said_and_at_snrs_of_the_whole_range() -> None:
    own, partners = batch_of([torch.ones(20)] * 800, 0), batch_of([torch.ones(20)] * 800, 1)
    added = EAM()(own, rng(own), partners).inputs["wave"].data.sub(1).amax(1)
    mixed = added[added > 0]
    assert len(mixed) == pytest.approx(400, abs=70)  # deviation 14
    decibel = -20 * mixed.log10()
    assert decibel.min() < -4.5
    assert decibel.max() > 9.5
    assert decibel.mean().item() == pytest.approx(2.5, abs=1)  # of the rows that chance chose: deviation 0.22


def test_mixing_does_not_depend_on_companions_or_padding() -> None:
    own, partners = batch_of(waves(500, 900, 300), 0), batch_of(waves(700, 200, 1000, seed=1), 1)
    together = EAM(probability=1.0)(own, rng(own), partners)
    for row in range(3):
        one, other = own.take(torch.tensor([row])), partners.take(torch.tensor([row]))
        size = int(one.inputs["wave"].length)
        short = Batch(
            one.ids, {"wave": Padded.stack([one.inputs["wave"].data[0, :size]])}, one.target, one.copy, one.owner
        )
        alone = EAM(probability=1.0)(short, rng(short), other)
        torch.testing.assert_close(alone.inputs["wave"].data[0], together.inputs["wave"].data[row, :size])
        torch.testing.assert_close(soft(alone)[0], soft(together)[row])


def test_mixing_is_new_in_every_epoch() -> None:
    own, partners = batch_of(waves(500), 0), batch_of(waves(700, seed=1), 1)
    first, second = (EAM(probability=1.0)(own, rng(own, epoch), partners).inputs["wave"].data for epoch in (1, 2))
    assert not torch.equal(first, second)


def test_mixing_without_partners_is_an_error() -> None:
    own = batch_of(waves(500), 0)
    with pytest.raises(UsageError, match="partners"):
        EAM()(own, rng(own), None)
    assert EAM().partners == 1


class Seen(Augmentation):
    """Remembers the partners that it was given."""

    def __init__(self, partners: int) -> None:
        self.partners, self.ids = partners, ()

    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        self.ids = () if partners is None else partners.ids
        return batch


def test_each_augmentation_gets_as_many_partners_of_each_row_as_it_asked_for() -> None:
    own, partners = batch_of(waves(500, 500), 0), batch_of(waves(*[300] * 6), 1)  # u0 u1 u2 belong to row 0
    seen = [Seen(0), Seen(1), Seen(2), Seen(3)]
    Frontend({}, None, seen)(own, partners=partners, train=True)
    assert [one.ids for one in seen] == [(), ("u0", "u3"), ("u0", "u1", "u3", "u4"), partners.ids]


def test_only_training_rows_are_augmented() -> None:
    own, seen = batch_of(waves(500), 0), Seen(1)
    Frontend({}, None, [seen])(own, partners=batch_of(waves(300), 1))
    assert seen.ids == ()


@pytest.mark.parametrize("snr", [(10.0, -5.0), (1.0,), (1.0, 2.0, 3.0)])
def test_an_snr_that_is_no_range_is_refused(snr: tuple[float, ...]) -> None:
    for made in (EAM, Noise):
        with pytest.raises(UsageError, match="snr"):
            made(snr=snr)


# --- noise ---------------------------------------------------------------------------------------------------------


def noisy(batch: Batch, *, epoch: int = 0, seed: int = 0, snr: tuple[float, float] = (15.0, 30.0)) -> Tensor:
    wave: Tensor = Noise(3, snr)(batch, rng(batch, epoch, seed), None).inputs["wave"].data
    return wave


def copies_of(wave: Tensor, *copies: int) -> Batch:
    """Copies of one utterance."""
    made = batch_of([wave] * len(copies), 0, copies)
    return Batch(("a",) * len(copies), made.inputs, made.target, made.copy, made.owner)


def test_tripling_leaves_copy_0_as_it_is_and_adds_noise_to_the_others() -> None:
    batch = copies_of(waves(16000)[0], 0, 1, 2)
    made, clean = noisy(batch), batch.inputs["wave"].data
    assert Noise().copies == 3
    assert torch.equal(made[0], clean[0])
    assert not torch.equal(made[1], clean[1])
    assert not torch.equal(made[2], clean[2])


def test_the_noise_of_a_copy_does_not_depend_on_the_originals_beside_it() -> None:
    batch = batch_of(waves(4000, 900, 2500, 1700), 0, [0, 1, 0, 2])
    made = noisy(batch)
    for row in (1, 3):
        alone = noisy(batch.take(torch.tensor([row])))
        torch.testing.assert_close(made[row], alone[0])


def test_noise_has_the_stated_snr_over_the_utterance() -> None:
    # the estimate of the noise power from 16,000 samples has a deviation of sqrt(2 / 16000) = 1.1 %, 0.05 dB
    loud = torch.cat([torch.zeros(4000), 3 * waves(12000)[0]])
    batch = batch_of([loud, 0.01 * loud[:15000]], 0, [1, 2])
    made, clean, length = noisy(batch, snr=(20.0, 20.0)), batch.inputs["wave"].data, batch.inputs["wave"].length
    for row, size in enumerate(length.tolist()):
        noise = (made - clean)[row, :size]
        ratio = 10 * math.log10(clean[row, :size].pow(2).mean() / noise.pow(2).mean())
        assert ratio == pytest.approx(20, abs=0.25)


def test_snrs_are_spread_over_their_range() -> None:
    batch = batch_of([torch.ones(4000)] * 120, 0, [1] * 120)
    ratio = -10 * (noisy(batch) - 1).pow(2).mean(1).log10()
    assert 14.5 < ratio.min() < 16
    assert 29 < ratio.max() < 30.5
    assert ratio.mean().item() == pytest.approx(22.5, abs=1.5)  # deviation 15 / sqrt(12 x 120) = 0.4


def test_noise_is_white_and_gaussian() -> None:
    noise = (noisy(batch_of([torch.ones(40000)], 0, [1])) - 1)[0]
    noise = noise / noise.pow(2).mean().sqrt()
    assert noise.mean().abs() < 0.03
    assert (noise[1:] * noise[:-1]).mean().abs() < 0.03  # no memory
    assert (noise.abs() < 1).float().mean().item() == pytest.approx(0.6827, abs=0.01)
    assert (noise.abs() < 2).float().mean().item() == pytest.approx(0.9545, abs=0.005)


def test_the_noise_of_a_copy_is_the_same_in_every_epoch() -> None:
    batch = copies_of(waves(2000)[0], 1, 2)
    assert torch.equal(noisy(batch, epoch=1), noisy(batch, epoch=7))


def test_noise_differs_between_copies_utterances_and_seeds() -> None:
    wave = waves(2000)[0]
    batch = copies_of(wave, 1, 2)
    made, other = noisy(batch) - wave, noisy(batch, seed=1) - wave
    another = noisy(batch_of([wave], 0, [1])) - wave  # another id
    for a, b in ((made[0], made[1]), (made[0], other[0]), (made[0], another[0])):
        assert torch.corrcoef(torch.stack([a, b]))[0, 1].abs() < 0.15


def test_noise_does_not_depend_on_companions_and_leaves_the_padding_silent() -> None:
    together = batch_of(waves(300, 500), 0, [1, 1])
    alone = batch_of(waves(300), 0, [1])
    made = noisy(together)
    torch.testing.assert_close(made[0, :300], noisy(alone)[0])
    assert torch.equal(made[0, 300:], torch.zeros(200))


def test_silence_stays_silent() -> None:
    assert torch.equal(noisy(batch_of([torch.zeros(100)], 0, [1])), torch.zeros(1, 100))

"""From what the loader read to what the backbone reads: augmentation, features, crops; on the batch's device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sertk.core import Augmentation, Batch, Crop, Feature, InputSpec, Padded, Rng, Span, UsageError
from sertk.modeling.borders import check_augmented, check_padded, inside


class Frontend:
    """Makes a batch ready for the model.

    Args:
        features: By input name.
        crop: Fixed pieces, or None.
        augment: Applied to training rows, those that change a wave before the features, the rest after.
        seed: Of the run.
    """

    def __init__(
        self, features: Mapping[str, Feature], crop: Crop | None, augment: Sequence[Augmentation] = (), seed: int = 0
    ) -> None:
        self.features, self.crop, self.augment, self._seed = features, crop, augment, seed

    def inputs(self) -> dict[str, InputSpec]:
        """What the backbone is told of the inputs."""
        return {
            name: InputSpec(f.width, f.frame_seconds, self._span(f).length if self.crop else None, f.layers)
            for name, f in self.features.items()
        }

    def __call__(self, batch: Batch, epoch: int = 0, partners: Batch | None = None, *, train: bool = False) -> Batch:
        """B utterances as read -> one row for each crop of each, with the backbone's inputs.

        Args:
            batch: Inputs are features by name, and raw waves under "wave" where a feature is to be computed.
            epoch: For what is random anew in each.
            partners: Rows for the augmentations that mix.
            train: Whether to augment, and which crops to take.
        """
        if train:
            batch = self._augmented(batch, epoch, partners, waves=True)
        if "wave" in batch.inputs:
            batch = self._computed(batch)
            if train and partners and any(a.partners and "wave" not in a.touches for a in self.augment):
                partners = self._computed(partners)
        if train:
            batch = self._augmented(batch, epoch, partners, waves=False)
        return self._cropped(batch, epoch, train=train) if self.crop else batch

    def _computed(self, batch: Batch) -> Batch:
        """Those features that were not read are computed from the wave."""
        wave, read = batch.inputs["wave"], {name: x for name, x in batch.inputs.items() if name != "wave"}
        inputs = {name: read[name] if name in read else compute(one, wave) for name, one in self.features.items()}
        return replace(batch, inputs=inputs)

    def _augmented(self, batch: Batch, epoch: int, partners: Batch | None, *, waves: bool) -> Batch:
        for place, augmentation in enumerate(self.augment):
            if ("wave" in augmentation.touches) == waves:
                taken = _first_partners(partners, len(batch.ids), augmentation.partners)
                with inside(augmentation.who):
                    changed = augmentation(batch, self._rng(batch, epoch, f"augment {place}"), taken)
                batch = check_augmented(augmentation.who, changed, batch)
        return batch

    def _rng(self, batch: Batch, epoch: int, use: str) -> Rng:
        return Rng.for_rows(self._seed, batch.ids, batch.copy.tolist(), epoch, use).to(batch.copy.device)

    def _span(self, feature: Feature) -> Span:
        crop = self.crop or Crop(0.0)
        seconds = feature.frame_seconds
        span = Span(round(crop.length / seconds), round((crop.hop or crop.length) / seconds))
        if min(span.length, span.hop) < 1:
            raise UsageError(f"crop: length {crop.length} s or hop {crop.hop} s is under one frame ({seconds:.4g} s).")
        return span

    def _cropped(self, batch: Batch, epoch: int, *, train: bool) -> Batch:
        crop = self.crop or Crop(0.0)
        which = crop.train if train else crop.score
        # the first input says where the pieces lie; the others follow it in seconds
        name, x = next(iter(batch.inputs.items()))
        span = self._span(self.features[name])
        rows, start, _ = span.cut(x.length) if which == "all" else Span().cut(x.length)
        if which in ("center", "random"):
            beyond = (x.length - span.length).clamp(min=0)
            start = beyond // 2 if which == "center" else self._rng(batch, epoch, "crop").integers(beyond + 1)
        seconds = start * self.features[name].frame_seconds
        pieces = {n: self._pieces(n, y, rows, seconds) for n, y in batch.inputs.items()}
        groups = {n: _grouped(own, rows) for n, own in batch.groups.items()} if which == "all" else batch.groups
        return replace(batch.take(rows), inputs=pieces, groups=groups)

    def _pieces(self, name: str, x: Padded, rows: Tensor, seconds: Tensor) -> Padded:
        """(N, length, D) pieces; what a short utterance lacks is silence, or zero after normalisation."""
        feature, crop = self.features[name], self.crop or Crop(0.0)
        frames = self._span(feature).length
        start = (seconds / feature.frame_seconds).round().long()
        steps = start[:, None] + torch.arange(frames, device=x.data.device)
        data = x.data[rows[:, None], steps.clamp(max=x.data.shape[1] - 1)]
        piece = Padded(data, (x.length[rows] - start).clamp(min=1, max=frames))
        if crop.pad == "mean":
            return piece.fill(0.0)
        return Padded(piece.fill(feature.silence).data, torch.full_like(piece.length, frames))


def _grouped(groups: Tensor, owner: Tensor) -> Tensor:
    """(G, K) groups of rows -> groups of their pieces: the k-th of each, up to the fewest that one of them has.

    Args:
        groups: (G, K) rows.
        owner: (N,) the row of a piece, sorted.
    """
    count = torch.bincount(owner)
    first, fewest = count.cumsum(0) - count, count[groups].amin(1)
    own = torch.repeat_interleave(torch.arange(len(groups), device=owner.device), fewest)
    place = torch.arange(len(own), device=owner.device) - (fewest.cumsum(0) - fewest)[own]
    return first[groups[own]] + place[:, None]


def compute(feature: Feature, wave: Padded) -> Padded:
    """(B, S) waves -> (B, T, width) of a feature.

    Raises:
        SertkError: Where it fails, or returns something else.
    """
    with inside(feature.who):
        found = feature(wave)
    return check_padded(feature.who, found, len(wave.length), feature.width)


def _first_partners(partners: Batch | None, rows: int, wanted: int) -> Batch | None:
    """The first `wanted` partners of each row, where another augmentation wants more."""
    if partners is None or not wanted:
        return None
    each = len(partners.ids) // rows
    if each == wanted:
        return partners
    first = torch.arange(rows)[:, None] * each
    return partners.take((first + torch.arange(wanted)).flatten().to(partners.copy.device))

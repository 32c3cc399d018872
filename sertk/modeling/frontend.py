"""From what the loader read to what the backbone reads: augmentation, features, crops; on the batch's device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sertk.core import Augmentation, Backbone, Batch, Crop, Feature, InputSpec, Padded, Rng, Span, UsageError, nearest
from sertk.modeling.borders import check_augmented, check_padded, inside

RAW = ("wave", "text")  # what features are made of, as the loader reads it


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
        self._cut = cut_inputs(crop, features)

    def inputs(self) -> dict[str, InputSpec]:
        """What the backbone knows of the inputs."""
        frames = {name: self._span(self.features[name]).length for name in self._cut}
        return {
            name: InputSpec(f.width, f.frame_seconds, frames.get(name), f.layers, f.symbols, f.reads == "text")
            for name, f in self.features.items()
        }

    def __call__(self, batch: Batch, epoch: int = 0, partners: Batch | None = None, *, train: bool = False) -> Batch:
        """B utterances as read -> one row for each crop of each, with the backbone's inputs.

        Args:
            batch: Inputs are features by name; and raw waves under "wave", code points of texts under "text", where a
                feature is to be computed of them.
            epoch: For what is random anew in each.
            partners: Rows for the augmentations that mix.
            train: Whether to augment, and which crops to take.
        """
        if train:
            batch = self._augmented(batch, epoch, partners, waves=True)
        if any(name in batch.inputs for name in RAW):
            batch = self._computed(batch)
            if train and partners and any(a.partners and "wave" not in a.touches for a in self.augment):
                partners = self._computed(partners)
        if train:
            batch = self._augmented(batch, epoch, partners, waves=False)
        return self._cropped(batch, epoch, train=train) if self.crop else batch

    def _computed(self, batch: Batch) -> Batch:
        """Those features that were not read are computed from the wave or the text."""
        given, read = batch.inputs, {name: x for name, x in batch.inputs.items() if name not in RAW}
        inputs = {n: read[n] if n in read else compute(one, given[one.reads]) for n, one in self.features.items()}
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
            short = f"length is {crop.length}" if span.length < 1 else f"hop is {crop.hop}"
            raise UsageError(f"crop: {short} s; it is at least one frame, {seconds:.4g} s.")
        return span

    def _cropped(self, batch: Batch, epoch: int, *, train: bool) -> Batch:
        crop = self.crop or Crop(0.0)
        which = crop.train if train else crop.score
        # the first input that is cut says where the pieces lie; the others follow it in seconds
        name = next(name for name in batch.inputs if name in self._cut)
        x = batch.inputs[name]
        span = self._span(self.features[name])
        # centred frames are one more than the steps between them, and exactly two pieces long is no third piece
        rows, start, _ = span.cut((x.length - 1).clamp(min=1)) if which == "all" else Span().cut(x.length)
        if which in ("center", "random"):
            beyond = (x.length - span.length).clamp(min=0)
            start = beyond // 2 if which == "center" else self._rng(batch, epoch, "crop").integers(beyond + 1)
        seconds = start * self.features[name].frame_seconds
        pieces = {
            n: self._pieces(n, y, rows, seconds) if n in self._cut else y.take(rows) for n, y in batch.inputs.items()
        }
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


def most_seconds(features: Mapping[str, Feature], backbone: Backbone, crop: Crop | None) -> float:
    """Seconds of audio that a model takes at most; its pieces count where a crop cuts all that the backbone reads."""
    cut = cut_inputs(crop, features)
    lengths = [features[name].longest for name in backbone.inputs]
    return min([*lengths, *([] if cut.issuperset(backbone.inputs) else [backbone.longest])])


def cut_inputs(crop: Crop | None, features: Mapping[str, Feature]) -> frozenset[str]:
    """The inputs that a crop cuts: those that it names, or all that run in time.

    Raises:
        UsageError: Where it names one that there is not, or nothing would be cut.
    """
    if crop is None:
        return frozenset()
    in_time = [name for name, one in features.items() if math.isfinite(one.frame_seconds)]
    found = frozenset(in_time if crop.inputs is None else crop.inputs)
    odd = next((name for name in found if name not in features), None)
    if odd is not None:
        raise UsageError(f"crop cuts the input {odd!r}{nearest(odd, features)}")
    whole = next((name for name in found if name not in in_time), None)
    if whole is not None or not found:
        what = f"the input {whole!r}, which does not run in time" if whole is not None else "nothing"
        names = f"those that do: {', '.join(in_time)}" if in_time else "crop: null"
        raise UsageError(f"crop cuts {what}. Set {names}.")
    return found


def compute(feature: Feature, raw: Padded) -> Padded:
    """(B, S) waves or code points of texts -> (B, T, width) of a feature; of length 0 where a text is lacking.

    Raises:
        SertkError: Where it fails, or returns something else.
    """
    if feature.reads == "text" and not bool(raw.present.all()):
        return _where_present(feature, raw)
    with inside(feature.who):
        found = feature(raw)
    return check_padded(feature.who, found, len(raw.length), feature.width)


def _where_present(feature: Feature, raw: Padded) -> Padded:
    """What a feature makes of the rows that are there; the others have length 0."""
    rows = raw.present.nonzero()[:, 0]
    if not len(rows):
        return Padded(raw.data.new_zeros(len(raw.length), 0, feature.width), raw.length)
    found = compute(feature, raw.take(rows))
    data = found.data.new_zeros(len(raw.length), *found.data.shape[1:])
    return Padded(data.index_copy(0, rows, found.data), torch.zeros_like(raw.length).index_copy(0, rows, found.length))


def _first_partners(partners: Batch | None, rows: int, wanted: int) -> Batch | None:
    """The first `wanted` partners of each row, where another augmentation wants more."""
    if partners is None or not wanted:
        return None
    each = len(partners.ids) // rows
    if each == wanted:
        return partners
    first = torch.arange(rows)[:, None] * each
    return partners.take((first + torch.arange(wanted)).flatten().to(partners.copy.device))

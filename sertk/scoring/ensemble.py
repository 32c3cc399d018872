"""Scores with an ensemble: the posterior is the weighted mean of its bundles' posteriors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sertk.core import Utterance
from sertk.core.files import Record
from sertk.modeling.bundle import Opened
from sertk.modeling.ensemble import Ensemble, members_of, opened
from sertk.plugins import Plugins
from sertk.scoring.over_time import Window
from sertk.scoring.scorer import Scored, Scorer, Sounds
from sertk.scoring.stored import Shelf, Stored
from sertk.scoring.windows import Cutting

LEAST = torch.finfo(torch.float32).tiny


def scorer_of(
    found: Opened,
    device: str,
    plugins: Plugins,
    stored: Sequence[Stored] | None = None,
    cutting: Cutting = Cutting(),  # noqa: B008 - it is never changed
    *,
    ffmpeg: bool = False,
    embeddings: bool = False,
) -> Scorer:
    """The scorer of a bundle or an ensemble; `stored` has the features of each of its bundles, see `Scorer`."""
    own: Sequence[Stored | None] = stored or [None] * len(members_of(found))
    each = [
        Scorer(one.folder, device, plugins, kept, cutting, ffmpeg=ffmpeg, embeddings=embeddings)
        for one, kept in zip(members_of(found), own, strict=True)
    ]
    return Together(each, found.weights) if isinstance(found, Ensemble) else each[0]


def load(folder: str | Path, device: str, files: Sequence[str | Path]) -> Scorer:
    """The scorer of a folder, a bundle or an ensemble, see `sertk.load`."""
    plugins = Plugins(files=files)
    return scorer_of(opened(Path(folder), plugins), device, plugins)


def find_stored(shelf: Shelf, found: Opened, utterances: Sequence[Utterance]) -> tuple[list[Stored] | None, str]:
    """What each bundle of an ensemble reads from the store, see `Shelf.find`; all do, or none."""
    each = list[Stored]()
    for one in members_of(found):
        stored, where = shelf.find(one, utterances)
        if stored is None:
            return None, where
        each.append(stored)
    return each, "from the store"


class Together(Scorer):
    """Bundles that score as one. `lines` reads the audio once, a call once for each; all cut it into the same windows.

    The logits are the logarithm of the mean posterior, so that their softmax is it; an embedding is the embeddings of
    all, one behind the other.

    Args:
        members: Their scorers.
        weights: Of each; their sum is 1.
    """

    def __init__(self, members: Sequence[Scorer], weights: Sequence[float]) -> None:
        # it has what the first one has: classes, and how audio is read
        self.__dict__.update(vars(members[0]))
        self._members, self._weights = members, torch.tensor(weights, dtype=torch.float64)
        self.reads_text = any(one.reads_text for one in members)
        self.text_alone = all(one.text_alone for one in members)
        self.windows = min(one.windows for one in members)
        self._whole = min(one._whole for one in members)
        for one in members:
            one.windows, one._whole = self.windows, self._whole

    def __call__(self, path: str | Path, text: str | None = None) -> dict[str, float]:
        """The posterior of an audio file, by class; see `Scorer`."""
        each = torch.tensor([[*one(path, text).values()] for one in self._members])
        return dict(zip(self.bundle.classes, self._mean(each).tolist(), strict=True))

    def scored(
        self, utterances: Sequence[Utterance], sounds: Sounds, root: Path, batch: int, failed: list[Record]
    ) -> dict[str, tuple[float, Scored]]:
        """What utterances come to; one that a single bundle fails on has failed, see `Scorer`."""
        lost: list[Record] = []
        each: list[Mapping[str, tuple[float, Scored]]] = [
            one.scored(utterances, sounds, root, batch, lost) for one in self._members
        ]
        failed += {one["id"]: one for one in reversed(lost)}.values()  # the first reason of each
        whole = [name for name in each[0] if all(name in one for one in each)]
        return {name: (each[0][name][0], self._together([one[name][1] for one in each])) for name in whole}

    def _mean(self, each: Tensor) -> Tensor:
        """(M, ..., C) posteriors of the bundles -> (..., C)."""
        return torch.einsum("m,m...->...", self._weights, each.double()).float()

    def _together(self, each: Sequence[Scored]) -> Scored:
        posterior = self._mean(torch.stack([one.posterior for one in each]))
        windows, cuts = None, [one.windows for one in each if one.windows is not None]
        if len(cuts) == len(each):  # a model of transcripts alone takes every recording whole
            rows = self._mean(torch.tensor([[own.posterior for own in cut] for cut in cuts]))
            found = zip(cuts[0], rows.argmax(1).tolist(), rows.tolist(), strict=True)
            windows = [Window(one.start, one.end, best, row) for one, best, row in found]
        embedding = torch.cat([one.embedding for one in each])
        silent = min(one.silent for one in each)
        return Scored(posterior, posterior.clamp_min(LEAST).log(), embedding, windows, silent)

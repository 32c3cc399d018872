"""Embeddings of a run in a plane: t-SNE and PCA of test and train, by Euclidean distance and by angle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sertk.core import SertkError
from sertk.core.files import embeddings_file, scores_file, sha256_of
from sertk.results.lines import read_scores
from sertk.results.runs import Run
from sertk.scoring import embeddings

KEEP = "`sertk score SYSTEM data/NAME{} --embeddings beside` keeps them."
"""How a user gets embeddings."""
DRAWN = 1000
"""So many utterances of a part are drawn: t-SNE of two parts takes seconds then."""
LEAST = 5
"""Of fewer there is nothing to see."""
PERPLEXITY = 30.0
"""Of t-SNE, as is usual; of few utterances a third of them."""
SAME = 1e-6
"""Embeddings that differ by less of their size are the same: it is what float32 can tell."""


@dataclass(frozen=True)
class Part:
    """Utterances of a part of a fold.

    Attributes:
        name: train, dev or test.
        rows: (M, E) float64 embeddings of those that are drawn.
        label: (M,) int64 class numbers.
        all: So many there are.
        bundle: Identity of the bundle that gave them.
    """

    name: str
    rows: Tensor
    label: Tensor
    all: int
    bundle: str

    @property
    def title(self) -> str:
        """Its name, and how many are drawn."""
        drawn = f"{len(self.rows):,}"
        return f"{self.name} ({drawn})" if len(self.rows) == self.all else f"{self.name} ({drawn} of {self.all:,})"


@dataclass(frozen=True)
class Plane:
    """Embeddings in a plane.

    Attributes:
        name: Of its files.
        about: What it shows, in words.
        parts: The parts.
        points: (M, 2) float64 of each part.
        axes: Titles of the axes; none where they mean nothing.
    """

    name: str
    about: str
    parts: Sequence[Part]
    points: Sequence[Tensor]
    axes: Sequence[str] = ()


def parts_of(run: Run) -> tuple[list[Part], str]:
    """The training part, and the part that a run's scores are of; and why the training part lacks, if it does.

    Raises:
        SertkError: See `part_of`; of the scored part.
    """
    own = str(run.metrics["protocol"].get("part", "test"))
    scored, train = part_of(run, own, run.lines), scores_file("train")
    again = KEEP.format(" --part train")
    if own == "train":
        return [scored], ""
    if not embeddings_file(run.folder / train).exists():
        return [scored], f"the embeddings of the training part. {again}"
    try:
        found = part_of(run, "train", train)
    except SertkError as error:
        return [scored], f"the embeddings of the training part. {error}"
    if found.bundle != scored.bundle:
        return [scored], f"the embeddings of the training part, which are of another model. {again}"
    return [found, scored], ""


def part_of(run: Run, name: str, lines: str) -> Part:
    """The embeddings of a part, drawn with a seed where there are more than `DRAWN`.

    Args:
        run: The run.
        name: Of the part.
        lines: The file of its score lines in the run's folder.

    Raises:
        SertkError: If a file is missing, the embeddings are of other scores, or their values are not finite.
    """
    place = run.folder / lines
    path = embeddings_file(place)
    found = embeddings.read(path)
    if found.scores != sha256_of(place):
        raise SertkError(f"{path} is of other scores than {place}. {embeddings.GIVE}")
    scores = run.scores if lines == run.lines else read_scores(place, run.metrics["classes"])
    chosen = torch.randperm(len(scores.ids), generator=torch.Generator().manual_seed(0))[:DRAWN].sort().values
    wanted = {scores.ids[row] for row in chosen.tolist()}
    places = [row for row, one in enumerate(found.ids) if one in wanted]  # in the order of the lines, as `chosen`
    rows = found.rows[places].double()
    if not rows.isfinite().all():
        raise SertkError(f"{path} has values that are not finite. {embeddings.GIVE}")
    return Part(name, rows, scores.target.hard[chosen], len(scores.ids), found.bundle)


def planes(parts: Sequence[Part]) -> list[Plane]:
    """The planes of parts: all parts are in one map, so that they can be compared.

    Raises:
        SertkError: If there is nothing to see: few utterances, one dimension, or embeddings that are all the same.
    """
    rows = torch.cat([part.rows for part in parts])
    count, width = rows.shape
    if count < LEAST or width < 2:
        raise SertkError(f"{count} utterances with {width} values each are too few for a map.")
    spaces = [("", "Euclidean distance", rows), ("-angle", "angle (each embedding at length 1)", directions(rows))]
    sizes = [len(part.rows) for part in parts]
    maps, projections = list[Plane](), list[Plane]()
    for suffix, space, own in spaces:
        if (own - own.mean(0)).norm() <= SAME * own.norm():
            raise SertkError(f"all embeddings are the same, by {space}.")
        points, shares = pca(own)
        axes = [f"component {number}, {100 * share:.0f} %" for number, share in enumerate(shares, 1)]
        maps.append(Plane(f"tsne{suffix}", f"t-SNE by {space}.", parts, torch.split(tsne(own), sizes)))
        about = f"PCA by {space}; percent of the variance."
        projections.append(Plane(f"pca{suffix}", about, parts, torch.split(points, sizes), axes))
    return maps + projections


def directions(rows: Tensor) -> Tensor:
    """(N, E) -> (N, E) rows of length 1: their squared distance is 2 - 2 cos of the angle. A row of zeros stays."""
    return torch.nn.functional.normalize(rows, eps=1e-300)


def pca(rows: Tensor) -> tuple[Tensor, list[float]]:
    """(N, E) -> (N, 2) the two directions of the largest variance, and the share of each in it."""
    from sklearn.decomposition import PCA

    made = PCA(2, random_state=0)
    points = torch.from_numpy(made.fit_transform(rows.numpy()))
    return points, made.explained_variance_ratio_.tolist()


def tsne(rows: Tensor) -> Tensor:
    """(N, E) -> (N, 2) a map that keeps neighbours (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE

    centred = rows - rows.mean(0)
    scaled = centred / centred.norm() * math.sqrt(len(rows))  # it computes in float32, where small squares are zero
    made = TSNE(perplexity=min(PERPLEXITY, (len(rows) - 1) / 3), init="pca", random_state=0)
    return torch.from_numpy(made.fit_transform(scaled.numpy())).double()

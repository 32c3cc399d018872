"""The interfaces: one for each kind of plugin. Shapes are in the letters of `sertk.core`."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from sertk.core.batch import Batch, Padded, Target
from sertk.core.errors import UsageError
from sertk.core.protocol import Protocol
from sertk.core.rng import Rng, key
from sertk.core.scores import Scores
from sertk.core.utterance import Rejected, Utterance
from sertk.core.view import WHOLE, Output, Span, View, Views


class Part:
    """What the registry makes.

    Attributes:
        who: What errors call it, such as "pooling 'gem' of sertk-lab 0.1.0"; the registry sets it.
    """

    who: str = "a part that is not registered"


class Corpus(Part, ABC):
    """An official corpus folder, read into utterances. Its constructor takes settings, if it has any.

    Attributes:
        about: One sentence: what it is, licence, where to obtain it.
        published: Utterances by label as the authors publish them; empty where nobody does.
        protocols: Protocols by name.
        title: What it is called in folders and scores, where that is not the name of the plugin.
    """

    about: ClassVar[str]
    published: ClassVar[Mapping[str, int]]
    protocols: ClassVar[Mapping[str, Protocol]]
    title: str = ""

    @abstractmethod
    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        """Every utterance below `root`, and every audio file that cannot be one, with the reason.

        Raises:
            SertkError: Where the folder is not this corpus.
        """

    def reads(self, root: Path) -> list[Path]:
        """Files outside of `root` that a reading depends on, so that a recipe notices when they change."""
        return []

    def notes(self) -> list[str]:
        """What the last reading found that the user should know: sentences, said by `prepare`."""
        return []

    def obtain(self, root: Path) -> None:
        """Makes the corpus at `root` where it can be made (the embedded one); the rest do nothing."""


class InputSpec(NamedTuple):
    """An input, as the constructor of a backbone gets it.

    Attributes:
        width: Of its frames.
        frame_seconds: Seconds between two frames; infinite where an utterance is one frame.
        frames: T where it is fixed.
        layers: Equal parts of the width, the layers of an encoder.
        symbols: How many symbols there are where a frame is the number of one (characters, word pieces); else 0.
        optional: Whether an utterance may lack it, as a transcript: its length is 0 there.
    """

    width: int
    frame_seconds: float
    frames: int | None = None
    layers: int = 1
    symbols: int = 0
    optional: bool = False


class Feature(Part, ABC):
    """A wave or a text made into frames; computed alike one by one or in a batch.

    Attributes:
        reads: What it is made of: the wave, or the transcript. Where one class does both, its setting `reads` says it.
        cached: Whether it is worth keeping on disk.
        width: Width of its frames.
        frame_seconds: Seconds between two frames; infinite where an utterance is one frame.
        silence: The frame of digital silence, (width,) or one value for all, for padding.
        layers: Equal parts of its width, the layers of an encoder.
        longest: Seconds of audio that it takes at most.
        symbols: How many symbols there are where a frame is the number of one, int64; 0 where frames are values.
        weights: Hash of the pretrained weights that it computes with. A feature that computes with a library other than
            torch, torchaudio and transformers has the name and version of it here.
        places: Settings that name a place outside of a bundle: a folder, a checkpoint on a hub.
        revision: Raise it whenever the code, or a default, changes what comes out. What is cached on disk is found by
            the settings, `weights`, the revisions of the feature and of the parts inside it, the version of the
            distribution or the hash of the plugin file that offers each, and the versions of sertk, soxr, torch,
            torchaudio and transformers. So what an older revision computed is never read; it is computed again.
    """

    reads: Literal["wave", "text"] = "wave"
    cached: ClassVar[bool] = True
    revision: ClassVar[int] = 1
    places: ClassVar[tuple[str, ...]] = ()
    width: int
    frame_seconds: float
    silence: float | Tensor = 0.0
    layers: int = 1
    longest: float = math.inf
    symbols: int = 0
    weights: str = ""

    @abstractmethod
    def __call__(self, inputs: Padded) -> Padded:
        """(B, S) waves at the run's rate, or int64 code points of texts, each of one at least -> (B, T, width)."""

    def fit(self, utterances: Sequence[Utterance], wave: Callable[[Utterance], Tensor]) -> None:
        """Learns from the training utterances, where there is something to learn.

        Args:
            utterances: The training utterances; the same again when a run goes on.
            wave: Reads one of them: (S,) at the run's rate, as the feature will be given it.
        """

    def files(self) -> dict[str, bytes]:
        """What `fit` learned, by file name, for the bundle."""
        return {}

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Takes back from a bundle what `files` gave it."""

    def portable(self) -> Mapping[str, object]:
        """The settings that a bundle has in place of those that name a place of this machine."""
        return {}

    def parameters(self) -> list[nn.Parameter]:
        """The parameters of the modules that it computes with: they count in the size of a system."""
        return [one for part in vars(self).values() if isinstance(part, nn.Module) for one in part.parameters()]


class Split(NamedTuple):
    """A backbone whose frozen part is computed once: components, as a run names them.

    Attributes:
        feature: What is frozen, as a feature of the wave, or of the text.
        backbone: What is left, which reads that feature alone.
        part: What is frozen, in words ("the convolutions and the first 2 layers"), where it is a part of the backbone:
            a run that cannot cache it computes it in every epoch. Empty for the whole, which is always cached.
        why_not: Why a part cannot be cached with these settings, in words; empty where it can.
    """

    feature: Mapping[str, object]
    backbone: Mapping[str, object]
    part: str = ""
    why_not: str = ""


class Backbone(nn.Module, Part, ABC):
    """Inputs made into frames. Its constructor takes `inputs: Mapping[str, InputSpec]` first, then settings.

    Attributes:
        inputs: The names it reads.
        width: D of its frames.
        frame_seconds: Seconds between two of its frames.
        fixed: Input frames that it must be given, padding counted as signal; None where it takes any length.
        frames: T of its result, where the input is fixed.
        branches: Slices of its width by branch, where it joins several: side by side, from the first column to the
            last. Each is pooled by itself.
        layers: Equal parts of its width, where it gives several layers side by side.
        longest: Seconds of audio that it takes at most; what is longer is cut into windows when it is scored.
        weights: Hash of the pretrained weights that it begins with, empty if it has none.
        places: Settings that name a place outside of a bundle: a folder, a checkpoint on a hub.
        revision: Raise it whenever the code, or a default, changes what comes out: what is frozen is cached, see
            `Feature`.
        joins: The setting that has the backbones inside it, by name of a branch, each with the input that it `reads`;
            empty where it has none. It pools each by itself. What one of them freezes whole is cached.
    """

    places: ClassVar[tuple[str, ...]] = ()
    revision: ClassVar[int] = 1
    joins: ClassVar[str] = ""
    inputs: tuple[str, ...]
    width: int
    frame_seconds: float
    fixed: int | None = None
    frames: int | None = None
    branches: Mapping[str, slice] = MappingProxyType({})
    layers: int = 1
    longest: float = math.inf
    weights: str = ""

    @abstractmethod
    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{name: (B, T', ·)} -> (B, T, D)."""

    @classmethod
    def split(cls, name: str, settings: Mapping[str, object]) -> Split | None:  # noqa: ARG003 - of those who split
        """What these settings freeze, as a feature that is cached; None if nothing can be split off.

        It is called before any weight is loaded: where the feature is cached, training needs no encoder.

        Args:
            name: What the backbone is registered as.
            settings: Its settings.
        """
        return None

    @classmethod
    def join(cls, settings: Mapping[str, object]) -> Mapping[str, object] | None:  # noqa: ARG003 - of those who split
        """The settings of the whole backbone, if these are the settings of the rest that `split` left; else None.

        A run that begins with a bundle may train what was frozen there. Both parts' weights have the same names in
        the whole.

        Args:
            settings: Of the backbone in the bundle.
        """
        return None

    def groups(self) -> Sequence[Sequence[nn.Parameter]]:
        """Its parameters from the input to the output, a group a layer, for layer-wise learning rates."""
        return [list(self.parameters())]

    def portable(self) -> Mapping[str, object]:
        """The settings that a bundle has in place of those that name a place of this machine; it has the weights."""
        return {}


class FrameSpec(NamedTuple):
    """The frames, as the constructor of a pooling gets them.

    Attributes:
        width: D.
        frames: T if every row has the same number of frames; None if rows differ, or windows are cut out of them.
    """

    width: int
    frames: int | None = None


class Pooled(NamedTuple):
    """What a pooling returns: the embedding (N, E), and the frames (N, L, D): refined, or as they came."""

    embedding: Tensor
    frames: Tensor


class Pooling(nn.Module, Part, ABC):
    """Frames made into one embedding. Its constructor takes `frames: FrameSpec` and `project` first, then settings.

    Attributes:
        out: E of its embedding.
    """

    out: int

    @abstractmethod
    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        """(N, L, D) frames and (N, L) mask, true on real frames, at least one in a row -> (N, E) and (N, L, D)."""


class Head(nn.Module, Part, ABC):
    """An embedding made into the values of a task. Its constructor takes `width` and `out` first, then settings."""

    @abstractmethod
    def forward(self, embedding: Tensor) -> Tensor:
        """(N, width) -> (N, out)."""

    def start(self, weight: Tensor, bias: Tensor) -> None:
        """Takes the weights of a linear classifier to begin with, for `train.warm_start`.

        Args:
            weight: (out, width).
            bias: (out,).

        Raises:
            UsageError: Where it is no affine map, which is the default.
        """
        raise UsageError(
            f"{self.who} cannot begin as a linear classifier. Take head: linear, or train.warm_start: none."
        )


class HeadSpec(NamedTuple):
    """A head that a loss needs: data, so that a bundle is scored without the loss.

    Attributes:
        kind: Name of a head plugin.
        out: Number of outputs.
        reads: Branches of the embedding that it sees, None for all.
        settings: Settings of the head.
        output: How its values become probabilities.
    """

    kind: str
    out: int
    reads: tuple[str, ...] | None = None
    settings: Mapping[str, object] = MappingProxyType({})
    output: Output = "softmax"


class Loss(nn.Module, Part, ABC):
    """A term of the training objective. Its constructor takes `task` and `dims` first, then settings.

    Attributes:
        spans: The views that the model must compute for it.
        sampler: The rows that must share a batch: the name of a sampler.
        trains: The heads that it trains.
        aux: The auxiliary tasks whose labels it reads; `target.aux` has those alone.
    """

    trains: ClassVar[frozenset[str]] = frozenset()
    aux: frozenset[str] = frozenset()
    spans: Sequence[Span] = (WHOLE,)
    sampler: str = "shuffle"

    def heads(self) -> Mapping[str, HeadSpec]:
        """The heads that it needs, by name."""
        return {}

    def own_rate(self) -> Mapping[float, Sequence[nn.Parameter]]:
        """Its parameters that have a learning rate of their own, by rate; the rest joins the main optimiser."""
        return {}

    @abstractmethod
    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Float32 views of B rows, their labels and their groups -> a scalar."""


class Terms(NamedTuple):
    """A training objective: the total to minimise, and its detached terms by name, unweighted."""

    total: Tensor
    terms: Mapping[str, Tensor]


class Augmentation(Part, ABC):
    """A random change of training rows.

    Attributes:
        touches: The inputs that it changes. A setting may change them, but not whether "wave" is among them: sertk must
            know that from the class, before the augmentation is made.
        copies: Into how many copies it expands the training set; it sees which in `batch.copy`.
        partners: How many other rows it wants for each, drawn from the whole training set.
        sample_rate: Of the waves that it is made for, Hz; None for any. A run at another one is refused.
        stretch: How many times as long it may make an utterance.
    """

    touches: tuple[str, ...] = ("wave",)
    copies: int = 1
    partners: int = 0
    sample_rate: int | None = None
    stretch: float = 1.0

    @abstractmethod
    def __call__(self, batch: Batch, rng: Rng, partners: Batch | None) -> Batch:
        """B rows, their random streams, and B x `partners` rows sorted by the row they belong to -> B rows."""


class Plan(NamedTuple):
    """The plan of one batch: rows of the training set (B,), their groups, and their weights (B,)."""

    rows: Tensor
    groups: Mapping[str, Tensor]
    weight: Tensor


class BatchSampler(Part, ABC):
    """Which rows share a batch.

    Args:
        labels: (R,) int64 class of every row of the training set.
        lengths: (R,) seconds.
        batch: Rows of weight 1 in a batch.

    Attributes:
        repeats: Whether a row may come with weight 1 several times in an epoch.
        balances: Whether all classes come equally often; balanced class weights beside it are refused.
    """

    repeats: ClassVar[bool] = False
    balances: ClassVar[bool] = False

    def __init__(self, labels: Tensor, lengths: Tensor, batch: int) -> None:
        self.labels, self.lengths, self.batch = labels, lengths, batch
        self._shard = (0, 1)

    @abstractmethod
    def plans(self, generator: torch.Generator) -> list[Plan]:
        """The batches of one epoch, all randomness from the generator."""

    def epoch(self, epoch: int, seed: int) -> Sequence[Plan]:
        """The batches of an epoch for this rank: a pure function of its arguments."""
        generator = torch.Generator().manual_seed(key(seed, "order", epoch) & (2**63 - 1))
        plans = self.plans(generator)
        rank, ranks = self._shard
        # every rank must take the same number of steps: the first batches come again, so that none is dropped
        even = itertools.islice(itertools.cycle(plans), -(-len(plans) // ranks) * ranks)
        return list(even)[rank::ranks]

    def shard(self, rank: int, ranks: int) -> None:
        """Keeps every `ranks`-th batch, beginning with number `rank`."""
        self._shard = (rank, ranks)


Decision = Callable[[View, int, Rng], Tensor]
"""Windows of B utterances (`view.owner` counts utterances), B, and B random streams -> (B, C) posterior."""


class Metric(Part, ABC):
    """Scores of utterances made into one figure. Its constructor takes settings, if it has any.

    It may read all of `Scores`: the confusion counts (accuracy, kappa, MCC), the posteriors (log-loss, calibration
    error), the speakers (a mean over speakers). The order of the utterances does not matter. Every registered
    metric is shown with its default settings, unless `shown` is False; one that fails or gives no finite float
    is named and left out.

    Attributes:
        better: Which figures are better; epochs are selected by it.
        range: The least and the greatest figure; an end may be infinite. (0, 1) is a share and shown in percent.
        shown: Whether every report has it; if not, only a sweep's cell or `train.metric` that names it.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    shown: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, scores: Scores) -> float:
        """N utterances, at least one -> a finite float in `range`."""


class CountMetric(Metric):
    """A metric that the confusion counts alone decide. Reports give it confidence intervals."""

    @abstractmethod
    def counted(self, counts: Tensor) -> Tensor:
        """(..., C, C) counts, rows the labels, columns the decisions -> (...,) float64 figures in `range`.

        Every matrix holds an utterance; a class may have none.
        """

    def __call__(self, scores: Scores) -> float:
        """The figure of the counts of all utterances."""
        return float(self.counted(scores.confusion))


class Launcher(Part, ABC):
    """Runs stage commands somewhere: here, or on a cluster.

    The run gives its constructor `folder`, a place for what it keeps, and `jobs`, the user's --nj, before the settings.

    Attributes:
        outlives: Whether commands go on when the process that submitted them ends. Then all stages are submitted at
            once, each after the one before, and whoever makes the same call again waits for the same commands.
    """

    outlives: bool = False

    @abstractmethod
    def submit(
        self,
        commands: Sequence[Sequence[str]],
        logs: Sequence[Path],
        after: Sequence[str] = (),
        *,
        anyhow: bool = False,
    ) -> list[str]:
        """Takes commands that do not depend on each other; each begins by itself, or when it is waited for.

        Args:
            commands: The words of each. It runs in the folder that this process is in.
            logs: Where each may write what it prints, if that cannot go to this process's terminal.
            after: Names of commands that must have ended before one of these begins.
            anyhow: Whether they begin although one of `after` failed; if not, they never begin then.

        Returns:
            The name of each, which is never used again.

        Raises:
            SertkError: If nothing can be submitted.
        """

    @abstractmethod
    def wait(self, names: Sequence[str]) -> list[int]:
        """The exit codes of commands, in order, when all have ended; 130 for those never begun, or stopped."""

    def alive(self, names: Sequence[str]) -> list[bool]:
        """Whether each command has not ended yet, whoever submitted it; for launchers whose commands outlive."""
        return [False] * len(names)

    def cancel(self, names: Sequence[str]) -> None:
        """Ends commands, whoever submitted them; for launchers whose commands outlive."""

"""Every setting of sertk: type, default, meaning, unit, range, and whether it is part of what a run is.

This is the only list. `conf/base.yaml` and `docs/settings.md` are generated from it (`python tools/docs.py`), `check`
reads settings by it, and code reads them as attributes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from sertk.core import Crop, Span, UsageError

Role = Literal["run", "which", "how"]
"""What a setting is to a run: "run", a part of what it is (it makes the tag and the fingerprint); "which", the place of
the run among those of its system (in the fingerprint, and in the path in place of the tag); "how", where and how fast
it is made, which changes no result."""


COMMAND_LINE = "the command line"
"""Where a value was given that is in no file."""

EMBEDDING = "embedding"
"""What `normalize` names the embedding by, which is no input."""

Statistics = Literal["dimension", "scalar", "speaker", "none"]
"""Mean and deviation that an input is standardised with: of each dimension, of all together, of each dimension and
then of the speaker, or none."""


class Note(NamedTuple):
    """What the schema says of a setting beside its type and default.

    Attributes:
        about: A phrase.
        unit: Of its value.
        low: The least value.
        above: What it is greater than.
        high: The greatest value.
        role: See `Role`.
        bundled: Whether a model is scored with it, so that its bundle holds it.
    """

    about: str
    unit: str = ""
    low: float | None = None
    above: float | None = None
    high: float | None = None
    role: Role = "run"
    bundled: bool = False


def setting(
    default: Any,  # noqa: ANN401 - of the field's type
    about: str,
    unit: str = "",
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    role: Role = "run",
    bundled: bool = False,
) -> Any:  # noqa: ANN401
    """A field of a group of settings, with its note."""
    note = Note(about, unit, low, above, high, role, bundled)
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"note": note})
    return field(default=default, metadata={"note": note})


@dataclass(frozen=True)
class Component:
    """A plugin by name.

    Attributes:
        name: Its registered name.
        settings: What it takes; the registry checks them when the component is made.
    """

    words: ClassVar = ("a component", "components")
    name: str
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class LossTerm(Component):
    """A loss in the objective.

    Attributes:
        weight: Of the loss in the sum.
    """

    weight: float = field(default=1.0, metadata={"note": Note("of the loss in the sum", low=0.0)})


@dataclass(frozen=True)
class DecisionSpec(Component):
    """A decision and the windows that it looks at.

    Attributes:
        at: The windows; auto is segments where the run has them.
        temperature: T, which divides the logits of each window before they become probabilities. fitted: on dev, when
            the epoch is selected; until then it is 1. A bundle has the number.
    """

    at: Literal["auto", "whole", "segments"] = "auto"
    temperature: float | Literal["fitted"] = field(
        default=1.0, metadata={"note": Note("divides the logits of each window", above=0.0)}
    )


@dataclass(frozen=True)
class OptimizerSpec(Component):
    """An optimizer of torch.

    Attributes:
        lr: Its learning rate; torch's own where None.
    """

    lr: float | None = field(default=None, metadata={"note": Note("learning rate", low=0.0)})


@dataclass(frozen=True)
class Segments:
    """Windows over the backbone's frames, as the user gave them: in frames (140) or in seconds ("2.8s").

    Attributes:
        length: Of a window.
        hop: Between the starts of two windows.
        tail: The ragged end, see `sertk.core.Span`.
    """

    words: ClassVar = ("LENGTH:HOP[:TAIL]", "LENGTH:HOP[:TAIL]")
    length: str | int
    hop: str | int
    tail: Literal["keep", "drop", "align"] = "keep"

    def __post_init__(self) -> None:
        for word in ("length", "hop"):  # 140 and "140" are one
            object.__setattr__(self, word, str(getattr(self, word)))
        try:
            self.span(1e-9)  # sizes in seconds are looked at again when the length of a frame is known
        except UsageError:
            raise UsageError(
                f"segments {self.length}:{self.hop}:{self.tail} is not LENGTH:HOP[:keep|drop|align], in frames "
                "(140:70) or seconds (2.8s:1.4s), each above 0."
            ) from None

    @classmethod
    def parse(cls, text: str) -> Segments:
        """Reads LENGTH:HOP[:TAIL].

        Raises:
            UsageError: Where it is not of that form.
        """
        if text.count(":") not in (1, 2):
            raise UsageError(
                f"segments {text!r} is not LENGTH:HOP[:keep|drop|align], in frames (140:70) or seconds (2.8s:1.4s)."
            )
        return cls(*text.split(":"))  # type: ignore[arg-type] # it is looked at above

    def span(self, frame_seconds: float) -> Span:
        """The windows in frames of that many seconds.

        Raises:
            UsageError: Where a size is below one frame.
        """
        return Span.parse(str(self), frame_seconds)

    def __str__(self) -> str:
        return f"{self.length}:{self.hop}:{self.tail}"


@dataclass(frozen=True)
class AudioSettings:
    """How audio becomes a wave."""

    rate: int = setting(16000, "other rates are resampled, channels averaged", "Hz", low=1, high=384_000)
    trim_db: float | None = setting(
        None, "leading and trailing frames this much below the loudest are cut; null keeps them", "dB", above=0
    )
    min_seconds: float = setting(0.1, "shorter audio is refused", "s", low=0)
    ffmpeg: bool = setting(
        False, "an installed ffmpeg is run for what libsndfile does not read: m4a, mp4, webm, wma, ...", role="how"
    )


@dataclass(frozen=True)
class TrainSettings:
    """How a run is trained."""

    batch: int = setting(32, "rows that one loss call sees (one rank, one micro-step), companions not counted", low=1)
    accumulate: int = setting(1, "batches of an optimizer step", low=1)
    epochs: int = setting(30, "at most", low=1)
    patience: int = setting(10, "epochs without a better dev metric before training stops; 0 never stops early", low=0)
    metric: Component = setting(Component("ua"), "dev metric that selects the epoch")
    select: Literal["best", "last"] = setting(
        "best", "best: the epoch of the best dev metric; last: the last one, where more training does no harm"
    )
    ties: Literal["first", "loss"] = setting(
        "first",
        "which of several epochs with the best dev metric is taken: the first, or the one of the least dev loss "
        "(negative log-probability of the labels)",
    )
    optimizer: OptimizerSpec = setting(OptimizerSpec("adam", lr=1e-3), "adam, adamw or sgd, with torch's settings")
    backbone_rate: float = setting(
        1.0, "learning rate of the backbone's last layer, as a factor of the optimizer's", above=0
    )
    layer_decay: float = setting(1.0, "factor from each of its layers to the one below", above=0)
    unfreeze: int = setting(
        0,
        "gradual unfreezing: the heads and the pooling alone are trained in the first N epochs, and after every N one "
        "more layer of the backbone, from the top (Howard and Ruder 2018, section 3.3); 0 trains all from the first",
        "epochs",
        low=0,
    )
    schedule: Component = setting(
        Component("constant"), "learning-rate schedule: constant, exponential, linear, cosine or plateau"
    )
    clip: float = setting(5.0, "largest gradient norm of each optimizer; 1e9 never clips", above=0)
    subset: float = setting(
        1.0,
        "share of the training utterances that a run trains on, in each class, the same ones for all seeds; a larger "
        "one holds a smaller one",
        above=0,
        high=1,
    )
    refit: bool = setting(False, "afterwards train again on train + dev for the selected number of steps")
    curves: bool = setting(
        False,
        "after each epoch, measure the objective and the accuracy of train and dev alike, in eval mode and without "
        "augmentation, into log.jsonl. A sweep draws them. It costs a pass over both",
        role="how",
    )
    workers: int = setting(0, "processes that read ahead; 0 reads in the training process", low=0, role="how")
    checkpoint_steps: int = setting(
        200, "optimizer steps between checkpoints inside an epoch; 0 only at its end", low=0, role="how"
    )
    checkpoint_seconds: float = setting(
        20.0,
        "of training that a kill may cost: sooner after the last checkpoint none is written; 0 writes every one",
        "s",
        low=0,
        role="how",
    )
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", "of the model; features and losses are in fp32")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N", role="how")
    threads: int = setting(0, "CPU threads; 0 leaves torch's choice", low=0, role="how")
    init: str | None = setting(
        None, "a bundle whose weights are the first; --init. Relative to where the command is run"
    )
    warm_start: Component = setting(
        Component("none"),
        "none, or probe: the emotion head begins as a logistic regression on the embeddings of the training "
        "utterances, `c` (0.01) its inverse penalty; with a pretrained backbone (LP-FT, Kumar et al. 2022)",
    )
    mixup: float = setting(
        0.0,
        "alpha of mixup of embeddings: the embedding and the label of a training row take the share min(l, 1 - l) of "
        "those of another row of its batch, l drawn from Beta(alpha, alpha) (Verma et al. 2019); 0: none",
        low=0,
    )
    ema: float = setting(
        0.0,
        "decay of an exponential moving average of the weights after each optimizer step, which dev and the bundle "
        "have instead of the weights; 0: none. At first the decay is (1 + step) / (10 + step), if that is less",
        low=0,
        high=0.99999,
    )
    tensorboard: bool = setting(False, "curves of log.jsonl in RUN/tensorboard/; needs sertk[tensorboard]", role="how")


@dataclass(frozen=True)
class SpeakerSettings:
    """The statistics of speakers, for inputs of `normalize: speaker`."""

    shrink: float = setting(
        10.0, "weight of the training statistics beside a speaker's own, of which each utterance weighs 1", above=0
    )
    draws: tuple[int | Literal["all"], ...] = setting(
        (1, 2, 5, 10, 20, "all"),
        "how many of the speaker's training utterances the statistics of a training row are made of: one of these "
        "numbers, drawn for each row in each epoch; at most all that there are",
        low=0,
    )


@dataclass(frozen=True)
class ScoreSettings:
    """How a run is scored."""

    batch: int = setting(32, "utterances at once", low=1, role="how")
    workers: int = setting(1, "threads that read audio ahead; 0 reads when a window is scored", low=0, role="how")
    inputs: Literal["store", "audio"] = setting(
        "store",
        "store: read the features that `featurize` stored, if all are there; audio: compute them; --from",
        role="how",
    )
    embeddings: bool = setting(
        False, "keep the embeddings in embeddings.safetensors beside the scores of a run; --embeddings", role="how"
    )


@dataclass(frozen=True)
class Searched:
    """What a search says of the settings that it found; a system file that it wrote has it."""

    words: ClassVar = ("what a search wrote", "what searches wrote")
    corpus: str = setting("", "title of the corpus", role="which")
    protocol: str = setting("", "name of the protocol", role="which")
    folds: tuple[str, ...] = setting((), "the folds on whose dev the trials were compared", role="which")
    nested: bool = setting(False, "whether every fold was searched by itself", role="which")
    speakers: tuple[str, ...] = setting((), "of train and dev of these folds", role="which")
    trials: int = setting(0, "settings that were tried", low=0, role="which")
    pruned: int = setting(0, "of them those that were stopped early", low=0, role="which")
    failed: int = setting(0, "of them those that failed", low=0, role="which")
    ranges: Mapping[str, str] = setting({}, "where each setting was searched", role="which")
    metric: str = setting("", "the dev metric that was compared", role="which")
    dev: float = setting(0.0, "its value with what was found, the mean of these folds", role="which")
    stands: float | None = setting(None, "its value with the settings before the search", role="which")
    study: str = setting("", "16 hex digits of the settings before the search, and of how it searched", role="which")


@dataclass(frozen=True)
class Settings:
    """All settings of a run, checked."""

    corpus: Component | None = setting(None, "corpus plugin", role="which")
    root: str | None = setting(None, "folder of the corpus; --root. Relative to where the command is run", role="how")
    protocol: str | None = setting(
        None, "label map + filter + folds, by the corpus's name for it or as a .yaml file", role="which"
    )
    system: str | None = setting(None, "conf/systems/NAME.yaml, or a path", role="which")
    systems: Mapping[str, Mapping[str, object]] = setting(
        {}, "recipe: settings of some systems alone, by name or pattern, e.g. {p3-seg*: {alpha: 0.1}}", role="how"
    )
    plugins: tuple[str, ...] = setting(
        (), "Python files with plugins, relative to the recipe; --plugin. Needs --trust", role="how"
    )
    folds: tuple[str, ...] = setting(("all",), "recipe: names of folds, or all", role="how")
    seeds: tuple[int, ...] = setting((0,), "recipe: seeds", low=0, role="how")
    jobs: int = setting(
        1, "recipe: processes of prepare and featurize, runs at once of train and score; --nj", low=1, role="how"
    )
    launcher: Component = setting(
        Component("local"), "recipe: where stage commands run, local or slurm with its settings; --launcher", role="how"
    )
    fold: str | None = setting(None, "train: the fold", role="which")
    seed: int = setting(0, "train: everything random follows from it", low=0, role="which")
    searched: Searched | None = setting(
        None, "in a system that a search wrote: what was searched, on which folds, how often", role="which"
    )

    audio: AudioSettings = setting(AudioSettings(), "from a file to a wave", bundled=True)

    inputs: Mapping[str, Component] = setting(
        {},
        "features by the name the backbone reads them under, e.g. {mel: {name: mel, n_mels: 80}}; a layer adds to "
        "those below it, {} takes them away",
        bundled=True,
    )
    normalize: Statistics | Mapping[str, Statistics] = setting(
        "dimension",
        "statistics of the training fold, applied before the backbone; speaker: and after these the statistics of the "
        "utterance's speaker, see `speakers`; or one for each input by name, {mel: scalar}, and none for an input that "
        "is not named; {embedding: speaker} is for what the pooling gives, of an encoder that is trained",
        bundled=True,
    )
    speakers: SpeakerSettings = setting(SpeakerSettings(), "normalize: speaker", bundled=True)
    crop: Crop | None = setting(
        None,
        "fixed pieces of the inputs, in seconds, e.g. {length: 3.5, hop: null, train: first, score: first, "
        "pad: silence, inputs: [mel]}; inputs null cuts all that run in time",
        bundled=True,
    )
    augment: tuple[Component, ...] = setting((), "augmentations in order, training rows only")
    on_augment: Literal["error", "recompute"] = setting(
        "error", "if an augmentation changes the wave of a cached feature: error, or recompute the feature every epoch"
    )

    backbone: Component = setting(Component("cnn_transformer"), "inputs -> frames", bundled=True)
    pooling: Component = setting(Component("mean"), "frames -> an embedding", bundled=True)
    head: Component = setting(
        Component("linear"), "an embedding -> the values of a task, unless a loss names a head of its own"
    )
    segments: Segments | None = setting(
        None,
        "windows over the backbone's frames, LENGTH:HOP[:keep|drop|align] or {length, hop, tail}, in frames (140:70) "
        "or seconds (2.8s:1.4s)",
        bundled=True,
    )
    decision: DecisionSpec = setting(
        DecisionSpec("auto"),
        "how windows and crops become one posterior, `at` whole | segments. auto: max_probability at segments where "
        "the run has them, mean of the crops otherwise. `temperature` (1.0) divides the logits before that; fitted: "
        "the number that makes the labels of dev most likely",
        bundled=True,
    )

    losses: tuple[LossTerm, ...] = setting((LossTerm("ce"),), "terms of the objective; each may have a `weight` (1.0)")
    alpha: float | Literal["learned"] | None = setting(
        None,
        "weight of the other losses; the loss of the emotion head gets 1 - alpha (P3 eq. 4). learned: trained with the "
        "model, from 0.5; null: each loss has its `weight`",
        low=0,
        high=1,
    )
    pilot: int | None = setting(
        None,
        "training batches run without an update before the first; each weight is then divided by the largest value of "
        "its term in them, which brings the terms into [0, 1] (P2 eq. 11). null: weights as they are",
        low=1,
    )
    class_weights: Literal["none", "balanced"] = setting(
        "none",
        "weights of the training rows in the losses over single rows (not pairs and triplets): balanced makes classes "
        "count alike, each by R / (C n), n of the R training utterances being of it. `sampler: balanced` draws them "
        "equally often; take one of the two",
    )
    sampler: Component = setting(
        Component("shuffle"), "which rows share a batch, unless a loss names a sampler of its own"
    )

    train: TrainSettings = setting(TrainSettings(), "training")
    score: ScoreSettings = setting(ScoreSettings(), "scoring")

    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """FILE:LINE of each setting that was given, by dotted name, for errors; it is no setting."""

    def statistics(self, name: str) -> Statistics:
        """What the input of that name is standardised with."""
        return self.normalize if isinstance(self.normalize, str) else self.normalize.get(name, "none")

    @property
    def by_speaker(self) -> tuple[str, ...]:
        """What is standardised with the statistics of its speaker: inputs, or the embedding."""
        return tuple(name for name in (*self.inputs, *[EMBEDDING] * self.hears) if self.statistics(name) == "speaker")

    @property
    def hears(self) -> bool:
        """Whether the embedding is standardised with the statistics of its speaker."""
        return not isinstance(self.normalize, str) and self.normalize.get(EMBEDDING) == "speaker"

    def at(self, name: str) -> str:
        """FILE:LINE of a setting that was given, see `given_at`."""
        return given_at(name, self.places)

    @contextmanager
    def located(self, name: str) -> Iterator[None]:
        """Puts the file and line of a setting before the error about it.

        Raises:
            UsageError: What was wrong.
        """
        try:
            yield
        except UsageError as error:
            place = self.at(name)
            raise UsageError(str(error) if str(error).startswith(place) else f"{place}{error}") from error


def given_at(name: str, places: Mapping[str, str]) -> str:
    """FILE:LINE of a setting, or of the group that holds it, and a colon; empty if it was not given."""
    while name:
        if name in places:
            return f"{places[name]}: "
        name = name[: name.rindex("[")] if name.endswith("]") else name.rpartition(".")[0]  # losses[1].weight
    return ""


SECTIONS: Mapping[str, str] = {
    "corpus": "what is run",
    "audio": "audio",
    "inputs": "inputs",
    "backbone": "model",
    "losses": "objective",
    "train": "training",
    "score": "scoring",
}
"""Headings of the reference, by the first setting below each."""


def note(of: dataclasses.Field[Any]) -> Note:
    """What the schema says of a field; of a class without notes, nothing."""
    found: Note = of.metadata.get("note", Note(""))
    return found


def fields_of(group: type) -> dict[str, dataclasses.Field[Any]]:
    """The settings of a group by name."""
    return {one.name: one for one in dataclasses.fields(group) if one.name != "places"}

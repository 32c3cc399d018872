"""Settings + plugins -> the model, the same for training and for scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sertk.core import Augmentation, Backbone, Dims, Feature, FrameSpec, HeadSpec, Pooling, Split, UsageError, nearest
from sertk.corpus.features import make_features, portable, reads_of
from sertk.modeling.decide import check_temperature, resolve_decision
from sertk.modeling.frontend import Frontend
from sertk.modeling.model import Branches, Model, Normalize
from sertk.plugins import Plugins
from sertk.settings.plain import flat, plain
from sertk.settings.schema import EMBEDDING, Component, Segments, Settings, Statistics
from sertk.settings.values import component_parts


@dataclass(frozen=True)
class Body:
    """What comes before the heads."""

    frontend: Frontend
    backbone: Backbone
    pooling: Pooling
    dims: Dims


def with_frozen(plugins: Plugins, settings: Settings) -> Settings:
    """The settings with what the backbone freezes of itself put as a feature, which is computed once and cached.

    Crops are cut from inputs, so in front of an encoder they stay in front of it; and an input that is computed
    already is no longer what the encoder was trained on.

    Raises:
        UsageError: On an unknown name or setting of a backbone that freezes a part of itself.
    """
    return _with_frozen(plugins, settings)[0]


def about_frozen(plugins: Plugins, settings: Settings) -> str:
    """What a run says of a backbone that freezes a part of itself: whether it is cached, or why not; else nothing."""
    return _with_frozen(plugins, settings)[1]


def joined(plugins: Plugins, settings: Settings) -> Settings:
    """The settings of a model with the frozen part of its backbone inside the backbone: undoes `with_frozen`."""
    spec = settings.backbone
    factory: Any = plugins.factory("backbone", spec.name)
    whole = factory.join(spec.settings)
    if whole is None:
        return settings
    normalize = _renamed(settings, {"wave": settings.statistics(next(iter(settings.inputs)))})
    backbone = Component(spec.name, whole)
    return replace(settings, inputs={"wave": Component("wave")}, normalize=normalize, backbone=backbone)


def _with_frozen(plugins: Plugins, settings: Settings) -> tuple[Settings, str]:
    _check_normalize(settings)
    spec = settings.backbone
    with settings.located("backbone"):
        factory: Any = plugins.factory("backbone", spec.name)
        if factory.joins:
            return _branches_frozen(plugins, settings, factory.joins)
        split: Split | None = factory.split(spec.name, spec.settings)
        if split is None:
            return settings, ""
        if split.part:
            plugins.check("backbone", spec)  # else what is wrong would be said of the feature
    feature, rest = (Component(*component_parts(one)) for one in (split.feature, split.backbone))
    given = {name: _as_it_is(plugins, settings, name) for name in settings.inputs}
    raw = [reads == reads_of(plugins, feature) for reads in given.values()]
    why = split.why_not or _why_not_cached(plugins, settings, feature, raw) if split.part else ""
    if why:
        return settings, f"backbone {spec.name!r}: {split.part} are frozen, and computed again in every epoch: {why}"
    if not raw or not all(raw) or settings.crop is not None:
        return settings, ""
    said = f"backbone {spec.name!r}: {split.part} are frozen and read from the store; what lies above them is trained"
    places = {**settings.places, "inputs.frozen": settings.at("backbone").removesuffix(": ")}
    normalize = _renamed(settings, {"frozen": settings.statistics(next(iter(given)))})
    changed = replace(settings, inputs={"frozen": feature}, normalize=normalize, backbone=rest, places=places)
    return changed, said if split.part else ""


def _renamed(settings: Settings, statistics: Mapping[str, Statistics]) -> Statistics | dict[str, Statistics]:
    """`normalize` of inputs that have other names now; what is one for all stays."""
    if isinstance(settings.normalize, str):
        return settings.normalize
    return {**statistics, **{name: own for name, own in settings.normalize.items() if name == EMBEDDING}}


def _check_normalize(settings: Settings) -> None:
    """Refuses statistics of an input that there is not, or of an embedding other than its speaker's.

    Raises:
        UsageError: There.
    """
    place = settings.at("normalize")
    named = {} if isinstance(settings.normalize, str) else settings.normalize
    known = (*settings.inputs, EMBEDDING)
    odd = next((name for name in named if name not in known), None)
    if odd is not None:
        raise UsageError(f"{place}normalize names the input {odd!r}{nearest(odd, known)}")
    if EMBEDDING in settings.inputs:
        raise UsageError(
            f"no input can be called {EMBEDDING!r}: normalize names the output of the pooling so. Rename it."
        )
    if named.get(EMBEDDING, "none") not in ("none", "speaker"):
        raise UsageError(
            f"{place}normalize: {{embedding: {named[EMBEDDING]}}}: of the embedding it is speaker or none."
        )


def _as_it_is(plugins: Plugins, settings: Settings, name: str) -> str:
    """What an input is where it is that as it is, "wave" or "text"; else empty."""
    spec = settings.inputs[name]
    with settings.located(f"inputs.{name}"):
        factory: Any = plugins.factory("feature", spec.name)
    return reads_of(plugins, spec) if not factory.cached and factory.fit is Feature.fit else ""


def _branches_frozen(plugins: Plugins, settings: Settings, word: str) -> tuple[Settings, str]:
    """As `_with_frozen`, of a backbone that joins others: each branch that is frozen whole reads a feature instead."""
    given = settings.backbone.settings.get(word)
    if not isinstance(given, Mapping):
        return settings, ""  # it is refused where the backbone is made
    branches = {name: _named(settings, spec) for name, spec in given.items()}
    inputs, statistics, said, gone = dict(settings.inputs), dict[str, Statistics](), list[str](), set[object]()
    for name, (own, reads) in branches.items():
        factory: Any = plugins.factory("backbone", own.name)
        split = factory.split(own.name, own.settings)
        if split is None or reads is None or reads not in settings.inputs:
            continue
        why = _why_not_branch(plugins, settings, reads, split)
        if why:
            said.append(f"branch {name!r}: what is frozen of it is computed again in every epoch: {why}")
            continue
        new = f"{name}_frozen"
        if new in settings.inputs:
            raise UsageError(f"{settings.at('inputs')}inputs has {new!r}, which branch {name!r} would be stored as.")
        inputs[new], statistics[new] = Component(*component_parts(split.feature)), settings.statistics(reads)
        kind, rest = component_parts(split.backbone)
        branches[name] = Component(kind, {**rest, "reads": new}), new
        gone.add(reads)
    if not gone:
        return settings, "; ".join(said)
    read = {reads for _, reads in branches.values()}
    kept = {name: spec for name, spec in inputs.items() if name not in gone or name in read or None in read}
    each = {name: statistics.get(name) or settings.statistics(name) for name in kept}
    normalize = each if isinstance(settings.normalize, str) else _renamed(settings, each)
    parts = {name: {**own.settings, "name": own.name} for name, (own, _) in branches.items()}
    backbone = Component(settings.backbone.name, {**settings.backbone.settings, word: parts})
    place = settings.at("backbone").removesuffix(": ")
    places = {**settings.places, **{f"inputs.{name}": place for name in statistics}}
    changed = replace(settings, inputs=kept, normalize=normalize, backbone=backbone, places=places)
    return changed, "; ".join(said)


def _named(settings: Settings, spec: object) -> tuple[Component, str | None]:
    """A branch and the input that it names; the only one, where it names none."""
    own = Component(*component_parts(spec))
    reads = own.settings.get("reads")
    if reads is None and len(settings.inputs) == 1:
        reads = next(iter(settings.inputs))
        own = Component(own.name, {**own.settings, "reads": reads})
    return own, reads if isinstance(reads, str) else None


def _why_not_branch(plugins: Plugins, settings: Settings, reads: str, split: Split) -> str:
    """Why what a branch freezes is not cached, in words; empty where it is."""
    crop, raw = settings.crop, _as_it_is(plugins, settings, reads)
    if split.part:
        return split.why_not or "of a branch only the whole is cached"
    if raw != reads_of(plugins, Component(*component_parts(split.feature))):
        return f"its input {reads!r} is not the wave or the text as it is"
    if crop is not None and (raw == "wave" if crop.inputs is None else reads in crop.inputs):
        return f"crop cuts its input {reads!r}; give crop the inputs that it cuts"
    return ""


def _why_not_cached(plugins: Plugins, settings: Settings, feature: Component, raw: Sequence[bool]) -> str:
    """Why the frozen part of a backbone must be computed as training goes, in words; empty where it need not."""
    if raw != [True]:
        return "it is not the only thing that reads an input, or its input is not the wave as it is"
    if settings.crop is not None:
        return "crop cuts the waves that it reads"
    if any(settings.statistics(name) != "none" for name in settings.inputs):
        return f"normalize: {settings.normalize} changes the waves that it reads, otherwise in each fold"
    with settings.located("augment"):
        touching: Any = {one.name: plugins.factory("augmentation", one.name) for one in settings.augment}
    waves = [name for name, factory in touching.items() if "wave" in factory.touches]
    if waves:
        return f"augmentation {waves[0]!r} changes the waves that it reads"
    if settings.train.init is not None and not _begins_with(settings.train.init, feature):
        return "the bundle of train.init has these weights of its own, or freezes another part"
    return ""


def _begins_with(init: str, feature: Component) -> bool:
    """Whether a bundle's model reads this feature of a frozen part, wherever its weights came from."""
    from sertk.modeling import bundle  # late: it imports this module

    if not (Path(init) / "bundle.json").is_file():
        return False  # it is refused where a run looks at what it begins with
    theirs = bundle.outline(Path(init)).settings.inputs
    there, here = (flat({name: plain(one) for name, one in of.items()}) for of in (theirs, {"frozen": feature}))
    return all(word in there and (None in (value, there[word]) or value == there[word]) for word, value in here.items())


def make_body(
    plugins: Plugins,
    settings: Settings,
    *,
    train: bool = False,
    shared: Mapping[str, Feature] = MappingProxyType({}),
) -> Body:
    """The front end, the backbone and the pooling.

    Args:
        plugins: The registry.
        settings: The run's, or a bundle's; what is frozen is a feature already.
        train: Whether to make the augmentations too.
        shared: Features that are made already.

    Raises:
        UsageError: On an unknown name or setting.
    """
    _check_normalize(settings)
    if not settings.inputs:
        raise UsageError("the run has no inputs; give a --system, or inputs: {mel: {name: mel}} in the recipe.")
    features = make_features(plugins, settings, shared)
    with settings.located("augment"):
        augment = [plugins.make("augmentation", spec) for spec in settings.augment] if train else []
        _check_augment(augment, features, settings.audio.rate)
    _check_speakers(settings, features, augment)
    frontend = Frontend(features, settings.crop, augment, settings.seed)
    with settings.located("crop"):
        inputs = frontend.inputs()
    with settings.located("backbone"):
        backbone: Backbone = plugins.make("backbone", settings.backbone, inputs)
    if backbone.fixed is not None and settings.crop is None:
        place = settings.at("backbone")
        raise UsageError(f"{place}this backbone takes {backbone.fixed} frames; set crop: {{length: SECONDS}}.")
    with settings.located("segments"):
        if settings.segments and backbone.joins:
            raise UsageError(
                f"segments cut frames, and {backbone.who} gives one frame an utterance: set segments: null"
            )
        segments = settings.segments.span(backbone.frame_seconds) if settings.segments else None
    frames = None if segments else backbone.frames
    with settings.located("pooling"):
        pooling, branches = _make_pooling(plugins, settings.pooling, backbone, frames)
    dims = Dims(backbone.width, pooling.out, frames, branches, segments)
    return Body(frontend, backbone, pooling, dims)


def _check_speakers(settings: Settings, features: Mapping[str, Feature], augment: Sequence[Augmentation]) -> None:
    """Refuses statistics of speakers where they do not go with the inputs or the augmentations.

    Raises:
        UsageError: There.
    """
    place = settings.at("normalize")
    if settings.hears and len(settings.by_speaker) > 1:
        raise UsageError(f"{place}normalize: speaker is of inputs or of the embedding, not of both. Leave one out.")
    if settings.hears and settings.crop is not None:
        raise UsageError(f"{place}normalize: {{embedding: speaker}} is of whole utterances: set crop: null.")
    for name in (name for name in settings.by_speaker if name != EMBEDDING):
        if not features[name].cached or features[name].symbols:
            raise UsageError(
                f"{place}normalize: speaker is of features, and the input {name!r} goes into the backbone as it is. "
                "Freeze the encoder (freeze: all), name the other inputs, normalize: {INPUT: speaker}, or "
                "the embedding, normalize: {embedding: speaker}."
            )
    mixing = next((one.who for one in augment if one.partners), None) if settings.by_speaker else None
    if mixing is not None:
        raise UsageError(
            f"{place}normalize: speaker does not go with {mixing}, which mixes two utterances: a mix has no speaker. "
            "Leave one of them out."
        )


def _check_augment(augment: Sequence[Augmentation], features: Mapping[str, Feature], rate: int) -> None:
    """Refuses an augmentation of an input or a rate that the run does not have, or one that mixes texts.

    Raises:
        UsageError: There.
    """
    reads = {feature.reads for feature in features.values()}
    for one in augment:
        if one.partners and "text" in reads:
            raise UsageError(
                f"{one.who} mixes two utterances and their labels, and a text cannot be mixed: leave the text out, or "
                "the augmentation."
            )
        if one.sample_rate not in (None, rate):
            raise UsageError(
                f"{one.who} is made for waves of {one.sample_rate} Hz, and those of the run have {rate} (audio.rate). "
                f"Give it rate={rate}."
            )
        strange = [name for name in one.touches if name not in features and name not in reads & {"wave"}]
        if strange:
            raise UsageError(
                f"{one.who} changes the input {strange[0]!r}, and the run's are {', '.join(features)}; "
                "give it one of them, or leave it out."
            )


def _make_pooling(
    plugins: Plugins, spec: Component, backbone: Backbone, frames: int | None
) -> tuple[Pooling, dict[str, slice]]:
    """The pooling, one for each branch of a fusion, and the slices of the embedding by branch."""
    if backbone.joins and spec != Settings().pooling:
        raise UsageError(
            f"pooling is {spec.name!r}, and {backbone.who} pools each branch by itself: leave pooling out, and give "
            "backbone.poolings, for example {NAME OF A BRANCH: " + spec.name + "}."
        )
    if not backbone.branches:
        return plugins.make("pooling", spec, FrameSpec(backbone.width, frames)), {}
    end = 0
    for name, own in backbone.branches.items():
        if own.start != end or own.stop <= own.start:
            raise UsageError(f"branch {name!r} of the backbone is {own}; the next column of its frames is {end}.")
        end = own.stop
    if end != backbone.width:
        raise UsageError(f"the branches of the backbone end at column {end}; its frames are {backbone.width} wide.")
    columns = backbone.branches
    parts = [plugins.make("pooling", spec, FrameSpec(x.stop - x.start, frames)) for x in columns.values()]
    pooling = Branches(parts, columns)
    return pooling, pooling.slices


def make_model(plugins: Plugins, settings: Settings, body: Body, specs: Mapping[str, HeadSpec]) -> Model:
    """The model with its heads; its weights are the torch generator's.

    Raises:
        UsageError: On a head that cannot be made, or whose values the decision cannot divide.
    """
    check_temperature(settings, specs)
    normalize = {
        name: Normalize(spec.width)
        for name, spec in body.frontend.inputs().items()
        if name in body.backbone.inputs and settings.statistics(name) != "none" and not spec.symbols
    }
    if settings.hears:
        normalize[EMBEDDING] = Normalize(body.dims.embedding)
    heads = {}
    for name, spec in specs.items():
        width = body.dims.embedding
        if spec.reads is not None:
            odd = next((one for one in spec.reads if one not in body.dims.branches), None)
            if odd is not None:
                raise UsageError(f"head {name!r} reads the branch {odd!r}{nearest(odd, body.dims.branches)}")
            slices = (body.dims.branches[branch] for branch in spec.reads)
            width = sum(one.stop - one.start for one in slices)
        with settings.located("head"):
            heads[name] = plugins.make("head", Component(spec.kind, spec.settings), width, spec.out)
    return Model(normalize, body.backbone, body.pooling, heads, specs, body.dims.branches)


def portable_settings(settings: Settings, body: Body) -> Settings:
    """The settings as a bundle has them: everything spelled out, sizes in frames, nothing that lies elsewhere."""
    features, segments = body.frontend.features, body.dims.segments
    return replace(
        settings,
        inputs={name: portable(spec, features[name]) for name, spec in settings.inputs.items()},
        backbone=portable(settings.backbone, body.backbone),
        segments=Segments(segments.length, segments.hop, segments.tail) if segments else None,
        decision=resolve_decision(settings),
    )


def weights(body: Body) -> dict[str, str]:
    """The hashes of the pretrained weights, by input, or "backbone"."""
    parts: dict[str, Feature | Backbone] = {**body.frontend.features, "backbone": body.backbone}
    return {name: part.weights for name, part in parts.items() if part.weights}

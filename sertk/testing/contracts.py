"""Every contract of every kind of plugin, as a list of cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

from sertk.core import InputSpec, UsageError
from sertk.hookspecs import hookimpl
from sertk.plugins import KINDS, Plugins, manager
from sertk.testing import augmentations, backbones, losses, nets, outside, samplers, scores, signals
from sertk.testing.cases import Case, Check, Subject

INPUTS = {"mel": InputSpec(40, 0.01)}

CHECKS: Mapping[str, Mapping[str, Check]] = {
    "corpus": outside.CORPUS,
    "feature": signals.FEATURE,
    "backbone": backbones.BACKBONE,
    "pooling": nets.POOLING,
    "head": nets.HEAD,
    "loss": losses.LOSS,
    "augmentation": augmentations.AUGMENTATION,
    "sampler": samplers.SAMPLER,
    "decision": scores.DECISION,
    "metric": scores.METRIC,
    "launcher": outside.LAUNCHER,
}


def contracts(
    kind: str | None = None,
    name: str | Callable[..., object] | None = None,
    settings: Mapping[str, object] | None = None,
    *,
    inputs: Mapping[str, InputSpec] | None = None,
    root: Path | None = None,
    plugins: Plugins | None = None,
) -> list[Case]:
    """The contracts of everything that is registered, of a kind, or of one name.

    Args:
        kind: Of plugin; all where None.
        name: One of the kind; all where None. Or a class (a decision: a function) that need not be registered.
        settings: Settings of that part; its defaults if None.
        inputs: What a backbone is offered; 40 bands at 100 frames a second where None. Give `frames` for one that takes
            crops of a fixed length only.
        root: A folder of the corpus; without it what the corpus reads is not checked.
        plugins: The registry; every installed plugin where None. Not with a class.

    Raises:
        UsageError: Where nothing has that kind or name, settings are given for several, or a class with a registry.
    """
    if name is None and settings:
        raise UsageError("settings go with one component: contracts('loss', 'poly', {'epsilon': 2.0}).")
    if kind is None and name is not None:
        raise UsageError(f"give the kind of {name!r} too, one of {', '.join(KINDS)}.")
    if callable(name) and plugins is not None:
        raise UsageError("give a class, or `plugins` in which one has a name, and not both.")
    registry = plugins or Plugins()
    word = name.__name__ if callable(name) else name
    if kind is not None and callable(name):
        registry = _with(kind, name)
    if kind is not None and word is not None:
        registry.entry(kind, word)
    subjects = [
        Subject(registry, one, one_name, settings or {}, inputs or INPUTS, root)
        for one in ([kind] if kind else KINDS)
        for one_name in ([word] if word else registry.names(one))
    ]
    return [
        Case(f"{subject.kind} {subject.name}: {what}", check, subject)
        for subject in subjects
        for what, check in CHECKS[subject.kind].items()
        if root is not None or check is not outside.corpus_reads
    ]


def _with(kind: str, part: Callable[..., object]) -> Plugins:
    """A registry with one more class, under its own name."""
    source = manager()
    source.register(SimpleNamespace(**{KINDS[kind].hook: hookimpl(lambda: {part.__name__: part})}))
    return Plugins(source)

"""The hooks: the whole contract of a plugin on one page.

A plugin is a module, or any object, with functions of these names marked `@hookimpl`; its distribution names it
under the entry-point group `sertk`. Each hook returns the names that a user types and what makes the thing: a class
(or, for decisions, a function). The body runs when the registry is read, so import what you need in it.
The interfaces are in `sertk.core`; the checks that yours must pass are in `sertk.testing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    from sertk.core import (
        Augmentation,
        Backbone,
        BatchSampler,
        Corpus,
        Decision,
        Feature,
        Head,
        Launcher,
        Loss,
        Metric,
        Pooling,
    )

hookspec = HookspecMarker("sertk")
hookimpl = HookimplMarker("sertk")


@hookspec
def sertk_corpora() -> Mapping[str, type[Corpus]]:  # type: ignore[empty-body]
    """Official corpus folders -> utterances and protocols."""


@hookspec
def sertk_features() -> Mapping[str, type[Feature]]:  # type: ignore[empty-body]
    """A wave or a text -> frames; made as `Feature(rate, **settings)`."""


@hookspec
def sertk_backbones() -> Mapping[str, type[Backbone]]:  # type: ignore[empty-body]
    """Inputs -> frames; made as `Backbone(inputs, **settings)`."""


@hookspec
def sertk_poolings() -> Mapping[str, type[Pooling]]:  # type: ignore[empty-body]
    """Frames -> an embedding; made as `Pooling(frames, project=None, **settings)`."""


@hookspec
def sertk_heads() -> Mapping[str, type[Head]]:  # type: ignore[empty-body]
    """An embedding -> the values of a task; made as `Head(width, out, **settings)`."""


@hookspec
def sertk_losses() -> Mapping[str, type[Loss]]:  # type: ignore[empty-body]
    """Views and labels -> a scalar; made as `Loss(task, dims, **settings)`."""


@hookspec
def sertk_augmentations() -> Mapping[str, type[Augmentation]]:  # type: ignore[empty-body]
    """Random changes of training rows; made as `Augmentation(**settings)`."""


@hookspec
def sertk_samplers() -> Mapping[str, type[BatchSampler]]:  # type: ignore[empty-body]
    """Which rows share a batch; made as `BatchSampler(labels, lengths, batch, **settings)`."""


@hookspec
def sertk_decisions() -> Mapping[str, Decision]:  # type: ignore[empty-body]
    """Windows or crops of an utterance -> its posterior."""


@hookspec
def sertk_metrics() -> Mapping[str, type[Metric]]:  # type: ignore[empty-body]
    """Scores of utterances -> a figure; made as `Metric(**settings)`."""


@hookspec
def sertk_launchers() -> Mapping[str, type[Launcher]]:  # type: ignore[empty-body]
    """Where stage commands run; made as `Launcher(folder, jobs, **settings)`."""

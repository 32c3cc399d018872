"""The options of a command line that set a run: as settings to merge, and as words of another command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sertk.core import UsageError
from sertk.core.files import digest
from sertk.settings.check import settings_of
from sertk.settings.merge import load
from sertk.settings.plain import difference
from sertk.settings.schema import COMMAND_LINE, LossTerm, Settings
from sertk.settings.values import value_of


@dataclass(frozen=True)
class Choices:
    """The options that `featurize`, `train` and `recipe` share, as they were typed.

    Attributes:
        system: A system by name or path.
        loss: The terms to train with, `NAME[:SETTING=VALUE,...]` each.
        segments: LENGTH:HOP[:TAIL].
        alpha: Weight of the other terms against the emotion head's, or "learned".
        backbone: A component.
        pooling: A component.
        augment: Components.
        set: `KEY=VALUE` for any setting.
        device: auto, cpu, cuda, cuda:N.
        precision: fp32, bf16, fp16.
        init: A bundle.
        plugin: Plugin files.
        trust: Whether plugin files that a document names may be run.
    """

    system: str | None = None
    loss: Sequence[str] = ()
    segments: str | None = None
    alpha: str | None = None
    backbone: str | None = None
    pooling: str | None = None
    augment: Sequence[str] = ()
    set: Sequence[str] = ()
    device: str | None = None
    precision: str | None = None
    init: Path | None = None
    plugin: Sequence[Path] = ()
    trust: bool = False

    def losses(self) -> tuple[LossTerm, ...]:
        """The named losses; they are kept apart, because losses of the system may stay beside them."""
        if not self.loss:
            return ()
        return settings_of({"losses": list(self.loss)}, {"losses": COMMAND_LINE}).losses

    def overrides(self) -> dict[str, Any]:
        """Dotted keys and values, the losses apart.

        Raises:
            UsageError: On a `--set` without "=".
        """
        found: dict[str, Any] = {}
        for pair in self.set:
            word, equals, value = pair.partition("=")
            if not equals:
                raise UsageError(f"--set {pair!r} is not KEY=VALUE, for example --set train.batch=4")
            found[word] = value_of(value)
        if self.alpha is not None:
            found["alpha"] = value_of(self.alpha)
        named = {
            "segments": self.segments,
            "backbone": self.backbone,
            "pooling": self.pooling,
            "augment": list(self.augment) or None,
            "train.device": self.device,
            "train.precision": self.precision,
            "train.init": self.init and str(self.init),
        }
        return found | {word: value for word, value in named.items() if value is not None}

    def load(self, config: Path | None, more: Mapping[str, Any] | None = None) -> Settings:
        """The settings that a document and these options make, see `sertk.settings.merge.load`.

        Args:
            config: A recipe.yaml or a saved config.yaml.
            more: Other dotted keys and values of the command line.
        """
        overrides = {**self.overrides(), **(more or {})}
        return load(self.system, config, overrides, plugins=list(self.plugin), trust=self.trust)

    def left_out(self, config: Path | None, settings: Settings) -> list[str]:
        """The augmentations of the system whose place those of the command line take."""
        own = replace(self, augment=()).load(config).augment if self.augment else ()
        return [one.name for one in own if one.name not in {here.name for here in settings.augment}]

    def words(self) -> list[str]:
        """The options that are settings, as words; without system and plugin files, which a recipe may name too."""
        single = ("segments", "alpha", "backbone", "pooling", "device", "precision", "init")
        words = [
            word for name in ("loss", "augment", "set") for one in getattr(self, name) for word in (f"--{name}", one)
        ]
        for name in single:
            value = getattr(self, name)
            words += [] if value is None else [f"--{name}", str(value)]
        return words


def tag_of(ours: Settings, system: Settings) -> str:
    """8 hex digits of how a run differs from its system in what a run is; empty where it does not."""
    found = difference(ours, system)
    return digest(found, 8) if found else ""

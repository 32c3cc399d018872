"""What a command line says of a run: as settings to merge, and as the words to say it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sertk.core import UsageError
from sertk.core.files import digest
from sertk.settings.merge import COMPUTED_BY, component_of, value_of


@dataclass(frozen=True)
class Choices:
    """The options that `featurize`, `train` and `recipe` share, as they were typed.

    Attributes:
        loss: The terms to train with, `NAME[:SETTING=VALUE,...]` each.
        segments: LENGTH:HOP[:TAIL].
        alpha: Weight of the other terms against the emotion head's.
        backbone: A component.
        pooling: A component.
        augment: Components.
        set: `KEY=VALUE` for any setting.
        device: auto, cpu, cuda, cuda:N.
        precision: fp32, bf16, fp16.
        init: A bundle.
    """

    loss: Sequence[str] = ()
    segments: str | None = None
    alpha: float | None = None
    backbone: str | None = None
    pooling: str | None = None
    augment: Sequence[str] = ()
    set: Sequence[str] = ()
    device: str | None = None
    precision: str | None = None
    init: Path | None = None

    def losses(self) -> list[dict[str, Any]]:
        """The named losses as components."""
        return [component_of(text) for text in self.loss]

    def overrides(self) -> dict[str, Any]:
        """Dotted keys and values; the losses apart, for the system's own may stay beside them.

        Raises:
            UsageError: On a `--set` without "=".
        """
        found: dict[str, Any] = {}
        for pair in self.set:
            word, equals, value = pair.partition("=")
            if not equals:
                raise UsageError(f"--set {pair!r} is not KEY=VALUE, for example --set train.batch=4")
            found[word] = value_of(value)
        named = {
            "segments": self.segments,
            "alpha": self.alpha,
            "backbone": self.backbone and component_of(self.backbone),
            "pooling": self.pooling and component_of(self.pooling),
            "augment": [component_of(text) for text in self.augment] or None,
            "train.device": self.device,
            "train.precision": self.precision,
            "train.init": self.init and str(self.init),
        }
        return found | {word: value for word, value in named.items() if value is not None}

    def words(self) -> list[str]:
        """The options again."""
        single = ("segments", "alpha", "backbone", "pooling", "device", "precision", "init")
        words = [
            word for name in ("loss", "augment", "set") for one in getattr(self, name) for word in (f"--{name}", one)
        ]
        for name in single:
            value = getattr(self, name)
            words += [] if value is None else [f"--{name}", str(value)]
        return words

    def tag(self) -> str:
        """8 hex digits of what changes the run's result; empty for nothing."""
        overrides = {word: value for word, value in self.overrides().items() if word not in COMPUTED_BY}
        return digest([self.losses(), overrides], 8) if self.loss or overrides else ""

"""The features of a prepared corpus that are on disk already, in the place of its audio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sertk.core import InputError, Utterance
from sertk.corpus.audio import Facts
from sertk.corpus.features import Store, cached, store
from sertk.corpus.prepared import Data
from sertk.modeling.bundle import Opened
from sertk.plugins import Plugins


@dataclass(frozen=True)
class Stored:
    """What a bundle reads of a prepared corpus, computed before.

    Attributes:
        stores: By input name.
        widths: Of the frames, by input name.
        facts: By utterance id.
    """

    stores: Mapping[str, Store]
    widths: Mapping[str, int]
    facts: Mapping[str, Facts]

    def inputs(self, one: Utterance) -> dict[str, Tensor]:
        """{name: (T, D)} of an utterance.

        Raises:
            InputError: Where its frames are of another width, none, or not finite.
        """
        found = {name: kept[self.facts[one.id].sha256] for name, kept in self.stores.items()}
        for name, frames in found.items():
            shape, width = tuple(frames.shape), self.widths[name]
            if not frames.numel() or shape[1:] != (width,) or not frames.isfinite().all():
                raise InputError(
                    f"{one.id}: its {name} in {self.stores[name].folder} is {shape} and not finite frames of {width}. "
                    "Delete that folder and run `sertk featurize` again, or give --from audio."
                )
        return found


class Shelf:
    """The stores of a prepared corpus, each opened once, however many bundles read it.

    Args:
        data: The corpus.
        plugins: The registry.
    """

    def __init__(self, data: Data, plugins: Plugins) -> None:
        self._data, self._plugins = data, plugins
        self._opened: dict[Path, Store] = {}

    def find(self, bundle: Opened, utterances: Sequence[Utterance]) -> tuple[Stored | None, str]:
        """What a bundle reads of some utterances, None where it must be computed from audio; and in words, which."""
        described, settings = bundle.features, bundle.settings
        if described is None:
            return None, "from audio (an older sertk wrote the bundle and did not describe its features)"
        names = cached(settings, self._plugins)
        odd = next((name for name in settings.inputs if name not in names), None)
        if odd is not None:
            return None, f"from audio (its input {odd!r} is not stored)"
        stores: dict[str, Store] = {}
        for name in names:
            made = store(self._data.folder, settings, self._plugins, name, described[name])
            stores[name] = self._opened.setdefault(made.folder, made)
            lacking = sum(self._data.facts[one.id].sha256 not in stores[name] for one in utterances)
            if lacking:
                what = f"{made.folder} lacks {lacking} of {len(utterances)}, sertk featurize computes them"
                return None, f"from audio ({what})"
        return Stored(stores, {name: described[name].width for name in names}, self._data.facts), "from the store"

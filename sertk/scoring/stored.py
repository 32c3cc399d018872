"""The features of a prepared corpus that are on disk already, in the place of its audio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sertk.core import InputError, Utterance, code_points
from sertk.corpus.audio import Facts
from sertk.corpus.features import Store, address, cached, reads_of, store
from sertk.corpus.prepared import Data
from sertk.modeling.bundle import Opened
from sertk.plugins import Plugins
from sertk.scoring.windows import WHOLE


@dataclass(frozen=True)
class Stored:
    """What a bundle reads of a prepared corpus, computed before.

    Attributes:
        stores: By input name.
        widths: Of the frames, by input name.
        facts: By utterance id.
        text: Whether it reads transcripts too.
    """

    stores: Mapping[str, Store]
    widths: Mapping[str, int]
    facts: Mapping[str, Facts]
    text: bool = False

    def inputs(self, one: Utterance) -> dict[str, Tensor]:
        """{name: (T, D)} of an utterance, and its transcript's code points where they are read.

        Raises:
            InputError: Where its frames are of another width, none, or not finite.
        """
        where = {name: address(kept.reads, one, self.facts) for name, kept in self.stores.items()}
        found = {name: kept[where[name]] for name, kept in self.stores.items()}
        for name, frames in found.items():
            shape, width = tuple(frames.shape), self.widths[name]
            if not where[name]:
                continue  # it has no transcript
            if not frames.numel() or shape[1:] != (width,) or not frames.isfinite().all():
                raise InputError(
                    f"{one.id}: its {name} in {self.stores[name].folder} is {shape} and not finite frames of {width}. "
                    "Delete that folder and run `sertk featurize` again, or give --from audio."
                )
        return found | ({"text": code_points(one.transcript)} if self.text else {})


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
        if any(self._data.facts[one.id].seconds > WHOLE for one in utterances):
            return None, f"from audio (some are longer than {WHOLE:g} s and are cut; the store is of whole recordings)"
        names = cached(settings, self._plugins)
        others = {n: reads_of(self._plugins, spec) for n, spec in settings.inputs.items() if n not in names}
        odd = next((name for name, reads in others.items() if reads == "wave"), None)
        if odd is not None:
            return None, f"from audio (its input {odd!r} is not stored)"
        stores: dict[str, Store] = {}
        for name in names:
            made = store(self._data.folder, settings, self._plugins, name, described[name])
            stores[name] = self._opened.setdefault(made.folder, made)
            wanted = [address(made.reads, one, self._data.facts) for one in utterances]
            lacking = sum(sha not in stores[name] for sha in wanted if sha)
            if lacking:
                what = f"{lacking} of {len(utterances)} have no features in {made.folder}"
                how = "sertk featurize stores them, if no augmentation changes the wave"  # a bundle holds none
                return None, f"from audio ({what}; {how})"
        widths = {name: described[name].width for name in names}
        return Stored(stores, widths, self._data.facts, text=bool(others)), "from the store"

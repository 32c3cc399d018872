"""The classes that a system and a corpus share, and score lines put into these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sertk.core import UsageError, nearest
from sertk.core.files import Record
from sertk.core.forms import fits, shown
from sertk.settings.merge import read

Names = Mapping[str, str]
"""Shared name by class; of one corpus."""
MAPS = Path(__file__).with_name("maps")
"""Label maps that have a name: NAME.yaml."""


@dataclass(frozen=True)
class LabelMap:
    """How the classes of corpora are called by their shared names.

    Attributes:
        corpora: By corpus; classes that it does not name are left out. Those of another corpus keep their names.
        named: Whether it is one of `MAPS`, that names classes of all protocols of a corpus.
    """

    corpora: Mapping[str, Names]
    named: bool = False

    @classmethod
    def of_file(cls, path: Path | None) -> LabelMap:
        """Reads a YAML or JSON file: {corpus: {class: shared name}}, or one of `MAPS` by name; None is the empty map.

        Raises:
            UsageError: Where it cannot be read, or is of another form.
        """
        known = {one.stem: one for one in MAPS.glob("*.yaml")}
        named = path is not None and str(path) in known and not path.exists()
        if path is not None and len(path.parts) == 1 and not (named or path.suffix or path.exists()):
            raise UsageError(f"--map {path} is no file, and no label map has this name{nearest(str(path), known)}")
        tree = {} if path is None else dict(read(known[str(path)] if named else path))
        for corpus, names in tree.items():
            if not fits(names, Mapping[str, str]):
                raise UsageError(
                    f"{path}: {corpus} is {shown(names)}. Give each corpus a mapping of its classes to shared names, "
                    "such as `emodb: {anger: angry, happiness: happy}`."
                )
        return cls(tree, named)

    def check(self, corpus: str, known: Iterable[str]) -> None:
        """Refuses a class that a corpus does not have.

        Args:
            corpus: By name.
            known: Its classes.

        Raises:
            UsageError: With the first of them.
        """
        classes = set(known)
        for name in self.corpora.get(corpus, {}) if not self.named else ():
            if name not in classes:
                raise UsageError(f"the label map names the class {name!r} of {corpus}{nearest(name, classes)}")

    def names(self, corpus: str, classes: Iterable[str]) -> dict[str, str]:
        """The shared name of each class of a corpus that has one."""
        own = self.corpora.get(corpus)
        return {one: one if own is None else own[one] for one in classes if own is None or one in own}


@dataclass(frozen=True)
class Fit:
    """How a bundle and a corpus go together.

    Attributes:
        classes: C of the bundle.
        to: Shared name by class of the bundle.
        labels: Shared name by label of the corpus.
        shared: K names that both have, in the order of the bundle's classes.
    """

    classes: Sequence[str]
    to: Names
    labels: Names
    shared: Sequence[str]

    @classmethod
    def of(cls, names: LabelMap, own: str, classes: Sequence[str], corpus: str, labels: Iterable[str]) -> Fit:
        """The fit of a bundle and a corpus.

        Args:
            names: The map.
            own: The corpus that the bundle was trained on.
            classes: Of the bundle.
            corpus: What it scores.
            labels: That occur there.

        Raises:
            UsageError: If they share fewer than two classes.
        """
        to, there = names.names(own, classes), names.names(corpus, labels)
        shared = [one for one in dict.fromkeys(to.values()) if one in there.values()]
        if len(shared) < 2:
            raise UsageError(
                f"a bundle of {own} ({', '.join(to.values()) or 'no class'}) and {corpus} "
                f"({', '.join(sorted({*there.values()})) or 'no class'}) share {len(shared)} classes; at least 2 are "
                "needed. Name what is the same in a label map: --map FILE."
            )
        return cls(classes, to, {one: name for one, name in there.items() if name in shared}, shared)

    def posterior(self, posterior: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Puts a system's values into the shared classes.

        Args:
            posterior: (N, C) float64.
            logits: (N, C) float64.

        Returns:
            (N, K) posterior: of the classes of one shared name the sum, restricted to the shared ones and renormalised.
            (N, K) logits: of the classes of one shared name the log of the sum of exponentials. (N,) bool: where the
            posterior is 0 for each of the K, so that the softmax of these logits stands in its place.
        """
        member = torch.tensor([[self.to.get(one) == name for name in self.shared] for one in self.classes])  # (C, K)
        kept = posterior @ member.to(posterior)
        hidden = logits[:, :, None].masked_fill(~member, -torch.inf)
        merged = hidden.logsumexp(1)
        none = kept.sum(1) == 0
        rows = torch.where(none[:, None], merged.softmax(1), kept)
        return rows / rows.sum(1, keepdim=True), merged, none

    def lines(self, lines: Sequence[Record]) -> tuple[list[Record], int]:
        """Score lines in the shared classes, and how many of them their logits decided.

        Args:
            lines: Of utterances whose label is shared.
        """
        if not lines:
            return [], 0
        columns = (torch.tensor([one[word] for one in lines], dtype=torch.float64) for word in ("posterior", "logits"))
        posterior, logits, none = self.posterior(*columns)
        decision = posterior.argmax(1).tolist()
        made = [
            {
                **{word: value for word, value in one.items() if word != "votes"},  # they are for other classes
                "label": self.labels[one["label"]],
                "decision": self.shared[best],
                "posterior": [round(value, 6) for value in own],
                "logits": [round(value, 6) for value in merged],
            }
            for one, best, own, merged in zip(lines, decision, posterior.tolist(), logits.tolist(), strict=True)
        ]
        return made, int(none.sum())

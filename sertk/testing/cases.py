"""A contract as something to call, and how it says that it is broken."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sertk.core import Backbone, Feature, InputSpec, Padded, SertkError
from sertk.corpus.features import portable
from sertk.modeling import bundle
from sertk.plugins import Plugins
from sertk.settings.schema import Component

ALLOWED = 1e-4  # by how much float32 results that should be equal may differ


class BrokenError(AssertionError):
    """A contract is broken; one sentence says what, by how much, and what is allowed."""


@dataclass(frozen=True)
class Subject:
    """The component under test, and how to make it.

    Attributes:
        plugins: The registry.
        kind: Its kind.
        name: Its name.
        settings: The settings that differ from their defaults.
        inputs: What a backbone is offered.
        root: The folder that a corpus reads.
    """

    plugins: Plugins
    kind: str
    name: str
    settings: Mapping[str, object]
    inputs: Mapping[str, InputSpec]
    root: Path | None = None

    @property
    def what(self) -> str:
        """For the sentence of a broken contract: "loss 'ce'"."""
        return f"{self.kind} {self.name!r}"

    def make(self, *context: object, **settings: object) -> Any:  # noqa: ANN401 - the kind decides what comes back
        """A new component with what the run gives its kind, and some more settings."""
        return self.plugins.make(self.kind, {"name": self.name, **self.settings, **settings}, *context)


Check = Callable[[Subject], None]


@dataclass(frozen=True)
class Case:
    """One contract of one component; call it. It has its own random numbers, the same at every call.

    Attributes:
        id: For a report: "loss ce: one row works".
        check: The contract.
        subject: The component.
    """

    id: str
    check: Check
    subject: Subject

    def __call__(self) -> None:
        """Checks the contract.

        Raises:
            BrokenError: Where it is broken: what, by how much, and what is allowed; or what the component raised. The
                cause is the component's own error.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                self.check(self.subject)
            except BrokenError:
                raise
            except SertkError as error:  # it is a sentence already
                said = str(error).rstrip(".")
                start = "" if said.startswith(self.subject.what) else f"{self.subject.what}: "
                raise BrokenError(f"{start}{said}.") from error
            except Exception as error:  # a part can fail in any way
                said = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".")
                raise BrokenError(f"{self.subject.what} raised {said}. It must not raise.") from error


def require(fine: bool, sentence: str) -> None:
    """Requires something to hold.

    Raises:
        BrokenError: With the sentence, if it does not.
    """
    if not fine:
        raise BrokenError(sentence)


def require_close(found: Tensor, wanted: Tensor, sentence: str, allowed: float = ALLOWED) -> None:
    """Requires two results to be equal, up to `allowed`.

    Args:
        found: Of any shape.
        wanted: Of the same shape.
        sentence: What is broken, up to the figure.
        allowed: The largest difference.

    Raises:
        BrokenError: If shapes differ, or a value differs by more, or is not a number.
    """
    require(
        found.shape == wanted.shape, f"{sentence}: the shape is {tuple(found.shape)} instead of {tuple(wanted.shape)}."
    )
    gap = (found.double() - wanted.double()).abs().max().item() if found.numel() else 0.0
    require(gap <= allowed, f"{sentence} by {gap:.2g}; allowed is {allowed:g}.")


def require_same(found: Tensor, wanted: Tensor, sentence: str) -> None:
    """Requires two results to be equal bit by bit.

    Raises:
        BrokenError: If they are not.
    """
    require_close(found, wanted, sentence, 0.0)


def require_other(found: Tensor, known: Tensor, sentence: str) -> None:
    """Requires two results to differ in some bit.

    Raises:
        BrokenError: If they are equal.
    """
    require(not torch.equal(found, known), sentence)


def require_finite(values: Tensor, sentence: str) -> None:
    """Requires values that are all finite.

    Raises:
        BrokenError: If some are not finite.
    """
    bad = int((~values.isfinite()).sum())
    require(bad == 0, f"{sentence}: {bad} of {values.numel()} values are not finite (NaN or infinite).")


def alone(rows: Padded, row: int) -> Padded:
    """(1, T, ...) a row without companions and without padding."""
    size = int(rows.length[row])
    return Padded(rows.data[row : row + 1, :size], rows.length[row : row + 1])


def stretch(rows: Padded, by: int = 17, value: float = 1e3) -> Padded:
    """The same rows with more padding, all of it set to a value that must not be read."""
    more = rows.data.new_zeros(len(rows.data), by, *rows.data.shape[2:])
    return Padded(torch.cat([rows.data, more], 1), rows.length).fill(value)


def real(rows: Padded, row: int) -> Tensor:
    """(T, ...) the real frames of a row."""
    return rows.data[row, : int(rows.length[row])]


@contextlib.contextmanager
def own_chance(subject: Subject) -> Iterator[None]:
    """What is done inside must not touch torch's global generator, which other code draws from.

    Raises:
        BrokenError: If numbers are drawn from it, or it is seeded.
    """
    torch.manual_seed(1234)  # a state that no earlier call has left
    before = torch.get_rng_state()
    yield
    fine = torch.equal(torch.get_rng_state(), before)
    require(fine, f"{subject.what} draws or seeds torch's own random numbers; it must leave them to others.")


def in_bundle(subject: Subject, made: Feature | Backbone) -> Subject:
    """The component with the settings that a bundle has for it, on its way through JSON.

    Raises:
        BrokenError: If they are not JSON, or name a place of this machine.
    """
    spec = portable(Component(subject.name, subject.settings), made)
    try:
        settings: dict[str, object] = json.loads(json.dumps(spec.settings))
    except TypeError as error:
        raise BrokenError(f"{subject.what}: its settings in a bundle are no JSON ({error}).") from error
    places = [*subject.plugins.places(subject.kind, spec), *(text for text in _texts(settings) if text.startswith("/"))]
    require(
        not places,
        f"{subject.what}: its settings in a bundle name {places[:1]}, a place of this machine; with `places` and "
        "`portable` they name none.",
    )
    return replace(subject, settings=settings)


def _texts(value: object) -> Iterator[str]:
    """Every text in settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)


def require_sizes(subject: Subject, made: Feature | Backbone) -> None:
    """Requires well-formed sizes and settings of a feature or a backbone.

    Raises:
        BrokenError: If one is not.
    """
    known = [one.name for one in subject.plugins.settings(subject.kind, subject.name)]
    odd = [word for word in made.places if word not in known]
    require(not odd, f"{subject.what}: `places` are {list(made.places)}; they must be among its settings {known}.")
    fine = made.width >= 1 and made.layers >= 1 and made.width % made.layers == 0
    require(fine, f"{subject.what}: {made.layers} layers cannot be equal parts of its width {made.width}.")
    require(made.frame_seconds > 0, f"{subject.what}: frame_seconds is {made.frame_seconds}; it must be positive, s.")


def signed(folder: Path) -> None:
    """Gives a bundle that a test has changed the checksums of what it is now."""
    path = folder / "bundle.json"
    content = {word: value for word, value in json.loads(path.read_text()).items() if word != "checksums"}
    own = {word: value for word, value in content.items() if word in bundle.KEYS}
    sums = bundle.checksums(own, (folder / bundle.WEIGHTS).read_bytes())
    path.write_text(json.dumps({**content, "checksums": sums}))

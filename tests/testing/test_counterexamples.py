"""Deliberately wrong parts: the contracts catch each, with a sentence; and what is merely plain passes them.

The parts lie in `wrong/`, plugin files of a kind each. What a part `says` is what the contracts must say of it; a right
one says nothing.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from sertk.plugins import KINDS, Plugins
from sertk.testing import contracts
from sertk.testing.contracts import CHECKS
from sertk.testing.trees.audio import clip

PLUGINS = Plugins(files=sorted(Path(__file__).with_name("wrong").glob("*.py")))
PARTS = [(kind, name) for kind in KINDS for name in PLUGINS.names(kind) if hasattr(PLUGINS.factory(kind, name), "says")]
WRONG = [part for part in PARTS if PLUGINS.factory(*part).says]  # type: ignore[attr-defined]
LABELS = ("anger", "happiness", "neutral", "sadness")
RIGHT = [part for part in PARTS if part not in WRONG]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of three speakers and four emotions, twice each."""
    folder = tmp_path_factory.mktemp("named")
    for seed, (speaker, label, take) in enumerate(product(("ann", "ben", "cleo"), LABELS, (1, 2))):
        clip(folder / speaker / f"{label}_{take}.wav", seed, 0.005)
    return folder


@cache
def broken(kind: str, name: str, root: Path) -> dict[str, str]:
    """What the contracts say of a part, by the contract; whatever is no AssertionError escapes."""
    factory: Any = PLUGINS.factory(kind, name)
    found = {}
    for case in contracts(
        kind,
        name,
        getattr(factory, "settings", None),
        inputs=getattr(factory, "offered", None),
        root=root if kind == "corpus" else None,
        plugins=PLUGINS,
    ):
        try:
            case()
        except AssertionError as error:
            found[case.id.partition(": ")[2]] = str(error)
    return found


@pytest.mark.parametrize(("kind", "name"), WRONG, ids=map(" ".join, WRONG))
def test_a_wrong_part_is_caught_with_a_sentence(kind: str, name: str, root: Path) -> None:
    found = broken(kind, name, root)
    assert found, "no contract is broken"
    for sentence in found.values():
        assert sentence.startswith(f"{kind} {name!r}")
        assert sentence.endswith(".")
    says = PLUGINS.factory(kind, name).says  # type: ignore[attr-defined]
    assert any(says in sentence for sentence in found.values()), found


@pytest.mark.parametrize(("kind", "name"), RIGHT, ids=map(" ".join, RIGHT))
def test_a_right_part_passes(kind: str, name: str, root: Path) -> None:
    assert broken(kind, name, root) == {}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "metric"])
def test_there_is_a_wrong_part_for_every_contract(kind: str, root: Path) -> None:
    caught = {what for one, name in WRONG if one == kind for what in broken(one, name, root)}
    assert caught == {*CHECKS[kind]}

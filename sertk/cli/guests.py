"""What the author of a plugin needs: a distribution to begin with, and the contracts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sertk.core import UsageError
from sertk.plugins import KINDS, Plugins, switch_note
from sertk.testing import contracts
from sertk.testing.cases import Case

PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "{dist}"
version = "0.1.0"
description = "The {kind} {name} for sertk."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["sertk"]

[project.entry-points.sertk]
{name} = "{module}"

[tool.hatch.build.targets.wheel]
only-include = ["{module}.py"]
"""
README = """\
# {dist}

The {kind} `{name}` for sertk.

    pip install -e .                  # sertk finds it from now on
    sertk plugins {kind} {name}
    sertk plugins check {dist}
    python -m pytest                  # the same contracts, as tests
"""
TEST = """\
import pytest

from sertk.testing import contracts


@pytest.mark.parametrize("check", contracts("{kind}", "{name}"), ids=lambda check: check.id)
def test_contract(check):
    check()
"""


def example(kind: str, name: str) -> str:
    """The smallest plugin of a kind under a name of its own, as the text of a module."""
    source = resources.files("sertk.testing.examples").joinpath(f"{kind}.py").read_text(encoding="utf-8")
    camel = "".join(word.capitalize() for word in name.split("_"))
    return re.sub(r"\bexample\b", name, re.sub(r"\bExample\b", camel, source))


def new(kind: str, name: str, folder: Path) -> Path:
    """Writes a distribution with the smallest plugin of a kind, its contract test and a README.

    Args:
        kind: Of plugin.
        name: That users will type.
        folder: Where the distribution's folder goes.

    Returns:
        The distribution's folder, `sertk-NAME`.

    Raises:
        UsageError: If there is no such kind, the name is not free, or the folder is there.
    """
    registry = Plugins()
    if name in registry.names(kind):  # an unknown kind is refused here
        raise UsageError(f"{registry.who(kind, name)} has that name. Take another.")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"a plugin cannot be named {name!r}. Use small letters, digits and _, a letter first.")
    words = {"kind": kind, "name": name, "dist": f"sertk-{name.replace('_', '-')}", "module": f"sertk_{name}"}
    root = folder / words["dist"]
    if root.exists():
        raise UsageError(f"{root} is there already. Take another name or folder.")
    (root / "tests").mkdir(parents=True)
    files = {"pyproject.toml": PYPROJECT, "README.md": README, f"tests/test_{name}.py": TEST}
    for path, text in files.items():
        (root / path).write_text(text.format(**words), encoding="utf-8")
    (root / f"{words['module']}.py").write_text(example(kind, name), encoding="utf-8")
    return root


def check(what: str, debug: bool = False) -> int:
    """Runs the contracts of all that a distribution or a file offers, and prints one line each.

    A part with a setting that has no default cannot be made here; a line says so.

    Args:
        what: A distribution's name, or a file.
        debug: Raise the first broken contract, to show where the plugin fails.

    Returns:
        1 if a contract is broken.

    Raises:
        AssertionError: With `debug`, where a contract is broken.
        UsageError: If it offers nothing.
        SertkError: If it cannot be used.
    """
    file = Path(what)
    registry = Plugins(files=[file] if file.suffix == ".py" else [])
    wanted = file.name if file.suffix == ".py" else what
    parts = [
        (kind, name)
        for kind in KINDS
        for name in registry.names(kind)
        if registry.entry(kind, name).distribution == wanted
    ]
    if not parts:
        raise UsageError(
            " ".join(
                [
                    f"no installed distribution {what!r} offers a plugin. Install it first: pip install -e FOLDER. "
                    "Or check its file: sertk plugins check FILE.py.",
                    *filter(None, [switch_note()]),
                    *registry.faults,
                ]
            )
        )
    console, broken, skipped = Console(), 0, 0
    for kind, name in parts:
        if need := [one.name for one in registry.settings(kind, name) if one.default == "required"]:
            skipped += 1
            how = f"contracts({kind!r}, {name!r}, {{{need[0]!r}: ...}})"
            _line(console, f"skipped {kind} {name}: it needs {', '.join(need)}. Check it in a test: {how}")
        else:
            broken += _check_part(console, contracts(kind, name, plugins=registry), debug)
    counts = f"{broken} broken" + f", {skipped} not checked" * bool(skipped)
    _line(console, counts if broken or skipped else "all contracts hold")
    return int(bool(broken))


def _check_part(console: Console, cases: Iterable[Case], debug: bool) -> int:
    """Prints a line for each contract of a part, and how many are broken; what breaks several is printed once."""
    known: list[str] = []
    for case in cases:
        try:
            case()
            _line(console, f"ok      {case.id}")
        except AssertionError as error:
            if debug:
                raise
            said = "the same" if str(error) in known else str(error)
            known.append(str(error))
            _line(console, f"broken  {case.id}: {said}", "bold red")
    return len(known)


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)

"""What the author of a plugin needs: a distribution to begin with, and the contracts."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sertk.core import UsageError
from sertk.plugins import KINDS, Plugins
from sertk.testing import contracts

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


def check(what: str) -> int:
    """Runs the contracts of all that a distribution or a file offers, and prints one line each; 1 if one is broken.

    Raises:
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
                [f"no installed distribution {what!r} offers a plugin. Give its name, or a FILE.py.", *registry.faults]
            )
        )
    console, broken = Console(), 0
    for case in (case for kind, name in parts for case in contracts(kind, name, plugins=registry)):
        try:
            case()
            console.print(Text(f"ok      {case.id}"), soft_wrap=True)
        except AssertionError as error:
            broken += 1
            console.print(Text(f"broken  {case.id}: {error}", style="bold red"), soft_wrap=True)
    console.print(f"{broken} broken" if broken else "all contracts hold")
    return int(bool(broken))

"""Recipes on disk: found by path or by name, copied, and where their data and runs go."""

from __future__ import annotations

import shutil
from os import W_OK, access
from pathlib import Path

from sertk.settings.packaged import egs


def recipe_file(name: str) -> Path:
    """The recipe.yaml of a path, or of a packaged recipe's name.

    Raises:
        UsageError: If there is no such recipe; the nearest name is proposed.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    known = {one.parent.name: one for one in sorted(egs().glob("*/recipe.yaml"))}
    if (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    if name in known:
        return known[name]
    from sertk.core import UsageError, nearest  # here, because they import torch

    raise UsageError(f"no recipe {name!r} (a folder with recipe.yaml, or a packaged name){nearest(path.name, known)}")


def home(folder: Path) -> Path:
    """Where a recipe's data and runs go: its own folder, or the current one where that is read-only or installed."""
    installed = folder.is_relative_to(Path(__file__).resolve().parents[1])  # an upgrade would take them away
    return folder if access(folder, W_OK) and not installed else Path()


def copy(recipe: Path, target: Path) -> None:
    """Copies a recipe's folder, to be changed.

    Raises:
        UsageError: Where the target exists.
    """
    from sertk.core import UsageError

    if target.exists():
        raise UsageError(f"{target} exists already; give --copy a new folder.")
    # its results belong to the original, data and runs to a work folder, and run.sh needs the tools/ beside egs/
    names = ("data", "exp", "corpus", "RESULTS.md", "SWEEPS.md", "run.sh")
    shutil.copytree(recipe.parent, target, ignore=shutil.ignore_patterns(*names))

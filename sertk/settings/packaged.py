"""What comes with sertk beside its code. This imports nothing, so that a recipe is found without torch."""

from __future__ import annotations

from pathlib import Path


def egs() -> Path:
    """The folder of recipes: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "egs"
    return packaged if packaged.is_dir() else package.parent / "egs"

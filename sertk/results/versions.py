"""What figures were made with: versions, and the commit of the code."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import sertk

STACK = ("torch", "torchaudio", "speechbrain")


def made_with() -> str:
    """A line of Markdown with the versions and the commit."""
    versions = ", ".join([f"sertk {sertk.__version__}", *(f"{name} {version(name)}" for name in STACK)])
    return f"- versions: {versions}; commit {_commit()}"


def _commit() -> str:
    """The commit of the code, "unknown" outside a checkout; "+" marks changes that are not committed."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"

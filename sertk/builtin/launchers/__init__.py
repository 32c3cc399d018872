"""Launchers: where stage commands run."""

from __future__ import annotations

from collections.abc import Mapping

from sertk.builtin.launchers.local import Local
from sertk.builtin.launchers.slurm import Slurm
from sertk.core import Launcher
from sertk.hookspecs import hookimpl


@hookimpl
def sertk_launchers() -> Mapping[str, type[Launcher]]:
    """The launchers by name."""
    return {"local": Local, "slurm": Slurm}

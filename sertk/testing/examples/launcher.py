"""A launcher: one command after another."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sertk.core import Launcher
from sertk.hookspecs import hookimpl


class Example(Launcher):
    """Runs commands here, one at a time."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.codes: list[int] = []

    def submit(
        self,
        commands: Sequence[Sequence[str]],
        logs: Sequence[Path],
        after: Sequence[str] = (),
        *,
        anyhow: bool = False,
    ) -> list[str]:
        """Runs the commands, unless one that comes before them failed; their names are their places."""
        first, begin = len(self.codes), anyhow or not any(self.wait(after))
        self.codes += [subprocess.run(one, check=False).returncode if begin else 130 for one in commands]
        return [str(place) for place in range(first, len(self.codes))]

    def wait(self, names: Sequence[str]) -> list[int]:
        """The exit codes of commands."""
        return [self.codes[int(name)] for name in names]


@hookimpl
def sertk_launchers() -> Mapping[str, type[Launcher]]:
    """The name that `--launcher` takes."""
    return {"example": Example}

"""A launcher: one command after another."""

import subprocess
from collections.abc import Mapping, Sequence

from sertk.core import Launcher
from sertk.hookspecs import hookimpl


class Example(Launcher):
    """Runs the commands here, whatever the number of jobs."""

    def run(self, commands: Sequence[Sequence[str]], jobs: int) -> list[int]:
        """The exit codes of independent commands, in order."""
        return [subprocess.run(command, check=False).returncode for command in commands]


@hookimpl
def sertk_launchers() -> Mapping[str, type[Launcher]]:
    """A name for it. No setting chooses a launcher yet: recipes and sweeps use `local`."""
    return {"example": Example}

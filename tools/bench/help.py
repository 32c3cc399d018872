"""`sertk --help` against the help of a bare typer app of two commands: help.py.

Both are processes of their own, from the start of Python to the last line. B / A is how many times as long ours takes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import harness
import numpy as np
from harness import Arrays, Way

BARE = '''
import typer

app = typer.Typer()


@app.command()
def train(data: str, epochs: int = 3) -> None:
    """Trains."""


@app.command()
def score(data: str, batch: int = 3) -> None:
    """Scores."""


app()
'''


def main() -> None:
    """Prints a row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=25)
    ask = parser.parse_args()
    print(harness.machine("sertk", "typer", "rich"))
    result = harness.compare(_way("bare", ["bare.py"]), _way("sertk", ["-m", "sertk"]), ask.pairs, 0.0)
    print(harness.HEADER)
    print(result.row("--help, from the start of Python", "a bare typer app of two commands", "sertk"))


def _way(name: str, program: list[str]) -> Way:
    code: list[int] = []

    def ready(folder: Path) -> None:
        (folder / "bare.py").write_text(BARE, encoding="utf-8")

    def run(folder: Path) -> None:
        words = [sys.executable, *program, "--help"]
        code[:] = [subprocess.run(words, cwd=folder, stdout=subprocess.DEVNULL, check=True).returncode]

    def read(folder: Path) -> Arrays:
        return {"exit code": np.array(code)}  # the texts differ

    return Way(name, run, read, ready)


if __name__ == "__main__":
    main()

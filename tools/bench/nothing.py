"""`sertk recipe` with nothing to do, against the ordinary way there: nothing.py RECIPE [OPTIONS OF sertk recipe].

Both are processes of their own, from the start of Python to the last line; what is due is done before. A finds the
record of an earlier call; for B it is taken away, so that the recipe is planned and every step judged. Their lines are
compared. B / A is how many times as long the ordinary way takes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import harness
import numpy as np
from harness import Arrays, Way


def main() -> None:
    """Prints a row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--work", type=Path, required=True, help="as of sertk recipe")
    ask, words = parser.parse_known_args()
    words += ["--work", str(ask.work)]
    subprocess.run(_program(words), check=True)
    print(harness.machine("sertk", "torch", "typer", "rich"))
    ways = [_way(name, ask.work, words) for name in ("record", "plan")]
    result = harness.compare(*ways, ask.pairs, 0.0)
    print(harness.HEADER)
    print(result.row("a recipe with nothing to do, from the start of Python", "its record", "the ordinary way"))


def _program(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "sertk", "recipe", *words]


def _way(name: str, work: Path, words: list[str]) -> Way:
    said: list[str] = []

    def records() -> list[Path]:
        return list(work.glob("exp/.nothing-*.json"))

    def ready(folder: Path) -> None:
        if name == "record" and not records():
            subprocess.run(_program(words), check=True, stderr=subprocess.DEVNULL)
        for path in records() if name == "plan" else ():
            path.unlink()

    def run(folder: Path) -> None:
        said[:] = [subprocess.run(_program(words), stderr=subprocess.PIPE, text=True, check=True).stderr]

    def read(folder: Path) -> Arrays:
        lines = re.findall(r"\w+: \d+ of \d+ up to date, skipped", said[0])
        return {"lines": np.frombuffer("\n".join(lines).encode(), np.uint8)}

    return Way(name, run, read, ready)


if __name__ == "__main__":
    main()

"""Puts single faults into copies of the checkout and runs the tests that are to find them; see tools/mutate.sh.

A file of tools/mutations/ has the faults of one subject: the file that each is in, the text that stands there once, the
text that replaces it, what is wrong then, and the tests to run. The tests must pass on the clean checkout.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "mutation.md"
LIMIT = 300  # seconds for the tests of one fault
GOAL = 0.97
FORKS = multiprocessing.get_context("forkserver")
PRELOADED = ["torch", "torchaudio", "sklearn.metrics", "hypothesis", "pytest"]  # imported once, not once a fault
SECONDS = itertools.count(int(time.time()))
OUTCOMES = {0: "survived", 1: "killed"}  # by pytest's exit code; any other is "broken"


class Fault(NamedTuple):
    """One fault.

    Attributes:
        subject: The file of tools/mutations/ that it is from.
        path: The file that it is in, relative to the root.
        wrong: What is wrong with it, a sentence.
        old: Text that stands there once.
        new: What replaces it.
        tests: Arguments of pytest.
    """

    subject: str
    path: str
    wrong: str
    old: str
    new: str
    tests: str

    def changed(self, source: str) -> str:
        """The source with the fault in it.

        Raises:
            ValueError: Where the old text does not stand there exactly once.
        """
        if source.count(self.old) != 1:
            raise ValueError(f"{self.path}: {source.count(self.old)} times, and not once: {self.old!r} ({self.wrong})")
        return source.replace(self.old, self.new)


def faults(folder: Path = ROOT / "tools" / "mutations") -> list[Fault]:
    """All faults, subject by subject."""
    return [
        Fault(path.stem, one["path"], fault["wrong"], fault["old"], fault["new"], fault.get("tests", one["tests"]))
        for path in sorted(folder.glob("*.toml"))
        for one in tomllib.loads(path.read_text(encoding="utf-8"))["file"]
        for fault in one["fault"]
    ]


def copy(to: Path) -> Path:
    """Copies what git knows or would add, as it is now."""
    names = _git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def _git(*words: str) -> str:
    return subprocess.run(("git", *words), cwd=ROOT, check=True, capture_output=True, text=True).stdout


def run(folder: Path, tests: str) -> str:
    """Runs tests in a copy; gives "killed", "survived", "timeout", or "broken" where they could not run."""
    process = FORKS.Process(target=_pytest, args=(folder, shlex.split(tests)))
    process.start()
    process.join(LIMIT)
    timeout = process.is_alive()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)  # what the tests started, too
    process.join()
    shutil.rmtree(folder / ".hypothesis", ignore_errors=True)  # examples of another fault
    return "timeout" if timeout else OUTCOMES.get(process.exitcode or 0, "broken")


def _pytest(folder: Path, tests: list[str]) -> None:
    """Runs tests in a process of a group of its own, in silence, and ends it with pytest's exit code."""
    os.setsid()
    os.chdir(folder)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(silence, stream)
    places = [str(folder), *map(str, sorted((folder / "plugins").iterdir()))]
    sys.path[:0] = places
    os.environ["PYTHONPATH"] = os.pathsep.join(places)  # of what the tests start
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", f"--basetemp={folder}.tmp"]
    os._exit(pytest.main([*options, *tests]))


def attempt(folders: queue.SimpleQueue[Path], fault: Fault) -> str:
    """The outcome of a fault, in whichever copy is free."""
    folder, start = folders.get(), time.monotonic()
    path = folder / fault.path
    source = path.read_text(encoding="utf-8")
    try:
        _write(path, fault.changed(source))
        outcome = run(folder, fault.tests)
    except ValueError as error:
        print(error)
        outcome = "stale"
    finally:
        _write(path, source)
        folders.put(folder)
    print(f"{outcome:8} {time.monotonic() - start:5.1f} s  {fault.path}: {fault.wrong}", flush=True)
    return outcome


def _write(path: Path, source: str) -> None:
    """Writes a module at a second of its own, by which Python knows that its bytecode is of another version."""
    path.write_text(source, encoding="utf-8")
    second = next(SECONDS)
    os.utime(path, (second, second))


def clean(folders: queue.SimpleQueue[Path], tests: str) -> bool:
    """Whether tests pass without a fault."""
    folder = folders.get()
    fine = run(folder, tests) == "survived"
    folders.put(folder)
    if not fine:
        print(f"these tests do not pass without a fault: pytest {tests}", flush=True)
    return fine


def page(results: Sequence[tuple[Fault, str]]) -> str:
    """docs/mutation.md."""
    commit = _git("rev-parse", "--short", "HEAD").strip()
    found = Counter((fault.subject, outcome in ("killed", "timeout")) for fault, outcome in results)
    subjects = sorted({fault.subject for fault, _ in results})
    rows = [(name, found[name, True], found[name, True] + found[name, False]) for name in subjects]
    killed, total = (sum(row[n] for row in rows) for n in (1, 2))
    lines = [
        "# Do the tests find faults?",
        "",
        "`tools/mutate.sh` puts single faults into the code, one at a time, and runs the tests that are to find each.",
        "A fault is found where a test fails. They stand in `tools/mutations/`, none of them without a visible effect.",
        f"Generated by `tools/mutate.sh --write` on commit {commit}.",
        "",
        f"**{killed} of {total} faults are found, {100 * killed / total:.1f} %.** The goal is {100 * GOAL:.0f} %.",
        "",
        "| subject | faults | found |",
        "|---|---:|---:|",
        *(f"| {name} | {whole} | {some} |" for name, some, whole in rows),
        "",
        "## Not found",
        "",
        *_listed(results, "survived"),
        "",
        "## Found by the time limit alone",
        "",
        *_listed(results, "timeout"),
        "",
    ]
    return "\n".join(lines)


def _listed(results: Sequence[tuple[Fault, str]], wanted: str) -> list[str]:
    return [f"- `{fault.path}`: {fault.wrong}" for fault, outcome in results if outcome == wanted] or ["None."]


def main() -> int:
    """Runs the faults; gives 1 where a fault is stale or broken, or fewer are found than the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="copies, and tests at once")
    parser.add_argument("--only", default="", help="faults with this text in their subject, path or sentence")
    parser.add_argument("--write", action="store_true", help="write docs/mutation.md")
    given = parser.parse_args()
    chosen = [fault for fault in faults() if given.only in f"{fault.subject} {fault.path} {fault.wrong}"]
    if given.write and given.only:
        parser.error("--write is of all faults; leave --only out.")
    if not chosen:
        parser.error(f"no fault has {given.only!r} in its subject, path or sentence.")
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker:UserWarning"  # of tests that are ended in the middle
    FORKS.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory(prefix="sertk-mutate.") as place, ThreadPoolExecutor(given.jobs) as pool:
        folders: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(given.jobs):
            folders.put(copy(Path(place) / str(number)))
        named = dict.fromkeys(fault.tests for fault in chosen)
        if not all(list(pool.map(lambda tests: clean(folders, tests), named))):
            return 1
        outcomes = list(pool.map(lambda fault: attempt(folders, fault), chosen))
    results = list(zip(chosen, outcomes, strict=True))
    counts = Counter(outcomes)
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if given.write:
        PAGE.write_text(page(results), encoding="utf-8")
    return int(bool(counts["stale"] + counts["broken"]) or counts["survived"] > (1 - GOAL) * len(chosen))


if __name__ == "__main__":
    sys.exit(main())

"""Stage 5: scored runs -> RESULTS.md and a confusion matrix, over folds and seeds."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import sertk
from sertk.console.progress import console, say
from sertk.core import SertkError
from sertk.core.files import Document, egs, write_text
from sertk.plugins import Plugins
from sertk.results.figures import draw_confusion
from sertk.results.runs import Run, check_one_hash, find, lacking, protocol_of, stated
from sertk.results.tables import confusion_table, runs_table

STACK = ("torch", "torchaudio", "speechbrain")


def report(folders: Sequence[Path], *, command: str | None = None, publish: bool = False) -> list[Path]:
    """Writes RESULTS.md of every system below the folders.

    Args:
        folders: Run folders, system folders, or anything above them.
        command: The command that made the runs, for the text.
        publish: Also write the system's section of the recipe's own RESULTS.md.

    Returns:
        The files written.

    Raises:
        SertkError: If there is no scored run, or runs of one system have different folds.
    """
    plugins = Plugins()
    written = []
    found = {system: (runs, protocol_of(system, runs)) for system, runs in find(folders).items()}
    check_one_hash([(str(system), about) for system, (_, about) in found.items()])
    for system, (runs, about) in found.items():
        text = _section(system, runs, about, command, plugins)
        draw_confusion(system / "figures" / "confusion.png", runs)
        write_text(system / "RESULTS.md", f"# {system.parent.name} / {system.name}\n\n{text}")
        written.append(system / "RESULTS.md")
        console.print("\n".join(runs_table(runs, plugins)), markup=False, soft_wrap=True)
        say(f"wrote {written[-1]}")
        if publish:
            written.append(_publish(system, about, text))
    return written


def _section(system: Path, runs: Sequence[Run], about: Document, command: str | None, plugins: Plugins) -> str:
    """The text on a system, without its title."""
    head = "WA is accuracy, UA is the mean class recall (UAR); precision, recall and F1 are macro means. Percent."
    legend = "Confusion counts over all runs, rows the labels, columns the decisions:"
    facts = [
        f"- protocol: {stated(about)}",
        f"- command: `{command or f'sertk report {system.name}'}`",
        f"- versions: {_versions()}; commit {_commit()}",
        *_incomplete(runs),
    ]
    return "\n".join([*runs_table(runs, plugins), "", head, "", *facts, "", legend, "", *confusion_table(runs), ""])


def _incomplete(runs: Sequence[Run]) -> list[str]:
    missing = lacking(runs, runs)
    if not missing:
        return []
    fold, seed = missing[0]
    return [f"- **incomplete**: {len(missing)} runs lack, the first fold {fold}, seed {seed}"]


def _versions() -> str:
    return ", ".join([f"sertk {sertk.__version__}", *(f"{name} {version(name)}" for name in STACK)])


def _commit() -> str:
    """The commit of the code, "unknown" outside a checkout; "+" marks changes that are not committed."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _publish(system: Path, about: Document, text: str) -> Path:
    """Puts the system's section into the recipe's RESULTS.md; an older section of the system is replaced."""
    if "corpus" not in about:
        raise SertkError(f"{system}: its scores are of no protocol (unaudited), and RESULTS.md has those that are.")
    path: Path = egs() / about["corpus"] / "RESULTS.md"
    title = f"## {system.parent.name} / {system.name}"
    old = path.read_text(encoding="utf-8") if path.exists() else f"# {about['corpus']}: results\n"
    others = re.sub(rf"^{re.escape(title)}\n.*?(?=^## |\Z)", "", old, flags=re.MULTILINE | re.DOTALL)
    known = re.findall(rf"^- protocol: {about['corpus']} / {about['name']},.* hash `(\w+)`", others, re.MULTILINE)
    check_one_hash([(str(path), {**about, "hash": one}) for one in known] + [(str(system), about)])
    write_text(path, f"{others.rstrip()}\n\n{title}\n\n{text}")
    say(f"wrote {path}")
    return path

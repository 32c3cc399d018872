"""Stage 5: scored runs -> RESULTS.md and a confusion matrix, over folds and seeds."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import sertk
from sertk.console.progress import console, say
from sertk.core import SertkError, UsageError
from sertk.core.files import Document, write_text
from sertk.plugins import Plugins
from sertk.results.figures import draw_confusion
from sertk.results.measures import Measures
from sertk.results.runs import Run, check_one_hash, find, lacking, protocol_of
from sertk.results.systems import System
from sertk.results.tables import confusion_table, runs_table

STACK = ("torch", "torchaudio", "speechbrain")


def report(
    folders: Sequence[Path], *, command: str | None = None, publish: Path | None = None, files: Sequence[Path] = ()
) -> list[Path]:
    """Writes RESULTS.md of every system below the folders.

    Args:
        folders: Run folders, system folders, or anything above them.
        command: The command that made the runs, for the text.
        publish: Also write the section of each system into RESULTS.md of this folder, a recipe's.
        files: Plugin files.

    Returns:
        The files written.

    Raises:
        SertkError: If there is no scored run, or the runs of one system do not go together.
        UsageError: If `publish` is no folder.
    """
    if publish and not publish.is_dir():
        raise UsageError(f"--publish {publish} is no folder. Give the folder of the recipe, which has recipe.yaml.")
    measures = Measures(Plugins(files=files))
    written = []
    systems = [System(_title(folder, runs), folder, runs) for folder, runs in find(folders).items()]
    abouts = [protocol_of(one.folder, one.runs) for one in systems]
    check_one_hash([(str(one.folder), about) for one, about in zip(systems, abouts, strict=True)])
    for system, about in zip(systems, abouts, strict=True):
        table = runs_table(system, measures)
        text = _section(system, table, command, measures)
        draw_confusion(system.folder / "figures" / "confusion.png", system.runs)
        written.append(system.folder / "RESULTS.md")
        write_text(written[-1], f"# {system.name}\n\n{text}")
        console.print("\n".join(table), markup=False, soft_wrap=True)
        say(f"wrote {written[-1]}")
        if publish:
            written.append(_publish(publish / "RESULTS.md", system, about, text))
    return written


def _title(folder: Path, runs: Sequence[Run]) -> str:
    """PROTOCOL / SYSTEM; the name of the folder tells systems apart, for it has the tag."""
    return f"{runs[0].trained['protocol']} / {folder.name}"


def _section(system: System, table: Sequence[str], command: str | None, measures: Measures) -> str:
    """The text on a system, without its title."""
    legend = "Confusion counts over all runs, rows the labels, columns the decisions:"
    facts = [
        f"- protocol: {system.protocol}",
        f"- command: `{command or f'sertk report {system.folder.name}'}`",
        f"- versions: {_versions()}; commit {_commit()}",
        *_incomplete(system.runs),
    ]
    return "\n".join([*table, "", measures.legend, "", *facts, "", legend, "", *confusion_table(system.runs), ""])


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


def _publish(path: Path, system: System, about: Document, text: str) -> Path:
    """Puts the system's section into a recipe's RESULTS.md; an older section of the system is replaced."""
    if "corpus" not in about:
        raise SertkError(
            f"{system.folder}: its scores are of no protocol (unaudited), and RESULTS.md has those that are."
        )
    title = f"## {system.name}"
    old = path.read_text(encoding="utf-8") if path.exists() else f"# {about['corpus']}: results\n"
    others = re.sub(rf"^{re.escape(title)}\n.*?(?=^## |\Z)", "", old, flags=re.MULTILINE | re.DOTALL)
    protocol = re.escape(f"{about['corpus']} / {about['name']}")
    known = re.findall(rf"^- protocol: {protocol},.* hash `(\w+)`", others, re.MULTILINE)
    check_one_hash([(str(path), {**about, "hash": one}) for one in known] + [(str(system.folder), about)])
    write_text(path, f"{others.rstrip()}\n\n{title}\n\n{text}")
    say(f"wrote {path}")
    return path

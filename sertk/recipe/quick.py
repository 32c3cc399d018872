"""Whether a call of `sertk recipe` has nothing to do, found in a moment: no content is read, torch is not imported.

A call that ends well leaves a record: how all looks that the next one depends on, and what that one will say. While
everything looks the same, the same call says it and is done. Every doubt goes the ordinary way, through the plan.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sertk.console.progress import say
from sertk.recipe import find
from sertk.recipe.look import changed, guests, installed, key_of, look

BEGAN = time.time_ns() - 20_000_000
"""A time before anything was read, because this module comes first; clocks of file systems go in steps of ms."""
ORDINARY = ("cancel", "copy", "dry_run", "force", "publish", "status")
"""Options of calls that do more than the steps that are not up to date."""
VARIABLES = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "XDG_CACHE_HOME", "HOME", "RANK", "WORLD_SIZE")
"""How names of environment variables begin that say where checkpoints are, or how many processes run."""


def record_of(name: str, work: Path | None, **options: object) -> Path | None:
    """Where the record of a call is kept; None for a call that is always made in full.

    Args:
        name: Of the recipe, as it was given.
        work: The folder that was given.
        options: The other options of `sertk recipe` by name.
    """
    if any(options[word] for word in ORDINARY):
        return None
    recipe = find.recipe_file(name).resolve()
    variables = sorted(one for one in os.environ.items() if one[0].startswith(VARIABLES))
    given = sorted((word, str(value)) for word, value in options.items())
    call = key_of([recipe, Path.cwd(), sys.path, variables, given])
    return (work or find.home(recipe.parent)).resolve() / "exp" / f".nothing-{call}.json"


def nothing_to_do(record: Path) -> bool:
    """Prints what the full call would print, if all looks as in the record; returns whether it does."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(content, dict) or content.get("schema") != 1 or content.get("installed") != _installed():
        return False
    looked, says = content.get("looks"), content.get("says")
    if not isinstance(looked, dict) or not isinstance(says, list):
        return False
    if any(look(Path(path)) != seen for path, seen in looked.items()):
        return False
    for line in says:
        say(str(line))
    return True


def looks(inputs: Iterable[Path], others: Iterable[Path]) -> dict[str, str]:
    """How files and folders look, and the code that decides; empty where this process may have read another content.

    Args:
        inputs: What was read at the start.
        others: What is judged after this.
    """
    ours = {"sertk", *(point.module.partition(".")[0] for point in guests())}
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in ours]
    code = [file for file in (getattr(module, "__file__", None) for module in modules) if file]
    first = [*inputs, *map(Path, code)]
    if any(changed(path) >= BEGAN for path in first):
        return {}
    return {str(path.absolute()): look(path) for path in (*first, *others)}


def leave(record: Path, found: Mapping[str, str], says: Sequence[str]) -> None:
    """Writes the record of a call that has nothing to do."""
    from sertk.core.files import write_text  # here, because it imports torch

    content = {"schema": 1, "says": says, "installed": _installed(), "looks": found}
    write_text(record, json.dumps(content, indent=1) + "\n")


def _installed() -> list[str]:
    return [*installed(), *sorted(f"{point.name} = {point.value}" for point in guests())]

"""A command that a launcher runs: the steps of it that are due are done, and stamped where they were done."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from sertk.console.progress import say
from sertk.core.files import Document, read_json, write_json
from sertk.core.forms import Form
from sertk.recipe.commands import Command
from sertk.recipe.freshness import Fingerprint, Step, fingerprint, fresh, stamp

PATHS = ("needs", "makes", "without")
FORM = Form(
    {"words": list[str], "steps": list[Document], "force": bool, "allow_failed": bool, "begun": bool},
)


def write(command: Command, folder: Path, *, force: bool, allow_failed: bool) -> Path:
    """Writes the file of a command, one for this call alone: who ends first deletes his own.

    Args:
        command: The command.
        folder: Where the file goes.
        force: Whether steps that are up to date are done again.
        allow_failed: Whether a step counts as done though some inputs failed.
    """
    steps = json.loads(json.dumps([step._asdict() for step in command.steps], default=str))  # paths as text
    content = {"words": command.words, "steps": steps, "force": force, "allow_failed": allow_failed, "begun": False}
    path = folder / f"{uuid4().hex[:16]}.json"
    write_json(path, content)
    return path


def work(file: Path, run: Callable[[Sequence[str]], int]) -> int:
    """Does the steps of a command, and keeps the fingerprints of those that are done.

    Args:
        file: What `write` wrote; it is deleted at the end, unless the command was interrupted.
        run: Runs the command, given its words; gives its exit code.

    Returns:
        The exit code of the command; 0 where the failed inputs of all its steps are allowed.
    """
    content = read_json(file, "Start the recipe or the sweep again.", FORM)
    steps = list(map(_step, content["steps"]))
    if not content["force"] and all(map(fresh, steps)):  # it was submitted before it was known what it reads
        say(f"{steps[0].stage}: up to date, skipped")
        code = 0
    elif (
        steps[0].stage == "score" and steps[0].run and not any((step.stamp.parent / "model").exists() for step in steps)
    ):
        say(f"{steps[0].stamp.parent} is not scored, because it is not trained")
        code = 1
    else:
        code = _work(Command(_words(file, content, steps), steps), run, allow_failed=content["allow_failed"])
    if code != 130:
        file.unlink(missing_ok=True)
    return code


def _step(content: Document) -> Step:
    folder, run = content["folder"], content["run"]
    paths = {name: list(map(Path, content.get(name, ()))) for name in PATHS}
    own = {"stamp": Path(content["stamp"]), "folder": folder and Path(folder), "run": run and tuple(run)}
    return Step(**{**content, **paths, **own})


def _words(file: Path, content: Document, steps: Sequence[Step]) -> list[str]:
    """The words of a command. One that is begun again, as a requeued job is, does not delete what it has done."""
    words: list[str] = content["words"]
    if "--force" not in words:
        return words
    folders = [step.stamp.parent for step in steps]
    if not content["begun"]:
        for folder in folders:
            if (folder / "config.yaml").exists():
                (folder / ".old").touch()  # it goes when the earlier run is deleted
        write_json(file, {**content, "begun": True})
    elif not any((folder / ".old").exists() for folder in folders):
        return [word for word in words if word != "--force"]
    return words


def _work(command: Command, run: Callable[[Sequence[str]], int], *, allow_failed: bool) -> int:
    for step in command.steps:
        if step.stage != "train":  # it deletes a run whole (--force), or leaves the run of other settings as it is
            step.stamp.unlink(missing_ok=True)
    before = [fingerprint(step) for step in command.steps]
    code = run(command.words)
    own = [
        _finish(step, found, one, allow_failed=allow_failed)
        for step, found, one in zip(command.steps, before, command.codes(code), strict=True)
    ]
    return code if any(own) else 0


def _finish(step: Step, before: Fingerprint, code: int, *, allow_failed: bool) -> int:
    if code == 3 and not allow_failed:
        say(f"{step.stamp}: some inputs failed, listed above. Correct them, or go on without: --allow-failed")
    if code == 0 or (code == 3 and allow_failed):
        stamp(step, fingerprint(step) if step.folder else before)  # prepare may have made the corpus itself
        return 0
    return code

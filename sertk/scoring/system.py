"""The runs of a system on disk, `fold=F/seed=N/`, and which of them are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sertk.core import SertkError, UsageError
from sertk.core.files import Document, name_of_part, part_of, read_json, sentence, write_json
from sertk.core.forms import Form
from sertk.corpus.prepared import Data
from sertk.modeling import ensemble
from sertk.settings.several import folds_of, seeds_of


def is_system(folder: Path) -> bool:
    """Whether a folder holds the runs of a system, and is no bundle."""
    return not (folder / "bundle.json").exists() and any(folder.glob("fold=*/seed=*"))


def refuse(options: Mapping[str, object], why: str) -> None:
    """Refuses options that were given and do not go with the rest.

    Raises:
        UsageError: With the first of them.
    """
    for word, value in options.items():
        if value is not None:
            raise UsageError(f"{word} does not go with {why}")


def note(run: Path, part: str, error: Exception | None) -> None:
    """Writes into failed.json of a run why a part is not scored, or takes that away.

    What training says there stays, and what is said of another part until that part is scored.
    """
    path = run / "failed.json"
    trained = (run / "model" / "bundle.json").exists() or ensemble.is_ensemble(run / "model")
    there = read_json(path, "Delete it.", Form({"stage": str})) if path.exists() else {"stage": "score"}
    if not trained or there["stage"] != "score":
        return
    if error is not None:
        write_json(path, {"stage": "score", "part": part, "error": sentence(error)})
    elif there.get("part", part) == part:
        path.unlink(missing_ok=True)


def runs_of(system: Path, data: Data, folds: str | None, seeds: str | None) -> list[Path]:
    """The run folders that are asked for; one that is asked for by its name may not be there.

    Raises:
        SertkError: If no run was trained.
        UsageError: On a fold or seed that is none.
    """
    there: dict[str, list[str]] = {}
    for path in sorted(system.glob("fold=*/seed=*"), key=lambda one: (len(one.name), one.name)):  # 2 before 10
        there.setdefault(name_of_part(path.parent.name.removeprefix("fold=")), []).append(path.name)
    known = _known_folds(system, data)
    every = [*(name for name in known if name in there), *sorted(there.keys() - {*known})]
    asked = None if seeds is None else [f"seed={number}" for number in seeds_of(seeds)]
    return [
        system / f"fold={part_of(fold)}" / seed
        for fold in (every if folds is None else folds_of(folds, known))
        for seed in (there.get(fold, ["seed=*"]) if asked is None else asked)
    ]


def _known_folds(system: Path, data: Data) -> list[str]:
    """The folds of the protocol that the runs were trained on, as the first model that can be read says it.

    Raises:
        SertkError: If none can be read.
    """
    for path in sorted(system.glob("fold=*/seed=*/model")):
        try:
            about: Document = ensemble.read_about(path)
        except SertkError:
            continue  # the run is named when its turn comes
        return list(data.protocol(about["protocol"]["name"]).folds)
    raise SertkError(f"no run in {system} has a bundle that can be read (fold=F/seed=N/model). Train one first.")

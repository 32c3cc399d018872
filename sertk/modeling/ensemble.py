"""An ensemble: bundles that are scored together, as data.

Its folder holds `ensemble.json` and the bundles, whole, in `members/1`, `members/2`, ... by links where the file system
allows it. `ensemble.json` says of each member which bundle it is and its weight, and for the rest what `bundle.json`
says: classes, protocol, and what was learned from. It has checksums as bundle.json does.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sertk.core import SertkError, UsageError
from sertk.core.files import Document, digest, link, put_folder, read_bytes, read_json, write_json, writing
from sertk.core.forms import Form
from sertk.modeling import bundle
from sertk.modeling.bundle import Opened
from sertk.plugins import Plugins
from sertk.settings.plain import run_part

FILE: Final = "ensemble.json"
SCHEMA: Final = 1
MEND: Final = "Make it again with `sertk ensemble`, or copy it again."
MEMBER: Final = Form({"bundle": str, "weight": float})
FORM: Final = Form(
    {
        "classes": list[str],
        "protocol": Mapping[str, object],
        "training": Mapping[str, object],
        "members": list[Mapping[str, object]],
        "checksums": Mapping[str, str],
    }
)


@dataclass(frozen=True)
class Ensemble(Opened):
    """An ensemble whose JSON was read; settings, heads and features are those of its first member.

    Attributes:
        members: Its bundles.
        weights: Of each; their sum is 1.
    """

    members: Sequence[Opened]
    weights: Sequence[float]


def is_ensemble(folder: Path) -> bool:
    """Whether a folder holds one."""
    return (folder / FILE).is_file()


def read_about(folder: Path) -> Document:
    """What bundle.json or ensemble.json says.

    Raises:
        SertkError: See `bundle.read_about`; also on an ensemble that was changed or damaged.
    """
    if not is_ensemble(folder):
        return bundle.read_about(folder)
    about: Document = read_json(folder / FILE, MEND, FORM)
    said = {word: value for word, value in about.items() if word != "checksums"}
    odd = [word for word, value in said.items() if about["checksums"].get(word) != digest(value)]
    odd += [word for word in about["checksums"] if word not in said]
    faults = [fault for one in about["members"] if (fault := MEMBER.fault(dict(one)))]
    if odd or faults or not about["members"]:
        what = f"{odd[0]} is not what was written" if odd else f"members is wrong ({faults[0] if faults else 'none'})"
        raise SertkError(f"{folder / FILE}: {what}: it was changed or damaged. {MEND}")
    return about


def opened(folder: Path, plugins: Plugins) -> Opened:
    """Reads what a bundle or an ensemble says of itself.

    Raises:
        SertkError: See `read_about` and `bundle.opened`; also where its weights or its members are not what it says.
    """
    if not is_ensemble(folder):
        return bundle.opened(folder, plugins)
    about = read_about(folder)
    weights = [float(one["weight"]) for one in about["members"]]
    if min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-6):
        raise SertkError(f"{folder / FILE}: the weights {weights} must be 0 or more and have the sum 1. {MEND}")
    members = [bundle.opened(one, plugins) for one in _folders(folder, len(about["members"]))]
    for one, own in zip(about["members"], members, strict=True):
        if bundle.identity(own.folder) != one["bundle"]:
            raise SertkError(f"{own.folder} is another bundle than {folder / FILE} says. {MEND}")
    first = members[0]
    return Ensemble(folder, about, first.settings, first.heads, first.features, members, weights)


def members_of(found: Opened) -> Sequence[Opened]:
    """The bundles of an ensemble; of a bundle itself."""
    return found.members if isinstance(found, Ensemble) else [found]


def computed_by(found: Opened, plugins: Plugins) -> dict[str, str]:
    """Who offers each component of a bundle or an ensemble, see `bundle.computed_by`."""
    return {word: who for one in members_of(found) for word, who in bundle.computed_by(one, plugins).items()}


def identity(folder: Path) -> str:
    """Digest of what a bundle or an ensemble is, see `bundle.identity`."""
    if is_ensemble(folder):
        return digest(read_bytes(folder / FILE, MEND).decode(errors="replace"))
    return bundle.identity(folder)


def files(folder: Path) -> list[Path]:
    """The files of a bundle or an ensemble, see `bundle.files`."""
    if not is_ensemble(folder):
        return bundle.files(folder)
    return [folder / FILE, *(path for one in sorted((folder / "members").glob("*")) for path in bundle.files(one))]


def _folders(folder: Path, number: int) -> list[Path]:
    return [folder / "members" / str(place) for place in range(1, number + 1)]


def check(members: Sequence[Opened]) -> None:
    """Refuses bundles that cannot be an ensemble.

    Raises:
        UsageError: If there are fewer than two, one comes twice or is normalised by speaker, or they have other
            classes or read audio otherwise.
    """
    if len(members) < 2:
        raise UsageError("an ensemble is of two bundles or more. Give them, or a folder of runs, fold=F/seed=N.")
    known: dict[str, Path] = {}
    for one in members:
        own = bundle.identity(one.folder)
        if own in known:
            raise UsageError(f"{known[own]} and {one.folder} are the same bundle. Give every bundle once.")
        known[own] = one.folder
    by_speaker = next((one.folder for one in members if one.settings.by_speaker), None)
    if by_speaker is not None:
        raise UsageError(
            f"{by_speaker} is normalised by speaker, and the bundles of an ensemble hear no speakers. Leave it out."
        )
    first = members[0]
    for one in members[1:]:
        if one.about["classes"] != first.about["classes"]:
            raise UsageError(
                f"{first.folder} has the classes {', '.join(first.about['classes'])}, and {one.folder} has "
                f"{', '.join(one.about['classes'])}. The bundles of an ensemble have the same, in the same order."
            )
        mine, theirs = run_part(first.settings.audio), run_part(one.settings.audio)
        odd = next((word for word, value in mine.items() if theirs[word] != value), None)
        if odd is not None:
            raise UsageError(
                f"{first.folder} reads audio with audio.{odd} = {mine[odd]}, and {one.folder} with {theirs[odd]}. The "
                "bundles of an ensemble hear the same waves."
            )


def write(out: Path, members: Sequence[Opened], weights: Sequence[float], *, by: str = "equal") -> None:
    """Writes an ensemble whole or not at all; an earlier one is replaced.

    Args:
        out: Its folder.
        members: The bundles, see `check`.
        weights: Of each.
        by: What they were chosen by. Ensembles of the same systems, chosen by the same, are one system.

    Raises:
        UsageError: If something else is there.
    """
    if out.exists() and not is_ensemble(out):
        raise UsageError(f"{out} is there and is no ensemble. Give another --out.")
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for one, folder in zip(members, _folders(fresh, len(members)), strict=True):
        older = (path for path in (one.folder / "files").glob("*/*") if path.is_file())  # of schema 1
        for path in (*bundle.files(one.folder), *older):
            to = folder / path.relative_to(one.folder)
            if not link(path, to):
                with writing(to) as file:
                    file.write(read_bytes(path, bundle.OBTAIN))
    content = {
        "schema": SCHEMA,
        "classes": members[0].about["classes"],
        "protocol": _protocol([one.about["protocol"] for one in members]),
        "training": _training(members, by),
        "members": [
            {"bundle": bundle.identity(one.folder), "weight": weight}
            for one, weight in zip(members, weights, strict=True)
        ],
    }
    write_json(fresh / FILE, {**content, "checksums": {word: digest(value) for word, value in content.items()}})
    put_folder(fresh, out)


def _protocol(each: Sequence[Document]) -> dict[str, object]:
    """What the members were trained on: what differs is joined, and `folds` and `corpora` name each one."""
    found: dict[str, object] = {
        word: ", ".join(dict.fromkeys(str(one[word]) for one in each)) for word in bundle.PROTOCOL
    }
    every = {"folds": "fold", "corpora": "corpus"}
    return found | {many: list(dict.fromkeys(str(one[word]) for one in each)) for many, word in every.items()}


def _training(members: Sequence[Opened], by: str) -> dict[str, object]:
    """What stands for the training of an ensemble: what any member has learned from, an ensemble has."""
    systems, settings, seeds = list[str](), list[str | None](), set[int | None]()
    for one in members:
        own: Document = one.about.get("training") or {}
        systems += [own["system"]] if own.get("system") else []  # an older bundle does not say
        settings.append(own.get("settings"))
        seeds.add(own.get("seed"))
    return {
        "system": f"ensemble of {' and '.join(dict.fromkeys(systems)) or 'bundles'}",
        "settings": digest([settings, by]),
        "seed": seeds.pop() if len(seeds) == 1 else None,
        "seen": sorted(set().union(*(bundle.seen(one.about) for one in members))),
        "corpora": sorted(set().union(*(bundle.corpora(one.about) for one in members))),
    }

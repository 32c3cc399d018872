"""Scored runs on disk: how they are found, and which of them may be compared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from sertk.core import Scores, SertkError
from sertk.core.errors import some
from sertk.core.files import Document, Record, kind_of, read_json
from sertk.core.forms import Form
from sertk.corpus.audit import joined_stamp, line_stamp, stamped
from sertk.results.lines import SCORE, read_scores

SYSTEM = ("corpus", "protocol", "hash", "system", "settings")
"""What of `trained` is the same in all runs of a system."""
_NAMES = ("corpus", "name", "fold", "hash", "part")
TRAINED = Form({**dict.fromkeys((*SYSTEM, "fold"), str | None), "seed": int | str | None}, {"temperature": float})
"""What `trained` says, see `trained_as`."""
SPEAKERS = Form({"how": str, "n": list[int], "shrink": float, "without": int})
"""What scores say of the statistics of speakers, see `sertk.scoring.speakers`."""
SEARCHED = Form({"folds": list[str], "nested": bool, "saw": list[str]})
"""What scores say of a search that found the settings: its folds, and the speakers of this test that it saw."""
FORM = Form(
    {
        "classes": list[str],
        "confusion": list[list[int]],
        "protocol": Form(
            {"stamp": str},
            {
                **dict.fromkeys(_NAMES, str),
                "shares": Mapping[str, list[str]],
                "speakers": SPEAKERS,
                "searched": SEARCHED,
            },
        ),
        "utterances": int,
    },
    {
        **dict.fromkeys(("failed", "inputs", "without_transcript"), int),
        "trained": TRAINED,
        "took": Form({"seconds": float}, {"from": str, "batch": int}),
        "left_out": Mapping[str, int],
        "metrics": Mapping[str, float | None],
    },
)
"""What metrics.json says."""
BUNDLE = Form(
    {"protocol": Form(dict.fromkeys(("corpus", "name", "fold", "hash"), str))},
    {
        "training": Form({}, {**dict.fromkeys(("system", "settings"), str | None), "seed": int | str | None}),
        "components": Form({}, {"decision": Form({}, {"temperature": float})}),
    },
)
"""What `trained_as` reads of bundle.json."""
METRICS = {"train": "train.metrics.json", "dev": "dev.metrics.json", "test": "metrics.json"}
"""The metrics that a run folder has of each part of its fold."""


@dataclass(frozen=True)
class Run:
    """A scored run.

    Attributes:
        folder: Its folder.
        metrics: The content of its metrics.json.
        trained: What its bundle is, see `trained_as`.
        lines: The file of its score lines.
    """

    folder: Path
    metrics: Record
    trained: Document
    lines: str = "scores.jsonl"

    @property
    def fold(self) -> str:
        """The fold that it was trained on, by name; scored on another corpus, with the fold of that one."""
        scored: Document = self.metrics["protocol"]
        foreign = scored.get("corpus", self.trained["corpus"]) != self.trained["corpus"]
        return f"{self.trained['fold']} on {scored['fold']}" if foreign else str(self.trained["fold"])

    @property
    def seed(self) -> str:
        """Its seed."""
        return str(self.trained["seed"])

    @property
    def layout(self) -> Path | None:
        """The folder of its system in the layout of recipes; None if it lies in a folder of the user's own choice."""
        inside = self.folder.name.startswith("seed=") and self.folder.parent.name.startswith("fold=")
        return self.folder.parents[1] if inside else None

    @property
    def counts(self) -> Tensor:
        """(C, C) confusion counts."""
        return torch.tensor(self.metrics["confusion"])

    @cached_property
    def scores(self) -> Scores:
        """Its score lines.

        Raises:
            SertkError: If there are no scores, none has a label, or they are not as many as its metrics.json counts.
            InputError: If a score line lacks something or an id comes twice.
        """
        path = self.folder / self.lines
        found = read_scores(path, self.metrics["classes"])
        if found.confusion.tolist() != self.metrics["confusion"]:
            raise SertkError(f"{path} has other decisions than the metrics beside it count. {SCORE}")
        if not found.ids:
            raise SertkError(f"{path} has no utterance whose label is a class, so nothing can be measured. {SCORE}")
        return found

    @property
    def seconds(self) -> Tensor:
        """(N,) durations of its utterances.

        Raises:
            SertkError: If a score line lacks its own; it is named.
        """
        unknown = self.scores.seconds.isnan().nonzero().flatten().tolist()
        if unknown:
            raise SertkError(
                f"{self.folder / self.lines}: the score line of {self.scores.ids[unknown[0]]!r} lacks seconds; an "
                f"older sertk wrote none. {SCORE}"
            )
        return self.scores.seconds

    @property
    def system(self) -> tuple[str, ...]:
        """What makes its system: where it was trained and with what; "" is what an older bundle does not say."""
        return tuple(str(self.trained[word] or "") for word in SYSTEM)


class Held(Run):
    """A run whose scores are at hand, for statistics of what no run folder holds.

    Args:
        fold: By name.
        seed: Of the model.
        scores: Its utterances.
    """

    def __init__(self, fold: str, seed: str, scores: Scores) -> None:
        super().__init__(Path(), {"protocol": {}}, {"corpus": None, "fold": fold, "seed": seed})
        self.__dict__["scores"] = scores  # where Run keeps those that it has read


def trained_as(bundle: Document) -> Record:
    """What metrics.json keeps of a bundle, so that a scored run says itself which one it is.

    Args:
        bundle: The content of bundle.json.

    Returns:
        corpus, protocol, fold and hash of the training; system; settings, 16 hex digits of all that makes the system;
        seed. What an older bundle does not say is None. temperature, if the bundle has one.
    """
    training: Document = bundle.get("training") or {}
    own: Document = bundle["protocol"]
    named = {"corpus": own["corpus"], "protocol": own["name"], "fold": own["fold"], "hash": own["hash"]}
    components: Document = bundle.get("components") or {}
    decision: Document = components.get("decision") or {}
    tempered = {"temperature": decision["temperature"]} if "temperature" in decision else {}
    return {**named, **{word: training.get(word) for word in ("system", "settings", "seed")}, **tempered}


def find(folders: Sequence[Path]) -> dict[Path, list[Run]]:
    """Finds the scored runs in folders and below them.

    Args:
        folders: Run folders, system folders, or anything above them.

    Returns:
        The runs by the folder of their system, in the order given; within a system they are sorted by fold and seed. In
        the layout of recipes (SYSTEM/fold=F/seed=S) it is SYSTEM; else the deepest folder that holds all of them.

    Raises:
        SertkError: If a folder is missing or a file, there is no scored run, one does not say what it is, two are the
            same, or systems are mixed.
    """
    if absent := [folder for folder in folders if not folder.exists()]:
        raise SertkError(f"no such folder: {some(absent)}. Give the folder of a run, of a system, or one above them.")
    file = next((path for path in folders if path.is_file()), None)
    if file is not None:
        raise SertkError(
            f"{file} is a file ({kind_of(file)}), and not the folder of a scored run. Give the folder that has "
            "metrics.json and scores.jsonl; `sertk score` writes both, where labels are known."
        )
    runs = [run_of(path) for path in dict.fromkeys(_paths(folders))]
    if not runs:
        raise SertkError(
            f"no metrics.json of a scored run in or below {', '.join(map(str, folders))}. Run `sertk score` first."
        )
    groups: dict[Path | tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.layout or run.system, []).append(run)
    found: dict[Path, list[Run]] = {}
    for own in groups.values():
        system = own[0].layout or Path(os.path.commonpath([run.folder for run in own]))
        if system in found:
            raise SertkError(
                f"{system} holds the runs of several systems, such as {found[system][0].folder} and {own[0].folder}: "
                "their results would be one file. Put the runs of each system into a folder of its own."
            )
        check_one_system(system, own)
        found[system] = sorted(own, key=lambda run: (run.fold, run.seed))
    return found


def _paths(folders: Iterable[Path]) -> Iterator[Path]:
    """Every metrics.json in and below folders, but for hidden ones: they hold what is being deleted."""
    for folder in map(Path.resolve, folders):
        for path in sorted(folder.rglob("metrics.json")):
            if not any(part.startswith(".") for part in path.relative_to(folder).parts):
                yield path


def run_of(path: Path) -> Run:
    """The run of a metrics.json, or of another of `METRICS`; of an older one the bundle beside it says what it is.

    Raises:
        SertkError: If neither says of which fold and seed the run is.
    """
    metrics, bundle = read_json(path, SCORE, FORM), path.parent / "model" / "bundle.json"
    trained: Document | None = metrics.get("trained")
    if trained is None and bundle.exists():
        trained = trained_as(read_json(bundle, SCORE, BUNDLE, newer=True))
    if trained is None or trained["fold"] is None or trained["seed"] is None:
        raise SertkError(
            f"{path} does not say of which fold and seed its run is, and no bundle beside it does ({bundle} is missing "
            f"or says neither). {SCORE}"
        )
    wide = len(metrics["classes"])
    if len({*metrics["classes"]}) < wide or [len(row) for row in metrics["confusion"]] != [wide] * wide:
        raise SertkError(f"{path}: its confusion counts do not fit its {wide} classes. {SCORE}")
    lines = "scores.jsonl" if path.name == METRICS["test"] else path.name.replace(".metrics.json", ".jsonl")
    return Run(path.parent, metrics, trained, lines)


def check_one_system(system: Path, runs: Sequence[Run]) -> None:
    """Refuses runs that are not of one system, or the same run twice.

    Raises:
        SertkError: Naming two of them.
    """
    for number, word in enumerate(SYSTEM):
        first: dict[str, Run] = {}
        for run in runs:
            first.setdefault(run.system[number], run)
        first.pop("", None)  # an older bundle does not say
        if len(first) > 1:
            one, other, *_ = first.values()
            raise SertkError(
                f"{system} mixes runs of different {word} ({', '.join(sorted(first))}), such as {one.folder} and "
                f"{other.folder}: they are of different systems. Put the runs of each system into a folder of its own."
            )
    seen: dict[tuple[str, str], Run] = {}
    for run in runs:
        same = seen.setdefault((run.fold, run.seed), run)
        if same is not run:
            raise SertkError(
                f"{same.folder} and {run.folder} are both fold {run.fold}, seed {run.seed} of one system, and it would "
                "count twice. Leave one of them out; two systems of an older sertk are kept apart in folders "
                "SYSTEM/fold=F/seed=S."
            )


def lacking(runs: Sequence[Run], every: Sequence[Run]) -> list[tuple[str, str]]:
    """The runs that are missing for each fold to have each seed.

    Args:
        runs: The runs that are there.
        every: The runs whose folds and seeds are wanted.

    Returns:
        (fold, seed) of each missing run, sorted.
    """
    grid = set(product({run.fold for run in every}, {run.seed for run in every}))
    return sorted(grid - {(run.fold, run.seed) for run in runs})


def failures(runs: Sequence[Run]) -> list[str]:
    """A sentence on inputs of runs that could not be scored and count in no figure; no sentence if all were scored."""
    failed = [run for run in runs if run.metrics.get("failed")]
    if not failed:
        return []
    lost = sum(int(run.metrics["failed"]) for run in failed)
    inputs = sum(int(run.metrics.get("inputs") or run.metrics["utterances"]) for run in runs)
    where = f"fold {failed[0].fold}, seed {failed[0].seed}"
    return [f"**{lost} of {inputs} failed** and no figure counts them; the first are of {where}: see its failed.jsonl."]


def protocol_of(system: Path, runs: Sequence[Run]) -> Record:
    """The one protocol that all runs of a system have.

    Args:
        system: The system's folder, for the error.
        runs: Its runs.

    Returns:
        `protocol` of their metrics.json.

    Raises:
        SertkError: If the runs differ in the hash of the folds, the part or the stamp.
    """
    for what in ("hash", "part", "stamp"):
        kinds = sorted({run.metrics["protocol"].get(what, "none") for run in runs})
        if len(kinds) > 1:
            raise SertkError(f"{system} mixes runs of different {what} ({', '.join(kinds)}). Report them apart.")
    about: Record = dict(runs[0].metrics["protocol"])
    speakers = [run.metrics["protocol"].get("speakers") for run in runs]
    kinds = sorted({_speakers_kind(one) for one in speakers})
    if len(kinds) > 1:
        which = "; ".join(kinds)
        raise SertkError(f"{system} mixes runs of different statistics of speakers ({which}). Report them apart.")
    known = [one for one in speakers if one]
    if known:
        about["speakers"] = joined_stamp(known)
    searched = [one for run in runs if (one := run.metrics["protocol"].get("searched"))]
    if searched:  # a search that one fold may have, others may not
        about["searched"] = next((one for one in searched if one["saw"]), searched[0])
    return about


def _speakers_kind(about: Document | None) -> str:
    """What of the statistics of speakers must be the same in all runs of a system."""
    return f"{about['how']}, k = {about['shrink']:g}" if about else "none"


def two_settings(systems: Mapping[str, Document]) -> list[str]:
    """A sentence where systems that know the speakers stand beside systems that do not, by name; else none."""
    heard = [name for name, about in systems.items() if about.get("speakers")]
    if not heard or len(heard) == len(systems):
        return []
    return [
        f"**two settings stand side by side**: {', '.join(heard)} heard recordings of each speaker, without labels, "
        "and then decided; the others met speakers whom they did not know. A difference is also one of that."
    ]


def stated(about: Document) -> str:
    """A protocol in words: corpus, name, stamp, part and hash."""
    return (
        f"{about.get('corpus', '?')} / {about.get('name', '?')}, {stamped(about)}, "
        f"part {about.get('part', '?')}, hash `{about.get('hash', '?')}`"
    )


def marks(about: Document) -> list[str]:
    """What a name is marked with that has no line on its protocol beside it: what is no test of unknown speakers."""
    stamp, searched = line_stamp(about).removeprefix("speaker-independent").removeprefix(", "), about.get("searched")
    return [*filter(None, [stamp]), *["SETTINGS SAW TEST SPEAKERS"] * bool(searched and searched["saw"])]


def check_one_hash(systems: Iterable[tuple[str, Document]]) -> None:
    """Refuses systems that have different folds under one protocol name: readers would compare their metrics.

    Args:
        systems: What each is called in the error, and its protocol.

    Raises:
        SertkError: If two have different hashes of one protocol.
    """
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for system, about in systems:
        name, own = (about.get("corpus", "?"), about.get("name", "?")), about.get("hash", "none")
        other, known = first.setdefault(name, (system, own))
        if own != known:
            raise SertkError(
                f"{other} and {system} are of different folds of {' / '.join(name)} (hash {known} and {own}). "
                "Score both on the same folds, or report them apart."
            )

"""Stage 5: scored runs -> RESULTS.md and a confusion matrix, over folds and seeds."""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import sertk
from sertk.console.progress import console, say
from sertk.core import SertkError
from sertk.core.files import egs, named, read_json, write_text, writing
from sertk.corpus.audit import stamped
from sertk.plugins import Plugins

SHOWN = {"wa": "WA", "ua": "UA", "precision": "precision", "recall": "recall", "f1": "F1"}
STACK = ("torch", "torchaudio", "speechbrain")


class Run(NamedTuple):
    """A scored run: its fold, its seed, its metrics.json and its folder."""

    fold: str
    seed: str
    metrics: dict[str, Any]
    folder: Path

    @property
    def counts(self) -> Tensor:
        """(C, C) confusion counts."""
        return torch.tensor(self.metrics["confusion"])


def report(folders: Sequence[Path], *, command: str | None = None, publish: bool = False) -> list[Path]:
    """Writes RESULTS.md of every system below the folders.

    Args:
        folders: Run folders, system folders, or anything above them.
        command: The command that made the runs, for the text.
        publish: Also write the system's section of the recipe's own RESULTS.md.

    Returns:
        The files written.

    Raises:
        SertkError: Where there is no scored run, or runs of one system have different folds.
    """
    plugins = Plugins()
    written = []
    found = {system: (runs, protocol_of(system, runs)) for system, runs in find(folders).items()}
    _check_one_hash([(str(system), about) for system, (_, about) in found.items()])
    for system, (runs, about) in found.items():
        text = _text(system, runs, about, command, plugins)
        _draw(system / "figures" / "confusion.png", runs)
        write_text(system / "RESULTS.md", f"# {system.parent.name} / {system.name}\n\n{text}")
        written.append(system / "RESULTS.md")
        console.print(_table(runs, plugins), markup=False, soft_wrap=True)
        say(f"wrote {written[-1]}")
        if publish:
            written.append(_publish(system, about, text))
    return written


def find(folders: Sequence[Path]) -> dict[Path, list[Run]]:
    """Runs by system folder in the order given, sorted by fold and seed.

    Raises:
        SertkError: Where there is none.
    """
    found: dict[Path, list[Run]] = {}
    below = [path.resolve() for folder in folders for path in sorted(folder.rglob("seed=*/metrics.json"))]
    own = [folder.resolve() / "metrics.json" for folder in folders]
    for path in dict.fromkeys([*(one for one in own if one.exists()), *below]):
        fold, seed = named(path.parent.parent.name.removeprefix("fold=")), path.parent.name.removeprefix("seed=")
        run = Run(fold, seed, read_json(path, "Run `sertk score` again."), path.parent)
        found.setdefault(path.parent.parent.parent, []).append(run)
    if not found:
        raise SertkError(
            f"no metrics.json of a scored run (fold=F/seed=S) below {', '.join(map(str, folders))}. "
            "Run `sertk score` first."
        )
    return {system: sorted(runs, key=lambda run: (run.fold, run.seed)) for system, runs in found.items()}


def lacking(runs: Sequence[Run], every: Sequence[Run]) -> list[tuple[str, str]]:
    """(fold, seed) of the grid of every run that is not among these."""
    grid = set(product({run.fold for run in every}, {run.seed for run in every}))
    return sorted(grid - {(run.fold, run.seed) for run in runs})


def protocol_of(system: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """The protocol of the runs.

    Raises:
        SertkError: Where they have several fold hashes.
    """
    for what in ("hash", "part", "stamp"):
        kinds = sorted({run.metrics["protocol"].get(what, "none") for run in runs})
        if len(kinds) > 1:
            raise SertkError(f"{system} mixes runs of different {what} ({', '.join(kinds)}). Report them apart.")
    about: dict[str, Any] = runs[0].metrics["protocol"]
    return about


def stated(about: Mapping[str, Any]) -> str:
    """A protocol in words."""
    return (
        f"{about.get('corpus', '?')} / {about.get('name', '?')}, {stamped(about)}, "
        f"part {about.get('part', '?')}, hash `{about.get('hash', '?')}`"
    )


def _check_one_hash(systems: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Refuses systems whose folds differ under one name: their figures would be read side by side.

    Raises:
        SertkError: Where two have different hashes of one protocol.
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


class Summary(NamedTuple):
    """A metric over folds and seeds.

    Attributes:
        folds: Mean over folds, of each seed.
        pooled: Of the counts of all folds together, of each seed.
    """

    folds: list[float]
    pooled: list[float]


def summarize(runs: Sequence[Run], metric: str, plugins: Plugins) -> Summary:
    """A metric as the mean of folds and pooled over folds, seed by seed."""
    by_seed: dict[str, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, []).append(run)
    folds = [statistics.fmean(run.metrics["metrics"][metric] for run in own) for own in by_seed.values()]
    pooled = [plugins.factory("metric", metric)(sum(run.counts for run in own)) for own in by_seed.values()]
    return Summary(folds, pooled)


def spread(values: Sequence[float]) -> str:
    """Percent, mean and standard deviation over seeds (of the population, as the papers do)."""
    deviation = f" ± {100 * statistics.pstdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{deviation}"


def _table(runs: Sequence[Run], plugins: Plugins) -> str:
    """A Markdown table: a row a run, then the two ways to pool folds."""
    lines = [f"| fold | seed | n | {' | '.join(SHOWN.values())} |", f"|---|---|---|{'---|' * len(SHOWN)}"]
    for run in runs:
        values = [f"{100 * run.metrics['metrics'][name]:.2f}" for name in SHOWN]
        lines.append(f"| {run.fold} | {run.seed} | {run.metrics['utterances']} | {' | '.join(values)} |")
    both = {name: summarize(runs, name, plugins) for name in SHOWN}
    seeds, folds = len({run.seed for run in runs}), len({run.fold for run in runs})
    for title, values in (
        (f"mean of {folds} fold{'s' * (folds > 1)}", [spread(both[name].folds) for name in SHOWN]),
        ("pooled", [spread(both[name].pooled) for name in SHOWN]),
    ):
        lines.append(f"| {title} | {seeds} seed{'s' * (seeds > 1)} | | {' | '.join(values)} |")
    return "\n".join(lines)


def _text(system: Path, runs: Sequence[Run], about: Mapping[str, Any], command: str | None, plugins: Plugins) -> str:
    classes = runs[0].metrics["classes"]
    counts = sum((run.counts for run in runs), torch.zeros(len(classes), len(classes), dtype=torch.int64))
    matrix = [f"| | {' | '.join(classes)} |", f"|---|{'---|' * len(classes)}"]
    matrix += [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(classes, counts.tolist(), strict=True)]
    versions = ", ".join([f"sertk {sertk.__version__}", *(f"{name} {version(name)}" for name in STACK)])
    facts = [
        f"- protocol: {stated(about)}",
        f"- command: `{command or f'sertk report {system.name}'}`",
        f"- versions: {versions}; commit {_commit()}",
    ]
    head = "WA is accuracy, UA is the mean class recall (UAR); precision, recall and F1 are macro means. Percent."
    missing = lacking(runs, runs)
    if missing:
        facts.append(
            f"- **incomplete**: {len(missing)} runs lack, the first fold {missing[0][0]}, seed {missing[0][1]}"
        )
    legend = "Confusion counts over all runs, rows the labels, columns the decisions:"
    return "\n".join([_table(runs, plugins), "", head, "", *facts, "", legend, "", *matrix, ""])


def _commit() -> str:
    """The commit of the code, "unknown" outside a checkout; "+" marks changes that are not committed."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _draw(path: Path, runs: Sequence[Run]) -> None:
    """The confusion matrix in percent of each label."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    classes = runs[0].metrics["classes"]
    counts = sum((run.counts for run in runs), torch.zeros(len(classes), len(classes), dtype=torch.int64))
    share = (100 * counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    figure, axes = plt.subplots(figsize=(1.5 + 0.7 * len(classes), 1.2 + 0.7 * len(classes)), layout="constrained")
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="decision", ylabel="label", title="percent of each label")
    for row, column in torch.cartesian_prod(torch.arange(len(classes)), torch.arange(len(classes))).tolist():
        value = share[row, column]
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 50 else "black")
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=150)
    plt.close(figure)


def _publish(system: Path, about: Mapping[str, Any], text: str) -> Path:
    """Puts the system's section into the recipe's RESULTS.md, in the place of an older one."""
    if "corpus" not in about:
        raise SertkError(f"{system}: its scores are of no protocol (unaudited), and RESULTS.md has those that are.")
    path: Path = egs() / about["corpus"] / "RESULTS.md"
    title = f"## {system.parent.name} / {system.name}"
    old = path.read_text(encoding="utf-8") if path.exists() else f"# {about['corpus']}: results\n"
    others = re.sub(rf"^{re.escape(title)}\n.*?(?=^## |\Z)", "", old, flags=re.MULTILINE | re.DOTALL)
    known = re.findall(rf"^- protocol: {about['corpus']} / {about['name']},.* hash `(\w+)`", others, re.MULTILINE)
    _check_one_hash([(str(path), {**about, "hash": one}) for one in known] + [(str(system), about)])
    write_text(path, f"{others.rstrip()}\n\n{title}\n\n{text}")
    say(f"wrote {path}")
    return path

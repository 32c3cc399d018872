"""Stage 5: scored runs -> RESULTS.md and a page with figures, over folds and seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sertk.console.progress import console, say
from sertk.core import SertkError, UsageError
from sertk.core.files import Document, write_text
from sertk.corpus import ledger
from sertk.corpus.prepared import Data
from sertk.plugins import Plugins
from sertk.results.annotators import annotator_lines
from sertk.results.costs import cost_lines
from sertk.results.export import runs_csv, systems_latex
from sertk.results.measures import Measures
from sertk.results.page import Texts, write_page
from sertk.results.runs import Run, check_one_hash, failures, find, lacking, protocol_of
from sertk.results.systems import System
from sertk.results.tables import confusion_table, never_decided, runs_table
from sertk.results.uncertainty import apart_by_blanks, group_lines, report_lines
from sertk.results.versions import made_with


def report(
    folders: Sequence[Path],
    *,
    out: Path | None = None,
    command: str | None = None,
    publish: Path | None = None,
    data: Path | None = None,
    embed: bool = False,
    tex: Path | None = None,
    csv: Path | None = None,
    files: Sequence[Path] = (),
) -> list[Path]:
    """Writes RESULTS.md and report.html of every system below the folders.

    Args:
        folders: Run folders, system folders, or anything above them.
        out: The folder for what is written of the one system that there is; None takes the system's own.
        command: The command that made the runs, for the text.
        publish: Also write the section of each system into this RESULTS.md, a recipe's.
        data: The prepared corpus, data/NAME: its ledger and its audit are told, and report.html plays its files.
        embed: Whether report.html holds excerpts of the files, and not links to them.
        tex: Also write the table of the systems here, for LaTeX.
        csv: Also write the figures of the runs here.
        files: Plugin files.

    Returns:
        Each RESULTS.md that was written.

    Raises:
        SertkError: If there is no scored run, `data` is not prepared, or the runs of one system do not go together.
        UsageError: If `publish` is no RESULTS.md, `tex` or `csv` has another ending, `out` is given for several
            systems, a system has no folder, `data` is another corpus than that of the scores, or `embed` is without it.
    """
    _check_names(publish, tex, csv)
    if embed and data is None:
        raise UsageError("--embed-audio needs the audio. Give the prepared corpus: --data data/NAME.")
    measures = Measures(Plugins(files=files))
    corpus, written = Data(data) if data else None, []
    systems = [System(_title(folder, runs), folder, runs) for folder, runs in find(folders).items()]
    places = {one.folder: _place(one, folders, out, alone=len(systems) == 1) for one in systems}
    abouts = [protocol_of(one.folder, one.runs) for one in systems]
    check_one_hash([(str(one.folder), about) for one, about in zip(systems, abouts, strict=True)])
    if corpus and (others := set(map(_corpus, abouts)) - {corpus.corpus}):
        raise UsageError(f"--data {data} is {corpus.corpus}, and the scores are of {', '.join(sorted(others))}.")
    if corpus:
        _ = corpus.facts  # read now, with the manifest: what is wrong with them is said before anything is written
    for system, about in zip(systems, abouts, strict=True):
        texts = _texts(system, command, measures, _looks(corpus, about))
        text = _section(system, texts)
        written.append(places[system.folder] / "RESULTS.md")
        write_text(written[-1], f"# {system.name}\n\n{text}")
        console.print("\n".join(texts.table), markup=False, soft_wrap=True)
        say(f"wrote {written[-1]}")
        say(f"wrote {write_page(places[system.folder], system, texts, measures, corpus, embed=embed)}")
        if publish:
            written.append(_publish(publish, system, about, text))
    for path, made in ((tex, systems_latex), (csv, runs_csv)):
        if path:
            write_text(path, made(systems, measures))
            say(f"wrote {path}")
    return written


def _check_names(publish: Path | None, tex: Path | None, csv: Path | None) -> None:
    """Refuses files that are meant for something else, before the first is written.

    Raises:
        UsageError: Naming one of them.
    """
    if publish and publish.name != "RESULTS.md":
        raise UsageError(f"--publish {publish} is no RESULTS.md. Give the one of the recipe, beside its recipe.yaml.")
    for option, path, suffix in (("--latex", tex, ".tex"), ("--csv", csv, ".csv")):
        if path and path.suffix != suffix:
            raise UsageError(f"{option} {path} does not end in {suffix}. Give FILE{suffix}.")


def _corpus(about: Document) -> str:
    """The corpus of a protocol."""
    return str(about.get("corpus", "none"))


def _title(folder: Path, runs: Sequence[Run]) -> str:
    """PROTOCOL / SYSTEM, and where it was trained if that is elsewhere; the folder's name has the tag."""
    trained: Document = runs[0].trained
    scored: Document = runs[0].metrics["protocol"]
    elsewhere = (trained["corpus"], trained["protocol"]) != (scored.get("corpus"), scored.get("name"))
    where = f" (trained on {trained['corpus']} / {trained['protocol']})" if elsewhere else ""
    return f"{scored.get('name', 'unaudited')} / {folder.name}{where}"


def _place(system: System, named: Sequence[Path], out: Path | None, *, alone: bool) -> Path:
    """The folder for a system's RESULTS.md: never one that has nothing to do with the runs.

    Raises:
        UsageError: If there is none, or it has a RESULTS.md of something else.
    """
    if out and not alone:
        raise UsageError(f"--out {out} is for the results of one system, and here are several. Report them one by one.")
    side_by_side = len({run.layout or run.folder.parent for run in system.runs}) == 1
    inside = any(system.folder.is_relative_to(one.resolve()) for one in named)
    if not (out or side_by_side or inside):
        raise UsageError(
            f"the runs lie in folders with nothing but {system.folder} in common. Give the folder for RESULTS.md: --out"
        )
    place = out or system.folder
    old = place / "RESULTS.md"
    if old.is_file() and not old.read_text(encoding="utf-8").startswith(f"# {system.name}\n"):
        raise UsageError(f"{old} is of something else than {system.name}. Give another folder for RESULTS.md: --out")
    return place


def _texts(system: System, command: str | None, measures: Measures, looks: Sequence[str]) -> Texts:
    """What is said of a system."""
    table = runs_table(system, measures)
    table += [line for one in (*failures(system.runs), *never_decided(system.runs)) for line in ("", one)]
    facts = [
        f"- protocol: {system.protocol}",
        f"- command: `{command or f'sertk report {system.folder.name}'}`",
        made_with(),
        *_incomplete(system.runs),
        *cost_lines(system),
        *looks,
    ]
    groups, people = group_lines(system, measures), annotator_lines(system, measures)
    return Texts(table, measures.legend, report_lines(system, measures), groups, facts, people)


def _section(system: System, texts: Texts) -> str:
    """The text on a system, without its title."""
    legend = "Confusion counts over all runs, rows the labels, columns the decisions:"
    parts = [texts.table, [texts.legend], texts.intervals, texts.groups, texts.people, texts.facts, [legend]]
    return "\n".join([*apart_by_blanks([*parts, confusion_table(system.runs)]), ""])


def _looks(data: Data | None, about: Document) -> list[str]:
    """How often the test was looked at, as the corpus's ledger says it; nothing without the corpus."""
    if data is None:
        return []
    count = ledger.looks(data.folder, about["hash"])
    if not count:
        return [f"- looks at this test: {ledger.NAME} of the corpus has none; an older sertk scored it, or a copy"]
    said = f"at least {count} different settings have been scored on this test ({ledger.NAME} of the corpus)"
    return [f"- looks at this test: {said}; copies of the corpus and deleted folders are not counted"]


def _incomplete(runs: Sequence[Run]) -> list[str]:
    missing = lacking(runs, runs)
    if not missing:
        return []
    fold, seed = missing[0]
    return [f"- **incomplete**: runs that are missing: {len(missing)}, the first fold {fold}, seed {seed}"]


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

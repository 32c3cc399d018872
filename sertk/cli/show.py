"""Tables on the terminal: plugins, corpora, the doctor's findings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def plugins(kind: str | None, name: str | None, files: Sequence[Path] = ()) -> None:
    """Every registered name, the names of a kind, or the settings of one plugin."""
    from sertk.plugins import KINDS, Plugins  # here, because it imports torch, and `findings` must not

    registry, console = Plugins(files=files), Console()
    if kind and name:
        entry = registry.entry(kind, name)
        console.print(Text(f"{kind} {name} ({entry.distribution} {entry.version}): {registry.about(kind, name)}"))
        table = _table("setting", "type", "default", "meaning")
        for setting in registry.settings(kind, name):
            table.add_row(*(Text(cell) for cell in setting))
        console.print(table)
        return
    table = _table("kind", "name", "from", "about")
    if kind and kind in KINDS:
        about = KINDS[kind]
        made = f"; made with {', '.join(about.given)} and its settings" if about.given else ""
        console.print(Text(f"{kind} (hook {about.hook}): {about.about}{made}"))
    for one in [kind] if kind else KINDS:
        for word in registry.names(one):
            entry = registry.entry(one, word)
            cells = (one, word, f"{entry.distribution} {entry.version}", registry.about(one, word))
            table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


def corpora(files: Sequence[Path] = ()) -> None:
    """Every corpus with its protocols."""
    from sertk.core import Corpus
    from sertk.corpus.readers import named, reader
    from sertk.plugins import Plugins

    registry, table = Plugins(files=files), _table("corpus", "protocol", "about")
    for name in sorted([*registry.names("corpus"), *named()]):
        # of a reader the class: it may need settings
        corpus: type[Corpus] | Corpus = (
            reader(registry, name) if name in named() else registry.factory("corpus", name)  # type: ignore[assignment]
        )
        table.add_row(name, "", Text(corpus.about))
        for word, protocol in corpus.protocols.items():
            table.add_row("", word, Text(protocol.about))
    Console().print(table)


def findings() -> int:
    """Prints what the doctor finds; 1 if something is wrong. The fixes follow the table, unbroken, to copy."""
    from sertk.cli.doctor import examine

    console, found, table = Console(), examine(), _table("", "check", "finding")
    for one in found:
        table.add_row("ok" if one.ok else "[bold red]fault[/]", Text(one.check), Text(one.detail))
    console.print(table)
    faults = [one for one in found if not one.ok]
    if faults:
        console.print(
            "\nHow to fix it. Begin with the first, it can be the cause of others; then run `sertk doctor` again."
        )
    for one in faults:
        console.print(Text(f"{one.check}: {one.fix}", style="bold"), soft_wrap=True)
    return int(bool(faults))

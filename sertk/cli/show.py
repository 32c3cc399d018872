"""Tables on the terminal: plugins, corpora, the doctor's findings."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sertk.plugins import HOOKS, Plugins


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def plugins(kind: str | None, name: str | None) -> None:
    """Every registered name, those of a kind, or the settings of one."""
    registry, console = Plugins(), Console()
    if kind and name:
        entry = registry.entry(kind, name)
        console.print(Text(f"{kind} {name} ({entry.distribution} {entry.version}): {registry.about(kind, name)}"))
        table = _table("setting", "type", "default", "meaning")
        for setting in registry.settings(kind, name):
            table.add_row(*(Text(cell) for cell in setting))
        console.print(table)
        return
    table = _table("kind", "name", "from", "about")
    for one in [kind] if kind else HOOKS:
        for word in registry.names(one):
            entry = registry.entry(one, word)
            cells = (one, word, f"{entry.distribution} {entry.version}", registry.about(one, word))
            table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


def corpora() -> None:
    """Every corpus with its protocols."""
    registry, table = Plugins(), _table("corpus", "protocol", "about")
    for name in registry.names("corpus"):
        corpus = registry.factory("corpus", name)
        table.add_row(name, "", Text(corpus.about))  # type: ignore[attr-defined]
        for word, protocol in corpus.protocols.items():  # type: ignore[attr-defined]
            table.add_row("", word, Text(protocol.about))
    Console().print(table)


def findings() -> int:
    """What the doctor finds; 1 where something is wrong."""
    from sertk.cli.doctor import examine

    found, table = examine(), _table("", "check", "finding")
    for one in found:
        table.add_row("ok" if one.ok else "[bold red]fault[/]", one.check, Text(one.detail))
        if not one.ok:
            table.add_row("", "", Text(f"fix: {one.fix}", style="bold"))
    Console().print(table)
    return int(not all(one.ok for one in found))

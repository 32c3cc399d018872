"""The help of every command shows an example that can be typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_group

from sertk.cli.app import app


def commands() -> Iterator[Any]:
    """Every command with its words: "plugins new" is one."""
    for name, command in get_group(app).commands.items():
        inner = getattr(command, "commands", None)
        yield from ((f"{name} {word}", one) for word, one in inner.items()) if inner else [(name, command)]


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda part: part if isinstance(part, str) else "")
def test_the_example_of_a_command_is_one_of_it(name: str, command: Any) -> None:  # noqa: ANN401
    words = shlex.split((command.epilog or "").removeprefix("Example: "))
    own = name.split() if name != "plugins list" else ["plugins"]
    assert words[: 1 + len(own)] == ["sertk", *own]
    command.make_context(name, words[1 + len(own) :])  # its options and arguments are read; nothing runs

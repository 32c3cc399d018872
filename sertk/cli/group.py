"""The command group: guests' commands without importing them, and errors as sentences."""

from __future__ import annotations

import signal
import sys
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

GUESTS = "sertk.commands"


class ListFirst(TyperGroup):
    """Gives words that name none of its commands to its command `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's
        """Puts `list` in front where no command is named."""
        named = bool(args) and (args[0] in self.commands or args[0] in ("--help", "-h"))
        parsed: list[str] = super().parse_args(ctx, args if named else ["list", *args])
        return parsed


class Group(TyperGroup):
    """Adds the commands of the entry-point group `sertk.commands`, each imported only when it runs."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Our commands, then the guests'."""
        return [*super().list_commands(ctx), *sorted(set(self._guests) - set(self.commands))]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # noqa: ANN401
        """A command by name; the guest that offers it is imported only when the command is the one that runs."""
        own = super().get_command(ctx, cmd_name)
        point = None if own else self._guests.get(cmd_name)  # not looked for where the command is ours
        if point is None:
            return own
        if cmd_name not in sys.argv[1:]:
            shell = typer.Typer(add_completion=False)
            shell.command(cmd_name, help=f"From {point.dist.name if point.dist else point.value}.")(lambda: None)
            return typer.main.get_command(shell)
        loaded = _load(cmd_name)
        if not isinstance(loaded, typer.Typer):
            wrapped = typer.Typer(add_completion=False)
            wrapped.command(cmd_name)(loaded)
            loaded = wrapped
        return typer.main.get_command(loaded)

    @cached_property
    def _guests(self) -> dict[str, EntryPoint]:
        # kept: to find them the metadata of every installed distribution is read
        return {point.name: point for point in entry_points(group=GUESTS)}

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Runs a command; an error that a user can repair is printed as one message and sets the exit code."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what clusters send: stop as Ctrl-C does
        if ctx.params.get("debug"):
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _complain("interrupted. What was written is whole: run the same command again to go on.")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            raise typer.Exit(1) from None
        except Exception as error:
            code = _explain(error)
            if code is None:
                raise
            raise typer.Exit(code) from None


def _load(name: str) -> Any:  # noqa: ANN401 - a function or a typer app
    """Imports the function or app of a guest's command.

    Raises:
        SertkError: Where several guests offer it, or it does not load; each guest is named.
    """
    from sertk.core.errors import SertkError

    point, *others = entry_points(group=GUESTS, name=name)
    who = [one.dist.name if one.dist else one.value for one in (point, *others)]
    if others:
        raise SertkError(f"command {name!r} is offered by {' and '.join(who)}. Uninstall all but one of them.")
    try:
        return point.load()
    except Exception as error:
        raise SertkError(
            f"command {name!r} of {who[0]} ({point.value}) does not load: {type(error).__name__}: {error}. "
            "Repair or uninstall it."
        ) from error


def _explain(error: Exception) -> int | None:
    """Prints an error and gives its exit code; None if typer prints it itself."""
    if type(error).__module__.partition(".")[0] in ("click", "typer"):
        return None  # before torch is imported below: `sertk doctor` ends with a typer.Exit, and torch may be broken
    from sertk.core.errors import SertkError
    from sertk.core.files import sentence

    _complain(sentence(error))
    return error.exit_code if isinstance(error, SertkError) else 1


def _complain(message: str) -> None:
    from sertk.console.progress import console

    console.print(f"[bold red]error[/]: {_escaped(message)}")


def _escaped(message: str) -> str:
    from rich.markup import escape

    # a name in a hostile file may hold what a terminal takes for a command
    return escape("".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in message))

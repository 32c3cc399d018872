"""The options that `featurize`, `train` and `recipe` share, stated once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

PluginFiles = Annotated[
    list[Path],
    typer.Option("--plugin", resolve_path=True, help="A Python file with plugins of your own; repeat for more."),
]

SHARED: dict[str, tuple[Any, Any]] = {
    "system": (
        Annotated[str | None, typer.Option(help="A system by name (sertk/settings/conf/systems), or the path of one.")],
        None,
    ),
    "loss": (
        Annotated[
            list[str],
            typer.Option("--loss", help="A loss to train with, NAME[:SETTING=VALUE,...]; repeat for more."),
        ],
        [],
    ),
    "segments": (
        Annotated[
            str | None,
            typer.Option(help="Windows over frames, LENGTH:HOP[:keep|drop|align] in frames, or 2.8s:1.4s."),
        ],
        None,
    ),
    "alpha": (
        Annotated[
            str | None,
            typer.Option(help="Weight of the added losses, 0 to 1, or learned; classification has 1 - alpha."),
        ],
        None,
    ),
    "backbone": (Annotated[str | None, typer.Option(help="Backbone, NAME[:SETTING=VALUE,...].")], None),
    "pooling": (Annotated[str | None, typer.Option(help="Pooling, NAME[:SETTING=VALUE,...].")], None),
    "augment": (
        Annotated[
            list[str],
            typer.Option("--augment", help="An augmentation, NAME[:SETTING=VALUE,...]; repeat for more."),
        ],
        [],
    ),
    "set": (
        Annotated[
            list[str],
            typer.Option("--set", help="Any other setting, KEY=VALUE: train.batch=4, protocol=loso4; repeat for more."),
        ],
        [],
    ),
    "device": (Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")], None),
    "precision": (Annotated[str | None, typer.Option(help="fp32, bf16 or fp16.")], None),
    "init": (
        Annotated[
            Path | None,
            typer.Option(
                "--init", resolve_path=True, help="A bundle to continue from: training starts with its weights."
            ),
        ],
        None,
    ),
    "plugin": (PluginFiles, []),
    "trust": (
        Annotated[bool, typer.Option("--trust", help="Run the plugin files that the recipe or config.yaml names.")],
        False,
    ),
}
"""Type and default of each, by the name of the field of `sertk.settings.overrides.Choices` that holds it."""


def words_of(ctx: typer.Context, *left_out: str) -> list[str]:
    """The words of a command as it was called, its name first, without some of its options."""
    words: list[str] = [str(ctx.info_name)]
    given = [one for one in ctx.command.params if one.name and one.name not in left_out]
    for one in given:
        value = ctx.params[str(one.name)]
        if value is None or value == one.get_default(ctx):
            continue
        values = value if isinstance(value, list | tuple) else [value]
        if one.param_type_name == "argument":
            words += map(str, values)
        else:
            words += [one.opts[0]] if value is True else [word for own in values for word in (one.opts[0], str(own))]
    return words


def with_choices(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the shared options; it gets them together, as its argument `choices`."""
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.name != "choices"]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in SHARED.items()
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401 - typer has looked at each
        from sertk.settings.overrides import Choices

        choices = Choices(**{name: given.pop(name) for name in SHARED})
        command(choices=choices, **given)

    own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    run.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in [*own, *shared]} | {"return": None}
    return run

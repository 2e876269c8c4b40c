"""A typer application whose commands all know `--json`."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from mailer.cli.choices import Choices

F = TypeVar("F", bound=Callable[..., Any])


def _choose_json(context: typer.Context, value: bool) -> bool:
    if value and isinstance(context.obj, Choices):
        context.obj.as_json = True
    return value


_shared = typer.Typer(add_completion=False)


@_shared.command()
def _options(
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON document.", callback=_choose_json, expose_value=False, is_eager=True
        ),
    ] = False,
) -> None:
    """Carry the options that every command has."""


def plainly(params: list[Any], context: Any) -> list[Any]:
    """Return the options of a help page with the values that they take: a flag takes none, a list one at a time."""
    for param in params:
        if param.param_type_name != "option" or param.metavar is not None:
            continue
        if param.is_flag:
            param.metavar = ""
        elif (shown := param.display_type(context)).startswith("<list["):
            param.metavar = f"<{shown.removeprefix('<list[').removesuffix(']>')}>"
    return params


class Command(TyperCommand):
    """A command with the shared options beside its own."""

    def __init__(self, name: str | None, *, params: list[Any] | None = None, **attributes: Any) -> None:
        """Take what typer gives, and add the shared options at the end."""
        shared = typer.main.get_command(_shared).params
        super().__init__(name, params=[*(params or ()), *shared], **attributes)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments."""
        return plainly(super().get_params(ctx), ctx)


class Group(TyperGroup):
    """The commands of one noun, as their help page lists them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options."""
        return plainly(super().get_params(ctx), ctx)


class Commands(typer.Typer):
    """The commands of one noun. A command may be `async def`: the program awaits it."""

    def __init__(self, help: str = "") -> None:  # noqa: A002 (typer's name for it)
        """Show `help` above the list of commands."""
        super().__init__(
            cls=Group, help=help or None, no_args_is_help=True, add_completion=False, rich_markup_mode="rich"
        )

    def command(self, name: str | None = None, **attributes: Any) -> Callable[[F], F]:
        """Register a command as typer does."""
        return super().command(name, cls=Command, **attributes)

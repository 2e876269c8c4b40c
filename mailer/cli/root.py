"""`mailer` itself: the names of its commands. The module of a command is loaded when it is called."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mailer import __version__
from mailer.cli.choices import Choices
from mailer.cli.command import Group

# Name: what the list of commands says, and the module whose `commands` has the rest.
_RUN = "Run"
_SEND = "Send"
_KEEP = "Keep"
COMMANDS = {
    "up": ("Run all three services on this machine.", "up", _RUN),
    "health": ("Ask the services how they are.", "health", _RUN),
    "inbox": ("Run a mail inbox for development.", "inbox", _RUN),
    "account": ("SMTP accounts: add, verify, hold, release ...", "account", _SEND),
    "circuits": ("Accounts with their circuits and rests.", "circuits", _SEND),
    "template": ("Content under a name, for any number of campaigns.", "template", _SEND),
    "campaign": ("Campaigns: create, import, schedule, watch ...", "campaign", _SEND),
    "deliveries": ("Messages and what became of them.", "deliveries", _SEND),
    "delivery": ("One message with all its attempts.", "delivery", _SEND),
    "resolve": ("Decide what became of unknown deliveries.", "resolve", _SEND),
    "suppression": ("Addresses that never get mail.", "suppression", _SEND),
    "backup": ("Snapshots: create, verify, prune, restore ...", "backup", _KEEP),
}


class Root(Group):
    """Lists the commands without loading them."""

    def __init__(self, **attributes: Any) -> None:
        """Put a placeholder for each command into the list."""
        super().__init__(**attributes)
        for name, (help_text, _, panel) in COMMANDS.items():
            self.commands[name] = TyperCommand(name, help=help_text, rich_help_panel=panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that is called, loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is None or name not in COMMANDS:
            return name, command, rest
        module = import_module(f"mailer.cli.{COMMANDS[name][1]}")
        loaded = typer.main.get_command(module.commands)
        loaded.name = name
        return name, loaded, rest


app = typer.Typer(cls=Root, no_args_is_help=True, rich_markup_mode="rich")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mailer {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Exit status: 0 done, 1 refused or failed, 2 wrong command line, 3 not found, 4 wrong state, "
    "5 service not reachable, 6 not verified, 130 interrupted, 141 nobody reads the output."
)
def mailer(
    context: typer.Context,
    *,
    scheduler: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The scheduler. [dim](MAILER_SCHEDULER_ADDRESS)[/]")
    ] = None,
    sender: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The sender. [dim](MAILER_SENDER_ADDRESS)[/]")
    ] = None,
    backup: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The backup service. [dim](MAILER_BACKUP_ADDRESS)[/]")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Speak TLS and trust this authority. [dim](MAILER_CA_FILE)[/]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    version: Annotated[  # noqa: ARG001 (acts by its callback)
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Self-hosted e-mail campaigns: on time, through several accounts, with exact books.

    Every command explains itself with --help and prints one JSON document with --json.
    """
    choices = context.obj
    assert isinstance(choices, Choices)
    choices.scheduler, choices.sender, choices.backup = scheduler, sender, backup
    choices.ca_file, choices.as_json = ca_file, as_json

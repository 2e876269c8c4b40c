"""`mailer inbox`: a mail inbox for development."""

from pathlib import Path
from typing import Annotated

import typer

from mailer.cli.command import Commands
from mailer.cli.failure import Failure, usage
from mailer.cli.secret_input import read_secret
from mailer.cli.session import Session
from mailer.inbox import Listener, run

commands = Commands()


@commands.command()
def inbox(
    context: typer.Context,
    *,
    directory: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where accepted mail is kept; else inbox in MAILER_DATA_DIR.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 1025,
    user: Annotated[str, typer.Option(help="Accept mail only after AUTH as this user.")] = "",
    password_stdin: Annotated[bool, typer.Option(help="Read that user's password from stdin.")] = False,
) -> None:
    """Run an SMTP server that keeps every message as an .eml file and delivers nothing to anybody.

    Example: mailer inbox --port 1025 --directory data/inbox
    """
    session = Session(context)
    if password_stdin and not user:
        raise usage("--password-stdin is for a user: add --user.")
    password = read_secret("Password: ", from_stdin=password_stdin) if user else None
    folder = directory or session.settings.data_dir / "inbox"

    def on_ready(listener: Listener) -> None:
        address = f"{listener.host}:{listener.port}"
        if session.out.as_json:
            session.out.document({"ready": True, "address": address, "directory": str(folder)})
        else:
            session.out.print(f"Inbox at {address}; mail is kept in {folder}. Ctrl-C ends it.")

    try:
        run(directory=folder, host=host, port=port, user=user, password=password, on_ready=on_ready)
    except OSError as error:
        raise Failure(
            f"the inbox cannot work at {host}:{port} with {folder}: {error.strerror or error}; "
            "choose another --port or --directory."
        ) from None

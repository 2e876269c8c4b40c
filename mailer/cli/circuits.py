"""`mailer circuits`: which accounts take messages, and what keeps the others from it."""

import typer

from mailer.cli.account_view import circuit_table
from mailer.cli.command import Commands
from mailer.cli.listing import collect
from mailer.cli.session import Session
from mailer.v1 import sender_pb2

commands = Commands()


@commands.command()
async def circuits(context: typer.Context) -> None:
    """Show the accounts with their circuits, holds and rests.

    Example: mailer circuits
    """
    session = Session(context)
    async with session.sender() as sender:
        answer = await collect(sender.ListAccounts, sender_pb2.ListAccountsRequest(), "accounts")
    session.out.answer(answer, lambda: circuit_table(session.out, answer.accounts))

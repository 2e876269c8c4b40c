"""`mailer health`: are the services there and well?"""

import asyncio

import typer
from rich.text import Text

from mailer.cli.command import Commands
from mailer.cli.exit_code import ExitCode
from mailer.cli.output import Column, state
from mailer.cli.session import Session, name_of
from mailer.health import ask

commands = Commands()


@commands.command()
async def health(context: typer.Context) -> None:
    """Ask the services how they are; the exit status is 5 when one of them is not serving.

    Example: mailer health
    """
    session = Session(context)
    tls = session.tls
    addresses = session.addresses
    answers = await asyncio.gather(
        *(ask(address, service=service.full_name, tls=tls) for service, address in addresses.items())
    )
    services = [
        {"name": name_of(service), "address": address, "status": answer}
        for (service, address), answer in zip(addresses.items(), answers, strict=True)
    ]
    if session.out.as_json:
        session.out.document({"services": services})
    else:
        columns = (Column("service"), Column("address"), Column("status"))
        session.out.print(
            session.out.table(columns, [(one["name"], one["address"], _status(one["status"])) for one in services])
        )
    if any("cannot be reached" in answer for answer in answers):
        session.out.note("On this machine `mailer up` starts the services.", style="dim")
    if any(answer != "SERVING" for answer in answers):
        raise typer.Exit(ExitCode.UNREACHABLE)


def _status(answer: str) -> str | Text:
    return state("serving") if answer == "SERVING" else answer

"""`mailer resolve`: a person decides what became of messages whose fate nobody can tell."""

from typing import Annotated
from uuid import uuid4

import typer

from mailer.cli.command import Commands
from mailer.cli.failure import usage
from mailer.cli.question import Yes, confirm
from mailer.cli.session import QUICK, Session
from mailer.cli.words import count_of
from mailer.v1 import sender_pb2

commands = Commands()


@commands.command()
async def resolve(
    context: typer.Context,
    delivery_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Deliveries to decide.")] = None,
    *,
    run: Annotated[str, typer.Option(metavar="ID", help="Decide every unknown delivery of this run.")] = "",
    sent: Annotated[bool, typer.Option("--sent", help="They have it: book it as sent.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Send it again; they may get it twice.")] = False,
    request_id: Annotated[str | None, typer.Option(metavar="ID", help="Makes the call repeatable.")] = None,
    yes: Yes = False,
) -> None:
    """Decide what became of unknown deliveries: the server may or may not have taken them, and cannot be asked.

    Example: mailer resolve --sent 3f0c5a8e11d94b7c8a52f0c1d2e3a4b5
    """
    if sent == retry:
        raise usage("say what is decided: --sent or --retry.")
    if bool(delivery_ids) == bool(run):
        raise usage("say which: ids of deliveries, or --run for all unknown ones of a run.")
    which = (
        f"every unknown delivery of run {run}" if run else count_of(len(delivery_ids or ()), "delivery", "deliveries")
    )
    what = "Book {} as sent?" if sent else "Send {} again? Whoever has it already gets a second copy."
    confirm(what.format(which), yes=yes)
    resolution = (
        sender_pb2.ResolveUnknownRequest.RESOLUTION_SENT if sent else sender_pb2.ResolveUnknownRequest.RESOLUTION_RETRY
    )
    session = Session(context)
    async with session.sender() as sender:
        request = sender_pb2.ResolveUnknownRequest(
            request_id=request_id or uuid4().hex, delivery_ids=delivery_ids or (), run_id=run, resolution=resolution
        )
        answer = await sender.ResolveUnknown(request, timeout=QUICK)
    session.out.answer(answer, lambda: f"{count_of(answer.resolved_count, 'delivery', 'deliveries')} decided.")

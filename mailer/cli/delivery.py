"""`mailer delivery`: one message with all its attempts."""

from typing import Annotated

import typer

from mailer.cli.command import Commands
from mailer.cli.delivery_view import delivery_details
from mailer.cli.session import QUICK, Session
from mailer.v1 import sender_pb2

commands = Commands()


@commands.command()
async def delivery(
    context: typer.Context, delivery_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the delivery.")]
) -> None:
    """Show one message with all its attempts, oldest first.

    Example: mailer delivery 3f0c5a8e11d94b7c8a52f0c1d2e3a4b5
    """
    session = Session(context)
    async with session.sender() as sender:
        answer = await sender.GetDelivery(sender_pb2.GetDeliveryRequest(delivery_id=delivery_id), timeout=QUICK)
    session.out.answer(answer, lambda: delivery_details(session.out, answer.delivery, answer.attempts))

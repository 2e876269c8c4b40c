"""`mailer deliveries`: messages, and what became of them."""

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from mailer.cli.command import Commands
from mailer.cli.delivery_view import NO_DELIVERY, delivery_table
from mailer.cli.listing import Limit, campaign_id, print_list
from mailer.cli.session import Session
from mailer.cli.words import instant
from mailer.v1 import sender_pb2

commands = Commands()


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    CLAIMED = "claimed"
    DOT_INTENT = "dot-intent"
    DEFERRED = "deferred"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"


@commands.command()
async def deliveries(
    context: typer.Context,
    *,
    campaign: Annotated[str | None, typer.Option(help="Only of this campaign, by name or id.")] = None,
    run: Annotated[str, typer.Option(metavar="ID", help="Only of this run.")] = "",
    states: Annotated[
        list[DeliveryState] | None, typer.Option("--state", help="Only in this state; may be repeated.")
    ] = None,
    address: Annotated[str, typer.Option(help="Only to this address.")] = "",
    limit: Limit = 100,
) -> None:
    """List messages with what became of them, oldest first.

    Example: mailer deliveries --campaign winter --state failed --state unknown
    """
    session = Session(context)
    request = sender_pb2.ListDeliveriesRequest(
        run_id=run,
        address=address,
        states=[sender_pb2.DeliveryState.Value(f"DELIVERY_STATE_{one.name}") for one in states or ()],
    )
    if campaign is not None:
        async with session.scheduler() as scheduler:
            request.campaign_id = await campaign_id(scheduler, campaign)
    async with session.sender() as sender:
        empty = f"No message is {' or '.join(states)}." if states else NO_DELIVERY
        table = partial(delivery_table, session.out, empty=empty)
        last = await print_list(session.out, sender.ListDeliveries, request, "deliveries", table, limit=limit)
    if last.HasField("removal_time"):
        since = instant(last.removal_time)
        session.out.note(f"Messages of runs that are over for long were removed, last on {since}; their counts stay.")

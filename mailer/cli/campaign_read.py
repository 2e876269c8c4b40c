"""What there is to know about campaigns: list, show, runs, recipients, plan, preview."""

import json
from collections.abc import Iterable
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from rich.console import RenderableType

from mailer.cli.account_view import account_table
from mailer.cli.campaign_view import NO_CAMPAIGN, campaign_details, campaign_table, due_text, run_table
from mailer.cli.listing import Limit, campaign_id, print_list
from mailer.cli.output import Column, Output
from mailer.cli.session import QUICK, Session
from mailer.cli.wire_words import in_words
from mailer.cli.words import instant
from mailer.v1 import scheduler_pb2, sender_pb2

Which = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Name or id.")]


class CampaignState(StrEnum):
    """Where a campaign stands."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    HELD = "held"
    MISSED = "missed"
    FINISHED = "finished"
    CANCELLED = "cancelled"


async def list_campaigns(
    context: typer.Context,
    *,
    states: Annotated[
        list[CampaignState] | None, typer.Option("--state", help="Only in this state; may be repeated.")
    ] = None,
    limit: Limit = 100,
) -> None:
    """List the campaigns, newest first.

    Example: mailer campaign list --state running --state paused
    """
    session = Session(context)
    request = scheduler_pb2.ListCampaignsRequest(
        states=[scheduler_pb2.Campaign.State.Value(f"STATE_{one.name}") for one in states or ()]
    )
    async with session.scheduler() as scheduler:
        empty = f"No campaign is {' or '.join(states)}." if states else NO_CAMPAIGN
        table = partial(campaign_table, session.out, empty=empty)
        await print_list(session.out, scheduler.ListCampaigns, request, "campaigns", table, limit=limit)


async def show(context: typer.Context, campaign: Which) -> None:
    """Show one campaign with the progress of its latest run.

    Example: mailer campaign show winter
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        request = scheduler_pb2.GetCampaignRequest(campaign_id=await campaign_id(scheduler, campaign))
        answer = await scheduler.GetCampaign(request, timeout=QUICK)
    session.out.answer(answer, lambda: campaign_details(session.out, answer.campaign))


async def runs(context: typer.Context, campaign: Which, *, limit: Limit = 100) -> None:
    """List the runs of a campaign, newest first.

    Example: mailer campaign runs winter
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        request = scheduler_pb2.ListRunsRequest(campaign_id=await campaign_id(scheduler, campaign))
        await print_list(session.out, scheduler.ListRuns, request, "runs", partial(run_table, session.out), limit=limit)


async def recipients(context: typer.Context, campaign: Which, *, limit: Limit = 100) -> None:
    """List the recipients of a campaign in the order in which they were added.

    Example: mailer campaign recipients winter --limit 20
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        request = scheduler_pb2.ListRecipientsRequest(campaign_id=await campaign_id(scheduler, campaign))
        table = partial(_recipient_table, session.out)
        await print_list(session.out, scheduler.ListRecipients, request, "recipients", table, limit=limit)


async def plan(context: typer.Context, campaign: Which) -> None:
    """Tell what would be sent, through which accounts, and when it would finish; sends nothing.

    Example: mailer campaign plan winter
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        request = scheduler_pb2.PlanCampaignRequest(campaign_id=await campaign_id(scheduler, campaign))
        answer = await scheduler.PlanCampaign(request, timeout=QUICK)
    fields = [
        ("recipients", f"{answer.recipient_count:,}"),
        ("due", due_text(answer.due_times)),
        ("expected finish", instant(answer.expected_finish_time) or "no cap bounds it"),
        ("in the way", "\n".join(map(in_words, answer.problems)) or "nothing"),
    ]
    session.out.answer(answer, lambda: session.out.fields(fields))
    if not session.out.as_json:
        session.out.print(account_table(session.out, answer.accounts))


def _recipient_table(out: Output, recipients: Iterable[sender_pb2.Recipient]) -> RenderableType | str:
    columns = (Column("address"), Column("name"), Column("variables"))
    rows = ((one.address, one.display_name, _variables(one)) for one in recipients)
    return out.table(columns, rows, empty="It has no recipients. Add some: mailer campaign import ... people.csv")


def _variables(recipient: sender_pb2.Recipient) -> str:
    return json.dumps(MessageToDict(recipient.variables), ensure_ascii=False) if recipient.variables.fields else ""

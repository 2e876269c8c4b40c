"""What can be done to a campaign that is there: pause, resume, cancel, retry, remove."""

from typing import Annotated
from uuid import uuid4

import typer

from mailer.cli.campaign_view import campaign_state
from mailer.cli.failure import Failure
from mailer.cli.listing import campaign_id
from mailer.cli.question import Yes, confirm
from mailer.cli.session import QUICK, Session
from mailer.cli.words import count_of
from mailer.v1 import scheduler_pb2

# A large campaign is paused, cancelled or retried in one transaction.
_LONG = 120.0

Which = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Name or id.")]


async def pause(
    context: typer.Context,
    campaign: Which,
    *,
    reason: Annotated[str, typer.Option(help="For whoever reads it later.")] = "",
) -> None:
    """Stop a campaign within a second; messages at their final dot are finished.

    Example: mailer campaign pause winter --reason "wrong price"
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        request = scheduler_pb2.PauseCampaignRequest(campaign_id=await campaign_id(scheduler, campaign), reason=reason)
        answer = await scheduler.PauseCampaign(request, timeout=_LONG)
    go_on = f'Let it go on: mailer campaign resume "{answer.campaign.name}"'
    session.out.answer(answer, lambda: _now(answer.campaign, go_on))


async def resume(context: typer.Context, campaign: Which) -> None:
    """Let a campaign go on that is paused, held after a restore, or missed.

    Example: mailer campaign resume winter
    """
    session = Session(context)
    try:
        async with session.scheduler() as scheduler:
            request = scheduler_pb2.ResumeCampaignRequest(campaign_id=await campaign_id(scheduler, campaign))
            answer = await scheduler.ResumeCampaign(request, timeout=_LONG)
    except Failure as failure:
        if failure.metadata.get("state") == "RUNNING":
            failure.sentence = f'"{campaign}" is running already. Follow it: mailer campaign watch "{campaign}"'
        raise
    session.out.answer(
        answer, lambda: _now(answer.campaign, f'Follow it: mailer campaign watch "{answer.campaign.name}"')
    )


async def cancel(context: typer.Context, campaign: Which, *, yes: Yes = False) -> None:
    """Cancel what is not yet at its final dot; it cannot be undone.

    Example: mailer campaign cancel winter --yes
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        wanted = await campaign_id(scheduler, campaign)
        found = (
            await scheduler.GetCampaign(scheduler_pb2.GetCampaignRequest(campaign_id=wanted), timeout=QUICK)
        ).campaign
        confirm(f'Cancel "{found.name}" ({campaign_state(found)})? It cannot be undone.', yes=yes)
        answer = await scheduler.CancelCampaign(scheduler_pb2.CancelCampaignRequest(campaign_id=wanted), timeout=_LONG)
    session.out.answer(answer, lambda: _now(answer.campaign))


async def retry_failed(
    context: typer.Context,
    campaign: Which,
    *,
    include_expired: Annotated[bool, typer.Option("--include-expired", help="Those that expired too.")] = False,
    request_id: Annotated[str | None, typer.Option(metavar="ID", help="Makes the call repeatable.")] = None,
) -> None:
    """Send again to those, and only those, whose delivery in the latest run failed.

    Example: mailer campaign retry-failed winter
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        request = scheduler_pb2.RetryFailedRequest(
            request_id=request_id or uuid4().hex,
            campaign_id=await campaign_id(scheduler, campaign),
            include_expired=include_expired,
        )
        answer = await scheduler.RetryFailed(request, timeout=_LONG)
    session.out.answer(answer, lambda: f"{count_of(answer.retried_count, 'message')} queued again.")


async def remove(context: typer.Context, campaign: Which, *, yes: Yes = False) -> None:
    """Remove a campaign with its recipients.

    Example: mailer campaign remove draft --yes
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        wanted = await campaign_id(scheduler, campaign)
        found = (
            await scheduler.GetCampaign(scheduler_pb2.GetCampaignRequest(campaign_id=wanted), timeout=QUICK)
        ).campaign
        confirm(f'Remove "{found.name}" with {count_of(found.recipient_count, "recipient")}?', yes=yes)
        answer = await scheduler.DeleteCampaign(scheduler_pb2.DeleteCampaignRequest(campaign_id=wanted), timeout=_LONG)
    session.out.answer(answer, lambda: f'"{found.name}" is removed.')


def _now(campaign: scheduler_pb2.Campaign, next_step: str = "") -> str:
    reason = f" ({campaign.state_reason})" if campaign.state_reason else ""
    return f'"{campaign.name}" is {campaign_state(campaign)}{reason}. {next_step}'.rstrip()

"""`mailer campaign watch`: a campaign under way, until it is finished. Watching changes nothing."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated

import typer

from mailer.cli.exit_code import ExitCode
from mailer.cli.failure import Failure
from mailer.cli.listing import campaign_id, collect
from mailer.cli.output import to_dict
from mailer.cli.session import QUICK, Session
from mailer.cli.watch_view import LinesView, LiveView, Progress, View, summary
from mailer.v1 import scheduler_pb2, sender_pb2

Which = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Name or id.")]

_WATCH_FOR = 30 * 24 * 3600.0
_ACCOUNTS_EVERY = 2.0
_SETTLES = 10
_SETTLE_EVERY = 0.5
_RECONNECT = (0.2, 0.5, 1.0, 2.0, 3.0)
_OVER = {scheduler_pb2.Campaign.STATE_FINISHED, scheduler_pb2.Campaign.STATE_CANCELLED}
# What goes by itself: the service restarts, or its stop ended the stream.
_PASSING = {"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED"}


async def watch(
    context: typer.Context,
    campaign: Which,
    *,
    strict: Annotated[bool, typer.Option(help="Exit status 1 when a message was not sent.")] = False,
) -> None:
    """Show the progress of a campaign until it is finished or cancelled; Ctrl-C ends the watching only.

    With --json the last state is printed at the end.

    Example: mailer campaign watch winter
    """
    session = Session(context)
    async with session.scheduler() as scheduler:
        wanted = await campaign_id(scheduler, campaign)
    try:
        with LiveView(session.out) if session.out.live else LinesView(session.out, session.clock) as view:
            last = await _follow(session, wanted, view)
    except asyncio.CancelledError:
        session.out.note(f"The campaign goes on; watch it again: mailer campaign watch {wanted}")
        raise
    await _settle(session, last.campaign)
    if session.out.as_json:
        session.out.document(to_dict(last))
    else:
        session.out.print(summary(session.out, last))
    if strict and _not_sent(last.campaign.latest_run.counts):
        raise typer.Exit(ExitCode.REFUSED)


async def _follow(session: Session, wanted: str, view: View) -> scheduler_pb2.WatchCampaignResponse:
    """Show what comes until the campaign is over; returns the last of it."""
    progress = Progress()
    async with asyncio.TaskGroup() as tasks, aclosing(_updates(session, wanted, progress, view)) as updates:
        accounts = tasks.create_task(_follow_accounts(session, progress, view))
        async for update in updates:
            progress.last, progress.trouble = update, ""
            view.show(progress)
        accounts.cancel()
    assert progress.last is not None
    return progress.last


async def _settle(session: Session, campaign: scheduler_pb2.Campaign) -> None:
    """Wait a little until a campaign that is over counts nothing as pending: what it cancelled is booked behind it."""
    request = scheduler_pb2.GetCampaignRequest(campaign_id=campaign.campaign_id)
    with suppress(Failure):
        async with session.scheduler() as scheduler:
            for _ in range(_SETTLES):
                counts = campaign.latest_run.counts
                if not (counts.pending_count or counts.in_progress_count):
                    return
                await session.clock.sleep(_SETTLE_EVERY)
                campaign.CopyFrom((await scheduler.GetCampaign(request, timeout=QUICK)).campaign)


async def _updates(
    session: Session, wanted: str, progress: Progress, view: View
) -> AsyncGenerator[scheduler_pb2.WatchCampaignResponse]:
    """Yield updates over as many streams as it takes: a restart of the scheduler ends a stream, not the campaign."""
    request = scheduler_pb2.WatchCampaignRequest(campaign_id=wanted)
    waits = iter(_RECONNECT)
    last = None
    while last is None or last.campaign.state not in _OVER:
        if last is not None:
            progress.trouble = "the scheduler is away; connecting again"
            view.show(progress)
            await session.clock.sleep(next(waits, _RECONNECT[-1]))
        try:
            async with session.scheduler() as scheduler:
                call = scheduler.WatchCampaign(request, timeout=_WATCH_FOR)
                try:
                    async for last in call:
                        waits = iter(_RECONNECT)
                        yield last
                finally:
                    call.cancel()
        except Failure as failure:
            if last is None or failure.code not in _PASSING:
                raise


async def _follow_accounts(session: Session, progress: Progress, view: View) -> None:
    """Keep the accounts fresh. They are a courtesy: a sender that does not answer is said, and asked again."""
    while True:
        try:
            async with session.sender() as sender:
                while True:
                    request = sender_pb2.ListAccountsRequest()
                    answer = await collect(sender.ListAccounts, request, "accounts")
                    progress.accounts, progress.accounts_trouble = tuple(answer.accounts), ""
                    view.show(progress)
                    await session.clock.sleep(_ACCOUNTS_EVERY)
        except Failure as failure:
            progress.accounts_trouble = failure.sentence
            await session.clock.sleep(_ACCOUNTS_EVERY)


def _not_sent(counts: sender_pb2.DeliveryCounts) -> int:
    return counts.total_count - counts.sent_count

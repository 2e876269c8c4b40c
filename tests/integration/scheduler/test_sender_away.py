"""A sender that is away while something is decided: it hears of that first, and at once when it is back."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mailer.v1 import scheduler_pb2
from tests.fakes.sender import FakeSender
from tests.integration.scheduler.conftest import Scheduler, draft, eventually, listening, schedule

# Longer than any pause that has not grown: a back-off would be at more than a second by now.
AWAY_SECONDS = 3.0
# A connection takes up to 0.24 s to be tried again, and so does the call; the rest is for a busy machine.
AT_ONCE_SECONDS = 2.0


@pytest.fixture
async def sender() -> FakeSender:
    """Return a sender that is not there, and delivers nothing."""
    fake = FakeSender()
    fake.delivers = False
    async with listening(fake):
        return fake


async def sending(scheduler: Scheduler, sender: FakeSender) -> str:
    """Hand a campaign over to a sender that is there until it has everybody; return the campaign's id."""
    async with listening(sender):
        campaign_id = await draft(scheduler.stub, 5)
        await schedule(scheduler.stub, campaign_id)
        await eventually(lambda: sender.go_aheads)
    sender.calls.clear()
    sender.go_aheads.clear()
    return campaign_id


async def test_a_pause_is_told_as_soon_as_the_sender_is_back(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await sending(scheduler, sender)
    await scheduler.stub.PauseCampaign(scheduler_pb2.PauseCampaignRequest(campaign_id=campaign_id), timeout=5)
    await asyncio.sleep(AWAY_SECONDS)
    async with listening(sender):
        await eventually(lambda: sender.calls, seconds=AT_ONCE_SECONDS)
        await asyncio.sleep(AT_ONCE_SECONDS)
    assert sender.calls[0] == "PauseRun"
    assert not sender.go_aheads


async def test_a_cancellation_is_told_as_soon_as_the_sender_is_back(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await sending(scheduler, sender)
    await asyncio.sleep(AWAY_SECONDS)
    await scheduler.stub.CancelCampaign(scheduler_pb2.CancelCampaignRequest(campaign_id=campaign_id), timeout=5)
    async with listening(sender):
        await eventually(lambda: sender.calls, seconds=AT_ONCE_SECONDS)
    assert sender.calls[0] == "CancelRun"
    assert not sender.go_aheads


async def test_a_run_that_goes_on_gets_its_go_ahead_as_soon_as_the_sender_is_back(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    await sending(scheduler, sender)
    await asyncio.sleep(AWAY_SECONDS)
    async with listening(sender):
        await eventually(lambda: sender.go_aheads, seconds=AT_ONCE_SECONDS)


async def test_a_hand_over_goes_on_as_soon_as_the_sender_is_back(
    schedulers: Callable[..., Awaitable[Scheduler]], sender: FakeSender
) -> None:
    scheduler = await schedulers(batch_size=10)
    await schedule(scheduler.stub, await draft(scheduler.stub, 5))
    await asyncio.sleep(AWAY_SECONDS)
    async with listening(sender):
        # A batch is repeated by the channel, too, with pauses of up to a second.
        await eventually(lambda: sender.requests, seconds=AT_ONCE_SECONDS + 1)

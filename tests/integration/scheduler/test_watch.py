"""WatchCampaign: at once, after each change, until the end."""

import asyncio
from datetime import timedelta

import grpc

from mailer.v1 import scheduler_pb2
from mailer.wire import to_timestamp
from tests.fakes.sender import FakeSender
from tests.integration.scheduler.conftest import Campaign, Scheduler, draft, eventually, refused, schedule


async def watch(scheduler: Scheduler, campaign_id: str) -> list[scheduler_pb2.WatchCampaignResponse]:
    """Return everything that a watcher sees until the stream ends by itself."""
    request = scheduler_pb2.WatchCampaignRequest(campaign_id=campaign_id)
    return [message async for message in scheduler.stub.WatchCampaign(request, timeout=20)]


async def test_a_watcher_sees_the_campaign_from_here_to_its_end(scheduler: Scheduler, sender: FakeSender) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 35)
    watching = asyncio.create_task(watch(scheduler, campaign_id))
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 35)
    (run,) = sender.runs.values()
    for key in list(run.deliveries)[:20]:
        run.deliveries[key] = "sent"
    await asyncio.sleep(1)
    sender.deliver()
    seen = await watching
    states = [message.campaign.state for message in seen]
    assert states[0] in {Campaign.STATE_DRAFT, Campaign.STATE_RUNNING}
    assert states[-1] == Campaign.STATE_FINISHED
    sent = [message.campaign.latest_run.counts.sent_count for message in seen]
    assert sent == sorted(sent)
    assert sent[-1] == 35
    assert 20 in sent
    assert len(seen) <= 20


async def test_the_watch_of_a_finished_campaign_is_one_message(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 1)
    await schedule(scheduler.stub, campaign_id)
    first = await watch(scheduler, campaign_id)
    assert first[-1].campaign.state == Campaign.STATE_FINISHED
    assert len(await watch(scheduler, campaign_id)) == 1


async def test_many_watchers_ask_the_sender_no_more_often_than_one(scheduler: Scheduler, sender: FakeSender) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 3)
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 3)
    watching = [asyncio.create_task(watch(scheduler, campaign_id)) for _ in range(20)]
    asked = sender.calls.count("GetRun")
    await asyncio.sleep(1)
    asked = sender.calls.count("GetRun") - asked
    sender.deliver()
    ends = [messages[-1].campaign.state for messages in await asyncio.gather(*watching)]
    assert set(ends) == {Campaign.STATE_FINISHED}
    assert asked <= 12


async def test_the_watch_of_a_cancelled_campaign_ends(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 1)
    await schedule(scheduler.stub, campaign_id, send_time=to_timestamp(scheduler.clock.now() + timedelta(hours=1)))
    watching = asyncio.create_task(watch(scheduler, campaign_id))
    await scheduler.stub.CancelCampaign(scheduler_pb2.CancelCampaignRequest(campaign_id=campaign_id), timeout=20)
    assert (await watching)[-1].campaign.state == Campaign.STATE_CANCELLED


async def test_what_does_not_exist_cannot_be_watched(scheduler: Scheduler) -> None:
    async with refused(grpc.StatusCode.NOT_FOUND):
        await watch(scheduler, "0" * 32)
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"campaign_id"}):
        await watch(scheduler, "")

"""Pause, resume, cancel, retry, missed: what is decided holds, and the sender hears of it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import grpc

from mailer.v1 import scheduler_pb2
from mailer.wire import from_timestamp, to_duration, to_timestamp
from tests.fakes.sender import FakeSender
from tests.integration.scheduler.conftest import (
    Campaign,
    CampaignRun,
    Scheduler,
    becomes,
    draft,
    eventually,
    get,
    has_ended,
    new_request_id,
    reaches,
    refused,
    schedule,
)

Schedulers = Callable[..., Awaitable[Scheduler]]


async def pause(scheduler: Scheduler, campaign_id: str, reason: str = "") -> scheduler_pb2.Campaign:
    request = scheduler_pb2.PauseCampaignRequest(campaign_id=campaign_id, reason=reason)
    return (await scheduler.stub.PauseCampaign(request, timeout=20)).campaign


async def resume(scheduler: Scheduler, campaign_id: str) -> scheduler_pb2.Campaign:
    request = scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign_id)
    return (await scheduler.stub.ResumeCampaign(request, timeout=20)).campaign


async def cancel(scheduler: Scheduler, campaign_id: str) -> scheduler_pb2.Campaign:
    request = scheduler_pb2.CancelCampaignRequest(campaign_id=campaign_id)
    return (await scheduler.stub.CancelCampaign(request, timeout=20)).campaign


async def test_a_pause_stops_the_hand_over_and_tells_the_sender(scheduler: Scheduler, sender: FakeSender) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 35)
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: len(sender.requests) >= 1)
    campaign = await pause(scheduler, campaign_id, "a typo")
    assert (campaign.state, campaign.state_reason) == (Campaign.STATE_PAUSED, "a typo")
    (run,) = sender.runs.values()
    await eventually(lambda: run.state == "paused", seconds=3)
    assert run.reason == "a typo"
    handed_over = sum(sender.handed_over.values())
    sender.delivers = True
    await resume(scheduler, campaign_id)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert handed_over <= 35
    assert set(sender.copies.values()) == {1}
    assert len(sender.copies) == 35


async def test_a_pause_does_not_wait_for_a_sender_that_hangs(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await draft(scheduler.stub, 35)
    sender.gate.clear()
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: "SendBatch" in sender.calls)
    async with asyncio.timeout(3):
        await pause(scheduler, campaign_id)
    await eventually(lambda: "PauseRun" in sender.calls, seconds=3)
    sender.gate.set()
    assert not sender.requests
    assert (await get(scheduler.stub, campaign_id)).state == Campaign.STATE_PAUSED


async def test_pausing_a_paused_campaign_changes_nothing(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 1)
    await schedule(scheduler.stub, campaign_id, send_time=to_timestamp(scheduler.clock.now() + timedelta(hours=1)))
    await pause(scheduler, campaign_id, "first")
    assert (await pause(scheduler, campaign_id, "second")).state_reason == "first"


async def test_a_paused_campaign_does_not_start_and_resumed_it_does(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await draft(scheduler.stub, 3)
    await schedule(scheduler.stub, campaign_id, send_time=to_timestamp(scheduler.clock.now() + timedelta(minutes=10)))
    await pause(scheduler, campaign_id)
    scheduler.clock.shift = timedelta(minutes=20)
    other = await draft(scheduler.stub, 1)
    await schedule(scheduler.stub, other)
    await reaches(scheduler.stub, other, Campaign.STATE_FINISHED)
    assert (await get(scheduler.stub, campaign_id)).state == Campaign.STATE_PAUSED
    assert (await resume(scheduler, campaign_id)).state in {Campaign.STATE_SCHEDULED, Campaign.STATE_RUNNING}
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)


async def test_a_decision_is_told_after_a_restart_when_the_sender_did_not_hear_it(
    schedulers: Schedulers, sender: FakeSender
) -> None:
    first = await schedulers(batch_size=10)
    sender.delivers = False
    campaign_id = await draft(first.stub, 35)
    await schedule(first.stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 35)
    deaf = await schedulers(sender_address="127.0.0.1:1")
    await first.stop()
    await cancel(deaf, campaign_id)
    await deaf.stop()
    assert "CancelRun" not in sender.calls
    second = await schedulers(batch_size=10)
    await eventually(lambda: "CancelRun" in sender.calls)
    (run,) = sender.runs.values()
    assert run.state == "cancelled"
    campaign = await becomes(second.stub, campaign_id, has_ended)
    assert campaign.state == Campaign.STATE_CANCELLED
    assert campaign.latest_run.counts.cancelled_count == 35


async def test_after_a_cancel_no_batch_is_sent(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await draft(scheduler.stub, 35)
    sender.gate.clear()
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: "SendBatch" in sender.calls)
    campaign = await cancel(scheduler, campaign_id)
    assert campaign.state == Campaign.STATE_CANCELLED
    await eventually(lambda: "CancelRun" in sender.calls, seconds=3)
    sender.gate.set()
    await becomes(scheduler.stub, campaign_id, has_ended)
    assert "sent" not in {state for run in sender.runs.values() for state in run.deliveries.values()}
    assert sender.calls.count("SendBatch") == 1
    assert (await cancel(scheduler, campaign_id)).state == Campaign.STATE_CANCELLED


async def test_a_cancelled_campaign_cannot_be_resumed_or_scheduled(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 1)
    await cancel(scheduler, campaign_id)
    async with refused(grpc.StatusCode.FAILED_PRECONDITION, reason="WRONG_STATE"):
        await resume(scheduler, campaign_id)
    async with refused(grpc.StatusCode.FAILED_PRECONDITION, reason="WRONG_STATE"):
        await schedule(scheduler.stub, campaign_id)
    async with refused(grpc.StatusCode.FAILED_PRECONDITION, reason="WRONG_STATE"):
        await pause(scheduler, campaign_id)


async def test_a_finished_campaign_cannot_be_cancelled(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 1)
    await schedule(scheduler.stub, campaign_id)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    async with refused(grpc.StatusCode.FAILED_PRECONDITION, reason="WRONG_STATE"):
        await cancel(scheduler, campaign_id)


async def miss(scheduler: Scheduler, count: int = 3) -> str:
    """Return a campaign that was due two hours ago, while nobody could fire it."""
    campaign_id = await draft(scheduler.stub, count)
    await schedule(
        scheduler.stub,
        campaign_id,
        send_time=to_timestamp(scheduler.clock.now() + timedelta(minutes=10)),
        max_lateness=to_duration(timedelta(minutes=30)),
    )
    scheduler.clock.shift = timedelta(hours=2)
    return campaign_id


async def test_a_campaign_due_too_long_ago_asks_a_person(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await miss(scheduler)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_MISSED)
    assert "resume" in campaign.state_reason
    assert campaign.latest_run.state == CampaignRun.STATE_MISSED
    assert not campaign.latest_run.HasField("start_time")
    assert "SendBatch" not in sender.calls


async def test_a_missed_campaign_resumed_is_sent_now_under_its_slot(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await miss(scheduler)
    missed = await reaches(scheduler.stub, campaign_id, Campaign.STATE_MISSED)
    await resume(scheduler, campaign_id)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert campaign.latest_run.run_id == missed.latest_run.run_id
    assert campaign.latest_run.slot_time == missed.latest_run.slot_time
    late = from_timestamp(campaign.latest_run.start_time) - from_timestamp(campaign.latest_run.slot_time)
    assert late > timedelta(minutes=100)
    assert len(sender.copies) == 3


async def test_a_missed_campaign_cancelled_never_reaches_the_sender(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await miss(scheduler)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_MISSED)
    campaign = await cancel(scheduler, campaign_id)
    assert campaign.latest_run.state == CampaignRun.STATE_CANCELLED
    assert campaign.latest_run.HasField("end_time")
    assert not sender.runs


async def test_retry_sends_again_to_those_that_failed(scheduler: Scheduler, sender: FakeSender) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 5)
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 5)
    (run,) = sender.runs.values()
    run.deliveries["user2@example.org"] = "failed"
    sender.deliver()
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert campaign.latest_run.counts.failed_count == 1
    request = scheduler_pb2.RetryFailedRequest(request_id=new_request_id(), campaign_id=campaign_id)
    answer = await scheduler.stub.RetryFailed(request, timeout=20)
    assert answer.retried_count == 1
    assert answer.campaign.state == Campaign.STATE_RUNNING
    assert answer.campaign.latest_run.state == CampaignRun.STATE_SENDING
    assert await scheduler.stub.RetryFailed(request, timeout=20) == answer
    sender.deliver()
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert campaign.latest_run.counts.sent_count == 5


async def test_retry_with_nothing_failed_finishes_again(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 2)
    await schedule(scheduler.stub, campaign_id)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    request = scheduler_pb2.RetryFailedRequest(request_id=new_request_id(), campaign_id=campaign_id)
    assert (await scheduler.stub.RetryFailed(request, timeout=20)).retried_count == 0
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)


async def test_retry_needs_a_run_that_has_sent(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 2)
    request = scheduler_pb2.RetryFailedRequest(request_id=new_request_id(), campaign_id=campaign_id)
    async with refused(grpc.StatusCode.FAILED_PRECONDITION, reason="WRONG_STATE"):
        await scheduler.stub.RetryFailed(request, timeout=20)


async def test_decisions_need_a_campaign_that_exists(scheduler: Scheduler) -> None:
    for decide in (pause, resume, cancel):
        async with refused(grpc.StatusCode.NOT_FOUND):
            await decide(scheduler, "0" * 32)
        async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"campaign_id"}):
            await decide(scheduler, "")
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"campaign_id", "reason"}):
        await pause(scheduler, "../../etc/passwd", "x" * 501)

"""A snapshot is restored into the system at work: nothing is sent until a person says so, and nobody gets it twice."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from mailer.clock import SystemClock
from mailer.v1 import backup_pb2, scheduler_pb2, sender_pb2
from mailer.wire import to_timestamp
from tests.fakes.system import CONTENT, Operator, running_system

COUNT = 200
QUIET_SECONDS = 1.5
HELD = scheduler_pb2.Campaign.STATE_HELD


async def snapshot(operator: Operator) -> str:
    request = backup_pb2.BackupCreateRequest(request_id=uuid4().hex)
    return (await operator.system.backup.Create(request, timeout=30)).snapshot.snapshot_id


async def restore(operator: Operator, snapshot_id: str) -> backup_pb2.BackupRestoreResponse:
    request = backup_pb2.BackupRestoreRequest(request_id=uuid4().hex, snapshot_id=snapshot_id)
    return await operator.system.backup.Restore(request, timeout=30)


async def resume(operator: Operator, campaign_id: str) -> None:
    request = scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign_id)
    await operator.system.scheduler.ResumeCampaign(request, timeout=10)


async def held(operator: Operator) -> list[str]:
    """Return the campaigns that wait for a person."""
    request = scheduler_pb2.ListCampaignsRequest(states=[HELD])
    answer = await operator.system.scheduler.ListCampaigns(request, timeout=10)
    return [campaign.campaign_id for campaign in answer.campaigns]


async def arrives_while_nobody_acts(operator: Operator) -> int:
    """Return how many messages the inbox accepts while nothing is asked for."""
    before = len(operator.accepted())
    await asyncio.sleep(QUIET_SECONDS)
    return len(operator.accepted()) - before


async def becomes(operator: Operator, campaign_id: str, state: "scheduler_pb2.Campaign.State.ValueType") -> None:
    async with asyncio.timeout(10):
        while (await operator.progress(campaign_id)).state != state:
            await asyncio.sleep(0.05)


async def test_a_run_that_has_gone_out_since_is_held_and_then_sends_to_nobody_twice(tmp_path: Path) -> None:
    async with running_system(tmp_path, "a", delay=0.02) as operator:
        await operator.add_account("a")
        campaign_id = await operator.campaign(COUNT)
        await operator.arrived(COUNT // 4)
        half_way = await snapshot(operator)
        await operator.finished(campaign_id)
        answer = await restore(operator, half_way)
        assert answer.sent_since_count > 0
        await becomes(operator, campaign_id, HELD)
        assert await arrives_while_nobody_acts(operator) == 0
        await resume(operator, campaign_id)
        campaign = await operator.finished(campaign_id)
        assert campaign.latest_run.counts.sent_count == COUNT
        assert set(operator.copies().values()) == {1}
        assert len(operator.copies()) == COUNT


async def test_a_restore_in_the_middle_of_sending_stops_it_and_loses_nobody(tmp_path: Path) -> None:
    async with running_system(tmp_path, "a", delay=0.05) as operator:
        await operator.add_account("a")
        campaign_id = await operator.campaign(COUNT)
        await operator.arrived(COUNT // 8)
        early = await snapshot(operator)
        await operator.arrived(COUNT // 3)
        await restore(operator, early)
        await becomes(operator, campaign_id, HELD)
        await asyncio.sleep(0.5)  # what was at its final dot may still arrive
        assert await arrives_while_nobody_acts(operator) == 0
        await resume(operator, campaign_id)
        campaign = await operator.finished(campaign_id)
        counts = campaign.latest_run.counts
        assert max(operator.copies().values()) == 1
        assert counts.sent_count + counts.unknown_count == COUNT
        assert counts.unknown_count <= 10
        assert len(operator.copies()) >= counts.sent_count


@pytest.mark.parametrize(
    ("point", "sent_since"), [("before it existed", COUNT), ("as a draft", COUNT), ("once it was finished", 0)]
)
async def test_a_campaign_that_has_gone_out_reaches_nobody_again_whenever_the_snapshot_was_taken(
    tmp_path: Path, point: str, sent_since: int
) -> None:
    async with running_system(tmp_path, "a", delay=0.01) as operator:
        await operator.add_account("a")
        taken = await snapshot(operator)
        campaign_id = await draft(operator, COUNT)
        if point == "as a draft":
            taken = await snapshot(operator)
        await schedule(operator, campaign_id)
        await operator.finished(campaign_id)
        if point == "once it was finished":
            taken = await snapshot(operator)
        assert (await restore(operator, taken)).sent_since_count == sent_since
        assert await arrives_while_nobody_acts(operator) == 0
        for held_id in await held(operator):
            await resume(operator, held_id)
        await operator.finished(campaign_id)
        assert await arrives_while_nobody_acts(operator) == 0
        assert len(operator.copies()) == COUNT
        assert set(operator.copies().values()) == {1}


async def test_a_campaign_that_fired_after_the_snapshot_does_not_fire_again(tmp_path: Path) -> None:
    async with running_system(tmp_path, "a") as operator:
        await operator.add_account("a")
        campaign_id = await scheduled(operator, count=20, delay=timedelta(seconds=4))
        before = await snapshot(operator)
        await operator.finished(campaign_id)
        await restore(operator, before)
        await becomes(operator, campaign_id, scheduler_pb2.Campaign.STATE_FINISHED)
        assert await arrives_while_nobody_acts(operator) == 0
        assert set(operator.copies().values()) == {1}


async def test_with_the_database_lost_started_runs_are_unknown_and_nothing_is_sent(tmp_path: Path) -> None:
    async with running_system(tmp_path, "a", delay=0.02) as operator:
        await operator.add_account("a")
        campaign_id = await operator.campaign(COUNT)
        await operator.arrived(COUNT // 4)
        half_way = await snapshot(operator)
        await operator.finished(campaign_id)
        for name in ("scheduler", "sender"):
            await operator.system.end(name, signal.SIGTERM)
        lose_database(tmp_path)
        await restore(operator, half_way)
        for name in ("sender", "scheduler"):
            await operator.start(name)
        await becomes(operator, campaign_id, HELD)
        assert await arrives_while_nobody_acts(operator) == 0
        await resume(operator, campaign_id)
        assert await arrives_while_nobody_acts(operator) == 0
        run_id = (await operator.progress(campaign_id)).latest_run.run_id
        request = sender_pb2.GetRunRequest(run_id=run_id)
        counts = (await operator.system.sender.GetRun(request, timeout=10)).run.counts
        assert counts.sent_count + counts.unknown_count == COUNT
        assert counts.unknown_count > 0
        assert set(operator.copies().values()) == {1}


async def test_services_go_on_with_a_database_that_was_lost_under_them_and_put_back(tmp_path: Path) -> None:
    async with running_system(tmp_path, "a") as operator:
        await operator.add_account("a")
        taken = await snapshot(operator)
        lose_database(tmp_path)
        await restore(operator, taken)
        campaign_id = await once_available(lambda: operator.campaign(10))
        await operator.finished(campaign_id)
        assert set(operator.copies().values()) == {1}


async def once_available(act: Callable[[], Awaitable[str]]) -> str:
    """Act as a client does whom UNAVAILABLE told that nothing was done."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await act()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.1)


async def scheduled(operator: Operator, *, count: int, delay: timedelta) -> str:
    """Make a campaign that fires after a while; return its id."""
    campaign_id = await draft(operator, count)
    await schedule(operator, campaign_id, delay=delay)
    return campaign_id


async def schedule(operator: Operator, campaign_id: str, *, delay: timedelta = timedelta()) -> None:
    request = scheduler_pb2.ScheduleCampaignRequest(request_id=uuid4().hex, campaign_id=campaign_id)
    if delay:
        request.schedule.send_time.CopyFrom(to_timestamp(SystemClock().now() + delay))
    await operator.system.scheduler.ScheduleCampaign(request, timeout=10)


async def draft(operator: Operator, count: int) -> str:
    created = await operator.system.scheduler.CreateCampaign(
        scheduler_pb2.CreateCampaignRequest(
            request_id=uuid4().hex, campaign=scheduler_pb2.Campaign(name=uuid4().hex, content=CONTENT)
        ),
        timeout=10,
    )
    campaign_id = created.campaign.campaign_id
    request = scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id)
    for number in range(count):
        recipient = request.recipients.add(address=f"p{number}@post.example")
        recipient.variables.update({"name": f"Person {number}"})

    async def requests() -> "AsyncIterator[scheduler_pb2.AddRecipientsRequest]":
        yield request

    await operator.system.scheduler.AddRecipients(requests(), timeout=10)
    return campaign_id


def lose_database(folder: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        (folder / f"mailer.db{suffix}").unlink(missing_ok=True)

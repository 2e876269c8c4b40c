"""Each service is killed in the middle of a run and started again: nobody is left out, nobody has two copies."""

import asyncio
from pathlib import Path

import pytest

from mailer.v1 import scheduler_pb2, sender_pb2, sender_pb2_grpc
from services.sender.go_ahead import GRACE_SECONDS
from tests.fakes.system import running_system

COUNT = 300


@pytest.mark.parametrize("name", ["scheduler", "sender", "backup"])
async def test_a_killed_service_goes_on_where_it_was(tmp_path: Path, name: str) -> None:
    async with running_system(tmp_path, "a", "b", delay=0.02) as operator:
        await operator.add_account("a")
        await operator.add_account("b")
        campaign_id = await operator.campaign(COUNT)
        await operator.arrived(60)
        await operator.kill(name)
        await operator.start(name)
        campaign = await operator.finished(campaign_id)
        counts = campaign.latest_run.counts
        copies = operator.copies()
        assert max(copies.values()) == 1
        assert counts.sent_count + counts.unknown_count == COUNT
        # A message of which nobody can tell is listed, and never more of them than connections that were open.
        assert counts.unknown_count <= (10 if name == "sender" else 0)
        assert len(copies) >= counts.sent_count
        assert set(copies) | await unknown(operator.system.sender, campaign.latest_run.run_id) == {
            f"p{number}@post.example" for number in range(COUNT)
        }


@pytest.mark.parametrize("decision", ["pause", "cancel"])
async def test_what_was_decided_while_the_sender_was_down_holds_when_it_is_back(tmp_path: Path, decision: str) -> None:
    async with running_system(tmp_path, "a", delay=0.02) as operator:
        await operator.add_account("a")
        campaign_id = await operator.campaign(2000)
        await operator.arrived(60)
        await operator.kill("sender")
        # What was at its dot is accepted by a server that nobody waits for.
        await asyncio.sleep(3)
        before = len(operator.accepted())
        scheduler = operator.system.scheduler
        if decision == "pause":
            await scheduler.PauseCampaign(scheduler_pb2.PauseCampaignRequest(campaign_id=campaign_id), timeout=5)
        else:
            await scheduler.CancelCampaign(scheduler_pb2.CancelCampaignRequest(campaign_id=campaign_id), timeout=5)
        await operator.start("sender")
        await asyncio.sleep(GRACE_SECONDS + 1)
        assert len(operator.accepted()) == before


async def unknown(sender: "sender_pb2_grpc.SenderAsyncStub", run_id: str) -> set[str]:
    request = sender_pb2.ListDeliveriesRequest(
        run_id=run_id, page_size=1000, states=[sender_pb2.DELIVERY_STATE_UNKNOWN]
    )
    return {delivery.address for delivery in (await sender.ListDeliveries(request, timeout=10)).deliveries}


async def test_two_schedulers_on_one_database_make_one_run(tmp_path: Path) -> None:
    async with running_system(tmp_path, "a") as operator, operator.system.another("scheduler"):
        await operator.add_account("a")
        campaign_id = await operator.campaign(50)
        await operator.finished(campaign_id)
        runs = await operator.system.scheduler.ListRuns(
            scheduler_pb2.ListRunsRequest(campaign_id=campaign_id), timeout=10
        )
        assert len(runs.runs) == 1
        assert set(operator.copies().values()) == {1}
        assert len(operator.copies()) == 50


async def test_an_open_circuit_is_still_open_after_a_restart(tmp_path: Path) -> None:
    async with running_system(tmp_path, "a") as operator:
        account_id = await operator.add_account("a")
        operator.inbox.listener("a").fail(until=operator.inbox.listener("a").clock.now().replace(year=2100))
        campaign_id = await operator.campaign(20)
        account = await operator.opened(account_id)
        await operator.kill("sender")
        await operator.start("sender")
        again = await operator.account(account_id)
        assert again.circuit.state == sender_pb2.Circuit.STATE_OPEN
        assert again.circuit.circuit_breaker_until == account.circuit.circuit_breaker_until
        assert not operator.accepted()
        stalled = await operator.progress(campaign_id)
        assert stalled.state == scheduler_pb2.Campaign.STATE_RUNNING

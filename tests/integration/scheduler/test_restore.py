"""After a restore: nothing is sent again by itself."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine

from mailer.database.identity import renew_incarnation
from mailer.v1 import scheduler_pb2
from mailer.wire import to_timestamp
from services.scheduler import tables
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
    reaches,
    schedule,
)


async def restore(scheduler: Scheduler, *statements: str) -> None:
    """Make the database another one by these statements, as the backup service does by its copy.

    Past the scheduler's own writer: what it has in hand must not share a transaction with the restore.
    """

    def exchange() -> None:
        engine = create_engine(f"sqlite:///{scheduler.database.location.path}")
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            renew_incarnation(connection, scheduler.clock.now())
        engine.dispose()

    await asyncio.to_thread(exchange)
    await scheduler.database.probe()


HOLD_ALL = (
    "UPDATE runs SET state = 'held', state_reason = 'restored' WHERE state NOT IN ('finished', 'cancelled', 'missed')"
)


async def test_a_run_that_was_under_way_is_held_until_a_person_resumes_it(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 35)
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 35)
    (run,) = sender.runs.values()
    run.state = "held"
    await restore(scheduler, HOLD_ALL)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_HELD)
    # Here the two change one after the other, not with one database: the follow-up may see the sender's side first.
    assert campaign.state_reason in {"restored", "paused at the sender"}
    assert campaign.latest_run.state == CampaignRun.STATE_HELD
    sender.calls.clear()
    await scheduler.stub.ResumeCampaign(scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign_id), timeout=20)
    await eventually(lambda: "ResumeRun" in sender.calls)
    sender.deliver()
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert set(sender.copies.values()) == {1}


async def test_whoever_decides_about_a_held_run_sees_what_was_sent_since_the_snapshot(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 35)
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 35)
    (run,) = sender.runs.values()
    run.state = "held"
    await restore(scheduler, HOLD_ALL)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_HELD)
    sender.deliver()  # the snapshot knew nothing of it, the sender's books were carried over
    campaign = await becomes(scheduler.stub, campaign_id, lambda one: one.latest_run.counts.sent_count == 35)
    assert campaign.latest_run.counts.pending_count == 0
    listed = await scheduler.stub.ListCampaigns(scheduler_pb2.ListCampaignsRequest(), timeout=20)
    listed_runs = await scheduler.stub.ListRuns(scheduler_pb2.ListRunsRequest(campaign_id=campaign_id), timeout=20)
    assert [one.latest_run.counts.sent_count for one in listed.campaigns] == [35]
    assert [one.counts.sent_count for one in listed_runs.runs] == [35]


async def test_a_hand_over_in_progress_belongs_to_the_old_life_and_stops(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    campaign_id = await draft(scheduler.stub, 35)
    sender.gate.clear()
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: "SendBatch" in sender.calls)
    await restore(scheduler, HOLD_ALL)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_HELD)
    await eventually(lambda: sender.given_up)
    sender.gate.set()
    assert (await get(scheduler.stub, campaign_id)).latest_run.dispatched_count == 0
    assert not sender.requests


async def test_cancelling_a_campaign_ends_an_older_run_that_is_held_too(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 3)
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 3)
    others = ", ".join(one.name for one in tables.runs.columns if one.name not in {"run_id", "slot_time", "state"})
    await restore(
        scheduler,
        f"INSERT INTO runs (run_id, slot_time, state, {others})"
        f" SELECT 'older', slot_time - 1, 'held', {others} FROM runs",
    )
    (newer,) = sender.runs
    sender.runs["older"] = replace(sender.runs[newer], state="held")
    await scheduler.stub.CancelCampaign(scheduler_pb2.CancelCampaignRequest(campaign_id=campaign_id), timeout=20)
    await eventually(lambda: {one.state for one in sender.runs.values()} == {"cancelled"})


async def half_lost(scheduler: Scheduler, sender: FakeSender, *, lost: str) -> str:
    """Begin a campaign of 35 and lose some of them in the middle of its hand-over; returns its id."""
    campaign_id = await draft(scheduler.stub, 35)
    sender.gate.clear()
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: "SendBatch" in sender.calls)
    await restore(scheduler, f"DELETE FROM recipients WHERE {lost}")
    sender.gate.set()
    return campaign_id


@pytest.mark.parametrize(
    ("lost", "there"), [("position > 20", 20), ("position > 25", 25), ("position % 5 = 0 AND position > 10", 30)]
)
async def test_a_run_that_lacks_recipients_stops_and_says_how_many(
    scheduler: Scheduler, sender: FakeSender, lost: str, there: int
) -> None:
    campaign_id = await half_lost(scheduler, sender, lost=lost)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_PAUSED)
    assert f"{35 - there} of 35 recipients are missing" in campaign.state_reason
    assert campaign.latest_run.dispatched_count == len(sender.copies) == there


async def test_a_run_that_lacks_recipients_ends_once_a_person_resumes_it(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    campaign_id = await half_lost(scheduler, sender, lost="position > 20")
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_PAUSED)
    await scheduler.stub.ResumeCampaign(scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign_id), timeout=20)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert campaign.latest_run.counts.sent_count == 20


async def test_a_slot_that_has_fired_does_not_fire_again(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await draft(scheduler.stub, 3)
    due = scheduler.clock.now()
    await schedule(scheduler.stub, campaign_id, send_time=to_timestamp(due))
    await becomes(scheduler.stub, campaign_id, has_ended)
    # The snapshot is older than the run: the campaign is scheduled in it, and only its run was carried over.
    await restore(
        scheduler,
        "UPDATE campaigns SET state = 'scheduled', latest_run_id = '', next_due_time = send_time",
    )
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert campaign.latest_run.counts.sent_count == 3
    assert sender.calls.count("SendBatch") == 1


async def test_a_draft_of_the_snapshot_that_was_sent_since_is_not_a_draft_again(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 3)
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 3)
    await restore(
        scheduler,
        "UPDATE campaigns SET state = 'draft', latest_run_id = '', send_time = NULL, next_due_time = NULL",
        HOLD_ALL,
    )
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_HELD)


async def test_what_is_scheduled_in_the_snapshot_fires_when_it_is_due(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await draft(scheduler.stub, 3)
    await schedule(scheduler.stub, campaign_id, send_time=to_timestamp(scheduler.clock.now() + timedelta(minutes=5)))
    await restore(scheduler)
    scheduler.clock.shift += timedelta(minutes=5)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert len(sender.copies) == 3


async def test_a_restore_while_nothing_ran_is_seen_at_the_start(schedulers: Any, sender: FakeSender) -> None:
    first = await schedulers(batch_size=10)
    sender.delivers = False
    campaign_id = await draft(first.stub, 3)
    await schedule(first.stub, campaign_id)
    await becomes(first.stub, campaign_id, lambda one: one.latest_run.state == CampaignRun.STATE_SENDING)
    await first.database.write(lambda connection: connection.exec_driver_sql(HOLD_ALL).close())
    await first.stop()
    second = await schedulers(batch_size=10)
    await reaches(second.stub, campaign_id, Campaign.STATE_HELD)

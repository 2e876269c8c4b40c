"""Runs in the database: one per slot, and no word of yesterday counts after a decision of today."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from mailer.database import Database
from services.scheduler import campaigns, decisions, firing, runs
from services.scheduler.__main__ import MIGRATIONS
from services.scheduler.campaign_states import CampaignState, RunState
from services.scheduler.campaigns import Campaign
from services.scheduler.firing import BatchLimits, Fired
from services.scheduler.runs import Run
from services.scheduler.schedule import Schedule
from tests.fakes.clock import START, FakeClock

CAMPAIGN_ID = "0123456789abcdef0123456789abcdef"
LIMITS = BatchLimits(count=500, bytes=1024 * 1024)


@pytest.fixture
async def database(database_url: str, clock: FakeClock) -> AsyncIterator[Database]:
    opened = await Database.open(database_url, clock=clock, migrations=[MIGRATIONS])
    yield opened
    await opened.close()


async def scheduled(database: Database, **changes: Any) -> None:
    values: dict[str, Any] = {
        "campaign_id": CAMPAIGN_ID,
        "name": "News",
        "content": b"",
        "state": CampaignState.SCHEDULED,
        "schedule": Schedule(send_time=START),
        "next_due_time": START,
        "recipient_count": 10,
        "create_time": START,
        "update_time": START,
    }
    await database.write(campaigns.create, Campaign(**{**values, **changes}))


async def fire(database: Database, now: datetime = START) -> Fired | None:
    return await database.write(firing.fire, CAMPAIGN_ID, now, LIMITS)


async def the_run(database: Database, run_id: str) -> Run:
    run = await database.read(runs.find, run_id)
    assert run is not None
    return run


async def test_a_slot_fires_once(database: Database) -> None:
    await scheduled(database)
    fired = await fire(database)
    assert fired is not None
    assert fired.state is RunState.DISPATCHING
    assert await fire(database) is None


async def test_nothing_fires_before_it_is_due(database: Database) -> None:
    await scheduled(database)
    assert await fire(database, START - timedelta(microseconds=1)) is None
    assert await database.read(campaigns.due, START - timedelta(microseconds=1)) == []
    assert await database.read(campaigns.due, START) == [CAMPAIGN_ID]
    assert await database.read(campaigns.next_due) == START


async def test_the_id_of_a_run_follows_from_campaign_and_slot(database: Database) -> None:
    await scheduled(database)
    fired = await fire(database, START + timedelta(minutes=3))
    assert fired is not None
    assert fired.run_id == runs.run_id_of(CAMPAIGN_ID, START)
    assert fired.run_id != runs.run_id_of(CAMPAIGN_ID, START + timedelta(microseconds=1))


async def test_a_large_content_leaves_less_room_for_recipients(database: Database) -> None:
    content = b"x" * (3_500 * 1024)
    await scheduled(database, content=content)
    fired = await fire(database)
    assert fired is not None
    run = await the_run(database, fired.run_id)
    assert len(content) + run.batch_byte_limit <= 4 * 1024 * 1024 - 64 * 1024
    assert run.batch_byte_limit >= 24 * 1024


LATE: list[Callable[[Connection, Run], bool]] = [
    lambda connection, run: runs.advance(connection, run, cursor=5, dispatched=5, rejected=0, last=False),
    runs.finish_hand_over,
    runs.start_over,
    lambda connection, run: runs.mark_told(connection, run, runs.PAUSED),
    lambda connection, run: runs.note(connection, run, reason="late", counts=b"x"),
    lambda connection, run: decisions.close(connection, run, RunState.FINISHED, counts=b"", now=START),
    lambda connection, run: decisions.stop_by_itself(connection, run, RunState.CANCELLED, reason="late", now=START),
]


@pytest.mark.parametrize("change", LATE)
async def test_what_was_learnt_before_a_decision_changes_nothing_after_it(
    database: Database, change: Callable[[Connection, Run], bool]
) -> None:
    await scheduled(database)
    fired = await fire(database)
    assert fired is not None
    before = await the_run(database, fired.run_id)
    await database.write(decisions.pause, CAMPAIGN_ID, "stop", START)
    decided = await the_run(database, fired.run_id)
    assert await database.write(change, before) is False
    assert await the_run(database, fired.run_id) == decided
    assert (await database.read(campaigns.existing, CAMPAIGN_ID)).state is CampaignState.PAUSED


async def test_a_cursor_moves_only_from_where_it_was_read(database: Database) -> None:
    await scheduled(database)
    fired = await fire(database)
    assert fired is not None
    run = await the_run(database, fired.run_id)
    for moved in (True, False):
        result = await database.write(runs.advance, run, cursor=5, dispatched=5, rejected=1, last=False)
        assert result is moved
    run = await the_run(database, fired.run_id)
    assert (run.cursor, run.dispatched_count, run.rejected_count) == (5, 5, 1)


async def test_a_cron_without_a_later_slot_finishes(database: Database) -> None:
    await scheduled(database, schedule=Schedule(cron="0 9 2 11 *", time_zone="UTC"))
    fired = await fire(database)
    assert fired is not None
    run = await the_run(database, fired.run_id)
    await database.write(
        lambda connection: connection.exec_driver_sql("UPDATE campaigns SET next_due_time = NULL").close()
    )
    assert await database.write(decisions.close, run, RunState.FINISHED, counts=b"", now=START)
    assert (await database.read(campaigns.existing, CAMPAIGN_ID)).state is CampaignState.FINISHED

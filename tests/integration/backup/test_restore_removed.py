"""A run went out and its deliveries were removed; then a snapshot from before comes back: nobody gets it twice."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from mailer.client import details_of
from mailer.clock import SystemClock
from mailer.v1 import sender_pb2
from services.backup.create import Creator, Wish
from services.backup.job import Job
from services.backup.restore import Restorer
from services.backup.snapshot import Snapshot, Trigger
from services.backup.vault import Vault
from services.sender import removal
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import sender_service
from tests.fakes.smtp_server import SmtpServer
from tests.integration.backup.conftest import make_restorer
from tests.integration.backup.mailing import (
    add_campaign,
    add_delivery,
    add_firing,
    add_log,
    add_run,
    add_sender_run,
    change,
    rows,
    run_states,
    sender_run_states,
    states,
)

Take = Callable[[], Snapshot]

KEPT = timedelta(days=30)
ADA, BOB = "ada@one.example", "bob@two.example"


def remove(live: Path, run_id: str, *, emptied: bool = True, **counts: int) -> None:
    """Do what the sender does to a run that is over for long."""
    change(live, "UPDATE sender_runs SET removal_time = 5, end_time = 4, emptied = ? WHERE run_id = ?", emptied, run_id)
    if emptied:
        change(live, "DELETE FROM deliveries WHERE run_id = ?", run_id)
        change(live, "DELETE FROM send_logs")
    change(live, "DELETE FROM run_counts WHERE run_id = ?", run_id)
    for state, count in counts.items():
        change(live, "INSERT INTO run_counts (run_id, state, delivery_count) VALUES (?, ?, ?)", run_id, state, count)


def end(live: Path, run_id: str, state: str = "finished") -> None:
    """End a run and its campaign, as the scheduler does."""
    change(live, "UPDATE runs SET state = ?, end_time = 4 WHERE run_id = ?", state, run_id)
    change(live, "UPDATE campaigns SET state = ?, latest_run_id = ? WHERE name = ?", state, run_id, run_id)


@pytest.fixture
def waiting(live: Path) -> Path:
    """Return a database with a run under way: one message was sent, one waits and one is being tried."""
    add_run(live, "one")
    change(live, "UPDATE campaigns SET state = 'running', latest_run_id = 'one'")
    for key, state in (("sent", "sent"), ("waits", "pending"), ("tried", "claimed")):
        add_delivery(live, key, run_id="one", state=state)
    add_log(live, "sent:00000001:end")
    add_run(live, "other")
    add_delivery(live, "of-other", run_id="other")
    return live


def test_a_run_that_was_removed_since_comes_back_over_with_its_counts_and_without_rows(
    waiting: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    snapshot = take()
    end(waiting, "one")
    remove(waiting, "one", sent=2, failed=1)
    plan = restorer.plan(snapshot.snapshot_id, job)
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert states(waiting) == {"of-other": "pending"}
    assert rows(waiting, "SELECT log_key FROM send_logs") == []
    assert rows(waiting, "SELECT state, delivery_count FROM run_counts WHERE run_id = 'one' ORDER BY 1") == [
        ("failed", 1),
        ("sent", 2),
    ]
    assert rows(waiting, "SELECT removal_time, unfinished, emptied FROM sender_runs WHERE run_id = 'one'") == [
        (5, 0, 1)
    ]
    assert run_states(waiting) == {"one": "finished", "other": "held"}
    assert sender_run_states(waiting) == {"one": "active", "other": "held"}
    assert rows(waiting, "SELECT state FROM campaigns WHERE name = 'one'") == [("finished",)]
    assert restored.held_run_ids == plan.held_run_ids == ("other",)
    assert restored.sent_since_count == plan.sent_since_count == 1


def test_a_removal_that_is_under_way_leaves_nothing_that_could_be_sent(
    waiting: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    snapshot = take()
    end(waiting, "one")
    change(waiting, "UPDATE deliveries SET state = 'sent' WHERE run_id = 'one'")
    change(waiting, "DELETE FROM deliveries WHERE delivery_key = 'waits'")
    remove(waiting, "one", emptied=False, sent=3)
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert states(waiting) == {"of-other": "pending"}
    assert rows(waiting, "SELECT delivery_count FROM run_counts WHERE run_id = 'one'") == [(3,)]
    assert restored.sent_since_count == 2


def test_a_run_that_began_after_the_snapshot_and_was_removed_stays_over(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_run(live, "other")
    snapshot = take()
    add_run(live, "one")
    end(live, "one")
    remove(live, "one", sent=7)
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert run_states(live)["one"] == "finished"
    assert rows(live, "SELECT removal_time FROM sender_runs WHERE run_id = 'one'") == [(5,)]
    assert rows(live, "SELECT delivery_count FROM run_counts WHERE run_id = 'one'") == [(7,)]


def test_what_the_snapshot_knows_as_removed_does_not_come_back_from_an_older_database(
    waiting: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    before = waiting.read_bytes()
    end(waiting, "one")
    remove(waiting, "one", sent=3)
    snapshot = take()
    waiting.write_bytes(before)
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert states(waiting) == {"of-other": "pending"}
    assert rows(waiting, "SELECT delivery_count FROM run_counts WHERE run_id = 'one'") == [(3,)]


def test_a_recurring_campaign_that_stood_at_such_a_run_waits_for_a_person(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_campaign(live, "news", state="running", cron="0 * * * *", time_zone="UTC")
    add_firing(live, "news", 7, state="sending")
    add_sender_run(live, "news-7")
    add_delivery(live, "waits", run_id="news-7")
    snapshot = take()
    change(live, "UPDATE runs SET state = 'finished', end_time = 4")
    change(live, "UPDATE campaigns SET state = 'scheduled'")
    remove(live, "news-7", sent=1)
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert run_states(live) == {"news-7": "finished"}
    assert restored.held_campaign_ids == ("news",)


async def test_the_sender_refuses_to_send_it_again(tmp_path: Path, clock: FakeClock, vault: Vault, job: Job) -> None:
    live = tmp_path / "mailer.db"
    creator = Creator(vault=vault, live=live, clock=SystemClock())
    restorer = make_restorer(vault, live)
    async with SmtpServer() as server, sender_service(tmp_path, clock, delivery_retention=KEPT) as sender:
        await sender.send(ADA, BOB)  # they wait: there is no account yet
        snapshot = await asyncio.to_thread(creator.create, Wish(trigger=Trigger.MANUAL), job)
        await sender.add_account(server.port)
        counts = (await sender.done()).counts
        while await sender.database.read(removal.has_ended):
            await sender.advance(3)
            await sender.tick()
        clock.step_wall_clock(KEPT.total_seconds())
        while await sender.states():
            await sender.advance(3)
            await sender.tick()
        await asyncio.to_thread(restorer.restore, snapshot.snapshot_id, job, request_id="r")
        await sender.database.probe()
        for _ in range(20):
            await sender.tick()
        await sender.add_account(server.port, "again")  # the restore took the account back
        await sender.stub.ResumeRun(sender_pb2.ResumeRunRequest(run_id="run"), timeout=5)
        run = await sender.run()
        assert (run.state, run.counts) == (sender_pb2.Run.STATE_DONE, counts)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await sender.send(ADA, BOB)
        assert details_of(refused.value).reason == "RUN_REMOVED"
        for _ in range(20):
            await sender.tick()
        assert sorted(mail.recipients[0] for mail in server.accepted) == [ADA, BOB]

"""What a restore must not forget, and what it must stop."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.backup.job import Job
from services.backup.restore import Restorer
from services.backup.snapshot import Snapshot
from tests.integration.backup.mailing import (
    add_delivery,
    add_log,
    add_recipient,
    add_run,
    change,
    rows,
    run_states,
    sender_run_states,
    states,
)

Take = Callable[[], Snapshot]


def move(live: Path, key: str, state: str, *, token: int = 1) -> None:
    """Move a delivery on, as the sender would."""
    change(live, "UPDATE deliveries SET state = ?, token = ? WHERE delivery_key = ?", state, token, key)


@pytest.mark.parametrize("state", ["sent", "unknown", "dot_intent", "failed", "deferred"])
def test_a_delivery_pending_in_the_snapshot_keeps_what_happened_to_it_since(
    live: Path, take: Take, restorer: Restorer, job: Job, state: str
) -> None:
    add_run(live, "run")
    add_delivery(live, "ada", run_id="run")
    snapshot = take()
    move(live, "ada", state)
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert states(live) == {"ada": state}


@pytest.mark.parametrize("seen", ["claimed", "dot_intent"])
@pytest.mark.parametrize("ended", ["pending", "deferred", "failed", "sent"])
def test_an_attempt_that_the_snapshot_saw_half_done_has_ended_as_the_live_database_says(  # noqa: PLR0917
    live: Path, take: Take, restorer: Restorer, job: Job, seen: str, ended: str
) -> None:
    add_run(live, "run")
    add_delivery(live, "ada", run_id="run", state=seen, token=1)
    snapshot = take()
    move(live, "ada", ended, token=1)
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert states(live) == {"ada": ended}


@pytest.mark.parametrize("state", ["sent", "unknown", "dot_intent", "pending"])
def test_a_delivery_of_a_batch_after_the_snapshot_is_not_forgotten(
    live: Path, take: Take, restorer: Restorer, job: Job, state: str
) -> None:
    add_run(live, "run")
    snapshot = take()
    add_delivery(live, "ada", run_id="run", state=state)
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert states(live) == {"ada": state}


def test_a_carried_delivery_keeps_its_row_number_so_that_a_late_result_finds_it(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_run(live, "run")
    add_delivery(live, "ada", run_id="run")
    snapshot = take()
    add_delivery(live, "bob", run_id="run", state="dot_intent", id=41, token=7)
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert rows(live, "SELECT id, token FROM deliveries WHERE delivery_key = 'bob'") == [(41, 7)]


def test_a_row_number_that_another_row_has_is_given_anew(live: Path, take: Take, restorer: Restorer, job: Job) -> None:
    add_run(live, "run")
    add_delivery(live, "ada", run_id="run", id=1)
    snapshot = take()
    change(live, "UPDATE deliveries SET id = 2")
    add_delivery(live, "bob", run_id="run", state="sent", id=1)
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert rows(live, "SELECT delivery_key, id FROM deliveries ORDER BY id") == [("ada", 1), ("bob", 2)]


def test_a_cancelled_delivery_comes_back_because_a_decision_can_be_taken_back(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_run(live, "run")
    add_delivery(live, "untried", run_id="run")
    add_delivery(live, "tried", run_id="run")
    snapshot = take()
    move(live, "untried", "cancelled", token=0)
    move(live, "tried", "cancelled", token=3)
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert states(live) == {"untried": "pending", "tried": "pending"}
    assert rows(live, "SELECT token FROM deliveries WHERE delivery_key = 'tried'") == [(3,)]


def test_unfinished_runs_come_back_held_and_finished_ones_as_they_were(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    for run_id, state, sender_state in [
        ("sending", "sending", "active"),
        ("paused", "paused", "paused"),
        ("finished", "finished", "active"),
        ("cancelled", "cancelled", "cancelled"),
        ("missed", "missed", "active"),
    ]:
        add_run(live, run_id, state=state, sender_state=sender_state)
        add_delivery(live, f"ada-{run_id}", run_id=run_id, state="sent")
    snapshot = take()
    change(live, "UPDATE runs SET state = 'finished'")
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert restored.held_run_ids == ("paused", "sending")
    assert run_states(live) == {
        "sending": "held",
        "paused": "held",
        "finished": "finished",
        "cancelled": "cancelled",
        "missed": "missed",
    }
    assert sender_run_states(live) == {
        "sending": "held",
        "paused": "held",
        "finished": "active",
        "cancelled": "cancelled",
        "missed": "active",
    }


def test_a_run_that_began_after_the_snapshot_is_carried_held_with_its_campaign_and_recipients(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    snapshot = take()
    add_run(live, "later")
    add_recipient(live, "ada@x", run_id="later")
    add_delivery(live, "ada", run_id="later", state="pending")
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert run_states(live) == {"later": "held"}
    assert sender_run_states(live) == {"later": "held"}
    assert rows(live, "SELECT campaign_id FROM campaigns") == [("campaign-later",)]
    assert rows(live, "SELECT address FROM recipients") == [("ada@x",)]
    assert rows(live, "PRAGMA foreign_key_check") == []


def test_logs_suppressions_contents_and_counted_messages_are_carried(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_log(live, "one")
    change(live, "INSERT INTO account_usage VALUES ('account', 1, 10)")
    snapshot = take()
    add_log(live, "two")
    change(live, "INSERT INTO suppressions VALUES ('ada@x', 'unsubscribed', 0)")
    change(live, "INSERT INTO contents VALUES ('hash', x'00', 0)")
    change(live, "UPDATE account_usage SET message_count = 25")
    change(live, "INSERT INTO sender_workers VALUES ('worker', 'host', 1, 0, 0)")
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert rows(live, "SELECT log_key FROM send_logs ORDER BY id") == [("one",), ("two",)]
    assert rows(live, "SELECT address FROM suppressions") == [("ada@x",)]
    assert rows(live, "SELECT content_hash FROM contents") == [("hash",)]
    assert rows(live, "SELECT message_count FROM account_usage") == [(25,)]
    assert rows(live, "SELECT worker_id FROM sender_workers") == [("worker",)]


def test_the_counts_of_runs_fit_the_deliveries_that_came_back(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_run(live, "run")
    add_delivery(live, "ada", run_id="run")
    add_delivery(live, "bob", run_id="run")
    snapshot = take()
    move(live, "ada", "sent")
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert rows(live, "SELECT state, delivery_count FROM run_counts ORDER BY state") == [
        ("pending", 1),
        ("sent", 1),
    ]
    assert rows(live, "SELECT unfinished FROM sender_runs") == [(1,)]


def test_what_a_new_database_knows_nothing_of_comes_back_unknown(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_run(live, "run")
    for state in ("pending", "claimed", "dot_intent", "deferred", "sent", "failed"):
        add_delivery(live, state, run_id="run", state=state)
    snapshot = take()
    for table in ("deliveries", "sender_runs", "runs", "campaigns"):
        change(live, f"DELETE FROM {table}")
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert states(live) == {
        "pending": "unknown",
        "claimed": "unknown",
        "dot_intent": "unknown",
        "deferred": "unknown",
        "sent": "sent",
        "failed": "failed",
    }
    assert restored.held_run_ids == ("run",)


def test_a_restore_is_undone_by_restoring_what_was_before_it(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_run(live, "early")
    add_delivery(live, "ada", run_id="early")
    snapshot = take()
    move(live, "ada", "cancelled", token=0)
    add_run(live, "late", state="paused", sender_state="paused")
    add_delivery(live, "bob", run_id="late")
    add_delivery(live, "eve", run_id="late", state="sent")
    before = states(live)
    first = restorer.restore(snapshot.snapshot_id, job, request_id="r1")
    assert states(live) != before
    restorer.restore(first.pre_restore_snapshot_id, job, request_id="r2")
    assert states(live) == before


def test_a_restore_gives_the_database_a_new_incarnation(live: Path, take: Take, restorer: Restorer, job: Job) -> None:
    snapshot = take()
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    ((incarnation, created_time),) = rows(live, "SELECT incarnation, created_time FROM database_identity")
    assert incarnation == restored.incarnation != "first"
    assert created_time > 0


def test_the_plan_says_what_would_change_and_changes_nothing(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_run(live, "run")
    add_delivery(live, "ada", run_id="run")
    add_delivery(live, "bob", run_id="run")
    snapshot = take()
    move(live, "ada", "sent")
    add_delivery(live, "eve", run_id="run", state="sent")
    before = live.read_bytes(), states(live), run_states(live)
    plan = restorer.plan(snapshot.snapshot_id, job)
    assert (plan.held_run_ids, plan.sent_since_count, plan.incarnation) == (("run",), 2, "")
    assert plan.carried_row_count == 2
    deliveries = next(change for change in plan.tables if change.table == "deliveries")
    assert (deliveries.live_row_count, deliveries.snapshot_row_count) == (3, 2)
    assert (live.read_bytes(), states(live), run_states(live)) == before


def test_the_report_of_a_restore_is_what_its_plan_said(live: Path, take: Take, restorer: Restorer, job: Job) -> None:
    add_run(live, "run")
    add_delivery(live, "ada", run_id="run")
    snapshot = take()
    move(live, "ada", "sent")
    plan = restorer.plan(snapshot.snapshot_id, job)
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert plan.tables == restored.tables
    assert plan.held_run_ids == restored.held_run_ids
    assert plan.carried_row_count == restored.carried_row_count
    assert plan.sent_since_count == restored.sent_since_count

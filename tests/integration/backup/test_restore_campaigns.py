"""Nothing goes out by itself after a restore but what the live database would have sent by itself, too."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.backup.job import Job
from services.backup.restore import Restorer
from services.backup.snapshot import Snapshot
from tests.integration.backup.mailing import (
    add_campaign,
    add_delivery,
    add_firing,
    add_sender_run,
    change,
    rows,
    states,
)

Take = Callable[[], Snapshot]

PAST, EARLIER = 1_000, 500
FUTURE, LATER = 1 << 59, 1 << 60
HOURLY = {"cron": "0 * * * *", "time_zone": "UTC"}


def campaigns(live: Path) -> dict[str, str]:
    return dict(rows(live, "SELECT campaign_id, state FROM campaigns"))


def standing(live: Path, campaign_id: str) -> tuple[str, int, str]:
    """Return where a campaign stands: its state, when it is due next, and its latest run."""
    query = "SELECT state, next_due_time, latest_run_id FROM campaigns WHERE campaign_id = ?"
    return rows(live, query, campaign_id)[0]


@pytest.mark.parametrize(
    "since",
    [
        "UPDATE campaigns SET state = 'cancelled', next_due_time = NULL",
        "UPDATE campaigns SET state = 'paused'",
        f"UPDATE campaigns SET send_time = {LATER}, next_due_time = {LATER}",
        "DELETE FROM campaigns",
    ],
    ids=["cancelled", "paused", "postponed", "deleted"],
)
@pytest.mark.parametrize("due", [PAST, FUTURE])
def test_a_scheduled_campaign_that_somebody_stopped_since_is_held_and_named(  # noqa: PLR0917
    live: Path, take: Take, restorer: Restorer, job: Job, since: str, due: int
) -> None:
    add_campaign(live, "one", state="scheduled", send_time=due, next_due_time=due)
    snapshot = take()
    change(live, since)
    plan = restorer.plan(snapshot.snapshot_id, job)
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert campaigns(live) == {"one": "held"}
    assert plan.held_campaign_ids == restored.held_campaign_ids == ("one",)


def test_a_campaign_that_fell_due_and_has_no_run_is_held(live: Path, take: Take, restorer: Restorer, job: Job) -> None:
    add_campaign(live, "one", state="scheduled", send_time=PAST, next_due_time=PAST)
    snapshot = take()
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert campaigns(live) == {"one": "held"}


def test_a_campaign_that_has_gone_out_since_is_left_to_its_run(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_campaign(live, "one", state="scheduled", send_time=PAST, next_due_time=PAST)
    snapshot = take()
    add_firing(live, "one", PAST)
    change(live, "UPDATE campaigns SET state = 'finished', next_due_time = NULL")
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert standing(live, "one") == ("scheduled", PAST, "")
    assert restored.held_campaign_ids == ()
    assert rows(live, "SELECT run_id FROM runs") == [(f"one-{PAST}",)]


def test_a_campaign_that_the_live_database_has_scheduled_just_so_goes_on(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_campaign(live, "one", state="scheduled", send_time=FUTURE, next_due_time=FUTURE)
    add_campaign(live, "draft", state="draft")
    snapshot = take()
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert campaigns(live) == {"one": "scheduled", "draft": "draft"}
    assert restored.held_campaign_ids == ()


def test_a_recurring_campaign_that_has_fired_since_goes_on_with_the_slot_that_the_live_database_waits_for(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_campaign(live, "news", state="scheduled", next_due_time=EARLIER, **HOURLY)
    snapshot = take()
    add_firing(live, "news", PAST)
    change(live, "UPDATE campaigns SET next_due_time = ?", FUTURE)
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert standing(live, "news") == ("scheduled", FUTURE, f"news-{PAST}")


@pytest.mark.parametrize("before", ["scheduled", "paused", "running"])
def test_a_recurring_campaign_that_fired_and_was_cancelled_since_is_held_at_its_newest_run(
    live: Path, take: Take, restorer: Restorer, job: Job, before: str
) -> None:
    add_campaign(live, "news", state=before, next_due_time=EARLIER, **HOURLY)
    snapshot = take()
    add_firing(live, "news", EARLIER)
    add_firing(live, "news", PAST)
    change(live, "UPDATE campaigns SET state = 'cancelled', next_due_time = NULL")
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert standing(live, "news") == ("held", EARLIER, f"news-{PAST}")
    assert restored.held_campaign_ids == ("news",)


@pytest.mark.parametrize("before", ["dispatching", "paused", "held", "missed"])
@pytest.mark.parametrize("given_up", ["expired", "cancelled"])
def test_an_older_run_that_has_ended_since_is_over_with_what_was_given_up_in_it(  # noqa: PLR0917
    live: Path, take: Take, restorer: Restorer, job: Job, before: str, given_up: str
) -> None:
    add_campaign(live, "news", state="running", next_due_time=PAST, **HOURLY)
    add_firing(live, "news", EARLIER, state=before)
    older = f"news-{EARLIER}"
    add_sender_run(live, older, state="held")
    add_delivery(live, "ada", run_id=older)
    add_delivery(live, "bob", run_id=older)
    snapshot = take()
    change(live, "UPDATE runs SET state = 'finished', handed_over = 1, end_time = 7")
    change(live, "UPDATE sender_runs SET state = 'active'")
    change(live, "UPDATE deliveries SET state = ? WHERE delivery_key = 'ada'", given_up)
    change(live, "UPDATE deliveries SET state = 'sent', token = 1 WHERE delivery_key = 'bob'")
    add_firing(live, "news", PAST)
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert rows(live, "SELECT state, handed_over, end_time FROM runs WHERE run_id = ?", older) == [("finished", 1, 7)]
    assert states(live) == {"ada": given_up, "bob": "sent"}
    assert restored.held_run_ids == ()


@pytest.mark.parametrize(("ended", "newer"), [("finished", False), ("sending", True)])
def test_a_run_that_is_the_newest_or_has_not_ended_is_held(  # noqa: PLR0917
    live: Path, take: Take, restorer: Restorer, job: Job, ended: str, newer: bool
) -> None:
    add_campaign(live, "news", state="running", next_due_time=PAST, **HOURLY)
    add_firing(live, "news", EARLIER, state="sending")
    snapshot = take()
    change(live, "UPDATE runs SET state = ?", ended)
    if newer:
        add_firing(live, "news", PAST)
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert restored.held_run_ids == (f"news-{EARLIER}",)


@pytest.mark.parametrize("changed", ["cron = '30 * * * *'", "time_zone = 'Europe/Berlin'", "next_due_time = 1000"])
def test_a_recurring_campaign_that_the_live_database_would_send_at_another_time_is_held(
    live: Path, take: Take, restorer: Restorer, job: Job, changed: str
) -> None:
    add_campaign(live, "news", state="scheduled", next_due_time=FUTURE, **HOURLY)
    snapshot = take()
    change(live, f"UPDATE campaigns SET {changed}")
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert campaigns(live) == {"news": "held"}


def test_with_the_database_lost_every_scheduled_campaign_is_held_for_nobody_knows_what_was_decided_since(
    live: Path, take: Take, restorer: Restorer, job: Job
) -> None:
    add_campaign(live, "due", state="scheduled", next_due_time=PAST)
    add_campaign(live, "to come", state="scheduled", next_due_time=FUTURE)
    add_campaign(live, "draft", state="draft")
    snapshot = take()
    live.unlink()
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert campaigns(live) == {"due": "held", "to come": "held", "draft": "draft"}
    assert restored.held_campaign_ids == ("due", "to come")

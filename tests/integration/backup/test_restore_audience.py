"""A run that is resumed after a restore goes to all whom it was for, and to nobody else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.backup.job import Job
from services.backup.restore import Restorer
from services.backup.snapshot import Snapshot
from tests.integration.backup.mailing import add_campaign, add_firing, add_to_campaign, audience, change, rows

Take = Callable[[], Snapshot]

DUE = 1_000
HOURLY = {"cron": "0 * * * *", "time_zone": "UTC"}


def lengths(live: Path) -> tuple[int, ...]:
    (found,) = rows(live, "SELECT recipient_count, duplicate_count, last_position FROM campaigns")
    return found


@pytest.fixture
def snapshot(live: Path, take: Take) -> Snapshot:
    """Return a snapshot of a campaign of two that has not fired."""
    add_campaign(live, "one", state="scheduled", next_due_time=DUE, **HOURLY)
    add_to_campaign(live, "one", "ada", "bob")
    return take()


@pytest.mark.parametrize("state", ["dispatching", "paused", "held"])
def test_a_run_under_way_keeps_the_recipients_that_were_added_before_it_fired(
    live: Path, snapshot: Snapshot, restorer: Restorer, job: Job, state: str
) -> None:
    add_to_campaign(live, "one", "cy", "dee")
    change(live, "UPDATE campaigns SET duplicate_count = 5, last_position = 9, known_variables = '[\"name\"]'")
    add_firing(live, "one", DUE, state=state, recipient_count=4, cursor=3)
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert audience(live, "one") == [(1, "ada"), (2, "bob"), (3, "cy"), (4, "dee")]
    assert lengths(live) == (4, 5, 9)
    assert rows(live, "SELECT known_variables FROM campaigns") == [('["name"]',)]
    assert restored.carried_row_count == 3  # two people, one run


def test_a_run_under_way_replaces_a_list_that_an_earlier_restore_made_another_one(
    live: Path, snapshot: Snapshot, take: Take, restorer: Restorer, job: Job
) -> None:
    add_to_campaign(live, "one", "xena", "yan", "zoe")
    with_strangers = take()
    restorer.restore(snapshot.snapshot_id, job, request_id="first")
    add_to_campaign(live, "one", "cy", "xena")
    add_firing(live, "one", DUE, state="dispatching", recipient_count=4, cursor=3)
    restorer.restore(with_strangers.snapshot_id, job, request_id="second")
    assert audience(live, "one") == [(1, "ada"), (2, "bob"), (3, "cy"), (4, "xena")]
    assert lengths(live) == (4, 0, 4)


@pytest.mark.parametrize(
    ("state", "handed_over"), [("sending", 1), ("held", 1), ("finished", 1), ("cancelled", 0), ("missed", 0)]
)
def test_people_added_since_are_taken_back_where_no_run_waits_for_them(  # noqa: PLR0917
    live: Path, snapshot: Snapshot, restorer: Restorer, job: Job, state: str, handed_over: int
) -> None:
    add_to_campaign(live, "one", "cy")
    add_firing(live, "one", DUE, state=state, recipient_count=3, handed_over=handed_over)
    restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert audience(live, "one") == [(1, "ada"), (2, "bob")]
    assert lengths(live) == (2, 0, 2)

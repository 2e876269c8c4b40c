"""Campaigns of a snapshot about to come back: which go on by themselves, and which wait for a person.

The rule: after a restore nothing goes out by itself but what the live database would have sent by itself, too. A
campaign that is scheduled in the snapshot may have been cancelled, paused, postponed or deleted since, or have gone
out; where the live database does not say that it goes on just so, it comes back held.

Works, like carry, on the stage (`main`) with the live database attached as `live`.
"""

import sqlite3
from datetime import datetime

from mailer.database.types import to_microseconds
from services.backup.rows import columns, has, set_values

_HELD = "restored from a snapshot, in which it was scheduled: resume it if it is still to go out, or cancel it"

_NEEDED = {"campaign_id", "state", "send_time", "cron", "time_zone", "next_due_time", "latest_run_id"}
_IS_SCHEDULED = "state = 'scheduled'"


def hold_what_may_not_go_on(stage: sqlite3.Connection, now: datetime) -> None:
    """Hold campaigns by what the live database says of them. Before its runs are carried, inside a transaction."""
    if not set(columns(stage, "main", "campaigns")) >= _NEEDED:
        return
    if not (set(columns(stage, "live", "campaigns")) >= _NEEDED and has(stage, "live", "runs")):
        hold_all_scheduled(stage)
        return
    goes_on = (
        "l.campaign_id = campaigns.campaign_id AND l.state IN ('scheduled', 'running')"
        f" AND l.next_due_time > {to_microseconds(now)}"
        " AND (l.send_time, l.cron, l.time_zone) IS (campaigns.send_time, campaigns.cron, campaigns.time_zone)"
    )
    # Which slots of it have fired, or were passed over, is a fact.
    stage.execute(
        "UPDATE main.campaigns SET next_due_time = l.next_due_time, latest_run_id = l.latest_run_id"
        f" FROM live.campaigns AS l WHERE {goes_on} AND campaigns.{_IS_SCHEDULED}"
    )
    run = "EXISTS (SELECT 1 FROM live.runs r WHERE r.campaign_id = campaigns.campaign_id"
    # A run that comes along decides where a campaign stands that is sent once.
    has_fired = f"(cron = '' AND {run} AND r.slot_time >= campaigns.next_due_time))"
    stopped = f"{_IS_SCHEDULED} AND NOT EXISTS (SELECT 1 FROM live.campaigns l WHERE {goes_on}) AND NOT {has_fired}"
    # One that was stopped or under way, and has fired since, would be set going by the end of its newest run.
    has_fired_since = f"{run} AND NOT EXISTS (SELECT 1 FROM main.runs s WHERE s.run_id = r.run_id))"
    would_go_on = f"cron != '' AND state NOT IN ('scheduled', 'finished', 'cancelled') AND {has_fired_since}"
    _hold(stage, f"({stopped}) OR ({would_go_on})")


def hold_all_scheduled(stage: sqlite3.Connection) -> None:
    """Hold all that would go out by itself: nothing tells what somebody decided since. Inside a transaction."""
    if "state" in columns(stage, "main", "campaigns"):
        _hold(stage, _IS_SCHEDULED)


def put_at_newest_run(stage: sqlite3.Connection) -> None:
    """Let held recurring campaigns stand at their newest run, once all runs have come along.

    The scheduler moves a campaign that stands at an older one to where the newest stands, and on to the next slot.
    """
    if not (set(columns(stage, "main", "campaigns")) >= _NEEDED and has(stage, "main", "runs")):
        return
    newest = "SELECT r.run_id FROM main.runs r WHERE r.campaign_id = campaigns.campaign_id ORDER BY slot_time DESC"
    stage.execute(
        f"UPDATE main.campaigns SET latest_run_id = coalesce(({newest} LIMIT 1), latest_run_id)"
        " WHERE state = 'held' AND cron != ''"
    )


def held_campaigns(stage: sqlite3.Connection) -> list[str]:
    """Return the ids of all campaigns that are held."""
    if "state" not in columns(stage, "main", "campaigns"):
        return []
    return [row[0] for row in stage.execute("SELECT campaign_id FROM main.campaigns WHERE state = 'held' ORDER BY 1")]


def _hold(stage: sqlite3.Connection, where: str) -> None:
    set_values(stage, "campaigns", {"state": "held", "state_reason": _HELD}, where)

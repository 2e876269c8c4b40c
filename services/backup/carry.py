"""What a restore must not forget, and what it must stop: the few statements that know other services' tables.

They work on the stage (the snapshot about to come back, as `main`) with the live database attached as `live`.
Tables that either side lacks are passed over, and rows travel by the columns both sides have, so that a later
schema needs no change here.

The rule: a restore takes back decisions, never facts. What was handed to an SMTP server stays known, whatever
happened to the rest; and nothing is sent again until a person says so.
"""

import sqlite3
from datetime import datetime

from mailer.database.types import to_microseconds
from services.backup import audience, campaigns, overtaken, removed
from services.backup.proof import IDENTITY_TABLE, quoted
from services.backup.rows import (
    both_have,
    columns,
    copy_rows,
    differing,
    has,
    insert_missing,
    insert_missing_parents,
    row_number,
    set_values,
    shared_columns,
)

_HELD = "restored from a snapshot: look at what would be sent, then resume or cancel"
_LOST = "restored from a snapshot; whether it was sent since is not known"

_OPEN = "('pending', 'claimed', 'dot_intent', 'deferred')"
_RUN_IS_OVER = "('finished', 'cancelled', 'missed', 'held')"

_ONLY_ADDED = (
    ("contents", ("content_hash",)),
    ("send_logs", ("log_key",)),
)
_COPIED_WHEN_MISSING = (
    ("suppressions", ("address",)),
    ("sender_runs", ("run_id",)),
    ("deliveries", ("delivery_key",)),
    # What was counted against an account's caps stays counted: a restore must not double the day.
    ("account_usage", ("account_id", "minute")),
    # Runs of the scheduler, so that a slot that has fired never fires again.
    ("runs", ("run_id",)),
)
"""Tables whose rows come along when the snapshot lacks them, with the key that names a row."""


def carry_ahead(stage: sqlite3.Connection) -> int:
    """Do what can be done before others have to wait: rows that are only ever added, and never change."""
    carried = removed.carry_removed(stage)
    removed.drop_rows(stage)
    return carried + sum(insert_missing(stage, table, key) for table, key in _ONLY_ADDED)


def carry(stage: sqlite3.Connection, now: datetime) -> int:
    """Bring over from `live` what must not be forgotten; returns how many rows. Inside a transaction."""
    carried = removed.carry_removed(stage)
    _doubt_the_forgotten(stage)
    campaigns.hold_what_may_not_go_on(stage, now)
    to_fill = audience.campaigns_to_fill(stage)
    carried += _update_deliveries(stage)
    carried += sum(insert_missing(stage, table, key) for table, key in (*_ONLY_ADDED, *_COPIED_WHEN_MISSING))
    carried += _take_greater_usage(stage)
    carried += _replace_workers(stage)
    carried += insert_missing_parents(stage, (table for table, _ in _COPIED_WHEN_MISSING))
    removed.drop_rows(stage)  # also of those that only now came along
    carried += audience.fill(stage, to_fill)
    carried += overtaken.end_overtaken(stage)
    campaigns.put_at_newest_run(stage)
    return carried


def doubt_all(stage: sqlite3.Connection) -> None:
    """Make everything `unknown` that was not final: what was sent since went with the live database."""
    _make_unknown(stage, "TRUE")
    campaigns.hold_all_scheduled(stage)


def hold_runs(stage: sqlite3.Connection) -> list[str]:
    """Hold every run that is not over; returns the ids of all held runs. Inside a transaction."""
    _count_again(stage)
    held: set[str] = set()
    going_on = []
    if has(stage, "main", "runs"):
        set_values(stage, "runs", {"state": "held", "state_reason": _HELD}, f"state NOT IN {_RUN_IS_OVER}")
        going_on.append("run_id IN (SELECT run_id FROM main.runs WHERE state = 'held')")
        held |= _column(stage, "SELECT run_id FROM main.runs WHERE state = 'held'")
    if has(stage, "main", "deliveries"):
        going_on.append(f"run_id IN (SELECT run_id FROM main.deliveries WHERE state IN {_OPEN})")
    if has(stage, "main", "sender_runs") and going_on:
        is_open = f"state IN ('active', 'paused') AND ({' OR '.join(going_on)})"
        set_values(stage, "sender_runs", {"state": "held", "state_reason": _HELD}, is_open)
        held |= _column(stage, "SELECT run_id FROM main.sender_runs WHERE state = 'held'")
    return sorted(held)


def count_sent(stage: sqlite3.Connection) -> int:
    """Return how many messages the stage knows as sent: what `carry` adds to it was sent since the snapshot."""
    if not has(stage, "main", "deliveries"):
        return 0
    counted = "SELECT count(*) FROM main.deliveries WHERE state = 'sent'"
    if removed.knows_removal(stage) and has(stage, "main", "run_counts"):
        # Of removed runs the counts are all that is left; rows of theirs may be left, too, while they are removed.
        counted += f" AND run_id NOT IN ({removed.IS_REMOVED}) UNION ALL SELECT coalesce(sum(delivery_count), 0)"
        counted += f" FROM main.run_counts WHERE state = 'sent' AND run_id IN ({removed.IS_REMOVED})"
    return sum(int(row[0]) for row in stage.execute(counted))


def renew_identity(stage: sqlite3.Connection, incarnation: str, now: datetime) -> None:
    """Make it another database: work begun under the old incarnation is dropped by whoever holds it."""
    stage.execute(
        f"CREATE TABLE IF NOT EXISTS main.{IDENTITY_TABLE}"
        " (id INTEGER PRIMARY KEY CHECK (id = 1), incarnation TEXT NOT NULL, created_time INTEGER NOT NULL)"
    )
    values = (incarnation, to_microseconds(now))
    changed = stage.execute(f"UPDATE main.{IDENTITY_TABLE} SET incarnation = ?, created_time = ?", values)
    if changed.rowcount == 0:
        stage.execute(f"INSERT INTO main.{IDENTITY_TABLE} (id, incarnation, created_time) VALUES (1, ?, ?)", values)


def _update_deliveries(stage: sqlite3.Connection) -> int:
    """Let the live row win where it knows a fact that the snapshot's row does not.

    That is: it was handed to a server or is about to be (dot_intent, sent, unknown); it was claimed since
    (a higher token); or the snapshot saw it in the middle of an attempt that has ended since.
    """
    if not both_have(stage, "deliveries"):
        return 0
    shared = shared_columns(stage, "deliveries")
    number = row_number(stage, "deliveries")
    names = [name for name in shared if name not in {"delivery_key", number}]
    live_knows = ["l.state IN ('dot_intent', 'sent', 'unknown')", "s.state IN ('claimed', 'dot_intent')"]
    live_knows.append("l.token > s.token" if "token" in shared else "l.state = 'failed'")
    changes = ", ".join(f"{quoted(name)} = {_live_value(name)}" for name in names)
    before = ", ".join(f"s.{quoted(name)}" for name in names)
    after = ", ".join(_live_value(name) for name in names)
    update = (
        f"UPDATE main.deliveries AS s SET {changes} FROM %s"
        f" AND ({' OR '.join(live_knows)}) AND ({before}) IS NOT ({after})"
    )
    by_key = "l.delivery_key = s.delivery_key"
    if number is None or number not in shared:
        return stage.execute(update % f"live.deliveries AS l WHERE {by_key}").rowcount
    # Nearly all rows have the same number on both sides, and are then met in order; the rest is looked up.
    same = f"live.deliveries AS l WHERE l.{quoted(number)} = s.{quoted(number)} AND {by_key}"
    changed = stage.execute(update % same).rowcount
    with differing(stage, "deliveries", ("delivery_key", number), "live", "main") as moved:
        rest = f"{moved} m CROSS JOIN live.deliveries AS l WHERE l.delivery_key = m.delivery_key AND {by_key}"
        return changed + stage.execute(update % rest).rowcount


def _live_value(column: str) -> str:
    """Return the live row's value; a decision not to send is taken back, as every decision is."""
    if column != "state":
        return f"l.{quoted(column)}"
    return (
        "CASE WHEN l.state IN ('cancelled', 'expired') AND s.state IN ('pending', 'deferred')"
        " THEN 'pending' ELSE l.state END"
    )


def _take_greater_usage(stage: sqlite3.Connection) -> int:
    if not both_have(stage, "account_usage"):
        return 0
    return stage.execute(
        "UPDATE main.account_usage AS s SET message_count = l.message_count FROM live.account_usage AS l"
        " WHERE l.account_id = s.account_id AND l.minute = s.minute AND l.message_count > s.message_count"
    ).rowcount


def _replace_workers(stage: sqlite3.Connection) -> int:
    """Keep the register of those who are at work now: their claims come along, and are rescued by it."""
    if not both_have(stage, "sender_workers"):
        return 0
    stage.execute("DELETE FROM main.sender_workers")
    names = shared_columns(stage, "sender_workers")
    return copy_rows(stage, "sender_workers", names, "live.sender_workers l")


def _doubt_the_forgotten(stage: sqlite3.Connection) -> None:
    """Make `unknown` what only the snapshot knows, where the live database has no book of its run.

    The live database was begun anew meanwhile, or the run was deleted: either way it may have been sent.
    """
    if not has(stage, "main", "deliveries"):
        return
    run_in_live = "FALSE"
    if has(stage, "live", "sender_runs"):
        run_in_live = "EXISTS (SELECT 1 FROM live.sender_runs r WHERE r.run_id = deliveries.run_id)"
    doubtful = f"(state IN ('claimed', 'dot_intent') OR NOT {run_in_live})"
    if not has(stage, "live", "deliveries"):
        _make_unknown(stage, doubtful)
        return
    with differing(stage, "deliveries", ("delivery_key",), "main", "live") as forgotten:
        _make_unknown(stage, f"delivery_key IN (SELECT delivery_key FROM {forgotten}) AND {doubtful}")


def _make_unknown(stage: sqlite3.Connection, where: str) -> int:
    if not has(stage, "main", "deliveries"):
        return 0
    values = {"state": "unknown", "state_reason": _LOST, "worker": None, "next_attempt_time": None}
    return set_values(stage, "deliveries", values, f"state IN {_OPEN} AND ({where})")


def _count_again(stage: sqlite3.Connection) -> None:
    """Count deliveries by run and state anew: the carried ones were counted by nobody."""
    if not (has(stage, "main", "run_counts") and has(stage, "main", "deliveries")):
        return
    countable = f"run_id NOT IN ({removed.IS_REMOVED})" if removed.knows_removal(stage) else "TRUE"
    stage.execute(f"DELETE FROM main.run_counts WHERE {countable}")
    stage.execute(
        "INSERT INTO main.run_counts (run_id, state, delivery_count)"
        f" SELECT run_id, state, count(*) FROM main.deliveries WHERE {countable} GROUP BY run_id, state"
    )
    if "unfinished" in columns(stage, "main", "sender_runs"):
        stage.execute(
            "UPDATE main.sender_runs SET unfinished ="
            f" run_id IN (SELECT run_id FROM main.run_counts WHERE state IN {_OPEN})"
        )


def _column(stage: sqlite3.Connection, query: str) -> set[str]:
    return {row[0] for row in stage.execute(query)}

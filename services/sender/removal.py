"""Removal in SQL: deliveries of runs that are over for long, with their logs, a bite at a time.

The first bite leaves the tombstone (`removal_time`) in the run: from then on nothing is stored for it or tried again,
because nobody could tell any more who has its mail. Its counts stay as they were.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, select, update

from services.sender.states import OPEN_STATES, DeliveryState, RunState
from services.sender.tables import HAS_ROWS, deliveries, run_counts, runs, send_logs

_REMOVABLE = sorted(state.value for state in frozenset(DeliveryState) - OPEN_STATES - {DeliveryState.UNKNOWN})
_HAS_UNKNOWN = exists().where(
    run_counts.c.run_id == runs.c.run_id,
    run_counts.c.state == DeliveryState.UNKNOWN.value,
    run_counts.c.delivery_count > 0,
)
# Of a run that is paused or held somebody may still send the rest.
_IS_OVER = (~runs.c.unfinished, runs.c.state.in_([RunState.ACTIVE.value, RunState.CANCELLED.value]), ~_HAS_UNKNOWN)
# The logs of a delivery are found by the beginning of their keys: see send_log.log_key.
_DELETE_LOGS = delete(send_logs).where(
    send_logs.c.log_key >= bindparam("first_key"), send_logs.c.log_key < bindparam("next_key")
)


def note_ended(connection: Connection, *, most: int, now: datetime) -> int:
    """Note since when runs are over, of those that have ended since the last look. Return how many there were."""
    ended = _with_rows(connection).where(runs.c.end_time.is_(None), ~runs.c.unfinished).limit(most)
    return connection.execute(update(runs).where(runs.c.run_id.in_(ended)).values(end_time=now)).rowcount


def has_ended(connection: Connection) -> bool:
    """Say whether `note_ended` has anything to do."""
    query = _with_rows(connection).where(runs.c.end_time.is_(None), ~runs.c.unfinished).limit(1)
    return connection.execute(query).one_or_none() is not None


def is_due(connection: Connection, *, ended_before: datetime) -> bool:
    """Say whether any run that ended before that instant still has deliveries to be removed."""
    return connection.execute(_to_empty(connection, ended_before)).one_or_none() is not None


def take_bite(connection: Connection, *, ended_before: datetime, most: int, now: datetime) -> dict[str, int]:
    """Remove up to `most` deliveries of the runs that are over for longest. Return how many of each run."""
    taken: dict[str, int] = {}
    while sum(taken.values()) + len(taken) < most:  # a run is work, too, if there are many small ones
        query = _to_empty(connection, ended_before).with_for_update(skip_locked=True)
        run = connection.execute(query).one_or_none()
        if run is None:
            break
        left = most - sum(taken.values()) - len(taken)
        taken[run.run_id] = _take_from(connection, run.run_id, most=left, removal_time=run.removal_time or now)
    return taken


def _take_from(connection: Connection, run_id: str, *, most: int, removal_time: datetime) -> int:
    rows = connection.execute(
        select(deliveries.c.id, deliveries.c.delivery_key)
        .where(deliveries.c.run_id == run_id, deliveries.c.state.in_(_REMOVABLE))
        .order_by(deliveries.c.id)
        .limit(most + 1)
    ).all()
    _delete(connection, rows[:most])
    connection.execute(
        update(runs).where(runs.c.run_id == run_id).values(removal_time=removal_time, emptied=len(rows) <= most)
    )
    return len(rows[:most])


def _to_empty(connection: Connection, ended_before: datetime) -> Any:
    return (
        select(runs.c.run_id, runs.c.removal_time)
        .where(HAS_ROWS[connection.dialect.name], runs.c.end_time < ended_before, *_IS_OVER)
        .order_by(runs.c.end_time)
        .limit(1)
    )


def _delete(connection: Connection, rows: Sequence[Any]) -> None:
    if not rows:
        return
    keys = [{"first_key": f"{row.delivery_key}:", "next_key": f"{row.delivery_key};"} for row in rows]
    connection.execute(_DELETE_LOGS, keys)
    connection.execute(delete(deliveries).where(deliveries.c.id.in_([row.id for row in rows])))


def _with_rows(connection: Connection) -> Any:
    return select(runs.c.run_id).where(HAS_ROWS[connection.dialect.name])

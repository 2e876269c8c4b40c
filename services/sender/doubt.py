"""Deliveries in doubt: what a dead worker left at its final dot, and what a person decides about it."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from mailer.database.types import to_microseconds
from services.sender.counts import Changes
from services.sender.send_log import LogEntry, append_log, log_key
from services.sender.states import DeliveryState, LogOutcome, Policy, RunState
from services.sender.tables import IS_IN_PROGRESS, deliveries, runs


def rescue(connection: Connection, *, worker: str, now: datetime, changes: Changes) -> tuple[int, int, int]:
    """Take over what a dead worker left. Return how many were put back, became unknown, and are sent again flagged.

    A claim goes back, not counted. An intent is uncertain: under AT_LEAST_ONCE it is sent again and flagged; under
    AT_MOST_ONCE, and where its run was cancelled, it becomes `unknown`. Its token stays, so that a late word of the
    server still finds its row.
    """
    rows = connection.execute(
        select(
            deliveries.c.id,
            deliveries.c.delivery_key,
            deliveries.c.run_id,
            deliveries.c.token,
            deliveries.c.state,
            deliveries.c.account_id,
            deliveries.c.attempt_count,
            deliveries.c.update_time,
            runs.c.policy,
            runs.c.state.label("run_state"),
        )
        .join(runs, runs.c.run_id == deliveries.c.run_id)
        .where(IS_IN_PROGRESS, deliveries.c.worker == worker)
    ).all()
    logs = []
    returned = unknown = flagged = 0
    for row in rows:
        values: dict[str, Any] = {"worker": None, "update_time": now}
        if row.state == DeliveryState.CLAIMED:
            state, returned = DeliveryState.PENDING, returned + 1
        else:
            if row.policy == Policy.AT_MOST_ONCE or row.run_state == RunState.CANCELLED:
                state, unknown = DeliveryState.UNKNOWN, unknown + 1
            else:
                state, flagged = DeliveryState.PENDING, flagged + 1
                values["possible_duplicate"] = True
            values["attempt_count"] = deliveries.c.attempt_count + 1
            values["state_reason"] = "the sender ended while the message was at its final dot"
            logs.append(
                LogEntry(
                    log_key=log_key(row.delivery_key, row.token, "crash"),
                    run_id=row.run_id,
                    account_id=row.account_id,
                    worker=worker,
                    stage="DOT",
                    outcome=LogOutcome.UNKNOWN.value,
                    reply_code=0,
                    enhanced_code="",
                    reply_text="",
                    description=values["state_reason"],
                    retry_count=row.attempt_count,
                    start_time=to_microseconds(row.update_time),
                    end_time=to_microseconds(now),
                )
            )
        connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(state=state.value, **values))
        changes.add(row.run_id, row.state, state)
    append_log(connection, logs)
    return returned, unknown, flagged


def resolve_as_sent(connection: Connection, row_id: int, *, now: datetime, changes: Changes) -> None:
    """Book an uncertain delivery as sent, because a person found that the recipient has it."""
    _resolve(
        connection,
        row_id,
        {"state": DeliveryState.SENT.value, "state_reason": "a person found that it arrived"},
        now=now,
        changes=changes,
    )


def resolve_by_retry(
    connection: Connection, row_id: int, *, now: datetime, expire_time: datetime, changes: Changes
) -> None:
    """Queue an uncertain delivery again, flagged: a copy may have arrived already."""
    _resolve(
        connection,
        row_id,
        {
            "state": DeliveryState.PENDING.value,
            "state_reason": "a person asked to send it again",
            "possible_duplicate": True,
            "attempt_count": 0,
            "rule": "",
            "rule_count": 0,
            "rule_since": None,
            "expire_time": expire_time,
        },
        now=now,
        changes=changes,
    )


def _resolve(connection: Connection, row_id: int, values: dict[str, Any], *, now: datetime, changes: Changes) -> None:
    row = connection.execute(
        update(deliveries)
        .where(deliveries.c.id == row_id, deliveries.c.state == DeliveryState.UNKNOWN.value)
        .values(token=deliveries.c.token + 1, update_time=now, **values)
        .returning(
            deliveries.c.delivery_key,
            deliveries.c.run_id,
            deliveries.c.token,
            deliveries.c.account_id,
            deliveries.c.attempt_count,
        )
    ).one()
    changes.add(row.run_id, DeliveryState.UNKNOWN, values["state"])
    append_log(
        connection,
        [
            LogEntry(
                log_key=log_key(row.delivery_key, row.token, "person"),
                run_id=row.run_id,
                account_id=row.account_id,
                worker="",
                stage="",
                outcome=LogOutcome.RESOLVED.value,
                reply_code=0,
                enhanced_code="",
                reply_text="",
                description=values["state_reason"],
                retry_count=row.attempt_count,
                start_time=to_microseconds(now),
                end_time=to_microseconds(now),
            )
        ],
    )


def take_back_refused(
    connection: Connection, delivery_keys: tuple[str, ...], *, now: datetime, changes: Changes
) -> int:
    """Queue deliveries again whose refusals were about their account, not about them. Return how many."""
    rows = connection.execute(
        update(deliveries)
        .where(
            deliveries.c.delivery_key.in_(delivery_keys),
            deliveries.c.state == DeliveryState.FAILED.value,
            deliveries.c.run_id.not_in(select(runs.c.run_id).where(runs.c.state == RunState.CANCELLED.value)),
        )
        .values(
            state=DeliveryState.PENDING.value,
            state_reason="its account was refused as a whole",
            token=deliveries.c.token + 1,
            attempt_count=deliveries.c.attempt_count - 1,
            update_time=now,
        )
        .returning(deliveries.c.run_id)
    ).all()
    for row in rows:
        changes.add(row.run_id, DeliveryState.FAILED, DeliveryState.PENDING)
    return len(rows)

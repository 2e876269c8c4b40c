"""Deliveries in doubt: what a dead worker left at its final dot, and what a person decides about it."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, select, update

from mailer.database.types import to_microseconds
from services.sender.book import write_results
from services.sender.counts import Changes
from services.sender.dots import DotRecord
from services.sender.entries import Result, Streak
from services.sender.outbox import CLAIMED_COLUMNS, Claimed
from services.sender.send_log import LogEntry, append_log, log_key
from services.sender.states import DeliveryState, LogOutcome, Policy, RunState
from services.sender.tables import IS_IN_PROGRESS, deliveries, runs


def rescue(
    connection: Connection, *, worker: str, dots: DotRecord | None, now: datetime, changes: Changes
) -> tuple[int, int, int]:
    """Take over what a dead worker left. Return how many were put back, became unknown, and are sent again flagged.

    `dots` is what it noted about its dots; None when that is lost, and then every intent is in doubt. A claim goes
    back, not counted, and so does an intent whose dot was not written. What a server has accepted is booked as sent.
    The rest is uncertain: under AT_LEAST_ONCE it is sent again and flagged; under AT_MOST_ONCE, and where its run was
    cancelled, it becomes `unknown`. Its token stays, so that a late word of the server still finds its row.
    """
    if dots is not None:
        _book_accepted(connection, dots, worker=worker, changes=changes)
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
        is_cancelled = row.run_state == RunState.CANCELLED
        if row.state == DeliveryState.CLAIMED:
            state, returned = DeliveryState.PENDING, returned + 1
        elif dots is not None and (row.delivery_key, row.token) not in dots.in_doubt:
            state, returned = DeliveryState.CANCELLED if is_cancelled else DeliveryState.PENDING, returned + 1
        else:
            if row.policy == Policy.AT_MOST_ONCE or is_cancelled:
                state, unknown = DeliveryState.UNKNOWN, unknown + 1
            else:
                state, flagged = DeliveryState.PENDING, flagged + 1
                values["possible_duplicate"] = True
            values["attempt_count"] = deliveries.c.attempt_count + 1
            values["state_reason"] = "the sender ended while the message was at its final dot"
            logs.append(_crash_entry(row, worker=worker, description=values["state_reason"], now=now))
        connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(state=state.value, **values))
        changes.add(row.run_id, row.state, state)
    append_log(connection, logs)
    return returned, unknown, flagged


def _crash_entry(row: Any, *, worker: str, description: str, now: datetime) -> LogEntry:
    return LogEntry(
        log_key=log_key(row.delivery_key, row.token, "crash"),
        run_id=row.run_id,
        account_id=row.account_id,
        worker=worker,
        stage="DOT",
        outcome=LogOutcome.UNKNOWN.value,
        reply_code=0,
        enhanced_code="",
        reply_text="",
        description=description,
        retry_count=row.attempt_count,
        start_time=to_microseconds(row.update_time),
        end_time=to_microseconds(now),
    )


def _book_accepted(connection: Connection, dots: DotRecord, *, worker: str, changes: Changes) -> None:
    """Book what servers had accepted when the worker ended, and it had not booked yet."""
    accepted = {one.delivery_key: one for one in dots.accepted}
    rows = connection.execute(
        select(*CLAIMED_COLUMNS, deliveries.c.account_id, deliveries.c.update_time).where(
            deliveries.c.delivery_key.in_(list(accepted)),
            deliveries.c.state != DeliveryState.SENT.value,
        )
    )
    results = []
    for row in rows:
        *claimed, account_id, update_time = row
        delivery = Claimed(*claimed)
        dot = accepted[delivery.delivery_key]
        results.append(
            Result(
                claimed=delivery._replace(token=dot.token),
                state=DeliveryState.SENT,
                outcome=LogOutcome.SENT,
                worker=worker,
                account_id=account_id,
                stage="DOT",
                start_time=min(update_time, dot.time),
                end_time=dot.time,
                reply_code=dot.reply_code,
                enhanced_code=dot.enhanced_code,
                reply_text=dot.reply_text,
                streak=Streak(delivery.rule, delivery.rule_count, delivery.rule_since),
            )
        )
    write_results(connection, results, changes)


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
            ~exists().where(runs.c.run_id == deliveries.c.run_id, runs.c.state == RunState.CANCELLED.value),
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

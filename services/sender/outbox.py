"""The queue in SQL: deliveries come in, wait, and are claimed. Every change of state is one conditional UPDATE.

A claim raises the row's token. Whoever changes a claimed row later names the token it was given (see book.py); when the
row has moved on in between (paused, cancelled, rescued, restored), that UPDATE matches nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, exists, select, text, update

from mailer.database.rows import INTEGER, RowStatement
from mailer.database.types import to_microseconds
from services.sender.counts import Changes, upsert
from services.sender.identity import run_prefix
from services.sender.states import DeliveryState, RunState
from services.sender.tables import IS_DEFERRED, IS_IN_PROGRESS, IS_PENDING, contents, deliveries, runs, suppressions


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this worker may send, with all that an attempt needs."""

    id: int
    token: int
    delivery_key: str
    run_id: str
    campaign_id: str
    content_hash: str
    address: str
    canonical: str
    display_name: str
    variables: bytes
    attempt_count: int
    rule: str
    rule_count: int
    rule_since: datetime | None
    create_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """What `SendBatch` stores for one recipient."""

    delivery_key: str
    address: str
    canonical: str
    display_name: str
    variables: bytes


@dataclass(frozen=True, slots=True)
class Postponed:
    """A claim that nobody can use before an instant, and why."""

    claimed: Claimed
    until: datetime
    reason: str


CLAIMED_COLUMNS = tuple(deliveries.c[name] for name in Claimed.__dataclass_fields__)

# Asked in the statement itself: the run may have been paused or held since it was looked up.
_IS_ACTIVE = exists().where(runs.c.run_id == bindparam("run"), runs.c.state == RunState.ACTIVE.value)
_PENDING_OF_RUN = (
    select(deliveries.c.id)
    .where(IS_PENDING, deliveries.c.run_id == bindparam("run"), _IS_ACTIVE)
    .order_by(deliveries.c.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_CLAIM = (
    update(deliveries)
    .where(deliveries.c.id.in_(_PENDING_OF_RUN))
    .values(
        state=DeliveryState.CLAIMED.value,
        token=deliveries.c.token + 1,
        worker=bindparam("new_worker"),
        update_time=bindparam("now", type_=deliveries.c.update_time.type),
    )
    .returning(*CLAIMED_COLUMNS)
)


_RELEASE = {
    before: RowStatement(
        f"""
        UPDATE deliveries SET worker = NULL, update_time = r.at, state = CASE WHEN EXISTS (
            SELECT 1 FROM sender_runs WHERE sender_runs.run_id = deliveries.run_id AND sender_runs.state = 'cancelled'
        ) THEN 'cancelled' ELSE 'pending' END
        FROM :rows AS r
        WHERE deliveries.id = r.id AND deliveries.token = r.token AND deliveries.state = '{before}'
        RETURNING deliveries.run_id, deliveries.state
        """,
        {"id": INTEGER, "token": INTEGER, "at": INTEGER},
    )
    for before in (DeliveryState.CLAIMED, DeliveryState.DOT_INTENT)
}


def store(
    connection: Connection,
    waiting: Sequence[Waiting],
    *,
    run_id: str,
    campaign_id: str,
    content_hash: str,
    state: DeliveryState,
    now: datetime,
    expire_time: datetime,
    changes: Changes,
) -> int:
    """Insert one delivery each; those that the run already has are left alone. Return how many are new."""
    if not waiting:
        return 0
    shared: dict[str, Any] = {
        "run_id": run_id,
        "campaign_id": campaign_id,
        "content_hash": content_hash,
        "state": state.value,
        "token": 0,
        "account_id": "",
        "attempt_count": 0,
        "possible_duplicate": False,
        "rule": "",
        "rule_count": 0,
        "rule_since": None,
        "state_reason": "",
        "reply_code": 0,
        "enhanced_code": "",
        "reply_text": "",
        "create_time": now,
        "update_time": now,
        "expire_time": expire_time,
    }
    rows = [
        {
            "delivery_key": one.delivery_key,
            "address": one.address,
            "canonical": one.canonical,
            "display_name": one.display_name,
            "variables": one.variables,
            **shared,
        }
        for one in waiting
    ]
    statement = upsert(connection, deliveries).on_conflict_do_nothing(index_elements=["delivery_key"])
    stored = int(connection.execute(statement, rows).rowcount)
    changes.add(run_id, "", state.value, stored)
    return stored


def has_first_keys(connection: Connection, run_id: str) -> bool:
    """Say whether the deliveries of a run are known by the keys of an earlier version: see identity.first_key."""
    key = connection.execute(
        select(deliveries.c.delivery_key).where(deliveries.c.run_id == run_id).order_by(deliveries.c.id).limit(1)
    ).scalar_one_or_none()
    return key is not None and not key.startswith(run_prefix(run_id))


def store_content(connection: Connection, *, content_hash: str, content: bytes, now: datetime) -> None:
    """Keep a content under its hash; one that is there already is the same."""
    connection.execute(
        upsert(connection, contents).on_conflict_do_nothing(index_elements=["content_hash"]),
        {"content_hash": content_hash, "content": content, "create_time": now},
    )


def read_content(connection: Connection, content_hash: str) -> bytes | None:
    """Return the serialized MessageContent with this hash."""
    row = connection.execute(select(contents.c.content).where(contents.c.content_hash == content_hash)).one_or_none()
    return None if row is None else row.content


def runs_with_work(connection: Connection) -> list[str]:
    """Return the ids of the active runs that have open deliveries, oldest id first."""
    unfinished = "sender_runs.unfinished" if connection.dialect.name == "postgresql" else "sender_runs.unfinished = 1"
    rows = connection.execute(
        select(runs.c.run_id)
        .where(text(unfinished), runs.c.state == RunState.ACTIVE.value)
        .order_by(runs.c.create_time, runs.c.run_id)
    )
    return [row.run_id for row in rows]


def claim(
    connection: Connection, *, run_id: str, most: int, worker: str, now: datetime, changes: Changes
) -> list[Claimed]:
    """Claim up to `most` pending deliveries of a run, oldest first.

    What must not go out any more is settled on the way: suppressed addresses and expired messages never reach a server.
    """
    rows = connection.execute(_CLAIM, {"run": run_id, "most": most, "new_worker": worker, "now": now}).all()
    claimed = sorted((Claimed(*row) for row in rows), key=lambda one: one.id)
    suppressed = _suppressed_among(connection, [one.canonical for one in claimed])
    ready = []
    for one in claimed:
        if one.canonical in suppressed:
            state, reason = DeliveryState.SUPPRESSED, f"on the suppression list: {suppressed[one.canonical]}"
        elif one.expire_time <= now:
            state, reason = DeliveryState.EXPIRED, "not accepted by any server before it expired"
        else:
            ready.append(one)
            continue
        connection.execute(
            update(deliveries)
            .where(deliveries.c.id == one.id)
            .values(state=state.value, state_reason=reason, worker=None)
        )
        changes.add(run_id, DeliveryState.PENDING, state)
    changes.add(run_id, DeliveryState.PENDING, DeliveryState.CLAIMED, len(ready))
    return ready


def _suppressed_among(connection: Connection, addresses: list[str]) -> dict[str, str]:
    rows = connection.execute(
        select(suppressions.c.address, suppressions.c.reason).where(suppressions.c.address.in_(addresses))
    )
    return {row.address: row.reason for row in rows}


def promote_due(connection: Connection, *, now: datetime, most: int, changes: Changes) -> datetime | None:
    """Put deferred deliveries whose time has come back into the queue. Return when the next one is due."""
    due = (
        select(deliveries.c.id)
        .where(IS_DEFERRED, deliveries.c.next_attempt_time <= now)
        .order_by(deliveries.c.next_attempt_time)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(
        update(deliveries)
        .where(deliveries.c.id.in_(due))
        .values(state=DeliveryState.PENDING.value, next_attempt_time=None, update_time=now)
        .returning(deliveries.c.run_id)
    ).all()
    for row in rows:
        changes.add(row.run_id, DeliveryState.DEFERRED, DeliveryState.PENDING)
    return connection.execute(
        select(deliveries.c.next_attempt_time).where(IS_DEFERRED).order_by(deliveries.c.next_attempt_time).limit(1)
    ).scalar_one_or_none()


def expire_oldest(connection: Connection, *, run_id: str, most: int, now: datetime, changes: Changes) -> int:
    """Give up the oldest pending deliveries of a run whose time is over: for runs that no account can take."""
    oldest = (
        select(deliveries.c.id).where(IS_PENDING, deliveries.c.run_id == run_id).order_by(deliveries.c.id).limit(most)
    )
    result = connection.execute(
        update(deliveries)
        .where(deliveries.c.id.in_(oldest), deliveries.c.expire_time <= now)
        .values(
            state=DeliveryState.EXPIRED.value,
            state_reason="not accepted by any server before it expired",
            update_time=now,
        )
    )
    changes.add(run_id, DeliveryState.PENDING, DeliveryState.EXPIRED, result.rowcount)
    return result.rowcount


def next_attempt_of(connection: Connection, run_id: str) -> datetime | None:
    """Return when the next deferred delivery of a run is tried again."""
    return connection.execute(
        select(deliveries.c.next_attempt_time)
        .where(IS_DEFERRED, deliveries.c.run_id == run_id)
        .order_by(deliveries.c.next_attempt_time)
        .limit(1)
    ).scalar_one_or_none()


def release(connection: Connection, claims: Iterable[Claimed], *, now: datetime, changes: Changes) -> None:
    """Put back claims that this worker will not use, also those with an intent: no dot of theirs was written.

    Not an attempt: nothing is counted or logged. Those of a run that was cancelled meanwhile are cancelled.
    """
    rows = [(one.id, one.token, to_microseconds(now)) for one in claims]
    for before, statement in _RELEASE.items():
        for run_id, state in statement(connection, rows):
            changes.add(run_id, before, state)


def postpone(connection: Connection, claims: Iterable[Postponed], *, now: datetime, changes: Changes) -> None:
    """Put back claims that cannot be used for a while. Not an attempt: nothing is counted or logged."""
    for one in claims:
        result = connection.execute(
            update(deliveries)
            .where(
                deliveries.c.id == one.claimed.id,
                deliveries.c.token == one.claimed.token,
                deliveries.c.state == DeliveryState.CLAIMED,
            )
            .values(
                state=DeliveryState.DEFERRED.value,
                state_reason=one.reason,
                next_attempt_time=one.until,
                worker=None,
                update_time=now,
            )
        )
        changes.add(one.claimed.run_id, DeliveryState.CLAIMED, DeliveryState.DEFERRED, result.rowcount)


def take_back_all(connection: Connection, worker: str, now: datetime) -> None:
    """Put back, and void, whatever a worker has claimed without an intent: it will use none of it any more."""
    rows = connection.execute(
        update(deliveries)
        .where(IS_IN_PROGRESS, deliveries.c.worker == worker, deliveries.c.state == DeliveryState.CLAIMED.value)
        .values(state=DeliveryState.PENDING.value, worker=None, token=deliveries.c.token + 1, update_time=now)
        .returning(deliveries.c.run_id)
    ).all()
    changes = Changes()
    for row in rows:
        changes.add(row.run_id, DeliveryState.CLAIMED, DeliveryState.PENDING)
    changes.apply(connection)

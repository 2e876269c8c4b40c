"""The queue in SQL: deliveries come in, wait, and are claimed. Every change of state is one conditional UPDATE.

A claim raises the row's token. Whoever changes a claimed row later names the token it was given (see book.py); when the
row has moved on in between (paused, cancelled, rescued, restored), that UPDATE matches nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, exists, select, update

from mailer.database.engine import driver
from mailer.database.rows import BYTES, INTEGER, TEXT, RowStatement
from mailer.database.types import Instant, from_microseconds, to_microseconds
from services.sender.counts import Changes, upsert
from services.sender.identity import run_prefix
from services.sender.states import DeliveryState, RunState
from services.sender.tables import IS_DEFERRED, IS_IN_PROGRESS, IS_PENDING, contents, deliveries, runs


class Claimed(NamedTuple):
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


class Waiting(NamedTuple):
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


CLAIMED_COLUMNS = tuple(deliveries.c[name] for name in Claimed._fields)

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


# The same, said to SQLite's driver: SQLAlchemy needs longer to read the rows than SQLite to claim them.
_CLAIM_IN_SQLITE = f"""
    UPDATE deliveries SET state = 'claimed', token = token + 1, worker = :new_worker, update_time = :now
    WHERE id IN (
        SELECT id FROM deliveries WHERE deliveries.state = 'pending' AND run_id = :run
        AND EXISTS (SELECT 1 FROM sender_runs WHERE run_id = :run AND state = 'active')
        ORDER BY id LIMIT :most
    )
    RETURNING {", ".join(Claimed._fields)}
"""
_INSTANTS = [position for position, column in enumerate(CLAIMED_COLUMNS) if isinstance(column.type, Instant)]
_SUPPRESSED = RowStatement(
    "SELECT suppressions.address, suppressions.reason FROM :rows AS r "
    "JOIN suppressions ON suppressions.address = r.address",
    {"address": TEXT},
)
_NEW = {
    "delivery_key": TEXT,
    "address": TEXT,
    "canonical": TEXT,
    "display_name": TEXT,
    "variables": BYTES,
    "run_id": TEXT,
    "campaign_id": TEXT,
    "content_hash": TEXT,
    "state": TEXT,
    "create_time": INTEGER,
    "update_time": INTEGER,
    "expire_time": INTEGER,
}
_STORE = RowStatement(
    f"""
    INSERT INTO deliveries (
        {", ".join(_NEW)}, token, account_id, attempt_count, possible_duplicate, rule, rule_count, state_reason,
        reply_code, enhanced_code, reply_text
    )
    SELECT {", ".join(f"r.{name}" for name in _NEW)}, 0, '', 0, false, '', 0, '', 0, '', ''
    FROM :rows AS r WHERE r.delivery_key IS NOT NULL
    ON CONFLICT (delivery_key) DO NOTHING
    """,
    _NEW,
)
_RELEASE = {
    before: RowStatement(
        f"""
        UPDATE deliveries SET worker = NULL, update_time = r.at, state = CASE WHEN EXISTS (
            SELECT 1 FROM sender_runs WHERE sender_runs.run_id = deliveries.run_id AND sender_runs.state = 'cancelled'
        ) THEN 'cancelled' ELSE 'pending' END
        FROM :rows AS r
        WHERE deliveries.id = r.id AND deliveries.token = r.token AND deliveries.state = '{before}'
        """,
        {"id": INTEGER, "token": INTEGER, "at": INTEGER},
        returning="deliveries.run_id, deliveries.state",
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
    shared = (run_id, campaign_id, content_hash, state.value, *[to_microseconds(at) for at in (now, now, expire_time)])
    rows = [(one.delivery_key, one.address, one.canonical, one.display_name, one.variables, *shared) for one in waiting]
    stored = _STORE.count(connection, rows)
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


def claim(
    connection: Connection, *, run_id: str, most: int, worker: str, now: datetime, changes: Changes
) -> list[Claimed]:
    """Claim up to `most` pending deliveries of a run, oldest first.

    What must not go out any more is settled on the way: suppressed addresses and expired messages never reach a server.
    """
    values = {"run": run_id, "most": most, "new_worker": worker, "now": now}
    rows = (
        connection.execute(_CLAIM, values)
        if connection.dialect.name != "sqlite"
        else _claim_in_sqlite(connection, values)
    )
    claimed = sorted((Claimed(*row) for row in rows), key=lambda one: one.id)
    if not claimed:
        return []
    suppressed = dict(_SUPPRESSED(connection, [(one.canonical,) for one in claimed]))
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


def _claim_in_sqlite(connection: Connection, values: dict[str, Any]) -> list[list[Any]]:
    values = values | {"now": to_microseconds(values["now"])}
    rows = [list(row) for row in driver(connection).execute(_CLAIM_IN_SQLITE, values).fetchall()]
    # Rows of one batch have their instants in common.
    known: dict[int | None, datetime | None] = {None: None}
    for row in rows:
        for position in _INSTANTS:
            value = row[position]
            if value not in known:
                known[value] = from_microseconds(value)
            row[position] = known[value]
    return rows


def promote_due(connection: Connection, *, now: datetime, most: int, changes: Changes) -> None:
    """Put deferred deliveries whose time has come back into the queue."""
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


def first_due(connection: Connection) -> datetime | None:
    """Return when the first of all deferred deliveries is due; None when none is deferred."""
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

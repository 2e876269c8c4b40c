"""Messages per account and minute in SQL: what caps are checked against, across restarts and processes.

The counts are written by the book, in the transaction of each intent.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, or_, select

from mailer.database.rows import TEXT, RowStatement
from services.sender.caps import DAY_MINUTES, HOUR_MINUTES, minute_of
from services.sender.tables import account_usage, accounts, workers

WORKER_SILENT_AFTER = timedelta(seconds=60)

_CAPPED = RowStatement(
    """
    SELECT 1 FROM :rows AS r JOIN sender_accounts AS a ON a.account_id = r.account_id
    WHERE a.per_hour_count > 0 OR a.per_day_count > 0
    """,
    {"account_id": TEXT},
)


def read_counts(
    connection: Connection, account_ids: Collection[str], since_minute: int, now: datetime
) -> tuple[dict[str, dict[int, int]], int]:
    """Return the messages of these accounts per minute, and how many workers share the accounts."""
    counts: dict[str, dict[int, int]] = {account_id: {} for account_id in account_ids}
    rows = connection.execute(
        select(account_usage.c.account_id, account_usage.c.minute, account_usage.c.message_count).where(
            account_usage.c.account_id.in_(list(account_ids)), account_usage.c.minute >= since_minute
        )
    )
    for account_id, minute, count in rows:
        counts[account_id][minute] = count
    alive = select(func.count()).where(workers.c.heartbeat_time > now - WORKER_SILENT_AFTER)
    return counts, connection.execute(alive).scalar_one()


def rooms_within_caps(connection: Connection, account_ids: Collection[str], *, now: datetime) -> dict[str, int]:
    """Return how many messages the caps of an hour and a day leave; accounts without such caps are missing."""
    if not _CAPPED(connection, [(account_id,) for account_id in account_ids]):
        return {}
    caps = connection.execute(
        select(accounts.c.account_id, accounts.c.per_hour_count, accounts.c.per_day_count).where(
            accounts.c.account_id.in_(sorted(account_ids)),
            or_(accounts.c.per_hour_count > 0, accounts.c.per_day_count > 0),
        )
    ).all()
    if not caps:
        return {}
    minute = minute_of(now)
    counts, _ = read_counts(connection, [row.account_id for row in caps], minute - DAY_MINUTES, now)
    rooms = {}
    for row in caps:
        used = counts[row.account_id]
        hour = sum(count for at, count in used.items() if at >= minute - HOUR_MINUTES)
        rooms[row.account_id] = min(
            limit - count
            for limit, count in ((row.per_hour_count, hour), (row.per_day_count, sum(used.values())))
            if limit
        )
    return rooms


def day_counts(connection: Connection, account_ids: Collection[str], *, now: datetime) -> dict[str, int]:
    """Return the messages of each account in the last 24 hours; accounts without any are missing."""
    rows = connection.execute(
        select(account_usage.c.account_id, func.sum(account_usage.c.message_count).label("total"))
        .where(
            account_usage.c.account_id.in_(list(account_ids)),
            account_usage.c.minute > minute_of(now) - DAY_MINUTES,
        )
        .group_by(account_usage.c.account_id)
    )
    return {row.account_id: int(row.total) for row in rows}


def forget_usage(connection: Connection, *, now: datetime) -> int:
    """Delete counts that no cap looks at any more. Returns how many rows."""
    oldest = minute_of(now) - DAY_MINUTES - 60
    return connection.execute(delete(account_usage).where(account_usage.c.minute < oldest)).rowcount

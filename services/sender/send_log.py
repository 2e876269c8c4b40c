"""The log in SQL: one row per attempt, and per decision of a person; never changed."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from mailer.database.rows import INTEGER, TEXT, RowStatement


class LogEntry(NamedTuple):
    """One row of `send_logs`; times are microseconds since 1970."""

    log_key: str
    run_id: str
    account_id: str
    worker: str
    stage: str
    outcome: str
    reply_code: int
    enhanced_code: str
    reply_text: str
    description: str
    retry_count: int
    start_time: int
    end_time: int


_APPEND = RowStatement(
    f"""
    INSERT INTO send_logs ({", ".join(LogEntry._fields)})
    SELECT {", ".join(f"r.{name}" for name in LogEntry._fields)} FROM :rows AS r WHERE r.log_key IS NOT NULL
    ON CONFLICT (log_key) DO NOTHING
    """,
    {name: INTEGER if kind is int else TEXT for name, kind in LogEntry.__annotations__.items()},
)


def log_key(delivery_key: str, token: int, step: str) -> str:
    """Return the key of a log row: rows of one delivery are found, in their order, by its prefix."""
    return f"{delivery_key}:{token:08d}:{step}"


def append_log(connection: Connection, entries: Sequence[LogEntry]) -> None:
    """Append rows to the log; a row that is there already stays as it is."""
    _APPEND.count(connection, entries)

"""A mark in the database itself: up to which of its groups a writer's process has committed.

It is written in the group's own transaction. So whoever survives that process can tell whether its last group is in the
database, at whatever instant it died.
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from mailer.database.engine import driver

# A process that was started so many processes ago has ended, or makes its row again.
_KEPT = 64


@dataclass(frozen=True, slots=True)
class Mark:
    """A group of a process."""

    writer_id: str
    group: int


def write_mark(connection: Connection, mark: Mark) -> None:
    """Let the transaction say that it is this group."""
    raw = driver(connection)
    changed = raw.execute(
        "UPDATE database_writers SET last_group = ? WHERE writer_id = ?", (mark.group, mark.writer_id)
    )
    if not changed.rowcount:
        raw.execute("INSERT INTO database_writers (writer_id, last_group) VALUES (?, ?)", (mark.writer_id, mark.group))
        raw.execute("DELETE FROM database_writers WHERE id <= (SELECT max(id) FROM database_writers) - ?", (_KEPT,))


def is_marked(connection: Connection, mark: Mark) -> bool:
    """Say whether the group was committed, by a process that has committed none after it."""
    found = driver(connection).execute(
        "SELECT 1 FROM database_writers WHERE writer_id = ? AND last_group = ?", (mark.writer_id, mark.group)
    )
    return found.fetchone() is not None

"""A place in a transaction to return to."""

import sqlite3
from typing import Protocol

from sqlalchemy import Connection

from mailer.database.engine import driver


class Savepoint(Protocol):
    """What was done since is kept or undone; either ends it."""

    def commit(self) -> None:
        """Keep it, as part of the transaction around."""
        ...

    def rollback(self) -> None:
        """Undo it, and nothing else."""
        ...


def begin_savepoint(connection: Connection) -> Savepoint:
    """Return a new savepoint in the connection's transaction."""
    if connection.dialect.name == "sqlite":
        return _DriverSavepoint(driver(connection))
    return connection.begin_nested()


class _DriverSavepoint:
    """Speaks to the driver: SQLAlchemy's nested transactions cost more than most of what is done in them."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw
        raw.execute("SAVEPOINT job")

    def commit(self) -> None:
        self._raw.execute("RELEASE job")

    def rollback(self) -> None:
        self._raw.execute("ROLLBACK TO job")
        self._raw.execute("RELEASE job")

"""What can happen to a database, told apart by what the caller can do about it."""

import sqlite3

from sqlalchemy import exc

from mailer.errors import CannotStart, Unavailable


class DatabaseUnavailable(Unavailable):
    """The database could not do it now; nothing was changed."""

    def again(self) -> "DatabaseUnavailable":
        """Return a new error that says the same."""
        copy = DatabaseUnavailable.__new__(type(self))
        DatabaseUnavailable.__init__(copy, self.message, reason=self.reason)
        return copy


class DatabaseBusy(DatabaseUnavailable):
    """Another process held the database for longer than the busy timeout."""

    def __init__(self, message: str = "The database is busy; nothing was done, try again in a moment.") -> None:
        """Say so."""
        super().__init__(message, reason="DATABASE_BUSY")


class DatabaseFull(DatabaseUnavailable):
    """The disk is full, or reading or writing it failed."""

    def __init__(
        self, message: str = "The database cannot be written: the disk is full, failing or read-only; free some space."
    ) -> None:
        """Say so."""
        super().__init__(message, reason="DATABASE_FULL")


_AWAY = "The database is away; the service goes on when it is back."


class DatabaseGone(DatabaseUnavailable):
    """The database file is missing or unusable, the server is not reachable, or the database is closed."""

    def __init__(self, message: str = _AWAY) -> None:
        """Say so."""
        super().__init__(message, reason="DATABASE_GONE")


class DatabaseDamaged(DatabaseGone):
    """SQLite finds the content of the file broken."""

    def __init__(
        self, message: str = "The database file is damaged: bring a snapshot back (mailer backup restore latest)."
    ) -> None:
        """Say so."""
        super().__init__(message)


class DatabaseReplaced(DatabaseUnavailable):
    """The content was replaced (a restore): what this work was based on is no longer there."""

    def __init__(self, message: str = "The database was restored from a snapshot meanwhile; nothing was done.") -> None:
        """Say so."""
        super().__init__(message, reason="DATABASE_REPLACED")


class DatabaseUnusable(CannotStart):
    """The database cannot be used at start: one line saying why and what to do."""


def cannot_be_used(location: object, cause: DatabaseUnavailable) -> str:
    """Return why a process cannot start with the database: what goes on by itself later does not begin without it."""
    if isinstance(cause, DatabaseGone) and cause.message == _AWAY:
        return f"the database {location} cannot be reached: start it, or set MAILER_DATABASE_URL, then start again"
    return f"the database {location} cannot be used: {cause.message}"


_SQLITE_KINDS: dict[int, type[DatabaseBusy] | type[DatabaseFull] | type[DatabaseGone]] = {
    sqlite3.SQLITE_BUSY: DatabaseBusy,
    sqlite3.SQLITE_LOCKED: DatabaseBusy,
    sqlite3.SQLITE_FULL: DatabaseFull,
    sqlite3.SQLITE_IOERR: DatabaseFull,
    sqlite3.SQLITE_READONLY: DatabaseFull,
    sqlite3.SQLITE_CANTOPEN: DatabaseGone,
    sqlite3.SQLITE_CORRUPT: DatabaseDamaged,
    sqlite3.SQLITE_NOTADB: DatabaseDamaged,
}
# PostgreSQL: lock_not_available, serialization_failure, deadlock_detected; disk_full.
_POSTGRES_BUSY = {"55P03", "40001", "40P01"}
_POSTGRES_FULL = {"53100"}


def wrote_in_a_read(error: BaseException) -> bool:
    """Say whether a function handed to `Database.read` tried to write: a bug, not a state of the disk."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_READONLY


def unavailable(error: BaseException) -> DatabaseUnavailable | None:  # noqa: PLR0911 (a table in words)
    """Return what the error says about the database as a whole, None when it is about the statement."""
    if isinstance(error, DatabaseUnavailable):
        return error
    if isinstance(error, exc.TimeoutError):
        return DatabaseBusy()
    driver_error: BaseException | None = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(driver_error, sqlite3.Error):
        # The low byte is the class, the rest its details (SQLITE_IOERR_FSYNC ...).
        kind = _SQLITE_KINDS.get((getattr(driver_error, "sqlite_errorcode", None) or 0) & 0xFF)
        return kind() if kind else None
    if isinstance(error, exc.DBAPIError):
        state = getattr(driver_error, "sqlstate", None) or ""
        if state in _POSTGRES_BUSY:
            return DatabaseBusy()
        if state in _POSTGRES_FULL:
            return DatabaseFull()
        # An OperationalError without a state never reached the server.
        unreached = isinstance(error, exc.OperationalError) and not state
        if error.connection_invalidated or unreached or state.startswith(("08", "57P")):
            return DatabaseGone()
    return None

"""Connections: one engine that writes, one that only reads, each with the settings that keep data safe."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

from mailer.database.errors import DatabaseGone, DatabaseUnusable

APPLICATION_ID = 0x4D41494C  # "MAIL": says whose file it is, see `file database`
_HEADER = b"SQLite format 3\x00"
_WAL_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Location:
    """Where the database is."""

    url: URL

    @property
    def is_sqlite(self) -> bool:
        """Say whether it is a file of ours rather than a server."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path:
        """Return the SQLite file."""
        return Path(str(self.url.database))

    def __str__(self) -> str:
        """Return the URL without a password, for logs."""
        return self.url.render_as_string(hide_password=True)


def locate(url: str) -> Location:
    """Return where the URL points; raises DatabaseUnusable for one that cannot be used."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseUnusable(
            "MAILER_DATABASE_URL: not a database URL; write sqlite:///data/mailer.db or postgresql://..."
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.query:
            raise DatabaseUnusable("MAILER_DATABASE_URL: name a file, as in sqlite:///data/mailer.db")
    elif backend == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        try:
            import psycopg  # noqa: F401, PLC0415 (optional: only who uses PostgreSQL needs it)
        except ImportError:
            raise DatabaseUnusable(
                "MAILER_DATABASE_URL: PostgreSQL needs its driver: pip install 'campaign-mailer[postgres]'"
            ) from None
    else:
        raise DatabaseUnusable(f"MAILER_DATABASE_URL: {backend} is not supported; use sqlite or postgresql")
    return Location(parsed)


def prepare_file(path: Path) -> None:
    """Create the SQLite file and its folder when missing; refuse a file of another kind, unchanged."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made by us, so that the mode is ours: it holds addresses. The -wal and -shm files inherit it.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _check_header(path)
    except OSError as error:
        raise DatabaseUnusable(
            f"the database {path} cannot be opened or created: {error.strerror}; "
            "set MAILER_DATABASE_URL or MAILER_DATA_DIR"
        ) from None


def check_ours(path: Path) -> None:
    """Refuse a file that is no SQLite or another application's; an empty one is fine. Changes nothing."""
    _check_header(path)
    connection = connect_file(path, busy_timeout=timedelta(seconds=5))
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    finally:
        connection.close()
    if application_id != APPLICATION_ID and (tables or application_id):
        raise DatabaseUnusable(f"not a Mailer database: {path} belongs to another application; nothing was changed")


def _check_header(path: Path) -> None:
    # Asked of the file itself: with the log of another database beside it, SQLite would not look here first.
    with path.open("rb") as file:
        header = file.read(len(_HEADER))
    if header and header != _HEADER:
        raise DatabaseUnusable(f"not a Mailer database: {path} is no SQLite file; nothing was changed")


def connect_file(path: Path, *, busy_timeout: timedelta) -> sqlite3.Connection:
    """Open an existing SQLite file; unlike sqlite3.connect it never creates one in place of a lost one."""
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=rw",
        uri=True,
        isolation_level=None,  # the driver's implicit transactions lose updates; ours are begun in words
        timeout=busy_timeout.total_seconds(),
        check_same_thread=False,
    )


def driver(connection: Connection) -> sqlite3.Connection:
    """Return SQLite's own connection, for the few statements of every transaction (20 times cheaper there)."""
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        raise TypeError("only SQLite is spoken to directly")
    return raw


def write_engine(location: Location, *, busy_timeout: timedelta) -> Engine:
    """Return the engine of the one writer: every transaction takes the write lock at its start."""
    if not location.is_sqlite:
        options = f"-c lock_timeout={int(busy_timeout.total_seconds() * 1000)}"
        return _postgres(location, options, pool_size=2)
    return _sqlite(
        location,
        busy_timeout,
        pool_size=1,
        begin="BEGIN IMMEDIATE",
        pragmas=(
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "PRAGMA foreign_keys=ON",
            "PRAGMA cache_size=-16384",
            "PRAGMA temp_store=MEMORY",  # what a statement might have to undo: a file of its own each time otherwise
            f"PRAGMA journal_size_limit={_WAL_LIMIT}",
            # In larger bites than the usual 1,000 pages: one that is written again and again is carried over once.
            "PRAGMA wal_autocheckpoint=4000",
        ),
    )


def read_engine(location: Location, *, busy_timeout: timedelta, connections: int) -> Engine:
    """Return the engine of the readers: one consistent view per transaction, and no way to write."""
    if not location.is_sqlite:
        engine = _postgres(location, "-c default_transaction_read_only=on", pool_size=connections)
        return engine.execution_options(isolation_level="REPEATABLE READ")
    return _sqlite(
        location,
        busy_timeout,
        pool_size=connections,
        begin="BEGIN",
        pragmas=("PRAGMA query_only=ON", "PRAGMA cache_size=-8192"),
    )


def _sqlite(
    location: Location, busy_timeout: timedelta, *, pool_size: int, begin: str, pragmas: tuple[str, ...]
) -> Engine:
    def creator() -> sqlite3.Connection:
        try:
            connection = connect_file(location.path, busy_timeout=busy_timeout)
        except sqlite3.OperationalError as error:
            if not location.path.exists():
                raise DatabaseGone(f"The database file {location.path} is missing.") from error
            raise
        try:
            for pragma in pragmas:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = sqlalchemy.create_engine(
        "sqlite://",
        creator=creator,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
    )
    event.listen(engine, "begin", _beginning_with(begin))
    return engine


def _postgres(location: Location, options: str, *, pool_size: int) -> Engine:
    return sqlalchemy.create_engine(
        location.url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 5, "options": options},
    )


def _beginning_with(statement: str) -> Callable[[Connection], Any]:
    return lambda connection: driver(connection).execute(statement)

"""Migrations at start: each owner's own folder and version table, one process at a time."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from mailer.database.engine import (
    APPLICATION_ID,
    Location,
    check_ours,
    connect_file,
    locate,
    prepare_file,
    write_engine,
)
from mailer.database.errors import DatabaseBusy, DatabaseUnusable, cannot_be_used, unavailable
from mailer.lockfile import LockFile

_ADVISORY_LOCK = APPLICATION_ID
# alembic.op is one global proxy: two migrations in one process must not share it.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class Migrations:
    """The tables of one owner: a folder with `versions/*.py`, kept in `alembic_version_<owner>`."""

    owner: str
    folder: Path


OURS = Migrations("database", Path(__file__).parent / "migrations")


def migrate(url: str, owner: str, script_location: Path, *, busy_timeout: timedelta = timedelta(seconds=5)) -> None:
    """Bring one owner's tables up to date; `migrate_all` does several under one lock."""
    migrate_all(url, [Migrations(owner, script_location)], busy_timeout=busy_timeout)


def migrate_all(url: str, migrations: Sequence[Migrations], *, busy_timeout: timedelta = timedelta(seconds=5)) -> None:
    """Create the database when it is missing and bring the tables of the owners up to date, in order.

    Blocks: call it in a thread. Processes that start together take turns. Raises DatabaseUnusable with one
    line for a file that is not ours, a schema newer than this program, a database that stays locked.
    """
    location = locate(url)
    with _ONE_AT_A_TIME:
        try:
            with _turn(location), _migration_engine(location, busy_timeout).connect() as connection:
                for owned in (OURS, *migrations):
                    _upgrade(connection, location, owned)
        except (DBAPIError, sqlite3.Error, DatabaseBusy) as error:
            raise DatabaseUnusable(_cause(error, location)) from error


def schema_revisions(connection: Connection) -> dict[str, str]:
    """Return the revision of each owner's tables, as a snapshot's manifest keeps it."""
    found = {}
    for name in sorted(inspect(connection).get_table_names()):
        if not name.startswith("alembic_version_"):
            continue
        revisions = connection.execute(text(f"SELECT version_num FROM {name} ORDER BY version_num")).scalars()
        found[name.removeprefix("alembic_version_")] = ",".join(revisions)
    return found


def known_revisions(migrations: Migrations) -> frozenset[str]:
    """Return every revision that this program knows of an owner's tables."""
    script = ScriptDirectory(str(migrations.folder))
    return frozenset(step.revision for step in script.walk_revisions())


@contextmanager
def _turn(location: Location) -> Iterator[None]:
    """Wait until no other process migrates this database."""
    if not location.is_sqlite:
        yield  # taken on the connection, see _upgrade
        return
    prepare_file(location.path)
    with LockFile(location.path.with_name(location.path.name + ".migrating")):
        check_ours(location.path)
        yield


def _migration_engine(location: Location, busy_timeout: timedelta) -> Engine:
    if not location.is_sqlite:
        return write_engine(location, busy_timeout=busy_timeout)

    def creator() -> sqlite3.Connection:
        connection = connect_file(location.path, busy_timeout=busy_timeout)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    # Foreign keys stay off here: altering a table on SQLite means copying it. They are checked before COMMIT.
    engine = create_engine("sqlite://", creator=creator, poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _upgrade(connection: Connection, location: Location, owned: Migrations) -> None:
    """Bring one owner's tables to the newest revision in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(owned.folder).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    version_table = f"alembic_version_{owned.owner}"

    def steps(revision: Any, _: MigrationContext) -> Any:
        return script._upgrade_revs("head", revision)

    with connection.begin():
        if location.is_sqlite:
            if connection.exec_driver_sql("PRAGMA application_id").scalar() != APPLICATION_ID:
                connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
        else:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        _refuse_newer(connection, script, version_table, owned.owner)
        before = _revisions(connection, version_table)
        with EnvironmentContext(config, script, fn=steps, destination_rev="head") as environment:
            environment.configure(
                connection=connection, version_table=version_table, render_as_batch=location.is_sqlite
            )
            environment.run_migrations()
        if not location.is_sqlite or _revisions(connection, version_table) == before:
            return  # nothing was changed, and looking at every row takes longer the more there are
        if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
            raise DatabaseUnusable(f"the migration of {owned.owner} left broken references; nothing was changed")


def _refuse_newer(connection: Connection, script: ScriptDirectory, version_table: str, owner: str) -> None:
    known = {step.revision for step in script.walk_revisions()}
    for revision in _revisions(connection, version_table):
        if revision not in known:
            raise DatabaseUnusable(
                f"the database was written by a newer Mailer (revision {revision} of the {owner} is unknown here): "
                "install that version, or restore a snapshot taken before the upgrade; nothing was changed"
            )


def _revisions(connection: Connection, version_table: str) -> tuple[str, ...]:
    context = MigrationContext.configure(connection, opts={"version_table": version_table})
    return tuple(context.get_current_heads())


def _cause(error: Exception, location: Location) -> str:
    match unavailable(error):
        case DatabaseBusy():
            return f"the database {location} is locked by another process: stop it or wait, then start again"
        case None:
            detail = str(error.orig if isinstance(error, DBAPIError) else error).splitlines()[0]
            return f"the database {location} cannot be migrated: {detail}"
        case other:
            return cannot_be_used(location, other)

"""Proving that a SQLite file is whole, and saying what is in it."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.backup.connect import connected, interruptible
from services.backup.job import Job, Phase

IDENTITY_TABLE = "database_identity"

_REVISION_TABLE = "alembic_version_"
_MOST_PROBLEMS_SHOWN = 3


class NotSound(Exception):
    """The file is not a whole database; the text says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a database file holds."""

    application_id: int
    page_size: int
    text_encoding: str
    schema_revisions: Mapping[str, str]
    """Revision of the tables by their owner."""
    incarnation: str
    row_counts: Mapping[str, int]


def prove(path: Path, job: Job) -> Contents:
    """Check integrity and foreign keys of a file that nobody writes to, and count its rows. Raises NotSound.

    Integrity alone is no proof: it overlooks most flipped bits and every missing row. Compare hashes too.
    """
    size = path.stat().st_size
    try:
        with connected(path, mode="immutable") as connection, interruptible(connection, job):
            job.step(Phase.CHECKING, 0, size)
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(10)") if row[0] != "ok"]
            job.step(Phase.CHECKING, size // 2, size)
            problems += [
                f"a row of {table} refers to a row of {parent} that does not exist"
                for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check")
            ]
            if problems:
                raise NotSound("; ".join(problems[:_MOST_PROBLEMS_SHOWN]))
            contents = read_contents(connection)
            job.step(Phase.CHECKING, size, size)
    except sqlite3.DatabaseError as error:
        raise NotSound(str(error)) from error
    return contents


def read_contents(connection: sqlite3.Connection) -> Contents:
    """Return what a database holds, without checking it."""
    tables = table_names(connection)
    return Contents(
        application_id=pragma(connection, "application_id"),
        page_size=pragma(connection, "page_size"),
        text_encoding=pragma(connection, "encoding"),
        schema_revisions=read_revisions(connection),
        incarnation=read_incarnation(connection),
        row_counts=count_rows(connection, tables),
    )


def table_names(connection: sqlite3.Connection, *, schema: str = "main") -> list[str]:
    """Return the tables of a database, without SQLite's own."""
    rows = connection.execute(f"SELECT name FROM {schema}.sqlite_schema WHERE type = 'table' ORDER BY name")
    return [row[0] for row in rows if not row[0].startswith("sqlite_")]


def count_rows(connection: sqlite3.Connection, tables: Iterable[str], *, schema: str = "main") -> dict[str, int]:
    """Return the rows per table."""
    return {
        table: connection.execute(f"SELECT count(*) FROM {schema}.{quoted(table)}").fetchone()[0] for table in tables
    }


def read_incarnation(connection: sqlite3.Connection) -> str:
    """Return the identity of the database, or '' when it has none."""
    try:
        row = connection.execute(f"SELECT incarnation FROM main.{IDENTITY_TABLE}").fetchone()
    except sqlite3.OperationalError:
        return ""
    return row[0] if row else ""


def read_revisions(connection: sqlite3.Connection, *, schema: str = "main") -> dict[str, str]:
    """Return what `mailer.database.migrate.schema_revisions` would, without SQLAlchemy."""
    return {
        table.removeprefix(_REVISION_TABLE): ",".join(
            row[0]
            for row in connection.execute(f"SELECT version_num FROM {schema}.{quoted(table)} ORDER BY version_num")
        )
        for table in table_names(connection, schema=schema)
        if table.startswith(_REVISION_TABLE)
    }


def quoted(name: str) -> str:
    """Return a table or column name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """Return what a PRAGMA says about the main database."""
    return connection.execute(f"PRAGMA main.{name}").fetchone()[0]

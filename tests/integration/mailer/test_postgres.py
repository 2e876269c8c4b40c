"""The same database layer on PostgreSQL, where one is installed."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from mailer.database import Database, DatabaseBusy, DatabaseGone, DatabaseReplaced, DatabaseUnusable, Migrations
from mailer.database.migrate import migrate_all
from tests.fakes.clock import FakeClock
from tests.fakes.postgres import PostgresServer, is_installed

pytestmark = pytest.mark.skipif(not is_installed(), reason="PostgreSQL is not installed")

FIRST = """
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = "things_0001", None, None, None
def upgrade():
    op.create_table("things", sa.Column("name", sa.Text, primary_key=True))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.stop()
    server.remove()


@pytest.fixture
def url(server: PostgresServer) -> str:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return server.url(name)


@pytest.fixture
def migrations(tmp_path: Path) -> Migrations:
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "0001.py").write_text(FIRST)
    return Migrations("things", tmp_path)


@pytest.fixture
async def things(url: str, migrations: Migrations, clock: FakeClock) -> AsyncIterator[Database]:
    database = await Database.open(url, clock=clock, migrations=[migrations], busy_timeout=timedelta(milliseconds=100))
    yield database
    await database.close()


def add(connection: Connection, name: str) -> str:
    connection.execute(text("INSERT INTO things VALUES (:name)"), {"name": name})
    return name


def names(connection: Connection) -> list[str]:
    return list(connection.execute(text("SELECT name FROM things ORDER BY name")).scalars())


async def test_a_write_is_seen_by_the_next_read(things: Database) -> None:
    assert await things.write(add, "a") == "a"
    assert await things.read(names) == ["a"]


async def test_a_failing_job_undoes_itself_and_not_its_group(things: Database) -> None:
    results = await asyncio.gather(*(things.write(add, name) for name in "xabac"), return_exceptions=True)
    assert [type(result) for result in results] == [str, str, str, IntegrityError, str]
    assert await things.read(names) == ["a", "b", "c", "x"]


async def test_a_reader_cannot_write(things: Database) -> None:
    with pytest.raises(DBAPIError, match="read-only"):
        await things.read(add, "a")


async def test_a_lock_held_elsewhere_is_busy(things: Database, url: str) -> None:
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE things")
        with pytest.raises(DatabaseBusy):
            await things.write(add, "a")
    assert await things.write(add, "a") == "a"


async def test_a_restored_database_is_noticed(things: Database, url: str) -> None:
    with psycopg.connect(url) as other:
        other.execute("UPDATE database_identity SET incarnation = 'another'")
    with pytest.raises(DatabaseReplaced):
        await things.write(add, "a")
    assert things.incarnation == "another"
    assert await things.write(add, "b") == "b"


async def test_starting_together_does_not_collide(url: str, migrations: Migrations) -> None:
    await asyncio.gather(*(asyncio.to_thread(migrate_all, url, [migrations]) for _ in range(3)))


async def test_a_newer_schema_is_refused(url: str, migrations: Migrations, things: Database) -> None:
    await things.write(
        lambda connection: connection.execute(text("UPDATE alembic_version_things SET version_num = 'x'"))
    )
    with pytest.raises(DatabaseUnusable, match="newer Mailer"):
        migrate_all(url, [migrations])


async def test_a_server_that_goes_away_is_gone_until_it_is_back(things: Database, server: PostgresServer) -> None:
    await things.write(add, "a")
    await asyncio.to_thread(server.stop)
    try:
        with pytest.raises(DatabaseGone):
            await things.write(add, "b")
        with pytest.raises(DatabaseGone):
            await things.read(names)
        assert not await things.probe()
    finally:
        await asyncio.to_thread(server.start)
    assert await things.probe()
    assert await things.write(add, "c") == "c"


def test_an_unreachable_server_is_one_line_without_the_password() -> None:
    with pytest.raises(DatabaseUnusable) as caught:
        migrate_all("postgresql://mailer:canary@127.0.0.1:1/mailer", [])
    (line,) = caught.value.problems
    assert "canary" not in line
    assert "cannot be reached: start it" in line

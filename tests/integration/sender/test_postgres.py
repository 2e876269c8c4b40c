"""The sender's book on PostgreSQL, where one is installed: what is stored in groups is counted there, too."""

import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection

import services.sender
from mailer.clock import SystemClock
from mailer.database import Database, Migrations
from services.sender import book, outbox, runs, suppressions
from services.sender.counts import Changes, read_counts
from services.sender.states import DeliveryState, Policy
from tests.fakes.postgres import PostgresServer, is_installed

pytestmark = pytest.mark.skipif(not is_installed(), reason="PostgreSQL is not installed")

NOW = SystemClock().now()
MIGRATIONS = Migrations("sender", Path(services.sender.__file__).parent / "migrations")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.stop()
    server.remove()


@pytest.fixture
async def database(server: PostgresServer) -> AsyncIterator[Database]:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    database = await Database.open(server.url(name), clock=SystemClock(), migrations=[MIGRATIONS])
    yield database
    await database.close()


def store(connection: Connection) -> int:
    runs.ensure(
        connection, run_id="run", campaign_id="", policy=Policy.AT_MOST_ONCE, options=b"", content_hash="c", now=NOW
    )
    changes = Changes()
    waiting = [
        outbox.Waiting(f"key{number}", f"p{number}@x.example", f"p{number}@x.example", "", b"") for number in range(9)
    ]
    stored = outbox.store(
        connection,
        waiting,
        run_id="run",
        campaign_id="",
        content_hash="c",
        state=DeliveryState.PENDING,
        now=NOW,
        expire_time=NOW + timedelta(days=1),
        changes=changes,
    )
    changes.apply(connection)
    return stored


def intend_all(connection: Connection) -> int:
    changes = Changes()
    claimed = outbox.claim(connection, run_id="run", most=9, worker="w", now=NOW, changes=changes)
    granted = book.write_intents(connection, [book.Intent(one, "life", "account", NOW) for one in claimed], changes)
    changes.apply(connection)
    return len(granted)


async def test_a_batch_is_counted_once_and_its_intents_are_granted(database: Database) -> None:
    assert await database.write(store) == 9
    assert await database.write(store) == 0
    assert await database.write(intend_all) == 9
    counts = await database.read(read_counts, "run")
    assert {state: count for state, count in counts.items() if count} == {"dot_intent": 9}


async def test_suppressions_that_are_new_are_counted(database: Database) -> None:
    def add(connection: Connection) -> int:
        return suppressions.add(connection, ["a@x.example", "b@x.example"], reason="", now=NOW)

    assert await database.write(add) == 2
    assert await database.write(add) == 0

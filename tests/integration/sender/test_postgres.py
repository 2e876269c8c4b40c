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
from mailer.database.types import to_microseconds
from services.sender import book, outbox, removal, runs, suppressions
from services.sender.counts import Changes, read_counts
from services.sender.delivery_list import Wanted, read_list
from services.sender.entries import Intent
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
    intents = [Intent(one.id, one.token, one.run_id, "account", to_microseconds(NOW)) for one in claimed]
    granted = book.write_intents(connection, intents, changes)
    changes.apply(connection)
    return len(granted)


async def test_a_batch_is_counted_once_and_its_intents_are_granted(database: Database) -> None:
    assert await database.write(store) == 9
    assert await database.write(store) == 0
    assert await database.write(intend_all) == 9
    found = await database.read(read_counts, "run")
    assert {state: count for state, count in found.items() if count} == {"dot_intent": 9}


async def test_suppressions_that_are_new_are_counted(database: Database) -> None:
    def add(connection: Connection) -> int:
        return suppressions.add(connection, ["a@x.example", "b@x.example"], reason="", now=NOW)

    assert await database.write(add) == 2
    assert await database.write(add) == 0


async def test_lists_of_every_kind_are_understood(database: Database) -> None:
    await database.write(store)
    await database.write(intend_all)
    for state in (None, *DeliveryState):
        states = frozenset({state} if state else ())
        for wanted in (Wanted(states=states), Wanted(run_id="run", states=states)):
            rows = await database.read(read_list, wanted, after=0, limit=5)
            assert len(rows) == (5 if state in {None, DeliveryState.DOT_INTENT} else 0)
    await database.write(runs.pause, "run", reason="a typo", now=NOW)


async def test_what_is_over_for_long_is_removed(database: Database) -> None:
    await database.write(store)
    await database.write(cancel)
    assert await database.read(removal.has_ended)
    assert await database.write(removal.note_ended, most=10, now=NOW) == 1
    later = NOW + timedelta(days=30)
    assert await database.read(removal.is_due, ended_before=later)
    taken = [await database.write(removal.take_bite, ended_before=later, most=5, now=later) for _ in range(3)]
    assert taken == [{"run": 5}, {"run": 4}, {}]
    assert (await database.read(read_counts, "run"))["cancelled"] == 9


def cancel(connection: Connection) -> None:
    changes = Changes()
    runs.cancel_open(connection, "run", now=NOW, changes=changes)
    changes.apply(connection)

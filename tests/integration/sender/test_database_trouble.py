"""A database that is locked for a minute, or on a full disk: no dot without an intent, and it goes on by itself."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection

from mailer.v1 import sender_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import PATIENCE, SenderService, sender_service
from tests.fakes.smtp_server import SmtpServer, Until

PEOPLE = sorted(f"p{number:03}@d{number % 7}.example" for number in range(300))
AT_MOST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE)
CONNECTIONS = 4


@pytest.fixture
async def sender(tmp_path: Path, clock: FakeClock, server: SmtpServer) -> AsyncIterator[SenderService]:
    async with sender_service(tmp_path, clock, database_busy_timeout="50ms") as running:
        await running.add_account(server.port, max_connection_count=CONNECTIONS)
        yield running


@contextmanager
def locked(sender: SenderService) -> Iterator[None]:
    """Hold the database as another process would that has stopped in a transaction."""
    with closing(sqlite3.connect(sender.database.location.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def booked(sender: SenderService) -> set[str]:
    """Return who has an intent or a result on disk, read by nobody's connection but our own."""
    with closing(sqlite3.connect(sender.database.location.path)) as reader:
        rows = reader.execute("SELECT address FROM deliveries WHERE state IN ('dot_intent', 'sent')")
        return {address for (address,) in rows}


def recipients(server: SmtpServer) -> list[str]:
    return sorted(mail.recipients[0] for mail in server.accepted)


async def let_pass(sender: SenderService, seconds: int) -> None:
    for _ in range(seconds):
        await sender.advance(1)
        await sender.tick()


async def until_health(sender: SenderService, status: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while await sender.health() != status:
            await let_pass(sender, 1)


async def test_locked_for_a_minute_nothing_goes_out_without_an_intent(
    sender: SenderService, server: SmtpServer
) -> None:
    await sender.send(*PEOPLE, options=AT_MOST_ONCE)
    await server.received(20)
    with locked(sender):
        await let_pass(sender, 2)
        accepted = recipients(server)
        assert set(accepted) <= booked(sender)
        connections = server.connection_count
        await until_health(sender, "NOT_SERVING")
        await let_pass(sender, 60)
        assert recipients(server) == accepted
        assert set(accepted) <= booked(sender)
        # It waits, and does not knock at the server's door meanwhile.
        assert server.connection_count <= connections + CONNECTIONS
    await sender.done()
    assert recipients(server) == PEOPLE
    assert set((await sender.states()).values()) == {"SENT"}
    await until_health(sender, "SERVING")


async def test_answers_that_come_while_it_is_locked_are_booked_afterwards(
    sender: SenderService, server: SmtpServer
) -> None:
    gate = asyncio.Event()
    server.on("DOT", [Until(gate), "250 ok"], times=1)
    await sender.send(PEOPLE[0], options=AT_MOST_ONCE)
    await sender.until(lambda run: run.counts.in_progress_count == 1)
    while booked(sender) != {PEOPLE[0]}:
        await sender.tick()
    with locked(sender):
        gate.set()
        await server.received(1)
        await let_pass(sender, 60)
        assert await sender.states() == {PEOPLE[0]: "DOT_INTENT"}
    await sender.done()
    assert await sender.states() == {PEOPLE[0]: "SENT"}
    assert recipients(server) == PEOPLE[:1]


async def test_on_a_full_disk_nothing_goes_out_without_an_intent(sender: SenderService, server: SmtpServer) -> None:
    await sender.send(*PEOPLE, options=AT_MOST_ONCE)
    await server.received(20)
    await sender.database.write(fill)
    health = set()
    for _ in range(60):
        await let_pass(sender, 1)
        assert set(recipients(server)) <= booked(sender)
        health.add(await sender.health())
    assert "NOT_SERVING" in health
    assert len(server.accepted) < len(PEOPLE)
    await sender.database.write(make_room)
    await sender.done()
    assert recipients(server) == PEOPLE
    assert set((await sender.states()).values()) == {"SENT"}


def fill(connection: Connection) -> None:
    """Let the file not grow by another page."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")


def make_room(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA max_page_count=1000000")

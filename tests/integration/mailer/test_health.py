"""The command of the containers' health checks, asked about a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import CollectorRegistry

from mailer.clock import SystemClock
from mailer.health import ask
from mailer.server import GrpcServer
from mailer.service import watch_database
from mailer.v1 import sender_pb2

SENDER = sender_pb2.DESCRIPTOR.services_by_name["Sender"]


@pytest.fixture
async def server() -> AsyncIterator[GrpcServer]:
    server = GrpcServer(
        [SENDER], host="127.0.0.1", port=0, clock=SystemClock(), registry=CollectorRegistry(), drain_seconds=1
    )
    await server.start()
    yield server
    await server.stop()


async def test_a_server_that_works_is_serving(server: GrpcServer) -> None:
    assert await ask(f"127.0.0.1:{server.port}", service=SENDER.full_name) == "SERVING"


async def test_a_server_without_its_database_is_not_serving(server: GrpcServer) -> None:
    await server.set_serving(False, condition="database")
    assert await ask(f"127.0.0.1:{server.port}") == "NOT_SERVING"


async def test_a_service_that_the_server_does_not_have_is_named(server: GrpcServer) -> None:
    assert "SERVING" not in await ask(f"127.0.0.1:{server.port}", service="mailer.v1.Nothing")


async def test_nobody_there_is_said_in_a_sentence(server: GrpcServer) -> None:
    port = server.port
    await server.stop()
    assert await ask(f"127.0.0.1:{port}") == (
        "the server cannot be reached: is the service running, and is the address right?"
    )


class SlowDatabase:
    """One whose probe waits behind other writes, as behind somebody's lock."""

    def __init__(self) -> None:
        self.healthy = True
        self.noticed: list[Callable[[bool], None]] = []

    async def probe(self) -> bool:
        await asyncio.Event().wait()
        return True

    def on_health_change(self, callback: Callable[[bool], None]) -> None:
        self.noticed.append(callback)

    def fail(self) -> None:
        self.healthy = False
        for callback in self.noticed:
            callback(False)


async def test_a_write_that_failed_shows_at_once_also_while_a_probe_waits(server: GrpcServer) -> None:
    database = SlowDatabase()
    watch = asyncio.create_task(watch_database(database, server, SystemClock()))
    try:
        async with asyncio.timeout(10):
            while not database.noticed:
                await asyncio.sleep(0)
            database.fail()
            while await ask(f"127.0.0.1:{server.port}") != "NOT_SERVING":
                await asyncio.sleep(0.01)
    finally:
        watch.cancel()

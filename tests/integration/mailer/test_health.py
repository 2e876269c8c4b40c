"""The command of the containers' health checks, asked about a real server."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from mailer.clock import SystemClock
from mailer.health import ask
from mailer.server import GrpcServer
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

"""A scripted SMTP server, and connections to it, on every event loop that is installed."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import pytest

from mailer.secrets import Secret
from services.sender.account import TlsMode
from services.sender.smtp import Connector, Conversation, Endpoint, Timeouts
from tests.fakes.certificates import Certificate, certificate_for
from tests.fakes.smtp_server import SmtpServer

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if importlib.util.find_spec("uvloop"):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test here on each of the event loops."""
    return LOOPS


PASSWORD = "correct horse battery staple"


class Connect(Protocol):
    """Opens a conversation with a server, with an endpoint that fits it unless `changes` say otherwise."""

    def __call__(
        self, server: SmtpServer, *, timeouts: Timeouts | None = None, **changes: Any
    ) -> Awaitable[Conversation]:
        """Return the conversation; it is closed after the test."""
        ...


@pytest.fixture(scope="session")
def certificate() -> Certificate:
    """Return a certificate for 127.0.0.1."""
    return certificate_for("127.0.0.1")


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    """Return a server without TLS and AUTH."""
    async with SmtpServer() as running:
        yield running


@pytest.fixture(params=list(TlsMode), ids=str)
async def any_server(request: pytest.FixtureRequest, certificate: Certificate) -> AsyncIterator[SmtpServer]:
    """Return a server, once per TLS mode; with TLS it wants a password."""
    credentials = {} if request.param is TlsMode.NONE else {"ada": PASSWORD}
    async with SmtpServer(tls_mode=request.param, certificate=certificate, credentials=credentials) as running:
        yield running


def endpoint_of(server: SmtpServer) -> Endpoint:
    """Return the endpoint that fits the server: its TLS mode, its authority, its first user."""
    username, password = next(iter(server.credentials.items()), ("", ""))
    return Endpoint(
        host="127.0.0.1",
        port=server.port,
        tls_mode=server.tls_mode,
        username=username,
        password=Secret(password) if password else None,
        ca_certificates=server.certificate.ca_pem if server.certificate else "",
        local_hostname="client.test",
    )


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return a function that opens conversations."""
    opened: list[Conversation] = []

    async def open_one(server: SmtpServer, *, timeouts: Timeouts | None = None, **changes: Any) -> Conversation:
        conversation = await Connector(timeouts).connect(replace(endpoint_of(server), **changes))
        opened.append(conversation)
        return conversation

    yield open_one
    for conversation in opened:
        conversation.close()

"""A server that does what a test says, and a sender with one account there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import SmtpServer


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    """Return a running server that accepts everything until it is told otherwise."""
    async with SmtpServer() as running:
        yield running


@pytest.fixture
async def sender(tmp_path: Path, clock: FakeClock, server: SmtpServer) -> AsyncIterator[SenderService]:
    """Return a running sender; its one account "main" is at the server."""
    async with sender_service(tmp_path, clock) as running:
        await running.add_account(server.port)
        yield running

"""The whole system as processes, and an inbox that it can send to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from demo.system import System
from mailer.clock import SystemClock
from mailer.inbox import Inbox


@pytest.fixture
async def inbox(tmp_path: Path) -> AsyncIterator[Inbox]:
    """Return an inbox with one listener, "inbox"."""
    inbox = Inbox(tmp_path / "inbox", SystemClock())
    inbox.add("inbox")
    async with inbox:
        yield inbox


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """Return the three services, running."""
    async with System(tmp_path / "data") as system:
        yield system

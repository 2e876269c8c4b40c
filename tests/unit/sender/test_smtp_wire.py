"""A dot goes out a moment after it was written, or not at all."""

import asyncio
from typing import Any

import pytest

from services.sender.replies import Event, Stage
from services.sender.smtp.wire import Wire


class Transport:
    """Notes what was written."""

    def __init__(self) -> None:
        """Start open."""
        self.written = b""
        self.closing = False

    def get_extra_info(self, _: str) -> Any:
        """Know nothing."""
        return None

    def is_closing(self) -> bool:
        """Say whether it is closed, or about to be."""
        return self.closing

    def write(self, data: bytes) -> None:
        """Write at once."""
        self.written += data

    def abort(self) -> None:
        """Close at once."""
        self.closing = True


@pytest.fixture
async def transport() -> Transport:
    """Return a transport."""
    return Transport()


@pytest.fixture
async def wire(transport: Transport) -> Wire:
    """Return a connection on which a message waits for its dot."""
    wire = Wire(asyncio.get_running_loop())
    wire.connection_made(transport)  # type: ignore[arg-type]
    wire.stage = Stage.BODY
    return wire


async def test_a_dot_goes_out_when_the_others_that_can_run_have_run(wire: Wire, transport: Transport) -> None:
    assert wire.write_dot(b".\r\n")
    assert wire.stage is Stage.DOT
    assert transport.written == b""
    await asyncio.sleep(0)
    assert transport.written == b".\r\n"


async def test_a_dot_that_was_overtaken_by_the_end_was_certainly_not_written(wire: Wire, transport: Transport) -> None:
    wire.write_dot(b".\r\n")
    wire.connection_lost(None)
    await asyncio.sleep(0)
    assert transport.written == b""
    assert (wire.stage, wire.end) == (Stage.BODY, Event.CONNECTION_LOST)


async def test_a_dot_is_not_written_to_a_transport_that_is_closing(wire: Wire, transport: Transport) -> None:
    wire.write_dot(b".\r\n")
    transport.closing = True
    await asyncio.sleep(0)
    assert transport.written == b""
    assert (wire.stage, wire.end) == (Stage.BODY, Event.CONNECTION_LOST)


async def test_after_the_dot_went_out_the_end_leaves_it_in_doubt(wire: Wire, transport: Transport) -> None:
    wire.write_dot(b".\r\n")
    await asyncio.sleep(0)
    wire.connection_lost(None)
    assert wire.stage is Stage.DOT


async def test_nothing_is_written_to_a_connection_that_is_over(wire: Wire, transport: Transport) -> None:
    wire.abort(Event.TIMEOUT)
    assert not wire.write_dot(b".\r\n")
    await asyncio.sleep(0)
    assert transport.written == b""
    assert wire.stage is Stage.BODY

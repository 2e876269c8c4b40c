"""A sender that was started again: of a campaign it sends nothing before its scheduler has had the time to speak."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailer.go_ahead import GO_AHEAD
from mailer.v1 import sender_pb2
from services.sender.go_ahead import GRACE_SECONDS
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import SmtpServer

LOOK_SECONDS = 1.01  # a little more than from one look to the next: the second one is behind the grace
assert LOOK_SECONDS < GRACE_SECONDS < 2 * LOOK_SECONDS

PEOPLE = [f"p{number}@one.example" for number in range(5)]


@pytest.fixture
async def sender(tmp_path: Path, clock: FakeClock, server: SmtpServer) -> AsyncIterator[SenderService]:
    """Return a sender in its second life; in the first one a campaign and a direct message came in, none went out."""
    async with sender_service(tmp_path, clock) as first:
        await first.send(*PEOPLE, run_id="run", campaign_id="c", request_id="first")
        await first.send("ada@direct.example", run_id="direct", request_id="direct")
    async with sender_service(tmp_path, clock) as second:
        await second.add_account(server.port)
        yield second


async def look_around(sender: SenderService) -> None:
    """Let the sender look for work once, and do what it finds."""
    await sender.advance(LOOK_SECONDS)
    await asyncio.sleep(0.2)


async def test_a_direct_message_goes_out_at_once_and_the_campaign_after_the_grace(
    sender: SenderService, server: SmtpServer
) -> None:
    await look_around(sender)
    await server.received(1)
    assert [mail.recipients for mail in server.accepted] == [("ada@direct.example",)]
    await look_around(sender)
    await server.received(1 + len(PEOPLE))


async def test_the_campaign_goes_on_when_its_scheduler_says_so(sender: SenderService, server: SmtpServer) -> None:
    await sender.stub.GetRun(sender_pb2.GetRunRequest(run_id="run"), timeout=5, metadata=GO_AHEAD)
    await look_around(sender)
    await server.received(1 + len(PEOPLE))


async def test_it_goes_on_with_the_next_batch(sender: SenderService, server: SmtpServer) -> None:
    await sender.send("last@one.example", run_id="run", campaign_id="c", request_id="next")
    await look_around(sender)
    await server.received(2 + len(PEOPLE))


async def test_it_goes_on_when_somebody_resumes_it(sender: SenderService, server: SmtpServer) -> None:
    await sender.stub.ResumeRun(sender_pb2.ResumeRunRequest(run_id="run"), timeout=5)
    await look_around(sender)
    await server.received(1 + len(PEOPLE))


async def test_somebody_who_only_looks_lets_nothing_out(sender: SenderService, server: SmtpServer) -> None:
    await sender.stub.GetRun(sender_pb2.GetRunRequest(run_id="run"), timeout=5)
    await look_around(sender)
    await server.received(1)
    assert (await sender.run()).counts.pending_count == len(PEOPLE)


async def test_a_cancellation_that_comes_within_the_grace_comes_in_time(
    sender: SenderService, server: SmtpServer
) -> None:
    await look_around(sender)
    await sender.stub.CancelRun(sender_pb2.CancelRunRequest(run_id="run"), timeout=5)
    for _ in range(3):
        await look_around(sender)
    assert len(server.accepted) == 1
    assert (await sender.run()).counts.cancelled_count == len(PEOPLE)

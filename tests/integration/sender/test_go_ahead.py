"""A sender that was started again: of a campaign it sends nothing before its scheduler has had the time to speak."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailer.go_ahead import GO_AHEAD
from mailer.v1 import sender_pb2
from services.sender import go_ahead
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import SmtpServer

GRACE_SECONDS = 1000.0  # longer than any test lets pass by the way

PEOPLE = [f"p{number}@one.example" for number in range(5)]


@pytest.fixture
async def sender(
    tmp_path: Path, clock: FakeClock, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SenderService]:
    """Return a sender in its second life; in the first one a campaign and a direct message came in, none went out."""
    monkeypatch.setattr(go_ahead, "GRACE_SECONDS", GRACE_SECONDS)
    async with sender_service(tmp_path, clock) as first:
        await first.send(*PEOPLE, run_id="run", campaign_id="c", request_id="first")
        await first.send("ada@direct.example", run_id="direct", request_id="direct")
    async with sender_service(tmp_path, clock) as second:
        await second.add_account(server.port)
        yield second


async def test_a_direct_message_goes_out_at_once_and_the_campaign_after_the_grace(
    sender: SenderService, server: SmtpServer
) -> None:
    await sender.done("direct")
    assert [mail.recipients for mail in server.accepted] == [("ada@direct.example",)]
    await sender.advance(GRACE_SECONDS)
    await sender.done()


async def test_the_campaign_goes_on_when_its_scheduler_says_so(sender: SenderService) -> None:
    await sender.stub.GetRun(sender_pb2.GetRunRequest(run_id="run"), timeout=5, metadata=GO_AHEAD)
    await sender.done()


async def test_it_goes_on_with_the_next_batch(sender: SenderService, server: SmtpServer) -> None:
    await sender.send("last@one.example", run_id="run", campaign_id="c", request_id="next")
    await sender.done()
    await server.received(1 + len(PEOPLE))


async def test_it_goes_on_when_somebody_resumes_it(sender: SenderService) -> None:
    await sender.stub.ResumeRun(sender_pb2.ResumeRunRequest(run_id="run"), timeout=5)
    await sender.done()


async def test_somebody_who_only_looks_lets_nothing_out(sender: SenderService) -> None:
    await sender.stub.GetRun(sender_pb2.GetRunRequest(run_id="run"), timeout=5)
    await sender.done("direct")
    assert (await sender.run()).counts.pending_count == len(PEOPLE)


async def test_a_cancellation_that_comes_within_the_grace_comes_in_time(
    sender: SenderService, server: SmtpServer
) -> None:
    await sender.done("direct")
    await sender.stub.CancelRun(sender_pb2.CancelRunRequest(run_id="run"), timeout=5)
    await sender.advance(GRACE_SECONDS)
    run = await sender.until(lambda run: run.counts.cancelled_count == len(PEOPLE))
    assert run.counts.sent_count == 0
    assert len(server.accepted) == 1

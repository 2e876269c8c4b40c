"""The rows of the table after the final dot, at work: yes, no, and nobody knows."""

from functools import partial
from pathlib import Path

import pytest

from mailer.v1 import sender_pb2
from services.sender.smtp import Connector, Timeouts
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import Accept, Drop, Hang, Raw, Reset, Script, SmtpServer

ADA, BOB = "ada@one.example", "bob@two.example"
AT_MOST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE)
AT_LEAST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE)


def people(count: int) -> list[str]:
    return [f"p{number}@d{number % 7}.example" for number in range(count)]


@pytest.mark.parametrize("reply", ["250 2.0.0 ok", "251 forwarded", "200 fine", "299 whatever", "250-two\n250 lines"])
async def test_every_2xx_after_the_dot_is_sent(sender: SenderService, server: SmtpServer, reply: str) -> None:
    server.on("DOT", reply)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.done()
    assert await sender.states() == {ADA: "SENT"}
    assert len(server.accepted) == 1


async def test_421_after_the_dot_is_a_clear_no_and_defers_the_message(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("DOT", "421 4.3.2 closing", times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    await sender.until_account(lambda account: account.circuit.failure_count == 1)
    await sender.finish()
    assert await sender.outcomes(ADA) == ["DEFERRED", "SENT"]
    assert [mail.connection for mail in server.accepted] == [2]


@pytest.mark.parametrize("reply", ["451 4.3.0 local error", "452 4.3.1 disk full", "450 later"])
async def test_4xx_after_the_dot_defers_the_message_and_says_nothing_about_the_account(
    sender: SenderService, server: SmtpServer, reply: str
) -> None:
    server.on("DOT", reply, times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    account = (await sender.accounts())["main"]
    assert (account.circuit.failure_count, account.HasField("rest_until_time")) == (0, False)
    await sender.finish()
    assert await sender.outcomes(ADA) == ["DEFERRED", "SENT"]


@pytest.mark.parametrize("reply", ["454 4.7.0 throttled", "451 4.7.1 try again later", "450 too many messages"])
async def test_throttling_after_the_dot_defers_the_message_and_rests_the_account(
    sender: SenderService, server: SmtpServer, reply: str
) -> None:
    server.on("DOT", reply, times=1)
    await sender.send(ADA)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    account = await sender.until_account(lambda account: account.HasField("rest_until_time"))
    assert account.circuit.failure_count == 0
    await sender.finish()
    assert await sender.outcomes(ADA) == ["DEFERRED", "SENT"]


async def test_5xx_after_the_dot_fails_the_message_and_suppresses_nobody(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("DOT", "554 5.7.1 message looks like spam", times=1)
    await sender.send(ADA)
    await sender.done()
    await sender.send(BOB)
    await sender.done()
    assert await sender.states() == {ADA: "FAILED", BOB: "SENT"}
    assert await sender.suppressed() == []
    assert (await sender.accounts())["main"].circuit.failure_count == 0


async def test_ten_messages_in_a_row_refused_after_the_dot_pause_the_run(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("DOT", "554 5.7.1 message looks like spam")
    await sender.send(*people(100))
    run = await sender.until(lambda run: run.state == sender_pb2.Run.STATE_PAUSED)
    assert "554 5.7.1 message looks like spam" in run.state_reason
    run = await sender.until(lambda run: not run.counts.in_progress_count)
    assert 10 <= run.counts.failed_count < 20
    assert run.counts.pending_count + run.counts.failed_count == 100
    assert not (await sender.accounts())["main"].held


async def test_nine_messages_refused_after_the_dot_and_then_a_success_pause_nothing(
    sender: SenderService, server: SmtpServer
) -> None:
    for last in range(2):
        server.on("DOT", "554 5.7.1 message looks like spam", times=9)
        await sender.send(*(f"{last}-{address}" for address in people(9)))
        await sender.done()
        await sender.send(f"{last}-{BOB}")
        await sender.done()
    run = await sender.run()
    assert (run.state, run.counts.failed_count, run.counts.sent_count) == (sender_pb2.Run.STATE_DONE, 18, 2)


UNCLEAR: dict[str, Script] = {
    "closed": [Accept(), Drop()],
    "reset": [Accept(), Reset()],
    "garbage": [Accept(), Raw(b"\x00\xff HTTP/1.1 200 OK\r\n")],
    "half a reply": [Accept(), Raw(b"250 o"), Drop()],
    "go on": [Accept(), "354 go on"],
    "no code at all": [Accept(), "999 never heard of"],
}


@pytest.mark.parametrize("end", UNCLEAR)
async def test_without_a_clear_answer_at_most_once_leaves_the_message_unknown(
    sender: SenderService, server: SmtpServer, end: str
) -> None:
    server.on("DOT", UNCLEAR[end], times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.done()
    assert await sender.states() == {ADA: "UNKNOWN"}
    await sender.until_account(lambda account: account.circuit.failure_count == 1)
    await server.until(lambda: server.open_count == 0)
    await sender.later(3600)
    assert len(server.accepted) == 1


@pytest.mark.parametrize("end", UNCLEAR)
async def test_without_a_clear_answer_at_least_once_sends_again_and_says_so(
    sender: SenderService, server: SmtpServer, end: str
) -> None:
    server.on("DOT", UNCLEAR[end], times=1)
    await sender.send(ADA, options=AT_LEAST_ONCE)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    await sender.finish()
    assert await sender.outcomes(ADA) == ["UNKNOWN", "SENT"]
    assert (await sender.deliveries())[ADA].possible_duplicate


async def test_a_server_that_is_silent_after_the_dot_leaves_the_message_unknown(
    tmp_path: Path, clock: FakeClock, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.sender.__main__.Connector", partial(Connector, Timeouts(dot=0.1)))
    server.on("DOT", [Accept(), Hang()], times=1)
    async with sender_service(tmp_path, clock) as sender:
        await sender.add_account(server.port)
        await sender.send(ADA, options=AT_MOST_ONCE)
        await sender.done()
        assert await sender.states() == {ADA: "UNKNOWN"}
        await sender.until_account(lambda account: account.circuit.failure_count == 1)

"""The rows of the table at MAIL, at work: the sender is ours, so no recipient pays for it."""

from pathlib import Path

import pytest

from mailer.v1 import sender_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import CONTENT, SenderService, sender_service
from tests.fakes.smtp_server import DEFAULT, Session, SmtpServer
from tests.fakes.smtp_steps import Answer

ADA, BOB = "ada@one.example", "bob@two.example"
PEOPLE = [f"p{number}@d{number % 7}.example" for number in range(8)]
OTHER_CONTENT = sender_pb2.MessageContent(
    from_address=sender_pb2.Mailbox(address="shop@sender.example"), subject="Hello", text="Hello"
)


def mail_commands(server: SmtpServer) -> list[str]:
    return [line for line in server.commands if line.startswith("MAIL")]


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        ("451 4.3.0 later", 60),
        ("450 4.7.1 rate limit exceeded", 300),
        ("452 4.3.1 insufficient system storage", 300),
        ("454 4.7.0 throttling failure: daily message quota exceeded", 3600),
        ("550 5.4.5 daily user sending limit exceeded", 3600),
        ("451 4.7.1 slow down, try again in 600 seconds", 600),
    ],
)
async def test_mail_refused_for_now_rests_the_account_and_costs_no_attempt(
    sender: SenderService, server: SmtpServer, reply: str, seconds: int
) -> None:
    server.on("MAIL", reply)
    await sender.send(*PEOPLE)
    account = await sender.until_account(lambda account: account.HasField("rest_until_time"))
    rest = account.rest_until_time.ToDatetime(sender.clock.now().tzinfo) - sender.clock.now()
    assert seconds - 30 <= rest.total_seconds() <= seconds
    assert (account.held, account.circuit.failure_count) == (False, 0)
    await sender.until(lambda run: not run.counts.in_progress_count)
    asked = len(mail_commands(server))
    server.reset()
    await sender.later(seconds - 60)
    assert len(mail_commands(server)) == asked
    await sender.finish()
    assert {one.retry_count for one in (await sender.deliveries()).values()} == {0}
    assert len(server.accepted) == len(PEOPLE)


REFUSED_SENDERS = [
    "550 5.7.1 you may not send as this address",
    "553 5.1.7 bad sender address",
    "554 5.1.8 bad sender system address",
    "550 no such account",
    "530 5.7.0 authentication required",
]


@pytest.mark.parametrize("reply", REFUSED_SENDERS)
async def test_a_refused_sender_holds_the_account_for_this_from_address_only(
    sender: SenderService, server: SmtpServer, reply: str
) -> None:
    def refuse_news(_: Session, argument: str) -> Answer:
        return reply if "news@" in argument else DEFAULT

    server.on("MAIL", refuse_news)
    await sender.send(*PEOPLE)
    run = await sender.until(lambda run: run.state == sender_pb2.Run.STATE_STALLED)
    assert reply in run.state_reason
    assert run.counts.pending_count == len(PEOPLE)
    await sender.send(ADA, run_id="other", content=OTHER_CONTENT)
    await sender.finish("other")
    assert await sender.states("other") == {ADA: "SENT"}


async def test_a_refused_sender_trips_the_circuit_and_costs_no_attempt(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("MAIL", REFUSED_SENDERS[0])
    await sender.send(ADA)
    await sender.until(lambda run: run.state == sender_pb2.Run.STATE_STALLED)
    account = (await sender.accounts())["main"]
    assert (account.circuit.state, account.held) == (sender_pb2.Circuit.STATE_OPEN, False)
    assert await sender.outcomes(ADA) == ["REQUEUED"]


async def test_a_refused_sender_stays_refused_after_a_restart_until_a_person_releases_the_account(
    tmp_path: Path, clock: FakeClock, server: SmtpServer
) -> None:
    server.on("MAIL", REFUSED_SENDERS[0], times=1)
    async with sender_service(tmp_path, clock) as sender:
        account_id = await sender.add_account(server.port)
        await sender.send(ADA)
        await sender.until(lambda run: run.state == sender_pb2.Run.STATE_STALLED)
    async with sender_service(tmp_path, clock) as sender:
        await sender.later(600)
        assert len(mail_commands(server)) == 1
        assert REFUSED_SENDERS[0] in (await sender.accounts())["main"].hold_reason
        await sender.stub.ReleaseAccount(sender_pb2.ReleaseAccountRequest(account_id=account_id), timeout=5)
        await sender.finish()
        assert await sender.states() == {ADA: "SENT"}


async def test_another_account_sends_what_the_first_may_not(sender: SenderService, server: SmtpServer) -> None:
    server.on("MAIL", REFUSED_SENDERS[0])
    async with SmtpServer() as other:
        await sender.add_account(other.port, "other")
        await sender.send(*PEOPLE)
        await sender.done()
        assert len(other.accepted) == len(PEOPLE)


@pytest.mark.parametrize("reply", ["552 5.3.4 message too big for system", "552 message size exceeds the limit"])
async def test_a_message_that_mail_calls_too_big_fails_and_the_run_says_so(
    sender: SenderService, server: SmtpServer, reply: str
) -> None:
    server.on("MAIL", reply)
    await sender.send(ADA)
    run = await sender.until(lambda run: bool(run.counts.failed_count and run.state_reason))
    assert "too large for this account" in run.state_reason
    assert (await sender.accounts())["main"].circuit.failure_count == 0
    assert await sender.suppressed() == []


@pytest.mark.parametrize("stage", ["MAIL", "RCPT"])
@pytest.mark.parametrize("code", [500, 501, 502, 504, 555])
async def test_a_command_that_is_not_understood_is_said_once_more_on_a_fresh_connection_without_parameters(
    sender: SenderService, server: SmtpServer, code: int, stage: str
) -> None:
    server.on(stage, f"{code} 5.5.4 what", times=1)
    await sender.send(ADA)
    await sender.done()
    first, second = mail_commands(server)
    assert " SIZE=" in first
    assert second == f"MAIL FROM:<{CONTENT.from_address.address}>"
    assert server.connection_count == 2
    assert await sender.outcomes(ADA) == ["REQUEUED", "SENT"]
    assert (await sender.deliveries())[ADA].retry_count == 0


@pytest.mark.parametrize("stage", ["MAIL", "RCPT"])
async def test_a_command_that_is_not_understood_without_parameters_either_fails_the_message(
    sender: SenderService, server: SmtpServer, stage: str
) -> None:
    server.on(stage, "501 5.5.4 what")
    await sender.send(ADA)
    await sender.done()
    assert await sender.outcomes(ADA) == ["REQUEUED", "FAILED"]
    account = (await sender.accounts())["main"]
    assert (account.held, account.circuit.failure_count, await sender.suppressed()) == (False, 0, [])


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
async def test_a_bad_sequence_closes_the_connection_and_defers_the_message(
    sender: SenderService, server: SmtpServer, stage: str
) -> None:
    server.on(stage, "503 5.5.1 bad sequence of commands", times=1)
    await sender.send(ADA)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    await sender.send(BOB)
    await sender.until(lambda run: run.counts.sent_count == 1)
    assert server.connection_count == 2
    await sender.finish()
    assert (await sender.deliveries())[ADA].retry_count == 1
